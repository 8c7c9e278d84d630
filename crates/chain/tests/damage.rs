//! What a directory is worth whose files were cut, written over, or have rotted.

mod common;

use bitcoin::Amount;
use bitcoin::consensus::serialize;
use cairn_chain::testing::{NOW, block_after, branch, grow, open, reward, spend};
use cairn_chain::{BlockAccepted, ChainError};
use common::{assert_sound, copy};
use std::fs::{self, OpenOptions};
use std::sync::Arc;

#[test]
fn torn_and_foreign_bytes_at_the_end_of_block_files_are_ignored() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 5).expect("grown");
    chain.flush().expect("flushed");
    grow(&chain, 3).expect("grown");
    let live = fs::read(dir.path().join("blocks/blk00000.dat")).expect("read");
    // Blocks 6 to 8 are in the file alone. Cut anywhere in them: those that are whole come back.
    let sizes: Vec<u64> = {
        let flushed = tempfile::tempdir().expect("temporary directory");
        let straight = open(flushed.path()).expect("opens");
        (0..=8u32)
            .map(|height| {
                if height > 0 {
                    let hash = chain.entry_at(height).expect("active").hash;
                    let block = chain.block(&hash).expect("read").expect("there");
                    straight.process_block(block, NOW, false).expect("taken");
                }
                fs::metadata(flushed.path().join("blocks/blk00000.dat")).expect("there").len()
            })
            .collect()
    };
    for cut in (sizes[5]..=sizes[8]).step_by(41) {
        for garbage in [&b""[..], &[0u8; 100], &[0xa5; 3000]] {
            let copied = tempfile::tempdir().expect("temporary directory");
            copy(dir.path(), copied.path());
            let mut bytes = live[..cut as usize].to_vec();
            bytes.extend(garbage);
            fs::write(copied.path().join("blocks/blk00000.dat"), bytes).expect("written");
            let again = open(copied.path()).expect("opens");
            let whole = sizes.iter().filter(|&&size| size <= cut).count() as u32 - 1;
            assert_eq!(again.tip().height, whole, "cut at {cut}");
            grow(&again, 2).expect("goes on");
            drop(again);
            let again = open(copied.path()).expect("opens");
            assert_eq!(again.tip().height, whole + 2);
            assert_sound(&again);
        }
    }
}

#[test]
fn files_cut_below_what_was_synced_cost_only_what_was_cut() {
    for (file, length) in [("blk00000.dat", 700), ("rev00000.dat", 60), ("blk00000.dat", 0)] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let chain = open(dir.path()).expect("opens");
        let blocks = grow(&chain, 8).expect("grown");
        drop(chain);
        let path = dir.path().join("blocks").join(file);
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length)).expect("cut");
        let chain = open(dir.path()).expect("opens by itself");
        assert!(file.starts_with("rev") || chain.tip().height < 8);
        for block in &blocks {
            chain.process_block(block.clone(), NOW, true).expect("taken again");
        }
        assert_eq!(chain.tip().hash, blocks[7].block_hash(), "{file} cut to {length}");
        assert_sound(&chain);
    }
}

#[test]
fn a_damaged_block_is_told_apart_from_an_invalid_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = grow(&chain, 3).expect("grown");
    let path = dir.path().join("blocks/blk00000.dat");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.len() - 250;
    bytes[at..].fill(0xee);
    fs::write(&path, bytes).expect("written");
    let hash = blocks[2].block_hash();
    assert!(matches!(chain.block(&hash), Err(ChainError::Corrupt { .. })));
    assert!(matches!(chain.invalidate_block(&hash), Err(ChainError::Corrupt { .. })));
    assert!(!chain.entry(&hash).expect("known").status.failed);
    assert_eq!(chain.tip().hash, hash);
}

#[test]
fn a_lost_database_is_made_anew_from_the_block_files() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 20).expect("grown");
    let tip = chain.tip().hash;
    drop(chain);
    fs::remove_dir_all(dir.path().join("chainstate")).expect("removed");
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, tip);
    assert_sound(&chain);
}

#[test]
fn every_byte_of_a_stored_block_and_its_undo_data_is_guarded() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = grow(&chain, 101).expect("grown");
    let tip = chain.tip();
    let spending = spend(&[reward(&blocks[0])], &[Amount::from_sat(7)]);
    let block = Arc::new(block_after(&tip.header, 102, 0, vec![spending]));
    chain.process_block(block.clone(), NOW, true).expect("taken");
    chain.flush().expect("flushed");
    let hash = block.block_hash();
    for (file, length) in [("blk00000.dat", serialize(&*block).len() + 8), ("rev00000.dat", 8 + 2 + 40)] {
        let path = dir.path().join("blocks").join(file);
        let whole = fs::read(&path).expect("read");
        for at in whole.len() - length..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).expect("written");
            let read =
                if file.starts_with("blk") { chain.block(&hash).map(|_| ()) } else { chain.undo(&hash).map(|_| ()) };
            let refused = read.expect_err("a flipped bit is noticed");
            assert!(matches!(&refused, ChainError::Corrupt { what } if what.contains(file)), "byte {at}: {refused}");
        }
        fs::write(&path, whole).expect("written");
    }
    assert_sound(&chain);
}

#[test]
fn a_block_that_rotted_on_a_side_branch_is_not_condemned_and_may_be_given_again() {
    for reopen in [false, true] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let chain = open(dir.path()).expect("opens");
        let genesis = chain.tip().header;
        let ours = branch(&genesis, 0, 3, 1);
        let theirs = branch(&genesis, 0, 4, 2);
        for block in ours.iter().chain(&theirs[..3]) {
            chain.process_block(block.clone(), NOW, true).expect("taken");
        }
        // One bit of the value that the coinbase of their second block pays.
        let path = dir.path().join("blocks/blk00000.dat");
        let key = fs::read(dir.path().join("blocks/xor.dat")).expect("key");
        let mut bytes = fs::read(&path).expect("read");
        let plain: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let coinbase = serialize(&theirs[1].txdata[0].output[0]);
        let record = serialize(&theirs[1].header);
        let record = plain.windows(80).position(|window| window == record).expect("the block is in the file");
        let at = record + plain[record..].windows(coinbase.len()).position(|w| w == coinbase).expect("there");
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("written");

        let refused = chain.process_block(theirs[3].clone(), NOW, true).expect_err("their second block is damaged");
        let message = refused.to_string();
        assert!(matches!(refused, ChainError::Corrupt { .. }), "{message}");
        assert!(message.contains(&format!("byte {record} of")) && message.contains("blk00000.dat"), "{message}");
        let chain = if reopen {
            drop(chain);
            open(dir.path()).expect("opens")
        } else {
            chain
        };
        assert_eq!(chain.tip().hash, ours[2].block_hash());
        for block in &theirs {
            assert!(!chain.entry(&block.block_hash()).expect("known").status.failed);
        }
        let more = branch(&ours[2].header, 3, 1, 1);
        chain.process_block(more[0].clone(), NOW, true).expect("the tip is extended meanwhile");
        chain.process_block(branch(&theirs[3].header, 4, 1, 2)[0].clone(), NOW, true).expect("stored");
        assert_eq!(chain.tip().hash, more[0].block_hash());
        let again = chain.process_block(theirs[1].clone(), NOW, true).expect("taken again");
        assert_eq!(again, BlockAccepted::New);
        assert_eq!(chain.tip().height, 5);
        assert_sound(&chain);
    }
}
