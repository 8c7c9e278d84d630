//! Pools of connections that count who waits for one.

use crate::StoreError;
use sqlx::{Database, pool::PoolConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a pool's connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Transactions that may write.
    Writer,
    /// Transactions that only read, from the database that is written to.
    Reader,
    /// Transactions that only read, from a replica.
    Replica,
}

impl Role {
    /// Its name in statistics and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Replica => "replica",
        }
    }
}

/// A pool's numbers. Sums are of this process since the database was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatistics {
    /// What its connections are for.
    pub role: Role,
    /// Most connections at a time.
    pub max: u32,
    /// Connections that are open or being opened.
    pub size: u32,
    /// Those that nobody uses.
    pub idle: u32,
    /// Those that somebody uses.
    pub in_use: u32,
    /// Callers that wait for one now.
    pub waiting: u32,
    /// How often one was got.
    pub acquired: u64,
    /// How long callers have waited for all those, opening and testing connections included.
    pub acquire_wait: Duration,
    /// How often none could be got: none became free in time, or none could be opened.
    pub failed: u64,
}

#[derive(Debug)]
pub(crate) struct Pool<DB: Database> {
    pool: sqlx::Pool<DB>,
    role: Role,
    counts: Arc<Counts>,
}

impl<DB: Database> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), role: self.role, counts: self.counts.clone() }
    }
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU32,
    acquired: AtomicU64,
    waited_ns: AtomicU64,
    failed: AtomicU64,
}

/// One who waits, who may also go away.
struct Waiting<'a>(&'a Counts);

impl<'a> Waiting<'a> {
    fn new(counts: &'a Counts) -> Self {
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<DB: Database> Pool<DB> {
    pub(crate) fn new(pool: sqlx::Pool<DB>, role: Role) -> Self {
        Self { pool, role, counts: Arc::default() }
    }

    pub(crate) async fn acquire(&self) -> Result<PoolConnection<DB>, StoreError> {
        let counts = &*self.counts;
        let start = Instant::now();
        let acquired = {
            let _waiting = Waiting::new(counts);
            self.pool.acquire().await
        };
        let count = if acquired.is_ok() { &counts.acquired } else { &counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
        let waited = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counts.waited_ns.fetch_add(waited, Ordering::Relaxed);
        Ok(acquired?)
    }

    pub(crate) fn statistics(&self) -> PoolStatistics {
        let counts = &self.counts;
        let size = self.pool.size();
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX).min(size);
        PoolStatistics {
            role: self.role,
            max: self.pool.options().get_max_connections(),
            size,
            idle,
            in_use: size - idle,
            waiting: counts.waiting.load(Ordering::Relaxed),
            acquired: counts.acquired.load(Ordering::Relaxed),
            acquire_wait: Duration::from_nanos(counts.waited_ns.load(Ordering::Relaxed)),
            failed: counts.failed.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
