//! What peers are told: ids, order of announcements, when a transaction came.

mod common;

use bitcoin::Wtxid;
use common::{Net, TIME, outputs, pay};

#[test]
fn transactions_are_found_by_both_ids() {
    let net = Net::new();
    let tx = pay(&[net.coin()], 1000, 1);
    let mut other_witness = tx.clone();
    other_witness.input[0].witness.push([1]);
    assert!(!net.pool.contains(&tx.compute_txid()) && !net.pool.contains_wtxid(&tx.compute_wtxid()));
    net.add(&tx);
    assert!(net.pool.contains(&other_witness.compute_txid()));
    assert!(net.pool.contains_wtxid(&tx.compute_wtxid()));
    assert!(!net.pool.contains_wtxid(&other_witness.compute_wtxid()));
    assert_eq!(net.pool.get_tx(&tx.compute_txid()).as_deref(), Some(&tx));
    assert_eq!(net.pool.get_tx_by_wtxid(&tx.compute_wtxid()).as_deref(), Some(&tx));
    assert_eq!(net.pool.get_tx_by_wtxid(&other_witness.compute_wtxid()), None);
    let mut seen = Vec::new();
    net.pool.for_each(|wtxid, tx| seen.push((*wtxid, tx.compute_txid())));
    assert_eq!(seen, [(tx.compute_wtxid(), tx.compute_txid())]);
    net.confirm(std::slice::from_ref(&tx));
    assert!(!net.pool.contains(&tx.compute_txid()) && !net.pool.contains_wtxid(&tx.compute_wtxid()));
}

#[test]
fn announcements_go_best_first_and_parents_before_children() {
    let net = Net::new();
    let poor_parent = pay(&[net.coin()], 100, 1);
    let rich_child = pay(&outputs(&poor_parent), 9000, 1);
    let middle = pay(&[net.coin()], 2000, 1);
    let poor = pay(&[net.coin()], 150, 1);
    for tx in [&middle, &poor, &poor_parent, &rich_child] {
        net.add(tx);
    }
    let absent = pay(&[net.coin()], 1000, 1);
    let wtxid = |tx: &bitcoin::Transaction| tx.compute_wtxid();
    let mut wtxids: Vec<Wtxid> = [&poor, &rich_child, &absent, &middle, &poor_parent].map(wtxid).to_vec();
    net.pool.sort_for_announcement(&mut wtxids);
    assert_eq!(wtxids, [&poor_parent, &rich_child, &middle, &poor].map(wtxid));
}

#[test]
fn an_entry_tells_when_it_came_in_time_and_in_sequence() {
    let net = Net::new();
    assert_eq!(net.pool.sequence(), 1);
    let first = pay(&[net.coin()], 1000, 1);
    let second = pay(&[net.coin()], 2000, 1);
    net.add(&first);
    let between = net.pool.sequence();
    net.add(&second);
    let entry = |tx: &bitcoin::Transaction| net.pool.relay_entry(&tx.compute_txid()).unwrap();
    assert!(entry(&first).sequence < between && entry(&second).sequence >= between);
    let second_entry = net.pool.relay_entry_by_wtxid(&second.compute_wtxid()).unwrap();
    assert_eq!((second_entry.fee.to_sat(), second_entry.vsize), (2000, second.vsize() as u64));
    assert_eq!((second_entry.txid, second_entry.time), (second.compute_txid(), TIME));
    let block = net.confirm(std::slice::from_ref(&first));
    net.chain.invalidate_block(&block.block_hash()).unwrap();
    assert_eq!(entry(&first).sequence, 0, "what a block returns is as old as can be");
}
