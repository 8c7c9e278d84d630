//! What a directory holds after its process was killed, or when someone else wants it.

mod common;

use cairn_chain::testing::{NOW, branch, grow, open};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError};
use common::{assert_sound, copy};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The coins of a chain that was given the blocks of `chain`'s branch and nothing else.
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
    let config = ChainConfig { coin_cache_bytes: 1 << 20, ..ChainConfig::new(dir.path().to_owned(), other) };
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

#[test]
fn signets_with_one_genesis_block_are_told_apart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let open_signet = |challenge: u8| {
        let params = cairn_consensus::params::Params::signet(vec![challenge].into(), None).expect("possible");
        Chain::open(ChainConfig::new(dir.path().to_owned(), params), Box::new(|_| {}))
    };
    drop(open_signet(0x51).expect("opens"));
    drop(open_signet(0x51).expect("opens again"));
    let refused = open_signet(0x52).expect_err("another challenge");
    assert!(matches!(&refused, ChainError::WrongNetwork { .. }), "{refused}");
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
