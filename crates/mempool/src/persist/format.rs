//! The bytes of `mempool.dat`: a version, from version 2 on a key, and all that follows obfuscated with it.

use bitcoin::consensus::{Decodable, Encodable};
use bitcoin::io::FromStd;
use bitcoin::{Transaction, Txid, VarInt};
use std::io::{self, BufRead, Read, Write};

/// Not obfuscated.
const VERSION_NO_XOR_KEY: u64 = 1;
/// Obfuscated with a key (`MEMPOOL_DUMP_VERSION`).
const VERSION: u64 = 2;
/// Length of the key.
const KEY_SIZE: usize = 8;

/// Bytes that are changed by a key, which starts anew with each multiple of its length in the file.
#[derive(Debug)]
struct Obfuscated<T> {
    inner: T,
    key: [u8; KEY_SIZE],
    /// Place in the file.
    at: usize,
}

impl<T> Obfuscated<T> {
    fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte ^= self.key[self.at % KEY_SIZE];
            self.at = self.at.wrapping_add(1);
        }
    }
}

impl<R: Read> Read for Obfuscated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.apply(&mut buffer[..length]);
        Ok(length)
    }
}

impl<W: Write> Write for Obfuscated<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut copy = bytes.to_vec();
        self.apply(&mut copy);
        self.inner.write_all(&copy)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a file of either version. What it says of damage names what is missing or wrong.
#[derive(Debug)]
pub(super) struct Reader<R>(Obfuscated<R>);

impl<R: BufRead> Reader<R> {
    pub(super) fn new(inner: R) -> Result<Self, String> {
        let mut file = Self(Obfuscated { inner, key: [0; KEY_SIZE], at: 0 });
        match file.u64("the version")? {
            VERSION_NO_XOR_KEY => {}
            VERSION => {
                if file.compact_size("the length of the key")? != KEY_SIZE as u64 {
                    return Err(format!("the key is not {KEY_SIZE} bytes long"));
                }
                let key = file.take("the key")?;
                file.0.key = key;
            }
            other => return Err(format!("version {other} is none that is known")),
        }
        Ok(file)
    }

    fn take<T: Decodable>(&mut self, what: &str) -> Result<T, String> {
        T::consensus_decode(&mut FromStd::new(&mut self.0))
            .map_err(|error| format!("{what} could not be read: {error}"))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.take(what)
    }

    pub(super) fn i64(&mut self, what: &str) -> Result<i64, String> {
        self.take(what)
    }

    pub(super) fn compact_size(&mut self, what: &str) -> Result<u64, String> {
        self.take::<VarInt>(what).map(|length| length.0)
    }

    pub(super) fn txid(&mut self) -> Result<Txid, String> {
        self.take("a transaction id")
    }

    pub(super) fn transaction(&mut self) -> Result<Transaction, String> {
        self.take("a transaction")
    }
}

/// Writes a file of version 2.
#[derive(Debug)]
pub(super) struct Writer<W>(Obfuscated<W>);

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W, key: [u8; KEY_SIZE]) -> io::Result<Self> {
        let mut file = Self(Obfuscated { inner, key: [0; KEY_SIZE], at: 0 });
        file.put(&VERSION)?;
        file.compact_size(KEY_SIZE)?;
        file.put(&key)?;
        file.0.key = key;
        Ok(file)
    }

    pub(super) fn put(&mut self, value: &impl Encodable) -> io::Result<()> {
        value.consensus_encode(&mut FromStd::new(&mut self.0)).map(drop).map_err(Into::into)
    }

    pub(super) fn compact_size(&mut self, length: usize) -> io::Result<()> {
        self.put(&VarInt(length as u64))
    }
}
