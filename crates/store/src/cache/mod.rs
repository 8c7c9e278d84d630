//! Values that can be computed anew, kept for a while: in this process, and behind that where every process finds them.
//!
//! The layer of this process holds what was used most, up to a number of bytes; nothing is allocated before the first value.
//! The shared layer is Redis, or where there is none the table `cache_entries`, which outlives processes. A shared layer that
//! fails is done without: what it does not answer is computed.
//!
//! A value may be up to its TTL old, and never older. What one process clears, others forget within a second.

mod memory;
mod on_redis;
mod table;

use crate::{Redis, RedisState, Store, StoreError};
use bytes::Bytes;
use memory::{Found, Memory};
use on_redis::OnRedis;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use table::Table;

/// How often a process looks whether another one has cleared the cache.
const CLEARED_EVERY: Duration = Duration::from_secs(1);
/// Larger values are not kept.
const LARGEST: usize = 1 << 20;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes in this process, keys and values; above it the least used are forgotten.
    pub memory_bytes: u64,
    /// Bytes in the table; above it those that expire first are deleted. Redis has a bound of its own, `maxmemory`.
    pub table_bytes: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { memory_bytes: 32 << 20, table_bytes: 256 << 20 }
    }
}

/// A cache. Clones share everything.
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    shared: Shared,
    shared_hits: AtomicU64,
    shared_misses: AtomicU64,
    generation: Mutex<Generation>,
}

#[derive(Debug)]
enum Shared {
    Nothing,
    Redis(OnRedis),
    Table(Table),
}

/// How often the cache was cleared, by whomever.
#[derive(Debug, Default)]
struct Generation {
    /// As last seen; none before the first look.
    number: Option<u64>,
    looked: Option<Instant>,
}

/// Where values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
    /// In the table `cache_entries`.
    Table,
}

impl Layer {
    /// Its name in statistics and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Table => "database",
        }
    }
}

/// A layer's numbers. Hits and misses are of this process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerStatistics {
    /// Which.
    pub layer: Layer,
    /// Values that it had.
    pub hits: u64,
    /// Values that it had not, or no more.
    pub misses: u64,
    /// Entries, some of which may have expired. In Redis all keys of the database.
    pub entries: u64,
    /// Bytes of keys and values. In Redis all memory in use.
    pub bytes: u64,
    /// Entries that made room for others before they expired. In Redis since its start, of all keys.
    pub evictions: u64,
}

/// The cache's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Memory, and the shared layer if there is one and it answers.
    pub layers: Vec<LayerStatistics>,
    /// How it is with Redis, where the cache is on Redis.
    pub redis: Option<RedisState>,
}

impl Cache {
    /// A cache on Redis if there is one, else in the database's table if there is one, else in this process alone. Connects when
    /// it is first used.
    #[must_use]
    pub fn new(options: &CacheOptions, redis: Option<Redis>, store: Option<Store>) -> Self {
        let shared = match (redis, store) {
            (Some(redis), _) => Shared::Redis(OnRedis::new(redis)),
            (None, Some(store)) => Shared::Table(Table::new(store, options.table_bytes)),
            (None, None) => Shared::Nothing,
        };
        let inner = Inner {
            memory: Memory::new(options.memory_bytes),
            shared,
            shared_hits: AtomicU64::new(0),
            shared_misses: AtomicU64::new(0),
            generation: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The value of `key`, if any layer has it.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        self.look_for_clears().await;
        if let Some(value) = self.inner.memory.get(key) {
            return Some(value);
        }
        let (value, left) = self.shared_get(key).await?;
        self.inner.memory.put(key, value.clone(), left);
        Some(value)
    }

    /// Keeps `value` for `ttl` at the longest. Values above 1 MiB are not kept.
    pub async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        self.look_for_clears().await;
        if value.len() <= LARGEST {
            self.inner.memory.put(key, value.clone(), ttl);
            self.shared_put(key, value, ttl).await;
        }
    }

    /// The value of `key`; where no layer has it, `compute` makes it, and it is kept for `ttl`. Of those who ask this process
    /// for one key at once only one computes and the others wait for it; if it fails, the next one tries.
    ///
    /// # Errors
    /// Those of `compute`.
    pub async fn get_or_compute<E>(
        &self,
        key: &str,
        ttl: Duration,
        compute: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        self.look_for_clears().await;
        let place = match self.inner.memory.get_or_reserve(key).await {
            Found::Value(value) => return Ok(value),
            Found::Place(place) => place,
        };
        if let Some((value, left)) = self.shared_get(key).await {
            place.fill(value.clone(), left);
            return Ok(value);
        }
        let value = compute.await?;
        if value.len() <= LARGEST {
            place.fill(value.clone(), ttl);
            self.shared_put(key, value.clone(), ttl).await;
        }
        Ok(value)
    }

    /// Forgets everything, in all layers and processes. What is computed meanwhile may be kept.
    ///
    /// # Errors
    /// The shared layer does not answer; this process has forgotten its own then.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let cleared = match &self.inner.shared {
            Shared::Nothing => Ok(0),
            Shared::Redis(redis) => redis.clear().await,
            Shared::Table(table) => table.clear().await,
        };
        self.inner.memory.clear();
        *self.generation() = Generation { number: Some(cleared?), looked: Some(Instant::now()) };
        Ok(())
    }

    /// Writes what waits to be written: before a process ends. Redis and memory have nothing that waits.
    pub async fn flush(&self) {
        if let Shared::Table(table) = &self.inner.shared {
            table.flush().await;
        }
    }

    /// Numbers of all layers. Asks the shared one.
    pub async fn statistics(&self) -> CacheStatistics {
        let shared = match &self.inner.shared {
            Shared::Nothing => None,
            Shared::Redis(redis) => redis.size().await.map(|size| (Layer::Redis, size)),
            Shared::Table(table) => table.size().await.map(|size| (Layer::Table, size)),
        };
        let mut layers = vec![self.inner.memory.statistics()];
        layers.extend(shared.map(|(layer, size)| LayerStatistics {
            layer,
            hits: self.inner.shared_hits.load(Ordering::Relaxed),
            misses: self.inner.shared_misses.load(Ordering::Relaxed),
            entries: size.entries,
            bytes: size.bytes,
            evictions: size.evictions,
        }));
        let redis = match &self.inner.shared {
            Shared::Redis(redis) => Some(redis.state()),
            _ => None,
        };
        CacheStatistics { layers, redis }
    }

    /// Hits of each layer since the start: for metrics. Asks nobody.
    #[must_use]
    pub fn hits(&self) -> Vec<(Layer, u64)> {
        let shared = match &self.inner.shared {
            Shared::Nothing => None,
            Shared::Redis(_) => Some(Layer::Redis),
            Shared::Table(_) => Some(Layer::Table),
        };
        let shared = shared.map(|layer| (layer, self.inner.shared_hits.load(Ordering::Relaxed)));
        [(Layer::Memory, self.inner.memory.statistics().hits)].into_iter().chain(shared).collect()
    }

    async fn shared_get(&self, key: &str) -> Option<(Bytes, Duration)> {
        let generation = self.generation().number.unwrap_or(0);
        let found = match &self.inner.shared {
            Shared::Nothing => return None,
            Shared::Redis(redis) => redis.get(key, generation).await,
            Shared::Table(table) => table.get(key).await,
        };
        let count = if found.is_some() { &self.inner.shared_hits } else { &self.inner.shared_misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    async fn shared_put(&self, key: &str, value: Bytes, ttl: Duration) {
        let generation = self.generation().number.unwrap_or(0);
        match &self.inner.shared {
            Shared::Nothing => {}
            Shared::Redis(redis) => redis.put(key, &value, ttl, generation).await,
            Shared::Table(table) => table.put(key, value, ttl),
        }
    }

    fn generation(&self) -> std::sync::MutexGuard<'_, Generation> {
        self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what another process has cleared. Looks now and then; who comes meanwhile does not wait, but for the first look.
    async fn look_for_clears(&self) {
        if matches!(self.inner.shared, Shared::Nothing) {
            return;
        }
        {
            let mut generation = self.generation();
            if generation.looked.is_some_and(|looked| looked.elapsed() < CLEARED_EVERY) {
                return;
            }
            generation.looked = Some(Instant::now());
        }
        let number = match &self.inner.shared {
            Shared::Nothing => None,
            Shared::Redis(redis) => redis.generation().await,
            Shared::Table(table) => table.generation().await,
        };
        let Some(number) = number else { return };
        let mut generation = self.generation();
        if generation.number.is_some_and(|known| known != number) {
            self.inner.memory.clear();
        }
        generation.number = Some(number);
    }
}

/// A shared layer's size.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    entries: u64,
    bytes: u64,
    evictions: u64,
}
