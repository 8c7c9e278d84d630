//! Where Redis is, by URL.

use crate::StoreError;
use percent_encoding::percent_decode_str;
use std::{fmt, path::PathBuf};

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a URL names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    /// The server, or some sentinels or nodes of the cluster.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) login: Login,
    /// Number of the database; 0 in a cluster.
    pub(super) database: i64,
    /// File with the certificates of those who may sign the servers' ones, instead of the system's.
    pub(super) authorities: Option<PathBuf>,
    /// Files with our own certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    /// The name of the service, and the login at the sentinels.
    Sentinel(String, Login),
    Cluster,
}

#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// Without the password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Server => "",
            Kind::Sentinel(..) => "-sentinel",
            Kind::Cluster => "-cluster",
        };
        write!(f, "redis{}{kind}://", if self.tls { "s" } else { "" })?;
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        if let Kind::Sentinel(service, _) = &self.kind {
            write!(f, "/{service}")?;
        }
        if self.kind == Kind::Cluster { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Location {
    /// Reads a URL. What is wrong is told without what stands before the `@`.
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        parse(url).map_err(StoreError::RedisUrl)
    }
}

fn parse(url: &str) -> Result<Location, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("it has no scheme: write redis://HOST:PORT, or rediss:// for TLS")?;
    let (tls, name) = match scheme.strip_prefix("rediss") {
        Some(name) => (true, name),
        None => (false, scheme.strip_prefix("redis").unwrap_or("?")),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A `/` or `?` of a password has to be written as %2F or %3F; an `@` in one does no harm.
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut query = Query::of(query)?;

    let (kind, database) = match name {
        "" => (Kind::Server, path),
        "-sentinel" | "+sentinel" => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err("the name of the service is missing: redis-sentinel://HOST,HOST/SERVICE".into());
            }
            let login = Login { username: query.take("sentinel_username"), password: query.take("sentinel_password") };
            (Kind::Sentinel(decode(service, "the name of the service")?, login), database)
        }
        "-cluster" | "+cluster" => {
            if !matches!(path, "" | "0") {
                return Err("a cluster has no databases but 0".into());
            }
            (Kind::Cluster, "")
        }
        _ => {
            return Err(format!(
                "{:?} is no scheme of Redis: use redis, redis-sentinel or redis-cluster, or for TLS rediss, rediss-sentinel \
                 or rediss-cluster",
                scheme.chars().take(20).collect::<String>()
            ));
        }
    };
    let default_port = if matches!(kind, Kind::Sentinel(..)) { SENTINEL_PORT } else { SERVER_PORT };
    let hosts = hosts.split(',').map(|host| address(host, default_port)).collect::<Result<Vec<_>, _>>()?;
    if kind == Kind::Server && hosts.len() > 1 {
        return Err("it names several servers: use redis-sentinel:// or redis-cluster:// for those".into());
    }
    let database = match database {
        "" => 0,
        number => number.parse::<u16>().map_err(|_| format!("{number:?} is no number of a database"))?.into(),
    };
    let certificate = match (query.take("sslcert"), query.take("sslkey")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => return Err("sslcert and sslkey belong together".into()),
    };
    let authorities = query.take("sslrootcert").map(PathBuf::from);
    if !tls && (certificate.is_some() || authorities.is_some()) {
        return Err("certificates need TLS: write rediss instead of redis".into());
    }
    query.is_used_up()?;
    let login = login.map(credentials).transpose()?.unwrap_or_default();
    Ok(Location { kind, tls, hosts, login, database, authorities, certificate })
}

/// `PASSWORD`, `:PASSWORD` or `USER:PASSWORD`.
fn credentials(login: &str) -> Result<Login, String> {
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    let some = |text: &str, what| decode(text, what).map(|text| (!text.is_empty()).then_some(text));
    Ok(Login { username: some(username, "the user's name")?, password: some(password, "the password")? })
}

fn address(host: &str, default_port: u16) -> Result<(String, u16), String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("an IPv6 address lacks its `]`")?;
            match rest.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if rest.is_empty() => (name, None),
                None => return Err("after an IPv6 address there is no port".into()),
            }
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return Err("a host is missing".into());
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            // Perhaps part of a password whose `@` is missing.
            _ => return Err(format!("what follows {:?} is no port", format!("{name}:"))),
        },
    };
    Ok((name.to_owned(), port))
}

fn decode(text: &str, what: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| format!("{what} is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// The parameters behind the `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(query: &str) -> Result<Self, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), decode(value, name)?))
        });
        pairs.collect::<Result<_, String>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn is_used_up(&self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "it has the parameter {name:?}: there are sslrootcert, sslcert and sslkey, and with sentinels sentinel_username and \
                 sentinel_password"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(url: &str) -> Location {
        Location::of(url).unwrap()
    }

    #[test]
    fn a_server_has_a_host_and_perhaps_a_port_a_login_and_a_database() {
        let location = read("redis://cache.example");
        assert_eq!((location.hosts, location.tls, location.database), (vec![("cache.example".into(), 6379)], false, 0));
        let location = read("rediss://user:p%40ss:w%2Ford@[2001:db8::1]:7000/3?sslrootcert=/etc/ca.pem");
        assert_eq!(
            (location.hosts.clone(), location.tls, location.database),
            (vec![("2001:db8::1".into(), 7000)], true, 3)
        );
        assert_eq!(location.login.username.as_deref(), Some("user"));
        assert_eq!(location.login.password.as_deref(), Some("p@ss:w/ord"));
        assert_eq!(location.authorities, Some("/etc/ca.pem".into()));
        assert_eq!(location.to_string(), "rediss://[2001:db8::1]:7000/3");
        let login = read("redis://:secret@host").login;
        assert_eq!((login.username, login.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn sentinels_name_a_service_and_a_cluster_its_nodes() {
        let location = read("redis-sentinel://:secret@a,b:26380/main/2?sentinel_password=other");
        assert_eq!(location.hosts, [("a".into(), 26379), ("b".into(), 26380)]);
        assert_eq!(location.database, 2);
        let at_sentinels = Login { username: None, password: Some("other".into()) };
        assert!(location.kind == Kind::Sentinel("main".into(), at_sentinels));
        assert_eq!(location.to_string(), "redis-sentinel://a:26379,b:26380/main/2");
        let location = read("rediss+cluster://a,b:7001");
        assert!(location.kind == Kind::Cluster && location.tls);
        assert_eq!(location.to_string(), "rediss-cluster://a:6379,b:7001");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for (url, wrong) in [
            ("localhost:6379", "no scheme"),
            ("http://:secret@host", "\"http\" is no scheme"),
            ("redis-x://:secret@host", "\"redis-x\" is no scheme"),
            ("redis://:secret@", "a host is missing"),
            ("redis://:secret@host:0", "no port"),
            ("redis://:secret@host:65536", "no port"),
            ("redis://user:secret", "no port"),
            ("redis://:secret@[::1", "`]`"),
            ("redis://:secret@host/x", "no number of a database"),
            ("redis://:secret@a,b", "several servers"),
            ("redis://:%ff%fesecret@a", "the password is not UTF-8"),
            ("redis://:secret@a?sslrootcert=/x", "need TLS"),
            ("rediss://:secret@a?sslcert=/x", "belong together"),
            ("redis://:secret@a?timeout=3", "\"timeout\""),
            ("redis-sentinel://:secret@a", "name of the service"),
            ("redis-cluster://:secret@a/1", "no databases"),
        ] {
            let error = Location::of(url).unwrap_err().to_string();
            assert!(error.contains(wrong), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_location_or_an_error(url in "(redis|rediss)?(-sentinel|-cluster)?(://)?[a-z0-9:/@?=&,%\\[\\]\u{e9}]{0,40}") {
            if let Ok(location) = Location::of(&url) {
                prop_assert!(!location.hosts.is_empty());
                prop_assert_eq!(Location::of(&location.to_string()).unwrap().hosts, location.hosts);
            }
        }
    }
}
