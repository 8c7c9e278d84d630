//! The mempool on disk: Bitcoin Core's `mempool.dat`, which either program reads of the other.
//!
//! A file is written beside the old one, synced, and renamed over it: whatever interrupts that, there is a whole file.
//! Transactions that are read go through every check again, since the chain may have moved on.

mod format;

use crate::mempool::Mempool;
use bitcoin::{Transaction, Txid};
use format::{Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a file counts besides its transactions (Core's `ImportMempoolOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions {
    /// Transactions come now, not when the file says.
    pub use_current_time: bool,
    /// What operators added to fees is added here too.
    pub apply_fee_delta_priority: bool,
    /// What no peer has asked for is remembered.
    pub apply_unbroadcast_set: bool,
}

impl ImportOptions {
    /// The node's own file, as it was.
    pub const RESTART: Self =
        Self { use_current_time: false, apply_fee_delta_priority: true, apply_unbroadcast_set: true };
    /// Somebody's file, of which only the transactions count (`importmempool`).
    pub const FOREIGN: Self =
        Self { use_current_time: true, apply_fee_delta_priority: false, apply_unbroadcast_set: false };
}

/// What became of the transactions of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Taken.
    pub accepted: u64,
    /// Refused: confirmed, replaced or no longer valid.
    pub failed: u64,
    /// Older than transactions may be here.
    pub expired: u64,
    /// Here already.
    pub already_there: u64,
    /// Not asked for by any peer, as the file says.
    pub unbroadcast: u64,
}

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// The file system refused.
    #[error("could not {action} {}: {source}: check the disk and the permissions", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not what it should be from some byte on. What came before was taken.
    #[error("{} is damaged after {} transactions: {reason}", path.display(), imported.tried())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What was read before.
        imported: Imported,
    },
    /// It was told to stop.
    #[error("reading the mempool was interrupted")]
    Interrupted,
}

impl Imported {
    fn tried(&self) -> u64 {
        self.accepted + self.failed + self.expired + self.already_there
    }
}

impl PersistError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Mempool {
    /// Whether what the last run left was read, or there was nothing to read (Core's `GetLoadTried`).
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Says that what the last run left was read, or that there was nothing to read.
    pub fn set_loaded(&self) {
        self.loaded.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes everything to a file. It is durable when this returns, and until then the file is the old one.
    ///
    /// # Errors
    /// The file system refused; then the old file stays.
    pub fn dump(&self, path: &Path) -> Result<(), PersistError> {
        // Two at once would write into one temporary file.
        let _one = self.dumping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let snapshot = self.snapshot();
        let temporary = beside(path, ".new");
        let file = File::create(&temporary).map_err(|error| PersistError::io("create", &temporary, error))?;
        let mut out = BufWriter::new(file);
        snapshot
            .write(&mut out)
            .and_then(|()| out.flush())
            .and_then(|()| out.get_ref().sync_all())
            .map_err(|error| PersistError::io("write", &temporary, error))?;
        fs::rename(&temporary, path).map_err(|error| PersistError::io("replace", path, error))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| PersistError::io("sync", dir, error))
    }

    fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let pool = &state.pool;
        let mut deltas = pool.deltas().clone();
        let transactions = pool.mining_sequence().into_iter().filter_map(|txid| {
            let entry = &pool.get(&txid)?.entry;
            Some((entry.tx.clone(), entry.time, deltas.remove(&txid).unwrap_or(0)))
        });
        let transactions = transactions.collect();
        Snapshot { transactions, deltas, unbroadcast: pool.unbroadcast().clone() }
    }

    /// Reads a file and takes what still may come. `now` is seconds since 1970; `stop` ends it early.
    ///
    /// # Errors
    /// There is no such file, it is damaged, or `stop` said so. What was read before stays.
    pub fn load(
        &self,
        path: &Path,
        options: ImportOptions,
        now: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Imported, PersistError> {
        let file = File::open(path).map_err(|error| PersistError::io("open", path, error))?;
        let mut imported = Imported::default();
        match self.import(BufReader::new(file), options, now, stop, &mut imported) {
            Ok(true) => Ok(imported),
            Ok(false) => Err(PersistError::Interrupted),
            Err(reason) => Err(PersistError::Damaged { path: path.to_owned(), reason, imported }),
        }
    }

    /// Reads a file; false when it was told to stop.
    fn import(
        &self,
        file: impl io::BufRead,
        options: ImportOptions,
        now: u64,
        stop: &dyn Fn() -> bool,
        imported: &mut Imported,
    ) -> Result<bool, String> {
        let mut file = Reader::new(file)?;
        let count = file.u64("the number of transactions")?;
        for _ in 0..count {
            if stop() {
                return Ok(false);
            }
            let tx = Arc::new(file.transaction()?);
            let time = file.i64("a time")?;
            let delta = file.i64("a fee delta")?;
            let time = if options.use_current_time { now } else { time.try_into().unwrap_or(0) };
            let txid = tx.compute_txid();
            if options.apply_fee_delta_priority && delta != 0 {
                self.lock().pool.prioritise(txid, delta);
            }
            if time <= now.saturating_sub(self.config.expiry_seconds) {
                imported.expired += 1;
            } else if self.accept_shared(&tx, time, now).is_ok() {
                imported.accepted += 1;
            } else if self.contains(&txid) {
                imported.already_there += 1;
            } else {
                imported.failed += 1;
            }
        }
        for _ in 0..file.compact_size("the number of fee deltas")? {
            let (txid, delta) = (file.txid()?, file.i64("a fee delta")?);
            if options.apply_fee_delta_priority {
                self.lock().pool.prioritise(txid, delta);
            }
        }
        for _ in 0..file.compact_size("the number of unbroadcast transactions")? {
            let txid = file.txid()?;
            if options.apply_unbroadcast_set {
                imported.unbroadcast += 1;
                self.add_unbroadcast(txid);
            }
        }
        Ok(true)
    }
}

/// What a file holds.
struct Snapshot {
    /// Transactions, when they came, and what operators added to their fees; parents first.
    transactions: Vec<(Arc<Transaction>, u64, i64)>,
    /// What operators added to the fees of transactions that are not here.
    deltas: BTreeMap<Txid, i64>,
    unbroadcast: BTreeSet<Txid>,
}

impl Snapshot {
    fn write(&self, out: impl io::Write) -> io::Result<()> {
        let mut file = Writer::new(out, rand::random())?;
        file.put(&(self.transactions.len() as u64))?;
        for (tx, time, delta) in &self.transactions {
            file.put(&**tx)?;
            file.put(&i64::try_from(*time).unwrap_or(i64::MAX))?;
            file.put(delta)?;
        }
        file.compact_size(self.deltas.len())?;
        for (txid, delta) in &self.deltas {
            file.put(txid)?;
            file.put(delta)?;
        }
        file.compact_size(self.unbroadcast.len())?;
        self.unbroadcast.iter().try_for_each(|txid| file.put(txid))
    }
}

/// A path with more at its end.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a damaged file to the first free of `NAME.bak`, `NAME.bak.1` and so on, where somebody may look at it.
///
/// # Errors
/// The file system refused.
pub fn set_aside(path: &Path) -> Result<PathBuf, PersistError> {
    let first = beside(path, ".bak");
    let others = (1u32..).map(|n| beside(&first, &format!(".{n}")));
    let free = std::iter::once(first.clone()).chain(others).find(|name| !name.exists()).unwrap_or(first);
    fs::rename(path, &free).map_err(|error| PersistError::io("rename", path, error))?;
    Ok(free)
}
