//! The layer of one process.

use super::{Layer, LayerStatistics};
use bytes::Bytes;
use quick_cache::{
    Lifecycle, Weighter,
    sync::{Cache, EntryAction, EntryResult, PlaceholderGuard},
};
use std::{
    fmt,
    hash::RandomState,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What an entry takes besides its key and value.
const OVERHEAD: usize = 128;
/// What an entry is supposed to take: only for how much is set aside for the names of those that were forgotten.
const USUAL: u64 = 512;

type Entries = Cache<String, Entry, Size, RandomState, Evictions>;

pub(super) struct Memory {
    /// Made with the first value.
    entries: OnceLock<Entries>,
    bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Evictions,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.statistics())
    }
}

#[derive(Debug, Clone)]
struct Entry {
    value: Bytes,
    expires: Instant,
}

#[derive(Debug, Clone)]
struct Size;

impl Weighter<String, Entry> for Size {
    fn weight(&self, key: &String, entry: &Entry) -> u64 {
        (OVERHEAD + key.len() + entry.value.len()) as u64
    }
}

#[derive(Debug, Clone, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<String, Entry> for Evictions {
    type RequestState = ();

    fn begin_request(&self) -> Self::RequestState {}

    fn on_evict(&self, _: &mut (), _: String, _: Entry) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is there for a key.
pub(super) enum Found<'a> {
    Value(Bytes),
    /// Nothing. Who asks for the same key waits until this is filled or dropped.
    Place(Place<'a>),
}

pub(super) struct Place<'a>(PlaceholderGuard<'a, String, Entry, Size, RandomState, Evictions>);

impl Place<'_> {
    pub(super) fn fill(self, value: Bytes, ttl: Duration) {
        if let Some(entry) = Entry::of(value, ttl) {
            // Not inserted if the cache was cleared meanwhile.
            drop(self.0.insert(entry));
        }
    }
}

impl Entry {
    /// None for a time that no clock reaches, or that is over.
    fn of(value: Bytes, ttl: Duration) -> Option<Self> {
        if ttl.is_zero() {
            return None;
        }
        let now = Instant::now();
        let expires = now.checked_add(ttl).or_else(|| now.checked_add(Duration::from_secs(86400 * 365)))?;
        // A part of a larger buffer would keep all of that.
        let value = if value.is_unique() { value } else { Bytes::copy_from_slice(&value) };
        Some(Self { value, expires })
    }
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            entries: OnceLock::new(),
            bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: Evictions::default(),
        }
    }

    fn entries(&self) -> &Entries {
        self.entries.get_or_init(|| {
            let usual = usize::try_from(self.bytes / USUAL).unwrap_or(usize::MAX);
            Cache::with(usual, self.bytes, Size, RandomState::new(), self.evictions.clone())
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        let entry = self.entries.get().and_then(|entries| entries.get(key));
        self.count(entry.filter(|entry| entry.expires > Instant::now()).map(|entry| entry.value))
    }

    pub(super) fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        if let Some(entry) = Entry::of(value, ttl) {
            self.entries().insert(key.to_owned(), entry);
        }
    }

    pub(super) async fn get_or_reserve(&self, key: &str) -> Found<'_> {
        // Reading locks less than reserving.
        if let Some(value) = self.entries.get().and_then(|entries| entries.get(key))
            && value.expires > Instant::now()
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Found::Value(value.value);
        }
        let now = Instant::now();
        let found = self.entries().entry_async(key, |_, entry| match entry.expires > now {
            true => EntryAction::Retain(entry.value.clone()),
            false => EntryAction::ReplaceWithGuard,
        });
        match found.await {
            EntryResult::Retained(value) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Found::Value(value)
            }
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Found::Place(Place(place))
            }
            EntryResult::Removed(..) | EntryResult::Timeout => {
                unreachable!("nothing is removed on the way, and nothing set a timeout")
            }
        }
    }

    pub(super) fn clear(&self) {
        if let Some(entries) = self.entries.get() {
            entries.clear();
        }
    }

    fn count(&self, found: Option<Bytes>) -> Option<Bytes> {
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(super) fn statistics(&self) -> LayerStatistics {
        let entries = self.entries.get();
        LayerStatistics {
            layer: Layer::Memory,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: entries.map_or(0, |entries| entries.len() as u64),
            bytes: entries.map_or(0, Cache::weight),
            evictions: self.evictions.0.load(Ordering::Relaxed),
        }
    }
}
