//! Branches that compete, given in any order that gives parents first, invalid blocks among them.

use crate::engines::{Pair, now};
use bitcoin::{Amount, Block};
use cairn_chain::testing::{block_after, mine, seal};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A block whose coinbase takes too much: only connecting it tells.
fn greedy(block: &mut Block) {
    block.txdata[0].output[0].value += Amount::from_sat(1);
    seal(block);
}

#[test]
fn both_end_on_the_same_tip_whatever_comes_first() {
    for seed in 0..30 {
        let mut dice = StdRng::seed_from_u64(seed);
        let pair = Pair::new();
        // Each block of the tree: its parent's place, its height, itself.
        let genesis = pair.ours.tip().header;
        let mut tree: Vec<(usize, u32, Block)> = Vec::new();
        for salt in 0..60 {
            // Mostly on one of the newest, so that branches grow long.
            let parent = (tree.len() + 1).saturating_sub(dice.random_range(1..6));
            let (header, height) = match parent {
                0 => (genesis, 0),
                at => (tree[at - 1].2.header, tree[at - 1].1),
            };
            let mut block = block_after(&header, height + 1, salt, Vec::new());
            match dice.random_range(0..12) {
                0 => greedy(&mut block),
                1 => {
                    block.header.time = now() + 8_000;
                    mine(&mut block.header);
                }
                _ => {}
            }
            tree.push((parent, height + 1, block));
        }
        let mut order: Vec<usize> = (1..=tree.len()).collect();
        order.shuffle(&mut dice);
        let mut here = vec![false; tree.len() + 1];
        here[0] = true;
        // What comes before its parent is refused by both, and given again when the parent is here.
        while !order.is_empty() {
            order.retain(|&at| {
                let (parent, _, block) = &tree[at - 1];
                let refused = pair.give_any(block);
                here[at] = here[*parent];
                assert!(here[*parent] || refused.as_deref() == Some("prev-blk-not-found"), "{refused:?}");
                !here[at]
            });
        }
    }
}
