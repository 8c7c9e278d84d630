//! Beside a Bitcoin Core node: both versions of the transport, both ways, and messages as Core sends them.

#[path = "../../../tests/network/bitcoind.rs"]
mod bitcoind;

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{BlockHash, Network};
use bitcoind::Bitcoind;
use cairn_p2p::limits;
use cairn_p2p::message::{Frame, decode, encode};
use cairn_p2p::transport::{self, Info, Reader, Received, TransportError, TransportVersion, Writer};
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take before it counts as hung. Never decides between right and wrong.
const PATIENCE: Duration = Duration::from_secs(120);

fn magic() -> [u8; 4] {
    Network::Regtest.magic().to_bytes()
}

fn rng() -> StdRng {
    rand::make_rng()
}

type Settled = (Reader<OwnedReadHalf>, Writer<OwnedWriteHalf>, Info);

async fn outbound(node: &Bitcoind, version: TransportVersion) -> Result<Settled, TransportError> {
    let (reader, writer) = TcpStream::connect(node.p2p_address()).await.expect("it listens").into_split();
    transport::outbound(reader, writer, magic(), version, limits::HANDSHAKE_TIMEOUT, rng()).await
}

async fn inbound(listener: &TcpListener, accept_v2: bool) -> Result<Settled, TransportError> {
    let (reader, writer) = listener.accept().await.expect("we listen").0.into_split();
    transport::inbound(reader, writer, magic(), accept_v2, rng()).await
}

/// A connection to the node.
struct Peer {
    reader: Reader<OwnedReadHalf>,
    writer: Writer<OwnedWriteHalf>,
    info: Info,
    received: usize,
    sent: usize,
}

impl Peer {
    fn new((reader, writer, info): Settled) -> Self {
        Self { reader, writer, info, received: info.received, sent: info.sent }
    }

    async fn send(&mut self, frame: &Frame) -> usize {
        let sent = self.writer.write(frame).await.expect("sent");
        self.sent += sent;
        sent
    }

    /// Reads until `wanted` finds what it wants. Pings are answered.
    async fn until<T>(&mut self, wanted: impl Fn(&NetworkMessage) -> Option<T>) -> T {
        loop {
            let Received::Message(message) = self.reader.read().await.expect("it goes on") else {
                panic!("Core sends no decoys and nothing wrong")
            };
            self.received += message.wire_bytes;
            let decoded = decode(message.command.as_str(), &message.payload).expect("Core's messages are understood");
            if let NetworkMessage::Ping(nonce) = decoded {
                self.send(&encode(&NetworkMessage::Pong(nonce))).await;
            }
            if let Some(found) = wanted(&decoded) {
                return found;
            }
        }
    }

    /// `version` and `verack` both ways, then a ping. Returns the bytes that our `version` took.
    async fn greet(&mut self) -> usize {
        let nowhere = Address { services: ServiceFlags::NONE, address: [0; 8], port: 0 };
        let version = VersionMessage {
            version: 70_016,
            services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
            timestamp: 1_700_000_000,
            receiver: nowhere.clone(),
            sender: nowhere,
            nonce: 42,
            user_agent: "/cairn:test/".to_owned(),
            start_height: 0,
            relay: true,
        };
        let bytes = self.send(&encode(&NetworkMessage::Version(version))).await;
        let agent = self
            .until(|message| match message {
                NetworkMessage::Version(version) => Some(version.user_agent.clone()),
                _ => None,
            })
            .await;
        assert!(agent.starts_with("/Satoshi:"), "{agent}");
        self.until(|message| matches!(message, NetworkMessage::Verack).then_some(())).await;
        self.send(&encode(&NetworkMessage::Verack)).await;
        self.ping(7).await;
        bytes
    }

    /// What was sent before has been read when this returns.
    async fn ping(&mut self, nonce: u64) {
        self.send(&encode(&NetworkMessage::Ping(nonce))).await;
        self.until(|message| (*message == NetworkMessage::Pong(nonce)).then_some(())).await;
    }
}

/// The node and we agree on what the connection is, and on every byte of it.
async fn assert_agreed(node: &Bitcoind, peer: &mut Peer, version_bytes: usize) {
    peer.ping(8).await;
    let peers = node.rpc("getpeerinfo", &[]);
    let seen = &peers[0];
    assert_eq!(peers.as_array().map(Vec::len), Some(1), "{peers}");
    assert_eq!(seen["subver"], "/cairn:test/");
    assert_eq!(seen["transport_protocol_type"], peer.info.version.name());
    let session_id = peer.info.session_id.map_or_else(String::new, |id| id.to_lower_hex_string());
    assert_eq!(seen["session_id"], session_id);
    assert_eq!(seen["bytesrecv_per_msg"]["version"], version_bytes);
    assert_eq!(seen["bytesrecv"], peer.sent);
    assert_eq!(seen["bytessent"], peer.received);
}

#[tokio::test]
async fn core_is_spoken_with_by_both_versions_when_we_connect() {
    let Some(program) = bitcoind::program() else { return };
    let node = Bitcoind::start(&program, &[]);
    let test = async {
        for version in [TransportVersion::V1, TransportVersion::V2] {
            let mut peer = Peer::new(outbound(&node, version).await.expect("settled"));
            assert_eq!(peer.info.version, version);
            let version_bytes = peer.greet().await;
            assert_agreed(&node, &mut peer, version_bytes).await;
            drop(peer);
            while node.rpc("getconnectioncount", &[]) != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, test).await.expect("it hangs");
}

#[tokio::test]
async fn core_is_spoken_with_by_both_versions_when_it_connects() {
    let Some(program) = bitcoind::program() else { return };
    let node = Bitcoind::start(&program, &[]);
    let test = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("bound").to_string();
        for (core_tries_v2, accept_v2) in [("true", true), ("false", true), ("false", false), ("true", false)] {
            node.rpc("addnode", &[&address, "onetry", core_tries_v2]);
            let mut settled = inbound(&listener, accept_v2).await.expect("settled");
            if core_tries_v2 == "true" && !accept_v2 {
                // It is told apart by its first message only, and comes again with v1.
                assert!(matches!(settled.0.read().await, Err(TransportError::WrongMagic(_))));
                drop(settled);
                settled = inbound(&listener, accept_v2).await.expect("settled");
            }
            let mut peer = Peer::new(settled);
            let is_v2 = core_tries_v2 == "true" && accept_v2;
            assert_eq!(peer.info.version == TransportVersion::V2, is_v2, "{core_tries_v2} {accept_v2}");
            let version_bytes = peer.greet().await;
            assert_agreed(&node, &mut peer, version_bytes).await;
            drop(peer);
            while node.rpc("getconnectioncount", &[]) != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, test).await.expect("it hangs");
}

#[tokio::test]
async fn a_core_that_only_knows_v1_is_told_from_one_that_fails() {
    let Some(program) = bitcoind::program() else { return };
    let node = Bitcoind::start(&program, &["-v2transport=0"]);
    let test = async {
        let result = outbound(&node, TransportVersion::V2).await.map(drop);
        assert!(matches!(result, Err(TransportError::RetryV1)), "{result:?}");
        Peer::new(outbound(&node, TransportVersion::V1).await.expect("settled")).greet().await;
    };
    tokio::time::timeout(PATIENCE, test).await.expect("it hangs");
}

#[tokio::test]
async fn headers_and_blocks_of_core_are_read_and_it_reads_ours() {
    let Some(program) = bitcoind::program() else { return };
    let node = Bitcoind::start(&program, &[]);
    let without_blocks = Bitcoind::start(&program, &[]);
    node.rpc("generatetodescriptor", &["101", "raw(51)"]);
    let test = async {
        let mut peer = Peer::new(outbound(&node, TransportVersion::V2).await.expect("settled"));
        peer.greet().await;
        let genesis = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
        let message = GetHeadersMessage::new(vec![genesis], BlockHash::all_zeros());
        peer.send(&encode(&NetworkMessage::GetHeaders(message))).await;
        let headers = peer
            .until(|message| match message {
                NetworkMessage::Headers(headers) if !headers.is_empty() => Some(headers.clone()),
                _ => None,
            })
            .await;
        assert_eq!(headers.len(), 101);
        let tip = headers[100].block_hash();
        assert_eq!(node.rpc("getbestblockhash", &[]), tip.to_string());

        peer.send(&encode(&NetworkMessage::SendCmpct(SendCmpct { send_compact: false, version: 2 }))).await;
        let wanted = vec![Inventory::WitnessBlock(tip), Inventory::Block(tip), Inventory::CompactBlock(tip)];
        peer.send(&encode(&NetworkMessage::GetData(wanted))).await;
        let find_block = |message: &NetworkMessage| match message {
            NetworkMessage::Block(block) => Some(block.clone()),
            _ => None,
        };
        let block = peer.until(find_block).await;
        assert_eq!(block.block_hash(), tip);
        let stripped = peer.until(find_block).await;
        assert_eq!(Frame::block_without_witness(&block), encode(&NetworkMessage::Block(stripped)));
        let compact = peer
            .until(|message| match message {
                NetworkMessage::CmpctBlock(compact) => Some(compact.compact_block.header.block_hash()),
                _ => None,
            })
            .await;
        assert_eq!(compact, tip);

        // The node without blocks takes one from us, in the bytes that the other gave.
        peer.send(&encode(&NetworkMessage::GetData(vec![Inventory::WitnessBlock(headers[0].block_hash())]))).await;
        let first = peer.until(find_block).await;
        let mut other = Peer::new(outbound(&without_blocks, TransportVersion::V2).await.expect("settled"));
        other.greet().await;
        other.send(&Frame::block(bitcoin::consensus::serialize(&first))).await;
        other.ping(9).await;
        assert_eq!(without_blocks.rpc("getbestblockhash", &[]), first.block_hash().to_string());
    };
    tokio::time::timeout(PATIENCE, test).await.expect("it hangs");
}
