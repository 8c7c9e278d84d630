//! The shared layer in the database: the table `cache_entries`.
//!
//! Values are written some milliseconds later, many in one transaction, which need not wait for the disk. What has expired is
//! deleted by those who write, a few rows at a time.

use super::Size;
use crate::{
    Dialect, Store, StoreError,
    value::{Value, args},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long values are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// Most values of a transaction, and most rows that one deletes.
const BATCH: usize = 500;
/// Values that wait for a database that is slow; what is more is not kept.
const WAITING: usize = 10_000;
/// How often the table's size is compared with its bound.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

const GENERATION: &str = "cache generation";

#[derive(Debug)]
pub(super) struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    greatest: u64,
    waiting: Mutex<Waiting>,
    /// One writes at a time.
    writing: tokio::sync::Mutex<()>,
    evictions: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In order of the keys: two processes that write the same ones do it in the same order.
    values: BTreeMap<String, (Bytes, Instant)>,
    /// A task is there that will write them.
    attended: bool,
    measured: Option<Instant>,
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

macro_rules! now {
    (sqlite) => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
    (postgres) => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}
macro_rules! get {
    ($dialect:ident) => {
        concat!(
            "SELECT value, expires_at - ",
            now!($dialect),
            " FROM cache_entries WHERE cache_key = $1 AND expires_at > ",
            now!($dialect)
        )
    };
}
macro_rules! put {
    ($dialect:ident, $from:literal) => {
        concat!(
            "INSERT INTO cache_entries (cache_key, value, size, created_at, expires_at) SELECT k, v, length(v) + length(k), ",
            now!($dialect),
            ", ",
            now!($dialect),
            " + t ",
            $from,
            " ON CONFLICT (cache_key) DO UPDATE SET value = excluded.value, size = excluded.size, \
             created_at = excluded.created_at, expires_at = excluded.expires_at"
        )
    };
}
macro_rules! expired {
    ($dialect:ident, $lock:literal) => {
        concat!(
            "DELETE FROM cache_entries WHERE cache_key IN (SELECT cache_key FROM cache_entries WHERE expires_at <= ",
            now!($dialect),
            " ORDER BY expires_at LIMIT $1 ",
            $lock,
            ")"
        )
    };
}
macro_rules! first {
    ($lock:literal) => {
        concat!(
            "DELETE FROM cache_entries WHERE cache_key IN \
             (SELECT cache_key FROM cache_entries ORDER BY expires_at LIMIT $1 ",
            $lock,
            ") RETURNING size"
        )
    };
}
const SIZE: &str = "SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM cache_entries";

/// Milliseconds, of a time that no clock overflows with.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).min(86_400_000 * 36500)
}

impl Table {
    pub(super) fn new(store: Store, greatest: u64) -> Self {
        Self(Arc::new(Inner {
            store,
            greatest,
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            evictions: AtomicU64::new(0),
        }))
    }

    pub(super) async fn get(&self, key: &str) -> Option<(Bytes, Duration)> {
        let sql = match self.0.store.dialect() {
            Dialect::Sqlite => get!(sqlite),
            Dialect::Postgres => get!(postgres),
        };
        let found = async {
            let Some(row) = self.0.store.fetch_optional(sql, args![key]).await? else { return Ok(None) };
            Ok(Some((Bytes::from(row.get::<Vec<u8>>(0)?), Duration::from_millis(row.get_uint(1)?))))
        };
        heard(found.await).flatten()
    }

    pub(super) fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        let Some(expires) = Instant::now().checked_add(Duration::from_millis(millis(ttl).unsigned_abs())) else {
            return;
        };
        let mut waiting = self.0.waiting();
        if waiting.values.len() >= WAITING {
            return;
        }
        waiting.values.insert(key.to_owned(), (value, expires));
        if !waiting.attended {
            waiting.attended = true;
            let attendant = Attendant(self.0.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                attendant.0.write().await;
            });
        }
    }

    pub(super) async fn flush(&self) {
        self.0.write().await;
    }

    /// None where the database fails.
    pub(super) async fn generation(&self) -> Option<u64> {
        let kept = heard(self.0.store.meta(GENERATION).await)?;
        Some(number(kept.as_deref()))
    }

    /// The new generation.
    pub(super) async fn clear(&self) -> Result<u64, StoreError> {
        self.0.waiting().values.clear();
        let _writing = self.0.writing.lock().await;
        loop {
            if self.0.delete_first(BATCH).await?.is_empty() {
                break;
            }
        }
        let mut transaction = self.0.store.begin().await?;
        let next = number(transaction.meta(GENERATION).await?.as_deref()).wrapping_add(1);
        transaction.set_meta(GENERATION, &next.to_be_bytes()).await?;
        transaction.commit().await?;
        Ok(next)
    }

    pub(super) async fn size(&self) -> Option<Size> {
        heard(self.0.size().await)
    }
}

/// What is kept of the generation.
fn number(kept: Option<&[u8]>) -> u64 {
    kept.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Who writes; if its runtime ends before it has, the next value finds another one.
struct Attendant(Arc<Inner>);

impl Drop for Attendant {
    fn drop(&mut self) {
        self.0.waiting().attended = false;
    }
}

impl Inner {
    /// Writes all that waits, and deletes as much of what has expired.
    async fn write(&self) {
        let _writing = self.writing.lock().await;
        loop {
            let batch = {
                let mut waiting = self.waiting();
                let rest = match waiting.values.keys().nth(BATCH).cloned() {
                    Some(key) => waiting.values.split_off(&key),
                    None => BTreeMap::new(),
                };
                let batch = std::mem::replace(&mut waiting.values, rest);
                // Whoever brings a value from here on has to see to it.
                waiting.attended &= !batch.is_empty();
                batch
            };
            // What a database that fails did not take is not worth keeping.
            if batch.is_empty() || heard(self.write_batch(batch).await).is_none() {
                return;
            }
            heard(self.keep_small().await);
        }
    }

    async fn write_batch(&self, batch: BTreeMap<String, (Bytes, Instant)>) -> Result<(), StoreError> {
        let now = Instant::now();
        let batch = batch.into_iter().map(|(key, (value, expires))| (key, value, millis(expires - now)));
        let mut transaction = self.store.begin().await?;
        match self.store.dialect() {
            Dialect::Sqlite => {
                for (key, value, ttl) in batch {
                    let sql = put!(sqlite, "FROM (SELECT $1 AS k, $2 AS v, $3 AS t) WHERE true");
                    transaction.execute(sql, args![key, &value[..], ttl]).await?;
                }
            }
            Dialect::Postgres => {
                // A value that a crash of the server takes is computed anew.
                transaction.execute("SET LOCAL synchronous_commit = off", Vec::new()).await?;
                let (mut keys, mut values, mut ttls) = (Vec::new(), Vec::new(), Vec::new());
                for (key, value, ttl) in batch {
                    keys.push(Some(key));
                    values.push(Some(Vec::from(value)));
                    ttls.push(ttl);
                }
                let sql = put!(postgres, "FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS a (k, v, t)");
                let args = vec![Value::Texts(keys), Value::Blobs(values), Value::Ints(ttls)];
                transaction.execute(sql, args).await?;
            }
        }
        transaction.commit().await
    }

    /// Deletes some of what has expired, and if the table is too large, some of what will do so first.
    async fn keep_small(&self) -> Result<(), StoreError> {
        let sql = match self.store.dialect() {
            Dialect::Sqlite => expired!(sqlite, ""),
            Dialect::Postgres => expired!(postgres, "FOR UPDATE SKIP LOCKED"),
        };
        let mut transaction = self.store.begin().await?;
        transaction.execute(sql, args![2 * BATCH as i64]).await?;
        transaction.commit().await?;
        {
            let mut waiting = self.waiting();
            if waiting.measured.is_some_and(|measured| measured.elapsed() < MEASURE_EVERY) {
                return Ok(());
            }
            waiting.measured = Some(Instant::now());
        }
        let Size { entries, mut bytes, .. } = self.size().await?;
        let usual = (bytes / entries.max(1)).max(1);
        while bytes > self.greatest {
            let too_many = usize::try_from((bytes - self.greatest).div_ceil(usual)).unwrap_or(BATCH);
            let deleted = self.delete_first(too_many.min(BATCH)).await?;
            if deleted.is_empty() {
                break;
            }
            self.evictions.fetch_add(deleted.len() as u64, Ordering::Relaxed);
            bytes = bytes.saturating_sub(deleted.iter().sum());
        }
        Ok(())
    }

    /// Deletes those that expire first; their sizes.
    async fn delete_first(&self, limit: usize) -> Result<Vec<u64>, StoreError> {
        let sql = match self.store.dialect() {
            Dialect::Sqlite => first!(""),
            Dialect::Postgres => first!("FOR UPDATE SKIP LOCKED"),
        };
        let mut transaction = self.store.begin().await?;
        let rows = transaction.fetch_all(sql, args![limit as i64]).await?;
        transaction.commit().await?;
        rows.iter().map(|row| row.get_uint(0)).collect()
    }

    async fn size(&self) -> Result<Size, StoreError> {
        let row = self.store.fetch_optional(SIZE, Vec::new()).await?;
        let row = row.ok_or_else(|| StoreError::Row("counting gives no row".into()))?;
        let evictions = self.evictions.load(Ordering::Relaxed);
        Ok(Size { entries: row.get_uint(0)?, bytes: row.get_uint(1)?, evictions })
    }
}

fn heard<T>(answer: Result<T, StoreError>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "the database keeps no values: going on without it")).ok()
}
