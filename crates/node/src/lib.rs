//! A running chain node: chain, mempool and block producer composed, with events. Contains no rules.
//!
//! | module | holds |
//! |---|---|
//! | `lib` | [`Node`]: opening, submitting, generating, stopping |
//! | [`producer`] | the thread that makes blocks at their pace |
//! | `peers` | the peer-to-peer network of a node |
//! | `snapshot` | starting from a snapshot of the coins |
//! | `synchronisation` | how far a node is that catches up |
//! | `persist` | the mempool over a restart |
//! | `submit` | transactions that come: from users, from peers |
//! | `source` | what the wallet and the stamper read the chain through |
//!
//! The binary opens it; `api` calls it; the wallet, the stamper and the API follow its events. It may not
//! know HTTP or SQL.

mod peers;
mod persist;
pub mod producer;
mod snapshot;
mod source;
mod submit;
mod synchronisation;

pub use peers::{Networking, PeersConfig};
pub use snapshot::SnapshotError;
pub use synchronisation::Synchronisation;

use bitcoin::{Block, BlockHash, Network, Script, ScriptBuf, Transaction, Txid};
use cairn_chain::{BlockAccepted, BlockEntry, Chain, ChainConfig, ChainError, ChainEvent, ProgressFn, Prune};
use cairn_consensus::params::{AssumeUtxo, InvalidBlockTime, Params};
use cairn_mempool::{Mempool, MempoolConfig};
use cairn_mining::pace::{Pacing, Share};
use cairn_mining::signet::{SignetKey, is_open};
use cairn_mining::{BlockTemplate, MiningError};
pub use cairn_p2p::clock::Clock;
pub use producer::MiningStatus;
use producer::Producer;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use synchronisation::Pace;
use tokio::sync::broadcast;

/// Core's `DEFAULT_MAX_TIP_AGE`: a tip older than this many seconds means that the node is still catching up.
const MAX_TIP_AGE: u32 = 24 * 3600;
/// Events a follower may lag behind by before it has to read the chain again.
const EVENT_BACKLOG: usize = 1024;

/// A signet of one's own (BIP 325).
#[derive(Debug, Clone)]
pub struct Signet {
    /// The script that blocks must satisfy.
    pub challenge: ScriptBuf,
    /// Seconds between blocks that retargets aim at; the public signet's unless given.
    pub block_time: Option<u32>,
}

/// How to run a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The network's own directory: block files, index and coins are below it.
    pub dir: PathBuf,
    /// Network.
    pub network: Network,
    /// Which signet, where that is the network: the public one unless given.
    pub signet: Option<Signet>,
    /// What the signet's blocks are signed with; none of other networks.
    pub signet_key: Option<Arc<SignetKey>>,
    /// Mempool limits.
    pub mempool: MempoolConfig,
    /// Bytes of coins kept in memory.
    pub coin_cache_bytes: usize,
    /// Keep an index of transactions.
    pub txindex: bool,
    /// Keep the filters of blocks.
    pub blockfilterindex: bool,
    /// Make index and coins anew from the block files.
    pub reindex: bool,
    /// Which block files are kept.
    pub prune: Prune,
    /// Snapshots that may be loaded besides those that the network's parameters name.
    pub assume_utxo: Vec<AssumeUtxo>,
}

impl NodeConfig {
    /// A node of a network in `dir`, all else as it is by default.
    pub fn new(dir: PathBuf, network: Network) -> Self {
        Self {
            dir,
            network,
            signet: None,
            signet_key: None,
            mempool: MempoolConfig::default(),
            coin_cache_bytes: 64 << 20,
            txindex: true,
            blockfilterindex: false,
            reindex: false,
            prune: Prune::Off,
            assume_utxo: Vec::new(),
        }
    }
}

/// What happened; followers (wallet, stamper, API) subscribe. A follower that lags reads the chain again.
#[derive(Debug, Clone)]
pub enum NodeEvent {
    /// A block became the tip.
    BlockConnected {
        /// Its place; shared, so that the backlog keeps a pointer an event.
        entry: Arc<BlockEntry>,
        /// Transactions in it.
        transactions: usize,
    },
    /// The tip was undone.
    BlockDisconnected {
        /// Its place.
        entry: Arc<BlockEntry>,
    },
    /// A failure of the disk left what is on it uncertain: the chain writes nothing any more.
    ChainStopped {
        /// The failure.
        cause: String,
    },
    /// A transaction entered the mempool.
    TransactionAccepted {
        /// Its id.
        txid: Txid,
    },
}

/// Why a node did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No parameters are known for the network.
    #[error("network {0} is not supported: use regtest, signet, testnet4 or mainnet")]
    Network(Network),
    /// No signet is possible with this block time.
    #[error(transparent)]
    BlockTime(#[from] InvalidBlockTime),
    /// The chain did not open.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A running node. Share it in an `Arc`. Methods that write block for the time of a block's validation: async callers
/// put them on a blocking thread.
pub struct Node {
    /// The chain, for reading.
    pub chain: Arc<Chain>,
    /// The mempool, for reading.
    pub mempool: Arc<Mempool>,
    producer: Producer,
    signet_key: Option<Arc<SignetKey>>,
    network: cairn_p2p::net::Handle,
    /// The chain is to begin with a snapshot that is not loaded yet.
    awaiting_snapshot: AtomicBool,
    networking: OnceLock<Networking>,
    pace: Arc<Pace>,
    events: broadcast::Sender<NodeEvent>,
    clock: Clock,
    opened: Instant,
    stopping: AtomicBool,
    initial_block_download: Arc<AtomicBool>,
    /// What is asked of the network before it runs.
    asked: std::sync::Mutex<Option<cairn_p2p::net::Asked>>,
    persistence: persist::Persistence,
}

impl Node {
    /// Opens the chain. No thread is started until mining is, but for one that reads the mempool of the last run.
    pub fn open(config: NodeConfig) -> Result<Arc<Node>, NodeError> {
        Self::open_with_progress(config, Box::new(|_| {}))
    }

    /// [`Node::open`], telling how far it is where it takes long.
    pub fn open_with_progress(config: NodeConfig, progress: ProgressFn) -> Result<Arc<Node>, NodeError> {
        let mut params = match (config.network, config.signet) {
            (Network::Signet, Some(Signet { challenge, block_time })) => Params::signet(challenge, block_time)?,
            (network, _) => Params::new(network).ok_or(NodeError::Network(network))?,
        };
        params.assume_utxo.extend(config.assume_utxo);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        // Weak, because the mempool holds the chain, and the chain holds its observer.
        let observed: Arc<OnceLock<Weak<Mempool>>> = Arc::default();
        let producer = Producer::default();
        let initial_block_download = Arc::new(AtomicBool::new(true));
        let clock = Clock::default();
        let minimum_chain_work = params.minimum_chain_work;
        // Core's `UpdateIBDStatus`: once the node has caught up, that stays so.
        let latch = {
            let (latched, clock) = (initial_block_download.clone(), clock.clone());
            move |tip: &BlockEntry| {
                let recent = tip.header.time.saturating_add(MAX_TIP_AGE) >= clock.unix_time();
                if tip.chain_work >= minimum_chain_work && recent {
                    latched.store(false, Ordering::Relaxed);
                }
            }
        };

        let (network, asked) = cairn_p2p::net::Handle::new();
        let pace = Arc::new(Pace::new());
        let observer = {
            let (observed, events, stale) = (observed.clone(), events.clone(), producer.stale_flag());
            let clock = clock.clone();
            let (latch, network, catching_up) = (latch.clone(), network.clone(), initial_block_download.clone());
            let pace = pace.clone();
            Box::new(move |event: &ChainEvent| {
                stale.store(true, Ordering::Relaxed);
                if let ChainEvent::Connected { entry, .. } = event {
                    latch(entry);
                    pace.connected(entry.height);
                }
                // While the chain catches up with its own files there is no mempool yet.
                if let Some(mempool) = observed.get().and_then(Weak::upgrade) {
                    mempool.chain_event(event, u64::from(clock.unix_time()));
                }
                if let ChainEvent::Connected { block, .. } = event {
                    let behind = catching_up.load(Ordering::Relaxed);
                    network.tip_changed((!behind).then(|| block.clone()));
                }
                let event = match event {
                    ChainEvent::Connected { block, entry } => {
                        NodeEvent::BlockConnected { entry: Arc::new(entry.clone()), transactions: block.txdata.len() }
                    }
                    ChainEvent::Disconnected { entry, .. } => {
                        NodeEvent::BlockDisconnected { entry: Arc::new(entry.clone()) }
                    }
                    ChainEvent::Stopped { cause } => NodeEvent::ChainStopped { cause: cause.clone() },
                };
                // An error means that nobody follows.
                let _ = events.send(event);
            })
        };
        let dir = config.dir.clone();
        let chain_config = ChainConfig {
            coin_cache_bytes: config.coin_cache_bytes,
            txindex: config.txindex,
            blockfilterindex: config.blockfilterindex,
            reindex: config.reindex,
            prune: config.prune,
            ..ChainConfig::new(config.dir, params)
        };
        let chain = Arc::new(Chain::open_with_progress(chain_config, observer, progress)?);
        latch(&chain.tip());
        let mempool = Arc::new(Mempool::new(config.mempool, chain.clone()));
        observed.get_or_init(|| Arc::downgrade(&mempool));
        let persistence = persist::Persistence::start(&dir, &mempool);
        Ok(Arc::new(Node {
            chain,
            mempool,
            producer,
            signet_key: config.signet_key,
            network,
            awaiting_snapshot: AtomicBool::new(false),
            networking: OnceLock::new(),
            pace,
            asked: std::sync::Mutex::new(Some(asked)),
            events,
            clock,
            opened: Instant::now(),
            stopping: AtomicBool::new(false),
            initial_block_download,
            persistence,
        }))
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// The node's clock, seconds since 1970.
    pub fn now(&self) -> u32 {
        self.clock.unix_time()
    }

    /// The clock itself, to share or, on regtest, to set.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the chain is still being caught up with (Core's `IsInitialBlockDownload`): no tip was recent yet.
    pub fn is_initial_block_download(&self) -> bool {
        self.initial_block_download.load(Ordering::Relaxed)
    }

    /// How long it is open, whatever its clock says.
    pub fn uptime(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Takes a block from a user: it is durable when this returns.
    pub fn submit_block(&self, block: Arc<Block>) -> Result<BlockAccepted, ChainError> {
        self.chain.process_block(block, self.now(), true)
    }

    /// A template on the tip that pays `script`.
    pub fn template(&self, script: &Script) -> Result<BlockTemplate, MiningError> {
        cairn_mining::build_template(&self.chain, &self.mempool, script, self.now())
    }

    /// Signs a block where the network asks for that, and finds its proof of work; returns the hashes that it took.
    fn mine(&self, block: &mut Block, stop: &AtomicBool) -> Result<u64, MiningError> {
        match (&self.signet_key, &self.chain.params().signet_challenge) {
            (Some(key), _) => cairn_mining::mine_sealed(block, stop, |block| key.solve(block)),
            (None, Some(challenge)) if !is_open(challenge) => Err(MiningError::NoSignetKey),
            (None, _) => cairn_mining::mine(block, stop),
        }
    }

    /// Mines `count` blocks at once to `script`, calling `progress` with the number done after each. They are durable
    /// when it returns; the blocks found before an error or a stop stay in the chain.
    pub fn generate(
        &self,
        count: u32,
        script: &Script,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Vec<BlockHash>, MiningError> {
        let mut hashes = Vec::new();
        let mut generate_one = |durable| {
            let mut block = self.template(script)?.block;
            self.mine(&mut block, &self.stopping)?;
            hashes.push(block.block_hash());
            self.chain.process_block(Arc::new(block), self.now(), durable)?;
            Ok(())
        };
        for done in 1..=count {
            // One sync for all: a block in the middle is not acknowledged before the last one is.
            if let Err(error) = generate_one(done == count) {
                // Followers have heard of the blocks before, and they stay: they must outlast a loss of power too.
                self.chain.flush()?;
                return Err(error);
            }
            progress(done);
        }
        Ok(hashes)
    }

    /// Mines one block with exactly these transactions, in this order; with `submit` it is connected and durable.
    pub fn generate_block(
        &self,
        transactions: Vec<Transaction>,
        script: &Script,
        submit: bool,
    ) -> Result<Block, MiningError> {
        let mut block = cairn_mining::build_block_with(&self.chain, transactions, script, self.now())?;
        self.mine(&mut block, &self.stopping)?;
        if submit {
            self.submit_block(Arc::new(block.clone()))?;
        }
        Ok(block)
    }

    /// Makes this node's share of a block every `block_time` (zero: only on demand) that pays `script`. Replaces an earlier
    /// schedule.
    pub fn start_mining(self: &Arc<Self>, block_time: Duration, script: ScriptBuf) {
        self.producer.start(self, block_time, script);
    }

    /// Makes this share of the network's blocks from now on, all of them unless told otherwise.
    pub fn set_mining_share(&self, share: Share) {
        self.producer.set(|pace| pace.share = share);
    }

    /// Spreads the times between blocks like this from now on, as a Poisson process unless told otherwise.
    pub fn set_pacing(&self, pacing: Pacing) {
        self.producer.set(|pace| pace.pacing = pacing);
    }

    /// Makes no more blocks on a schedule.
    pub fn stop_mining(&self) {
        self.producer.stop();
    }

    /// State of the block producer.
    pub fn mining(&self) -> MiningStatus {
        self.producer.status()
    }

    /// Stops mining and writes everything out. Reading still works afterwards.
    pub fn stop(&self) -> Result<(), ChainError> {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop_mining();
        self.persistence.stop(&self.mempool);
        self.chain.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A regtest node with nothing but its genesis block.
    pub(crate) fn node() -> (Arc<Node>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let config =
            NodeConfig { coin_cache_bytes: 1 << 20, ..NodeConfig::new(dir.path().to_owned(), Network::Regtest) };
        (Node::open(config).unwrap(), dir)
    }

    #[test]
    fn once_caught_up_is_caught_up() {
        let (node, _dir) = node();
        assert!(node.is_initial_block_download(), "the genesis block is of 2011");
        let blocks = node.generate(1, Script::new(), &mut |_| {}).unwrap();
        assert!(!node.is_initial_block_download());
        node.chain.invalidate_block(&blocks[0]).unwrap();
        assert_eq!(node.chain.tip().height, 0);
        assert!(!node.is_initial_block_download());
    }
}
