//! Frames that are none, or hold nonsense.

use super::{Arena, USUAL};
use crate::peer::{Peer, raw_frame};
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;

/// A header that promises so many bytes.
fn promise(command: &[u8], length: u32) -> Vec<u8> {
    let mut header = raw_frame(command, &[]);
    header[16..20].copy_from_slice(&length.to_le_bytes());
    header
}

#[test]
fn frames() {
    let arena = Arena::new(10);
    arena.case("a message longer than any may be", USUAL, |arena| {
        for length in [4_000_001, u32::MAX] {
            let mut peer = Peer::shake(&arena.node);
            peer.send_bytes(&promise(b"block", length));
            peer.hung_up();
            let mut peer = Peer::connect(&arena.node);
            peer.send_bytes(&promise(b"version", length));
            peer.hung_up();
        }
    });
    arena.case("long messages begun and never finished, by thirty peers", USUAL, |arena| {
        let mut peers: Vec<Peer> = (0..30).map(|_| Peer::shake(&arena.node)).collect();
        for peer in &mut peers {
            peer.send_bytes(&promise(b"block", 4_000_000));
            peer.send_bytes(&[0; 10]);
        }
        // They are heard of as what they are: peers that say nothing.
        Peer::shake(&arena.node);
        drop(peers);
    });
    arena.case("another network's magic", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut bytes = raw_frame(b"ping", &[0; 8]);
        bytes[..4].copy_from_slice(&Magic::BITCOIN.to_bytes());
        peer.send_bytes(&bytes);
        peer.hung_up();
    });
    arena.case("a wrong checksum", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut bytes = raw_frame(b"ping", &7u64.to_le_bytes());
        bytes[20] ^= 1;
        peer.send_bytes(&bytes);
        let answers = peer.synced();
        assert!(!answers.contains(&NetworkMessage::Pong(7)), "it is passed over: {answers:?}");
    });
    arena.case("a command that is no text", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for command in [&b"ping\0x"[..], b"\xff\xfeping", b"pi\x01ng", b""] {
            peer.send_bytes(&raw_frame(command, &7u64.to_le_bytes()));
        }
        let answers = peer.synced();
        assert!(!answers.contains(&NetworkMessage::Pong(7)), "it is passed over: {answers:?}");
    });
    arena.case("twenty thousand unknown commands", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for number in 0..20_000 {
            peer.send_bytes(&raw_frame(format!("x{number}").as_bytes(), &[0; 500]));
        }
        peer.synced();
    });
    arena.case("unknown commands of the largest size", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let bytes = raw_frame(b"nonsense", &vec![7; 4_000_000]);
        // A peer of which nothing large was asked may be hung up on.
        let heard = (0..20).take_while(|_| peer.send_bytes(&bytes)).count();
        if heard == 20 {
            peer.send(NetworkMessage::Ping(1));
            let _ = peer.receive();
        }
    });
    arena.case("many messages that cannot be read", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for _ in 0..500 {
            // A locator, cut off; its promise of hashes is in bounds.
            peer.send_bytes(&raw_frame(b"getdata", &[&[0xfd, 0x10, 0x27][..], &[7; 20_000]].concat()));
            let mut bytes = raw_frame(b"inv", &[7; 20_000]);
            bytes[20] ^= 1;
            peer.send_bytes(&bytes);
        }
        peer.synced();
    });
    arena.case("payloads that are cut off or none", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let commands =
            ["inv", "getdata", "block", "tx", "headers", "cmpctblock", "blocktxn", "getblocktxn", "addr", "addrv2"];
        for command in commands {
            for payload in [&[][..], &[0xfd], &[0xff; 9], &[2, 1, 0, 0, 0, 5], &[0xff; 80]] {
                peer.send_bytes(&raw_frame(command.as_bytes(), payload));
            }
        }
        // Bitcoin Core passes over what it cannot read; hanging up on a list that claims too much is its right too.
        peer.send(NetworkMessage::Ping(1));
        let _ = peer.receive();
    });
}
