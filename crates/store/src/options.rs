//! How a database is opened.

use crate::{StoreError, store::postgres_options};
use std::time::Duration;

/// How a database is opened. `Default` is right for one process on a laptop as well as for a fleet.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// URL for migrations where `url` goes through a pooler (`DATABASE_DIRECT_URL`). PostgreSQL only.
    pub direct_url: Option<String>,
    /// URL of a streaming replica (`DB_REPLICA_URL`) that reads go to which may be some seconds old. PostgreSQL only.
    pub replica_url: Option<String>,
    /// A replica that may be further behind is not read from; 2 s or more, since it is looked at each second.
    pub replica_lag: Duration,
    /// Most connections that read at a time, and as many with the replica. Opened when needed, closed when idle.
    pub readers: u32,
    /// Most connections that write at a time. PostgreSQL only: SQLite has one writer.
    pub writers: u32,
    /// How long to wait for another process's lock, or for a free connection.
    pub busy_timeout: Duration,
    /// An unused connection is closed after this.
    pub idle_timeout: Duration,
    /// Page cache of a SQLite connection, in KiB.
    pub cache_kib: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            direct_url: None,
            replica_url: None,
            replica_lag: Duration::from_secs(5),
            readers: 4,
            writers: 8,
            busy_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            cache_kib: 1024,
        }
    }
}

/// The URL of the same database at another host, `HOST` or `HOST:PORT`; without a port that of `url` stays.
///
/// # Errors
/// [`StoreError::Url`] where `url` is none of PostgreSQL, or `host` is no host.
pub fn with_host(url: &str, host: &str) -> Result<String, StoreError> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| StoreError::Url("the database's".into()))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (login, old) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let port_of = |host: &str| host.rfind(':').filter(|at| !host[*at..].contains(']')).map(|at| host[at..].to_owned());
    if host.is_empty() || host.contains(|letter: char| "@/?#,".contains(letter) || letter.is_whitespace()) {
        return Err(StoreError::Url("it is no host".into()));
    }
    let port = if port_of(host).is_some() { String::new() } else { port_of(old).unwrap_or_default() };
    let url = format!("{scheme}://{login}{host}{port}{path}");
    check_postgres_url(&url).map(|()| url)
}

/// Whether a URL names a database of PostgreSQL, as far as can be said without asking there.
///
/// # Errors
/// [`StoreError::Url`] says what is wrong, without the password.
pub fn check_postgres_url(url: &str) -> Result<(), StoreError> {
    postgres_options(url).map(drop)
}
