//! Fault points: every change of a file of a chain's directory can be recorded, refused, or be the last thing that the
//! process does.

use crate::Chain;
use crate::disk::{self, Change};
use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A change that was made, in the order in which changes were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A directory was created.
    CreateDir(PathBuf),
    /// An empty file was created.
    Create(PathBuf),
    /// Bytes were written.
    Write {
        /// To this file.
        path: PathBuf,
        /// From this byte on.
        at: u64,
        /// These.
        bytes: Vec<u8>,
    },
    /// A file was cut or lengthened.
    SetLen {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// A file's contents were synced.
    Sync(PathBuf),
    /// A directory's names were synced.
    SyncDir(PathBuf),
    /// A file was renamed.
    Rename {
        /// Its old name.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
    /// A file was deleted.
    Remove(PathBuf),
}

impl Made {
    fn parts(&self) -> (&'static str, &Path) {
        match self {
            Made::CreateDir(path) => ("create directory", path),
            Made::Create(path) => ("create", path),
            Made::Write { path, .. } => ("write", path),
            Made::SetLen { path, .. } => ("set length of", path),
            Made::Sync(path) => ("sync", path),
            Made::SyncDir(path) => ("sync directory", path),
            Made::Rename { to, .. } => ("rename to", to),
            Made::Remove(path) => ("remove", path),
        }
    }

    /// The fault point: what is done to which kind of file, such as `write blk.dat`.
    pub fn point(&self) -> String {
        let (what, path) = self.parts();
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace(|c: char| c.is_ascii_digit(), "");
        format!("{what} {name}")
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, path) = self.parts();
        write!(f, "{what} {}", path.display())
    }
}

impl From<&Change<'_>> for Made {
    fn from(change: &Change<'_>) -> Self {
        match *change {
            Change::CreateDir(path) => Made::CreateDir(path.to_owned()),
            Change::Create(path) => Made::Create(path.to_owned()),
            Change::Write { path, bytes, at, .. } => Made::Write { path: path.to_owned(), at, bytes: bytes.to_owned() },
            Change::SetLen { path, length } => Made::SetLen { path: path.to_owned(), length },
            Change::Sync(path) => Made::Sync(path.to_owned()),
            Change::SyncDir(path) => Made::SyncDir(path.to_owned()),
            Change::Rename { from, to } => Made::Rename { from: from.to_owned(), to: to.to_owned() },
            Change::Remove(path) => Made::Remove(path.to_owned()),
        }
    }
}

/// What happens at the fault points below a directory.
#[derive(Debug, Default)]
struct Plan {
    made: Option<Vec<Made>>,
    abort: Option<(usize, bool)>,
    fail: HashMap<String, io::ErrorKind>,
    dead: bool,
}

static PLANS: Mutex<Vec<(PathBuf, Plan)>> = Mutex::new(Vec::new());

fn plans() -> MutexGuard<'static, Vec<(PathBuf, Plan)>> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_plan<T>(dir: &Path, change: impl FnOnce(&mut Plan) -> T) -> T {
    let mut plans = plans();
    let at = plans.iter().position(|(planned, _)| planned == dir).unwrap_or_else(|| {
        plans.push((dir.to_owned(), Plan::default()));
        plans.len() - 1
    });
    change(&mut plans[at].1)
}

/// Records changes below `dir` from now on.
pub fn record(dir: &Path) {
    with_plan(dir, |plan| plan.made = Some(Vec::new()));
}

/// How many changes were recorded.
pub fn recorded(dir: &Path) -> usize {
    with_plan(dir, |plan| plan.made.as_ref().map_or(0, Vec::len))
}

/// Ends the recording and returns it.
pub fn take(dir: &Path) -> Vec<Made> {
    with_plan(dir, |plan| plan.made.take().unwrap_or_default())
}

/// Aborts the process instead of the change that comes after `count` others below `dir`; if `torn` and it is a write,
/// half of it is made before.
pub fn abort_after(dir: &Path, count: usize, torn: bool) {
    with_plan(dir, |plan| plan.abort = Some((count, torn)));
}

/// Refuses changes at a fault point below `dir`, until [`mend`].
pub fn fail(dir: &Path, point: &str, error: io::ErrorKind) {
    with_plan(dir, |plan| plan.fail.insert(point.to_owned(), error));
}

/// Lets all changes below `dir` be made again.
pub fn mend(dir: &Path) {
    with_plan(dir, |plan| plan.fail.clear());
}

/// Lets go of a chain as a kill would: nothing that its end would write is written.
pub fn kill(chain: Chain, dir: &Path) {
    with_plan(dir, |plan| plan.dead = true);
    drop(chain);
    with_plan(dir, |plan| plan.dead = false);
}

/// A fault point: what is planned for it happens.
pub(crate) fn reach(change: &Change<'_>) -> io::Result<()> {
    let mut plans = plans();
    if plans.is_empty() {
        return Ok(());
    }
    let made = Made::from(change);
    let Some((_, plan)) = plans.iter_mut().find(|(dir, _)| made.parts().1.starts_with(dir)) else { return Ok(()) };
    if plan.dead {
        return Err(io::Error::other(format!("killed before: {made}")));
    }
    if let Some(kind) = plan.fail.get(&made.point()) {
        return Err(io::Error::new(*kind, format!("planned: {made}")));
    }
    match &mut plan.abort {
        Some((0, torn)) => {
            if let (true, Change::Write { file, bytes, at, .. }) = (*torn, change) {
                file.write_all_at(&bytes[..bytes.len() / 2], *at)?;
            }
            std::process::abort();
        }
        Some((count, _)) => *count -= 1,
        None => {}
    }
    if let Some(list) = &mut plan.made {
        list.push(made);
    }
    Ok(())
}

/// The database's file, with fault points.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    file: File,
    inner: FileBackend,
}

impl Watched {
    pub(crate) fn new(path: &Path, file: File) -> Result<Self, DatabaseError> {
        let inner = FileBackend::new(file.try_clone()?)?;
        Ok(Self { path: path.to_owned(), file, inner })
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        disk::set_len(&self.path, &self.file, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        disk::sync(&self.path, &self.file)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        disk::write(&self.path, &self.file, data, offset)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
