//! A network of engines without sockets, in time that the test sets: messages are handed over one by one.

use crate::stranger::Stranger;
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, Transaction};
use cairn_chain::{Chain, ChainConfig, ChainEvent, testing};
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, Mempool, MempoolConfig};
use cairn_p2p::book::Book;
use cairn_p2p::engine::{Action, Config, Connected, Engine, Event};
use cairn_p2p::link::{Link, Outgoing};
use cairn_p2p::message;
use cairn_p2p::transport::{Info, TransportVersion};
use cairn_p2p::types::{ConnectionKind, PeerId, Time};
use cairn_p2p::work::{Host, Job, PackageOutcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// There are no bytes.
pub(crate) const TRANSPORT: Info = Info { version: TransportVersion::V1, session_id: None, received: 0, sent: 0 };

/// What a node has besides its engine.
pub(crate) struct SimHost {
    pub(crate) chain: Arc<Chain>,
    pub(crate) mempool: Arc<Mempool>,
    clock: Arc<Mutex<Time>>,
    connected: Arc<Mutex<Vec<Arc<Block>>>>,
}

impl Host for SimHost {
    fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }
    fn mempool(&self) -> &Arc<Mempool> {
        &self.mempool
    }
    fn now(&self) -> Time {
        *self.clock.lock().unwrap()
    }
    fn is_initial_block_download(&self) -> bool {
        u64::from(self.chain.tip().header.time) + 24 * 3600 < self.now().as_secs()
    }
    fn accept_transaction(&self, tx: &Arc<Transaction>) -> Result<Accepted, TxReject> {
        self.mempool.accept(Transaction::clone(tx), self.now().as_secs())
    }
    fn accept_package(&self, txs: &[Arc<Transaction>]) -> PackageOutcome {
        let each: Vec<_> = txs.iter().map(|tx| (tx.compute_wtxid(), self.accept_transaction(tx).map(|_| ()))).collect();
        PackageOutcome { whole: each.iter().all(|(_, result)| result.is_ok()), each }
    }
}

/// One end of a connection.
struct End {
    /// The number that its owner gave it.
    id: PeerId,
    /// The node at the other end, and the number that it gave.
    other: (usize, PeerId),
    outgoing: Outgoing,
    closed: CancellationToken,
}

/// One node.
pub(crate) struct SimNode {
    pub(crate) host: Arc<SimHost>,
    pub(crate) engine: Engine,
    ends: Vec<End>,
    pub(crate) strangers: BTreeMap<PeerId, Stranger>,
    /// Blocks that wait until the test lets them be validated; none: they are at once.
    pub(crate) held: Option<Vec<Job>>,
    next_peer: u64,
    _dir: tempfile::TempDir,
}

/// The network.
pub(crate) struct Sim {
    pub(crate) nodes: Vec<SimNode>,
    clock: Arc<Mutex<Time>>,
    rng: StdRng,
    /// Messages handed over since the start, by command.
    pub(crate) sent: std::collections::BTreeMap<String, usize>,
}

impl Sim {
    /// Nodes with nothing but the genesis block, at a time from which its successors are recent.
    pub(crate) fn new(nodes: usize, seed: u64) -> Sim {
        let start = testing::regtest().genesis.header.time;
        let clock = Arc::new(Mutex::new(Duration::from_secs(u64::from(start) + 600)));
        let mut sim = Sim { nodes: Vec::new(), clock, rng: StdRng::seed_from_u64(seed), sent: Default::default() };
        for _ in 0..nodes {
            sim.add_node();
        }
        sim
    }

    pub(crate) fn add_node(&mut self) -> usize {
        self.add_node_offering(ServiceFlags::NETWORK | ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS)
    }

    /// A node that offers these services.
    pub(crate) fn add_node_offering(&mut self, services: ServiceFlags) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let connected: Arc<Mutex<Vec<Arc<Block>>>> = Arc::default();
        let observed = connected.clone();
        let observer = Box::new(move |event: &ChainEvent| {
            if let ChainEvent::Connected { block, .. } = event {
                observed.lock().unwrap().push(block.clone());
            }
        });
        let filters = services.has(ServiceFlags::COMPACT_FILTERS);
        let config = ChainConfig {
            // Filters of some size are those of many coins.
            coin_cache_bytes: if filters { 256 << 20 } else { 1 << 20 },
            txindex: false,
            blockfilterindex: filters,
            ..ChainConfig::new(dir.path().to_owned(), testing::regtest())
        };
        let chain = Arc::new(Chain::open_with_progress(config, observer, Box::new(|_| {})).unwrap());
        let mempool = Arc::new(Mempool::new(MempoolConfig::default(), chain.clone()));
        let host = Arc::new(SimHost { chain, mempool, clock: self.clock.clone(), connected });
        let config = Config { user_agent: "/sim/".into(), services, listen_port: None };
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let book = Book::open(None, testing::regtest().magic, self.now(), &mut rng);
        let engine = Engine::new(config, host.clone(), book, StdRng::seed_from_u64(self.rng.random()));
        let (ends, strangers) = Default::default();
        self.nodes.push(SimNode { host, engine, ends, strangers, held: None, next_peer: 0, _dir: dir });
        self.nodes.len() - 1
    }

    pub(crate) fn now(&self) -> Time {
        *self.clock.lock().unwrap()
    }

    /// Lets time pass, with a tick of every node at its end.
    pub(crate) fn pass(&mut self, time: Duration) {
        *self.clock.lock().unwrap() += time;
        for node in 0..self.nodes.len() {
            self.handle(node, Event::Tick);
        }
    }

    /// `from` connects to `to`.
    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        let open = |sim: &mut Sim, node: usize, kind| (sim.nodes[node].next_peer(), node, kind);
        let ours = open(self, from, ConnectionKind::Manual);
        let theirs = open(self, to, ConnectionKind::Inbound);
        for ((id, node, kind), other) in [(ours, theirs), (theirs, ours)] {
            let closed = CancellationToken::new();
            let (link, outgoing) = Link::new(closed.clone());
            self.nodes[node].ends.push(End { id, other: (other.1, other.0), outgoing, closed });
            let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + other.1 as u16));
            let connected = Connected { peer: id, kind, address, name: None, bound: None, link, transport: TRANSPORT };
            self.handle(node, Event::Connected(connected));
        }
    }

    /// Cuts every connection between two nodes.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        for (node, other) in [(a, b), (b, a)] {
            let ends = &mut self.nodes[node].ends;
            let gone: Vec<PeerId> = ends.iter().filter(|end| end.other.0 == other).map(|end| end.id).collect();
            ends.retain(|end| end.other.0 != other);
            for peer in gone {
                self.handle(node, Event::Disconnected { peer, reason: "cut".into() });
            }
        }
    }

    /// Gives an event to a node, and does at once what it wants done.
    pub(crate) fn handle(&mut self, node: usize, event: Event) {
        let now = self.now();
        let node = &mut self.nodes[node];
        node.engine.handle(event, now);
        node.settle(now);
    }

    /// Makes blocks on a node.
    pub(crate) fn mine(&mut self, node: usize, count: u32) {
        let salt = self.rng.random();
        for _ in 0..count {
            let chain = self.nodes[node].host.chain.clone();
            let tip = chain.tip();
            let block = testing::block_after(&tip.header, tip.height + 1, salt, Vec::new());
            chain.process_block(Arc::new(block), u32::try_from(self.now().as_secs()).unwrap(), false).unwrap();
            let now = self.now();
            self.nodes[node].settle(now);
        }
    }

    /// Hands one message over, of a connection chosen by chance; false if there is none.
    pub(crate) fn step(&mut self) -> bool {
        let ends: Vec<(usize, usize)> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(at, node)| (0..node.ends.len()).map(move |end| (at, end)))
            .collect();
        if ends.is_empty() {
            return false;
        }
        let first = self.rng.random_range(0..ends.len());
        for offset in 0..ends.len() {
            let (node, at) = ends[(first + offset) % ends.len()];
            let end = &mut self.nodes[node].ends[at];
            if end.closed.is_cancelled() {
                let other = end.other.0;
                self.cut(node, other);
                return true;
            }
            let Some(frame) = end.outgoing.try_next() else { continue };
            let size = frame.payload().len();
            let (id, has_room) = (end.id, end.outgoing.written(size));
            let (other, peer) = end.other;
            *self.sent.entry(frame.command().to_string()).or_default() += 1;
            let event = match message::decode(frame.command().as_str(), frame.payload()) {
                Ok(message) => Event::Message { peer, message, size },
                Err(error) => panic!("{}: {error}", frame.command()),
            };
            self.handle(other, event);
            if has_room {
                self.handle(node, Event::Room { peer: id });
            }
            return true;
        }
        false
    }

    /// Hands messages over until there are no more.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    pub(crate) fn tips(&self) -> Vec<(u32, bitcoin::BlockHash)> {
        self.nodes.iter().map(|node| node.host.chain.tip()).map(|tip| (tip.height, tip.hash)).collect()
    }

    /// Whether all have the same tip.
    pub(crate) fn agree(&self) -> bool {
        self.tips().windows(2).all(|pair| pair[0] == pair[1])
    }
}

impl SimNode {
    pub(crate) fn next_peer(&mut self) -> PeerId {
        self.next_peer += 1;
        PeerId(self.next_peer - 1)
    }

    pub(crate) fn settle(&mut self, now: Time) {
        loop {
            let blocks = std::mem::take(&mut *self.host.connected.lock().unwrap());
            if !blocks.is_empty() {
                for block in blocks {
                    self.engine.handle(Event::BlockConnected(block), now);
                }
                self.engine.handle(Event::TipChanged, now);
            }
            let actions = self.engine.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                if let Action::Job(job) = action {
                    if let (Job::Block { .. }, Some(held)) = (&job, &mut self.held) {
                        held.push(job);
                        continue;
                    }
                    let done = job.run(&*self.host);
                    self.engine.handle(Event::Done(done), now);
                }
            }
        }
    }

    pub(crate) fn peers(&self) -> usize {
        self.ends.len()
    }
}
