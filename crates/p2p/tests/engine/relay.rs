//! Transactions and addresses that are told and asked for.

use crate::sim::Sim;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2Message, Address};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Amount, Wtxid};
use cairn_chain::testing;
use cairn_p2p::address::{AddressRecord, Host, NetAddress};
use cairn_p2p::limits::*;
use cairn_p2p::types::{ConnectionKind, PeerId};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_question_for_transactions_has_a_thousand_entries() {
    let mut sim = Sim::new(1, 1);
    let peer = sim.meet(0, ConnectionKind::Manual);
    sim.hear(0, peer);
    let count = 2 * MAX_GETDATA_SIZE as u32 + 1;
    let nobodys = |n: u32| Wtxid::from_byte_array(std::array::from_fn(|at| n.to_le_bytes()[at % 4]));
    sim.say(0, peer, NetworkMessage::Inv((0..count).map(|n| Inventory::WTx(nobodys(n))).collect()));
    let questions: Vec<usize> = sim
        .hear(0, peer)
        .into_iter()
        .filter_map(|message| match message {
            NetworkMessage::GetData(items) => Some(items.len()),
            _ => None,
        })
        .collect();
    assert_eq!(questions, [MAX_GETDATA_SIZE, MAX_GETDATA_SIZE, 1]);
}

/// Transactions that a peer hears of.
fn transactions_told(heard: Vec<NetworkMessage>) -> usize {
    let count = |message| match message {
        NetworkMessage::Inv(items) => items.iter().filter(|item| matches!(item, Inventory::WTx(_))).count(),
        _ => 0,
    };
    heard.into_iter().map(count).sum()
}

#[test]
fn a_transaction_that_nobody_asked_for_is_told_again_after_ten_minutes_and_some() {
    let mut sim = Sim::new(1, 2);
    let start = sim.now();
    sim.mine(0, 101);
    let first = sim.nodes[0].host.chain.entry_at(1).unwrap();
    let reward = testing::reward(&sim.nodes[0].host.chain.block(&first.hash).unwrap().unwrap());
    let tx = testing::spend(&[reward], &[testing::subsidy(1) - Amount::from_sat(10_000)]);
    let txid = tx.compute_txid();
    sim.nodes[0].host.mempool.accept(tx, start.as_secs()).unwrap();
    sim.nodes[0].host.mempool.add_unbroadcast(txid);
    // Each hears of it once, and only of what is told while it is there.
    let mut told_at = Vec::new();
    for _ in 0..3 {
        let peer = sim.meet(0, ConnectionKind::Manual);
        while transactions_told(sim.pass_with(0, peer, 1)) == 0 {
            assert!(sim.now() < start + Duration::from_secs(3 * 3600), "told {told_at:?}");
        }
        told_at.push(sim.now());
        sim.leave(0, peer);
    }
    // What is due is told within some seconds, which are there by chance.
    let trickle = Duration::from_secs(60);
    assert!((UNBROADCAST_INTERVAL..UNBROADCAST_INTERVAL + trickle).contains(&(told_at[0] - start)), "{told_at:?}");
    for pair in told_at.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= UNBROADCAST_INTERVAL - trickle, "{gap:?}");
        assert!(gap < UNBROADCAST_INTERVAL + 10 * UNBROADCAST_SPREAD, "{gap:?}");
    }
    // Once a peer has asked for it, it is told no more.
    let peer = sim.meet(0, ConnectionKind::Manual);
    while transactions_told(sim.pass_with(0, peer, 1)) == 0 {}
    sim.say(0, peer, NetworkMessage::GetData(vec![Inventory::WitnessTransaction(txid)]));
    assert!(sim.nodes[0].host.mempool.unbroadcast().is_empty());
}

fn address(n: u32) -> SocketAddr {
    (Ipv4Addr::from(0x2000_0000 + n * 0x101), 8333).into()
}

/// So many addresses, seen a moment ago, after the first so many.
fn spam(sim: &Sim, first: u32, count: u32) -> NetworkMessage {
    let now = u32::try_from(sim.now().as_secs()).unwrap();
    let entry = |n| (now, Address::new(&address(n), ServiceFlags::NETWORK | ServiceFlags::WITNESS));
    NetworkMessage::Addr((first..first + count).map(entry).collect())
}

fn known(sim: &Sim) -> usize {
    sim.nodes[0].engine.book.addrman.size(None, None)
}

#[test]
fn of_two_hundred_thousand_addresses_one_is_looked_at_and_then_one_in_ten_seconds() {
    let mut sim = Sim::new(1, 3);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    for round in 0..200 {
        let message = spam(&sim, round * 1000, 1000);
        sim.say(0, peer, message);
    }
    let info = sim.info(0, peer);
    assert_eq!((info.addr_processed, info.addr_rate_limited, known(&sim)), (1, 199_999, 1));
    sim.pass(Duration::from_secs(100));
    let message = spam(&sim, 0, 1000);
    sim.say(0, peer, message);
    assert_eq!((sim.info(0, peer).addr_processed, sim.info(0, peer).addr_rate_limited), (11, 200_989));
    assert!(known(&sim) <= 11);
    assert!(!sim.is_gone(0, peer));
    let message = spam(&sim, 0, MAX_ADDR_TO_SEND as u32 + 1);
    sim.say(0, peer, message);
    assert!(sim.is_gone(0, peer), "1,001 are no message");
}

/// Addresses that a peer is told which asks for them.
fn told_addresses(sim: &mut Sim) -> usize {
    let peer: PeerId = sim.meet(0, ConnectionKind::Inbound);
    sim.say(0, peer, NetworkMessage::GetAddr);
    let mut told: Vec<AddrV2Message> = Vec::new();
    for _ in 0..600 {
        sim.pass(SECOND);
        for message in sim.hear(0, peer) {
            if let NetworkMessage::AddrV2(list) = message {
                assert!(list.len() <= MAX_ADDR_TO_SEND);
                told.extend(list);
            }
        }
    }
    told.len()
}

#[test]
fn a_peer_is_told_less_than_a_quarter_of_the_addresses_and_a_thousand_at_most() {
    for count in [1000, 40_000] {
        let mut sim = Sim::new(1, 4);
        let now = sim.now();
        for n in 0..count {
            let record = AddressRecord::new(NetAddress::from(address(n)), ServiceFlags::NETWORK, now);
            let source = Host::from(std::net::IpAddr::from(Ipv4Addr::from(0x3000_0000 + (n % 200) * 0x1_0000)));
            sim.nodes[0].engine.book.addrman.add(&[record], &source, Duration::ZERO, now);
        }
        let known = known(&sim);
        let most = (known * MAX_PCT_ADDR_TO_SEND / 100).min(MAX_ADDR_TO_SEND);
        assert!(known > 500 && (count == 1000) == (most < MAX_ADDR_TO_SEND), "{known} are known");
        let told = told_addresses(&mut sim);
        assert_eq!(told, most, "of {known}");
    }
}
