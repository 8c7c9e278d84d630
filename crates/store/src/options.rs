//! How a database is opened.

use std::time::Duration;

/// How a database is opened. `Default` is right for one process on a laptop as well as for a fleet.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// URL for migrations where `url` goes through a pooler (`DATABASE_DIRECT_URL`). PostgreSQL only.
    pub direct_url: Option<String>,
    /// Most connections that read at a time. Opened when needed, closed when idle.
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
            readers: 4,
            writers: 8,
            busy_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            cache_kib: 1024,
        }
    }
}
