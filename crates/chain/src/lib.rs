//! The data directory's chain: append-only block and undo files, block index, coins. One writer.
//!
//! `node` opens it, `mempool`, `mining` and `api` read it. It knows no network and no SQL.

use bitcoin::{Block, BlockHash, OutPoint, Transaction, block::Header};
use cairn_consensus::coins::{BlockUndo, Coin};
use cairn_consensus::error::BlockReject;
use cairn_consensus::params::Params;
use std::path::PathBuf;
use std::sync::Arc;

/// How to open a chain.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// The network's own directory (`<data>/<network>`): holds `blocks/`, `chainstate/`, `LOCK`.
    pub dir: PathBuf,
    /// Chain parameters.
    pub params: Params,
    /// Bytes of coins kept in memory before they are written out.
    pub coin_cache_bytes: usize,
}

/// One block header in the tree. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlockEntry {
    /// Hash.
    pub hash: BlockHash,
    /// Height, genesis is 0.
    pub height: u32,
    /// The header.
    pub header: Header,
    /// Total work up to and including this block.
    pub chain_work: bitcoin::Work,
    /// Median of the last 11 times, seconds since 1970.
    pub median_time_past: u32,
    /// Transactions in this block, 0 while its data is not here.
    pub tx_count: u32,
    /// Transactions up to and including this block, 0 while unknown.
    pub chain_tx_count: u64,
    /// What is known of it.
    pub status: BlockStatus,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockStatus {
    /// The block's data is in the block files.
    pub has_data: bool,
    /// Fully validated once (scripts included).
    pub valid_scripts: bool,
    /// It, or a block that it builds on, is invalid.
    pub failed: bool,
}

/// What happened to the active chain, in order.
#[derive(Debug, Clone)]
pub enum ChainEvent {
    /// `block` became the tip.
    Connected {
        /// The block.
        block: Arc<Block>,
        /// Its place.
        entry: BlockEntry,
    },
    /// `block` was the tip and no longer is.
    Disconnected {
        /// The block.
        block: Arc<Block>,
        /// Its place.
        entry: BlockEntry,
    },
}

/// What `process_block` did with a block that is not invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockAccepted {
    /// Stored for the first time.
    New,
    /// It was here already.
    Duplicate,
}

/// Errors of this room, each with its remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The block or header breaks a rule.
    #[error("{0}")]
    Rejected(#[from] BlockReject),
    /// Another process holds the data directory.
    #[error("data directory {dir} is in use by process {pid}: stop it, or choose another with --data-dir")]
    Locked {
        /// Directory.
        dir: PathBuf,
        /// Holder's process id as it wrote it, or "unknown".
        pid: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Cause.
        source: std::io::Error,
    },
}

/// A status of a tip as `getchaintips` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TipStatus {
    /// The active tip.
    Active,
    /// Valid but not in the active chain.
    ValidFork,
    /// Headers valid, data here, not fully validated.
    ValidHeaders,
    /// Headers only.
    HeadersOnly,
    /// Invalid.
    Invalid,
}

/// The chain. `Send + Sync`; share it in an `Arc`. Writers are serialised inside; readers see a committed tip.
pub struct Chain {
    _private: (),
}

/// Called in order for every change of the active chain, on the writer's thread, while the write lock is held:
/// it must be quick and must not call back into a writing method (reading methods are fine).
pub type Observer = Box<dyn Fn(&ChainEvent) + Send + Sync>;

impl Chain {
    /// Opens (creating, recovering after a kill without being told) the chain in a directory.
    pub fn open(config: ChainConfig, observer: Observer) -> Result<Chain, ChainError> {
        let _ = (config, observer);
        todo!()
    }
    /// Parameters it was opened with.
    pub fn params(&self) -> &Params {
        todo!()
    }
    /// Tip of the active chain.
    pub fn tip(&self) -> BlockEntry {
        todo!()
    }
    /// The header with most work that is not known to be invalid.
    pub fn best_header(&self) -> BlockEntry {
        todo!()
    }
    /// Any known block by hash.
    pub fn entry(&self, hash: &BlockHash) -> Option<BlockEntry> {
        let _ = hash;
        todo!()
    }
    /// The active chain's block at a height.
    pub fn entry_at(&self, height: u32) -> Option<BlockEntry> {
        let _ = height;
        todo!()
    }
    /// Whether the block is in the active chain.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        let _ = hash;
        todo!()
    }
    /// All tips with their status and branch length (distance to the active chain).
    pub fn tips(&self) -> Vec<(BlockEntry, TipStatus, u32)> {
        todo!()
    }
    /// Accepts headers in order; returns the last one's entry.
    pub fn process_headers(&self, headers: &[Header], now: u32) -> Result<BlockEntry, ChainError> {
        let _ = (headers, now);
        todo!()
    }
    /// Checks, stores and (when it makes the best chain) connects a block; `now` is seconds since 1970.
    /// Durable when it returns if `durable`. An invalid block is `Err(Rejected)`; a block stored on a losing branch is `Ok(New)`.
    pub fn process_block(&self, block: Arc<Block>, now: u32, durable: bool) -> Result<BlockAccepted, ChainError> {
        let _ = (block, now, durable);
        todo!()
    }
    /// Core's `TestBlockValidity`: would the block connect on the tip? Changes nothing.
    pub fn test_block(&self, block: &Block, now: u32, check_pow: bool, check_merkle: bool) -> Result<(), ChainError> {
        let _ = (block, now, check_pow, check_merkle);
        todo!()
    }
    /// Marks a block and its descendants invalid and leaves them.
    pub fn invalidate_block(&self, hash: &BlockHash) -> Result<(), ChainError> {
        let _ = hash;
        todo!()
    }
    /// Undoes `invalidate_block` for the block, its ancestors and descendants.
    pub fn reconsider_block(&self, hash: &BlockHash) -> Result<(), ChainError> {
        let _ = hash;
        todo!()
    }
    /// A block's data, `None` if it is not here.
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, ChainError> {
        let _ = hash;
        todo!()
    }
    /// A block's undo data, `None` if it is not here (genesis has none).
    pub fn undo(&self, hash: &BlockHash) -> Result<Option<BlockUndo>, ChainError> {
        let _ = hash;
        todo!()
    }
    /// A coin of the active tip.
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let _ = outpoint;
        todo!()
    }
    /// Block that holds a transaction of the active chain, by the transaction index (always on).
    pub fn transaction(&self, txid: &bitcoin::Txid) -> Result<Option<(Transaction, BlockEntry)>, ChainError> {
        let _ = txid;
        todo!()
    }
    /// Bytes of the block and undo files.
    pub fn size_on_disk(&self) -> u64 {
        todo!()
    }
    /// Writes and syncs everything; called before a clean stop.
    pub fn flush(&self) -> Result<(), ChainError> {
        todo!()
    }
}
