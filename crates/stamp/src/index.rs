//! Background upkeep of the runs that find a digest: one process at a time, by a lease of its own.

use crate::digests::Digests;
use cairn_store::{
    Lease, Store, StoreError, Transaction,
    leases::{LEASE_TIME, RENEW_EVERY},
    stamp_index::{KEY, KEYS_IN_PAGE, Run, encode_key},
};
use sha2::{Digest as _, Sha256};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

const LEASE: &str = "stamp-index";
/// How often new batches are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Ticks after which even a few digests are worth a run.
const PATIENCE: u32 = 10;
/// Leaves that are worth a run at once.
const ENOUGH: i64 = 4096;
/// Leaves in a run of new batches, at most about.
const LEAVES_IN_RUN: i64 = 1 << 18;
/// Runs of a tier that are merged into one of the next.
pub(crate) const FAN_IN: usize = 8;
/// Pages written in one transaction: the journal waits for no longer than that.
const PAGES_IN_TRANSACTION: usize = 64;
/// Entries above which a run is merged no more: 1 GiB.
const LARGEST: i64 = 1 << 26;

/// Eight bytes that stand for a digest in the index. Keyed, so that nobody can make many digests that share them.
pub(crate) fn keyed_hash(key: &[u8], digest: &[u8]) -> [u8; 8] {
    let hash = Sha256::new().chain_update(b"index").chain_update(key).chain_update(digest).finalize();
    hash[..8].try_into().expect("8 of 32 bytes")
}

/// Until `stopping`: gives new batches their place, writes runs, merges them.
pub(crate) async fn run(store: Store, key: Arc<[u8]>, holder: String, mut stopping: watch::Receiver<bool>) {
    let mut patience = 0;
    let mut lease: Option<Lease> = None;
    while !*stopping.borrow() {
        // A tick may be cut short anywhere: what it left half written is deleted by the next.
        let worked = tokio::select! {
            worked = tick(&store, &key, &holder, &mut lease, patience >= PATIENCE) => worked,
            _ = stopping.changed() => break,
        };
        match worked {
            Ok(true) => {
                patience = 0;
                continue;
            }
            Ok(false) => patience = if patience >= PATIENCE { 0 } else { patience + 1 },
            Err(error) => tracing::warn!(%error, "the digest index could not be kept up; look-ups search the journal"),
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stopping.changed() => {}
        }
    }
    if let Some(lease) = lease {
        drop(store.release_lease(&lease).await);
    }
}

/// Whether there may be more to do at once.
async fn tick(
    store: &Store,
    key: &[u8],
    holder: &str,
    lease: &mut Option<Lease>,
    even_few: bool,
) -> Result<bool, StoreError> {
    let fresh = store.sequence_batches(10_000).await?;
    let new = store.unindexed(4096).await?;
    let leaves: i64 = new.iter().map(|(.., leaves)| leaves).sum();
    if fresh == 0 && (leaves == 0 || (leaves < ENOUGH && !even_few)) {
        return Ok(false);
    }
    if leaves < ENOUGH && !even_few {
        return Ok(false);
    }
    let held = match lease {
        Some(held) => store.renew_lease(held, LEASE_TIME).await.is_ok(),
        None => false,
    };
    if !held {
        *lease = store.acquire_lease(LEASE, holder, LEASE_TIME).await?;
    }
    let Some(lease) = lease else { return Ok(false) };
    let more = index_new(store, key, lease).await?;
    let merged = merge_one(store, lease).await?;
    delete_dead(store, lease).await?;
    Ok(more || merged)
}

/// Writes a run of the oldest batches that are in none; whether there was one.
pub(crate) async fn index_new(store: &Store, key: &[u8], lease: &Lease) -> Result<bool, StoreError> {
    let mut keys: Vec<[u8; KEY]> = Vec::new();
    let mut upto = None;
    let mut leaves = 0;
    for (seq, batch, count) in store.unindexed(4096).await? {
        if leaves > 0 && leaves + count > LEAVES_IN_RUN {
            break;
        }
        leaves += count;
        let mut leaf = 0u16;
        for chunk in store.leaf_chunks(batch).await? {
            let digests = Digests::decode(&chunk).ok_or_else(|| StoreError::Row(format!("leaves of batch {batch}")))?;
            for digest in digests.iter() {
                keys.push(encode_key(keyed_hash(key, digest), batch, leaf));
                leaf = leaf.wrapping_add(1);
            }
        }
        upto = Some(seq);
    }
    let Some(upto) = upto else { return Ok(false) };
    keys.sort_unstable();
    let mut writer = Writer::begin(store, lease, 0).await?;
    for key in keys {
        writer.push(key).await?;
    }
    writer.publish(&[], Some(upto)).await?;
    Ok(true)
}

/// Merges the oldest [`FAN_IN`] runs of the lowest tier that has so many; whether there were.
pub(crate) async fn merge_one(store: &Store, lease: &Lease) -> Result<bool, StoreError> {
    let runs = store.live_runs().await?;
    let mut tiers: Vec<i64> = runs.iter().map(|run| run.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    for tier in tiers {
        let of_tier: Vec<Run> =
            runs.iter().copied().filter(|run| run.tier == tier && run.entries < LARGEST).take(FAN_IN).collect();
        if of_tier.len() < FAN_IN {
            continue;
        }
        let mut cursors: Vec<Cursor> = of_tier.iter().map(|run| Cursor::new(run.id)).collect();
        let mut heap = BinaryHeap::with_capacity(FAN_IN);
        for (index, cursor) in cursors.iter_mut().enumerate() {
            if let Some(key) = cursor.next(store).await? {
                heap.push(Reverse((key, index)));
            }
        }
        let mut writer = Writer::begin(store, lease, tier + 1).await?;
        while let Some(Reverse((key, index))) = heap.pop() {
            writer.push(key).await?;
            if let Some(key) = cursors[index].next(store).await? {
                heap.push(Reverse((key, index)));
            }
        }
        let old: Vec<i64> = of_tier.iter().map(|run| run.id).collect();
        writer.publish(&old, None).await?;
        return Ok(true);
    }
    Ok(false)
}

/// Deletes the runs that were replaced, or that a process which stopped left half written.
pub(crate) async fn delete_dead(store: &Store, lease: &Lease) -> Result<(), StoreError> {
    loop {
        let mut transaction = store.begin().await?;
        transaction.check_lease(lease).await?;
        let more = transaction.delete_dead_runs(PAGES_IN_TRANSACTION as i64).await?;
        transaction.commit().await?;
        if !more {
            return Ok(());
        }
    }
}

/// Reads a run in order, some pages at a time.
struct Cursor {
    run: i64,
    after: Vec<u8>,
    keys: VecDeque<[u8; KEY]>,
    done: bool,
}

impl Cursor {
    fn new(run: i64) -> Self {
        Self { run, after: Vec::new(), keys: VecDeque::new(), done: false }
    }

    async fn next(&mut self, store: &Store) -> Result<Option<[u8; KEY]>, StoreError> {
        if self.keys.is_empty() && !self.done {
            let pages = store.run_pages(self.run, &self.after, 16).await?;
            self.done = pages.is_empty();
            for (first, page) in pages {
                self.keys
                    .extend(page.chunks_exact(KEY).map(|key| <[u8; KEY]>::try_from(key).expect("chunks of this size")));
                self.after = first;
            }
        }
        Ok(self.keys.pop_front())
    }
}

/// Writes a run in transactions short enough that the journal does not notice.
struct Writer<'a> {
    store: &'a Store,
    lease: &'a Lease,
    renewed: Instant,
    run: i64,
    page: Vec<u8>,
    pages: Vec<Vec<u8>>,
    entries: i64,
}

impl<'a> Writer<'a> {
    async fn begin(store: &'a Store, lease: &'a Lease, tier: i64) -> Result<Self, StoreError> {
        let mut transaction = store.begin().await?;
        transaction.check_lease(lease).await?;
        let run = transaction.create_run(tier).await?;
        transaction.commit().await?;
        Ok(Self { store, lease, renewed: Instant::now(), run, page: Vec::new(), pages: Vec::new(), entries: 0 })
    }

    async fn push(&mut self, key: [u8; KEY]) -> Result<(), StoreError> {
        self.page.extend_from_slice(&key);
        self.entries += 1;
        if self.page.len() == KEY * KEYS_IN_PAGE {
            self.pages.push(std::mem::take(&mut self.page));
            if self.pages.len() == PAGES_IN_TRANSACTION {
                let transaction = self.write().await?;
                transaction.commit().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<Transaction, StoreError> {
        // A long merge outlasts a lease.
        if self.renewed.elapsed() >= RENEW_EVERY {
            self.store.renew_lease(&mut self.lease.clone(), LEASE_TIME).await?;
            self.renewed = Instant::now();
        }
        let mut transaction = self.store.begin().await?;
        transaction.check_lease(self.lease).await?;
        for page in self.pages.drain(..) {
            transaction.insert_run_page(self.run, page).await?;
        }
        Ok(transaction)
    }

    async fn publish(mut self, replaced: &[i64], indexed: Option<i64>) -> Result<(), StoreError> {
        if !self.page.is_empty() {
            self.pages.push(std::mem::take(&mut self.page));
        }
        let mut transaction = self.write().await?;
        transaction.publish_run(self.run, self.entries, replaced, indexed).await?;
        transaction.commit().await
    }
}
