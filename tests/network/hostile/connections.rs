//! Connections: too many, silent, or not read.

use super::{Arena, USUAL};
use crate::harness::{eventually, signal};
use crate::peer::{Peer, frame, genesis, version};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Bytes pushed at a node that are never followed by a read.
const PUSHED: usize = 64 << 20;

/// Says the same until the node takes no more, or [`PUSHED`] bytes are said.
fn push_unread(arena: &Arena, message: NetworkMessage) {
    let mut peer = Peer::shake(&arena.node);
    let one = frame(message);
    let many = one.repeat((1 << 20) / one.len() + 1);
    let mut pushed = 0;
    while pushed < PUSHED {
        // A node that hears no more is what this looks for; a slow one is no failure either.
        let taken = peer.push(&many, Duration::from_secs(1));
        pushed += taken;
        if taken < many.len() {
            break;
        }
    }
    eprintln!("      {} KiB were taken unread", pushed >> 10);
}

#[test]
fn unread() {
    let arena = Arena::new(600);
    arena.case("blocks asked for and not read", USUAL, |arena| {
        let hashes: Vec<BlockHash> = (1..=500).map(|height| arena.node.hash_at(height).parse().unwrap()).collect();
        let items = hashes.iter().cycle().take(50_000).map(|&hash| Inventory::WitnessBlock(hash)).collect();
        push_unread(arena, NetworkMessage::GetData(items));
    });
    arena.case("headers asked for and not read", USUAL, |arena| {
        let question = GetHeadersMessage::new(vec![genesis().block_hash()], BlockHash::all_zeros());
        push_unread(arena, NetworkMessage::GetHeaders(question));
    });
    arena.case("pings whose answers are not read", USUAL, |arena| {
        push_unread(arena, NetworkMessage::Ping(1));
    });
    arena.case("unknown transactions asked for and not read", USUAL, |arena| {
        let items = (0..50_000).map(|_| Inventory::WTx(bitcoin::Wtxid::from_byte_array([7; 32]))).collect();
        push_unread(arena, NetworkMessage::GetData(items));
    });
}

#[test]
fn many() {
    let arena = Arena::new(10);
    arena.case("sixty connections that say nothing", USUAL, |arena| {
        let silent: Vec<Peer> = (0..60).map(|_| Peer::connect(&arena.node)).collect();
        Peer::shake(&arena.node);
        drop(silent);
    });
    arena.case("sixty connections that stop within the handshake", USUAL, |arena| {
        let begun: Vec<Peer> = (0..60)
            .map(|number| {
                let mut peer = Peer::connect(&arena.node);
                peer.send(NetworkMessage::Version(version(number)));
                peer
            })
            .collect();
        Peer::shake(&arena.node);
        drop(begun);
    });
    arena.case("four hundred connections at once", 2 * USUAL, |arena| {
        let hello = frame(NetworkMessage::Version(version(1)));
        let flood: Vec<TcpStream> = (0..400)
            .filter_map(|_| {
                let mut stream = TcpStream::connect(arena.node.p2p).ok()?;
                // Those that are turned away may not take it.
                let _ = stream.write_all(&hello).and_then(|()| stream.write_all(&frame(NetworkMessage::Verack)));
                Some(stream)
            })
            .collect();
        let count = || arena.node.rpc("getconnectioncount", json!([])).as_u64().unwrap();
        assert!(count() <= 114, "{} connections", count());
        arena.assert_serving();
        drop(flood);
        eventually("places are free again", || (count() < 10).then_some(()));
        Peer::shake(&arena.node);
    });
    arena.case("a thousand connections, one after the other", USUAL, |arena| {
        let before = arena.files();
        for number in 0..1000u64 {
            let mut peer = Peer::connect(&arena.node);
            if number % 2 == 0 {
                peer.send(NetworkMessage::Version(version(number)));
            }
        }
        eventually("no file is left open", || (arena.files() <= before).then_some(()));
    });
    arena.case("an honest peer that pauses for a while", USUAL, |arena| {
        signal(arena.honest.pid(), "STOP");
        let mined = arena.node.mine(20);
        signal(arena.honest.pid(), "CONT");
        crate::nodes::has_tip(&arena.honest, &mined[19]);
    });
}

impl Arena {
    /// Files that the node has open.
    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.node.pid())).expect("it runs").count()
    }
}
