//! Which inbound peer is let go when all places are taken.
//!
//! It is Core's `SelectNodeToEvict`. Peers are kept that an attacker would find it hard to be: of a group that the
//! attacker cannot foresee, close by, useful, or here for long. Of the rest goes the youngest of the group with the most.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::Net;
use crate::types::{ConnectionKind, PeerId, Time};

/// What counts for a peer (`NodeEvictionCandidate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionCandidate {
    /// Who.
    pub id: PeerId,
    /// Since when.
    pub connected: Time,
    /// The shortest ping; the longest there is if there was none.
    pub min_ping_time: Duration,
    /// When it last sent a block that was new to us; 0 for never.
    pub last_block_time: Time,
    /// When it last sent a transaction that was new to us; 0 for never.
    pub last_tx_time: Time,
    /// Whether it offers what we want of a node.
    pub relevant_services: bool,
    /// Whether it wants transactions.
    pub relay_txs: bool,
    /// Whether it has a Bloom filter.
    pub bloom_filter: bool,
    /// Its group ([`crate::address::Host::group`]) hashed with a secret key.
    pub keyed_net_group: u64,
    /// Whether it is to go first: it is discouraged.
    pub prefer_evict: bool,
    /// Whether it is of this machine.
    pub is_local: bool,
    /// What it is connected by.
    pub network: Net,
    /// Whether the operator wants it kept (`noban`).
    pub noban: bool,
    /// Why it is connected.
    pub kind: ConnectionKind,
}

/// Peers that are kept for the group they are of.
const PROTECT_BY_NET_GROUP: usize = 4;
/// Peers that are kept for their short pings.
const PROTECT_BY_PING: usize = 8;
/// Peers that are kept for transactions.
const PROTECT_BY_TX: usize = 4;
/// Peers without transactions that are kept for blocks.
const PROTECT_BLOCK_RELAY_ONLY: usize = 8;
/// Peers that are kept for blocks.
const PROTECT_BY_BLOCK: usize = 4;

/// The longest connected last.
fn by_time_connected(a: &EvictionCandidate, b: &EvictionCandidate) -> Ordering {
    b.connected.cmp(&a.connected)
}

fn by_tx_time(a: &EvictionCandidate, b: &EvictionCandidate) -> Ordering {
    // Many have sent none: those that would, and here for long, come before those that may not.
    let key = |peer: &EvictionCandidate| (peer.last_tx_time, peer.relay_txs, !peer.bloom_filter);
    key(a).cmp(&key(b)).then_with(|| by_time_connected(a, b))
}

fn by_block_time(a: &EvictionCandidate, b: &EvictionCandidate) -> Ordering {
    let key = |peer: &EvictionCandidate| (peer.last_block_time, peer.relevant_services);
    key(a).cmp(&key(b)).then_with(|| by_time_connected(a, b))
}

fn by_block_relay_only_time(a: &EvictionCandidate, b: &EvictionCandidate) -> Ordering {
    b.relay_txs.cmp(&a.relay_txs).then_with(|| by_block_time(a, b))
}

/// Sorts, then keeps those of the last `count` for which `protect` holds: they are no candidates any more.
fn protect_last(
    candidates: &mut Vec<EvictionCandidate>,
    order: impl Fn(&EvictionCandidate, &EvictionCandidate) -> Ordering,
    count: usize,
    protect: impl Fn(&EvictionCandidate) -> bool,
) {
    candidates.sort_by(order);
    let mut position = candidates.len();
    let first = candidates.len().saturating_sub(count);
    while position > first {
        position -= 1;
        if protect(&candidates[position]) {
            candidates.remove(position);
        }
    }
}

/// A kind of peer whose pings are long whatever it does.
#[derive(Clone, Copy)]
enum Disadvantaged {
    Network(Net),
    Local,
}

impl Disadvantaged {
    fn is(self, peer: &EvictionCandidate) -> bool {
        match self {
            Self::Network(network) => peer.network == network,
            Self::Local => peer.is_local,
        }
    }
}

/// Keeps the half that has been connected longest. Up to half of their places are for peers of Tor, I2P, CJDNS and this
/// machine (where an onion service may hand its peers on), those with fewest peers first
/// (`ProtectEvictionCandidatesByRatio`).
fn protect_by_ratio(candidates: &mut Vec<EvictionCandidate>) {
    let total_protect = candidates.len() / 2;
    let mut kinds = [
        Disadvantaged::Network(Net::Cjdns),
        Disadvantaged::Network(Net::I2p),
        Disadvantaged::Local,
        Disadvantaged::Network(Net::Onion),
    ]
    .map(|kind| (kind, candidates.iter().filter(|peer| kind.is(peer)).count()));
    kinds.sort_by_key(|&(_, count)| count);

    let max_by_kind = total_protect / 2;
    let mut protected = 0;
    while protected < max_by_kind {
        let kinds_left = kinds.iter().filter(|&&(_, count)| count > 0).count();
        if kinds_left == 0 {
            break;
        }
        let each = ((max_by_kind - protected) / kinds_left).max(1);
        let before_round = protected;
        for (kind, count) in &mut kinds {
            if *count == 0 {
                continue;
            }
            let before = candidates.len();
            let order = |a: &EvictionCandidate, b: &EvictionCandidate| {
                kind.is(a).cmp(&kind.is(b)).then_with(|| by_time_connected(a, b))
            };
            protect_last(candidates, order, each, |peer| kind.is(peer));
            let kept = before - candidates.len();
            protected += kept;
            *count -= kept;
            if protected >= max_by_kind {
                break;
            }
        }
        if protected == before_round {
            break;
        }
    }
    protect_last(candidates, by_time_connected, total_protect - protected, |_| true);
}

/// The peer to let go, if any may go (`SelectNodeToEvict`).
pub fn select_node_to_evict(mut candidates: Vec<EvictionCandidate>) -> Option<PeerId> {
    candidates.retain(|peer| !peer.noban && peer.kind == ConnectionKind::Inbound);
    protect_last(&mut candidates, |a, b| a.keyed_net_group.cmp(&b.keyed_net_group), PROTECT_BY_NET_GROUP, |_| true);
    protect_last(&mut candidates, |a, b| b.min_ping_time.cmp(&a.min_ping_time), PROTECT_BY_PING, |_| true);
    protect_last(&mut candidates, by_tx_time, PROTECT_BY_TX, |_| true);
    protect_last(&mut candidates, by_block_relay_only_time, PROTECT_BLOCK_RELAY_ONLY, |peer| {
        !peer.relay_txs && peer.relevant_services
    });
    protect_last(&mut candidates, by_block_time, PROTECT_BY_BLOCK, |_| true);
    protect_by_ratio(&mut candidates);

    if candidates.iter().any(|peer| peer.prefer_evict) {
        candidates.retain(|peer| peer.prefer_evict);
    }
    // They are sorted, the youngest first.
    let mut groups: BTreeMap<u64, (usize, &EvictionCandidate)> = BTreeMap::new();
    for peer in &candidates {
        groups.entry(peer.keyed_net_group).or_insert((0, peer)).0 += 1;
    }
    groups.into_values().max_by_key(|&(size, youngest)| (size, youngest.connected)).map(|(_, youngest)| youngest.id)
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
