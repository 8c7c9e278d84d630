//! A peer that says what a test tells it to, honest or not: v1 frames over a socket.

use crate::harness::{PATIENCE, Server};
use bitcoin::Network;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a message's header: magic, command, length, checksum.
const HEADER: usize = 24;

/// Our end of a connection with a node.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A `version` that says nothing remarkable.
pub(crate) fn version(nonce: u64) -> VersionMessage {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    VersionMessage {
        version: 70016,
        services,
        timestamp: i64::try_from(now()).expect("this side of 2262"),
        receiver: Address::new(&nowhere, ServiceFlags::NONE),
        sender: Address::new(&nowhere, services),
        nonce,
        user_agent: "/test:1/".to_owned(),
        start_height: 0,
        relay: true,
    }
}

/// A message's bytes.
pub(crate) fn frame(message: NetworkMessage) -> Vec<u8> {
    serialize(&RawNetworkMessage::new(Magic::REGTEST, message))
}

/// The bytes of a message of any command and payload.
pub(crate) fn raw_frame(command: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut name = [0; 12];
    name[..command.len()].copy_from_slice(command);
    let mut bytes = Magic::REGTEST.to_bytes().to_vec();
    bytes.extend(name);
    bytes.extend(u32::try_from(payload.len()).expect("a test's payload").to_le_bytes());
    bytes.extend(&sha256d::Hash::hash(payload)[..4]);
    bytes.extend(payload);
    bytes
}

/// Finds a nonce with which a header has its proof of work, or has not.
pub(crate) fn grind(header: &mut Header, valid: bool) {
    while header.validate_pow(header.target()).is_ok() != valid {
        header.nonce = header.nonce.wrapping_add(1);
    }
}

/// Headers on top of one, a second apart, each with its proof of work. `tag` tells branches apart.
pub(crate) fn headers_on(parent: &Header, count: usize, tag: u8) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::with_capacity(count);
    for _ in 0..count {
        let last = headers.last().unwrap_or(parent);
        let mut next = Header {
            prev_blockhash: last.block_hash(),
            time: last.time + 1,
            merkle_root: bitcoin::TxMerkleNode::from_byte_array([tag; 32]),
            nonce: 0,
            ..*parent
        };
        next.version = bitcoin::block::Version::from_consensus(0x2000_0000);
        grind(&mut next, true);
        headers.push(next);
    }
    headers
}

/// The header of regtest's first block.
pub(crate) fn genesis() -> Header {
    bitcoin::constants::genesis_block(Network::Regtest).header
}

impl Peer {
    /// A connection on which nothing was said.
    pub(crate) fn connect(node: &Server) -> Peer {
        Peer::on(TcpStream::connect(node.p2p).expect("the node listens"))
    }

    /// The next connection that a node makes to us and speaks v1 on: it does so where we hang up on an encrypted one.
    pub(crate) fn accept(listener: &TcpListener) -> Peer {
        loop {
            let peer = Peer::on(listener.accept().expect("the node connects").0);
            let mut magic = [0; 4];
            if peer.stream.peek(&mut magic).is_ok_and(|count| count == 4) && magic == Magic::REGTEST.to_bytes() {
                return peer;
            }
        }
    }

    fn on(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Peer { stream }
    }

    /// A connection with the handshake done.
    pub(crate) fn shake(node: &Server) -> Peer {
        let mut peer = Peer::connect(node);
        peer.send(NetworkMessage::Version(version(rand::random())));
        peer.send(NetworkMessage::WtxidRelay);
        peer.send(NetworkMessage::SendAddrV2);
        peer.until(|message| matches!(message, NetworkMessage::Verack).then_some(()));
        peer.send(NetworkMessage::Verack);
        peer.synced();
        peer
    }

    /// [`Peer::shake`], and compact blocks of version 2 are understood.
    pub(crate) fn shake_compact(node: &Server) -> Peer {
        let mut peer = Peer::shake(node);
        peer.send(NetworkMessage::SendCmpct(bitcoin::p2p::message_compact_blocks::SendCmpct {
            send_compact: false,
            version: 2,
        }));
        peer.synced();
        peer
    }

    /// Sends a message. It is no failure if the node has hung up: whether it should is asked elsewhere.
    pub(crate) fn send(&mut self, message: NetworkMessage) -> bool {
        self.send_bytes(&frame(message))
    }

    /// Sends bytes.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes as far as the node takes them now; how many it took before it took no more for this long.
    pub(crate) fn push(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a socket");
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count @ 1..) => sent += count,
                _ => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        sent
    }

    /// The next message; `None` when the node has hung up.
    pub(crate) fn receive(&mut self) -> Option<NetworkMessage> {
        let mut bytes = vec![0; HEADER];
        self.read(&mut bytes)?;
        let length = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")) as usize;
        bytes.resize(HEADER + length, 0);
        self.read(&mut bytes[HEADER..])?;
        let message: RawNetworkMessage = deserialize(&bytes).expect("the node speaks the protocol");
        let message = message.into_payload();
        if let NetworkMessage::Ping(nonce) = message {
            self.send(NetworkMessage::Pong(nonce));
        }
        Some(message)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) => {
                let waited = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!waited, "gave up waiting for a message");
                None
            }
        }
    }

    /// What the first message gives that gives something.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&NetworkMessage) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let message = self.receive().expect("the node hung up");
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
        panic!("gave up waiting for a message");
    }

    /// Waits until the node has heard all that was said before; what it answered to that.
    #[track_caller]
    pub(crate) fn synced(&mut self) -> Vec<NetworkMessage> {
        let nonce = rand::random();
        self.send(NetworkMessage::Ping(nonce));
        let mut said = Vec::new();
        self.until(|message| {
            said.push(message.clone());
            (*message == NetworkMessage::Pong(nonce)).then_some(())
        });
        said.pop();
        said
    }

    /// Says nothing more, which the node can see.
    pub(crate) fn shut_down_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the node hangs up; what it said before.
    pub(crate) fn hung_up(&mut self) -> Vec<NetworkMessage> {
        let start = Instant::now();
        let mut said = Vec::new();
        while let Some(message) = self.receive() {
            assert!(start.elapsed() < PATIENCE, "it does not hang up");
            said.push(message);
        }
        said
    }
}
