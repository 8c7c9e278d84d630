//! Following the chain, and keeping within the bound on memory.

mod common;

use bitcoin::Transaction;
use cairn_chain::ChainEvent;
use cairn_chain::testing::{self, NOW};
use cairn_mempool::MempoolConfig;
use common::{Coin, Net, TIME, outputs, pay, sequenced};
use std::slice::from_ref;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Puts a longer branch in place of the last `undone` blocks; its first block holds these transactions.
fn reorganise(net: &Net, undone: u32, transactions: Vec<Transaction>) {
    let fork = net.chain.entry_at(net.chain.tip().height - undone).unwrap();
    let first = Arc::new(testing::block_after(&fork.header, fork.height + 1, 99, transactions));
    let rest = testing::branch(&first.header, fork.height + 1, undone, 99);
    for block in std::iter::once(first).chain(rest) {
        net.chain.process_block(block, NOW, false).unwrap();
    }
    assert_eq!(net.chain.tip().height, fork.height + undone + 1);
}

#[test]
fn a_block_takes_what_it_confirms_and_what_conflicts() {
    let net = Net::new();
    let (a, b) = (net.coin(), net.coin());
    let confirmed = pay(&[a], 1000, 1);
    let child = pay(&outputs(&confirmed), 1000, 1);
    let conflicted = pay(&[b], 1000, 1);
    let grandchild = pay(&outputs(&conflicted), 1000, 1);
    for tx in [&confirmed, &child, &conflicted, &grandchild] {
        net.add(tx);
    }
    let rival = pay(&[b], 0, 2);
    net.confirm(&[confirmed.clone(), rival]);
    assert_eq!(net.pool.txids(), [child.compute_txid()]);
    let child = net.pool.get(&child.compute_txid()).unwrap();
    assert_eq!((child.depends.len(), child.ancestors.0), (0, 1));
    assert_eq!(net.pool.info().bytes, child.vsize);
}

#[test]
fn an_undone_block_returns_its_transactions_below_their_children() {
    let net = Net::new();
    let parent = pay(&[net.coin()], 1000, 2);
    net.add(&parent);
    let block = net.confirm(from_ref(&parent));
    let child = pay(&outputs(&parent)[..1], 1000, 1);
    net.add(&child);
    assert_eq!(net.size(), 1);
    net.chain.invalidate_block(&block.block_hash()).unwrap();
    assert_eq!(net.pool.txids(), [parent.compute_txid(), child.compute_txid()]);
    let returned = net.pool.get(&parent.compute_txid()).unwrap();
    assert_eq!((returned.spent_by, returned.descendants.0), (vec![child.compute_txid()], 2));
    net.chain.reconsider_block(&block.block_hash()).unwrap();
    assert_eq!(net.pool.txids(), [child.compute_txid()]);
}

#[test]
fn a_reorganisation_returns_what_the_new_branch_lacks() {
    let net = Net::new();
    let (a, b, c) = (net.coin(), net.coin(), net.coin());
    let (lost, again, spent) = (pay(&[a], 1000, 1), pay(&[b], 1000, 1), pay(&[c], 1000, 1));
    let dependent = pay(&outputs(&spent), 1000, 1);
    net.confirm(from_ref(&lost));
    net.confirm(&[again.clone(), spent.clone()]);
    net.add(&dependent);
    reorganise(&net, 2, vec![again.clone(), pay(&[c], 0, 2)]);
    assert_eq!(net.pool.txids(), [lost.compute_txid()], "the second is confirmed again, the third was spent otherwise");
    assert!(net.pool.coin(&outputs(&again)[0].outpoint).unwrap().is_some());
}

#[test]
fn what_is_too_early_on_the_lower_tip_leaves() {
    let net = Net::new();
    let tip = net.chain.tip();
    // Mature in the next block and no earlier; final in the next block and no earlier.
    let block = net.chain.block(&net.chain.entry_at(tip.height - 99).unwrap().hash).unwrap().unwrap();
    let youngest = Coin { outpoint: testing::reward(&block), value: block.txdata[0].output[0].value };
    let maturing = pay(&[youngest], 1000, 1);
    let child = pay(&outputs(&maturing), 1000, 1);
    let mut locked = sequenced(pay(&[net.coin()], 1000, 1), 0xffff_fffe);
    locked.lock_time = bitcoin::absolute::LockTime::from_consensus(tip.height);
    let relative = sequenced(pay(&[net.coin()], 1000, 1), 109);
    let stays = pay(&[net.coin()], 1000, 1);
    for tx in [&maturing, &child, &locked, &relative, &stays] {
        net.add(tx);
    }
    // While a longer branch comes, the tip is lower only in passing.
    reorganise(&net, 1, Vec::new());
    assert_eq!(net.size(), 5);
    while net.chain.tip().height >= tip.height {
        net.chain.invalidate_block(&net.chain.tip().hash).unwrap();
    }
    assert_eq!(net.pool.txids(), [stays.compute_txid()]);
}

#[test]
fn who_reads_in_the_middle_of_a_reorganisation_waits_for_its_end() {
    let (said, reader) = mpsc::channel();
    let net = Net::watched(MempoolConfig::default(), move |pool, event| {
        if matches!(event, ChainEvent::Disconnected { .. }) {
            let (pool, said) = (pool.clone(), said.clone());
            let (answered, answer) = mpsc::channel();
            std::thread::spawn(move || {
                let txids = pool.txids();
                drop(answered);
                said.send(txids).unwrap();
            });
            // The reader cannot answer before this returns, so that the time always passes, unless it does not wait.
            let _: Result<(), _> = answer.recv_timeout(Duration::from_millis(300));
        }
    });
    // Final in the next block and no earlier.
    let mut locked = sequenced(pay(&[net.coin()], 1000, 1), 0xffff_fffe);
    locked.lock_time = bitcoin::absolute::LockTime::from_consensus(net.chain.tip().height);
    net.add(&locked);
    reorganise(&net, 1, Vec::new());
    assert_eq!(reader.recv().unwrap(), [locked.compute_txid()]);
    assert!(net.has(&locked));
}

#[test]
fn children_of_a_vanished_coinbase_leave() {
    let net = Net::new();
    let first = net.chain.entry_at(1).unwrap();
    let block = net.chain.block(&first.hash).unwrap().unwrap();
    let coin = Coin { outpoint: testing::reward(&block), value: block.txdata[0].output[0].value };
    net.add(&pay(&[coin], 1000, 1));
    net.chain.invalidate_block(&first.hash).unwrap();
    assert_eq!(net.size(), 0);
}

#[test]
fn the_worst_leave_when_memory_is_full_and_the_minimum_rises() {
    let net = Net::with(MempoolConfig { max_bytes: 30_000, ..MempoolConfig::default() });
    let coins = net.split(60);
    let mut evicted = 0;
    for (place, coin) in coins[..50].iter().enumerate() {
        let tx = pay(&[*coin], 1000 + 100 * place as u64, 1);
        match net.accept(&tx) {
            Ok(_) => {}
            Err(refused) => panic!("each pays more than all before: {refused}"),
        }
        let info = net.pool.info();
        assert!(info.usage <= 30_000);
        evicted = place + 1 - info.size;
    }
    assert!(evicted > 5, "{evicted} evicted");
    for (place, coin) in coins[..50].iter().enumerate() {
        assert_eq!(net.pool.spender(&coin.outpoint).is_some(), place >= evicted, "the cheapest leave first");
    }
    let minimum = net.pool.info().min_fee_rate;
    let vsize = pay(&coins[..1], 1000, 1).vsize() as u64;
    let last_evicted = 1000 + 100 * (evicted as u64 - 1);
    assert_eq!(minimum, last_evicted * 1000 / vsize + 100);
    let refused = net.accept(&pay(&coins[55..56], 1000, 1)).unwrap_err();
    assert_eq!(refused.reason, "mempool min fee not met");
    let needed = (minimum * vsize).div_ceil(1000);
    let refused = net.accept(&pay(&coins[56..57], needed, 1)).unwrap_err();
    assert_eq!(refused.reason, "mempool full", "it pays the minimum and is the worst still");
    // After a block the minimum decays.
    net.confirm(&[]);
    let late = TIME + 3 * 12 * 3600;
    net.pool.test_accept(&pay(&coins[57..58], needed, 1), late).unwrap();
    assert!(net.pool.info().min_fee_rate < minimum / 4);
}

#[test]
fn what_waited_too_long_leaves_with_its_children() {
    let net = Net::with(MempoolConfig { expiry_seconds: 3600, ..MempoolConfig::default() });
    let old = pay(&[net.coin()], 1000, 1);
    net.add(&old);
    let child = pay(&outputs(&old), 1000, 1);
    net.pool.accept(child.clone(), TIME + 3000).unwrap();
    let first = pay(&[net.coin()], 1000, 1);
    net.pool.accept(first.clone(), TIME + 3600).unwrap();
    assert_eq!(net.size(), 3);
    let second = pay(&[net.coin()], 1000, 1);
    net.pool.accept(second.clone(), TIME + 3601).unwrap();
    assert!(!net.has(&old) && !net.has(&child) && net.has(&first) && net.has(&second));
}

#[test]
fn a_selection_is_best_first_and_within_its_limits() {
    let net = Net::new();
    let coins = net.split(4);
    let cheap_parent = pay(&coins[..1], 100, 1);
    let rich_child = pay(&outputs(&cheap_parent), 9000, 1);
    let middle = pay(&coins[1..2], 3000, 1);
    let free = pay(&coins[2..3], 30, 1);
    for tx in [&cheap_parent, &rich_child, &middle, &free] {
        net.add(tx);
    }
    let ids = |weight, sigops| -> Vec<_> {
        net.pool.select(weight, sigops).iter().map(|entry| entry.tx.compute_txid()).collect()
    };
    let [parent, child, middle_id, free_id] =
        [&cheap_parent, &rich_child, &middle, &free].map(Transaction::compute_txid);
    assert_eq!(ids(4_000_000, 80_000), [parent, child, middle_id, free_id]);
    let weight = cheap_parent.weight().to_wu();
    assert_eq!(ids(2 * weight + 1, 80_000), [parent, child]);
    assert_eq!(ids(2 * weight, 80_000), [middle_id], "a chunk goes in as a whole or not at all");
    assert_eq!(ids(4_000_000, 0).len(), 0);
}
