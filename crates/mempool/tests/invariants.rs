//! Whatever comes in whatever order: what is always true of the mempool.

mod common;

use bitcoin::{OutPoint, Transaction, Txid};
use cairn_chain::testing::{self, NOW};
use cairn_mempool::{CLUSTER_COUNT_LIMIT, CLUSTER_VSIZE_LIMIT, MempoolConfig, MempoolEntry};
use common::{Coin, Net, TIME, outputs, pay, version};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    /// A transaction that spends these, confirmed or not, perhaps what another here spends too.
    Accept {
        spends: Vec<Index>,
        fee: u64,
        outputs: u64,
        truc: bool,
    },
    /// A parent that pays little, and its child.
    Package {
        spends: Index,
        fee: u64,
        child_fee: u64,
    },
    /// A block with the best of the mempool, and perhaps with a rival of what is there.
    Block {
        take: usize,
        rival: Option<Index>,
    },
    /// A branch that is longer by one in place of the last blocks, empty.
    Reorganise {
        undone: u32,
    },
    Prioritise(Index, i64),
    /// Time goes by.
    Wait {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let spends = prop::collection::vec(any::<Index>(), 1..3);
    prop_oneof![
        8 => (spends, 0u64..3000, 1u64..40, prop::bool::weighted(0.2))
            .prop_map(|(spends, fee, outputs, truc)| Step::Accept { spends, fee, outputs, truc }),
        2 => (any::<Index>(), 0u64..100, 0u64..5000)
            .prop_map(|(spends, fee, child_fee)| Step::Package { spends, fee, child_fee }),
        1 => (0usize..5, prop::option::of(any::<Index>())).prop_map(|(take, rival)| Step::Block { take, rival }),
        1 => (1u32..3).prop_map(|undone| Step::Reorganise { undone }),
        1 => (any::<Index>(), -3000i64..3000).prop_map(|(index, delta)| Step::Prioritise(index, delta)),
        1 => prop_oneof![0u64..3600, 3600u64..40_000].prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// A mempool with little room and little patience, and everything that was ever made for it.
struct World {
    net: Net,
    now: u64,
    made: Vec<Transaction>,
    salt: u32,
}

impl World {
    fn new() -> World {
        let config = MempoolConfig { max_bytes: 40_000, expiry_seconds: 20_000, ..MempoolConfig::default() };
        let net = Net::with(config);
        let split = pay(&[net.coin()], 0, 20);
        net.confirm(std::slice::from_ref(&split));
        World { net, now: TIME, made: vec![split], salt: 0 }
    }

    /// Outputs that a transaction may try to spend: most are spent already, some are gone.
    fn coins(&self) -> Vec<Coin> {
        let last = self.made.iter().rev().take(30);
        last.chain(&self.made[..1]).flat_map(outputs).filter(|coin| coin.value.to_sat() > 20_000).collect()
    }

    fn run(&mut self, step: Step) {
        let before = self.net.pool.info();
        let pool = self.net.pool.clone();
        match step {
            Step::Accept { spends, fee, outputs, truc } => {
                let coins = self.coins();
                let picked: BTreeMap<OutPoint, Coin> =
                    spends.iter().map(|index| *index.get(&coins)).map(|coin| (coin.outpoint, coin)).collect();
                let coins: Vec<Coin> = picked.into_values().collect();
                let tx = version(pay(&coins, fee, outputs), if truc { 3 } else { 2 });
                let _ = pool.accept(tx.clone(), self.now);
                self.made.push(tx);
            }
            Step::Package { spends, fee, child_fee } => {
                let parent = pay(&[*spends.get(&self.coins())], fee, 1);
                let child = pay(&outputs(&parent), child_fee, 1);
                let _ = pool.accept_package(&[Arc::new(parent.clone()), Arc::new(child.clone())], None, self.now);
                self.made.extend([parent, child]);
            }
            Step::Block { take, rival } => {
                let mut chosen: Vec<Transaction> =
                    pool.select(400_000, 80_000).iter().take(take).map(|entry| (*entry.tx).clone()).collect();
                // Spends a confirmed coin that something in the mempool spends, but nothing in the block.
                let taken: HashSet<OutPoint> =
                    chosen.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
                let contested: Vec<Coin> = (self.coins().into_iter())
                    .filter(|coin| pool.spender(&coin.outpoint).is_some() && !taken.contains(&coin.outpoint))
                    .filter(|coin| self.net.chain.coin(&coin.outpoint).unwrap().is_some())
                    .collect();
                if let Some(rival) = rival.filter(|_| !contested.is_empty()) {
                    let tx = pay(&[*rival.get(&contested)], 0, 2);
                    self.made.push(tx.clone());
                    chosen.push(tx);
                }
                self.net.confirm(&chosen);
            }
            Step::Reorganise { undone } => {
                let tip = self.net.chain.tip().height;
                // The block that made the coins stays.
                if tip - undone > 111 {
                    let side = self.net.chain.entry_at(tip - undone).unwrap();
                    self.salt += 1;
                    let first = testing::block_after(&side.header, side.height + 1, 1000 + self.salt, Vec::new());
                    let branch = testing::branch(&first.header, side.height + 1, undone, 1000 + self.salt);
                    for block in std::iter::once(Arc::new(first)).chain(branch) {
                        self.net.chain.process_block(block, NOW, false).unwrap();
                    }
                }
            }
            Step::Prioritise(index, delta) => {
                let txid = index.get(&self.made).compute_txid();
                let _ = pool.prioritise(txid, delta);
            }
            Step::Wait { seconds } => {
                self.now += seconds;
                // Somebody tells the time.
                let _ = pool.test_accept(&self.made[0], self.now);
                assert!(pool.info().min_fee_rate <= before.min_fee_rate, "time only lowers the minimum");
            }
        }
        self.check();
    }

    fn check(&self) {
        let pool = &self.net.pool;
        let entries = pool.entries();
        let by_id: BTreeMap<Txid, &MempoolEntry> = entries.iter().map(|entry| (entry.txid, entry)).collect();
        let mut spent = HashSet::new();
        let mut seen = BTreeSet::new();
        for entry in &entries {
            for input in &entry.tx.input {
                let outpoint = input.previous_output;
                assert!(spent.insert(outpoint), "two spend one output");
                assert_eq!(pool.spender(&outpoint), Some(entry.txid));
                match by_id.get(&outpoint.txid) {
                    Some(parent) => {
                        assert!(seen.contains(&outpoint.txid), "a child before its parent");
                        assert!((outpoint.vout as usize) < parent.tx.output.len());
                        assert!(parent.spent_by.contains(&entry.txid) && entry.depends.contains(&outpoint.txid));
                    }
                    None => assert!(self.net.chain.coin(&outpoint).unwrap().is_some(), "nobody has what it spends"),
                }
            }
            seen.insert(entry.txid);
            assert_eq!(entry.spent_by.len(), entry.spent_by.iter().filter(|txid| by_id.contains_key(*txid)).count());
            assert!(pool.contains_wtxid(&entry.wtxid));
            let delta = pool.prioritised().iter().find(|one| one.txid == entry.txid).map_or(0, |one| one.fee_delta);
            assert_eq!(entry.modified_fee, entry.fee.to_sat() as i64 + delta);
            let cluster = pool.cluster(&entry.txid).unwrap();
            assert!(cluster.iter().map(|chunk| chunk.txids.len()).sum::<usize>() <= CLUSTER_COUNT_LIMIT);
            assert!(cluster.iter().map(|chunk| chunk.weight).sum::<u64>() <= CLUSTER_VSIZE_LIMIT * 4);
            let rate = |chunk: &cairn_mempool::MempoolChunk| chunk.fee as f64 / chunk.weight as f64;
            assert!(cluster.windows(2).all(|pair| rate(&pair[0]) >= rate(&pair[1])));
        }
        let info = pool.info();
        assert_eq!(info.size, entries.len());
        assert_eq!(info.bytes, entries.iter().map(|entry| entry.vsize).sum::<u64>());
        assert_eq!(info.total_fee, entries.iter().map(|entry| entry.fee.to_sat()).sum::<u64>());
        assert!(info.usage <= pool.config().max_bytes, "within its bound");
        assert_eq!(info.usage == 0, entries.is_empty());
        // What it says can be mined can.
        let selected: Vec<Transaction> =
            pool.select(4_000_000, 80_000).iter().map(|entry| (*entry.tx).clone()).collect();
        let tip = self.net.chain.tip();
        let block = testing::block_after(&tip.header, tip.height + 1, 1, selected);
        self.net.chain.test_block(&block, NOW, false, false).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn conflicts_parents_totals_limits_and_blocks_are_always_right(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
    }
}

#[test]
fn the_minimum_rises_with_eviction_and_falls_with_time_after_a_block() {
    let net = Net::with(MempoolConfig { max_bytes: 20_000, ..MempoolConfig::default() });
    let coins = net.split(40);
    for (coin, fee) in coins.iter().zip((1..).map(|n| n * 500)) {
        let _ = net.pool.accept(pay(&[*coin], fee, 1), TIME);
    }
    let full = net.pool.info().min_fee_rate;
    assert!(full > 1000, "{full}");
    let later = |seconds: u64| {
        let _ = net.pool.test_accept(&pay(&coins[..1], 1, 1), TIME + seconds);
        net.pool.info().min_fee_rate
    };
    assert_eq!(later(24 * 3600), full, "no block came");
    net.confirm(&[]);
    let falling: Vec<u64> = (1..20).map(|day| later(day * 24 * 3600)).collect();
    assert!(falling.windows(2).all(|pair| pair[0] >= pair[1]) && falling[0] < full, "{falling:?}");
    assert_eq!(falling[18], 100, "the minimum relay fee rate is left");
}
