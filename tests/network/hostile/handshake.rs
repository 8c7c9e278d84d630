//! Handshakes out of order.

use super::{Arena, USUAL};
use crate::harness::free_port;
use crate::nodes::Node;
use crate::peer::{Peer, version};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use std::net::TcpListener;

/// What is said up to our `verack`.
fn introduced(arena: &Arena) -> Peer {
    let mut peer = Peer::connect(&arena.node);
    peer.send(NetworkMessage::Version(version(rand::random())));
    peer.until(|message| matches!(message, NetworkMessage::Verack).then_some(()));
    peer
}

#[test]
fn handshakes() {
    let arena = Arena::new(10);
    arena.case("a message before version", USUAL, |arena| {
        let mut peer = Peer::connect(&arena.node);
        for _ in 0..100 {
            peer.send(NetworkMessage::Ping(7));
            peer.send(NetworkMessage::GetAddr);
        }
        // It may take these bytes for those of an encrypted handshake (BIP 324), and waits for the rest of that.
        peer.shut_down_writing();
        let said = peer.hung_up();
        assert!(!said.contains(&NetworkMessage::Pong(7)), "nothing is answered: {said:?}");
    });
    arena.case("verack before version", USUAL, |arena| {
        let mut peer = Peer::connect(&arena.node);
        peer.send(NetworkMessage::Verack);
        peer.send(NetworkMessage::Ping(7));
        peer.shut_down_writing();
        assert!(!peer.hung_up().contains(&NetworkMessage::Pong(7)), "nothing is answered");
    });
    arena.case("two versions", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut second = version(1);
        second.user_agent = "/test:2/".to_owned();
        peer.send(NetworkMessage::Version(second));
        assert!(!peer.synced().iter().any(|said| matches!(said, NetworkMessage::Version(_))), "it is passed over");
        assert_eq!(arena.attackers(), 1, "the first one counts");
    });
    arena.case("verack twice", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Verack);
        peer.synced();
    });
    arena.case("questions without verack", USUAL, |arena| {
        let mut peer = introduced(arena);
        for _ in 0..10_000 {
            peer.send(NetworkMessage::Ping(7));
        }
        peer.send(NetworkMessage::Verack);
        assert!(!peer.synced().contains(&NetworkMessage::Pong(7)), "they are passed over");
    });
    for feature in [NetworkMessage::WtxidRelay, NetworkMessage::SendAddrV2] {
        arena.case(&format!("{} after verack", feature.cmd()), USUAL, |arena| {
            let mut peer = Peer::shake(&arena.node);
            peer.send(feature.clone());
            peer.hung_up();
        });
    }
    arena.case("a version of 2012", USUAL, |arena| {
        let mut peer = Peer::connect(&arena.node);
        let mut old = version(1);
        old.version = 31_799;
        peer.send(NetworkMessage::Version(old));
        peer.hung_up();
    });
    arena.case("a version full of extremes", USUAL, |arena| {
        let mut peer = Peer::connect(&arena.node);
        let mut strange = version(1);
        strange.version = u32::MAX >> 1;
        strange.services = ServiceFlags::from(u64::MAX);
        strange.timestamp = i64::MIN;
        strange.start_height = i32::MIN;
        strange.user_agent = "\u{1b}[2J\u{7}é".repeat(30);
        peer.send(NetworkMessage::Version(strange));
        peer.until(|message| matches!(message, NetworkMessage::Verack).then_some(()));
        peer.send(NetworkMessage::Verack);
        peer.synced();
        let shown = arena.node.peers().iter().map(|peer| peer["subver"].to_string()).collect::<String>();
        assert!(!shown.contains("u001b") && !shown.contains('\u{1b}'), "nothing reaches a terminal: {shown}");
    });
}

#[test]
fn a_connection_to_itself() {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let ours = listener.local_addr().unwrap().to_string();
    let arena = Arena::with(Node::start(&["--connect", &ours]), 10);
    let mut outbound = Peer::accept(&listener);
    let nonce = outbound.until(|message| match message {
        NetworkMessage::Version(version) => Some(version.nonce),
        _ => None,
    });
    arena.case("a version with the node's own nonce", USUAL, |arena| {
        let mut peer = Peer::connect(&arena.node);
        peer.send(NetworkMessage::Version(version(nonce)));
        peer.hung_up();
    });
}
