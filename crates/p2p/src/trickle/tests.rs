//! Announcements against a mempool that is a list.

use super::*;
use crate::limits::MAX_PEER_TX_ANNOUNCEMENTS;
use bitcoin::hashes::Hash;
use rand::{SeedableRng, rngs::StdRng};

/// The best first.
struct Mempool(Vec<RelayInfo>);

impl RelayMempool for Mempool {
    fn sequence(&self) -> u64 {
        1 + self.0.len() as u64
    }
    fn relay_info(&self, wtxid: &Wtxid) -> Option<RelayInfo> {
        self.0.iter().find(|info| info.wtxid == *wtxid).copied()
    }
    fn sort_for_announcement(&self, wtxids: &mut Vec<Wtxid>) {
        let here: Vec<Wtxid> = self.0.iter().map(|info| info.wtxid).filter(|wtxid| wtxids.contains(wtxid)).collect();
        *wtxids = here;
    }
    fn all(&self) -> Vec<RelayInfo> {
        self.0.clone()
    }
}

fn bytes(n: usize, last: u8) -> [u8; 32] {
    let mut bytes = [last; 32];
    // Not in the order of the mempool.
    bytes[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes
}

fn info(n: usize) -> RelayInfo {
    let (txid, wtxid) = (Txid::from_byte_array(bytes(n, 1)), Wtxid::from_byte_array(bytes(n, 2)));
    RelayInfo { txid, wtxid, fee: 1000, vsize: 100 }
}

fn mempool(size: usize) -> Mempool {
    Mempool((0..size).map(info).collect())
}

const OUTBOUND: RelayPeer = RelayPeer { wtxid_relay: true, inbound: None, noban: false, relay_txs: true };

/// A peer, a clock that goes on by a minute with every announcement, and what they need.
struct Net {
    relay: TxRelay,
    mempool: Mempool,
    timers: InboundTimers,
    rng: StdRng,
    now: Time,
}

impl Net {
    /// A peer to which all of a mempool is to be announced.
    fn new(peer: RelayPeer, size: usize) -> Self {
        let mut net = Self {
            relay: TxRelay::new(peer, 1),
            mempool: mempool(size),
            timers: InboundTimers::default(),
            rng: StdRng::seed_from_u64(1),
            now: Duration::from_secs(1000),
        };
        assert!(net.announce().is_empty());
        net.queue();
        net
    }

    fn queue(&mut self) {
        for info in &self.mempool.0 {
            self.relay.initiate_tx_broadcast(&info.txid, &info.wtxid);
        }
    }

    fn announce(&mut self) -> Vec<GenTxid> {
        self.now += Duration::from_secs(60);
        self.relay.announcements(self.now, &self.mempool, &mut self.timers, &mut self.rng)
    }
}

fn wtxids(numbers: impl IntoIterator<Item = usize>) -> Vec<GenTxid> {
    numbers.into_iter().map(|n| GenTxid::Wtxid(info(n).wtxid)).collect()
}

#[test]
fn the_best_goes_first_by_the_id_that_the_peer_uses_and_once() {
    for wtxid_relay in [true, false] {
        let mut net = Net::new(RelayPeer { wtxid_relay, ..OUTBOUND }, 20);
        let id = |n| if wtxid_relay { GenTxid::Wtxid(info(n).wtxid) } else { GenTxid::Txid(info(n).txid) };
        assert_eq!(net.announce(), (0..20).map(id).collect::<Vec<_>>());
        net.queue();
        assert_eq!(net.relay.inv_to_send(), 0);
        assert!(net.announce().is_empty());
    }
}

/// One more than the target waits; with each thousand that wait five more go, and never more than the most.
#[test]
fn no_more_is_announced_at_once_than_the_network_carries() {
    for (waiting, expected) in
        [(INVENTORY_BROADCAST_TARGET, 70), (INVENTORY_BROADCAST_TARGET + 1, 70), (999, 70), (1000, 75), (2500, 80)]
    {
        let mut net = Net::new(OUTBOUND, waiting);
        assert_eq!(net.announce(), wtxids(0..expected), "{waiting}");
        assert_eq!(net.relay.inv_to_send(), waiting - expected);
        assert_eq!(net.announce().first(), wtxids([expected]).first().filter(|_| waiting > expected));
    }
    let mut net = Net::new(OUTBOUND, 0);
    // So many of which the first is there: the others would not be counted.
    (0..187_000).for_each(|n| net.relay.initiate_tx_broadcast(&info(n).txid, &info(n).wtxid));
    net.mempool = mempool(INVENTORY_BROADCAST_MAX + 1);
    assert_eq!(net.announce().len(), INVENTORY_BROADCAST_MAX);
    const { assert!(INVENTORY_BROADCAST_MAX <= MAX_PEER_TX_ANNOUNCEMENTS) };
}

#[test]
fn what_the_peer_knows_or_the_mempool_lost_or_pays_too_little_is_passed_over() {
    let mut net = Net::new(OUTBOUND, 75);
    net.relay.add_known_tx(&GenTxid::Wtxid(info(3).wtxid).to_hash());
    net.mempool.0.remove(5);
    net.mempool.0[0].fee = 999;
    net.relay.set_fee_filter(10_000);
    let expected = (0..75).filter(|n| ![0, 3, 5].contains(n)).take(70);
    assert_eq!(net.announce(), wtxids(expected));
    // It is not announced later either.
    net.announce();
    assert_eq!(net.relay.inv_to_send(), 0);
}

#[test]
fn a_fee_filter_is_an_amount_of_money_and_its_fee_is_rounded_up() {
    let mut relay = TxRelay::new(OUTBOUND, 1);
    for (told, kept) in
        [(1001, 1001), (-1, 1001), (MAX_MONEY as i64 + 1, 1001), (MAX_MONEY as i64, MAX_MONEY), (1001, 1001)]
    {
        relay.set_fee_filter(told);
        assert_eq!(relay.fee_filter_received(), kept, "{told}");
    }
    let pays = |fee| RelayInfo { fee, vsize: 141, ..info(1) };
    assert!(relay.pays_enough(&pays(142)) && !relay.pays_enough(&pays(141)));
}

#[test]
fn nothing_is_gathered_before_the_first_time_to_announce() {
    let mut net = Net::new(OUTBOUND, 3);
    net.relay = TxRelay::new(OUTBOUND, 1);
    net.queue();
    assert!(net.announce().is_empty());
    net.queue();
    assert_eq!(net.announce().len(), 3);
}

#[test]
fn a_peer_that_wants_no_transactions_hears_none() {
    let mut net = Net::new(RelayPeer { relay_txs: false, ..OUTBOUND }, 3);
    assert_eq!(net.relay.inv_to_send(), 3);
    assert!(net.announce().is_empty());
    assert_eq!(net.relay.inv_to_send(), 0);
}

#[test]
fn the_whole_mempool_is_announced_on_request() {
    let mut net = Net::new(OUTBOUND, 500);
    net.relay.set_fee_filter(10_000);
    net.mempool.0[7].fee = 999;
    net.relay.request_mempool();
    assert_eq!(net.announce(), wtxids((0..500).filter(|n| *n != 7)));
    assert_eq!(net.relay.inv_to_send(), 0);
    assert!(net.announce().is_empty());
}

#[test]
fn a_peer_may_fetch_what_came_before_it_was_announced_to() {
    let mut net = Net::new(OUTBOUND, 0);
    assert!(net.relay.may_fetch(0) && !net.relay.may_fetch(1));
    net.mempool = mempool(3);
    assert!(!net.relay.may_fetch(1));
    net.announce();
    assert_eq!(net.relay.last_inv_sequence(), 4);
    assert!(net.relay.may_fetch(3) && !net.relay.may_fetch(4));
}

/// When something is announced, of a second each.
fn times(peer: RelayPeer, timers: &mut InboundTimers, rng: &mut StdRng, seconds: u64) -> Vec<Time> {
    let mut relay = TxRelay::new(peer, 1);
    let mut changed = Vec::new();
    for at in 1..seconds * 10 {
        let before = relay.next_inv_send_time();
        relay.announcements(Duration::from_millis(at * 100), &mempool(0), timers, rng);
        if relay.next_inv_send_time() != before {
            changed.push(relay.next_inv_send_time());
        }
    }
    changed
}

#[test]
fn outbound_peers_hear_every_two_seconds_and_inbound_ones_every_five_on_average() {
    let mut rng = StdRng::seed_from_u64(1);
    for (inbound, mean) in [(None, 2.0), (Some(7), 5.0)] {
        let heard = times(RelayPeer { inbound, ..OUTBOUND }, &mut InboundTimers::default(), &mut rng, 50_000);
        let measured = 50_000.0 / heard.len() as f64;
        // And half of a tenth of a second, at which it is polled.
        assert!((measured - mean - 0.05).abs() < 0.15, "{measured}");
    }
}

#[test]
fn inbound_peers_of_a_network_hear_at_the_same_time() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut timers = InboundTimers::default();
    let at = Duration::from_secs;
    let first = timers.next_inv_to_inbounds(at(100), 1, &mut rng);
    assert_eq!(timers.next_inv_to_inbounds(at(100), 1, &mut rng), first);
    assert_eq!(timers.next_inv_to_inbounds(first, 1, &mut rng), first);
    assert_ne!(timers.next_inv_to_inbounds(at(100), 2, &mut rng), first);
    assert!(timers.next_inv_to_inbounds(first + at(1), 1, &mut rng) > first + at(1));
}

#[test]
fn a_peer_with_noban_hears_at_once() {
    for (noban, heard) in [(true, 3), (false, 0)] {
        let mut net = Net::new(RelayPeer { noban, ..OUTBOUND }, 3);
        let now = net.relay.next_inv_send_time();
        assert_eq!(net.relay.announcements(now, &net.mempool, &mut net.timers, &mut net.rng).len(), heard);
    }
}
