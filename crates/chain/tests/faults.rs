//! The process ends at each fault point, and files that refuse to be written or synced.

mod common;

use cairn_chain::testing::faults::{self, Made};
use cairn_chain::testing::{NOW, block_after, branch, grow, limit_files, open, regtest};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError, ChainEvent, Prune};
use common::{assert_sound, copy, scratch};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

const DIR: &str = "CAIRN_CHAIN_TEST_DIR";
const ABORT: &str = "CAIRN_CHAIN_TEST_ABORT";

/// A chain with all indexes.
fn open_indexed(dir: &Path) -> Result<Chain, ChainError> {
    let config = ChainConfig { blockfilterindex: true, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {}))
}

/// What is done until it is aborted: everything that changes a file. Acknowledged blocks are printed.
fn work(dir: &Path) {
    let chain = open_indexed(dir).expect("opens");
    limit_files(&chain, 4 << 10).expect("limited");
    for salt in 0..24 {
        let tip = chain.tip();
        let back = if salt % 5 == 4 { 2 } else { 0 };
        let from = chain.entry_at(tip.height - back).expect("active");
        for block in branch(&from.header, from.height, back + 1, salt) {
            chain.process_block(block, NOW, true).expect("taken");
        }
        println!("tip {}", chain.tip().hash);
        if salt % 3 == 2 {
            chain.flush().expect("flushed");
        }
    }
    let coins = chain.coin_set(None, &|| true).expect("coins");
    coins.write_snapshot(&dir.join("utxo.dat"), regtest().magic, &|| true).expect("written");
    drop((coins, chain));
    let config = ChainConfig { reindex: true, txindex: false, ..ChainConfig::new(dir.to_owned(), regtest()) };
    drop(Chain::open(config, Box::new(|_| {})).expect("opens"));
    // Makes the indexes.
    drop(open_indexed(dir).expect("opens"));
}

/// What is done to a chain that is long enough to be pruned.
fn prune(dir: &Path) {
    let config =
        ChainConfig { prune: Prune::Manual, blockfilterindex: true, ..ChainConfig::new(dir.to_owned(), regtest()) };
    let chain = Chain::open(config, Box::new(|_| {})).expect("opens");
    println!("tip {}", chain.tip().hash);
    chain.prune_to(u32::MAX).expect("pruned");
}

#[test]
#[ignore = "the process that the abort tests start"]
fn child() {
    let dir = std::env::var_os(DIR).expect("the test names a directory");
    let dir = Path::new(&dir);
    let abort = std::env::var(ABORT).expect("the test says when");
    let mut words = abort.split(' ');
    let (what, count, torn) = (words.next(), words.next(), words.next());
    let count = count.and_then(|count| count.parse().ok()).expect("a number");
    faults::abort_after(dir, count, torn == Some("torn"));
    match what {
        Some("prune") => prune(dir),
        _ => work(dir),
    }
}

/// Runs the child until it aborts, and opens what it leaves.
fn abort_at(what: &str, dir: &Path, count: usize, torn: bool, change: &Made) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(ABORT, format!("{what} {count} {}", if torn { "torn" } else { "whole" }))
        .output()
        .expect("started");
    assert!(!output.status.success(), "{change}: it was not aborted");
    let output = String::from_utf8_lossy(&output.stdout);
    let last = output.lines().filter_map(|line| line.split("tip ").nth(1)).next_back();
    let chain = open_indexed(dir).unwrap_or_else(|error| panic!("{what}, aborted at {change} (torn: {torn}): {error}"));
    if let Some(last) = last {
        let last = last.trim().parse().expect("a hash");
        let acknowledged = chain.entry(&last).unwrap_or_else(|| panic!("aborted at {change}: {last} is lost"));
        assert!(chain.tip().chain_work >= acknowledged.chain_work, "aborted at {change}");
    }
    // A snapshot is there whole or not at all.
    if let Ok(snapshot) = std::fs::File::open(dir.join("utxo.dat")) {
        assert!(snapshot.metadata().expect("asked").len() > 500, "aborted at {change}");
    }
    if what == "prune" {
        chain.verify(4, 200).expect("sound");
        grow(&chain, 1).expect("goes on");
        let height = chain.tip().height;
        assert_eq!(chain.filter_index_height().expect("read"), Some(height));
        let filters = chain.filters(0, &chain.tip().hash).expect("read").expect("all are there");
        assert_eq!(filters.filter(Result::is_ok).count(), height as usize + 1);
    } else {
        assert_sound(&chain);
    }
}

/// Every fault point that `what` reaches, at its first, its middle and its last change.
fn places(made: &[Made]) -> BTreeMap<String, Vec<usize>> {
    let mut points: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, change) in made.iter().enumerate() {
        points.entry(change.point()).or_default().push(n);
    }
    for places in points.values_mut() {
        let mut chosen = vec![places[0], places[places.len() / 2], places[places.len() - 1]];
        chosen.dedup();
        *places = chosen;
    }
    points
}

#[test]
fn an_abort_at_each_fault_point_loses_nothing_that_was_acknowledged() {
    let home = scratch();
    let dir = home.path().join("chain");
    faults::record(&dir);
    work(&dir);
    let made = faults::take(&dir);
    let points = places(&made);
    let expected = [
        "create FORMAT.new",
        "create LOCK",
        "create blk.dat",
        "create chain.redb.new",
        "create directory blocks",
        "create directory chain",
        "create directory chainstate",
        "create rev.dat",
        "create utxo.dat.incomplete",
        "create xor.dat.new",
        "remove chain.redb",
        "rename to FORMAT",
        "rename to chain.redb",
        "rename to utxo.dat",
        "rename to xor.dat",
        "set length of FORMAT.new",
        "set length of LOCK",
        "set length of chain.redb",
        "set length of chain.redb.new",
        "set length of rev.dat",
        "set length of utxo.dat.incomplete",
        "set length of xor.dat.new",
        "sync FORMAT.new",
        "sync blk.dat",
        "sync chain.redb",
        "sync chain.redb.new",
        "sync directory blocks",
        "sync directory chain",
        "sync directory chainstate",
        "sync rev.dat",
        "sync utxo.dat.incomplete",
        "sync xor.dat.new",
        "write FORMAT.new",
        "write LOCK",
        "write blk.dat",
        "write chain.redb",
        "write chain.redb.new",
        "write rev.dat",
        "write utxo.dat.incomplete",
        "write xor.dat.new",
    ];
    assert_eq!(points.keys().collect::<Vec<_>>(), expected);
    for (point, places) in points {
        for place in places {
            for torn in [false, true] {
                if torn && !point.starts_with("write") {
                    continue;
                }
                let home = scratch();
                abort_at("work", &home.path().join("chain"), place, torn, &made[place]);
            }
        }
    }
}

#[test]
fn an_abort_while_pruning_loses_nothing_that_is_kept() {
    let home = scratch();
    let original = home.path().join("original");
    let chain = open_indexed(&original).expect("opens");
    limit_files(&chain, 96 << 10).expect("limited");
    grow(&chain, 1_050).expect("grown");
    drop(chain);
    let dir = home.path().join("chain");
    copy(&original, &dir);
    faults::record(&dir);
    prune(&dir);
    let made = faults::take(&dir);
    let points = places(&made);
    for point in ["remove blk.dat", "remove rev.dat", "sync directory blocks", "write chain.redb", "sync chain.redb"] {
        assert!(points.contains_key(point), "{point}");
    }
    for place in points.into_values().flatten() {
        let home = scratch();
        let dir = home.path().join("chain");
        copy(&original, &dir);
        abort_at("prune", &dir, place, false, &made[place]);
    }
}

/// A chain that remembers why it stopped.
fn watched(dir: &Path) -> (Chain, Arc<Mutex<Vec<String>>>) {
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let heard = stopped.clone();
    let observer = move |event: &ChainEvent| {
        if let ChainEvent::Stopped { cause } = event {
            heard.lock().expect("nobody panics holding it").push(cause.clone());
        }
    };
    let config = ChainConfig::new(dir.to_owned(), regtest());
    (Chain::open(config, Box::new(observer)).expect("opens"), stopped)
}

#[test]
fn after_a_failed_sync_or_commit_nothing_is_written_until_the_next_start() {
    for point in ["sync blk.dat", "sync directory blocks", "sync rev.dat", "write chain.redb", "sync chain.redb"] {
        let home = scratch();
        let dir = home.path().join("chain");
        let (chain, stopped) = watched(&dir);
        let tip = grow(&chain, 5).expect("grown")[4].block_hash();
        chain.flush().expect("flushed");
        limit_files(&chain, 1).expect("the next block begins a file");
        let next = Arc::new(block_after(&chain.tip().header, 6, 1, Vec::new()));

        faults::fail(&dir, point, ErrorKind::Other);
        let failed = chain.process_block(next.clone(), NOW, true).map(|_| ()).and_then(|()| chain.flush());
        let failed = failed.expect_err("it cannot be durable").to_string();
        assert!(failed.contains("planned"), "{point}: {failed}");
        faults::mend(&dir);

        // The disk is well again, but nobody knows what it holds.
        faults::record(&dir);
        for refused in [
            chain.process_block(next.clone(), NOW, true).map(|_| ()),
            chain.process_headers(&[next.header], NOW).map(|_| ()),
            chain.invalidate_block(&tip),
            chain.reconsider_block(&tip),
            chain.prune_to(1),
            chain.flush(),
        ] {
            assert!(matches!(refused, Err(ChainError::Poisoned { .. })), "{point}: {refused:?}");
        }
        assert_eq!(stopped.lock().expect("nobody panics holding it").len(), 1, "{point}: said once");
        drop(chain);
        // The database may put down what it had before; no file of ours is touched.
        let touched: Vec<_> =
            faults::take(&dir).iter().map(Made::point).filter(|p| !p.ends_with("chain.redb")).collect();
        assert!(touched.is_empty(), "{point}: {touched:?}");

        let chain = open(&dir).expect("opens");
        assert!(chain.tip().height >= 5);
        chain.process_block(next, NOW, true).expect("taken now");
        assert_eq!(chain.tip().height, 6);
        assert_sound(&chain);
    }
}

#[test]
fn a_write_that_fails_costs_nothing_and_condemns_nothing() {
    for (point, error) in [
        ("write blk.dat", ErrorKind::StorageFull),
        ("write rev.dat", ErrorKind::StorageFull),
        ("create blk.dat", ErrorKind::PermissionDenied),
        ("create rev.dat", ErrorKind::Other),
    ] {
        let home = scratch();
        let dir = home.path().join("chain");
        let (chain, stopped) = watched(&dir);
        grow(&chain, 5).expect("grown");
        limit_files(&chain, 1).expect("the next block begins a file");
        let ours = Arc::new(block_after(&chain.tip().header, 6, 1, Vec::new()));
        faults::fail(&dir, point, error);
        for _ in 0..3 {
            let refused = chain.process_block(ours.clone(), NOW, true).expect_err("it cannot be stored");
            assert!(matches!(refused, ChainError::Io { .. } | ChainError::DiskFull { .. }), "{point}: {refused}");
            assert_eq!(chain.tip().height, 5);
        }
        faults::mend(&dir);
        assert!(chain.tips().iter().all(|(entry, ..)| !entry.status.failed));
        let taken = chain.process_block(ours, NOW, true).expect("taken now");
        let expected = if point.ends_with("rev.dat") { BlockAccepted::Duplicate } else { BlockAccepted::New };
        assert_eq!(taken, expected, "{point}");
        assert_eq!(chain.tip().height, 6);
        assert!(stopped.lock().expect("nobody panics holding it").is_empty());
        assert_sound(&chain);
    }
}
