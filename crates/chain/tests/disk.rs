//! A disk that is full, or that fails to sync.

mod common;

use bitcoin::Block;
use cairn_chain::testing::{NOW, block_after, grow, open};
use cairn_chain::{BlockAccepted, ChainError};
use common::assert_sound;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn instead_of(dir: &Path, file: &str, device: &str, during: impl FnOnce()) {
    let (file, aside) = (dir.join("blocks").join(file), dir.join("aside"));
    fs::rename(&file, &aside).expect("moved");
    std::os::unix::fs::symlink(device, &file).expect("linked");
    during();
    fs::remove_file(&file).expect("removed");
    fs::rename(&aside, &file).expect("moved back");
}

#[test]
fn a_full_disk_leaves_the_state_intact_and_the_block_welcome() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 2).expect("grown");
    let tip = chain.tip();
    let block: Arc<Block> = Arc::new(block_after(&tip.header, 3, 0, Vec::new()));
    instead_of(dir.path(), "blk00000.dat", "/dev/full", || {
        for _ in 0..2 {
            let refused = chain.process_block(block.clone(), NOW, true).expect_err("the disk is full");
            assert!(
                matches!(&refused, ChainError::DiskFull { path, .. } if path.ends_with("blk00000.dat")),
                "{refused}"
            );
            assert!(refused.to_string().contains("free some space"));
            assert_eq!(chain.tip().hash, tip.hash);
        }
    });
    assert_eq!(chain.process_block(block, NOW, true).expect("taken now"), BlockAccepted::New);
    assert_eq!(chain.tip().height, 3);
    assert_sound(&chain);
}

#[test]
fn a_disk_too_full_for_undo_data_keeps_the_block_for_the_next_try() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 2).expect("grown");
    let tip = chain.tip();
    let block: Arc<Block> = Arc::new(block_after(&tip.header, 3, 0, Vec::new()));
    instead_of(dir.path(), "rev00000.dat", "/dev/full", || {
        let refused = chain.process_block(block.clone(), NOW, true).expect_err("the disk is full");
        assert!(matches!(&refused, ChainError::DiskFull { path, .. } if path.ends_with("rev00000.dat")), "{refused}");
        assert_eq!(chain.tip().hash, tip.hash);
        assert!(!chain.entry(&block.block_hash()).expect("stored").status.failed);
    });
    assert_eq!(chain.process_block(block, NOW, true).expect("known"), BlockAccepted::Duplicate);
    assert_eq!(chain.tip().height, 3);
    assert_sound(&chain);
}

#[test]
fn a_failed_sync_stops_all_writing_until_the_next_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 2).expect("grown");
    chain.flush().expect("flushed");
    let tip = chain.tip();
    let block: Arc<Block> = Arc::new(block_after(&tip.header, 3, 0, Vec::new()));
    // Writing to the null device succeeds, syncing it does not.
    instead_of(dir.path(), "blk00000.dat", "/dev/null", || {
        let failed = chain.process_block(block.clone(), NOW, true).expect_err("not synced");
        assert!(matches!(&failed, ChainError::Io { what, .. } if what.contains("sync")), "{failed}");
    });
    assert_eq!(chain.tip().hash, tip.hash);
    let refused = chain.process_block(block.clone(), NOW, true).expect_err("stopped");
    assert!(matches!(&refused, ChainError::Poisoned { cause } if cause.contains("sync")), "{refused}");
    assert!(matches!(chain.flush(), Err(ChainError::Poisoned { .. })));
    assert!(chain.block(&tip.hash).expect("reading goes on").is_some());
    drop(chain);
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, tip.hash);
    assert_eq!(chain.process_block(block, NOW, true).expect("taken"), BlockAccepted::New);
    assert_sound(&chain);
}
