//! Finding blocks in block files that nothing is known of: whole records, wherever they lie among other bytes.

use crate::error::ChainError;
use crate::files::{BlockFiles, FilePos, Kind, RECORD_HEADER};
use std::fs::File;
use std::path::PathBuf;

/// Core's `MAX_BLOCK_SERIALIZED_SIZE`: no longer record is a block's.
const MAX_BLOCK_SIZE: u32 = 4_000_000;
/// Bytes of a header: no shorter record is a block's.
const MIN_BLOCK_SIZE: u32 = 80;
/// Bytes read at a time where no record begins.
const WINDOW: usize = 64 << 10;

/// Walks one block file.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    files: &'a BlockFiles,
    number: u32,
    path: PathBuf,
    file: File,
    length: u64,
    /// End of the last block found.
    end: u64,
}

impl<'a> Scan<'a> {
    /// Begins at byte `start` of a block file; `None` if there is no such file.
    pub(crate) fn begin(files: &'a BlockFiles, number: u32, start: u32) -> Result<Option<Self>, ChainError> {
        let Some(length) = files.len(Kind::Block, number)? else { return Ok(None) };
        let path = files.path(Kind::Block, number);
        let file = File::open(&path).map_err(|error| ChainError::io("read", &path, error))?;
        Ok(Some(Self { files, number, path, file, length, end: u64::from(start) }))
    }

    /// Length of the file in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Where the last block found ends.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.end).unwrap_or(u32::MAX)
    }

    /// The next record that `read` takes for a block. What lies before it, and is none, is logged and left alone.
    pub(crate) fn next<T>(
        &mut self,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<(FilePos, T)>, ChainError> {
        let mut at = self.end;
        let mut reason = None;
        while let Some(start) = self.find_magic(at)? {
            match self.record(start, &read)? {
                Ok((length, content)) => {
                    self.skipped(start, reason.take())?;
                    let pos = start + u64::from(RECORD_HEADER);
                    self.end = pos + u64::from(length);
                    let Ok(pos) = u32::try_from(pos) else { break };
                    return Ok(Some((FilePos { file: self.number, pos }, content)));
                }
                Err(refused) => {
                    reason.get_or_insert(refused);
                    at = start + 1;
                }
            }
        }
        self.skipped(self.length, reason)?;
        Ok(None)
    }

    /// The record at `start` with its length, or why it is no block's.
    #[allow(clippy::type_complexity, reason = "a failure to read, apart from a record that is none")]
    fn record<T>(
        &self,
        start: u64,
        read: &impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Result<(u32, T), String>, ChainError> {
        let length = self.bytes(start + 4, 4)?;
        let Ok(length) = <[u8; 4]>::try_from(length).map(u32::from_le_bytes) else {
            return Ok(Err("the file ends within the record's header".to_owned()));
        };
        if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&length) {
            return Ok(Err(format!("no block is {length} bytes long")));
        }
        let content = self.bytes(start + u64::from(RECORD_HEADER), length as usize)?;
        if content.len() < length as usize {
            return Ok(Err(format!("the file ends within a block of {length} bytes")));
        }
        Ok(read(&content).map(|content| (length, content)))
    }

    /// Where the network's magic next lies, from `at` on.
    fn find_magic(&self, mut at: u64) -> Result<Option<u64>, ChainError> {
        // Mostly one block follows the other.
        let mut window = 4;
        loop {
            let bytes = self.bytes(at, window)?;
            if let Some(found) = bytes.windows(4).position(|bytes| bytes == self.files.magic()) {
                return Ok(Some(at + found as u64));
            }
            if bytes.len() < window {
                return Ok(None);
            }
            at += bytes.len() as u64 - 3;
            window = WINDOW;
        }
    }

    /// Plain bytes from `at` on, fewer at the end of the file.
    fn bytes(&self, at: u64, count: usize) -> Result<Vec<u8>, ChainError> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let read = self.files.read_at(&self.file, at, count.min(left));
        read.map_err(|error| ChainError::io("read", &self.path, error))
    }

    /// Says that what lies between the last block and `to` is no block. Bitcoin Core makes files longer beforehand:
    /// zeros at the end are nothing to tell.
    fn skipped(&self, to: u64, reason: Option<String>) -> Result<(), ChainError> {
        if to <= self.end || (to == self.length && self.is_zero(self.end)?) {
            return Ok(());
        }
        let reason = reason.unwrap_or_else(|| "no record begins there".to_owned());
        tracing::warn!(file = %self.path.display(), at = self.end, bytes = to - self.end, reason, "skipped what is no block");
        Ok(())
    }

    /// Whether the file holds nothing but zeros from `at` on.
    fn is_zero(&self, mut at: u64) -> Result<bool, ChainError> {
        while at < self.length {
            let mut raw = self.bytes(at, WINDOW)?;
            self.files.obfuscate(&mut raw, at);
            if raw.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += raw.len() as u64;
        }
        Ok(true)
    }
}
