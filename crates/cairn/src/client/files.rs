//! Files: hashed in constant memory, proofs read and written whole or not at all.

use crate::error::CliError;
use crate::terminal;
use cairn_stamp::ots::{DetachedTimestampFile, FileHash, MAX_PROOF_SIZE};
use sha2::Digest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is read at a time: large enough that reading costs nothing beside hashing.
const BUFFER: usize = 1 << 20;

/// Standard input, where a file is expected.
pub(crate) const STDIN: &str = "-";

/// The digest of a file, or of standard input for `-`. Shows progress after a second.
pub(crate) fn hash(path: &Path, hash: FileHash) -> Result<Vec<u8>, CliError> {
    let unreadable = |error: io::Error| {
        CliError::failed(format!("{} cannot be read: {error}", path.display())).remedy("name a readable file")
    };
    if path == Path::new(STDIN) {
        return digest_of(&mut io::stdin().lock(), hash, 0).map_err(unreadable);
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    digest_of(&mut file, hash, length).map_err(unreadable)
}

fn digest_of(input: &mut dyn Read, hash: FileHash, length: u64) -> io::Result<Vec<u8>> {
    match hash {
        FileHash::Sha256 => digest_with(sha2::Sha256::new(), input, length),
        FileHash::Sha1 => digest_with(sha1::Sha1::new(), input, length),
        FileHash::Ripemd160 => digest_with(ripemd::Ripemd160::new(), input, length),
        FileHash::Keccak256 => digest_with(sha3::Keccak256::new(), input, length),
    }
}

fn digest_with<D: Digest>(mut digest: D, input: &mut dyn Read, length: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER];
    let started = Instant::now();
    let mut bar = None;
    let mut done = 0u64;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                digest.update(&buffer[..count]);
                done += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if started.elapsed() > Duration::from_secs(1) {
            bar.get_or_insert_with(|| terminal::bytes_bar("hashing", length)).set_position(done);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(digest.finalize().to_vec())
}

/// Reads a proof.
pub(crate) fn read_proof(path: &Path) -> Result<DetachedTimestampFile, CliError> {
    let mut bytes = Vec::new();
    let mut read = |input: &mut dyn Read| input.take(MAX_PROOF_SIZE as u64 + 1).read_to_end(&mut bytes);
    let result = if path == Path::new(STDIN) {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    result.map_err(|error| {
        CliError::failed(format!("the proof {} cannot be read: {error}", path.display()))
            .remedy("name the .ots file that `cairn stamp` wrote")
    })?;
    DetachedTimestampFile::from_bytes(&bytes).map_err(|error| {
        CliError::failed(format!("{} is no valid proof: {error}", path.display()))
            .remedy("get an undamaged copy of the .ots file")
    })
}

/// `FILE.ots`.
pub(crate) fn proof_path(path: &Path) -> PathBuf {
    with_ending(path, ".ots")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whether a file that is there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced.
    Replace,
    /// It is replaced, and kept as `FILE.bak`.
    Backup,
}

/// Writes a proof so that after a crash there is the old file or the new one, never half of one.
pub(crate) fn write_proof(path: &Path, proof: &DetachedTimestampFile, existing: Existing) -> Result<(), CliError> {
    let bytes = proof.to_bytes().map_err(|error| {
        CliError::failed(format!("{} cannot be written: {error}", path.display())).remedy("stamp the file again")
    })?;
    replace(path, &bytes, existing).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_there(path),
        _ => CliError::failed(format!("{} cannot be written: {error}", path.display()))
            .remedy("free some space, or name another place with --output"),
    })
}

/// The error for a proof that would be overwritten.
pub(crate) fn already_there(path: &Path) -> CliError {
    CliError::failed(format!("{} is already there", path.display()))
        .remedy("give --force to replace it, or --output to write elsewhere")
}

fn replace(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let temporary = with_ending(path, &format!(".{}.tmp", std::process::id()));
    let result = write_new(&temporary, bytes).and_then(|()| put_in_place(&temporary, path, existing));
    if result.is_err() {
        // Nothing more can be done about it, and the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn put_in_place(temporary: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    match existing {
        Existing::Replace => fs::rename(temporary, path)?,
        Existing::Backup => {
            let backup = with_ending(path, ".bak");
            let copy = with_ending(path, &format!(".{}.bak.tmp", std::process::id()));
            let kept = write_new(&copy, &fs::read(path)?).and_then(|()| fs::rename(&copy, backup));
            if kept.is_err() {
                let _ = fs::remove_file(&copy);
            }
            kept?;
            fs::set_permissions(temporary, fs::metadata(path)?.permissions())?;
            fs::rename(temporary, path)?;
        }
        Existing::Keep => match fs::hard_link(temporary, path) {
            // A link, unlike a rename, fails if something is there.
            Ok(()) => fs::remove_file(temporary)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // File systems without links.
            Err(_) if !path.exists() => fs::rename(temporary, path)?,
            Err(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        },
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The new name is durable once its folder is; where folders cannot be synchronised, the file still is.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
