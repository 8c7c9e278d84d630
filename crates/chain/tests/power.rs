//! A power failure at any moment: torn and reordered writes under the files and under the database.

mod common;
#[path = "common/power.rs"]
mod power;

use bitcoin::{Amount, BlockHash, Work};
use cairn_chain::testing::faults;
use cairn_chain::testing::{self, MATURITY, NOW, block_after, branch, grow, limit_files, open, regtest, reward, spend};
use cairn_chain::{Chain, ChainConfig};
use common::{fresh_coins, scratch};
use power::{Disk, Random, Survives};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// A block that was acknowledged as durable once so many changes were made.
#[derive(Debug)]
struct Acknowledged {
    after: usize,
    hash: BlockHash,
    tip_work: Work,
}

/// What runs before the power fails: blocks, forks, spends, a block marked invalid, stops and kills.
struct Workload<'a> {
    dir: &'a Path,
    acknowledged: Vec<Acknowledged>,
    /// Changes while a block is marked invalid, so that a tip with less work may be right.
    invalid: std::ops::RangeInclusive<usize>,
}

impl Workload<'_> {
    fn acknowledge(&mut self, chain: &Chain, hash: BlockHash) {
        let after = faults::recorded(self.dir);
        self.acknowledged.push(Acknowledged { after, hash, tip_work: chain.tip().chain_work });
    }

    fn durable_block(&mut self, chain: &Chain, salt: u32) {
        let tip = chain.tip();
        let block = Arc::new(block_after(&tip.header, tip.height + 1, salt, Vec::new()));
        chain.process_block(block.clone(), NOW, true).expect("taken");
        self.acknowledge(chain, block.block_hash());
    }

    fn run(&mut self) {
        let chain = open(self.dir).expect("opens");
        limit_files(&chain, 8 << 10).expect("limited");
        let first = grow(&chain, MATURITY + 1).expect("grown");
        self.durable_block(&chain, 1);
        chain.flush().expect("flushed");
        for (n, mined) in first.iter().take(6).enumerate() {
            let tip = chain.tip();
            let payment = spend(&[reward(mined)], &[Amount::from_sat(n as u64 + 1)]);
            let block = Arc::new(block_after(&tip.header, tip.height + 1, 2, vec![payment]));
            chain.process_block(block.clone(), NOW, n % 2 == 0).expect("taken");
            if n % 2 == 0 {
                self.acknowledge(&chain, block.block_hash());
            }
        }
        let from = chain.entry_at(chain.tip().height - 3).expect("active");
        for block in branch(&from.header, from.height, 5, 3) {
            chain.process_block(block.clone(), NOW, true).expect("taken");
            self.acknowledge(&chain, block.block_hash());
        }
        // As a kill: nothing is written at the end, and what was written is not synced.
        grow(&chain, 3).expect("grown");
        faults::kill(chain, self.dir);
        let chain = open(self.dir).expect("opens");
        limit_files(&chain, 8 << 10).expect("limited");
        self.durable_block(&chain, 4);
        let hash = chain.tip().hash;
        chain.flush().expect("flushed");
        let before = faults::recorded(self.dir);
        chain.invalidate_block(&hash).expect("invalidated");
        chain.reconsider_block(&hash).expect("reconsidered");
        self.invalid = before..=faults::recorded(self.dir);
        self.durable_block(&chain, 5);
        drop(chain);
        let config = ChainConfig { reindex: true, ..ChainConfig::new(self.dir.to_owned(), regtest()) };
        let chain = Chain::open(config, Box::new(|_| {})).expect("opens");
        self.durable_block(&chain, 6);
    }
}

#[test]
fn whatever_survives_a_power_failure_is_the_state_at_some_block_with_all_that_was_acknowledged() {
    let home = scratch();
    let root = home.path();
    let dir = root.join("chain");
    faults::record(&dir);
    let mut workload = Workload { dir: &dir, acknowledged: Vec::new(), invalid: 0..=0 };
    workload.run();
    let made = faults::take(&dir);
    let acknowledged = &workload.acknowledged;
    assert!(made.len() > 300 && acknowledged.len() > 10, "{} changes", made.len());

    let mut random = Random(7);
    let mut disk = Disk::default();
    let mut failures = 0;
    let mut coins = HashMap::new();
    for (count, change) in made.iter().enumerate() {
        for survives in [Survives::Nothing, Survives::All, Survives::Earlier, Survives::Any] {
            // Each moment in one of the four ways, and the moments around what is acknowledged in all.
            let near = acknowledged.iter().any(|block| block.after == count);
            if !near && random.below(2) != 0 {
                continue;
            }
            failures += 1;
            let target = scratch();
            disk.fail(survives, &mut random, root, target.path());
            let dir = target.path().join("chain");
            let chain = match open(&dir) {
                Ok(chain) => chain,
                Err(error) => panic!("{survives:?} before change {count} ({change}): {error}"),
            };
            for block in acknowledged.iter().filter(|block| block.after <= count) {
                let known = chain.entry(&block.hash).is_some_and(|entry| entry.status.has_data);
                assert!(known, "{survives:?} before change {count} ({change}): {} is lost", block.hash);
                let weaker = chain.tip().chain_work < block.tip_work && !workload.invalid.contains(&count);
                assert!(!weaker, "{survives:?} before change {count} ({change})");
            }
            let expected = coins.entry(chain.tip().hash).or_insert_with(|| fresh_coins(&chain));
            assert_eq!(&testing::coins(&chain).expect("coins"), expected);
            assert!(chain.verify(4, 20).expect("sound"));
            let tip = chain.tip().hash;
            drop(chain);
            assert_eq!(open(&dir).expect("opens again").tip().hash, tip);
        }
        disk.make(change);
    }
    println!("{failures} failures of the power in {} changes", made.len());
    assert!(failures > 300, "{failures}");
}
