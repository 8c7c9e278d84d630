//! What only the writer needs: where files end, which blocks might become the tip, what is not on disk yet.

use crate::append::Appender;
use crate::assume::Background;
use crate::chain::{Chain, View};
use crate::db::{Batch, CoinChanges, Set};
use crate::error::ChainError;
use crate::index::{Id, Rank, status};
use crate::{ChainEvent, Progress, ProgressFn};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Coins are written at the latest when this has passed and a block comes.
const FLUSH_INTERVAL: Duration = Duration::from_secs(600);
/// Coins are written at the latest after so many blocks: bounds what a start after a kill does again.
const FLUSH_BLOCKS: u32 = 500;
/// The block index is written at the latest after so many bytes of blocks: bounds what a start reads again.
const INDEX_BYTES: u64 = 32 << 20;

/// The writer's part of the chain.
pub(crate) struct Writer {
    pub(crate) appender: Appender,
    /// Blocks that could be the tip: data of all ancestors here, not failed, no worse than the tip.
    pub(crate) candidates: BTreeSet<Rank>,
    /// Blocks whose data is here while an ancestor's is not, by parent.
    pub(crate) unlinked: HashMap<Id, Vec<Id>>,
    /// Blocks whose record in the database is old.
    pub(crate) dirty: BTreeSet<Id>,
    /// `dirty` has headers without data, which the block files could not restore.
    pub(crate) headers_dirty: bool,
    /// Next number of arrival.
    pub(crate) next_sequence: u32,
    /// Blocks connected or disconnected since coins were written.
    pub(crate) changes: u32,
    /// Bytes of blocks since the index was written.
    pub(crate) unindexed_bytes: u64,
    pub(crate) last_flush: Instant,
    /// Whether the observer hears of changes; not while the chain is being opened.
    pub(crate) announce: bool,
    /// Who is told how far opening is; nobody afterwards.
    pub(crate) progress: Option<ProgressFn>,
    /// The validation of a snapshot, while it is not done.
    pub(crate) background: Option<Background>,
    /// Why nothing may be written any more.
    pub(crate) stopped: Option<String>,
}

impl Writer {
    pub(crate) fn new(appender: Appender) -> Self {
        Self {
            appender,
            candidates: BTreeSet::new(),
            unlinked: HashMap::new(),
            dirty: BTreeSet::new(),
            headers_dirty: false,
            next_sequence: 1,
            changes: 0,
            unindexed_bytes: 0,
            last_flush: Instant::now(),
            announce: false,
            progress: None,
            background: None,
            stopped: None,
        }
    }

    /// Tells how far opening is.
    pub(crate) fn show(&self, progress: Progress) {
        if let Some(show) = &self.progress {
            show(progress);
        }
    }

    /// Finds all candidates anew.
    pub(crate) fn find_candidates(&mut self, view: &View) {
        let index = &view.index;
        let tip = index.node(view.tip()).rank(view.tip());
        self.candidates = index
            .ids()
            .filter(|&id| {
                let node = index.node(id);
                !node.has(status::FAILED) && node.validity() >= status::VALID_TRANSACTIONS && node.chain_tx_count > 0
            })
            .filter(|&id| index.follows_snapshot(id))
            .map(|id| index.node(id).rank(id))
            .filter(|rank| *rank >= tip)
            .collect();
    }

    /// After a failure that leaves what is on disk uncertain, nothing may be written.
    pub(crate) fn stop_on_error<T>(&mut self, chain: &Chain, done: Result<T, ChainError>) -> Result<T, ChainError> {
        if let Err(error) = &done {
            tracing::error!(%error, "the chain stops writing");
            let cause = error.to_string();
            self.stopped = Some(cause.clone());
            (chain.observer)(&ChainEvent::Stopped { cause });
        }
        done
    }

    /// Makes blocks appended so far durable.
    pub(crate) fn sync_blocks(&mut self, chain: &Chain) -> Result<(), ChainError> {
        let done = self.appender.sync_blocks(&chain.files);
        self.stop_on_error(chain, done)
    }

    /// Makes blocks and undo data appended so far durable.
    fn sync_files(&mut self, chain: &Chain) -> Result<(), ChainError> {
        let done = self.appender.sync(&chain.files);
        self.stop_on_error(chain, done)
    }

    /// Makes the block index durable, with the files that it points into.
    pub(crate) fn flush_index(&mut self, chain: &Chain) -> Result<(), ChainError> {
        self.sync_files(chain)?;
        if self.dirty.is_empty() {
            return Ok(());
        }
        let done = {
            let view = chain.read();
            chain.db.commit(&Batch { blocks: self.records(&view), files: &self.appender.ends, ..Batch::default() })
        };
        self.stop_on_error(chain, done)?;
        self.index_written();
        Ok(())
    }

    /// Makes everything durable: files, index, coins and the block that they belong to.
    pub(crate) fn flush_all(&mut self, chain: &Chain) -> Result<(), ChainError> {
        if self.changes == 0 {
            self.last_flush = Instant::now();
            return self.flush_index(chain);
        }
        self.sync_files(chain)?;
        let done = {
            let view = chain.read();
            chain.db.commit(&Batch {
                blocks: self.records(&view),
                files: &self.appender.ends,
                coins: std::iter::once((Set::Active, &view.coins, view.tip()))
                    .chain(self.background.iter().map(|below| (Set::Background, &below.coins, below.tip)))
                    .map(|(set, cache, tip)| CoinChanges {
                        set,
                        coins: cache.dirty(),
                        transactions: cache.dirty_transactions(),
                        marker: view.index.node(tip).hash,
                    })
                    .collect(),
                filters: view.filters.rows(),
            })
        };
        self.stop_on_error(chain, done)?;
        {
            let mut view = chain.change();
            view.coins.written(chain.coin_cache_bytes / 2);
            view.filters.written();
        }
        if let Some(below) = &mut self.background {
            below.coins.written(chain.coin_cache_bytes / 2);
        }
        self.index_written();
        self.changes = 0;
        self.last_flush = Instant::now();
        Ok(())
    }

    /// Writes what has waited long enough.
    pub(crate) fn flush_if_due(&mut self, chain: &Chain) -> Result<(), ChainError> {
        chain.size.store(self.appender.size(), Ordering::Relaxed);
        if std::mem::take(&mut self.appender.new_file) {
            chain.prune_to_target(self)?;
        }
        let below = self.background.as_ref().map_or(0, |below| below.coins.bytes());
        let full = {
            let view = chain.read();
            view.coins.bytes() + view.filters.bytes() + below > chain.coin_cache_bytes
        };
        if full || self.changes >= FLUSH_BLOCKS || self.last_flush.elapsed() >= FLUSH_INTERVAL {
            self.flush_all(chain)
        } else if self.unindexed_bytes >= INDEX_BYTES {
            self.flush_index(chain)
        } else {
            Ok(())
        }
    }

    fn records(&self, view: &View) -> Vec<(Id, [u8; crate::index::RECORD])> {
        self.dirty.iter().map(|&id| (id, view.index.record(id))).collect()
    }

    fn index_written(&mut self) {
        self.dirty.clear();
        self.headers_dirty = false;
        self.unindexed_bytes = 0;
    }
}

impl Chain {
    /// Writes and syncs everything; called before a clean stop.
    pub fn flush(&self) -> Result<(), ChainError> {
        self.writer()?.flush_all(self)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Best effort: what is lost here, the next start makes again from the block files.
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the chain was not written out at its end");
        }
    }
}
