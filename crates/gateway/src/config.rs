//! What an operator may set of the gateway. Unknown keys are errors; every time is in seconds.

use crate::strategy::Strategy;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Settings of the gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where HTTP listens. Fixed at the start.
    pub listen: SocketAddr,
    /// Where HTTPS listens, if anywhere. Fixed at the start.
    pub tls_listen: Option<SocketAddr>,
    /// PEM file with the certificate and those that lead from it to the authority's.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    pub tls_key: Option<PathBuf>,
    /// Threads that move bytes; 0 has one a core. Fixed at the start.
    pub workers: usize,
    /// The backends.
    #[serde(deserialize_with = "backends")]
    pub backends: Vec<BackendSpec>,
    /// How a backend is chosen until somebody switches it.
    pub strategy: Strategy,
    /// Proxies in front of this one, whose word about the client is believed.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Between two resolutions of the backends' names.
    #[serde(deserialize_with = "seconds")]
    pub resolve_interval: Duration,

    /// What the active check asks of a backend.
    pub health_path: String,
    /// Between two active checks of a backend; 0 checks none.
    #[serde(deserialize_with = "seconds")]
    pub health_interval: Duration,
    /// How long a backend has to answer a check.
    #[serde(deserialize_with = "seconds")]
    pub health_timeout: Duration,
    /// Checks in a row that bring a backend back.
    pub health_rise: u32,
    /// Failed checks in a row that take a backend out.
    pub health_fall: u32,
    /// Failed requests in a row that eject a backend; 0 never does.
    pub eject_failures: u32,
    /// How long a first ejection lasts; each further one in a row lasts twice as long.
    #[serde(deserialize_with = "seconds")]
    pub eject_time: Duration,
    /// How long an ejection lasts at most.
    #[serde(deserialize_with = "seconds")]
    pub eject_max_time: Duration,
    /// How long a backend that came back takes to get its full share.
    #[serde(deserialize_with = "seconds")]
    pub slow_start: Duration,

    /// How long a connection to a backend may take.
    #[serde(deserialize_with = "seconds")]
    pub connect_timeout: Duration,
    /// How long a backend may be silent while an answer is awaited.
    #[serde(deserialize_with = "seconds")]
    pub response_timeout: Duration,
    /// How long a backend may take none of a request's bytes.
    #[serde(deserialize_with = "seconds")]
    pub write_timeout: Duration,
    /// How long a WebSocket or a stream of events may be silent.
    #[serde(deserialize_with = "seconds")]
    pub stream_timeout: Duration,
    /// How long an unused connection to a backend is kept.
    #[serde(deserialize_with = "seconds")]
    pub upstream_idle: Duration,
    /// Unused connections to backends that are kept.
    pub upstream_connections: usize,
    /// Backends that a request is tried on, the first one included.
    pub attempts: usize,
    /// Beginnings of paths where a POST may be repeated, because equal requests are one.
    pub idempotent_paths: Vec<String>,

    /// How long a client has for a request's head.
    #[serde(deserialize_with = "seconds")]
    pub header_timeout: Duration,
    /// How long a client may be silent inside a request's body.
    #[serde(deserialize_with = "seconds")]
    pub body_timeout: Duration,
    /// Bytes of a body that a client must send a second, on average, after the first `body_timeout`.
    pub body_min_rate: u64,
    /// How long a client may take none of an answer's bytes.
    #[serde(deserialize_with = "seconds")]
    pub send_timeout: Duration,
    /// How long a client's connection may be idle between requests.
    #[serde(deserialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// Longest head of a request, bytes.
    pub max_header_bytes: usize,
    /// Longest body of a request, bytes.
    pub max_body_bytes: u64,
    /// Connections of clients at once; where there are more, those that were idle longest are closed. Fixed at the start.
    pub max_connections: usize,
    /// How long open requests have once the gateway stops, and a backend's once it is removed.
    #[serde(deserialize_with = "seconds")]
    pub drain: Duration,

    /// Requests that one client has in `rate_limit_window`; 0 has no limit.
    pub rate_limit_requests: u32,
    /// The time that `rate_limit_requests` holds for.
    #[serde(deserialize_with = "seconds")]
    pub rate_limit_window: Duration,
    /// Clients that are counted at once; beyond, those that have waited longest are forgotten. Fixed at the start.
    pub rate_limit_clients: usize,

    /// File of the access log, `-` for standard output; none by default.
    pub access_log: Option<PathBuf>,
    /// How it is written.
    pub access_log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            tls_listen: None,
            tls_certificate: None,
            tls_key: None,
            workers: 0,
            backends: Vec::new(),
            strategy: Strategy::default(),
            trusted_proxies: Vec::new(),
            resolve_interval: Duration::from_secs(5),
            health_path: "/api/health/ready".into(),
            health_interval: Duration::from_secs(1),
            health_timeout: Duration::from_secs(1),
            health_rise: 2,
            health_fall: 3,
            eject_failures: 3,
            eject_time: Duration::from_secs(10),
            eject_max_time: Duration::from_secs(300),
            slow_start: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(3600),
            upstream_idle: Duration::from_secs(30),
            upstream_connections: 512,
            attempts: 3,
            idempotent_paths: vec!["/hash/".into()],
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_min_rate: 500,
            send_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            max_header_bytes: 32 * 1024,
            max_body_bytes: 128 * 1024 * 1024,
            max_connections: 10_000,
            drain: Duration::from_secs(30),
            rate_limit_requests: 100,
            rate_limit_window: Duration::from_secs(60),
            rate_limit_clients: 100_000,
            access_log: None,
            access_log_format: LogFormat::default(),
        }
    }
}

/// What is wrong with a configuration, one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |what: &str| Err(ConfigError(what.to_owned()));
        if self.tls_listen.is_some() != self.tls_certificate.is_some()
            || self.tls_certificate.is_some() != self.tls_key.is_some()
        {
            return refuse(
                "gateway.tls_listen, gateway.tls_certificate and gateway.tls_key are given together or not at all",
            );
        }
        if !self.health_path.starts_with('/') || self.health_path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return refuse("gateway.health_path must begin with a slash and have no spaces");
        }
        let positive = [
            ("health_timeout", self.health_timeout),
            ("resolve_interval", self.resolve_interval),
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("write_timeout", self.write_timeout),
            ("stream_timeout", self.stream_timeout),
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("send_timeout", self.send_timeout),
            ("idle_timeout", self.idle_timeout),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, time)| time.is_zero()) {
            return refuse(&format!("gateway.{name} must be more than 0"));
        }
        if self.rate_limit_requests > 0 && self.rate_limit_window.is_zero() {
            return refuse("the window of the rate limit must be more than 0");
        }
        let counts = [
            ("attempts", self.attempts),
            ("max_header_bytes", self.max_header_bytes),
            ("max_connections", self.max_connections),
            ("health_rise", self.health_rise as usize),
            ("health_fall", self.health_fall as usize),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return refuse(&format!("gateway.{name} must be 1 or more"));
        }
        Ok(())
    }
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// The Combined Log Format of Apache and nginx.
    Combined,
}

/// A backend as an operator names it: `HOST:PORT` or `HOST:PORT weight=N`, an IPv6 address in brackets. A name stands for
/// all of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendSpec {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Its share beside the others', from 1 to 1,000.
    pub weight: u32,
}

impl BackendSpec {
    /// The address, where the host is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for BackendSpec {
    fn from(address: SocketAddr) -> Self {
        BackendSpec { host: address.ip().to_string(), port: address.port(), weight: 1 }
    }
}

impl FromStr for BackendSpec {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = || {
            ConfigError(format!("{text:?} is no backend: give HOST:PORT or \"HOST:PORT weight=N\", N from 1 to 1000"))
        };
        let mut words = text.split_ascii_whitespace();
        let place = words.next().ok_or_else(refuse)?;
        let place = place.strip_prefix("http://").unwrap_or(place).trim_end_matches('/');
        let mut weight = 1;
        for word in words {
            let number = word.strip_prefix("weight=").and_then(|number| number.parse().ok());
            weight = number.filter(|weight| (1..=1000).contains(weight)).ok_or_else(refuse)?;
        }
        let (host, port) = place.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inside) => inside.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?.to_string(),
            None => host.to_owned(),
        };
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.parse::<IpAddr>().is_err() && (host.is_empty() || host.len() > 253 || !host.bytes().all(name)) {
            return Err(refuse());
        }
        Ok(BackendSpec { host, port, weight })
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Seconds, 0 or more.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| serde::de::Error::custom(format!("{seconds} is no time in seconds")))
}

fn backends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BackendSpec>, D::Error> {
    parsed(deserializer)
}

/// Networks in CIDR notation; an address stands for itself.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    let network = |word: &String| word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    words.iter().map(network).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    words.iter().map(|word| word.parse()).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Option<(String, u16, u32)> {
        text.parse().ok().map(|spec: BackendSpec| (spec.host, spec.port, spec.weight))
    }

    #[test]
    fn a_backend_is_an_address_or_a_name_with_a_port() {
        assert_eq!(spec("127.0.0.1:8200"), Some(("127.0.0.1".into(), 8200, 1)));
        assert_eq!(spec("[::1]:8200 weight=3"), Some(("::1".into(), 8200, 3)));
        assert_eq!(spec("http://api:8200/"), Some(("api".into(), 8200, 1)));
        for refused in [
            "",
            "api",
            "api:",
            "api:0",
            "api:65536",
            "::1:80x",
            "a b:1",
            "api:1 weight=0",
            "api:1 weight=1001",
            "api:1 fast",
            "a/b:1",
        ] {
            assert_eq!(spec(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(Config::default().validate(), Ok(()));
        let broken: [fn(&mut Config); 5] = [
            |config| config.tls_listen = Some(config.listen),
            |config| config.health_path = "ready".into(),
            |config| config.header_timeout = Duration::ZERO,
            |config| config.attempts = 0,
            |config| config.rate_limit_window = Duration::ZERO,
        ];
        for spoil in broken {
            let mut config = Config::default();
            spoil(&mut config);
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
