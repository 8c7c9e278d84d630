//! The data directory's chain: append-only block and undo files, block index, coins. One writer.
//!
//! `node` opens it, `mempool`, `mining` and `api` read it. It knows no network and no SQL, and holds no rule: those are
//! `consensus`'s. Only an invalid block condemns anything; a failure to read or write never does.
//!
//! | module | holds |
//! |---|---|
//! | `chain` | [`Chain`] and what is read from it |
//! | `open` | opening, and recovery after a kill |
//! | `import`, `scan` | blocks in the files that the index does not know: after a kill, or all of them |
//! | `accept` | headers and blocks: checked in their place, stored |
//! | `activate` | the tip: connecting, disconnecting, choosing between branches, invalidating |
//! | `serve` | what peers ask of the tree: locators, headers, missing blocks |
//! | `verify` | whether files, index and coins are what was written |
//! | `writer` | the writer's state and when it goes to disk |
//! | `index` | the tree of headers in memory |
//! | `coins` | coins that changed since they were last written |
//! | `coinset`, `muhash` | all coins as of one block: counted and hashed |
//! | `snapshot`, `assume` | coins in Core's snapshot format; starting from them, and validating them behind |
//! | `db` | coins, block index and the other indexes in the embedded database |
//! | `txindex`, `filterindex` | making and forgetting the transaction index, and that of block filters |
//! | `files`, `append`, `undo`, `compress` | block and undo files in Bitcoin Core's format |
//! | `disk` | every change of a file, each a fault point in tests |
//! | `lock` | one process a directory, of one network and a known format |
//! | `prune` | deleting block files that are no longer wanted |
//! | `rules` | which rule of `consensus` is asked when |
//! | `scripts`, `fetch` | checking a block, and reading its coins, on all cores |
//! | `testing` | with the feature `testing`: blocks for tests of this and other rooms |
//!
//! A directory holds `LOCK`, `FORMAT`, `blocks/` (`blkNNNNN.dat`, `revNNNNN.dat`, `xor.dat`) and `chainstate/`.
//! The block files are the journal: a block is durable when they are synced, and the next start takes from them what the
//! database does not know yet. Coins, block index and the other indexes reach the database together, in one atomic batch.

mod accept;
mod activate;
mod append;
mod assume;
mod chain;
mod coins;
mod coinset;
mod compress;
mod db;
mod disk;
mod error;
mod fetch;
mod files;
mod filterindex;
mod import;
mod index;
mod lock;
mod muhash;
mod open;
mod prune;
mod rules;
mod scan;
mod scripts;
mod serve;
mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod txindex;
mod undo;
mod verify;
mod writer;

pub use activate::BLOCK_CONNECT_SECONDS;
pub use assume::SnapshotState;
pub use chain::Chain;
pub use coinset::{CoinHash, CoinSet, CoinStats};
pub use error::ChainError;
pub use filterindex::{CFCHECKPT_INTERVAL, Filters};
pub use prune::{InvalidPrune, Prune};
pub use serve::{BranchBlock, HeaderPlace};
pub use verify::{DEFAULT_CHECK_BLOCKS, DEFAULT_CHECK_LEVEL};

use bitcoin::{Block, BlockHash, block::Header};
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
    /// Keep an index of transactions (Core's `-txindex`), for [`Chain::transaction`]. What is missing of it is made when the
    /// chain opens.
    pub txindex: bool,
    /// Keep the filters of blocks (Core's `-blockfilterindex=basic`), for [`Chain::filter`] and what else serves BIP 157. What is
    /// missing of them is made when the chain opens.
    pub blockfilterindex: bool,
    /// Make index and coins anew from the block files. Without an index that is done in any case.
    pub reindex: bool,
    /// Which block files are kept.
    pub prune: Prune,
}

impl ChainConfig {
    /// The chain of `params` in `dir`, all else as it is by default.
    pub fn new(dir: PathBuf, params: Params) -> Self {
        Self {
            dir,
            params,
            coin_cache_bytes: 64 << 20,
            txindex: true,
            blockfilterindex: false,
            reindex: false,
            prune: Prune::Off,
        }
    }
}

/// How far a chain is that takes long to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Looking for blocks in the block files.
    Reading {
        /// Bytes looked at.
        done: u64,
        /// Bytes of all files to look at.
        total: u64,
    },
    /// Making the transaction index.
    Indexing {
        /// Blocks done.
        done: u32,
        /// Of so many.
        of: u32,
    },
    /// Making filters of blocks.
    Filtering {
        /// Blocks done.
        done: u32,
        /// Of so many.
        of: u32,
    },
    /// Connecting blocks.
    Connecting {
        /// Height of the block connected.
        height: u32,
        /// Height of the best header.
        of: u32,
    },
}

/// Called while a chain opens.
pub type ProgressFn = Box<dyn Fn(Progress) + Send + Sync>;

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
    /// Transactions in this block, 0 until its data came.
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
    /// A failure left what is on the disk uncertain: the chain writes nothing any more, and is to be opened again.
    Stopped {
        /// The failure.
        cause: String,
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

/// Called in order for every change of the active chain, on the writer's thread, while the write lock is held:
/// it must be quick and must not call back into a writing method (reading methods are fine).
pub type Observer = Box<dyn Fn(&ChainEvent) + Send + Sync>;
