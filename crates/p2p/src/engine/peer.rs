//! What is known of one peer.

use crate::addrrelay::PeerAddrs;
use crate::feefilter::FeeFilter;
use crate::headerssync::HeadersSyncState;
use crate::limits;
use crate::link::Link;
use crate::message::{Command, Frame};
use crate::transport::Info;
use crate::trickle::TxRelay;
use crate::types::{ConnectionKind, GenTxid, PeerId, Time};
use crate::work::Job;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, Work};
use cairn_chain::BlockEntry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A block as a peer's chain is compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) hash: BlockHash,
    pub(crate) height: u32,
    pub(crate) work: Work,
}

impl From<&BlockEntry> for Known {
    fn from(entry: &BlockEntry) -> Self {
        Known { hash: entry.hash, height: entry.height, work: entry.chain_work }
    }
}

/// What a peer said in its `version`.
#[derive(Debug, Clone)]
pub(crate) struct TheirVersion {
    /// Protocol version.
    pub(crate) version: u32,
    pub(crate) services: ServiceFlags,
    pub(crate) user_agent: String,
    pub(crate) start_height: i32,
    /// It wants transactions announced.
    pub(crate) relay: bool,
    /// Its clock less ours, seconds.
    pub(crate) time_offset: i64,
    /// Where it sees us.
    pub(crate) our_address: Option<SocketAddr>,
}

/// Whether an outbound peer's chain keeps up (Core's `ChainSyncTimeoutState`).
#[derive(Debug, Default)]
pub(crate) struct ChainSync {
    /// When it is let go, unless it catches up; none while it is not behind.
    pub(crate) timeout: Option<Time>,
    /// Our tip when the timeout was set: what it must reach.
    pub(crate) target: Option<Known>,
    pub(crate) sent_getheaders: bool,
    /// Never let go for a chain that lags.
    pub(crate) protect: bool,
}

/// Pings and their answers.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// The one that is not answered, and when it was sent.
    pub(crate) waiting: Option<(u64, Time)>,
    pub(crate) last_sent: Time,
    /// Asked for by `ping`.
    pub(crate) queued: bool,
    pub(crate) last: Option<Time>,
    pub(crate) min: Option<Time>,
}

/// Bytes by message, as `getpeerinfo` tells them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Traffic {
    pub(crate) total: u64,
    pub(crate) by_command: BTreeMap<&'static str, u64>,
    /// The last time anything came or went.
    pub(crate) last: Time,
}

impl Traffic {
    /// After the transport's handshake, whose bytes are of no message.
    pub(crate) fn begun(handshake: usize) -> Self {
        Traffic { total: handshake as u64, ..Traffic::default() }
    }

    pub(crate) fn add(&mut self, command: &'static str, bytes: usize, now: Time) {
        self.total += bytes as u64;
        *self.by_command.entry(command).or_default() += bytes as u64;
        self.last = now;
    }
}

/// One peer.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) kind: ConnectionKind,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// As whoever asked for the connection named it.
    pub(crate) name: Option<String>,
    /// Our side of the connection.
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) connected: Time,
    pub(crate) link: Link,
    /// How its bytes are framed.
    pub(crate) transport: Info,
    /// In our `version`, by which a connection to ourselves is known.
    pub(crate) nonce: u64,
    /// It is being let go: what it says is not heard any more.
    pub(crate) leaving: bool,

    // The handshake.
    pub(crate) version: Option<TheirVersion>,
    /// The lower of both protocol versions.
    pub(crate) common_version: u32,
    /// Its `verack` came.
    pub(crate) ready: bool,
    pub(crate) wtxid_relay: bool,

    // Headers.
    pub(crate) prefers_headers: bool,
    pub(crate) sent_sendheaders: bool,
    /// Outbound, or ours by choice: blocks come from it rather than from others.
    pub(crate) preferred: bool,
    pub(crate) sync_started: bool,
    /// When all of its headers must have come; none: they have, or were not asked for.
    pub(crate) headers_timeout: Option<Time>,
    pub(crate) last_getheaders: Option<Time>,
    /// A chain whose work is not known yet.
    pub(crate) headers_sync: Option<Box<HeadersSyncState>>,
    pub(crate) inv_triggered_getheaders: bool,
    /// Headers of it are being looked at: what it says next waits.
    pub(crate) busy: bool,
    /// What it said meanwhile.
    pub(crate) waiting: VecDeque<(NetworkMessage, usize)>,

    // Blocks.
    pub(crate) best_known: Option<Known>,
    pub(crate) last_unknown: Option<BlockHash>,
    pub(crate) last_common: Option<Known>,
    pub(crate) best_sent: Option<BlockHash>,
    /// Asked for and not here yet, in the order asked.
    pub(crate) in_flight: Vec<BlockHash>,
    pub(crate) stalling_since: Option<Time>,
    pub(crate) downloading_since: Time,
    pub(crate) announce: Vec<BlockHash>,
    /// Asked for by `getblocks`: after this one it is told of the tip.
    pub(crate) continuation: Option<BlockHash>,
    pub(crate) getdata: VecDeque<Inventory>,
    /// Something is being read from disk for it, or will be.
    pub(crate) reading: bool,
    /// What is read once it has read what was sent before.
    pub(crate) to_read: Option<Box<Job>>,
    pub(crate) last_block: Time,
    pub(crate) last_block_announcement: Time,
    pub(crate) chain_sync: ChainSync,

    // Compact blocks.
    pub(crate) provides_compact: bool,
    /// It wants new blocks as compact ones, unasked.
    pub(crate) wants_hb: bool,
    /// We asked it for the same.
    pub(crate) hb_to: bool,

    // Transactions.
    pub(crate) last_tx: Time,
    /// What it was told of transactions; none if it wants none.
    pub(crate) relay: Option<Box<TxRelay>>,
    pub(crate) fee_filter: FeeFilter,

    pub(crate) addrs: PeerAddrs,
    pub(crate) pings: Pings,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    /// The engine's time when it last turned to this peer.
    pub(crate) now: Time,
    pub(crate) misbehaviour: Option<String>,
}

impl Peer {
    pub(crate) fn services(&self) -> ServiceFlags {
        self.version.as_ref().map_or(ServiceFlags::NONE, |version| version.services)
    }

    /// Core's `CanServeBlocks`.
    pub(crate) fn can_serve_blocks(&self) -> bool {
        let services = self.services();
        services.has(ServiceFlags::NETWORK) || services.has(ServiceFlags::NETWORK_LIMITED)
    }

    /// Core's `IsLimitedPeer`.
    pub(crate) fn is_limited(&self) -> bool {
        let services = self.services();
        !services.has(ServiceFlags::NETWORK) && services.has(ServiceFlags::NETWORK_LIMITED)
    }

    pub(crate) fn can_serve_witnesses(&self) -> bool {
        self.services().has(ServiceFlags::WITNESS)
    }

    /// It has a transaction: it is not told of it.
    pub(crate) fn knows(&mut self, gtxid: &GenTxid) {
        if let Some(relay) = &mut self.relay {
            relay.add_known_tx(&match gtxid {
                GenTxid::Txid(txid) => txid.to_byte_array(),
                GenTxid::Wtxid(wtxid) => wtxid.to_byte_array(),
            });
        }
    }

    /// What a block is asked for as.
    pub(crate) fn block_inventory(&self, hash: BlockHash) -> Inventory {
        if self.can_serve_witnesses() { Inventory::WitnessBlock(hash) } else { Inventory::Block(hash) }
    }

    /// Outbound by our own choice of address: subject to rotation.
    pub(crate) fn is_outbound_or_block_relay(&self) -> bool {
        matches!(self.kind, ConnectionKind::OutboundFullRelay | ConnectionKind::BlockRelay)
    }

    /// Core's `RejectIncomingTxs`.
    pub(crate) fn may_not_send_transactions(&self) -> bool {
        matches!(self.kind, ConnectionKind::BlockRelay | ConnectionKind::Feeler)
    }

    pub(crate) fn send(&mut self, message: &NetworkMessage) {
        self.send_frame(crate::message::encode(message));
    }

    pub(crate) fn send_frame(&mut self, frame: Frame) {
        self.sent.add(static_name(frame.command()), self.transport.version.wire_bytes(&frame), self.now);
        self.link.send(frame);
    }

    /// A job has read for it, as much as it may have unread; `rest` is another one for what follows.
    pub(crate) fn keep_to_read(&mut self, rest: Option<Box<Job>>) {
        self.reading = rest.is_some();
        self.to_read = rest;
    }

    /// Not yet so much queued that it has to read first.
    pub(crate) fn has_room(&self) -> bool {
        self.link.queued() < limits::MAX_SEND_BUFFER
    }

    /// Core's `PeerHasHeader`.
    pub(crate) fn has_header(&self, chain: &cairn_chain::Chain, hash: &BlockHash) -> bool {
        let through = |known: &BlockHash| chain.is_ancestor(hash, known);
        self.best_known.as_ref().is_some_and(|known| through(&known.hash))
            || self.best_sent.as_ref().is_some_and(through)
    }

    /// Core's `ProcessBlockAvailability`: what it announced may be known by now.
    pub(crate) fn resolve_unknown(&mut self, chain: &cairn_chain::Chain) {
        if let Some(entry) = self.last_unknown.and_then(|hash| chain.entry(&hash)) {
            self.last_unknown = None;
            self.learned(&entry);
        }
    }

    /// It has a block.
    fn learned(&mut self, entry: &BlockEntry) {
        if self.best_known.is_none_or(|known| entry.chain_work >= known.work) {
            self.best_known = Some(Known::from(entry));
        }
    }

    /// Core's `UpdateBlockAvailability`.
    pub(crate) fn announced(&mut self, chain: &cairn_chain::Chain, hash: BlockHash) {
        self.resolve_unknown(chain);
        match chain.entry(&hash) {
            Some(entry) => self.learned(&entry),
            None => self.last_unknown = Some(hash),
        }
    }
}

/// A command as bytes are counted by it.
fn static_name(command: Command) -> &'static str {
    /// What is sent.
    const NAMES: [&str; 27] = [
        "version",
        "verack",
        "addr",
        "addrv2",
        "sendaddrv2",
        "inv",
        "getdata",
        "notfound",
        "getblocks",
        "getheaders",
        "tx",
        "headers",
        "block",
        "getaddr",
        "ping",
        "pong",
        "sendheaders",
        "feefilter",
        "sendcmpct",
        "cmpctblock",
        "getblocktxn",
        "blocktxn",
        "cfilter",
        "cfheaders",
        "cfcheckpt",
        "wtxidrelay",
        "mempool",
    ];
    NAMES.iter().find(|name| **name == command.as_str()).copied().unwrap_or(super::OTHER)
}

/// The hash that stands for "no end".
pub(crate) fn no_stop() -> BlockHash {
    BlockHash::all_zeros()
}
