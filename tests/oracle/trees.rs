//! Branches that compete, given in any order, invalid blocks among them.

use crate::coins::World;
use crate::engines::{Pair, now};
use bitcoin::{Amount, Block, Transaction, TxOut};
use cairn_chain::testing::{anyone_can_spend, block_after, mine, seal};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// A block whose coinbase takes too much: only connecting it tells.
fn greedy(block: &mut Block) {
    block.txdata[0].output[0].value += Amount::from_sat(1);
    seal(block);
}

/// A tree of blocks after the tip: each with its parent's place (0 is the tip) in the tree.
fn tree(
    dice: &mut StdRng,
    pair: &Pair,
    count: u32,
    mut transactions: impl FnMut(&mut StdRng) -> Vec<Transaction>,
) -> Vec<(usize, Block)> {
    let root = pair.ours.tip();
    let mut tree: Vec<(usize, u32, Block)> = Vec::new();
    for salt in 0..count {
        // Mostly on one of the newest, so that branches grow long.
        let parent = (tree.len() + 1).saturating_sub(dice.random_range(1..6));
        let (header, height) = match parent {
            0 => (root.header, root.height),
            at => (tree[at - 1].2.header, tree[at - 1].1),
        };
        let mut block = block_after(&header, height + 1, salt, transactions(dice));
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
    tree.into_iter().map(|(parent, _, block)| (parent, block)).collect()
}

/// Gives a tree in any order; what comes before its parent is refused by both, and given again when the parent is here.
/// Returns for which reasons blocks were refused when their parents were here.
fn give(dice: &mut StdRng, pair: &Pair, tree: &[(usize, Block)]) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut order: Vec<usize> = (1..=tree.len()).collect();
    order.shuffle(dice);
    let mut here = vec![false; tree.len() + 1];
    here[0] = true;
    while !order.is_empty() {
        order.retain(|&at| {
            let (parent, block) = &tree[at - 1];
            let refused = pair.give_any(block);
            here[at] = here[*parent];
            assert!(here[*parent] || refused.as_deref() == Some("prev-blk-not-found"), "{refused:?}");
            reasons.extend(refused.filter(|_| here[at]));
            !here[at]
        });
    }
    reasons
}

#[test]
fn both_end_on_the_same_tip_whatever_comes_first() {
    for seed in 0..30 {
        let mut dice = StdRng::seed_from_u64(seed);
        let pair = Pair::new();
        let tree = tree(&mut dice, &pair, 60, |_| Vec::new());
        give(&mut dice, &pair, &tree);
    }
}

/// A coin is spent once on each branch: the second time is invalid on one, and valid on another.
#[test]
fn branches_spend_the_same_coins() {
    let (mut refused, mut moved) = (0, 0);
    for seed in 0..5 {
        let mut dice = StdRng::seed_from_u64(seed);
        let world = World::new();
        let coins: Vec<_> = world.coins.sample(&mut dice, 12).cloned().collect();
        let tree = tree(&mut dice, &world.pair, 50, |dice| {
            let coin = coins.choose(dice).expect("coins").clone();
            let value = Amount::from_sat(dice.random_range(1..10_000));
            vec![world.purse.pay(&[coin], vec![TxOut { value, script_pubkey: anyone_can_spend() }])]
        });
        let root = world.pair.tip();
        let reasons = give(&mut dice, &world.pair, &tree);
        refused += reasons.iter().filter(|reason| *reason == "bad-txns-inputs-missingorspent").count();
        moved += usize::from(world.pair.tip() != root);
    }
    assert!(refused > 0 && moved == 5, "{refused} {moved}");
}
