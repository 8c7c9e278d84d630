use super::*;
use bitcoin::{Amount, ScriptBuf, Sequence, TxIn, TxOut, Witness, absolute::LockTime, transaction::Version};
use proptest::prelude::*;
use std::slice::from_ref;

/// Satoshi.
const MAX_MONEY: i64 = 21_000_000 * 100_000_000;

/// A transaction that spends these outputs and has `outputs` of its own; `salt` makes it unique.
fn tx(spends: &[OutPoint], outputs: u32, salt: u32) -> Transaction {
    let input = |previous_output: &OutPoint| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey: ScriptBuf::new() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(salt),
        input: spends.iter().map(input).collect(),
        output: vec![output; outputs as usize],
    }
}

fn entry(tx: Transaction, fee: u64, weight: u64, time: u64) -> Entry {
    Entry {
        modified_fee: fee as i64,
        wtxid: tx.compute_wtxid(),
        tx: Arc::new(tx),
        fee,
        weight,
        adjusted_weight: weight,
        sigop_cost: 0,
        time,
        height: 0,
        sequence: 0,
    }
}

fn add(pool: &mut Pool, tx: Transaction, fee: u64, weight: u64) -> Txid {
    let txid = tx.compute_txid();
    pool.insert(txid, entry(tx, fee, weight, 0));
    txid
}

fn confirmed(n: u32) -> OutPoint {
    OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([7; 32]), vout: n }
}

/// Compares every index with what the transactions alone say.
fn check(pool: &Pool) {
    let mut spenders = HashMap::new();
    let (mut vsize, mut fee, mut usage) = (0, 0, 0);
    for (txid, member) in &pool.members {
        let entry = &member.entry;
        assert_eq!(entry.tx.compute_txid(), *txid);
        for input in &entry.tx.input {
            assert!(spenders.insert(input.previous_output, *txid).is_none(), "two spend one output");
        }
        let parents: BTreeSet<Txid> =
            entry.tx.input.iter().map(|i| i.previous_output.txid).filter(|t| pool.members.contains_key(t)).collect();
        assert_eq!(member.parents, parents);
        let children: BTreeSet<Txid> = (pool.members.iter())
            .filter(|(_, other)| other.entry.tx.input.iter().any(|i| i.previous_output.txid == *txid))
            .map(|(txid, _)| *txid)
            .collect();
        assert_eq!(member.children, children);
        vsize += entry.vsize();
        fee += entry.fee;
        assert_eq!(entry.modified_fee, pool.modified_fee(txid, entry.fee));
        usage += usage_of(&entry.tx);
        assert!(pool.by_time.contains(&(entry.time, *txid)));
        assert!(pool.clusters.contains_key(&member.cluster));
        assert_eq!(pool.txid_of(&entry.wtxid), Some(*txid));
    }
    assert!(pool.unbroadcast.iter().all(|txid| pool.contains(txid)));
    assert!(pool.deltas.values().all(|delta| *delta != 0));
    assert_eq!(pool.spenders, spenders);
    assert_eq!((pool.total_vsize, pool.total_fee, pool.usage), (vsize, fee, usage));
    assert_eq!(pool.by_time.len(), pool.members.len());
    assert_eq!(pool.by_wtxid.len(), pool.members.len());
    assert_eq!(pool.worst.len(), pool.clusters.len());
    for (id, cluster) in &pool.clusters {
        let members: BTreeSet<Txid> = cluster.chunks.iter().flat_map(|chunk| chunk.txids.clone()).collect();
        let first = *members.first().expect("a cluster is never empty");
        assert_eq!(members, pool.connected(first).into_iter().collect());
        assert!(members.iter().all(|txid| pool.members[txid].cluster == *id));
        let fresh: Vec<FeeFrac> = pool.chunks_of(&pool.connected(first)).iter().map(|chunk| chunk.rate).collect();
        let kept: Vec<FeeFrac> = cluster.chunks.iter().map(|chunk| chunk.rate).collect();
        assert_eq!(crate::feerate::compare_diagrams(&fresh, &kept), Some(Ordering::Equal));
        for chunk in &cluster.chunks {
            let sum = chunk.txids.iter().fold(FeeFrac::default(), |sum, t| sum.plus(pool.members[t].entry.rate()));
            assert_eq!((sum.fee, sum.size), (chunk.rate.fee, chunk.rate.size));
        }
        assert!(pool.worst.contains(&(cluster.chunks.last().unwrap().place(), *id)));
    }
    let order = pool.mining_sequence();
    assert_eq!(order.len(), pool.len());
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.sort_by_cached_key(|txid| pool.mining_order(txid));
    assert_eq!(sorted, order, "sorted by the key is as mined");
    for (at, txid) in order.iter().enumerate() {
        assert!(
            pool.members[txid].parents.iter().all(|parent| order[..at].contains(parent)),
            "a child before its parent"
        );
    }
}

#[test]
fn chunks_come_best_first_across_clusters() {
    let mut pool = Pool::default();
    let parent = add(&mut pool, tx(&[confirmed(0)], 1, 0), 100, 400);
    let child = add(&mut pool, tx(&[OutPoint { txid: parent, vout: 0 }], 1, 1), 900, 400);
    let middle = add(&mut pool, tx(&[confirmed(1)], 1, 2), 450, 400);
    assert_eq!(pool.mining_sequence(), [parent, child, middle]);
    assert_eq!(pool.worst_chunk().unwrap().txids, [middle]);
    check(&pool);
    pool.remove([parent]);
    assert_eq!(pool.mining_sequence(), [child, middle]);
    check(&pool);
}

#[test]
fn a_parent_that_returns_finds_its_children() {
    let mut pool = Pool::default();
    let parent = tx(&[confirmed(0)], 2, 0);
    let txid = parent.compute_txid();
    let children: BTreeSet<Txid> =
        (0..2).map(|vout| add(&mut pool, tx(&[OutPoint { txid, vout }], 1, 5), 500, 400)).collect();
    assert_eq!(pool.clusters.len(), 2);
    add(&mut pool, parent, 10, 400);
    assert_eq!(pool.get(&txid).unwrap().children, children);
    assert_eq!(pool.clusters.len(), 1);
    check(&pool);
}

#[test]
fn too_large_clusters_are_trimmed_best_first() {
    let mut pool = Pool::default();
    let mut last = add(&mut pool, tx(&[confirmed(0)], 1, 0), 100, 400);
    let mut chain = vec![last];
    for salt in 1..70 {
        last = add(&mut pool, tx(&[OutPoint { txid: last, vout: 0 }], 1, salt), 100, 400);
        chain.push(last);
    }
    let excess = pool.excess([chain[3]]);
    assert_eq!(excess.iter().collect::<BTreeSet<_>>(), chain[CLUSTER_COUNT_LIMIT..].iter().collect());
    pool.remove(excess);
    assert!(pool.excess(chain).is_empty());
    check(&pool);
}

#[test]
fn staging_says_what_a_change_would_do() {
    let mut pool = Pool::default();
    let parent = add(&mut pool, tx(&[confirmed(0)], 1, 0), 100, 400);
    let child = add(&mut pool, tx(&[OutPoint { txid: parent, vout: 0 }], 1, 1), 900, 400);
    let rate = FeeFrac::new(1000, 400);
    let txid = bitcoin::hashes::Hash::from_byte_array([9; 32]);
    let candidate = Candidate { txid, rate, parents: BTreeSet::from([parent]) };
    let staged = pool.staged(from_ref(&candidate), &BTreeSet::from([child]));
    assert!(staged.within_limits());
    let fees = |chunks: &[FeeFrac]| chunks.iter().map(|chunk| chunk.fee).collect::<Vec<_>>();
    assert_eq!(fees(&staged.before), [1000]);
    assert_eq!(fees(&staged.after()), [1100]);
    let heavy = Candidate { txid, rate: FeeFrac::new(1, CLUSTER_WEIGHT_LIMIT - 799), parents: BTreeSet::from([child]) };
    assert!(!pool.staged(from_ref(&heavy), &BTreeSet::new()).within_limits());
}

#[test]
fn fees_are_prioritised_up_to_the_bounds_of_their_type() {
    let mut pool = Pool::default();
    let parent = add(&mut pool, tx(&[confirmed(0)], 1, 0), 100, 400);
    let child = add(&mut pool, tx(&[OutPoint { txid: parent, vout: 0 }], 1, 1), 900, 400);
    for delta in [i64::MAX, i64::MAX, i64::MIN, i64::MIN, i64::MIN] {
        for txid in [parent, child] {
            pool.prioritise(txid, delta);
        }
        assert_eq!(pool.mining_sequence(), [parent, child]);
    }
    assert_eq!(pool.deltas.get(&parent), Some(&i64::MIN));
    assert_eq!(pool.get(&child).unwrap().entry.modified_fee, i64::MIN);
}

#[test]
fn a_delta_turns_the_order_and_its_opposite_turns_it_back() {
    let mut pool = Pool::default();
    let poor = add(&mut pool, tx(&[confirmed(0)], 1, 0), 100, 400);
    let rich = add(&mut pool, tx(&[confirmed(1)], 1, 1), 900, 400);
    let updates = pool.updates();
    pool.prioritise(poor, 801);
    assert_eq!(pool.mining_sequence(), [poor, rich]);
    assert_ne!(pool.updates(), updates);
    check(&pool);
    pool.prioritise(poor, -801);
    assert_eq!(pool.mining_sequence(), [rich, poor]);
    assert!(pool.deltas().is_empty());
    assert_eq!(pool.total_fee(), 1000, "what is really paid");
    check(&pool);
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        parents: Vec<prop::sample::Index>,
        fee: u64,
        weight: u64,
    },
    Remove(prop::sample::Index),
    RemoveWithDescendants(prop::sample::Index),
    /// A block confirms the best transaction, then is undone: the parent comes back below its children.
    ConfirmAndReturn,
    EvictWorst,
    Prioritise(prop::sample::Index, i64),
    AddUnbroadcast(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0u64..5000, 244u64..4000)
            .prop_map(|(parents, fee, weight)| Step::Add { parents, fee, weight }),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveWithDescendants),
        1 => Just(Step::ConfirmAndReturn),
        1 => Just(Step::EvictWorst),
        2 => (any::<prop::sample::Index>(), prop_oneof![-5000i64..5000, -MAX_MONEY..MAX_MONEY])
            .prop_map(|(index, delta)| Step::Prioritise(index, delta)),
        1 => any::<prop::sample::Index>().prop_map(Step::AddUnbroadcast),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn indexes_stay_what_the_transactions_say(steps in prop::collection::vec(step(), 1..40)) {
        let mut pool = Pool::default();
        let mut salt = 0;
        for step in steps {
            salt += 1;
            let mut present: Vec<Txid> = pool.txids().copied().collect();
            present.sort_unstable();
            match step {
                Step::Add { parents, fee, weight } => {
                    let mut spends: BTreeSet<OutPoint> = BTreeSet::new();
                    for index in parents.iter().filter(|_| !present.is_empty()) {
                        let txid = *index.get(&present);
                        spends.extend((0..4).map(|vout| OutPoint { txid, vout }).find(|o| pool.spender(o).is_none()));
                    }
                    spends.insert(confirmed(salt));
                    let spends: Vec<OutPoint> = spends.into_iter().collect();
                    let tx = tx(&spends, 4, salt);
                    let mut entry = entry(tx, fee, weight, u64::from(salt % 5));
                    let txid = entry.tx.compute_txid();
                    entry.modified_fee = pool.modified_fee(&txid, fee);
                    pool.insert(txid, entry);
                }
                Step::Remove(index) if !present.is_empty() => {
                    prop_assert_eq!(pool.remove([*index.get(&present)]).len(), 1);
                }
                Step::RemoveWithDescendants(index) if !present.is_empty() => {
                    let gone = pool.with_descendants([*index.get(&present)]);
                    pool.remove(gone.iter().copied());
                    prop_assert!(gone.iter().all(|txid| !pool.contains(txid)));
                }
                Step::ConfirmAndReturn if !present.is_empty() => {
                    let txid = pool.mining_sequence()[0];
                    let entry = pool.remove([txid]).remove(0);
                    check(&pool);
                    pool.insert(txid, entry);
                }
                Step::EvictWorst if !present.is_empty() => {
                    let worst = pool.worst_chunk().unwrap().clone();
                    let order = pool.mining_sequence();
                    prop_assert!(worst.txids.iter().all(|txid| pool.get(txid).unwrap().children.iter().all(|c| worst.txids.contains(c))));
                    prop_assert!(order.len() >= worst.txids.len());
                    pool.remove(worst.txids);
                }
                Step::Prioritise(index, delta) if !present.is_empty() => {
                    let txid = *index.get(&present);
                    pool.prioritise(txid, delta);
                }
                Step::AddUnbroadcast(index) if !present.is_empty() => pool.add_unbroadcast(*index.get(&present)),
                _ => {}
            }
            check(&pool);
        }
        let everything: Vec<Txid> = pool.txids().copied().collect();
        pool.remove(everything);
        check(&pool);
        prop_assert_eq!((pool.usage(), pool.total_fee(), pool.total_vsize(), pool.clusters.len()), (0, 0, 0, 0));
    }
}
