//! [`Chain`]: its parts and what can be read from it.

use crate::coins::CoinCache;
use crate::db::{Db, Set};
use crate::error::ChainError;
use crate::files::{BlockFiles, Kind, damaged};
use crate::filterindex::FilterCache;
use crate::index::{Id, Index, status};
use crate::lock::DirLock;
use crate::undo;
use crate::writer::Writer;
use crate::{BlockEntry, Observer, Prune, TipStatus};
use bitcoin::consensus::deserialize;
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use cairn_consensus::block::{WitnessRoot, check_not_mutated, txids};
use cairn_consensus::coins::{BlockUndo, Coin};
use cairn_consensus::params::Params;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The chain. `Send + Sync`; share it in an `Arc`. Writers are serialised inside; readers see a committed tip.
pub struct Chain {
    pub(crate) dir: PathBuf,
    pub(crate) params: Params,
    pub(crate) coin_cache_bytes: usize,
    pub(crate) txindex: bool,
    pub(crate) blockfilterindex: bool,
    pub(crate) prune: Prune,
    pub(crate) observer: Observer,
    /// Taken first by everything that changes the chain, and held while a block is validated.
    pub(crate) writer: Mutex<Writer>,
    /// What readers see. Only the holder of `writer` writes it, for no longer than a change in memory takes.
    pub(crate) view: RwLock<View>,
    pub(crate) size: AtomicU64,
    pub(crate) files: BlockFiles,
    pub(crate) db: Db,
    /// Threads for scripts, started by the first block that is worth it.
    pub(crate) pool: OnceLock<Option<rayon::ThreadPool>>,
    /// Last, so that the directory is let go of when all else is closed.
    pub(crate) _lock: DirLock,
}

/// A block as it was read again, with its transactions' ids.
pub(crate) type StoredBlock = (Arc<Block>, Vec<Txid>);

/// What readers see.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) index: Index,
    /// The active chain by height; the genesis block is always there.
    pub(crate) active: Vec<Id>,
    /// The header with most work that is not known to be invalid.
    pub(crate) best_header: Id,
    pub(crate) coins: CoinCache,
    pub(crate) filters: FilterCache,
}

impl View {
    pub(crate) fn tip(&self) -> Id {
        *self.active.last().expect("the genesis block is always active")
    }
    pub(crate) fn is_active(&self, id: Id) -> bool {
        self.active.get(self.index.node(id).height as usize) == Some(&id)
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tip = self.tip();
        f.debug_struct("Chain").field("height", &tip.height).field("tip", &tip.hash).finish_non_exhaustive()
    }
}

impl Chain {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, View> {
        // A change of the view is made of steps that do not panic, so that a poisoned lock guards sound data.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write, unless an earlier write failed.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>, ChainError> {
        let writer = self
            .writer
            .lock()
            .map_err(|_| ChainError::Poisoned { cause: "a thread that was writing panicked".to_owned() })?;
        match &writer.stopped {
            None => Ok(writer),
            Some(cause) => Err(ChainError::Poisoned { cause: cause.clone() }),
        }
    }

    /// Waits until no change of the active chain is half done; none begins while the answer lives. Not for observers, nor
    /// for whoever holds a lock that an observer takes.
    #[must_use]
    pub fn steady(&self) -> impl Sized + '_ {
        // What readers see is whole, whatever happened to a writer.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory it lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of coins kept in memory before they are written out.
    pub fn coin_cache_bytes(&self) -> usize {
        self.coin_cache_bytes
    }

    /// Parameters it was opened with.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Tip of the active chain.
    pub fn tip(&self) -> BlockEntry {
        let view = self.read();
        view.index.entry(view.tip())
    }

    /// The header with most work that is not known to be invalid.
    pub fn best_header(&self) -> BlockEntry {
        let view = self.read();
        view.index.entry(view.best_header)
    }

    /// Any known block by hash.
    pub fn entry(&self, hash: &BlockHash) -> Option<BlockEntry> {
        let view = self.read();
        view.index.id(hash).map(|id| view.index.entry(id))
    }

    /// The active chain's block at a height.
    pub fn entry_at(&self, height: u32) -> Option<BlockEntry> {
        let view = self.read();
        view.active.get(height as usize).map(|&id| view.index.entry(id))
    }

    /// The ancestor of a known block (or itself) at a height, in whichever branch it lies.
    pub fn ancestor(&self, hash: &BlockHash, height: u32) -> Option<BlockEntry> {
        let view = self.read();
        let id = view.index.ancestor(view.index.id(hash)?, height)?;
        Some(view.index.entry(id))
    }

    /// Whether the block is in the active chain.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        let view = self.read();
        view.index.id(hash).is_some_and(|id| view.is_active(id))
    }

    /// All tips with their status and branch length (distance to the active chain), highest first, as Core's
    /// `getchaintips`.
    pub fn tips(&self) -> Vec<(BlockEntry, TipStatus, u32)> {
        let view = self.read();
        let index = &view.index;
        let mut is_tip: Vec<bool> = index.ids().map(|id| !view.is_active(id)).collect();
        for id in index.ids().filter(|&id| !view.is_active(id)) {
            if let Some(parent) = index.parent(id) {
                is_tip[parent as usize] = false;
            }
        }
        is_tip[view.tip() as usize] = true;
        let mut tips: Vec<_> = index
            .ids()
            .filter(|&id| is_tip[id as usize])
            .map(|id| {
                let node = index.node(id);
                let status = if view.is_active(id) {
                    TipStatus::Active
                } else if node.has(status::FAILED) {
                    TipStatus::Invalid
                } else if node.chain_tx_count == 0 {
                    TipStatus::HeadersOnly
                } else if node.validity() >= status::VALID_SCRIPTS {
                    TipStatus::ValidFork
                } else {
                    TipStatus::ValidHeaders
                };
                let fork = index.node(index.fork(id, view.tip())).height;
                (index.entry(id), status, node.height - fork)
            })
            .collect();
        tips.sort_by_key(|(entry, ..)| std::cmp::Reverse(entry.height));
        tips
    }

    /// A block's data, `None` if it is not here.
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, ChainError> {
        let id = self.read().index.id(hash);
        let Some(id) = id else { return Ok(None) };
        Ok(self.block_by_id(id)?.map(|(block, _)| block))
    }

    /// A block and its transactions' ids. Every byte of it is what the header commits to, so that one that rotted on
    /// the disk is told here and never taken for a broken rule.
    pub(crate) fn block_by_id(&self, id: Id) -> Result<Option<StoredBlock>, ChainError> {
        let (at, hash, height) = {
            let view = self.read();
            let node = view.index.node(id);
            (node.data(), node.hash, node.height)
        };
        let Some(at) = at else { return Ok(None) };
        let bytes = match self.files.read(Kind::Block, at) {
            // It was pruned since its place was looked up.
            Err(_) if self.read().index.node(id).data() != Some(at) => return Ok(None),
            read => read?,
        };
        let damaged = || damaged(&self.files.path(Kind::Block, at.file), at.pos);
        let block: Block = deserialize(&bytes).map_err(|_| damaged())?;
        let txids = txids(&block);
        let witnesses = WitnessRoot::of(&block);
        if block.block_hash() != hash || check_not_mutated(&block, &txids, witnesses, height, &self.params).is_err() {
            return Err(damaged());
        }
        Ok(Some((Arc::new(block), txids)))
    }

    /// A block's undo data, `None` if it is not here (genesis has none).
    pub fn undo(&self, hash: &BlockHash) -> Result<Option<BlockUndo>, ChainError> {
        let id = self.read().index.id(hash);
        id.map_or(Ok(None), |id| self.undo_by_id(id))
    }

    pub(crate) fn undo_by_id(&self, id: Id) -> Result<Option<BlockUndo>, ChainError> {
        let (at, prev) = {
            let view = self.read();
            (view.index.node(id).undo(), view.index.header(id).prev_blockhash)
        };
        let Some(at) = at else { return Ok(None) };
        let record = match self.files.read(Kind::Undo, at) {
            Err(_) if self.read().index.node(id).undo() != Some(at) => return Ok(None),
            read => read?,
        };
        let damaged = || damaged(&self.files.path(Kind::Undo, at.file), at.pos);
        let (data, checksum) = record.split_last_chunk::<32>().ok_or_else(damaged)?;
        if undo::checksum(&prev, data) != *checksum {
            return Err(damaged());
        }
        undo::decode(data).map(Some).map_err(|_| damaged())
    }

    /// A coin of the active tip.
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let view = self.read();
        match view.coins.get(outpoint) {
            Some(known) => Ok(known),
            None => self.db.coin(Set::Active, outpoint),
        }
    }

    /// Block that holds a transaction of the active chain, by the transaction index; `None` without one. The genesis
    /// block's coinbase is not in it: as in Core, it is no transaction that anyone could ask for.
    pub fn transaction(&self, txid: &Txid) -> Result<Option<(Transaction, BlockEntry)>, ChainError> {
        let (at, data, entry) = {
            let view = self.read();
            let found = match view.coins.transaction(txid) {
                Some(at) => Some(at),
                None => self.db.transaction(txid)?,
            };
            let Some(at) = found.filter(|at| at.block < view.index.len() && view.is_active(at.block)) else {
                return Ok(None);
            };
            let Some(data) = view.index.node(at.block).data() else { return Ok(None) };
            (at, data, view.index.entry(at.block))
        };
        let bytes = self.files.read_part(data, at.offset, at.length)?;
        match deserialize::<Transaction>(&bytes) {
            Ok(tx) if tx.compute_txid() == *txid => Ok(Some((tx, entry))),
            _ => Err(damaged(&self.files.path(Kind::Block, data.file), data.pos + at.offset)),
        }
    }

    /// Bytes of the block and undo files.
    pub fn size_on_disk(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }
}
