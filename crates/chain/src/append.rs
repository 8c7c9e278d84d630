//! Writing block and undo files: at their ends, synced when the writer says so.

use crate::disk;
use crate::error::ChainError;
use crate::files::{BlockFiles, FilePos, Kind, RECORD_HEADER};
use std::collections::BTreeSet;
use std::fs::File;

/// Core's `MAX_BLOCKFILE_SIZE` in bytes.
const MAX_FILE_SIZE: u32 = 128 << 20;

/// Where the good part of one pair of files ends, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ends {
    pub(crate) block: u32,
    pub(crate) undo: u32,
}

/// Appends records; the writer's.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    /// Ends of all files, by number; never empty after the first block.
    pub(crate) ends: Vec<Ends>,
    /// Files written since they were last synced.
    unsynced: BTreeSet<(Kind, u32)>,
    /// New names since the directory was last synced.
    new_names: bool,
    /// A file was begun since pruning was last thought of.
    pub(crate) new_file: bool,
    /// Largest size of a file in bytes; Core's unless a test makes it small.
    pub(crate) max_file_size: Option<u32>,
}

impl Appender {
    pub(crate) fn new(ends: Vec<Ends>) -> Self {
        Self { ends, ..Self::default() }
    }

    /// Appends a block. After an error nothing has changed and it may be tried again.
    pub(crate) fn append_block(&mut self, files: &BlockFiles, block: &[u8]) -> Result<FilePos, ChainError> {
        let size = block.len() as u64 + u64::from(RECORD_HEADER);
        let limit = u64::from(self.max_file_size.unwrap_or(MAX_FILE_SIZE));
        let (file, end) = match self.ends.last() {
            Some(ends) if u64::from(ends.block) + size < limit => (self.ends.len() - 1, ends.block),
            _ => (self.ends.len(), 0),
        };
        let file = u32::try_from(file).expect("files of 128 MiB do not reach a number of 32 bits");
        let pos = self.append(files, Kind::Block, file, end, block.len() as u32, block)?;
        if file as usize == self.ends.len() {
            self.ends.push(Ends::default());
            self.new_file = true;
        }
        self.ends[file as usize].block = pos + block.len() as u32;
        Ok(FilePos { file, pos })
    }

    /// Appends undo data to the file that goes with its block's. After an error nothing has changed.
    pub(crate) fn append_undo(
        &mut self,
        files: &BlockFiles,
        file: u32,
        undo: &[u8],
        checksum: &[u8; 32],
    ) -> Result<u32, ChainError> {
        let end = self.ends[file as usize].undo;
        let content = [undo, checksum].concat();
        let pos = self.append(files, Kind::Undo, file, end, undo.len() as u32, &content)?;
        self.ends[file as usize].undo = pos + content.len() as u32;
        Ok(pos)
    }

    fn append(
        &mut self,
        files: &BlockFiles,
        kind: Kind,
        number: u32,
        end: u32,
        length: u32,
        content: &[u8],
    ) -> Result<u32, ChainError> {
        let path = files.path(kind, number);
        let mut record = Vec::with_capacity(content.len() + RECORD_HEADER as usize);
        record.extend(files.magic());
        record.extend(length.to_le_bytes());
        record.extend(content);
        files.obfuscate(&mut record, u64::from(end));
        let failed = |error| ChainError::io("write", &path, error);
        let (file, is_new) = disk::open(&path).map_err(failed)?;
        // A file that is empty may have been left by a process that died before its name was durable.
        self.new_names |= is_new || end == 0;
        if let Err(error) = disk::write(&path, &file, &record, u64::from(end)) {
            // Leaves no torn record behind; if this fails too, the next start drops it.
            let _ = disk::set_len(&path, &file, u64::from(end));
            return Err(failed(error));
        }
        self.unsynced.insert((kind, number));
        Ok(end + RECORD_HEADER)
    }

    /// A block file has blocks that another process wrote, which may not have synced them before it died.
    pub(crate) fn adopt(&mut self, number: u32) {
        self.unsynced.insert((Kind::Block, number));
        self.new_names = true;
    }

    /// Makes everything appended durable. After an error what is on disk is uncertain.
    pub(crate) fn sync(&mut self, files: &BlockFiles) -> Result<(), ChainError> {
        self.sync_blocks(files)?;
        self.sync_kind(files, Kind::Undo)
    }

    /// Makes blocks durable. Undo data can wait: it is made again when its block is connected again.
    pub(crate) fn sync_blocks(&mut self, files: &BlockFiles) -> Result<(), ChainError> {
        self.sync_kind(files, Kind::Block)?;
        if self.new_names {
            files.sync_names()?;
            self.new_names = false;
        }
        Ok(())
    }

    fn sync_kind(&mut self, files: &BlockFiles, kind: Kind) -> Result<(), ChainError> {
        while let Some(&(kind, number)) = self.unsynced.range((kind, 0)..=(kind, u32::MAX)).next() {
            let path = files.path(kind, number);
            let synced = File::open(&path).and_then(|file| disk::sync(&path, &file));
            synced.map_err(|error| ChainError::io("sync", &path, error))?;
            self.unsynced.remove(&(kind, number));
        }
        Ok(())
    }

    /// Cuts what lies beyond the ends of files that are written on: torn records of a process that was killed. Returns
    /// the bytes dropped.
    pub(crate) fn cut(&mut self, files: &BlockFiles) -> Result<u64, ChainError> {
        let mut dropped = 0;
        for (number, ends) in (0..).zip(&self.ends) {
            let is_last = number as usize + 1 == self.ends.len();
            if *ends == Ends::default() && !is_last {
                // Nothing is known of it: it was pruned, or was not there when the index was made.
                continue;
            }
            for (kind, end) in [(Kind::Block, ends.block), (Kind::Undo, ends.undo)] {
                let Some(length) = files.len(kind, number)? else { continue };
                if length > u64::from(end) && (is_last || kind == Kind::Undo) {
                    let path = files.path(kind, number);
                    let (file, bytes) = (path.display(), length - u64::from(end));
                    match kind {
                        Kind::Block => {
                            tracing::warn!(%file, at = end, bytes, "cutting what follows the last whole block")
                        }
                        Kind::Undo => tracing::warn!(%file, at = end, bytes, "cutting undo data, which is made again"),
                    }
                    let cut = disk::open(&path).and_then(|(file, _)| disk::set_len(&path, &file, u64::from(end)));
                    cut.map_err(|error| ChainError::io("cut", &path, error))?;
                    self.unsynced.insert((kind, number));
                    dropped += length - u64::from(end);
                }
            }
        }
        Ok(dropped)
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.ends.iter().map(|ends| u64::from(ends.block) + u64::from(ends.undo)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

    fn open(dir: &Path) -> Result<BlockFiles, ChainError> {
        BlockFiles::open(dir.to_owned(), MAGIC, &bitcoin::constants::genesis_block(bitcoin::Network::Regtest))
    }

    #[test]
    fn records_come_back_across_files_and_are_obfuscated_by_offset() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = open(dir.path()).expect("opens");
        let mut appender = Appender { max_file_size: Some(250), ..Appender::default() };
        let blocks: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 90 + n as usize]).collect();
        let places: Vec<_> = blocks.iter().map(|b| appender.append_block(&files, b).expect("written")).collect();
        assert_eq!(places.iter().map(|at| at.file).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
        let undo = appender.append_undo(&files, 1, b"undo", &[7; 32]).expect("written");
        appender.sync(&files).expect("synced");

        let files = open(dir.path()).expect("opens again");
        for (block, at) in blocks.iter().zip(&places) {
            assert_eq!(&files.read(Kind::Block, *at).expect("read"), block);
        }
        let record = files.read(Kind::Undo, FilePos { file: 1, pos: undo }).expect("read");
        assert_eq!(record, [b"undo".as_slice(), &[7; 32]].concat());

        let key = fs::read(dir.path().join("xor.dat")).expect("key");
        let raw = fs::read(dir.path().join("blk00000.dat")).expect("file");
        let plain: Vec<u8> = raw.iter().enumerate().map(|(at, byte)| byte ^ key[at % 8]).collect();
        let expected =
            [&MAGIC[..], &90u32.to_le_bytes(), &blocks[0], &MAGIC, &91u32.to_le_bytes(), &blocks[1]].concat();
        assert_eq!(plain, expected);
    }

    #[test]
    fn what_is_beyond_the_end_is_cut() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = open(dir.path()).expect("opens");
        let mut appender = Appender::default();
        let first = appender.append_block(&files, &[1; 100]).expect("written");
        let ends = appender.ends.clone();
        appender.append_block(&files, &[2; 100]).expect("written");
        fs::write(dir.path().join("rev00000.dat"), [9; 30]).expect("garbage");
        fs::write(dir.path().join("blk00001.dat"), [9; 10]).expect("garbage");
        let mut appender = Appender::new([ends, vec![Ends::default()]].concat());
        assert_eq!(appender.cut(&files).expect("cut"), 30 + 10);
        assert_eq!(files.read(Kind::Block, first).expect("read"), vec![1; 100]);
        assert_eq!(files.len(Kind::Block, 0).expect("asked"), Some(216), "a full file is not written on");
        let mut appender = Appender::new(appender.ends[..1].to_vec());
        assert_eq!(appender.cut(&files).expect("cut"), 108);
        assert_eq!(files.len(Kind::Block, 0).expect("asked"), Some(108));
        assert_eq!(files.last(Kind::Block).expect("asked"), Some(0));
    }
}
