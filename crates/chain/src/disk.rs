//! Every change of a file of this room: nothing else creates, writes, cuts, syncs, renames or deletes.
//!
//! With the feature `testing` each change is a fault point ([`crate::testing::faults`]); in the product it is the call
//! and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A change that is about to be made.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "only fault points read it"))]
pub(crate) enum Change<'a> {
    CreateDir(&'a Path),
    Create(&'a Path),
    Write { path: &'a Path, file: &'a File, bytes: &'a [u8], at: u64 },
    SetLen { path: &'a Path, length: u64 },
    Sync(&'a Path),
    SyncDir(&'a Path),
    Rename { from: &'a Path, to: &'a Path },
    Remove(&'a Path),
}

#[cfg(any(test, feature = "testing"))]
use crate::testing::faults::reach;

#[cfg(not(any(test, feature = "testing")))]
#[inline(always)]
fn reach(_: &Change<'_>) -> io::Result<()> {
    Ok(())
}

/// Creates a directory and those above it that are missing, durably.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir(parent)?;
    }
    reach(&Change::CreateDir(dir))?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        done => done?,
    }
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Opens a file for reading and writing, creating it if it is not there: then its name is not durable yet, and the
/// second answer is true.
pub(crate) fn open(path: &Path) -> io::Result<(File, bool)> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(|file| (file, false)),
    }
    reach(&Change::Create(path))?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok((file, true))
}

/// Writes all of `bytes` from byte `at` on.
pub(crate) fn write(path: &Path, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    reach(&Change::Write { path, file, bytes, at })?;
    file.write_all_at(bytes, at)
}

/// Writes a file from its beginning on.
#[derive(Debug)]
pub(crate) struct Sequential<'a> {
    path: &'a Path,
    file: &'a File,
    at: u64,
}

impl<'a> Sequential<'a> {
    pub(crate) fn new(path: &'a Path, file: &'a File) -> Self {
        Self { path, file, at: 0 }
    }
}

impl io::Write for Sequential<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(self.path, self.file, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts or lengthens a file.
pub(crate) fn set_len(path: &Path, file: &File, length: u64) -> io::Result<()> {
    reach(&Change::SetLen { path, length })?;
    file.set_len(length)
}

/// Makes what was written to a file durable.
pub(crate) fn sync(path: &Path, file: &File) -> io::Result<()> {
    reach(&Change::Sync(path))?;
    file.sync_data()
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    reach(&Change::SyncDir(dir))?;
    File::open(dir)?.sync_all()
}

/// Gives a file another's name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    reach(&Change::Rename { from, to })?;
    fs::rename(from, to)
}

/// Deletes a file; whether it was there.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    if !path.try_exists()? {
        return Ok(false);
    }
    reach(&Change::Remove(path))?;
    fs::remove_file(path).map(|()| true)
}
