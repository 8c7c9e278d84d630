//! A running chain node: chain, mempool and mining composed, with events. Contains no rules.

use bitcoin::{Block, BlockHash, ScriptBuf, Transaction, Txid};
use cairn_chain::{BlockAccepted, BlockEntry, Chain, ChainError};
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, Mempool, MempoolConfig};
use cairn_mining::{BlockTemplate, MiningError};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// How to run a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The data directory; the network's own directory is below it.
    pub data_dir: PathBuf,
    /// Network.
    pub network: bitcoin::Network,
    /// Mempool limits.
    pub mempool: MempoolConfig,
    /// Bytes of coins kept in memory.
    pub coin_cache_bytes: usize,
}

/// What happened; followers (wallet, stamper, API) subscribe. A follower that lags reads the chain again.
#[derive(Debug, Clone)]
pub enum NodeEvent {
    /// A block became the tip.
    BlockConnected {
        /// Its place.
        entry: BlockEntry,
        /// Transactions in it.
        transactions: usize,
    },
    /// The tip was undone.
    BlockDisconnected {
        /// Its place.
        entry: BlockEntry,
    },
    /// A transaction entered the mempool.
    TransactionAccepted {
        /// Its id.
        txid: Txid,
    },
}

/// State of the block producer.
#[derive(Debug, Clone)]
pub struct MiningStatus {
    /// Producing blocks on a schedule now.
    pub running: bool,
    /// Time between blocks; zero is only on demand.
    pub block_time: Duration,
    /// Blocks found since start.
    pub blocks_found: u64,
    /// Hashes computed since start.
    pub hashes: u64,
    /// Script that rewards go to, if one is set.
    pub reward_script: Option<ScriptBuf>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

/// A running node. Share it in an `Arc`. All methods may block for the time of a block's validation:
/// async callers use `tokio::task::spawn_blocking` for the ones that write.
pub struct Node {
    /// The chain, for reading.
    pub chain: Arc<Chain>,
    /// The mempool, for reading.
    pub mempool: Arc<Mempool>,
    events: broadcast::Sender<NodeEvent>,
}

impl Node {
    /// Opens the chain, fills nothing, starts no thread that is not needed.
    pub fn open(config: NodeConfig) -> Result<Arc<Node>, ChainError> {
        let _ = config;
        todo!()
    }
    /// Follow events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }
    /// The node's clock, seconds since 1970.
    pub fn now(&self) -> u32 {
        todo!()
    }
    /// When it was opened, seconds since 1970.
    pub fn started_at(&self) -> u32 {
        todo!()
    }
    /// Into the mempool.
    pub fn submit_transaction(&self, tx: Transaction) -> Result<Accepted, TxReject> {
        let _ = tx;
        todo!()
    }
    /// A block from a user: durable when this returns.
    pub fn submit_block(&self, block: Arc<Block>) -> Result<BlockAccepted, ChainError> {
        let _ = block;
        todo!()
    }
    /// A template paying `script`.
    pub fn template(&self, script: &bitcoin::Script) -> Result<BlockTemplate, MiningError> {
        let _ = script;
        todo!()
    }
    /// Mines `count` blocks at once to `script`; calls `progress` after each. Durable when it returns.
    pub fn generate(
        &self,
        count: u32,
        script: &bitcoin::Script,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Vec<BlockHash>, MiningError> {
        let _ = (count, script, progress);
        todo!()
    }
    /// Mines one block with exactly these transactions; `submit` false returns it without connecting it.
    pub fn generate_block(
        &self,
        transactions: Vec<Transaction>,
        script: &bitcoin::Script,
        submit: bool,
    ) -> Result<Block, MiningError> {
        let _ = (transactions, script, submit);
        todo!()
    }
    /// Starts producing blocks every `block_time` (zero: only on demand) to `script`.
    pub fn start_mining(self: &Arc<Self>, block_time: Duration, script: ScriptBuf) {
        let _ = (block_time, script);
        todo!()
    }
    /// Stops producing blocks.
    pub fn stop_mining(&self) {
        todo!()
    }
    /// State of the block producer.
    pub fn mining(&self) -> MiningStatus {
        todo!()
    }
    /// Stops mining and flushes the chain. Reading still works afterwards.
    pub fn stop(&self) -> Result<(), ChainError> {
        todo!()
    }
}
