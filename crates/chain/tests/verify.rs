//! `verifychain`: what each level notices.

mod common;

use bitcoin::Amount;
use cairn_chain::testing::{self, MATURITY, NOW, block_after, grow, open, reward, spend};
use cairn_chain::{Chain, ChainError};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A chain whose last blocks spend coins, written out.
fn chain(dir: &Path) -> Chain {
    let chain = open(dir).expect("opens");
    let blocks = grow(&chain, MATURITY + 5).expect("grown");
    for block in &blocks[..4] {
        let tip = chain.tip();
        let payment = spend(&[reward(block)], &[Amount::from_sat(5), Amount::from_sat(6)]);
        let block = block_after(&tip.header, tip.height + 1, 0, vec![payment]);
        chain.process_block(Arc::new(block), NOW, false).expect("taken");
    }
    chain.flush().expect("flushed");
    chain
}

#[test]
fn a_sound_chain_passes_every_level_and_is_not_changed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = chain(dir.path());
    let (tip, coins) = (chain.tip().hash, testing::coins(&chain).expect("coins"));
    for level in 0..=4 {
        for blocks in [0, 1, 6, 1_000] {
            assert!(chain.verify(level, blocks).expect("sound"), "level {level}");
        }
    }
    assert_eq!(chain.tip().hash, tip);
    assert_eq!(testing::coins(&chain).expect("coins"), coins);
    let empty = tempfile::tempdir().expect("temporary directory");
    assert!(open(empty.path()).expect("opens").verify(4, 0).expect("sound"));
}

/// Whether `level` notices the damage, and `below` does not.
fn first_noticed_at(chain: &Chain, level: u8, names: &str) {
    for below in 0..level {
        chain.verify(below, 0).expect("not looked at");
    }
    for level in level..=4 {
        let refused = chain.verify(level, 0).expect_err("damaged");
        assert!(matches!(&refused, ChainError::Corrupt { what } if what.contains(names)), "level {level}: {refused}");
    }
}

#[test]
fn damaged_blocks_undo_data_and_coins_are_noticed_by_the_level_that_looks() {
    for (file, level) in [("blk00000.dat", 0), ("rev00000.dat", 2)] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let chain = chain(dir.path());
        let path = dir.path().join("blocks").join(file);
        let mut bytes = fs::read(&path).expect("read");
        let last = bytes.len() - 40;
        bytes[last] ^= 4;
        fs::write(&path, bytes).expect("written");
        first_noticed_at(&chain, level, file);
        drop(chain);
        // The newest blocks are looked at by every start.
        let refused = open(dir.path()).expect_err("damaged");
        assert!(refused.to_string().contains("--reindex"), "{refused}");
    }

    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = chain(dir.path());
    let coin = testing::coins(&chain).expect("coins").remove(0);
    testing::drop_coin(&chain, &coin.0).expect("dropped");
    first_noticed_at(&chain, 3, "the coins");
}

#[test]
fn an_index_that_does_not_match_the_files_is_refused_and_reindexing_mends_it() {
    let (dir, other) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    drop(chain(dir.path()));
    let theirs = open(other.path()).expect("opens");
    grow(&theirs, 300).expect("grown");
    let tip = theirs.tip().hash;
    drop(theirs);
    for name in ["blk00000.dat", "rev00000.dat", "xor.dat"] {
        fs::copy(other.path().join("blocks").join(name), dir.path().join("blocks").join(name)).expect("copied");
    }
    let refused = open(dir.path()).expect_err("another chain's files");
    assert!(matches!(refused, ChainError::Corrupt { .. }), "{refused}");
    let config = cairn_chain::ChainConfig {
        reindex: true,
        ..cairn_chain::ChainConfig::new(dir.path().to_owned(), testing::regtest())
    };
    let mended = Chain::open(config, Box::new(|_| {})).expect("opens");
    assert_eq!(mended.tip().hash, tip);
    common::assert_sound(&mended);
}
