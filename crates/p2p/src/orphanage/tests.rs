//! The orphanage's bounds, whatever peers do, and its rules one by one.

use super::*;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Sequence, TxIn, TxOut, Witness, absolute, transaction};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use std::sync::Arc;

/// The output `vout` of a transaction that nobody knows.
fn unknown(n: u64, vout: u32) -> OutPoint {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    OutPoint { txid: Txid::from_byte_array(bytes), vout }
}

/// A transaction that spends outpoints, with outputs and bytes of witness.
fn spending(inputs: impl IntoIterator<Item = OutPoint>, outputs: usize, witness: usize) -> RelayTx {
    let input = inputs.into_iter().enumerate().map(|(place, previous_output)| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: if witness > 0 && place == 0 { Witness::from_slice(&[vec![0; witness]]) } else { Witness::new() },
    });
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey: ScriptBuf::new() };
    RelayTx::new(Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: input.collect(),
        output: vec![output; outputs],
    }))
}

/// An orphan of its own, of one input.
fn orphan(n: u64) -> RelayTx {
    spending([unknown(n, 0)], 1, 0)
}

fn peer(n: u64) -> PeerId {
    PeerId(n)
}

/// Everything counted anew agrees with what is kept, and the bounds hold.
fn check(orphanage: &TxOrphanage) {
    let mut peers: HashMap<PeerId, (Cost, usize)> = HashMap::new();
    let mut outpoints: HashMap<OutPoint, BTreeSet<Wtxid>> = HashMap::new();
    let (mut usage, mut inputs, mut announcements) = (0, 0, 0);
    for (wtxid, orphan) in &orphanage.orphans {
        assert_eq!(*wtxid, orphan.tx.wtxid);
        assert!(!orphan.announcers.is_empty());
        usage += orphan.tx.tx.weight().to_wu();
        inputs += orphan.tx.tx.input.len() as u64 / 10;
        announcements += orphan.announcers.len();
        for input in &orphan.tx.tx.input {
            outpoints.entry(input.previous_output).or_default().insert(*wtxid);
        }
        for (peer, sequence) in &orphan.announcers {
            let key = (orphan.reconsider == Some(*peer), *sequence);
            assert_eq!(orphanage.peers[peer].announced.get(&key), Some(wtxid));
            let (total, count) = peers.entry(*peer).or_default();
            total.usage += orphan.cost.usage;
            total.latency += orphan.cost.latency;
            *count += 1;
        }
        assert!(orphan.reconsider.is_none_or(|peer| orphan.announcers.contains_key(&peer)));
    }
    let kept: HashMap<PeerId, (Cost, usize)> =
        orphanage.peers.iter().map(|(peer, info)| (*peer, (info.total, info.announced.len()))).collect();
    assert_eq!(kept, peers);
    assert_eq!(orphanage.spenders, outpoints);
    assert_eq!(orphanage.total_orphan_usage(), usage);
    assert_eq!(orphanage.count_announcements(), announcements);
    assert_eq!(orphanage.total_latency_score(), announcements as u64 + inputs);

    assert!(orphanage.total_latency_score() <= orphanage.max_global_latency_score);
    assert!(orphanage.total_orphan_usage() <= orphanage.max_global_usage());
}

/// Orphans that spend one another and the same outputs, of many sizes.
fn family() -> Vec<RelayTx> {
    let mut rng = StdRng::seed_from_u64(3);
    let mut family: Vec<RelayTx> = Vec::new();
    for n in 0..60u64 {
        let mut inputs: BTreeSet<OutPoint> = BTreeSet::new();
        for place in 0..*[1, 1, 2, 3, 9, 10, 25].get(rng.random_range(0..7)).expect("there are seven") {
            inputs.insert(match family.len() {
                0 => unknown(n, place),
                len => match rng.random_range(0..3) {
                    0 => OutPoint { txid: family[rng.random_range(0..len)].txid, vout: rng.random_range(0..2) },
                    1 => unknown(rng.random_range(0..10), place),
                    _ => unknown(100 + n, place),
                },
            });
        }
        family.push(spending(inputs, 2, *[0, 0, 100, 3000].get(rng.random_range(0..4)).expect("there are four")));
        // The same with other witnesses.
        if n % 9 == 0 {
            let last = family.last().expect("one was added");
            let inputs: Vec<OutPoint> = last.tx.input.iter().map(|input| input.previous_output).collect();
            family.push(spending(inputs, 2, 777));
        }
    }
    family
}

#[derive(Debug, Clone)]
enum Operation {
    Add { tx: usize, peer: u64 },
    Announce { tx: usize, peer: u64 },
    Erase(usize),
    Disconnect(u64),
    Block(Vec<usize>),
    Parent(usize),
    Reconsider(u64),
}

fn operation(txs: usize) -> impl Strategy<Value = Operation> {
    let (tx, peer) = (0..txs, 0u64..6);
    prop_oneof![
        8 => (tx.clone(), peer.clone()).prop_map(|(tx, peer)| Operation::Add { tx, peer }),
        3 => (tx.clone(), peer.clone()).prop_map(|(tx, peer)| Operation::Announce { tx, peer }),
        1 => tx.clone().prop_map(Operation::Erase),
        1 => peer.clone().prop_map(Operation::Disconnect),
        1 => prop::collection::vec(tx.clone(), 1..3).prop_map(Operation::Block),
        2 => tx.prop_map(Operation::Parent),
        2 => peer.prop_map(Operation::Reconsider),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn bounds_hold_after_any_sequence_of_operations(
        operations in prop::collection::vec(operation(67), 1..150),
        latency in 6u64..60,
        usage in 1000u64..30_000,
        seed: u64,
    ) {
        let family = family();
        assert_eq!(family.len(), 67);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut orphanage = TxOrphanage::new(latency, usage);
        for operation in operations {
            match operation {
                Operation::Add { tx, peer: from } => {
                    let had = orphanage.have_tx(&family[tx].wtxid);
                    assert_eq!(orphanage.add_tx(&family[tx], peer(from)), !had);
                }
                Operation::Announce { tx, peer: from } => {
                    let wtxid = &family[tx].wtxid;
                    let new = orphanage.have_tx(wtxid) && !orphanage.have_tx_from_peer(wtxid, peer(from));
                    assert_eq!(orphanage.add_announcer(wtxid, peer(from)), new);
                }
                Operation::Erase(tx) => {
                    let had = orphanage.have_tx(&family[tx].wtxid);
                    assert_eq!(orphanage.erase_tx(&family[tx].wtxid), had);
                    assert!(!orphanage.have_tx(&family[tx].wtxid));
                }
                Operation::Disconnect(from) => {
                    orphanage.erase_for_peer(peer(from));
                    assert_eq!(orphanage.usage_by_peer(peer(from)), 0);
                }
                Operation::Block(txs) => {
                    let txdata: Vec<Transaction> = txs.iter().map(|tx| family[*tx].tx.as_ref().clone()).collect();
                    orphanage.erase_for_block(&txdata);
                    let spent = txdata.iter().flat_map(|tx| &tx.input);
                    assert!(spent.into_iter().all(|input| !orphanage.spenders.contains_key(&input.previous_output)));
                }
                Operation::Parent(tx) => {
                    for (wtxid, from) in orphanage.add_children_to_work_set(&family[tx], &mut rng) {
                        assert!(orphanage.have_tx_from_peer(&wtxid, from) && orphanage.have_tx_to_reconsider(from));
                    }
                }
                Operation::Reconsider(from) => {
                    let had = orphanage.have_tx_to_reconsider(peer(from));
                    assert_eq!(orphanage.get_tx_to_reconsider(peer(from)).is_some(), had);
                }
            }
            check(&orphanage);
        }
    }

    /// Core's promise: who keeps within a share loses nothing, whatever others do.
    #[test]
    fn a_peer_within_its_share_loses_nothing_to_a_flood(
        own in prop::collection::vec(0usize..67, 1..8),
        flood in prop::collection::vec((0usize..67, 1u64..4), 1..150),
    ) {
        let family = family();
        // Of four peers: a share of 20 announcements, and room for 30,000.
        let mut orphanage = TxOrphanage::new(80, 30_000);
        let cost = own.iter().collect::<BTreeSet<_>>().into_iter().fold(Cost::default(), |cost, tx| Cost {
            usage: cost.usage + family[*tx].tx.weight().to_wu(),
            latency: cost.latency + 1 + family[*tx].tx.input.len() as u64 / 10,
        });
        prop_assume!(cost.latency <= 20 && cost.usage <= 30_000);
        for tx in &own {
            orphanage.add_tx(&family[*tx], peer(0));
        }
        for (tx, from) in flood {
            orphanage.add_tx(&family[tx], peer(from));
            assert!(own.iter().all(|tx| orphanage.have_tx_from_peer(&family[*tx].wtxid, peer(0))));
        }
        check(&orphanage);
    }
}

#[test]
fn one_orphan_beyond_the_latency_score_drops_the_oldest_of_the_peer_that_sent_most() {
    let mut orphanage = TxOrphanage::default();
    (0..10).for_each(|n| assert!(orphanage.add_tx(&orphan(n), peer(1))));
    let flood = MAX_ORPHANAGE_LATENCY_SCORE - 10;
    (0..flood).for_each(|n| assert!(orphanage.add_tx(&orphan(1000 + n), peer(2))));
    assert_eq!(orphanage.total_latency_score(), MAX_ORPHANAGE_LATENCY_SCORE);
    assert!(orphanage.add_tx(&orphan(9999), peer(2)));
    assert_eq!(orphanage.total_latency_score(), MAX_ORPHANAGE_LATENCY_SCORE);
    assert!(!orphanage.have_tx(&orphan(1000).wtxid) && orphanage.have_tx(&orphan(1001).wtxid));
    assert_eq!(orphanage.announcements_from_peer(peer(1)), 10);
    check(&orphanage);
}

#[test]
fn ten_inputs_count_as_an_announcement_more() {
    let mut orphanage = TxOrphanage::default();
    for (inputs, score) in [(1, 1), (9, 1), (10, 2), (99, 10)] {
        let tx = spending((0..inputs).map(|vout| unknown(7, vout)), 1, 0);
        orphanage.add_tx(&tx, peer(1));
        assert_eq!(orphanage.latency_score_from_peer(peer(1)), score, "{inputs}");
        orphanage.erase_tx(&tx.wtxid);
    }
}

#[test]
fn one_byte_beyond_the_weight_of_all_peers_drops_the_oldest() {
    let big = |n: u64| spending([unknown(n, 0)], 1, 100_000);
    let weight = big(1).tx.weight().to_wu();
    assert_eq!(RESERVED_ORPHAN_WEIGHT_PER_PEER / weight, 4);
    let mut orphanage = TxOrphanage::default();
    (1..=4).for_each(|n| assert!(orphanage.add_tx(&big(n), peer(1))));
    assert_eq!(orphanage.count_unique_orphans(), 4);
    orphanage.add_tx(&big(5), peer(1));
    assert_eq!(orphanage.count_unique_orphans(), 4);
    assert!(!orphanage.have_tx(&big(1).wtxid));
    // Another peer brings room of its own, and takes it along.
    (11..=14).for_each(|n| assert!(orphanage.add_tx(&big(n), peer(2))));
    assert_eq!(orphanage.count_unique_orphans(), 8);
    orphanage.add_announcer(&big(14).wtxid, peer(1));
    orphanage.erase_for_peer(peer(2));
    assert_eq!(orphanage.count_unique_orphans(), 4);
    assert!(orphanage.have_tx(&big(14).wtxid) && !orphanage.have_tx(&big(2).wtxid));
    check(&orphanage);
}

/// Of two who exceed their share none is trimmed below the other; of equals the newer peer is first.
#[test]
fn those_who_exceed_their_share_are_trimmed_to_the_same() {
    let weight = orphan(1).tx.weight().to_wu();
    let mut orphanage = TxOrphanage::new(1000, 4 * weight);
    // One of each first, so that there is room for three.
    for (from, orphans) in [(1, 0..1), (2, 0..1), (3, 0..1), (1, 1..5), (2, 1..6)] {
        orphans.for_each(|n| assert!(orphanage.add_tx(&orphan(100 * from + n), peer(from))));
    }
    assert_eq!(orphanage.count_unique_orphans(), 12);
    // What room there was for the third goes with it: 11 are to become 8.
    orphanage.erase_for_peer(peer(3));
    assert_eq!([1, 2].map(|n| orphanage.announcements_from_peer(peer(n))), [4, 4]);
    assert!(!orphanage.have_tx(&orphan(100).wtxid) && !orphanage.have_tx(&orphan(201).wtxid));

    let mut orphanage = TxOrphanage::new(12, 1000 * weight);
    for (from, orphans) in [(1, 6), (2, 6), (3, 1)] {
        (0..orphans).for_each(|n| assert!(orphanage.add_tx(&orphan(100 * from + n), peer(from))));
    }
    assert_eq!([1, 2, 3].map(|n| orphanage.announcements_from_peer(peer(n))), [6, 5, 1]);
}

#[test]
fn an_orphan_beyond_the_standard_weight_is_not_kept() {
    let mut orphanage = TxOrphanage::default();
    let base = spending([unknown(1, 0)], 1, 300_000).tx.weight().to_wu() - 300_000;
    let largest = spending([unknown(1, 0)], 1, (MAX_ORPHAN_WEIGHT - base) as usize);
    let larger = spending([unknown(1, 0)], 1, (MAX_ORPHAN_WEIGHT - base) as usize + 1);
    assert_eq!(larger.tx.weight().to_wu(), MAX_ORPHAN_WEIGHT + 1);
    assert!(orphanage.add_tx(&largest, peer(1)));
    assert!(!orphanage.add_tx(&larger, peer(2)));
    assert_eq!(orphanage.count_unique_orphans(), 1);
}

#[test]
fn what_is_to_be_reconsidered_is_dropped_last() {
    let parent = spending([unknown(1, 0)], 1, 0);
    let child = spending([OutPoint { txid: parent.txid, vout: 0 }], 1, 0);
    let mut orphanage = TxOrphanage::new(3, 1_000_000);
    orphanage.add_tx(&child, peer(1));
    let added = orphanage.add_children_to_work_set(&parent, &mut StdRng::seed_from_u64(1));
    assert_eq!(added, [(child.wtxid, peer(1))]);
    (2..9).for_each(|n| assert!(orphanage.add_tx(&orphan(n), peer(1))));
    assert_eq!(orphanage.get_tx_to_reconsider(peer(1)).map(|tx| tx.wtxid), Some(child.wtxid));
    // It had its turn: now it is the oldest.
    assert!(orphanage.have_tx(&child.wtxid) && !orphanage.have_tx_to_reconsider(peer(1)));
    orphanage.add_tx(&orphan(9), peer(1));
    assert!(!orphanage.have_tx(&child.wtxid));
}

#[test]
fn an_orphan_is_in_one_work_set_at_a_time_of_any_who_announced_it() {
    let parent = spending([unknown(1, 0)], 2, 0);
    let child = spending((0..2).map(|vout| OutPoint { txid: parent.txid, vout }), 1, 0);
    let mut rng = StdRng::seed_from_u64(1);
    let mut chosen = [0; 4];
    for _ in 0..400 {
        let mut orphanage = TxOrphanage::default();
        (0..4).for_each(|n| {
            orphanage.add_tx(&child, peer(n));
        });
        let added = orphanage.add_children_to_work_set(&parent, &mut rng);
        assert_eq!(added.len(), 1);
        assert!(orphanage.add_children_to_work_set(&parent, &mut rng).is_empty());
        chosen[added[0].1.0 as usize] += 1;
    }
    assert!(chosen.iter().all(|count| *count > 60), "{chosen:?}");
}

#[test]
fn children_of_a_peer_come_latest_first() {
    let parent = spending([unknown(1, 0)], 3, 0);
    let child = |vout: u32, witness: usize| spending([OutPoint { txid: parent.txid, vout }], 1, witness);
    let mut orphanage = TxOrphanage::default();
    for (vout, from) in [(0, 1), (1, 1), (2, 2), (2, 1)] {
        orphanage.add_tx(&child(vout, 0), peer(from));
    }
    orphanage.add_tx(&orphan(5), peer(1));
    let children = |orphanage: &TxOrphanage, from| -> Vec<u32> {
        let found = orphanage.get_children_from_same_peer(&parent.txid, peer(from));
        found.iter().map(|tx| tx.tx.input[0].previous_output.vout).collect()
    };
    assert_eq!(children(&orphanage, 1), [2, 1, 0]);
    assert_eq!(children(&orphanage, 2), [2]);
    assert!(children(&orphanage, 3).is_empty());
}

#[test]
fn all_orphans_are_told_with_their_announcers() {
    let mut orphanage = TxOrphanage::default();
    for (n, from) in [(1, 3), (1, 2), (2, 2)] {
        orphanage.add_tx(&orphan(n), peer(from));
    }
    let told = orphanage.get_orphan_transactions();
    let announcers = |n: u64| told.iter().find(|info| info.tx.wtxid == orphan(n).wtxid).map(|info| &*info.announcers);
    assert_eq!((announcers(1), announcers(2)), (Some(&[peer(2), peer(3)][..]), Some(&[peer(2)][..])));
}
