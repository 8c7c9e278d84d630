//! An index made anew from block files alone: in any order, between foreign bytes, cut, damaged, or written by another
//! program.

mod common;

use bitcoin::consensus::serialize;
use bitcoin::{Amount, Block};
use cairn_chain::testing::{self, NOW, block_after, branch, grow, open, regtest, reward, spend};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError, Progress};
use common::{assert_sound, copy};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Opens with `--reindex`.
fn reindex(dir: &Path) -> Result<Chain, ChainError> {
    let config = ChainConfig { reindex: true, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {}))
}

/// A record as Bitcoin Core writes it.
fn record(block: &Block) -> Vec<u8> {
    let bytes = serialize(block);
    [&regtest().magic[..], &(bytes.len() as u32).to_le_bytes(), &bytes].concat()
}

/// A directory that has nothing but these block files, not obfuscated.
fn directory(files: &[Vec<u8>]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(dir.path().join("blocks")).expect("created");
    for (number, bytes) in files.iter().enumerate() {
        fs::write(dir.path().join(format!("blocks/blk{number:05}.dat")), bytes).expect("written");
    }
    dir
}

fn genesis() -> Block {
    regtest().genesis
}

#[test]
fn an_index_that_is_asked_for_or_lost_is_made_anew() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = grow(&chain, 101).expect("grown");
    let spending = spend(&[reward(&blocks[0])], &[Amount::from_sat(7)]);
    let tip = Arc::new(block_after(&chain.tip().header, 102, 0, vec![spending]));
    chain.process_block(tip.clone(), NOW, true).expect("taken");
    for block in branch(&blocks[9].header, 10, 3, 7) {
        chain.process_block(block, NOW, false).expect("taken");
    }
    let (tips, coins) = (format!("{:?}", chain.tips()), testing::coins(&chain).expect("coins"));
    drop(chain);
    let files = fs::read(dir.path().join("blocks/blk00000.dat")).expect("read");

    let chain = reindex(dir.path()).expect("opens");
    assert_eq!(
        format!("{:?}", chain.tips()).replace("ValidHeaders", "ValidFork"),
        tips.replace("ValidHeaders", "ValidFork")
    );
    assert_eq!(testing::coins(&chain).expect("coins"), coins);
    assert_sound(&chain);
    drop(chain);

    fs::remove_file(dir.path().join("chainstate/chain.redb")).expect("removed");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let config = ChainConfig::new(dir.path().to_owned(), regtest());
    let progress = move |step| heard.lock().expect("nobody panics holding it").push(step);
    let chain = Chain::open_with_progress(config, Box::new(|_| {}), Box::new(progress)).expect("opens");
    assert_eq!(chain.tip().hash, tip.block_hash());
    assert_eq!(testing::coins(&chain).expect("coins"), coins);
    assert_sound(&chain);
    let total = files.len() as u64;
    let seen = seen.lock().expect("nobody panics holding it");
    assert!(seen.contains(&Progress::Reading { done: total, total }), "{seen:?}");
    assert_eq!(seen.last(), Some(&Progress::Connecting { height: 102, of: 102 }));
    assert_eq!(fs::read(dir.path().join("blocks/blk00000.dat")).expect("read"), files, "block files are as they were");
}

#[test]
fn blocks_in_any_order_and_in_many_files_are_found() {
    let main = branch(&genesis().header, 0, 30, 1);
    let fork = branch(&main[9].header, 10, 5, 2);
    let mut blocks: Vec<_> = main.iter().chain(&fork).map(|block| record(block)).collect();
    // Last first, and two at a time exchanged: nearly every parent comes after its child.
    blocks.reverse();
    blocks.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    for per_file in [100, 7] {
        let mut files: Vec<Vec<u8>> = blocks.chunks(per_file).map(<[_]>::concat).collect();
        files[0].splice(0..0, record(&genesis()));
        let dir = directory(&files);
        let chain = open(dir.path()).expect("opens");
        assert_eq!(chain.tip().hash, main[29].block_hash());
        assert!(chain.block(&fork[4].block_hash()).expect("read").is_some());
        assert_sound(&chain);
        grow(&chain, 3).expect("goes on");
        drop(chain);
        assert_eq!(open(dir.path()).expect("opens").tip().height, 33);
        for (number, bytes) in files.iter().enumerate().rev().skip(1) {
            let path = dir.path().join(format!("blocks/blk{number:05}.dat"));
            assert_eq!(&fs::read(path).expect("read"), bytes, "files that are full stay as they are");
        }
    }
}

#[test]
fn foreign_bytes_between_blocks_are_skipped_and_kept() {
    let blocks = branch(&genesis().header, 0, 12, 1);
    let magic = regtest().magic;
    let mut foreign_block = (*blocks[3]).clone();
    foreign_block.header.nonce = foreign_block.header.nonce.wrapping_add(1);
    let foreign: [Vec<u8>; 7] = [
        b"x".to_vec(),
        magic.to_vec(),
        [&magic[..], &79u32.to_le_bytes()].concat(),
        [&magic[..], &u32::MAX.to_le_bytes()].concat(),
        [&magic[..], &900u32.to_le_bytes(), &[7; 50]].concat(),
        vec![0; 200_000],
        // Another network's, or one whose proof of work is not done.
        record(&foreign_block),
    ];
    let mut bytes = record(&genesis());
    for (n, block) in blocks.iter().enumerate() {
        bytes.extend(&foreign[n % foreign.len()]);
        bytes.extend(record(block));
    }
    let dir = directory(&[bytes.clone()]);
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, blocks[11].block_hash());
    assert_sound(&chain);
    drop(chain);
    assert_eq!(fs::read(dir.path().join("blocks/blk00000.dat")).expect("read"), bytes);
}

#[test]
fn a_block_that_is_cut_or_has_a_flipped_bit_costs_itself_alone() {
    let blocks = branch(&genesis().header, 0, 8, 1);
    let records: Vec<_> = blocks.iter().map(|block| record(block)).collect();
    let around =
        |damaged: &[u8]| [record(&genesis()), records[..3].concat(), damaged.to_vec(), records[4..].concat()].concat();
    let length = records[3].len();
    for at in (0..length).step_by(13) {
        let mut flipped = records[3].clone();
        flipped[at] ^= 0x10;
        for damaged in [&flipped[..], &records[3][..at]] {
            let dir = directory(&[around(damaged)]);
            let chain = open(dir.path()).expect("opens");
            assert_eq!(chain.tip().hash, blocks[2].block_hash(), "damaged at {at}");
            assert!(chain.tips().iter().all(|(entry, ..)| !entry.status.failed));
            // The others are still in the file: with their parent the index finds them when it is made again.
            assert_eq!(chain.process_block(blocks[3].clone(), NOW, true).expect("taken"), BlockAccepted::New);
            // Where only a witness was damaged the header was there, and with it those that build on it.
            assert!([4, 8].contains(&chain.tip().height));
            drop(chain);
            let chain = reindex(dir.path()).expect("opens");
            assert_eq!(chain.tip().hash, blocks[7].block_hash(), "damaged at {at}");
            assert_sound(&chain);
        }
    }
}

#[test]
fn files_that_end_in_zeros_or_in_the_middle_of_a_block_are_written_on() {
    let blocks = branch(&genesis().header, 0, 5, 1);
    let whole = [record(&genesis()), blocks[..4].iter().flat_map(|block| record(block)).collect()].concat();
    let torn = record(&blocks[4])[..100].to_vec();
    for tail in [vec![0; 1 << 20], torn.clone(), [torn, vec![0; 5000]].concat()] {
        let dir = directory(&[[whole.clone(), tail].concat()]);
        let chain = open(dir.path()).expect("opens");
        assert_eq!(chain.tip().hash, blocks[3].block_hash());
        chain.process_block(blocks[4].clone(), NOW, true).expect("taken");
        let copied = tempfile::tempdir().expect("temporary directory");
        copy(dir.path(), copied.path());
        assert_eq!(open(copied.path()).expect("opens").tip().hash, blocks[4].block_hash());
    }
}

#[test]
fn a_kill_while_the_index_is_made_anew_loses_no_block_file() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 20).expect("grown");
    let tip = chain.tip().hash;
    drop(chain);
    let progress = |step: Progress| {
        // As a kill: nothing is closed, nothing is written any more. The copy is what the disk then holds.
        if let Progress::Connecting { height: 10, .. } = step {
            panic!("killed");
        }
    };
    let config = ChainConfig { reindex: true, ..ChainConfig::new(dir.path().to_owned(), regtest()) };
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Chain::open_with_progress(config, Box::new(|_| {}), Box::new(progress)).map(|_| ())
    }));
    assert!(killed.is_err());
    let chain = open(dir.path()).expect("opens");
    assert_eq!(chain.tip().hash, tip);
    assert_sound(&chain);
}

#[test]
fn without_its_first_file_an_index_is_not_made_anew() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    grow(&chain, 5).expect("grown");
    drop(chain);
    let blocks = dir.path().join("blocks");
    fs::rename(blocks.join("blk00000.dat"), blocks.join("blk00003.dat")).expect("moved");
    let database = fs::read(dir.path().join("chainstate/chain.redb")).expect("read");
    let refused = reindex(dir.path()).expect_err("nothing to begin with");
    assert!(matches!(&refused, ChainError::Incomplete { file } if file.ends_with("blk00000.dat")), "{refused}");
    assert_eq!(fs::read(dir.path().join("chainstate/chain.redb")).expect("read"), database);
    assert!(blocks.join("blk00003.dat").exists());
}
