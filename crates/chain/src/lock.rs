//! The directory's claim: one process at a time, of one network, of a format that this program knows.

use crate::disk;
use crate::error::ChainError;
use bitcoin::hex::DisplayHex;
use cairn_consensus::params::Params;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek};
use std::path::Path;

/// Format of the data directory. Raised when an older program could misread what a newer one writes.
const FORMAT: u32 = 1;
const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";

/// Holds the directory until dropped; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Creates `dir` if need be and claims it.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, ChainError> {
        match fs::metadata(dir) {
            Ok(data) if !data.is_dir() => return Err(ChainError::NotADirectory { dir: dir.to_owned() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::create_dir(dir).map_err(|error| cannot_write(dir, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(ChainError::NotADirectory { dir: dir.to_owned() });
            }
            Err(error) => return Err(ChainError::io("open", dir, error)),
        }
        let path = dir.join(LOCK_FILE);
        let (mut file, _) = disk::open(&path).map_err(|error| cannot_write(dir, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ChainError::Locked { dir: dir.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(ChainError::io("lock", &path, error)),
        }
        let pid = std::process::id().to_string();
        disk::set_len(&path, &file, 0)
            .and_then(|()| disk::write(&path, &file, pid.as_bytes(), 0))
            .map_err(|error| ChainError::io("write", &path, error))?;
        Ok(Self { _file: file })
    }
}

fn cannot_write(dir: &Path, source: io::Error) -> ChainError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ChainError::ReadOnly { dir: dir.to_owned(), source }
        }
        io::ErrorKind::NotADirectory => ChainError::NotADirectory { dir: dir.to_owned() },
        _ => ChainError::io("create", dir, source),
    }
}

/// The holder as its lock file and `/proc` tell: `4711 (cairn up)`.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // The holder may be writing at this moment: whatever is not a number is unknown.
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    let Some(pid) = read.ok().and_then(|_| text.trim().parse::<u32>().ok()) else {
        return "unknown".to_owned();
    };
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(command) if !command.is_empty() => {
            let words: Vec<_> =
                command.split(|&byte| byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
            format!("{pid} ({})", words.join(" "))
        }
        _ => pid.to_string(),
    }
}

/// Reads the format marker, writing it if the directory is new.
pub(crate) fn check_format(dir: &Path, params: &Params) -> Result<(), ChainError> {
    let path = dir.join(FORMAT_FILE);
    let mut expected = format!("{} {}", params.network, params.genesis_hash);
    if Params::new(params.network).is_none_or(|public| public.magic != params.magic) {
        // All signets have one genesis block; their magic comes from their challenge.
        expected += &format!(" {:x}", params.magic.as_hex());
    }
    match fs::read_to_string(&path) {
        Ok(text) => {
            let damaged = || ChainError::Corrupt { what: path.display().to_string() };
            let mut lines = text.lines();
            let format = lines.next().and_then(|line| line.strip_prefix("cairn-chain ")).ok_or_else(damaged)?;
            let found: u32 = format.trim().parse().map_err(|_| damaged())?;
            if found > FORMAT {
                return Err(ChainError::NewerVersion { dir: dir.to_owned(), found, known: FORMAT });
            }
            let network = lines.next().ok_or_else(damaged)?;
            if network != expected {
                return Err(ChainError::WrongNetwork { dir: dir.to_owned(), found: network.to_owned(), expected });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_atomically(dir, FORMAT_FILE, format!("cairn-chain {FORMAT}\n{expected}\n").as_bytes())
        }
        Err(error) => Err(ChainError::io("read", &path, error)),
    }
}

/// Writes a small file so that it is there whole or not at all, durably.
pub(crate) fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ChainError> {
    let temporary = dir.join(format!("{name}.new"));
    let failed = |error| ChainError::io("write", &temporary, error);
    let (file, _) = disk::open(&temporary).map_err(failed)?;
    disk::set_len(&temporary, &file, 0)
        .and_then(|()| disk::write(&temporary, &file, bytes, 0))
        .and_then(|()| disk::sync(&temporary, &file))
        .map_err(failed)?;
    drop(file);
    let path = dir.join(name);
    disk::rename(&temporary, &path).map_err(|error| ChainError::io("write", &path, error))?;
    sync_dir(dir)
}

/// Makes names created in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), ChainError> {
    disk::sync_dir(dir).map_err(|error| ChainError::io("sync", dir, error))
}
