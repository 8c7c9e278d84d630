//! Block and undo files in Bitcoin Core's format: `blkNNNNN.dat`, `revNNNNN.dat`, obfuscated with `xor.dat`.
//!
//! A record is the network's magic, the length, then the block, or the undo data and its checksum. A position is that
//! of the record's content, as in Core's block index (`nDataPos`, `nUndoPos`).

use crate::disk;
use crate::error::ChainError;
use crate::lock::{sync_dir, write_atomically};
use bitcoin::Block;
use bitcoin::consensus::serialize;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Magic and length before each record's content (`STORAGE_HEADER_BYTES`).
pub(crate) const RECORD_HEADER: u32 = 8;
/// Longest content that a record may claim. Undo data of a block stays far below.
const MAX_RECORD: u32 = 64 << 20;
const XOR_FILE: &str = "xor.dat";

/// Which of the two sequences of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Blocks: `blkNNNNN.dat`.
    Block,
    /// Undo data: `revNNNNN.dat`.
    Undo,
}

/// Where a record's content begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilePos {
    pub(crate) file: u32,
    pub(crate) pos: u32,
}

/// Reads records; shared by all readers.
#[derive(Debug)]
pub(crate) struct BlockFiles {
    dir: PathBuf,
    magic: [u8; 4],
    key: [u8; 8],
}

impl BlockFiles {
    /// Opens `dir`, creating it and its random key where they are missing. `genesis` is the network's first block, by
    /// which a lost key is found again.
    pub(crate) fn open(dir: PathBuf, magic: [u8; 4], genesis: &Block) -> Result<Self, ChainError> {
        disk::create_dir(&dir).map_err(|error| ChainError::io("create", &dir, error))?;
        let path = dir.join(XOR_FILE);
        let stored = match fs::read(&path) {
            // Core writes it whole; shorter, it is as good as lost.
            Ok(bytes) => <[u8; 8]>::try_from(bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ChainError::io("read", &path, error)),
        };
        let key = match stored {
            Some(key) => key,
            None => {
                let key = if numbers(&dir)?.is_empty() { rand::random() } else { find_key(&dir, magic, genesis)? };
                write_atomically(&dir, XOR_FILE, &key)?;
                key
            }
        };
        Ok(Self { dir, magic, key })
    }

    pub(crate) fn path(&self, kind: Kind, file: u32) -> PathBuf {
        file_path(&self.dir, kind, file)
    }

    /// Length of a file in bytes, `None` if it is not there.
    pub(crate) fn len(&self, kind: Kind, file: u32) -> Result<Option<u64>, ChainError> {
        let path = self.path(kind, file);
        match fs::metadata(&path) {
            Ok(data) => Ok(Some(data.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ChainError::io("read", &path, error)),
        }
    }

    /// XOR with the key as it falls on the file's offset `at`; its own inverse.
    pub(crate) fn obfuscate(&self, bytes: &mut [u8], at: u64) {
        if self.key == [0; 8] {
            return;
        }
        let mut key = self.key;
        key.rotate_left((at % 8) as usize);
        for chunk in bytes.chunks_mut(8) {
            for (byte, mask) in chunk.iter_mut().zip(key) {
                *byte ^= mask;
            }
        }
    }

    pub(crate) fn read_at(&self, file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        self.obfuscate(&mut bytes, at);
        Ok(bytes)
    }

    /// Content length by the record header before `pos`, `None` if no record begins there.
    fn record_length(&self, file: &File, kind: Kind, pos: u32) -> io::Result<Option<u32>> {
        let Some(start) = pos.checked_sub(RECORD_HEADER) else { return Ok(None) };
        let header = self.read_at(file, u64::from(start), RECORD_HEADER as usize)?;
        let (magic, length) = header.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("the header has four bytes after the magic"));
        let checksum = if kind == Kind::Undo { 32 } else { 0 };
        Ok((magic == self.magic && length <= MAX_RECORD).then(|| length + checksum))
    }

    /// The whole record at `pos`, undo data with its checksum.
    pub(crate) fn read(&self, kind: Kind, at: FilePos) -> Result<Vec<u8>, ChainError> {
        let path = self.path(kind, at.file);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, at.pos),
            _ => ChainError::io("read", &path, error),
        };
        let file = File::open(&path).map_err(failed)?;
        let length = self.record_length(&file, kind, at.pos).map_err(failed)?.ok_or_else(|| damaged(&path, at.pos))?;
        self.read_at(&file, u64::from(at.pos), length as usize).map_err(failed)
    }

    /// A part of the block at `at`.
    pub(crate) fn read_part(&self, at: FilePos, offset: u32, length: u32) -> Result<Vec<u8>, ChainError> {
        let path = self.path(Kind::Block, at.file);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, at.pos),
            _ => ChainError::io("read", &path, error),
        };
        let file = File::open(&path).map_err(failed)?;
        self.read_at(&file, u64::from(at.pos) + u64::from(offset), length as usize).map_err(failed)
    }

    /// Whether a whole record (by its header) lies at `at`.
    pub(crate) fn has_record(&self, kind: Kind, at: FilePos) -> Result<bool, ChainError> {
        let path = self.path(kind, at.file);
        let look = || -> io::Result<bool> {
            let file = File::open(&path)?;
            let length = self.record_length(&file, kind, at.pos)?;
            Ok(length
                .is_some_and(|length| u64::from(at.pos) + u64::from(length) <= file.metadata().map_or(0, |m| m.len())))
        };
        match look() {
            Ok(found) => Ok(found),
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(ChainError::io("read", &path, error)),
        }
    }

    /// Deletes a pair of files, those of them that are there.
    pub(crate) fn delete(&self, number: u32) -> Result<(), ChainError> {
        for kind in [Kind::Block, Kind::Undo] {
            let path = self.path(kind, number);
            disk::remove(&path).map_err(|error| ChainError::io("delete", &path, error))?;
        }
        Ok(())
    }

    /// Makes it durable which files there are.
    pub(crate) fn sync_names(&self) -> Result<(), ChainError> {
        sync_dir(&self.dir)
    }

    /// The network's magic, with which every record begins.
    pub(crate) fn magic(&self) -> &[u8] {
        &self.magic
    }

    /// The highest number of a file that is there.
    pub(crate) fn last(&self, kind: Kind) -> Result<Option<u32>, ChainError> {
        Ok(numbers(&self.dir)?.into_iter().filter(|(found, _)| *found == kind).map(|(_, number)| number).max())
    }

    /// Bytes of these block files.
    pub(crate) fn bytes(&self, mut files: impl Iterator<Item = u32>) -> Result<u64, ChainError> {
        files.try_fold(0, |sum, number| Ok(sum + self.len(Kind::Block, number)?.unwrap_or(0)))
    }
}

/// The block and undo files in `dir` that are not empty.
fn numbers(dir: &Path) -> Result<Vec<(Kind, u32)>, ChainError> {
    let failed = |error| ChainError::io("read", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".dat")) else { continue };
        let kinds = [(Kind::Block, name.strip_prefix("blk")), (Kind::Undo, name.strip_prefix("rev"))];
        for (kind, number) in kinds {
            // Links may stand for files, so that the target is asked.
            if let Some(number) = number.and_then(|number| number.parse().ok())
                && fs::metadata(entry.path()).map_err(failed)?.len() > 0
            {
                found.push((kind, number));
            }
        }
    }
    Ok(found)
}

/// The key that files without `xor.dat` were written with: what the first record, which is the genesis block's in every
/// directory, differs by from that block. All zeros for files that older programs wrote without one.
fn find_key(dir: &Path, magic: [u8; 4], genesis: &Block) -> Result<[u8; 8], ChainError> {
    let block = serialize(genesis);
    let plain = [&magic[..], &(block.len() as u32).to_le_bytes(), &block].concat();
    let path = file_path(dir, Kind::Block, 0);
    let lost = || ChainError::KeyLost { key: dir.join(XOR_FILE), file: path.clone() };
    let mut stored = vec![0; plain.len()];
    File::open(&path).and_then(|file| file.read_exact_at(&mut stored, 0)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => lost(),
        _ => ChainError::io("read", &path, error),
    })?;
    let difference: Vec<u8> = plain.iter().zip(&stored).map(|(plain, stored)| plain ^ stored).collect();
    let (key, _) = difference.split_first_chunk::<8>().ok_or_else(lost)?;
    if difference.iter().zip(key.iter().cycle()).any(|(difference, key)| difference != key) {
        return Err(lost());
    }
    let found = dir.join(XOR_FILE);
    tracing::warn!(key = %found.display(), file = %path.display(), "the key was lost; it was found again by the genesis block");
    Ok(*key)
}

/// What a stored record failed to be.
pub(crate) fn damaged(path: &Path, pos: u32) -> ChainError {
    ChainError::Corrupt { what: format!("the record at byte {pos} of {}", path.display()) }
}

fn file_path(dir: &Path, kind: Kind, file: u32) -> PathBuf {
    let prefix = match kind {
        Kind::Block => "blk",
        Kind::Undo => "rev",
    };
    dir.join(format!("{prefix}{file:05}.dat"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::Appender;
    use std::fs::OpenOptions;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

    fn genesis() -> Block {
        bitcoin::constants::genesis_block(bitcoin::Network::Regtest)
    }

    fn open(dir: &Path) -> Result<BlockFiles, ChainError> {
        BlockFiles::open(dir.to_owned(), MAGIC, &genesis())
    }

    #[test]
    fn a_lost_key_is_found_by_the_genesis_block_or_asked_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = open(dir.path()).expect("opens");
        let at = Appender::default().append_block(&files, &serialize(&genesis())).expect("written");
        let path = dir.path().join(XOR_FILE);
        let key = fs::read(&path).expect("key");
        for left in [None, Some(&b""[..]), Some(b"short")] {
            match left {
                None => fs::remove_file(&path).expect("removed"),
                Some(bytes) => fs::write(&path, bytes).expect("written"),
            }
            let files = open(dir.path()).expect("finds the key");
            assert_eq!(fs::read(&path).expect("key"), key);
            assert_eq!(files.read(Kind::Block, at).expect("read"), serialize(&genesis()));
        }

        // One bit that is not the genesis block's: nothing says what the key was, and none is made up.
        let first = dir.path().join("blk00000.dat");
        let mut bytes = fs::read(&first).expect("read");
        bytes[100] ^= 1;
        fs::write(&first, bytes).expect("written");
        fs::remove_file(&path).expect("removed");
        let refused = open(dir.path()).expect_err("no key");
        assert!(matches!(refused, ChainError::KeyLost { .. }) && refused.to_string().contains("backup"), "{refused}");
        assert!(!path.exists());
        fs::rename(&first, dir.path().join("blk00007.dat")).expect("moved");
        assert!(matches!(open(dir.path()), Err(ChainError::KeyLost { .. })));
    }

    #[test]
    fn files_that_were_never_obfuscated_are_read_as_they_are() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let block = serialize(&genesis());
        let plain = [&MAGIC[..], &(block.len() as u32).to_le_bytes(), &block].concat();
        fs::write(dir.path().join("blk00000.dat"), plain).expect("written");
        let files = open(dir.path()).expect("opens");
        assert_eq!(files.read(Kind::Block, FilePos { file: 0, pos: 8 }).expect("read"), block);
        assert_eq!(fs::read(dir.path().join(XOR_FILE)).expect("key"), [0; 8]);
    }

    #[test]
    fn a_record_that_is_not_there_is_damage_and_a_torn_one_is_not_found() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = open(dir.path()).expect("opens");
        let mut appender = Appender::default();
        let at = appender.append_block(&files, &[1; 100]).expect("written");
        let path = files.path(Kind::Block, 0);
        OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(107)).expect("cut");
        assert!(matches!(files.read(Kind::Block, at), Err(ChainError::Corrupt { .. })));
        assert!(matches!(files.read(Kind::Block, FilePos { file: 0, pos: 3 }), Err(ChainError::Corrupt { .. })));
    }

    #[test]
    fn undo_data_of_an_impossible_length_is_damage() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = open(dir.path()).expect("opens");
        let mut header = [MAGIC, u32::MAX.to_le_bytes()].concat();
        files.obfuscate(&mut header, 0);
        fs::write(files.path(Kind::Undo, 0), header).expect("written");
        let at = FilePos { file: 0, pos: RECORD_HEADER };
        assert!(matches!(files.read(Kind::Undo, at), Err(ChainError::Corrupt { .. })));
        assert!(!files.has_record(Kind::Undo, at).expect("asked"));
    }
}
