//! Headers that lead nowhere.

use super::{Arena, USUAL};
use crate::nodes::text;
use crate::peer::{Peer, genesis, grind, headers_on, now};
use bitcoin::CompactTarget;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::p2p::message::NetworkMessage;
use serde_json::json;

impl Arena {
    /// Header of the node's tip.
    fn tip_header(&self) -> Header {
        let raw = self.node.rpc("getblockheader", json!([self.node.tip(), false]));
        deserialize_hex(&text(&raw)).expect("a header")
    }

    /// Nothing but the active chain is kept.
    fn assert_no_branch(&self) {
        let tips = self.node.rpc("getchaintips", json!([]));
        assert_eq!(tips.as_array().map(Vec::len), Some(1), "{tips}");
    }
}

#[test]
fn headers() {
    let arena = Arena::new(10);
    arena.case("2,001 headers", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Headers(headers_on(&arena.tip_header(), 2001, 1)));
        peer.hung_up();
        arena.assert_no_branch();
    });
    arena.case("headers that do not follow each other", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut headers = headers_on(&arena.tip_header(), 5, 1);
        headers.remove(2);
        peer.send(NetworkMessage::Headers(headers));
        peer.hung_up();
        arena.assert_no_branch();
    });
    arena.case("a header without its proof of work", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut headers = headers_on(&arena.tip_header(), 5, 1);
        grind(&mut headers[4], false);
        peer.send(NetworkMessage::Headers(headers));
        peer.hung_up();
        arena.assert_no_branch();
    });
    arena.case("a header with a target above the limit", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut headers = headers_on(&arena.tip_header(), 1, 1);
        headers[0].bits = CompactTarget::from_consensus(0x2100_ffff);
        peer.send(NetworkMessage::Headers(headers));
        peer.hung_up();
        arena.assert_no_branch();
    });
    arena.case("a header that is not later than those before it", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut headers = headers_on(&arena.tip_header(), 1, 1);
        headers[0].time -= 3600;
        grind(&mut headers[0], true);
        peer.send(NetworkMessage::Headers(headers));
        peer.hung_up();
        arena.assert_no_branch();
    });
    arena.case("a header of three hours ahead", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut headers = headers_on(&arena.tip_header(), 1, 1);
        headers[0].time = u32::try_from(now()).unwrap() + 3 * 3600;
        grind(&mut headers[0], true);
        peer.send(NetworkMessage::Headers(headers));
        peer.synced();
        arena.assert_no_branch();
    });
    arena.case("five thousand headers that connect with nothing", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let nowhere = headers_on(&genesis(), 1, 9)[0];
        let mut questions = 0;
        for tag in 0..50 {
            let loose = headers_on(&nowhere, 1, tag);
            for _ in 0..100 {
                peer.send(NetworkMessage::Headers(loose.clone()));
            }
            questions += peer.synced().iter().filter(|said| matches!(said, NetworkMessage::GetHeaders(_))).count();
        }
        assert!(questions <= 2, "not a question each: {questions}");
        arena.assert_no_branch();
    });
    arena.case("the same headers five hundred times", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let headers = headers_on(&genesis(), 1, 3);
        for _ in 0..500 {
            peer.send(NetworkMessage::Headers(headers.clone()));
        }
        peer.synced();
    });
}

#[test]
fn headers_of_little_work() {
    // More than a message of headers, and the 144 blocks that a branch may lag behind.
    let arena = Arena::new(2400);
    arena.case("2,000 headers at a time, of fifty chains with little work", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for tag in 0..50 {
            peer.send(NetworkMessage::Headers(headers_on(&genesis(), 2000, tag)));
            peer.synced();
        }
        arena.assert_no_branch();
    });
    arena.case("a chain whose proof of work is shown, and another one given for it", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let (shown, given) = (headers_on(&genesis(), 4000, 1), headers_on(&genesis(), 4000, 2));
        peer.send(NetworkMessage::Headers(shown[..2000].to_vec()));
        let locator = |peer: &mut Peer| {
            peer.until(|said| match said {
                NetworkMessage::GetHeaders(question) => Some(question.locator_hashes[0]),
                _ => None,
            })
        };
        // Its question is about what it was given, until that has enough work; then it begins from below.
        while locator(&mut peer) != shown[1999].block_hash() {}
        peer.send(NetworkMessage::Headers(shown[2000..].to_vec()));
        while locator(&mut peer) != genesis().block_hash() {}
        peer.send(NetworkMessage::Headers(given[..2000].to_vec()));
        peer.synced();
        arena.assert_no_branch();
    });
    arena.case("a short chain with little work", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for tag in 0..100 {
            peer.send(NetworkMessage::Headers(headers_on(&genesis(), 10, tag)));
        }
        peer.synced();
        arena.assert_no_branch();
    });
}
