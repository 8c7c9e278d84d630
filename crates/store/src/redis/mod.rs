//! Redis, shared by many processes: one connection that all calls go through, each with a short timeout.
//!
//! Nothing waits for a Redis that is away: after the first failure calls are refused at once (a circuit breaker), while a task
//! connects anew with growing pauses, and ends when it has. What asks Redis must know what to do without.

mod url;

use crate::StoreError;
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use url::{Kind, Location, Login};

/// How long a call may take.
const CALL: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// So many calls in a row without an answer, and Redis is away.
const LOST_CALLS: u32 = 3;
/// The first pause between attempts to connect, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A Redis, or one that speaks its protocol. Clones share the connection, which is made when it is first used.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

/// How it is with Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisState {
    /// Nobody has asked it yet.
    Unused,
    /// It answers.
    Up,
    /// It does not: why. It is tried again by itself.
    Away(String),
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Redis is away: go on without it.
    Away,
    /// Redis does not do that.
    Refused(RedisError),
}

struct Inner {
    location: Location,
    target: Target,
    state: Mutex<State>,
    /// The first attempt to connect has ended.
    tried: Notify,
}

enum Target {
    Server(Box<Client>),
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

enum State {
    Unused,
    /// For the first time: who comes waits.
    Connecting,
    Up(Connection),
    Away(String),
}

#[derive(Clone)]
struct Connection {
    link: Link,
    /// Calls without an answer since the last one that had one; with its address it also tells connections apart.
    lost: Arc<AtomicU32>,
}

#[derive(Clone)]
enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.0.location)
    }
}

/// Its URL, without the login.
impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.location.fmt(f)
    }
}

impl Redis {
    /// Reads a URL; connects later. `s` behind `redis` is TLS; the login, the ports and the database may be left out:
    /// - `redis[s]://USER:PASSWORD@HOST:6379/DATABASE`
    /// - `redis[s]-sentinel://USER:PASSWORD@HOST:26379,HOST:26379/SERVICE/DATABASE`, with the parameters `sentinel_username` and
    ///   `sentinel_password` where the sentinels ask for a login: the master that they name, also after a failover
    /// - `redis[s]-cluster://USER:PASSWORD@HOST:6379,HOST:6379`: the cluster that these nodes belong to
    ///
    /// With TLS the parameter `sslrootcert` names a file of certificates to trust instead of the system's, `sslcert` and `sslkey`
    /// our own. A character that means something in a URL is written as `%` and its code.
    ///
    /// # Errors
    /// [`StoreError::RedisUrl`] says what is wrong with the URL or the files that it names.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let location = Location::of(url)?;
        let target = target(&location)?;
        Ok(Self(Arc::new(Inner { location, target, state: Mutex::new(State::Unused), tried: Notify::new() })))
    }

    /// How it is now, as far as is known.
    #[must_use]
    pub fn state(&self) -> RedisState {
        match &*self.0.state() {
            State::Unused | State::Connecting => RedisState::Unused,
            State::Up(_) => RedisState::Up,
            State::Away(reason) => RedisState::Away(reason.clone()),
        }
    }

    /// Whether it answers. The first call connects.
    ///
    /// # Errors
    /// [`StoreError::Redis`] says why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self.call::<Value>(&::redis::cmd("PING")).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(error)) => Err(StoreError::Redis(error.to_string())),
            Err(Failure::Away) => Err(StoreError::Redis(match self.state() {
                RedisState::Away(reason) => reason,
                _ => "no answer in time".into(),
            })),
        }
    }

    /// Asks for one thing. Calls at once share a connection and do not wait for each other.
    pub(crate) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let mut connection = self.connection().await?;
        let answer = match &mut connection.link {
            Link::Server(link) => timeout(CALL, command.query_async(link)).await,
            Link::Cluster(link) => timeout(CALL, command.query_async(link)).await,
        };
        match answer {
            Ok(Ok(answer)) => {
                connection.lost.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) if error.is_timeout() => self.lost(&connection),
            Ok(Err(error)) if is_away(&error) => {
                self.broken(&connection, &error.to_string());
                Err(Failure::Away)
            }
            Ok(Err(error)) => Err(Failure::Refused(error)),
            Err(_) => self.lost(&connection),
        }
    }

    fn lost<T>(&self, connection: &Connection) -> Result<T, Failure> {
        if connection.lost.fetch_add(1, Ordering::Relaxed) + 1 >= LOST_CALLS {
            self.broken(connection, "no answer in time");
        }
        Err(Failure::Away)
    }

    async fn connection(&self) -> Result<Connection, Failure> {
        let tried = self.0.tried.notified();
        tokio::pin!(tried);
        // From here on it is told, also before it is awaited.
        tried.as_mut().enable();
        {
            let mut state = self.0.state();
            match &*state {
                State::Up(connection) => return Ok(connection.clone()),
                State::Away(_) => return Err(Failure::Away),
                State::Connecting => {}
                State::Unused => {
                    *state = State::Connecting;
                    self.connect();
                }
            }
        }
        drop(timeout(CONNECT, tried).await);
        match &*self.0.state() {
            State::Up(connection) => Ok(connection.clone()),
            _ => Err(Failure::Away),
        }
    }

    /// The connection is of no use any more: a new one is made, unless somebody else has noticed before.
    fn broken(&self, connection: &Connection, reason: &str) {
        let mut state = self.0.state();
        if matches!(&*state, State::Up(now) if Arc::ptr_eq(&now.lost, &connection.lost)) {
            tracing::warn!(redis = %self, reason, "Redis is away: going on without it");
            *state = State::Away(reason.to_owned());
            self.connect();
        }
    }

    /// Connects in the background until it succeeds or nobody wants it any more.
    fn connect(&self) {
        let attempt = Attempt(Arc::downgrade(&self.0));
        tokio::spawn(async move {
            let mut pause = PAUSES.0;
            while let Some(inner) = attempt.0.upgrade() {
                if inner.try_to_connect().await {
                    return;
                }
                drop(inner);
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        });
    }
}

/// Its runtime may end before it does: somebody else has to try then.
struct Attempt(Weak<Inner>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            let mut state = inner.state();
            if !matches!(&*state, State::Up(_)) {
                *state = State::Unused;
                inner.tried.notify_waiters();
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn try_to_connect(&self) -> bool {
        let result = match timeout(CONNECT, self.target.connect()).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("no connection in time".into()),
        };
        let connected = result.is_ok();
        let mut state = self.state();
        let new = match result {
            Ok(link) => {
                if matches!(&*state, State::Away(_)) {
                    tracing::info!(redis = %self.location, "Redis is back");
                }
                State::Up(Connection { link, lost: Arc::default() })
            }
            Err(reason) => {
                if matches!(&*state, State::Connecting) {
                    tracing::warn!(redis = %self.location, reason, "Redis is away: going on without it");
                }
                State::Away(reason)
            }
        };
        *state = new;
        self.tried.notify_waiters();
        connected
    }
}

impl Target {
    async fn connect(&self) -> RedisResult<Link> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CALL));
        let mut link = match self {
            Self::Server(client) => Link::Server(client.get_multiplexed_async_connection_with_config(&config).await?),
            Self::Sentinel(client) => {
                Link::Server(client.lock().await.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Link::Cluster(client.get_async_connection().await?),
        };
        // A server that is still loading, or that wants a password, says so only now.
        let ping = ::redis::cmd("PING");
        match &mut link {
            Link::Server(link) => ping.exec_async(link).await?,
            Link::Cluster(link) => ping.exec_async(link).await?,
        }
        Ok(link)
    }
}

/// Whether the error tells of the server and not of what it was asked.
fn is_away(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
    match error.kind() {
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | ClusterDown | MasterDown | ReadOnly),
        ErrorKind::Extension => error.code() == Some("NOAUTH"),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => {
            true
        }
        _ => error.is_unrecoverable_error(),
    }
}

fn target(location: &Location) -> Result<Target, StoreError> {
    let wrong = |error: RedisError| StoreError::RedisUrl(error.to_string());
    let certificates = certificates(location)?;
    if location.tls {
        // Where several are linked in, rustls wants one to be chosen. Somebody else may have.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let address = |(host, port): &(String, u16)| match location.tls {
        false => ConnectionAddr::Tcp(host.clone(), *port),
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
    };
    let mut addresses = location.hosts.iter().map(address);
    let mode = location.tls.then_some(TlsMode::Secure);
    Ok(match &location.kind {
        Kind::Server => {
            let address = addresses.next().expect("a URL without a host is refused");
            let settings = settings(&location.login).set_db(location.database);
            let info = address.into_connection_info().map_err(wrong)?.set_redis_settings(settings);
            Target::Server(Box::new(match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates).map_err(wrong)?,
                None => Client::open(info).map_err(wrong)?,
            }))
        }
        Kind::Sentinel(service, login) => {
            let mut builder =
                SentinelClientBuilder::new(addresses, service, SentinelServerType::Master).map_err(wrong)?;
            builder = builder.set_client_to_redis_db(location.database);
            if let Some(username) = &location.login.username {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = &location.login.password {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(username) = &login.username {
                builder = builder.set_client_to_sentinel_username(username);
            }
            if let Some(password) = &login.password {
                builder = builder.set_client_to_sentinel_password(password);
            }
            if let Some(mode) = mode {
                builder = builder.set_client_to_redis_tls_mode(mode).set_client_to_sentinel_tls_mode(mode);
            }
            if let Some(certificates) = certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates);
            }
            Target::Sentinel(Box::new(builder.build().map_err(wrong)?.into()))
        }
        Kind::Cluster => {
            let infos = addresses
                .map(|address| Ok(address.into_connection_info()?.set_redis_settings(settings(&location.login))));
            let infos = infos.collect::<RedisResult<Vec<_>>>().map_err(wrong)?;
            let mut builder =
                ClusterClient::builder(infos).connection_timeout(CONNECT).response_timeout(CALL).retries(2);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Target::Cluster(Box::new(builder.build().map_err(wrong)?))
        }
    })
}

fn settings(login: &Login) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default();
    if let Some(username) = &login.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password);
    }
    settings
}

/// The files that the URL names, if it does.
fn certificates(location: &Location) -> Result<Option<TlsCertificates>, StoreError> {
    if location.authorities.is_none() && location.certificate.is_none() {
        return Ok(None);
    }
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| StoreError::RedisUrl(format!("{} cannot be read: {error}", path.display())))
    };
    let client_tls = match &location.certificate {
        Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
        None => None,
    };
    let root_cert = location.authorities.as_deref().map(read).transpose()?;
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}
