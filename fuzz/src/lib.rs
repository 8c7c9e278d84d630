//! What the fuzz targets share: reading structure out of the fuzzer's bytes, and a place for their chains.

use bitcoin::Block;
use bitcoin::consensus::serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The fuzzer's bytes, taken from the front. Beyond their end there are only zeros, so that every input means something.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next so many bytes, fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// The next so many bytes, zeros beyond the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes(N);
        let mut array = [0; N];
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Bytes with their length, two bytes, before them.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = self.u16();
        self.bytes(length.into())
    }
}

/// A number below `count`, which is not zero.
pub fn pick(choice: impl Into<u64>, count: usize) -> usize {
    (choice.into() % count as u64) as usize
}

/// A record of a block file, not obfuscated.
pub fn record(magic: [u8; 4], block: &Block) -> Vec<u8> {
    let block = serialize(block);
    [&magic[..], &(block.len() as u32).to_le_bytes(), &block].concat()
}

/// A directory that is not there yet, where the one of the input before was.
pub fn chain_dir() -> PathBuf {
    static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary directory can be made"));
    let dir = DIR.path().join("chain");
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{} cannot be removed: {error}", dir.display()),
        _ => dir,
    }
}

/// Copies a directory's files.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the directory is ours");
    for entry in fs::read_dir(from).expect("the directory is ours") {
        let entry = entry.expect("the directory is ours");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            // Unlike `fs::copy`, these go on after a signal, such as libFuzzer's clock.
            fs::write(to, fs::read(entry.path()).expect("the file is ours")).expect("written");
        }
    }
}
