//! What a directory holds after its process was killed, its files were cut, or someone else wants it.

use bitcoin::Block;
use cairn_chain::testing::{self, NOW, block_after, branch, grow, open};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("typed").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The coins of a chain that was given the blocks of `chain`'s branch and nothing else.
fn fresh_coins(chain: &Chain) -> Vec<testing::RawCoin> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let straight = open(dir.path()).expect("opens");
    for height in 1..=chain.tip().height {
        let hash = chain.entry_at(height).expect("active").hash;
        let block = chain.block(&hash).expect("read").expect("there");
        straight.process_block(block, NOW, false).expect("taken");
    }
    testing::coins(&straight).expect("coins")
}

fn assert_sound(chain: &Chain) {
    for height in 1..=chain.tip().height {
        let entry = chain.entry_at(height).expect("active");
        assert!(chain.block(&entry.hash).expect("read").is_some());
        assert!(chain.undo(&entry.hash).expect("read").is_some());
        let coinbase = chain.block(&entry.hash).expect("read").expect("there").txdata[0].compute_txid();
        assert_eq!(chain.transaction(&coinbase).expect("read").expect("indexed").1.hash, entry.hash);
    }
    assert_eq!(testing::coins(chain).expect("coins"), fresh_coins(chain));
}

#[test]
fn a_clean_stop_keeps_everything() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = grow(&chain, 30).expect("grown");
    let fork = branch(&blocks[9].header, 10, 3, 7);
    for block in &fork {
        chain.process_block(block.clone(), NOW, false).expect("taken");
    }
    let headers: Vec<_> = branch(&blocks[29].header, 30, 4, 8).iter().map(|block| block.header).collect();
    chain.process_headers(&headers, NOW).expect("headers");
    chain.invalidate_block(&fork[1].block_hash()).expect("invalidated");
    let (tips, size) = (format!("{:?}", chain.tips()), chain.size_on_disk());
    drop(chain);
    let chain = open(dir.path()).expect("opens again");
    assert_eq!(format!("{:?}", chain.tips()), tips);
    assert_eq!(chain.size_on_disk(), size);
    assert_eq!(chain.best_header().height, 34);
    assert_sound(&chain);
    chain.reconsider_block(&fork[0].block_hash()).expect("reconsidered");
    assert_eq!(chain.tip().height, 30);
}

#[test]
fn a_copy_made_at_any_moment_opens_with_the_same_tip_and_coins() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let genesis = chain.tip().header;
    let ours = branch(&genesis, 0, 12, 1);
    let theirs = branch(&ours[3].header, 4, 12, 2);
    // Coins are written while the branch that will lose is active, so that the copies have to undo it.
    for (n, block) in ours.iter().chain(&theirs).enumerate() {
        assert_eq!(chain.process_block(block.clone(), NOW, true).expect("taken"), BlockAccepted::New);
        if n == 9 {
            chain.flush().expect("flushed");
        }
        let copied = tempfile::tempdir().expect("temporary directory");
        copy(dir.path(), copied.path());
        let again = open(copied.path()).expect("opens by itself");
        assert_eq!(again.tip().hash, chain.tip().hash, "after block {n}");
        assert_sound(&again);
        drop(again);
        assert_eq!(open(copied.path()).expect("opens").tip().hash, chain.tip().hash);
    }
    assert_eq!(chain.tip().hash, theirs[11].block_hash());
    assert_sound(&chain);
}

#[test]
fn of_two_branches_with_equal_work_the_same_one_is_the_tip_after_a_kill() {
    for flush in [false, true] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let chain = open(dir.path()).expect("opens");
        let first = branch(&chain.tip().header, 0, 2, 1);
        let second = branch(&chain.tip().header, 0, 2, 2);
        for block in first.iter().chain(&second) {
            chain.process_block(block.clone(), NOW, true).expect("taken");
        }
        if flush {
            chain.flush().expect("flushed");
        }
        let copied = tempfile::tempdir().expect("temporary directory");
        copy(dir.path(), copied.path());
        assert_eq!(open(copied.path()).expect("opens").tip().hash, first[1].block_hash());
    }
}

#[test]
fn headers_that_a_durable_block_stands_on_are_durable_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = branch(&chain.tip().header, 0, 3, 1);
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    chain.process_headers(&headers, NOW).expect("headers");
    chain.process_block(blocks[2].clone(), NOW, true).expect("taken");
    let copied = tempfile::tempdir().expect("temporary directory");
    copy(dir.path(), copied.path());
    let again = open(copied.path()).expect("opens");
    assert!(again.entry(&blocks[2].block_hash()).expect("known").status.has_data);
    for block in &blocks[..2] {
        again.process_block(block.clone(), NOW, true).expect("taken");
    }
    assert_eq!(again.tip().hash, blocks[2].block_hash());
}

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

const CHILD: &str = "CAIRN_CHAIN_TEST_CHILD";

/// What the kill test runs: mines for ever, forking now and then, and prints each block once it is durable.
#[test]
#[ignore = "the process that the kill test starts and kills"]
fn child_that_mines() {
    let dir = std::env::var_os(CHILD).expect("the kill test names a directory");
    let chain = open(Path::new(&dir)).expect("opens");
    println!("tip {}", chain.tip().hash);
    let mut salt = std::process::id();
    loop {
        salt = salt.wrapping_add(1);
        let tip = chain.tip();
        let back = if salt.is_multiple_of(5) { tip.height.min(2) } else { 0 };
        let from = chain.entry_at(tip.height - back).expect("active");
        for block in branch(&from.header, from.height, back + 1, salt) {
            chain.process_block(block, NOW, true).expect("taken");
        }
        println!("tip {}", chain.tip().hash);
        if salt.is_multiple_of(7) {
            chain.flush().expect("flushed");
        }
    }
}

#[test]
fn kill_9_at_any_moment_loses_no_acknowledged_block() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut lines_before_kill = 1;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_that_mines", "--ignored", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut last = None;
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for _ in 0..lines_before_kill {
            last = lines.by_ref().map_while(Result::ok).find_map(|line| line.split("tip ").nth(1).map(str::to_owned));
        }
        // So many more instructions of a loop as the round says: the kill lands at another place each time.
        let mut spin = 0u64;
        for n in 0..round * 150_000 {
            spin = std::hint::black_box(spin + n);
        }
        child.kill().expect("killed");
        for line in lines.map_while(Result::ok) {
            last = line.split("tip ").nth(1).map(str::to_owned).or(last);
        }
        child.wait().expect("ended");
        lines_before_kill = 3 + (lines_before_kill * 7) % 23;

        let chain = open(dir.path()).expect("opens by itself");
        let last = last.expect("it printed its tip").trim().parse().expect("a hash");
        let acknowledged = chain.entry(&last).expect("an acknowledged block is known");
        assert!(acknowledged.status.has_data);
        assert!(chain.tip().chain_work >= acknowledged.chain_work, "round {round}");
        assert_sound(&chain);
    }
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_that_mines", "--ignored", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.by_ref().map_while(Result::ok).find(|line| line.contains("tip ")).expect("it has opened");
    let refused = open(dir.path()).expect_err("the child holds it");
    let message = refused.to_string();
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(matches!(refused, ChainError::Locked { .. }));
    assert!(message.contains(&child.id().to_string()) && message.contains("child_that_mines"), "{message}");
    open(dir.path()).expect("free once it is gone");
}

#[test]
fn a_directory_that_is_not_ours_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(dir.path()).expect("opens"));
    let marker = dir.path().join("FORMAT");
    let text = fs::read_to_string(&marker).expect("read");

    let other = cairn_consensus::params::Params::new(bitcoin::Network::Signet).expect("signet has parameters");
    let config = ChainConfig { dir: dir.path().to_owned(), params: other, coin_cache_bytes: 1 << 20 };
    let refused = Chain::open(config, Box::new(|_| {})).expect_err("another network");
    assert!(matches!(&refused, ChainError::WrongNetwork { .. }), "{refused}");
    assert!(refused.to_string().contains("regtest") && refused.to_string().contains("signet"));

    fs::write(&marker, text.replace("cairn-chain 1", "cairn-chain 2")).expect("written");
    let refused = open(dir.path()).expect_err("newer");
    assert!(matches!(refused, ChainError::NewerVersion { found: 2, known: 1, .. }), "{refused}");
    fs::write(&marker, "anything").expect("written");
    assert!(matches!(open(dir.path()), Err(ChainError::Corrupt { .. })));
    fs::write(&marker, text).expect("written");
    drop(open(dir.path()).expect("opens"));

    let file = dir.path().join("file");
    OpenOptions::new().create(true).append(true).open(&file).and_then(|mut f| f.write_all(b"x")).expect("written");
    assert!(matches!(open(&file), Err(ChainError::NotADirectory { .. })));
    assert!(matches!(open(&file.join("below")), Err(ChainError::NotADirectory { .. })));
    // Nobody, not even root, can create files there.
    let refused = open(Path::new("/sys/kernel")).expect_err("not writable");
    assert!(matches!(refused, ChainError::ReadOnly { .. }), "{refused}");
}

/// Puts a device in the place of a block or undo file while `during` runs.
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

#[test]
fn an_invalidated_branch_is_left_even_if_the_process_dies_before_its_coins_are_undone_on_disk() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let ours = grow(&chain, 6).expect("grown");
    let theirs = branch(&ours[2].header, 3, 1, 9);
    chain.process_block(theirs[0].clone(), NOW, true).expect("taken");
    chain.flush().expect("flushed");
    chain.invalidate_block(&ours[3].block_hash()).expect("invalidated");
    let copied = tempfile::tempdir().expect("temporary directory");
    copy(dir.path(), copied.path());
    let again = open(copied.path()).expect("opens");
    assert_eq!(again.tip().hash, theirs[0].block_hash());
    assert_sound(&again);
    again.reconsider_block(&ours[3].block_hash()).expect("reconsidered");
    assert_eq!(again.tip().hash, ours[5].block_hash());
    assert_sound(&again);
}
