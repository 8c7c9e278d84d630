//! `mempool.dat`: what a restart keeps, what a damaged file costs, and what a kill leaves.

mod common;

use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, Txid, VarInt};
use cairn_mempool::{ImportOptions, Imported, Mempool, MempoolConfig, PersistError, set_aside};
use common::{Net, TIME, outputs, pay};
use proptest::prelude::*;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "CAIRN_MEMPOOL_CHILD";

fn load(pool: &Mempool, path: &Path) -> Result<Imported, PersistError> {
    pool.load(path, ImportOptions::RESTART, TIME, &|| false)
}

/// Another mempool on the same chain.
fn fresh(net: &Net) -> Mempool {
    Mempool::new(MempoolConfig::default(), net.chain.clone())
}

/// A file of version 1, as old nodes wrote it.
fn version_1(transactions: &[(&Transaction, i64, i64)]) -> Vec<u8> {
    let mut bytes = serialize(&1u64);
    bytes.extend(serialize(&(transactions.len() as u64)));
    for (tx, time, delta) in transactions {
        bytes.extend(serialize(*tx));
        bytes.extend(serialize(time));
        bytes.extend(serialize(delta));
    }
    bytes.extend(serialize(&VarInt(0)));
    bytes.extend(serialize(&VarInt(0)));
    bytes
}

#[test]
fn a_file_keeps_times_deltas_and_what_no_peer_asked_for() {
    let net = Net::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mempool.dat");
    let (first, other) = (pay(&[net.coin()], 1000, 1), pay(&[net.coin()], 2000, 1));
    let child = pay(&outputs(&first), 90_000, 1);
    let absent: Txid = pay(&[net.coin()], 1, 1).compute_txid();
    net.pool.accept(first.clone(), TIME - 100).unwrap();
    net.pool.accept(child.clone(), TIME - 50).unwrap();
    net.add(&other);
    net.pool.prioritise(other.compute_txid(), 7).unwrap();
    net.pool.prioritise(absent, -9).unwrap();
    net.pool.add_unbroadcast(child.compute_txid());
    net.pool.dump(&path).unwrap();
    assert!(!dir.path().join("mempool.dat.new").exists());

    let pool = fresh(&net);
    let imported = load(&pool, &path).unwrap();
    assert_eq!(imported, Imported { accepted: 3, unbroadcast: 1, ..Imported::default() });
    assert_eq!(pool.txids(), net.pool.txids());
    let time = |tx: &Transaction| pool.get(&tx.compute_txid()).unwrap().time;
    assert_eq!((time(&first), time(&child), time(&other)), (TIME - 100, TIME - 50, TIME));
    assert_eq!(pool.prioritised(), net.pool.prioritised());
    assert_eq!(pool.unbroadcast(), net.pool.unbroadcast());

    // Of a foreign file only the transactions count.
    let pool = fresh(&net);
    let imported = pool.load(&path, ImportOptions::FOREIGN, TIME + 5, &|| false).unwrap();
    assert_eq!(imported, Imported { accepted: 3, ..Imported::default() });
    assert_eq!(pool.get(&first.compute_txid()).unwrap().time, TIME + 5);
    assert!(pool.prioritised().is_empty() && pool.unbroadcast().is_empty());
    let again = load(&pool, &path).unwrap();
    assert_eq!((again.already_there, again.accepted), (3, 0));
}

#[test]
fn old_files_are_read_and_old_transactions_are_not() {
    let net = Net::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mempool.dat");
    let (good, old, invalid) = (pay(&[net.coin()], 1000, 1), pay(&[net.coin()], 1000, 1), pay(&[net.coin()], 0, 1));
    let expiry = MempoolConfig::default().expiry_seconds;
    let expired = (TIME - expiry) as i64;
    std::fs::write(&path, version_1(&[(&good, expired + 1, 5), (&old, expired, 0), (&invalid, TIME as i64, 0)]))
        .unwrap();
    let imported = load(&net.pool, &path).unwrap();
    assert_eq!(imported, Imported { accepted: 1, expired: 1, failed: 1, ..Imported::default() });
    assert_eq!(net.pool.get(&good.compute_txid()).unwrap().modified_fee, 1005);
}

#[test]
fn a_damaged_file_gives_what_comes_before_the_damage() {
    let net = Net::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mempool.dat");
    let transactions = [pay(&[net.coin()], 1000, 1), pay(&[net.coin()], 1000, 1)];
    let whole = version_1(&[(&transactions[0], TIME as i64, 0), (&transactions[1], TIME as i64, 0)]);
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let pool = fresh(&net);
        let Err(PersistError::Damaged { imported, .. }) = load(&pool, &path) else { panic!("cut at {cut}") };
        assert_eq!(imported.accepted as usize, pool.info().size);
        assert_eq!(imported.accepted, (cut.saturating_sub(16) / ((whole.len() - 18) / 2)) as u64, "cut at {cut}");
    }
    let mut unknown = whole;
    unknown[0] = 3;
    std::fs::write(&path, &unknown).unwrap();
    let reason = load(&fresh(&net), &path).unwrap_err().to_string();
    assert!(reason.ends_with("is damaged after 0 transactions: version 3 is none that is known"), "{reason}");
    assert!(load(&net.pool, &dir.path().join("none")).unwrap_err().is_missing());
}

#[test]
fn a_damaged_file_is_set_aside_under_a_free_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mempool.dat");
    let mut names = Vec::new();
    for content in ["one", "two", "three"] {
        std::fs::write(&path, content).unwrap();
        let kept = set_aside(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), content);
        names.push(kept.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(names, ["mempool.dat.bak", "mempool.dat.bak.1", "mempool.dat.bak.2"]);
}

#[test]
fn reading_stops_when_it_is_told_to() {
    let net = Net::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mempool.dat");
    for _ in 0..3 {
        net.add(&pay(&[net.coin()], 1000, 1));
    }
    net.pool.dump(&path).unwrap();
    let pool = Arc::new(fresh(&net));
    let seen = pool.clone();
    let stopped = pool.load(&path, ImportOptions::RESTART, TIME, &move || seen.info().size == 2);
    assert!(matches!(stopped, Err(PersistError::Interrupted)));
    assert_eq!(pool.info().size, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_a_file_or_damage(version in prop_oneof![Just(1u64), Just(2), any::<u64>()], rest in prop::collection::vec(any::<u8>(), 0..300)) {
        // One chain serves all cases: nothing valid comes of noise.
        thread_local!(static NET: Net = Net::new());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mempool.dat");
        let mut bytes = serialize(&version);
        bytes.extend(rest);
        std::fs::write(&path, bytes).unwrap();
        NET.with(|net| match load(&net.pool, &path) {
            Ok(imported) => assert_eq!(imported.accepted, 0),
            Err(PersistError::Damaged { imported, .. }) => assert_eq!(imported.accepted, 0),
            Err(other) => panic!("{other}"),
        });
    }
}

/// What the kill test runs: writes the file for ever, and says so after each time.
#[test]
#[ignore = "the process that the kill test starts and kills"]
fn child_that_saves() {
    let dir = std::env::var_os(CHILD).expect("the kill test names a directory");
    let path = Path::new(&dir).join("mempool.dat");
    let net = Net::new();
    for coin in net.split(200) {
        net.add(&pay(&[coin], 1000, 1));
    }
    loop {
        net.pool.dump(&path).expect("written");
        println!("saved");
    }
}

#[test]
fn kill_9_at_any_moment_leaves_a_whole_file() {
    let net = Net::new();
    net.split(200);
    for round in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_saves", "--ignored", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let saved = lines.filter(|line| line.contains("saved")).take(round + 1).count();
        assert_eq!(saved, round + 1);
        // So many more instructions of a loop as the round says: the kill lands at another place each time.
        let mut spin = 0u64;
        for n in 0..round as u64 * 200_000 {
            spin = std::hint::black_box(spin + n);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let pool = fresh(&net);
        let imported = load(&pool, &dir.path().join("mempool.dat")).unwrap();
        assert_eq!(imported.accepted, 200, "round {round}");
    }
}
