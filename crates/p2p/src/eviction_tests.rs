//! As Core's `net_peer_eviction_tests` has it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;

/// Inbound peers of whom nothing is known but their number (`GetRandomNodeEvictionCandidates`).
fn random_candidates(count: u64, rng: &mut StdRng) -> Vec<EvictionCandidate> {
    let networks = [Net::Unroutable, Net::Ipv4, Net::Ipv6, Net::Onion, Net::I2p, Net::Cjdns, Net::Internal];
    (0..count)
        .map(|id| EvictionCandidate {
            id: PeerId(id),
            connected: Duration::from_secs(rng.random_range(0..100)),
            min_ping_time: Duration::from_micros(rng.random_range(0..100)),
            last_block_time: Duration::from_secs(rng.random_range(0..100)),
            last_tx_time: Duration::from_secs(rng.random_range(0..100)),
            relevant_services: rng.random(),
            relay_txs: rng.random(),
            bloom_filter: rng.random(),
            keyed_net_group: rng.random_range(0..100),
            prefer_evict: rng.random(),
            is_local: rng.random(),
            network: networks[rng.random_range(0..networks.len())],
            noban: false,
            kind: ConnectionKind::Inbound,
        })
        .collect()
}

/// How many peers, who of them is of this machine, of which network if not of IPv4, who must be kept and who must not.
type Case<'a> = (u64, &'a [u64], &'a [(Net, &'a [u64])], &'a [u64], &'a [u64]);

#[test]
fn half_are_kept_by_time_and_kind() {
    use Net::{Cjdns, I2p, Onion};
    // Their number is the second at which they came.
    let cases: &[Case<'_>] = &[
        (12, &[], &[], &[0, 1, 2, 3, 4, 5], &[6, 7, 8, 9, 10, 11]),
        // One kind.
        (12, &[], &[(Onion, &[3, 8, 9, 10, 11])], &[0, 1, 2, 3, 8, 9], &[4, 5, 6, 7, 10, 11]),
        (12, &[7, 8, 9, 10, 11], &[], &[0, 1, 2, 7, 8, 9], &[3, 4, 5, 6, 10, 11]),
        (12, &[], &[(I2p, &[4, 9, 10, 11])], &[0, 1, 2, 4, 9, 10], &[3, 5, 6, 7, 8, 11]),
        (12, &[], &[(Cjdns, &[4, 9, 10, 11])], &[0, 1, 2, 4, 9, 10], &[3, 5, 6, 7, 8, 11]),
        // Two.
        (4, &[], &[(Onion, &[3])], &[0, 3], &[1, 2]),
        (7, &[6], &[(Onion, &[5])], &[0, 1, 6], &[2, 3, 4, 5]),
        (8, &[6], &[(Onion, &[5])], &[0, 1, 5, 6], &[2, 3, 4, 7]),
        (12, &[6, 9, 11], &[(Onion, &[7, 8, 10])], &[0, 1, 2, 6, 7, 9], &[3, 4, 5, 8, 10, 11]),
        (12, &[5, 6, 7, 8], &[(Onion, &[10])], &[0, 1, 2, 5, 6, 10], &[3, 4, 7, 8, 9, 11]),
        (16, &[6, 9, 11, 12], &[(Onion, &[8, 10])], &[0, 1, 2, 3, 6, 8, 9, 10], &[4, 5, 7, 11, 12, 13, 14, 15]),
        (16, &[11, 12, 13, 14, 15], &[(Onion, &[10])], &[0, 1, 2, 3, 10, 11, 12, 13], &[4, 5, 6, 7, 8, 9, 14, 15]),
        (16, &[15], &[(Onion, &[7, 8, 9, 10])], &[0, 1, 2, 3, 7, 8, 9, 15], &[5, 6, 10, 11, 12, 13, 14]),
        (12, &[], &[(Onion, &[8, 10]), (I2p, &[6, 9, 11])], &[0, 1, 2, 6, 8, 10], &[3, 4, 5, 7, 9, 11]),
        // Three.
        (4, &[2], &[(I2p, &[3]), (Onion, &[1])], &[0, 3], &[1, 2]),
        (7, &[4], &[(I2p, &[6]), (Onion, &[5])], &[0, 1, 6], &[2, 3, 4, 5]),
        (8, &[6], &[(I2p, &[5]), (Onion, &[4])], &[0, 1, 5, 6], &[2, 3, 4, 7]),
        (
            16,
            &[6, 12, 13, 14, 15],
            &[(I2p, &[7, 11]), (Onion, &[9, 10])],
            &[0, 1, 2, 3, 6, 7, 9, 11],
            &[4, 5, 8, 10, 12, 13, 14, 15],
        ),
        (
            24,
            &[12],
            &[(I2p, &[15, 16, 17, 18, 19, 20, 21, 22]), (Onion, &[23])],
            &[0, 1, 2, 3, 4, 5, 12, 15, 16, 17, 18, 23],
            &[6, 7, 8, 9, 10, 11, 13, 14, 19, 20, 21, 22],
        ),
        (
            24,
            &[15],
            &[(I2p, &[12, 14, 17]), (Onion, &[18, 19, 20, 21, 22, 23])],
            &[0, 1, 2, 3, 4, 5, 12, 14, 15, 17, 18, 19],
            &[6, 7, 8, 9, 10, 11, 13, 16, 20, 21, 22, 23],
        ),
        (
            24,
            &[13],
            &[(I2p, &[17, 18, 19, 20, 21, 22, 23]), (Onion, &[12, 14, 15, 16])],
            &[0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 17, 18],
            &[6, 7, 8, 9, 10, 11, 16, 19, 20, 21, 22, 23],
        ),
        (
            24,
            &[16, 17, 18, 19, 20, 21, 22, 23],
            &[(Cjdns, &[11, 12, 13, 14]), (Onion, &[7, 8, 9])],
            &[0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 16, 17],
            &[6, 9, 10, 13, 14, 15, 18, 19, 20, 21, 22, 23],
        ),
        // Four.
        (5, &[3], &[(Cjdns, &[4]), (I2p, &[1]), (Onion, &[2])], &[0, 4], &[1, 2, 3]),
        (7, &[4], &[(Cjdns, &[6]), (I2p, &[5]), (Onion, &[3])], &[0, 1, 6], &[2, 3, 4, 5]),
        (8, &[3], &[(Cjdns, &[5]), (I2p, &[6]), (Onion, &[3])], &[0, 1, 5, 6], &[2, 3, 4, 7]),
        (
            16,
            &[6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            &[(Cjdns, &[11, 15]), (I2p, &[10, 14]), (Onion, &[8, 9])],
            &[0, 1, 2, 3, 6, 8, 10, 11],
            &[4, 5, 7, 9, 12, 13, 14, 15],
        ),
        (
            24,
            &[13],
            &[(Cjdns, &[18, 19, 20, 21, 22, 23]), (I2p, &[17]), (Onion, &[12, 14, 15, 16])],
            &[0, 1, 2, 3, 4, 5, 12, 13, 14, 17, 18, 19],
            &[6, 7, 8, 9, 10, 11, 15, 16, 20, 21, 22, 23],
        ),
    ];
    let mut rng = StdRng::seed_from_u64(1);
    for &(count, local, networks, protected, unprotected) in cases {
        let mut candidates = random_candidates(count, &mut rng);
        for peer in &mut candidates {
            peer.connected = Duration::from_secs(peer.id.0);
            peer.is_local = local.contains(&peer.id.0);
            peer.network =
                networks.iter().find(|(_, ids)| ids.contains(&peer.id.0)).map_or(Net::Ipv4, |&(network, _)| network);
        }
        candidates.shuffle(&mut rng);
        protect_by_ratio(&mut candidates);
        assert_eq!(candidates.len() as u64, count - count / 2);
        let left: BTreeSet<u64> = candidates.iter().map(|peer| peer.id.0).collect();
        assert!(protected.iter().all(|id| !left.contains(id)), "{count} {local:?} {networks:?}: left are {left:?}");
        assert!(unprotected.iter().all(|id| left.contains(id)), "{count} {local:?} {networks:?}: left are {left:?}");
    }
}

#[test]
fn a_quarter_are_kept_for_their_kind_whenever_they_came() {
    let mut rng = StdRng::seed_from_u64(2);
    let kinds: [(bool, Net); 4] = [(true, Net::Ipv4), (false, Net::Onion), (false, Net::I2p), (false, Net::Cjdns)];
    for (is_local, network) in kinds {
        let mut candidates = random_candidates(12, &mut rng);
        for peer in &mut candidates {
            let special = [2, 7, 10].contains(&peer.id.0);
            peer.is_local = special && is_local;
            peer.network = if special { network } else { Net::Ipv4 };
        }
        protect_by_ratio(&mut candidates);
        assert!(candidates.iter().all(|peer| ![2, 7, 10].contains(&peer.id.0)));
    }
}

/// Of how many peers, `kept` never goes.
fn never_goes(count: u64, kept: std::ops::Range<u64>, set: impl Fn(&mut EvictionCandidate), rng: &mut StdRng) {
    let mut candidates = random_candidates(count, rng);
    candidates.iter_mut().for_each(set);
    candidates.shuffle(rng);
    let evicted = select_node_to_evict(candidates);
    assert!(evicted.is_none_or(|id| !kept.contains(&id.0)), "{evicted:?} of {count}");
}

#[test]
fn the_best_of_each_kind_are_kept() {
    let mut rng = StdRng::seed_from_u64(3);
    let secs = Duration::from_secs;
    for count in 0..200 {
        let by_block = |peer: &mut EvictionCandidate| peer.last_block_time = secs(count - peer.id.0);
        let block_relay = |peer: &mut EvictionCandidate| {
            peer.last_block_time = secs(count - peer.id.0);
            if peer.id.0 <= 7 {
                peer.relay_txs = false;
                peer.relevant_services = true;
            }
        };
        never_goes(count, 0..4, |peer| peer.keyed_net_group = count - peer.id.0, &mut rng);
        never_goes(count, 0..8, |peer| peer.min_ping_time = Duration::from_micros(peer.id.0), &mut rng);
        never_goes(count, 0..4, |peer| peer.last_tx_time = secs(count - peer.id.0), &mut rng);
        never_goes(count, 0..8, block_relay, &mut rng);
        never_goes(count, 0..4, by_block, &mut rng);
        never_goes(count, 0..12, block_relay, &mut rng);
        let all = |peer: &mut EvictionCandidate| {
            peer.keyed_net_group = count - peer.id.0;
            peer.min_ping_time = Duration::from_micros(peer.id.0);
            peer.last_tx_time = secs(count - peer.id.0);
            peer.last_block_time = secs(count - peer.id.0);
        };
        never_goes(count, 0..20, all, &mut rng);
        let evicted = select_node_to_evict(random_candidates(count, &mut rng));
        // 4 + 8 + 4 + 4 are kept always, and 8 more perhaps.
        assert!(count < 29 || evicted.is_some(), "{count}");
        assert!(count > 20 || evicted.is_none(), "{count}");
    }
}

/// Peers that are alike but for what a test sets, so that those of lower number are kept first.
fn alike(count: u64) -> Vec<EvictionCandidate> {
    let mut candidates = random_candidates(count, &mut StdRng::seed_from_u64(4));
    for peer in &mut candidates {
        let order = Duration::from_secs(1000 - peer.id.0);
        peer.connected = Duration::from_secs(peer.id.0);
        peer.min_ping_time = Duration::from_secs(peer.id.0);
        (peer.last_block_time, peer.last_tx_time) = (order, order);
        (peer.relevant_services, peer.relay_txs, peer.bloom_filter) = (true, true, false);
        (peer.prefer_evict, peer.is_local, peer.network) = (false, false, Net::Ipv4);
        peer.keyed_net_group = 0;
    }
    candidates
}

#[test]
fn the_youngest_of_the_largest_group_goes() {
    let mut candidates = alike(60);
    // 20 are kept for what they are, and 20 of the rest for their time: 40 to 59 are left.
    for peer in &mut candidates {
        peer.keyed_net_group = match peer.id.0 {
            40..=45 => 1,
            46..=52 => 2,
            53..=59 => 3,
            // So many groups that none is large. The last are kept for it.
            id => 100 + id,
        };
    }
    assert_eq!(select_node_to_evict(candidates.clone()), Some(PeerId(59)), "of two as large the younger");
    candidates[59].keyed_net_group = 2;
    assert_eq!(select_node_to_evict(candidates.clone()), Some(PeerId(59)));
    candidates[58].keyed_net_group = 1;
    candidates[59].keyed_net_group = 4;
    assert_eq!(select_node_to_evict(candidates.clone()), Some(PeerId(58)), "not the youngest, who is alone");
    // Those that are to go first are the only ones that may, if any of them is left.
    candidates[41].prefer_evict = true;
    candidates[42].prefer_evict = true;
    candidates[0].prefer_evict = true;
    assert_eq!(select_node_to_evict(candidates.clone()), Some(PeerId(42)));
    for peer in &mut candidates {
        peer.prefer_evict = peer.id.0 == 0;
    }
    assert_eq!(select_node_to_evict(candidates), Some(PeerId(58)), "the best is kept even if it were to go first");
}

proptest! {
    #[test]
    fn only_those_may_go_that_may(count in 0..150_u64, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut candidates = random_candidates(count, &mut rng);
        let kinds = [ConnectionKind::Inbound, ConnectionKind::Manual, ConnectionKind::OutboundFullRelay,
            ConnectionKind::BlockRelay, ConnectionKind::Feeler, ConnectionKind::AddrFetch];
        for peer in &mut candidates {
            peer.noban = rng.random_ratio(1, 3);
            if rng.random_ratio(1, 3) {
                peer.kind = kinds[rng.random_range(0..kinds.len())];
            }
        }
        let by_id = candidates.clone();
        if let Some(id) = select_node_to_evict(candidates) {
            let peer = &by_id[id.0 as usize];
            prop_assert!(!peer.noban && peer.kind == ConnectionKind::Inbound);
            let may: Vec<_> = by_id.iter().filter(|peer| !peer.noban && peer.kind == ConnectionKind::Inbound).collect();
            prop_assert!(may.len() > 20);
            // It is not one of those with the highest group, of whom four are kept whatever else.
            prop_assert!(may.iter().filter(|other| other.keyed_net_group >= peer.keyed_net_group).count() > 4);
        }
    }
}
