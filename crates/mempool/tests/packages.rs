//! Several transactions at once: what may come together that could not come alone.

mod common;

use bitcoin::{Amount, Transaction, Wtxid};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_mempool::{Accepted, MempoolConfig, PackageRejectKind, PackageResult, PackageTxResult};
use common::{Net, TIME, outputs, pay, version};
use std::sync::Arc;

fn shared(txs: &[&Transaction]) -> Vec<Arc<Transaction>> {
    txs.iter().map(|tx| Arc::new((*tx).clone())).collect()
}

fn submit(net: &Net, txs: &[&Transaction]) -> PackageResult {
    net.pool.accept_package(&shared(txs), None, TIME)
}

fn test(net: &Net, txs: &[&Transaction]) -> PackageResult {
    net.pool.test_accept_package(&shared(txs), TIME)
}

/// The reason for which a package is refused as a whole, before any transaction of it is judged.
fn refused_whole(result: &PackageResult) -> String {
    let failure = result.failure.as_ref().expect("it must be refused");
    assert_eq!(failure.kind, PackageRejectKind::Policy, "{failure}");
    assert!(result.transactions.values().all(|result| matches!(result, PackageTxResult::Rejected(_))));
    failure.reason.to_string()
}

fn accepted<'a>(result: &'a PackageResult, tx: &Transaction) -> &'a Accepted {
    match &result.transactions[&tx.compute_wtxid()] {
        PackageTxResult::Accepted(accepted) => accepted,
        other => panic!("not accepted: {other:?}"),
    }
}

fn rejected<'a>(result: &'a PackageResult, tx: &Transaction) -> &'a TxReject {
    match &result.transactions[&tx.compute_wtxid()] {
        PackageTxResult::Rejected(reason) => reason,
        other => panic!("not rejected: {other:?}"),
    }
}

fn wtxids(txs: &[&Transaction]) -> Vec<Wtxid> {
    txs.iter().map(|tx| tx.compute_wtxid()).collect()
}

#[test]
fn a_child_pays_for_a_parent_that_pays_nothing() {
    let net = Net::new();
    let parent = pay(&[net.coin()], 0, 1);
    let child = pay(&outputs(&parent), 10_000, 1);
    assert_eq!(net.refusal(&parent).kind, TxRejectKind::Reconsiderable);
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(result.failure, None);
    let vsize = (parent.vsize() + child.vsize()) as u64;
    for tx in [&parent, &child] {
        let accepted = accepted(&result, tx);
        assert_eq!(accepted.effective_rate, 10_000 * 1000 / vsize);
        assert_eq!(accepted.effective_includes, wtxids(&[&parent, &child]));
        assert!(net.has(tx));
    }
    assert_eq!((accepted(&result, &parent).fee, accepted(&result, &child).fee.to_sat()), (Amount::ZERO, 10_000));
    // In a test each pays for itself.
    let net = Net::new();
    let parent = pay(&[net.coin()], 0, 1);
    let child = pay(&outputs(&parent), 10_000, 1);
    let result = test(&net, &[&parent, &child]);
    assert_eq!(rejected(&result, &parent).reason, "min relay fee not met");
    assert!(!result.transactions.contains_key(&child.compute_wtxid()), "it was not looked at");
}

#[test]
fn who_can_come_alone_comes_alone_and_lends_no_fee() {
    let net = Net::new();
    let (rich, poor) = (pay(&[net.coin()], 100_000, 1), pay(&[net.coin()], 0, 1));
    let child = pay(&[outputs(&rich)[0], outputs(&poor)[0]], 0, 1);
    let result = submit(&net, &[&rich, &poor, &child]);
    assert_eq!(result.failure.as_ref().unwrap().to_string(), "transaction failed");
    assert_eq!(accepted(&result, &rich).effective_includes, wtxids(&[&rich]));
    assert_eq!(rejected(&result, &poor).reason, "min relay fee not met");
    assert_eq!(rejected(&result, &child).reason, "min relay fee not met");
    assert!(net.has(&rich) && !net.has(&poor) && !net.has(&child));
}

#[test]
fn what_is_here_already_is_no_part_of_the_package() {
    let net = Net::new();
    let (known, poor) = (pay(&[net.coin()], 1000, 2), pay(&[net.coin()], 0, 1));
    net.add(&known);
    let mut other_witness = known.clone();
    other_witness.input[0].witness.push([1]);
    let child = pay(&[outputs(&known)[0], outputs(&poor)[0]], 10_000, 1);
    let result = submit(&net, &[&other_witness, &poor, &child]);
    assert_eq!(result.failure, None);
    let here = &result.transactions[&other_witness.compute_wtxid()];
    assert!(matches!(here, PackageTxResult::DifferentWitness(wtxid) if *wtxid == known.compute_wtxid()), "{here:?}");
    assert_eq!(accepted(&result, &child).effective_includes, wtxids(&[&poor, &child]));

    let again = submit(&net, &[&known, &poor, &child]);
    assert_eq!(again.failure, None);
    let here = &again.transactions[&known.compute_wtxid()];
    let expected = (known.vsize() as u64, Amount::from_sat(1000));
    assert!(matches!(here, PackageTxResult::InMempool { vsize, fee } if (*vsize, *fee) == expected), "{here:?}");
}

#[test]
fn what_no_package_may_be() {
    let net = Net::new();
    let coins = net.split(30);
    let parent = pay(&coins[..1], 1000, 2);
    let child = pay(&outputs(&parent)[..1], 1000, 1);
    let grandchild = pay(&outputs(&child), 1000, 1);
    let rival = pay(&coins[..1], 2000, 1);
    let many: Vec<Transaction> = coins.iter().take(26).map(|coin| pay(&[*coin], 1000, 1)).collect();
    let large: Vec<Transaction> = (0..2).map(|n| pay(&coins[n..n + 1], 100_000, 1200)).collect();
    assert!(large.iter().map(|tx| tx.weight().to_wu()).sum::<u64>() > 404_000);
    let both = [submit, test];
    for go in both {
        assert_eq!(refused_whole(&go(&net, &many.iter().collect::<Vec<_>>())), "package-too-many-transactions");
        assert_eq!(refused_whole(&go(&net, &large.iter().collect::<Vec<_>>())), "package-too-large");
        assert_eq!(refused_whole(&go(&net, &[&parent, &parent])), "package-contains-duplicates");
        assert_eq!(refused_whole(&go(&net, &[&child, &parent])), "package-not-sorted");
        assert_eq!(refused_whole(&go(&net, &[&parent, &rival])), "conflict-in-package");
    }
    assert_eq!(refused_whole(&submit(&net, &[&parent, &child, &grandchild])), "package-not-child-with-parents");
    assert_eq!(refused_whole(&submit(&net, &[&parent, &pay(&coins[1..2], 1000, 1)])), "package-not-child-with-parents");
    assert_eq!(net.size(), 0);
    // A test takes any shape.
    assert_eq!(test(&net, &[&parent, &child, &grandchild, &pay(&coins[1..2], 1000, 1)]).failure, None);
    // 25 are not too many.
    let several = test(&net, &many.iter().take(25).collect::<Vec<_>>());
    assert_eq!((several.failure, several.transactions.len()), (None, 25));
}

#[test]
fn a_test_replaces_nothing() {
    let net = Net::new();
    let coin = net.coin();
    net.add(&pay(&[coin], 1000, 1));
    let better = pay(&[coin], 10_000, 1);
    let other = pay(&[net.coin()], 1000, 1);
    let result = test(&net, &[&other, &better]);
    assert_eq!(rejected(&result, &better).reason, "bip125-replacement-disallowed");
    assert!(!result.transactions.contains_key(&other.compute_wtxid()));
}

#[test]
fn a_package_replaces_what_pays_less_than_both() {
    let net = Net::new();
    let coin = net.coin();
    let old = pay(&[coin], 1000, 1);
    net.add(&old);
    let parent = pay(&[coin], 500, 1);
    let too_little = pay(&outputs(&parent), 500, 1);
    let result = submit(&net, &[&parent, &too_little]);
    assert_eq!(refused_whole(&result), "package RBF failed: insufficient anti-DoS fees");
    let words = "not enough additional fees to relay; 0.00 < 0.0000002";
    assert!(result.failure.as_ref().unwrap().debug.ends_with(words), "{:?}", result.failure);
    assert_eq!(rejected(&result, &parent).reason, "insufficient fee");
    assert_eq!(rejected(&result, &too_little).reason, "bad-txns-inputs-missingorspent");

    let child = pay(&outputs(&parent), 5000, 1);
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(result.failure, None);
    assert_eq!(accepted(&result, &parent).replaced, [old.compute_txid()]);
    assert!(accepted(&result, &child).replaced.is_empty(), "told once");
    assert!(!net.has(&old) && net.has(&parent) && net.has(&child));
}

#[test]
fn a_package_that_replaces_is_one_parent_and_one_child_without_unconfirmed_ancestors() {
    let net = Net::new();
    let (coin, unrelated) = (net.coin(), net.coin());
    net.add(&pay(&[coin], 1000, 1));
    let (parent, poor) = (pay(&[coin], 0, 1), pay(&[unrelated], 0, 1));
    let child = pay(&[outputs(&parent)[0], outputs(&poor)[0]], 50_000, 1);
    let result = submit(&net, &[&parent, &poor, &child]);
    assert_eq!(refused_whole(&result), "package RBF failed: package must be 1-parent-1-child");

    let grandparent = pay(&[net.coin()], 1000, 1);
    net.add(&grandparent);
    let child = pay(&[outputs(&parent)[0], outputs(&grandparent)[0]], 50_000, 1);
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(refused_whole(&result), "package RBF failed: new transaction cannot have mempool ancestors");

    // The parent must not pay better than both together.
    let dear = pay(&[coin], 900, 1);
    let cheap = pay(&outputs(&dear), 800, 1);
    let result = submit(&net, &[&dear, &cheap]);
    assert_eq!(refused_whole(&result), "package RBF failed: package feerate is less than or equal to parent feerate");
    let rate = |fee: usize, vsize: usize| format!("0.{:08} BTC/kvB", fee * 1000 / vsize);
    let debug = format!(
        "package feerate {} <= parent feerate is {}",
        rate(1700, dear.vsize() + cheap.vsize()),
        rate(900, dear.vsize())
    );
    assert_eq!(result.failure.unwrap().debug, debug);
}

#[test]
fn dust_comes_with_the_child_that_spends_it() {
    let net = Net::new();
    let dusty = {
        let mut tx = pay(&[net.coin()], 0, 2);
        let rest = tx.output[1].value - Amount::from_sat(100);
        tx.output[0].value += rest;
        tx.output[1].value = Amount::from_sat(100);
        tx
    };
    let coins = outputs(&dusty);
    let leaves_dust = pay(&coins[..1], 10_000, 1);
    let result = submit(&net, &[&dusty, &leaves_dust]);
    assert_eq!(result.failure.as_ref().unwrap().to_string(), "unspent-dust");
    assert_eq!(rejected(&result, &leaves_dust).reason, "missing-ephemeral-spends");
    assert_eq!(rejected(&result, &dusty).reason, "min relay fee not met");
    assert_eq!(submit(&net, &[&dusty, &pay(&coins, 10_000, 1)]).failure, None);
    assert!(net.pool.prioritise(dusty.compute_txid(), 1000).is_err(), "nobody pays to mine it alone");
}

#[test]
fn version_3_packages_are_a_parent_and_a_child() {
    let net = Net::new();
    let coins = net.split(3);
    let parents: Vec<Transaction> = coins.iter().map(|coin| version(pay(&[*coin], 0, 2), 3)).collect();
    let child = version(pay(&outputs(&parents[0])[..1], 5000, 1), 3);
    let spends_both = version(pay(&[outputs(&parents[0])[0], outputs(&parents[1])[0]], 5000, 1), 3);
    let violation = |result: PackageResult, words: &str| {
        assert_eq!(refused_whole(&result), "TRUC-violation");
        let debug = result.failure.unwrap().debug;
        assert!(debug.contains(words), "{debug}");
    };
    violation(submit(&net, &[&parents[0], &parents[1], &spends_both]), "would have too many ancestors");
    violation(submit(&net, &[&parents[0], &version(child.clone(), 2)]), "cannot spend from version=3 tx");
    let plain = pay(&coins[..1], 0, 1);
    let of_plain = version(pay(&outputs(&plain), 5000, 1), 3);
    violation(submit(&net, &[&plain, &of_plain]), "cannot spend from non-version=3 tx");
    violation(submit(&net, &[&parents[0], &version(pay(&outputs(&parents[0])[..1], 9000, 30), 3)]), "is too big");
    let sibling = version(pay(&outputs(&parents[0])[1..], 5000, 1), 3);
    let net_without_minimum = Net::with(MempoolConfig { min_relay_fee_rate: 0, ..MempoolConfig::default() });
    let coin = net_without_minimum.coin();
    let parent = version(pay(&[coin], 0, 2), 3);
    let two: Vec<Transaction> = outputs(&parent).iter().map(|coin| version(pay(&[*coin], 500, 1), 3)).collect();
    violation(test(&net_without_minimum, &[&parent, &two[0], &two[1]]), "would exceed descendant count limit");
    let below = version(pay(&outputs(&two[0]), 500, 1), 3);
    violation(test(&net_without_minimum, &[&parent, &two[0], &below]), "would have too many ancestors");

    assert_eq!(submit(&net, &[&parents[0], &child]).failure, None);
    // The parent is here: the child comes alone, and may take its sibling's place.
    let mut better = sibling.clone();
    better.output[0].value -= Amount::from_sat(5000);
    let result = submit(&net, &[&parents[0], &better]);
    assert_eq!(result.failure, None);
    assert_eq!(accepted(&result, &better).replaced, [child.compute_txid()]);
}

#[test]
fn a_caller_pays_no_more_than_it_says() {
    let net = Net::new();
    let coin = net.coin();
    let parent = pay(&[coin], 0, 1);
    let child = pay(&outputs(&parent), 10_000, 1);
    let rate = 10_000 * 1000 / child.vsize() as u64;
    let result = net.pool.accept_package(&shared(&[&parent, &child]), Some(rate - 1), TIME);
    assert_eq!(rejected(&result, &child).reason, "max feerate exceeded");
    assert_eq!(result.failure.unwrap().to_string(), "transaction failed");
    assert_eq!(net.size(), 0);
    assert_eq!(net.pool.accept_package(&shared(&[&parent, &child]), Some(rate + 1), TIME).failure, None);
}

#[test]
fn a_bad_signature_is_told_of_the_transaction_that_has_it() {
    let net = Net::new();
    let parent = pay(&[net.coin()], 0, 1);
    let mut child = pay(&outputs(&parent), 10_000, 1);
    child.input[0].witness = bitcoin::Witness::from_slice(&[[0x52]]);
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(result.failure.as_ref().unwrap().to_string(), "transaction failed");
    let words = "mempool-script-verify-flag-failed (Witness program hash mismatch)";
    assert_eq!(rejected(&result, &child).reason, words);
    assert_eq!(rejected(&result, &parent).kind, TxRejectKind::Reconsiderable);
    assert_eq!(net.size(), 0);

    // In a test those before it are told to be good.
    let paying = pay(&[net.coin()], 1000, 1);
    let mut child = pay(&outputs(&paying), 10_000, 1);
    child.input[0].witness = bitcoin::Witness::from_slice(&[[0x52]]);
    let result = test(&net, &[&paying, &child]);
    assert_eq!(accepted(&result, &paying).fee.to_sat(), 1000);
    assert_eq!(rejected(&result, &child).reason, words);
}

#[test]
fn a_package_that_does_not_fit_is_told_so() {
    let roomy = Net::new();
    let parent = pay(&[roomy.coin()], 0, 1);
    let child = pay(&outputs(&parent), 10_000, 1);
    assert_eq!(submit(&roomy, &[&parent, &child]).failure, None);
    let max_bytes = roomy.pool.info().usage - 1;
    let net = Net::with(MempoolConfig { max_bytes, ..MempoolConfig::default() });
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(result.failure.as_ref().unwrap().to_string(), "transaction failed");
    for tx in [&parent, &child] {
        let reason = rejected(&result, tx);
        assert_eq!((&*reason.reason, reason.kind), ("mempool full", TxRejectKind::MempoolPolicy));
    }
    assert_eq!(net.size(), 0);
    // What was evicted sets the minimum for packages too.
    let poorer = pay(&outputs(&parent), 9000, 1);
    assert_eq!(rejected(&submit(&net, &[&parent, &poorer]), &poorer).reason, "mempool min fee not met");
}

#[test]
fn a_fee_that_an_operator_adds_counts_in_packages_too() {
    let net = Net::new();
    let parent = pay(&[net.coin()], 0, 1);
    let child = pay(&outputs(&parent), 0, 1);
    net.pool.prioritise(child.compute_txid(), 10_000).unwrap();
    let result = submit(&net, &[&parent, &child]);
    assert_eq!(result.failure, None);
    let vsize = (parent.vsize() + child.vsize()) as u64;
    assert_eq!(accepted(&result, &child).effective_rate, 10_000 * 1000 / vsize);
    let entry = net.pool.get(&child.compute_txid()).unwrap();
    assert_eq!((entry.fee, entry.modified_fee), (Amount::ZERO, 10_000));
    assert_eq!(entry.ancestors, (2, vsize, 10_000));
    assert_eq!(net.pool.info().total_fee, 0, "what is really paid");
}
