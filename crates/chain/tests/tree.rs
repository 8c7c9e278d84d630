//! The block tree as it really behaves: deep reorganisations, several branches marked invalid, and failures that are no
//! block's fault.

mod common;

use bitcoin::{Amount, Block};
use cairn_chain::testing::faults;
use cairn_chain::testing::{self, MATURITY, NOW, block_after, branch, grow, open, regtest, reward, seal, spend};
use cairn_chain::{Chain, ChainConfig, ChainError, TipStatus};
use common::{assert_sound, fresh_coins, scratch};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

fn give(chain: &Chain, blocks: &[Arc<Block>]) {
    for block in blocks {
        chain.process_block(block.clone(), NOW, false).expect("a valid block is taken");
    }
}

/// A block whose coinbase pays a satoshi too much: found out only when it is connected.
fn greedy(parent: &bitcoin::block::Header, height: u32, salt: u32) -> Arc<Block> {
    let mut block = block_after(parent, height, salt, Vec::new());
    block.txdata[0].output[0].value += Amount::from_sat(1);
    seal(&mut block);
    Arc::new(block)
}

/// Memory of this process that no other shares, bytes.
fn private_memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("read");
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).expect("there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

#[test]
fn a_reorganisation_a_thousand_blocks_deep_goes_there_and_back_in_bounded_memory() {
    let dir = scratch();
    // Every block leaves a hundred coins, and the cache holds those of a few blocks.
    let config = ChainConfig { coin_cache_bytes: 256 << 10, ..ChainConfig::new(dir.path().to_owned(), regtest()) };
    let chain = Chain::open(config, Box::new(|_| {})).expect("opens");
    let base = grow(&chain, MATURITY).expect("grown");
    let fork = chain.tip();
    let long = |salt: u32, count: u32| {
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let (mut coin, mut value) = (reward(&base[0]), testing::subsidy(1));
        for n in 0..count {
            let parent = blocks.last().map_or(fork.header, |block| block.header);
            value -= Amount::from_sat(100_000);
            let mut amounts = vec![Amount::from_sat(1_000); 100];
            amounts[0] = value;
            let payment = spend(&[coin], &amounts);
            coin = bitcoin::OutPoint { txid: payment.compute_txid(), vout: 0 };
            blocks.push(Arc::new(block_after(&parent, fork.height + 1 + n, salt, vec![payment])));
        }
        blocks
    };
    let (ours, theirs) = (long(1, 1_000), long(2, 1_001));
    give(&chain, &ours);
    assert_eq!(chain.tip().hash, ours[999].block_hash());
    give(&chain, &theirs[..1_000]);
    assert_eq!(chain.tip().hash, ours[999].block_hash(), "of equal work the first stays");
    let before = private_memory();
    give(&chain, &theirs[1_000..]);
    let grown = private_memory().saturating_sub(before);
    assert_eq!(chain.tip().hash, theirs[1_000].block_hash());
    // 2,001 blocks and 200,000 coins, of more than a hundred bytes each, went through.
    assert!(grown < 3 << 20, "{grown} bytes");
    assert_eq!(testing::coins(&chain).expect("coins"), fresh_coins(&chain));
    chain.invalidate_block(&theirs[0].block_hash()).expect("invalidated");
    assert_eq!(chain.tip().hash, ours[999].block_hash());
    assert_eq!(testing::coins(&chain).expect("coins"), fresh_coins(&chain));
    chain.reconsider_block(&theirs[0].block_hash()).expect("reconsidered");
    assert_eq!(chain.tip().hash, theirs[1_000].block_hash());
    drop(chain);
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, theirs[1_000].block_hash());
    assert_sound(&chain);
}

#[test]
fn an_invalid_block_in_the_middle_leads_to_the_best_of_the_other_branches() {
    let dir = scratch();
    let chain = open(dir.path()).expect("opens");
    let genesis = chain.tip().header;
    let ours = branch(&genesis, 0, 3, 1);
    give(&chain, &ours);
    // Two better branches, their headers known and their data coming from the end: one invalid in its middle.
    let mut bad = branch(&genesis, 0, 4, 2);
    bad.push(greedy(&bad[3].header, 5, 2));
    bad.extend(branch(&bad[4].header, 5, 6, 2));
    let good = branch(&bad[1].header, 2, 5, 3);
    for blocks in [&bad, &good] {
        let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
        chain.process_headers(&headers, NOW).expect("headers are valid");
    }
    assert_eq!(chain.best_header().hash, bad[10].block_hash());
    give(&chain, &good);
    for block in bad[1..].iter().rev() {
        chain.process_block(block.clone(), NOW, false).expect("stored");
        assert_eq!(chain.tip().hash, ours[2].block_hash());
    }
    chain.process_block(bad[0].clone(), NOW, false).expect("itself it is valid");
    assert_eq!(chain.tip().hash, good[4].block_hash(), "the best of what is valid, part of the bad branch with it");
    assert_eq!(chain.best_header().hash, good[4].block_hash());
    for (n, block) in bad.iter().enumerate() {
        assert_eq!(chain.entry(&block.block_hash()).expect("known").status.failed, n >= 4, "block {n}");
    }
    assert_sound(&chain);
    drop(chain);
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, good[4].block_hash());
    let invalid = chain.tips().into_iter().filter(|(_, status, _)| *status == TipStatus::Invalid).count();
    assert_eq!(invalid, 1);
}

#[test]
fn several_branches_are_left_and_taken_up_again() {
    let dir = scratch();
    let chain = open(dir.path()).expect("opens");
    let trunk = grow(&chain, 4).expect("grown");
    let at = |height: u32| trunk[height as usize - 1].header;
    // Five, four and three blocks on top of blocks 4, 3 and 2: 9, 7 and 5 high.
    let branches = [branch(&at(4), 4, 5, 1), branch(&at(3), 3, 4, 2), branch(&at(2), 2, 3, 3)];
    for blocks in &branches {
        give(&chain, blocks);
    }
    let end = |n: usize| branches[n].last().expect("blocks").block_hash();
    let invalidate = |hash| chain.invalidate_block(&hash).expect("invalidated");
    let reconsider = |hash| chain.reconsider_block(&hash).expect("reconsidered");
    assert_eq!(chain.tip().hash, end(0));
    invalidate(branches[0][1].block_hash());
    assert_eq!(chain.tip().hash, end(1), "seven high wins over five, which is what is left of the first");
    invalidate(branches[1][0].block_hash());
    // What is left of the first branch and the third are both five high, and the first was there before.
    assert_eq!(chain.tip().hash, branches[0][0].block_hash());
    invalidate(trunk[2].block_hash());
    assert_eq!(chain.tip().hash, end(2));
    for block in branches[0].iter().chain(&branches[1]) {
        assert!(chain.entry(&block.block_hash()).expect("known").status.failed);
    }
    let states = |chain: &Chain| -> BTreeSet<String> {
        chain.tips().iter().map(|(entry, status, length)| format!("{} {status:?} {length}", entry.hash)).collect()
    };
    let expected = states(&chain);
    assert_eq!(testing::coins(&chain).expect("coins"), fresh_coins(&chain));
    // A block of an invalid branch may come again and is refused; the branch that is left grows meanwhile.
    assert!(chain.process_block(branches[1][1].clone(), NOW, false).is_err());
    assert_eq!(states(&chain), expected);

    // As Core: reconsidering a block clears its ancestors and its descendants, and no other branch.
    reconsider(branches[1][2].block_hash());
    assert_eq!(chain.tip().hash, end(1));
    assert!(chain.entry(&branches[0][1].block_hash()).expect("known").status.failed);
    reconsider(trunk[2].block_hash());
    assert_eq!(chain.tip().hash, end(0), "it cleared all that stands on it");
    assert!(chain.tips().iter().all(|(entry, ..)| !entry.status.failed));
    assert_sound(&chain);
}

#[test]
fn whatever_fails_for_a_while_condemns_no_block_and_is_made_up_for() {
    for (point, error) in [
        ("write blk.dat", ErrorKind::StorageFull),
        ("write rev.dat", ErrorKind::StorageFull),
        ("write rev.dat", ErrorKind::Other),
        ("create rev.dat", ErrorKind::PermissionDenied),
    ] {
        let home = scratch();
        let dir = home.path().join("chain");
        let chain = open(&dir).expect("opens");
        let base = grow(&chain, 2).expect("grown");
        let ours = branch(&base[1].header, 2, 3, 1);
        let theirs = branch(&base[1].header, 2, 5, 2);
        give(&chain, &ours);
        give(&chain, &theirs[..3]);
        // The reorganisation that this block brings cannot be written down.
        testing::limit_files(&chain, 1).expect("limited");
        faults::fail(&dir, point, error);
        for _ in 0..2 {
            let failed = chain.process_block(theirs[3].clone(), NOW, true).expect_err("it cannot be written");
            assert!(matches!(failed, ChainError::DiskFull { .. } | ChainError::Io { .. }), "{point}: {failed}");
            assert!(chain.tip().height >= 5, "{point}: the tip is no worse than before");
            assert!(chain.tips().iter().all(|(entry, ..)| !entry.status.failed), "{point}");
        }
        faults::mend(&dir);
        chain.process_block(theirs[3].clone(), NOW, true).expect("taken now");
        chain.process_block(theirs[4].clone(), NOW, true).expect("taken now");
        assert_eq!(chain.tip().hash, theirs[4].block_hash(), "{point}");
        assert_sound(&chain);
    }
}

#[test]
fn a_reorganisation_that_cannot_read_a_block_stays_on_the_old_branch_until_it_can() {
    let dir = scratch();
    let chain = open(dir.path()).expect("opens");
    let base = grow(&chain, 2).expect("grown");
    let ours = branch(&base[1].header, 2, 3, 1);
    give(&chain, &ours);
    testing::limit_files(&chain, 1).expect("each block is in a file of its own");
    let theirs = branch(&base[1].header, 2, 5, 2);
    give(&chain, &theirs[..3]);
    // A directory stands where the file with their second block was: neither there nor damaged, but not to be read.
    let file = dir.path().join("blocks/blk00002.dat");
    let aside = dir.path().join("aside");
    std::fs::rename(&file, &aside).expect("moved");
    std::fs::create_dir(&file).expect("created");
    for block in &theirs[3..] {
        let failed = chain.process_block(block.clone(), NOW, true).expect_err("not readable");
        assert!(matches!(failed, ChainError::Io { .. }), "{failed}");
        assert_eq!(chain.tip().hash, ours[2].block_hash());
    }
    for block in &theirs {
        let status = chain.entry(&block.block_hash()).expect("known").status;
        assert!(status.has_data && !status.failed);
    }
    assert_eq!(testing::coins(&chain).expect("coins"), fresh_coins(&chain));
    std::fs::remove_dir(&file).expect("removed");
    std::fs::rename(&aside, &file).expect("moved back");
    // Anything that makes the chain look again is enough.
    chain.process_block(theirs[4].clone(), NOW, true).expect("known");
    assert_eq!(chain.tip().hash, theirs[4].block_hash());
    assert_sound(&chain);
}
