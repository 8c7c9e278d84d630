//! Replacement, chains and clusters.

mod common;

use bitcoin::Txid;
use cairn_consensus::error::TxRejectKind;
use common::{Net, outputs, pay};

#[test]
fn a_better_transaction_replaces_another_and_its_descendants() {
    let net = Net::new();
    let coin = net.coin();
    let first = pay(&[coin], 1000, 1);
    net.add(&first);
    let child = pay(&outputs(&first), 1000, 1);
    net.add(&child);

    let refused = net.refusal(&pay(&[coin], 1999, 1));
    assert_eq!((&*refused.reason, refused.kind), ("insufficient fee", TxRejectKind::Reconsiderable));
    let words = "less fees than conflicting txs; 0.00001999 < 0.00002";
    assert!(refused.debug.ends_with(words), "{refused}");
    let refused = net.refusal(&pay(&[coin], 2000, 1));
    assert!(refused.debug.contains("not enough additional fees to relay; 0.00 < 0.0000001"), "{refused}");

    let better = pay(&[coin], 4000, 1);
    let mut replaced = net.accept(&better).unwrap().replaced;
    replaced.sort();
    let mut expected = vec![first.compute_txid(), child.compute_txid()];
    expected.sort();
    assert_eq!(replaced, expected);
    assert!(!net.has(&first) && !net.has(&child) && net.has(&better));
    assert_eq!(net.pool.spender(&coin.outpoint), Some(better.compute_txid()));
    assert_eq!(net.pool.info().total_fee, 4000);
}

#[test]
fn a_replacement_must_improve_the_diagram() {
    let net = Net::new();
    let coins = net.split(2);
    // Small and dear; the replacement pays more in all but is so large that miners would get less early on.
    net.add(&pay(&coins[..1], 20_000, 1));
    assert_eq!(net.refuses(&pay(&coins, 40_000, 300)), "replacement-failed");
    net.add(&pay(&coins, 40_000, 1));
}

#[test]
fn nobody_spends_what_he_replaces() {
    let net = Net::new();
    let coin = net.coin();
    let parent = pay(&[coin], 1000, 2);
    net.add(&parent);
    let tx = pay(&[coin, outputs(&parent)[0]], 100_000, 1);
    let refused = net.refusal(&tx);
    assert_eq!((&*refused.reason, refused.kind), ("bad-txns-spends-conflicting-tx", TxRejectKind::Consensus));
}

#[test]
fn a_replacement_touches_at_most_a_hundred_clusters() {
    let net = Net::new();
    let coins = net.split(101);
    for coin in &coins {
        net.add(&pay(&[*coin], 1000, 1));
    }
    let refused = net.refusal(&pay(&coins, 10_000_000, 1));
    assert_eq!(refused.reason, "too many potential replacements");
    assert!(refused.debug.ends_with("too many conflicting clusters (101 > 100)"), "{refused}");
    assert_eq!(net.accept(&pay(&coins[..100], 10_000_000, 1)).unwrap().replaced.len(), 100);
}

#[test]
fn a_cluster_holds_64_transactions() {
    let net = Net::new();
    let mut last = pay(&[net.coin()], 1000, 1);
    let mut chain: Vec<Txid> = vec![net.add(&last)];
    for _ in 1..64 {
        last = pay(&outputs(&last), 1000, 1);
        chain.push(net.add(&last));
    }
    assert_eq!(net.refuses(&pay(&outputs(&last), 1000, 1)), "too-large-cluster");
    let tail = net.pool.get(&chain[63]).unwrap();
    let vsize = tail.vsize;
    assert_eq!((tail.ancestors, tail.descendants), ((64, 64 * vsize, 64_000), (1, vsize, 1000)));
    let middle = net.pool.get(&chain[10]).unwrap();
    assert_eq!((middle.ancestors.0, middle.descendants.0), (11, 54));
    assert_eq!((middle.depends, middle.spent_by), (vec![chain[9]], vec![chain[11]]));
    assert_eq!(net.pool.txids(), chain);
    // A replacement inside the full cluster only takes a place that becomes free.
    let before_last = net.pool.get(&chain[62]).unwrap().tx;
    net.add(&pay(&outputs(&before_last), 5000, 1));
    assert_eq!(net.size(), 64);
}

#[test]
fn a_cluster_holds_101_000_vbytes() {
    let net = Net::new();
    let parent = pay(&[net.coin()], 1_000_000, 2);
    net.add(&parent);
    let coins = outputs(&parent);
    let large = pay(&coins[..1], 1_000_000, 2000);
    net.add(&large);
    let left = 101_000 - parent.vsize() - large.vsize();
    let filling = |vsize: usize| pay(&coins[1..], 1_000_000, (vsize / 43) as u64);
    assert_eq!(net.refuses(&filling(left + 43)), "too-large-cluster");
    net.add(&filling(left - 200));
}

#[test]
fn coins_and_spenders_are_seen_through_the_mempool() {
    let net = Net::new();
    let coin = net.coin();
    let tx = pay(&[coin], 1000, 2);
    assert!(net.pool.coin(&coin.outpoint).unwrap().is_some_and(|coin| coin.coinbase));
    net.add(&tx);
    assert_eq!(net.pool.coin(&coin.outpoint).unwrap(), None);
    let made = net.pool.coin(&outputs(&tx)[1].outpoint).unwrap().unwrap();
    assert_eq!((made.height, made.coinbase, made.output), (cairn_mempool::MEMPOOL_HEIGHT, false, tx.output[1].clone()));
    let mut beyond = outputs(&tx)[1].outpoint;
    beyond.vout = 2;
    assert_eq!(net.pool.coin(&beyond).unwrap(), None);
}
