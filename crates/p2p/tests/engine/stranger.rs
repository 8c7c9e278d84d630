//! Peers that say what a test tells them to, and read when it does.

use crate::sim::{Sim, TRANSPORT};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{Block, BlockHash};
use cairn_chain::testing;
use cairn_p2p::engine::{Connected, Event, PROTOCOL_VERSION};
use cairn_p2p::link::{Link, Outgoing};
use cairn_p2p::message::{self, Frame};
use cairn_p2p::net::PeerInfo;
use cairn_p2p::types::{ConnectionKind, PeerId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The node's side of a connection with a peer that is no node.
pub(crate) struct Stranger {
    link: Link,
    outgoing: Outgoing,
    closed: CancellationToken,
}

impl Sim {
    /// A connection is there; nothing was said yet.
    pub(crate) fn connect_stranger(&mut self, node: usize, kind: ConnectionKind) -> PeerId {
        let peer = self.nodes[node].next_peer();
        let closed = CancellationToken::new();
        let (link, outgoing) = Link::new(closed.clone());
        self.nodes[node].strangers.insert(peer, Stranger { link: link.clone(), outgoing, closed });
        let [.., high, low] = peer.0.to_be_bytes();
        let address = SocketAddr::from(([9, high, low, 1], 8333));
        self.handle(
            node,
            Event::Connected(Connected { peer, kind, address, name: None, bound: None, link, transport: TRANSPORT }),
        );
        peer
    }

    /// A peer with which the handshake is done.
    pub(crate) fn meet(&mut self, node: usize, kind: ConnectionKind) -> PeerId {
        self.meet_offering(node, kind, ServiceFlags::NETWORK | ServiceFlags::WITNESS)
    }

    /// [`Sim::meet`] with a peer that offers these services.
    pub(crate) fn meet_offering(&mut self, node: usize, kind: ConnectionKind, services: ServiceFlags) -> PeerId {
        let peer = self.connect_stranger(node, kind);
        let nowhere = Address::new(&SocketAddr::from(([0, 0, 0, 0], 0)), services);
        let version = VersionMessage {
            version: PROTOCOL_VERSION,
            services,
            timestamp: i64::try_from(self.now().as_secs()).unwrap(),
            receiver: nowhere.clone(),
            sender: nowhere,
            nonce: 1000 + peer.0,
            user_agent: "/stranger/".into(),
            start_height: 0,
            relay: true,
        };
        let compact = SendCmpct { send_compact: false, version: 2 };
        for message in [NetworkMessage::Version(version), NetworkMessage::WtxidRelay, NetworkMessage::SendAddrV2] {
            self.say(node, peer, message);
        }
        self.say(node, peer, NetworkMessage::Verack);
        self.say(node, peer, NetworkMessage::SendCmpct(compact));
        peer
    }

    /// It says something, as the wire carries it.
    pub(crate) fn say(&mut self, node: usize, peer: PeerId, message: NetworkMessage) {
        let frame = message::encode(&message);
        let size = frame.payload().len();
        let event = match message::decode(frame.command().as_str(), frame.payload()) {
            Ok(message) => Event::Message { peer, message, size },
            Err(error) => Event::Malformed { peer, command: frame.command(), error },
        };
        self.handle(node, event);
    }

    /// It reads all that was sent so far, and what follows from its having done so is left for the next time.
    pub(crate) fn read(&mut self, node: usize, peer: PeerId) -> Vec<Frame> {
        let stranger = self.nodes[node].strangers.get_mut(&peer).expect("a stranger");
        let mut frames = Vec::new();
        let mut has_room = false;
        while let Some(frame) = stranger.outgoing.try_next() {
            has_room |= stranger.outgoing.written(frame.payload().len());
            frames.push(frame);
        }
        if has_room {
            self.handle(node, Event::Room { peer });
        }
        frames
    }

    /// [`Sim::read`], understood.
    pub(crate) fn hear(&mut self, node: usize, peer: PeerId) -> Vec<NetworkMessage> {
        let frames = self.read(node, peer);
        let decode = |frame: Frame| message::decode(frame.command().as_str(), frame.payload());
        frames.into_iter().map(|frame| decode(frame).expect("as our nodes speak")).collect()
    }

    /// What it was asked for by `getdata` since it last read.
    pub(crate) fn asked(&mut self, node: usize, peer: PeerId) -> Vec<BlockHash> {
        let heard = self.hear(node, peer);
        let asked = heard.into_iter().filter_map(|message| match message {
            NetworkMessage::GetData(items) => Some(items),
            _ => None,
        });
        asked
            .flatten()
            .map(|item| match item {
                Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => hash,
                item => panic!("{item:?}"),
            })
            .collect()
    }

    /// Bytes that it has not read.
    pub(crate) fn unread(&self, node: usize, peer: PeerId) -> usize {
        self.nodes[node].strangers[&peer].link.queued()
    }

    /// Whether the node let it go.
    pub(crate) fn is_gone(&self, node: usize, peer: PeerId) -> bool {
        self.nodes[node].strangers[&peer].closed.is_cancelled()
    }

    /// The connection has ended.
    pub(crate) fn leave(&mut self, node: usize, peer: PeerId) {
        self.handle(node, Event::Disconnected { peer, reason: "it left".into() });
    }

    /// What the node tells of it.
    pub(crate) fn info(&self, node: usize, peer: PeerId) -> PeerInfo {
        self.nodes[node].engine.peers_info().into_iter().find(|info| info.id == peer).expect("a peer")
    }

    /// Lets time pass second by second; it answers pings and reads the rest, which is returned.
    pub(crate) fn pass_with(&mut self, node: usize, peer: PeerId, seconds: u64) -> Vec<NetworkMessage> {
        let mut heard = Vec::new();
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            for message in self.hear(node, peer) {
                match message {
                    NetworkMessage::Ping(nonce) => self.say(node, peer, NetworkMessage::Pong(nonce)),
                    message => heard.push(message),
                }
            }
        }
        heard
    }

    /// The blocks that were held back are validated now, and none is held back any more.
    pub(crate) fn release(&mut self, node: usize) {
        for job in self.nodes[node].held.take().unwrap_or_default() {
            let done = job.run(&*self.nodes[node].host);
            self.handle(node, Event::Done(done));
        }
    }
}

/// Blocks from the genesis block on.
pub(crate) fn chain_of(count: u32) -> Vec<Arc<Block>> {
    testing::branch(&testing::regtest().genesis.header, 0, count, 7)
}

/// Their headers, as a message.
pub(crate) fn headers(blocks: &[Arc<Block>]) -> NetworkMessage {
    NetworkMessage::Headers(blocks.iter().map(|block| block.header).collect())
}

/// A block, as a message.
pub(crate) fn block(block: &Block) -> NetworkMessage {
    NetworkMessage::Block(block.clone())
}
