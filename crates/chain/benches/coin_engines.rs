//! Compares engines for the coin store on the chain's own workload: `cargo bench -p cairn-chain --bench coin_engines`.
//!
//! Each coin has a key of 36 bytes and a value of 30 to 60. It prints random reads and batched writes of coins, memory and threads at rest, and what a `kill -9` in the
//! middle of a write leaves behind. Every measurement of memory and every kill runs in a process of its own.
//! `docs/decisions/0002-coin-store.md` holds the numbers that the choice was made on.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Coins that the workload writes.
const COINS: u64 = 1_000_000;
/// Random reads, and coins deleted afterwards.
const READS: u64 = 500_000;
/// Coins in one atomic batch.
const BATCH: u64 = 50_000;
/// How often a writer is killed.
const KILLS: u64 = 10;

/// What is compared.
const ENGINES: [&str; 5] = [
    "redb, 4 MiB cache",
    "redb quick-repair, 4 MiB cache",
    "redb quick-repair, 64 MiB cache",
    "fjall, 4 MiB cache",
    "fjall, 64 MiB cache",
];

type Key = [u8; 36];
type Failure = Box<dyn std::error::Error>;

/// What the chain asks of an engine.
trait Engine: Sized {
    fn open(dir: &Path) -> Result<Self, Failure>;
    /// One atomic durable batch: `None` deletes.
    fn write(&self, batch: &[(Key, Option<Vec<u8>>)]) -> Result<(), Failure>;
    fn read(&self, keys: &[Key]) -> Result<u64, Failure>;
}

struct Redb<const QUICK_REPAIR: bool, const CACHE_MIB: usize>(redb::Database);
const REDB_COINS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("coins");

impl<const QUICK_REPAIR: bool, const CACHE_MIB: usize> Engine for Redb<QUICK_REPAIR, CACHE_MIB> {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let db = redb::Database::builder().set_cache_size(CACHE_MIB << 20).create(dir.join("coins.redb"))?;
        Ok(Self(db))
    }
    fn write(&self, batch: &[(Key, Option<Vec<u8>>)]) -> Result<(), Failure> {
        let mut txn = self.0.begin_write()?;
        txn.set_quick_repair(QUICK_REPAIR);
        {
            let mut table = txn.open_table(REDB_COINS)?;
            for (key, value) in batch {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        txn.commit()?;
        Ok(())
    }
    fn read(&self, keys: &[Key]) -> Result<u64, Failure> {
        use redb::ReadableDatabase;
        let txn = self.0.begin_read()?;
        let table = match txn.open_table(REDB_COINS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut found = 0;
        for key in keys {
            found += u64::from(table.get(key.as_slice())?.is_some());
        }
        Ok(found)
    }
}

struct Fjall<const CACHE_MIB: u64>(fjall::Database, fjall::Keyspace);

impl<const CACHE_MIB: u64> Engine for Fjall<CACHE_MIB> {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let db = fjall::Database::builder(dir.join("coins.fjall"))
            .cache_size(CACHE_MIB << 20)
            .worker_threads(1)
            .max_journaling_size(64 << 20)
            .open()?;
        let coins = db.keyspace("coins", || fjall::KeyspaceCreateOptions::default().max_memtable_size(8 << 20))?;
        Ok(Self(db, coins))
    }
    fn write(&self, batch: &[(Key, Option<Vec<u8>>)]) -> Result<(), Failure> {
        let mut write = self.0.batch().durability(Some(fjall::PersistMode::SyncAll));
        for (key, value) in batch {
            match value {
                Some(value) => write.insert(&self.1, key.as_slice(), value.as_slice()),
                None => write.remove(&self.1, key.as_slice()),
            }
        }
        write.commit()?;
        Ok(())
    }
    fn read(&self, keys: &[Key]) -> Result<u64, Failure> {
        let mut found = 0;
        for key in keys {
            found += u64::from(self.1.get(key)?.is_some());
        }
        Ok(found)
    }
}

/// SplitMix64: a bijection, so that distinct inputs give distinct keys.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key(n: u64) -> Key {
    let mut key = [0; 36];
    for part in 0..4 {
        key[part * 8..part * 8 + 8].copy_from_slice(&mix(n.wrapping_mul(4) + part as u64).to_le_bytes());
    }
    key[32..].copy_from_slice(&(mix(n) as u32 % 4).to_le_bytes());
    key
}

fn value(n: u64) -> Vec<u8> {
    (0..30 + mix(n ^ 7) % 31).map(|i| mix(n + i) as u8).collect()
}

/// Resident KiB and threads of this process.
fn status() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    (field("VmRSS:"), field("Threads:"))
}

fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => {
                use std::os::unix::fs::MetadataExt;
                data.blocks() * 512
            }
            Err(_) => 0,
        })
        .sum()
}

fn workload<E: Engine>(name: &str, dir: &Path) -> Result<(), Failure> {
    let engine = E::open(dir)?;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for first in (0..COINS).step_by(BATCH as usize) {
        let mut batch: Vec<_> = (first..first + BATCH).map(|n| (key(n), Some(value(n)))).collect();
        // The chain gives a batch in the order of its keys.
        batch.sort_unstable();
        let one = Instant::now();
        engine.write(&batch)?;
        slowest = slowest.max(one.elapsed());
    }
    let written = start.elapsed();
    let keys: Vec<Key> = (0..READS).map(|n| key(mix(n) % COINS)).collect();
    let start = Instant::now();
    let found = engine.read(&keys)?;
    let read = start.elapsed();
    assert_eq!(found, READS, "{name} lost coins");
    let absent: Vec<Key> = (0..READS).map(|n| key(COINS + n)).collect();
    let start = Instant::now();
    assert_eq!(engine.read(&absent)?, 0, "{name} invents coins");
    let missed = start.elapsed();
    let start = Instant::now();
    for first in (0..READS).step_by(BATCH as usize) {
        let mut batch: Vec<_> = (first..first + BATCH).map(|n| (key(n * 2), None)).collect();
        batch.sort_unstable();
        engine.write(&batch)?;
    }
    let deleted = start.elapsed();
    let (rss, threads) = status();
    drop(engine);
    println!(
        "{name:32} write {:5.2} s (slowest batch {:4.0} ms)  read {:5.2} s  read absent {:5.2} s  delete {:5.2} s  \
         after it {:4} MiB on disk, {:3} MiB resident, {threads} threads",
        written.as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
        read.as_secs_f64(),
        missed.as_secs_f64(),
        deleted.as_secs_f64(),
        size(dir) >> 20,
        rss >> 10,
    );
    Ok(())
}

/// A process that opens what is there, reads a little and says what it weighs.
fn rest<E: Engine>(name: &str, dir: &Path) -> Result<(), Failure> {
    let before = status();
    let start = Instant::now();
    let engine = E::open(dir)?;
    let opened = start.elapsed();
    engine.read(&(0..1000).map(key).collect::<Vec<_>>())?;
    std::thread::sleep(Duration::from_millis(300));
    let (rss, threads) = status();
    println!(
        "{name:32} at rest: opened in {:6.1} ms, {:5} KiB resident above {} KiB of the bare process, {threads} threads, \
         {} KiB on disk",
        opened.as_secs_f64() * 1e3,
        rss.saturating_sub(before.0),
        before.0,
        size(dir) >> 10,
    );
    drop(engine);
    Ok(())
}

/// A process that writes batches until it is killed; each line it prints acknowledges a batch.
fn write_for_ever<E: Engine>(dir: &Path, first: u64) -> Result<(), Failure> {
    let engine = E::open(dir)?;
    for batch in first.. {
        let mut coins: Vec<_> =
            (batch * 5_000..(batch + 1) * 5_000).map(|n| (key(COINS + n), Some(value(n)))).collect();
        coins.sort_unstable();
        engine.write(&coins)?;
        println!("{batch}");
    }
    Ok(())
}

/// Kills writers and checks that each batch is there whole or not at all, and every acknowledged one is there.
fn kills<E: Engine>(name: &str, dir: &Path) -> Result<(), Failure> {
    let mut next = 0;
    let mut slowest = Duration::ZERO;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["child", "write", name, &next.to_string()])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines();
        let mut acknowledged = lines.next().transpose()?.and_then(|line| line.parse::<u64>().ok());
        std::thread::sleep(Duration::from_millis(50 + mix(round) % 400));
        child.kill()?;
        for line in lines {
            acknowledged = line?.parse().ok().or(acknowledged);
        }
        child.wait()?;
        let start = Instant::now();
        let engine = E::open(dir)?;
        slowest = slowest.max(start.elapsed());
        if let Some(last) = acknowledged {
            next = last + 1;
        }
        // All at the end; before that the last ones, which a kill could have torn.
        let from = if round + 1 == KILLS { 0 } else { next.saturating_sub(5) };
        for batch in from..=next {
            let keys: Vec<Key> = (batch * 5_000..(batch + 1) * 5_000).map(|n| key(COINS + n)).collect();
            let found = engine.read(&keys)?;
            assert!(found == 5_000 || (batch == next && found == 0), "{name}: batch {batch} has {found} coins");
            if batch == next && found == 5_000 {
                next += 1;
                break;
            }
        }
    }
    println!(
        "{name:32} {KILLS} kills -9 while writing, {next} batches of 5,000: nothing lost or torn, slowest open {:.0} ms",
        slowest.as_secs_f64() * 1e3
    );
    Ok(())
}

fn run<E: Engine>(what: &str, name: &str, dir: &Path, first: u64) -> Result<(), Failure> {
    match what {
        "workload" => workload::<E>(name, dir),
        "rest" => rest::<E>(name, dir),
        "write" => write_for_ever::<E>(dir, first),
        "kills" => kills::<E>(name, dir),
        other => Err(format!("unknown step {other}").into()),
    }
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, name, first, dir] = args.as_slice()
        && child == "child"
    {
        let (dir, first) = (PathBuf::from(dir), first.parse()?);
        return match name.as_str() {
            "redb, 4 MiB cache" => run::<Redb<false, 4>>(what, name, &dir, first),
            "redb quick-repair, 4 MiB cache" => run::<Redb<true, 4>>(what, name, &dir, first),
            "redb quick-repair, 64 MiB cache" => run::<Redb<true, 64>>(what, name, &dir, first),
            "fjall, 4 MiB cache" => run::<Fjall<4>>(what, name, &dir, first),
            "fjall, 64 MiB cache" => run::<Fjall<64>>(what, name, &dir, first),
            other => Err(format!("unknown engine {other}").into()),
        };
    }
    let step = |what: &str, name: &str, dir: &Path| -> Result<(), Failure> {
        let done = Command::new(std::env::current_exe()?).args(["child", what, name, "0"]).arg(dir).status()?;
        if done.success() { Ok(()) } else { Err(format!("{name}: {what} failed").into()) }
    };
    // As other benchmarks, `-- NAME` picks by a part of the name.
    let wanted = args.iter().skip(1).find(|arg| !arg.starts_with('-'));
    for name in ENGINES.into_iter().filter(|name| wanted.is_none_or(|wanted| name.contains(wanted.as_str()))) {
        let dir = tempfile::tempdir()?;
        step("workload", name, dir.path())?;
        step("rest", name, dir.path())?;
        step("kills", name, dir.path())?;
        let empty = tempfile::tempdir()?;
        step("rest", name, empty.path())?;
        step("rest", name, empty.path())?;
    }
    Ok(())
}
