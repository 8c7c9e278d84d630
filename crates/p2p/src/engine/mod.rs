//! The engine: what is said to each peer, and what follows from what it says (Core's `net_processing`).
//!
//! It has no sockets, no clock and no thread of its own. [`Engine::handle`] takes what happened and the time; what is to
//! be done elsewhere comes out as [`Action`]s. One task calls it, so that it needs no lock.
//!
//! | module | holds |
//! |---|---|
//! | `peer` | what is known of one peer |
//! | `filters` | block filters (BIP 157) that peers ask for |
//! | `handshake` | version and features; which messages come before it |
//! | `headers` | headers: asked for, checked, believed |
//! | `blocks` | which block is fetched from whom; blocks that came |
//! | `compact` | compact blocks (BIP 152) that came |
//! | `addresses` | addresses of nodes: told by peers, told to peers |
//! | `announce` | new tips told |
//! | `info` | what is told of peers |
//! | `serve` | what peers ask for |
//! | `transactions` | transactions: asked for, taken in, told on |
//! | `timeouts` | pings, stalls, chains that lag |

mod addresses;
mod announce;
mod blocks;
mod compact;
mod filters;
mod handshake;
mod headers;
mod info;
mod peer;
mod serve;
mod timeouts;
mod transactions;

use crate::address::AddressRecord;
use crate::addrrelay::AddrRelay;
use crate::book::Book;
use crate::compact::ExtraPool;
use crate::feefilter::FeeFilterRounder;
use crate::link::Link;
use crate::message::{Command, DecodeError};
use crate::transport::Info;
use crate::trickle::InboundTimers;
use crate::txdownload::TxDownloadManager;
use crate::types::{ConnectionKind, PeerId, Time};
use crate::work::{Done, FilterAnswer, Host, Job};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, BlockHash};
use cairn_chain::Chain;
use cairn_consensus::error::BlockRejectKind;
use peer::{Known, Peer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use transactions::Pool;

/// The protocol version that is spoken: with wtxid relay (BIP 339) and addrv2 (BIP 155).
pub const PROTOCOL_VERSION: u32 = 70016;

/// What messages are counted as whose type is not known, as in Core.
const OTHER: &str = "*other*";

/// What the engine is told of the node.
#[derive(Debug, Clone)]
pub struct Config {
    /// In `version`, such as `/Cairn:0.1.0/`.
    pub user_agent: String,
    /// What is offered to peers.
    pub services: ServiceFlags,
    /// The port that peers are listened for on, if others than this machine reach it.
    pub listen_port: Option<u16>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection is there, and its transport's handshake is done.
    Connected(Connected),
    /// A peer said something.
    Message {
        /// Who.
        peer: PeerId,
        /// What.
        message: NetworkMessage,
        /// Bytes on the wire.
        size: usize,
    },
    /// A peer said something that is none of the protocol's messages.
    Malformed {
        /// Who.
        peer: PeerId,
        /// What kind of message it was to be.
        command: Command,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A peer sent bytes that are no message, or hide what is said: only counted.
    Other {
        /// Who.
        peer: PeerId,
        /// Bytes on the wire.
        size: usize,
    },
    /// A peer has read so much that there is room for answers again.
    Room {
        /// Who.
        peer: PeerId,
    },
    /// A connection has ended.
    Disconnected {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// A job is done.
    Done(Done),
    /// The active chain has another tip, perhaps after several blocks.
    TipChanged,
    /// A block was connected, told when the chain is not far behind.
    BlockConnected(Arc<Block>),
    /// Time went on.
    Tick,
}

/// A new connection.
#[derive(Debug)]
pub struct Connected {
    /// Its number.
    pub peer: PeerId,
    /// Why it was made.
    pub kind: ConnectionKind,
    /// Where the peer is.
    pub address: SocketAddr,
    /// As whoever asked for the connection named it.
    pub name: Option<String>,
    /// Our side of it.
    pub bound: Option<SocketAddr>,
    /// What is written goes here.
    pub link: Link,
    /// How its bytes are framed, and its id where it is encrypted.
    pub transport: Info,
}

/// Something to do outside.
#[derive(Debug)]
pub enum Action {
    /// A job for the worker.
    Job(Job),
    /// Nobody at this address is to be talked to for some time.
    Discourage(SocketAddr),
}

/// The last block that was announced, kept for those who ask for it.
struct Recent {
    hash: BlockHash,
    block: Arc<Block>,
    /// Made when somebody wants it.
    compact: Option<crate::message::Frame>,
}

/// A block that is being fetched from a peer.
struct InFlight {
    peer: PeerId,
    since: Time,
    /// Where it comes as a compact block: what is here of it.
    partial: Option<Box<crate::compact::PartiallyDownloadedBlock>>,
}

/// The engine.
pub struct Engine {
    config: Config,
    host: Arc<dyn Host>,
    /// What is remembered of other nodes.
    pub book: Book,
    addr_relay: AddrRelay,
    chain: Arc<Chain>,
    peers: BTreeMap<PeerId, Peer>,
    /// Blocks being fetched, in the order in which peers were asked.
    in_flight: HashMap<BlockHash, Vec<InFlight>>,
    /// Blocks that came and are being validated.
    validating: HashMap<BlockHash, usize>,
    /// Bytes of them.
    validating_bytes: usize,
    /// Peers asked to announce by compact block, the longest chosen first.
    hb_peers: VecDeque<PeerId>,
    recent: Option<Recent>,
    /// Transactions outside the mempool that a compact block may hold.
    extra: ExtraPool,
    /// The tip that was last told to peers.
    announced_tip: BlockHash,
    last_tip_update: Time,
    /// No block is asked for before: taking one in failed for a reason that is not its own.
    fetch_from: Time,
    /// Height up to which blocks below a snapshot are here.
    historical: u32,
    stalling_timeout: Duration,
    last_inv_that_triggered_headers: Option<BlockHash>,
    /// Compact blocks relayed before they were validated.
    fast_announced: Option<BlockHash>,
    /// The last of them: asked for, they are served whatever became of them.
    early: VecDeque<(BlockHash, Arc<Block>)>,
    protected_outbound: usize,
    /// Our own nonces, by which a connection to ourselves is known.
    nonces: HashSet<u64>,
    pool: Pool,
    download: TxDownloadManager<Pool>,
    validating_transactions: usize,
    next_unbroadcast: Time,
    /// When inbound peers hear of transactions.
    timers: InboundTimers,
    rounder: FeeFilterRounder,
    rng: StdRng,
    now: Time,
    actions: Vec<Action>,
}

impl Engine {
    /// An engine without peers.
    pub fn new(config: Config, host: Arc<dyn Host>, book: Book, mut rng: StdRng) -> Engine {
        let chain = host.chain().clone();
        let now = host.now();
        let mempool = host.mempool().clone();
        Engine {
            config,
            book,
            addr_relay: AddrRelay::new(&mut rng),
            announced_tip: chain.tip().hash,
            host,
            chain,
            peers: BTreeMap::new(),
            in_flight: HashMap::new(),
            validating: HashMap::new(),
            validating_bytes: 0,
            hb_peers: VecDeque::new(),
            recent: None,
            extra: ExtraPool::default(),
            last_tip_update: now,
            fetch_from: Time::ZERO,
            historical: 0,
            stalling_timeout: crate::limits::BLOCK_STALLING_TIMEOUT,
            last_inv_that_triggered_headers: None,
            fast_announced: None,
            early: VecDeque::new(),
            protected_outbound: 0,
            nonces: HashSet::new(),
            pool: Pool(mempool.clone()),
            download: TxDownloadManager::new(Pool(mempool.clone()), StdRng::from_seed(rng.random())),
            validating_transactions: 0,
            next_unbroadcast: now + crate::limits::UNBROADCAST_INTERVAL,
            timers: InboundTimers::default(),
            rounder: FeeFilterRounder::new(mempool.config().incremental_fee_rate),
            rng,
            now,
            actions: Vec::new(),
        }
    }

    /// Takes what happened at `now`. What is to be done comes from [`Engine::take_actions`].
    pub fn handle(&mut self, event: Event, now: Time) {
        self.now = now;
        match event {
            Event::Connected(connected) => self.connected(connected),
            Event::Message { peer, message, size } => self.message(peer, message, size),
            Event::Malformed { peer, command, error } => self.malformed(peer, command, &error),
            Event::Other { peer, size } => {
                let now = self.now;
                self.with(peer, |peer| peer.received.add(OTHER, size, now));
            }
            Event::Room { peer } => self.resume(peer),
            Event::Disconnected { peer, reason } => self.disconnected(peer, &reason),
            Event::Done(done) => self.done(done),
            Event::TipChanged => self.tip_changed(),
            Event::BlockConnected(block) => {
                self.download.block_connected(&block.txdata);
                self.block_connected(&block);
            }
            Event::Tick => self.tick(),
        }
    }

    /// What is to be done outside, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn job(&mut self, job: Job) {
        self.actions.push(Action::Job(job));
    }

    fn now_seconds(&self) -> u32 {
        u32::try_from(self.now.as_secs()).unwrap_or(u32::MAX)
    }

    fn message(&mut self, id: PeerId, message: NetworkMessage, size: usize) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving) else { return };
        peer.received.add(message.cmd(), size, self.now);
        // What it said before comes first, and nothing is answered that it does not read.
        if peer.busy || peer.reading || !peer.waiting.is_empty() || !peer.getdata.is_empty() || !peer.has_room() {
            peer.waiting.push_back((message, size));
            return;
        }
        self.process(id, message, size);
    }

    /// Goes on with what a peer said while it was not heard.
    fn resume(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving && peer.has_room())
            && let Some(job) = peer.to_read.take()
        {
            self.job(*job);
        }
        loop {
            self.serve_getdata(id);
            let Some(peer) = self.peers.get_mut(&id) else { return };
            if peer.leaving || peer.busy || peer.reading || !peer.getdata.is_empty() || !peer.has_room() {
                return;
            }
            let Some((message, size)) = peer.waiting.pop_front() else { return };
            self.process(id, message, size);
        }
    }

    fn process(&mut self, id: PeerId, message: NetworkMessage, size: usize) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.now = self.now;
        peer.link.taken(size);
        if !peer.ready {
            self.handshake(id, message);
            return;
        }
        match message {
            NetworkMessage::Version(_) | NetworkMessage::Verack => {}
            NetworkMessage::WtxidRelay | NetworkMessage::SendAddrV2 => {
                self.disconnect(id, "a feature was negotiated after verack");
            }
            NetworkMessage::SendHeaders => self.with(id, |peer| peer.prefers_headers = true),
            NetworkMessage::SendCmpct(message) => self.on_sendcmpct(id, &message),
            NetworkMessage::Ping(nonce) => peer.send(&NetworkMessage::Pong(nonce)),
            NetworkMessage::Pong(nonce) => self.on_pong(id, nonce),
            NetworkMessage::Headers(headers) => self.on_headers(id, headers, false),
            NetworkMessage::GetHeaders(request) => self.on_getheaders(id, &request),
            NetworkMessage::GetBlocks(request) => self.on_getblocks(id, &request),
            NetworkMessage::GetData(inventory) => self.on_getdata(id, inventory),
            NetworkMessage::Inv(inventory) => self.on_inv(id, &inventory),
            NetworkMessage::Block(block) => self.on_block(id, block),
            NetworkMessage::CmpctBlock(message) => self.on_cmpctblock(id, message.compact_block),
            NetworkMessage::GetBlockTxn(message) => self.on_getblocktxn(id, message.txs_request),
            NetworkMessage::BlockTxn(message) => self.on_blocktxn(id, message.transactions),
            NetworkMessage::GetCFilters(request) => {
                self.on_filter_request(id, (&request).into(), FilterAnswer::Filters);
            }
            NetworkMessage::GetCFHeaders(request) => {
                self.on_filter_request(id, (&request).into(), FilterAnswer::Headers);
            }
            NetworkMessage::GetCFCheckpt(request) => {
                self.on_filter_request(id, (&request).into(), FilterAnswer::Checkpoints);
            }
            NetworkMessage::Tx(tx) => self.on_tx(id, tx),
            NetworkMessage::NotFound(items) => self.on_notfound(id, &items),
            NetworkMessage::GetAddr => self.on_getaddr(id),
            NetworkMessage::Addr(list) => {
                self.on_addresses(id, list.iter().map(|(time, entry)| AddressRecord::from_v1(*time, entry)).collect());
            }
            NetworkMessage::AddrV2(list) => {
                self.on_addresses(id, list.iter().map(AddressRecord::from_v2).collect());
            }
            NetworkMessage::FeeFilter(rate) => {
                if let Some(relay) = peer.relay.as_mut() {
                    relay.set_fee_filter(rate);
                }
            }
            // Served only with bloom filters (BIP 37), which are not offered.
            NetworkMessage::MemPool
            | NetworkMessage::FilterLoad(_)
            | NetworkMessage::FilterAdd(_)
            | NetworkMessage::FilterClear => self.disconnect(id, "it asked for bloom filters, which are not offered"),
            _ => {}
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Headers { peer, count, result, via_compact, full } => {
                self.headers_done(peer, count, result, via_compact, full);
                self.resume(peer);
            }
            Done::Block { peer, hash, result, via_compact, size } => {
                self.block_done(peer, hash, result, via_compact, size);
            }
            Done::Transaction { peer, tx, result, orphan } => self.transaction_done(peer, &tx, result, orphan),
            Done::Package { package, outcome } => self.package_done(&package, outcome),
            Done::Filters { peer, frames, rest } => {
                self.with(peer, |peer| {
                    peer.keep_to_read(rest);
                    frames.into_iter().for_each(|frame| peer.send_frame(frame));
                });
                self.resume(peer);
            }
            Done::Read { peer, blocks, rest } => {
                self.with(peer, |peer| peer.keep_to_read(rest));
                self.read_done(peer, blocks);
                self.resume(peer);
            }
        }
    }

    /// Changes a peer, if it is still there.
    fn with(&mut self, id: PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.now = self.now;
            change(peer);
        }
    }

    fn malformed(&mut self, id: PeerId, command: Command, error: &DecodeError) {
        let Some(peer) = self.peers.get(&id) else { return };
        // As Core: more entries than may be is misbehaviour once the handshake is done, other nonsense is passed over.
        match (error, command.as_str()) {
            _ if !peer.ready => tracing::debug!(peer = %id, %command, %error, "too early, and malformed"),
            (DecodeError::TooMany { .. }, "getblocks" | "getheaders") => self.disconnect(id, &error.to_string()),
            (DecodeError::TooMany { .. }, "notfound") => {}
            (DecodeError::TooMany { .. } | DecodeError::Misbehaving(_), _) => self.misbehaving(id, &error.to_string()),
            (DecodeError::Malformed(_), _) => tracing::debug!(peer = %id, %command, %error, "a message is passed over"),
        }
    }

    /// Lets a peer go.
    fn disconnect(&mut self, id: PeerId, why: &str) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !std::mem::replace(&mut peer.leaving, true)
        {
            tracing::debug!(peer = %id, address = %peer.address, why, "disconnecting");
            peer.link.close();
        }
    }

    /// Core's `Misbehaving`: the peer broke the protocol in a way that no honest one does. It goes, and its address is
    /// discouraged, unless somebody asked for the connection.
    fn misbehaving(&mut self, id: PeerId, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        tracing::debug!(peer = %id, address = %peer.address, why, "misbehaving");
        peer.misbehaviour = Some(why.to_owned());
        if peer.kind == ConnectionKind::Manual {
            tracing::warn!(peer = %id, address = %peer.address, why, "a peer that was asked for misbehaves; it is kept");
            return;
        }
        if !peer.address.ip().is_loopback() {
            let address = peer.address;
            self.actions.push(Action::Discourage(address));
        }
        self.disconnect(id, why);
    }

    /// Core's `MaybePunishNodeForBlock`.
    fn punish_for_block(&mut self, id: PeerId, kind: BlockRejectKind, cached: bool, via_compact: bool, why: &str) {
        match kind {
            BlockRejectKind::LowWork | BlockRejectKind::TimeFuture | BlockRejectKind::MissingPrev => {}
            BlockRejectKind::Consensus | BlockRejectKind::Mutated if via_compact => {}
            // An invalid block that is known as such: an outbound peer that builds on it is on another chain.
            BlockRejectKind::InvalidPrev if cached => {
                let outbound = self.peers.get(&id).is_some_and(|peer| !peer.kind.is_inbound());
                if outbound && !via_compact {
                    self.misbehaving(id, why);
                }
            }
            _ => self.misbehaving(id, why),
        }
    }

    fn connected(&mut self, connected: Connected) {
        let Connected { peer: id, kind, address, name, bound, link, transport } = connected;
        let peer = Peer::new(id, kind, address, name, bound, link, transport, self.now, &mut self.rng);
        self.nonces.insert(peer.nonce);
        self.peers.insert(id, peer);
        if !kind.is_inbound() {
            self.send_version(id);
        }
    }

    fn disconnected(&mut self, id: PeerId, reason: &str) {
        let Some(peer) = self.peers.remove(&id) else { return };
        tracing::debug!(peer = %id, address = %peer.address, reason, "disconnected");
        self.was_connected(peer.address, peer.kind, peer.ready);
        self.nonces.remove(&peer.nonce);
        for hash in &peer.in_flight {
            self.forget_request(hash, id);
        }
        self.hb_peers.retain(|peer| *peer != id);
        self.download.disconnected_peer(id);
        if peer.chain_sync.protect {
            self.protected_outbound -= 1;
        }
        self.fetch_blocks();
    }

    /// Peers that the engine knows.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    fn block_connected(&mut self, block: &Arc<Block>) {
        let hash = block.block_hash();
        if self.recent.as_ref().is_none_or(|recent| recent.hash != hash) {
            self.recent = Some(Recent { hash, block: block.clone(), compact: None });
        }
    }

    fn known_tip(&self) -> Known {
        Known::from(&self.chain.tip())
    }

    /// Core's `CanDirectFetch`: the tip is recent, so that a new block is worth fetching at once.
    fn can_direct_fetch(&self) -> bool {
        let params = self.chain.params();
        u64::from(self.chain.tip().header.time) + u64::from(params.pow_target_spacing) * 20 > self.now.as_secs()
    }
}
