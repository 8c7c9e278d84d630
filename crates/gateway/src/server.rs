//! A gateway from its start to its end.

use crate::config::{Config, ConfigError};
use crate::core::{Core, Keys};
use crate::discovery::Discovery;
use crate::listener::{Clients, Workers};
use crate::share::{self, Database};
use crate::tls::{self, Certificate, TlsError};
use crate::{health, strategy::Strategy};
use cairn_store::Redis;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the quantiles' window moves on.
const WINDOW: Duration = Duration::from_secs(30);
/// How often ejections and drains are looked after.
const UPKEEP: Duration = Duration::from_millis(500);

/// Why a gateway did not start, or did not take a new configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} ({source})")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log cannot be written.
    #[error("the access log {path} cannot be opened: {source}")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("a worker could not be started: {0}")]
    Worker(#[source] io::Error),
}

/// A gateway that runs.
pub struct Gateway {
    core: Arc<Core>,
    clients: Arc<Clients>,
    workers: Arc<Workers>,
    certificate: Option<Arc<Certificate>>,
    http: SocketAddr,
    https: Option<SocketAddr>,
    /// The listeners are closed.
    closed: CancellationToken,
    discovery: Arc<Mutex<Discovery>>,
    /// The set of backends changed: they are checked now.
    changed: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Starts one. It answers when this returns, and has asked every backend once. With a Redis the requests of a client are
    /// counted there, together with those that other gateways let pass.
    ///
    /// # Errors
    /// The configuration cannot work, an address is taken, or a file cannot be used. Backends that are away and a database
    /// that is out of reach are no errors.
    pub async fn start(
        config: Config,
        keys: &Keys,
        database: Option<Database>,
        redis: Option<Redis>,
    ) -> Result<Gateway, GatewayError> {
        config.validate()?;
        raise_file_limit();
        let certificate = match (&config.tls_certificate, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Certificate::load(certificate, key)?)),
            _ => None,
        };
        let (http, http_address) = listen(config.listen).await?;
        let https = match config.tls_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let core = Arc::new(Core::new(config, keys, redis));
        open_log(&core, &core.config())?;
        let clients = Clients::new(core.clone());
        let workers = Arc::new(Workers::start(&core, &clients).map_err(GatewayError::Worker)?);
        let (discovery, changed) = (Arc::new(Mutex::new(Discovery::default())), Arc::new(Notify::new()));
        discovery.lock().await.refresh(&core).await;
        health::check_all(&core).await;

        let (closed, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(workers.clone().accept(http, None, closed.clone()));
        let mut https_address = None;
        if let (Some((listener, address)), Some(certificate)) = (https, &certificate) {
            let acceptor = Arc::new(tls::acceptor(certificate.clone())?);
            tasks.spawn(workers.clone().accept(listener, Some(acceptor), closed.clone()));
            https_address = Some(address);
        }
        tasks.spawn(resolve(core.clone(), discovery.clone()));
        tasks.spawn(check(core.clone(), changed.clone()));
        tasks.spawn(upkeep(core.clone()));
        if let Some(database) = database {
            tasks.spawn(share::run(core.clone(), database));
        }
        Ok(Gateway {
            core,
            clients,
            workers,
            certificate,
            http: http_address,
            https: https_address,
            closed,
            discovery,
            changed,
            tasks,
        })
    }

    /// Where HTTP is.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where HTTPS is, if it is.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Backends that get requests now, and all that were found.
    pub fn backends(&self) -> (usize, usize) {
        (self.core.pool.up(Instant::now()), self.core.pool.all().len())
    }

    /// The strategy in force.
    pub fn strategy(&self) -> Strategy {
        self.core.pool.chooser.strategy()
    }

    /// Takes a new configuration, reads the certificate anew and opens the access log anew. Open requests go on as they
    /// began. Addresses, workers and sizes of tables stay as they were at the start; the strategy stays as it was switched.
    ///
    /// # Errors
    /// As for [`Gateway::start`]; the former configuration stays in force.
    pub async fn reload(&self, mut config: Config) -> Result<(), GatewayError> {
        config.validate()?;
        let before = self.core.config();
        if (config.listen, config.tls_listen, config.workers) != (before.listen, before.tls_listen, before.workers) {
            tracing::warn!("addresses and the number of workers change with a restart only");
        }
        (config.listen, config.tls_listen, config.workers) = (before.listen, before.tls_listen, before.workers);
        if let (Some(current), Some(certificate), Some(key)) =
            (&self.certificate, &config.tls_certificate, &config.tls_key)
        {
            current.reload(certificate, key)?;
        }
        open_log(&self.core, &config)?;
        self.core.set_config(config);
        self.discovery.lock().await.refresh(&self.core).await;
        self.changed.notify_one();
        Ok(())
    }

    /// Takes no more connections, lets open requests end, at most for the configured time, and returns.
    pub async fn stop(mut self) {
        self.core.stop();
        self.closed.cancel();
        self.workers.stop();
        let drain = self.core.config().drain;
        if tokio::time::timeout(drain, self.clients.drain()).await.is_err() {
            tracing::warn!(
                "{} connections were still open {} s after the stop and were cut off",
                self.clients.count(),
                drain.as_secs_f64()
            );
        }
        self.tasks.shutdown().await;
        self.workers.end().await;
        self.core.log.store(None);
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("http", &self.http).field("https", &self.https).finish_non_exhaustive()
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn open_log(core: &Core, config: &Config) -> Result<(), GatewayError> {
    let path = config.access_log.as_deref();
    core.open_log(path, config.access_log_format)
        .map_err(|source| GatewayError::AccessLog { path: config.access_log.clone().unwrap_or_default(), source })
}

/// Ten thousand connections need more file descriptors than shells give.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the number of open files cannot be raised");
        }
    }
}

async fn resolve(core: Arc<Core>, discovery: Arc<Mutex<Discovery>>) {
    loop {
        let config = core.config();
        tokio::time::sleep(config.resolve_interval).await;
        if config.backends.iter().any(|backend| backend.address().is_none()) {
            discovery.lock().await.refresh(&core).await;
        }
    }
}

async fn check(core: Arc<Core>, changed: Arc<Notify>) {
    loop {
        let began = Instant::now();
        health::check_all(&core).await;
        let interval = core.config().health_interval;
        let pause = if interval.is_zero() { UPKEEP } else { interval.saturating_sub(began.elapsed()) };
        let _ = tokio::time::timeout(pause, changed.notified()).await;
    }
}

async fn upkeep(core: Arc<Core>) {
    let mut window = Instant::now();
    loop {
        tokio::time::sleep(UPKEEP).await;
        let (config, now) = (core.config(), Instant::now());
        for backend in core.pool.all().iter() {
            backend.end_ejection(&config, now);
            if now.saturating_duration_since(window) >= WINDOW {
                backend.counters.latency.rotate();
            }
        }
        if now.saturating_duration_since(window) >= WINDOW {
            window = now;
        }
        core.pool.sweep(&config, now);
    }
}
