//! What peers have how much time for.

use crate::sim::Sim;
use crate::stranger::{chain_of, headers};
use bitcoin::p2p::message::NetworkMessage;
use cairn_p2p::limits::*;
use cairn_p2p::types::{ConnectionKind, PeerId};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn asks_for_headers(heard: &[NetworkMessage]) -> usize {
    heard.iter().filter(|message| matches!(message, NetworkMessage::GetHeaders(_))).count()
}

fn pings(sim: &mut Sim, peer: PeerId) -> Vec<u64> {
    let ping = |message| match message {
        NetworkMessage::Ping(nonce) => Some(nonce),
        _ => None,
    };
    sim.hear(0, peer).into_iter().filter_map(ping).collect()
}

#[test]
fn a_handshake_has_a_minute() {
    for kind in [ConnectionKind::Inbound, ConnectionKind::OutboundFullRelay] {
        let mut sim = Sim::new(1, 1);
        let peer = sim.connect_stranger(0, kind);
        sim.pass(HANDSHAKE_TIMEOUT);
        assert!(!sim.is_gone(0, peer));
        sim.pass(SECOND);
        assert!(sim.is_gone(0, peer));
    }
}

#[test]
fn a_ping_goes_every_two_minutes_and_has_twenty_for_its_answer() {
    let mut sim = Sim::new(1, 2);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    let first = pings(&mut sim, peer);
    assert_eq!(first.len(), 1, "at once");
    sim.say(0, peer, NetworkMessage::Pong(first[0]));
    sim.pass(PING_INTERVAL);
    assert_eq!(pings(&mut sim, peer), [0; 0]);
    sim.pass(SECOND);
    let second = pings(&mut sim, peer);
    assert_eq!(second.len(), 1);
    sim.say(0, peer, NetworkMessage::Pong(second[0] ^ 1));
    sim.pass(PING_TIMEOUT);
    assert!(!sim.is_gone(0, peer));
    assert_eq!(pings(&mut sim, peer), [0; 0], "one waits already");
    sim.pass(SECOND);
    assert!(sim.is_gone(0, peer));
}

#[test]
fn headers_are_not_asked_for_again_within_two_minutes() {
    let mut sim = Sim::new(1, 3);
    let unconnected = headers(&chain_of(2)[1..]);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    assert_eq!(asks_for_headers(&sim.hear(0, peer)), 1, "at first");
    sim.pass(HEADERS_RESPONSE_TIME);
    for _ in 0..5 {
        sim.say(0, peer, unconnected.clone());
    }
    assert_eq!(asks_for_headers(&sim.hear(0, peer)), 0);
    sim.pass(SECOND);
    for _ in 0..5 {
        sim.say(0, peer, unconnected.clone());
    }
    assert_eq!(asks_for_headers(&sim.hear(0, peer)), 1);
}

#[test]
fn the_first_headers_have_a_quarter_of_an_hour_and_a_millisecond_each() {
    let mut sim = Sim::new(1, 4);
    // So many block intervals since the genesis block, which is ten minutes old.
    let expected = 120_000;
    sim.pass(Duration::from_secs(600 * (expected - 1)));
    let [silent, other] = [(); 2].map(|()| sim.meet(0, ConnectionKind::OutboundFullRelay));
    assert_eq!([silent, other].map(|peer| asks_for_headers(&sim.hear(0, peer))), [1, 0], "one is asked");
    let expected = u32::try_from(expected).unwrap();
    sim.pass(HEADERS_DOWNLOAD_TIMEOUT_BASE + HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER * expected);
    assert!(!sim.is_gone(0, silent));
    assert_eq!(asks_for_headers(&sim.hear(0, other)), 0);
    sim.pass(SECOND);
    assert!(sim.is_gone(0, silent) && !sim.is_gone(0, other));
    sim.leave(0, silent);
    sim.pass(SECOND);
    assert_eq!(asks_for_headers(&sim.hear(0, other)), 1, "then the other");
}

#[test]
fn an_outbound_peer_has_twenty_minutes_to_catch_up_and_two_to_answer_for_it() {
    for kind in [ConnectionKind::OutboundFullRelay, ConnectionKind::BlockRelay, ConnectionKind::Manual] {
        let mut sim = Sim::new(1, 5);
        sim.mine(0, 10);
        let peer = sim.meet(0, kind);
        sim.pass_with(0, peer, 1);
        let heard = sim.pass_with(0, peer, CHAIN_SYNC_TIMEOUT.as_secs() - 1);
        assert_eq!(asks_for_headers(&heard), 0, "{}", kind.name());
        let heard = sim.pass_with(0, peer, 1);
        let may_go = kind != ConnectionKind::Manual;
        assert_eq!(asks_for_headers(&heard), usize::from(may_go), "{}: the last question", kind.name());
        sim.pass_with(0, peer, HEADERS_RESPONSE_TIME.as_secs());
        assert!(!sim.is_gone(0, peer), "{}", kind.name());
        sim.pass_with(0, peer, 1);
        assert_eq!(sim.is_gone(0, peer), may_go, "{}", kind.name());
    }
}

#[test]
fn another_peer_is_looked_for_after_three_intervals_without_a_block() {
    let mut sim = Sim::new(1, 6);
    let interval = Duration::from_secs(600);
    sim.pass(interval * STALE_TIP_INTERVALS);
    assert!(!sim.nodes[0].engine.wants_extra_outbound());
    sim.pass(SECOND);
    assert!(sim.nodes[0].engine.wants_extra_outbound());
    sim.mine(0, 1);
    assert!(!sim.nodes[0].engine.wants_extra_outbound(), "a block came");
}

#[test]
fn one_outbound_peer_too_many_is_kept_for_half_a_minute() {
    let mut sim = Sim::new(1, 7);
    let peer = sim.meet(0, ConnectionKind::OutboundFullRelay);
    sim.pass(MINIMUM_CONNECT_TIME - SECOND);
    assert_eq!(sim.nodes[0].engine.extra_outbound(), None);
    sim.pass(SECOND);
    assert_eq!(sim.nodes[0].engine.extra_outbound(), Some(peer));
}
