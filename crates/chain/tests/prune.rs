//! Pruning: which files go, what is then said of their blocks, and what a kill in between leaves.

mod common;

use cairn_chain::testing::{self, NOW, branch, faults, grow, limit_files, open, regtest};
use cairn_chain::{Chain, ChainConfig, ChainError, Prune};
use common::copy;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Bytes of a block file here; some two hundred blocks.
const FILE: u32 = 64 << 10;

fn open_pruned(dir: &Path, prune: Prune) -> Chain {
    let config = ChainConfig { coin_cache_bytes: 8 << 20, prune, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {})).expect("opens")
}

fn block_files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("blocks")).expect("listed").map(|entry| entry.expect("listed").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".dat") && name != "xor.dat");
    names.sort();
    names
}

/// The heights whose data is gone, which are the first ones, and of which `pruned_height` is the last.
fn gone(chain: &Chain) -> u32 {
    let tip = chain.tip().height;
    let has_data = |height: u32| chain.entry_at(height).expect("active").status.has_data;
    let first = (1..=tip).find(|&height| has_data(height)).expect("the newest are never pruned");
    assert!((first..=tip).all(has_data));
    for height in [1, first - 1, first, tip] {
        let entry = chain.entry_at(height).expect("active");
        assert_eq!(chain.block(&entry.hash).expect("read").is_some(), height >= first);
        assert_eq!(chain.undo(&entry.hash).expect("read").is_some(), height >= first);
        assert_eq!(entry.tx_count, 1);
    }
    assert_eq!(chain.pruned_height(), Some(first - 1).filter(|&height| height > 0));
    first - 1
}

#[test]
fn whole_files_go_up_to_the_height_asked_for_and_the_newest_blocks_stay() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open_pruned(dir.path(), Prune::Manual);
    limit_files(&chain, FILE).expect("limited");
    grow(&chain, 1_300).expect("grown");
    let (before, size) = (block_files(dir.path()), chain.size_on_disk());
    assert!(before.len() > 10 && chain.pruned_height().is_none());

    chain.prune_to(500).expect("pruned");
    let first = gone(&chain);
    assert!((200..=500).contains(&first), "{first}");
    let after = block_files(dir.path());
    assert!(after.len() < before.len() && !after.contains(&"blk00000.dat".to_owned()));
    assert!(after.iter().filter(|name| name.starts_with("blk")).count() * 2 == after.len(), "pairs go together");
    assert!(chain.size_on_disk() < size);

    chain.prune_to(u32::MAX).expect("pruned");
    let second = gone(&chain);
    assert!(second > first && second <= 1_300 - 288, "{second}");

    let coins = testing::coins(&chain).expect("coins");
    let tip = chain.tip().hash;
    drop(chain);
    let chain = open_pruned(dir.path(), Prune::Manual);
    assert_eq!((chain.tip().hash, gone(&chain)), (tip, second));
    assert_eq!(testing::coins(&chain).expect("coins"), coins);
    assert!(!chain.verify(3, 0).expect("nothing is damaged"), "not all could be looked at");
    assert!(chain.verify(4, 100).expect("nothing is damaged"));

    let old = chain.entry_at(second).expect("active").hash;
    assert!(matches!(chain.invalidate_block(&old), Err(ChainError::Pruned { hash }) if hash == old));
    assert_eq!(chain.tip().hash, tip);
    let from = chain.entry_at(1_290).expect("active");
    for block in branch(&from.header, 1_290, 11, 7) {
        chain.process_block(block, NOW, true).expect("a reorganisation has all that it needs");
    }
    assert_eq!(chain.tip().height, 1_301);
    grow(&chain, 2).expect("goes on");
}

#[test]
fn a_target_is_kept_by_itself() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Below a target no larger than what may be written before pruning is thought of again, all goes that may go.
    let chain = open_pruned(dir.path(), Prune::Target(1 << 20));
    limit_files(&chain, FILE).expect("limited");
    grow(&chain, 1_000).expect("grown");
    assert_eq!(chain.pruned_height(), None, "a short chain is not pruned");
    grow(&chain, 600).expect("grown");
    let first = gone(&chain);
    assert!((600..=1_600 - 288).contains(&first), "{first}");
    grow(&chain, 300).expect("grown");
    assert!(gone(&chain) > first);
}

#[test]
fn pruned_files_that_a_kill_left_go_at_the_next_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open_pruned(dir.path(), Prune::Manual);
    limit_files(&chain, FILE).expect("limited");
    grow(&chain, 1_100).expect("grown");
    let before = tempfile::tempdir().expect("temporary directory");
    copy(dir.path(), before.path());
    chain.prune_to(600).expect("pruned");
    let (pruned, left) = (gone(&chain), block_files(dir.path()));
    drop(chain);
    // The database knows of it, the files are still there.
    for name in block_files(before.path()) {
        fs::copy(before.path().join("blocks").join(&name), dir.path().join("blocks").join(&name)).expect("copied");
    }
    let chain = open_pruned(dir.path(), Prune::Manual);
    assert_eq!(gone(&chain), pruned);
    assert_eq!(block_files(dir.path()), left);
    drop(chain);
    let config = ChainConfig { reindex: true, ..ChainConfig::new(dir.path().to_owned(), regtest()) };
    let refused = Chain::open(config, Box::new(|_| {})).expect_err("the first blocks are gone");
    assert!(matches!(refused, ChainError::Incomplete { .. }), "{refused}");
    assert_eq!(gone(&open(dir.path()).expect("opens as before")), pruned);
}

#[test]
fn a_file_that_cannot_be_deleted_is_left_for_the_next_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open_pruned(dir.path(), Prune::Manual);
    limit_files(&chain, FILE).expect("limited");
    grow(&chain, 1_100).expect("grown");
    let before = block_files(dir.path());
    faults::fail(dir.path(), "remove blk.dat", ErrorKind::PermissionDenied);
    chain.prune_to(600).expect("pruned, as far as anybody asks for blocks");
    let pruned = gone(&chain);
    assert_eq!(block_files(dir.path()), before);
    grow(&chain, 1).expect("goes on");
    faults::mend(dir.path());
    drop(chain);
    let chain = open_pruned(dir.path(), Prune::Manual);
    assert_eq!(gone(&chain), pruned);
    assert!(block_files(dir.path()).len() < before.len());
}

#[test]
fn a_pruned_block_may_be_given_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open_pruned(dir.path(), Prune::Manual);
    limit_files(&chain, FILE).expect("limited");
    let blocks = grow(&chain, 1_100).expect("grown");
    chain.prune_to(600).expect("pruned");
    let tip = chain.tip().hash;
    chain.process_block(blocks[4].clone(), NOW, true).expect("stored");
    assert!(chain.block(&blocks[4].block_hash()).expect("read").is_some());
    assert_eq!(chain.tip().hash, tip);
    drop(chain);
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, tip);
    grow(&chain, 1).expect("goes on");
}
