//! Snapshots of the coins in Core's format (`node/utxo_snapshot.h`): written and read.
//!
//! After a header (magic, version, network, block, number of coins) come the coins in the order of their outpoints, those
//! of one transaction together. The coins' hash is not in the file: whoever loads it must know it already.

use crate::coinset::{CoinHash, CoinSet, CoinStats, Counting};
use crate::compress::{Malformed, read_compact_size, take_coin, write_coin, write_compact_size};
use crate::db::coin_key;
use crate::disk;
use crate::error::ChainError;
use crate::lock::sync_dir;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, BlockHash, OutPoint, Txid};
use cairn_consensus::coins::Coin;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const MAGIC: [u8; 5] = *b"utxo\xff";
const VERSION: u16 = 2;
/// Where the number of coins stands: after magic, version, network's magic and block hash.
const COUNT_AT: u64 = 5 + 2 + 4 + 32;

impl CoinSet {
    /// Writes a snapshot, whole or not at all: to `path` with `.incomplete` after its name first, then renamed. Its
    /// statistics come back with the hash that loading it asks for. `go_on` is asked now and then.
    ///
    /// # Errors
    /// [`ChainError::Exists`] if there is such a file, [`ChainError::Interrupted`], and failures to read and write.
    pub fn write_snapshot(
        &self,
        path: &Path,
        network: [u8; 4],
        go_on: &dyn Fn() -> bool,
    ) -> Result<CoinStats, ChainError> {
        if path.exists() {
            return Err(ChainError::Exists { path: path.to_owned() });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".incomplete");
        let incomplete = Path::new(&name);
        let failed = |error| ChainError::io("write", incomplete, error);
        let (file, _) = disk::open(incomplete).map_err(failed)?;
        disk::set_len(incomplete, &file, 0).map_err(failed)?;
        let written = self.write_to(incomplete, &file, network, go_on, &failed);
        let stats = written.inspect_err(|_| drop(disk::remove(incomplete)))?;
        disk::rename(incomplete, path).map_err(|error| ChainError::io("write", path, error))?;
        sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(stats)
    }

    fn write_to(
        &self,
        path: &Path,
        file: &File,
        network: [u8; 4],
        go_on: &dyn Fn() -> bool,
        failed: &dyn Fn(io::Error) -> ChainError,
    ) -> Result<CoinStats, ChainError> {
        let mut out = BufWriter::with_capacity(1 << 20, disk::Sequential::new(path, file));
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(network);
        header.extend(self.block().hash.as_byte_array());
        header.extend(0u64.to_le_bytes());
        out.write_all(&header).map_err(failed)?;
        let mut counting = Counting::new(CoinHash::HashSerialized3);
        let mut transaction = Transaction::default();
        self.for_each(|outpoint, coin| {
            if counting.should_look() && !go_on() {
                return Err(ChainError::Interrupted);
            }
            counting.add(outpoint, coin);
            if transaction.txid != Some(outpoint.txid) {
                transaction.write(&mut out).map_err(failed)?;
                transaction.txid = Some(outpoint.txid);
            }
            transaction.coins += 1;
            write_compact_size(&mut transaction.bytes, u64::from(outpoint.vout));
            write_coin(&mut transaction.bytes, coin);
            Ok(())
        })?;
        transaction.write(&mut out).map_err(failed)?;
        out.flush().map_err(failed)?;
        drop(out);
        disk::write(path, file, &counting.coins.to_le_bytes(), COUNT_AT).map_err(failed)?;
        disk::sync(path, file).map_err(failed)?;
        Ok(counting.finish(self.block().clone()))
    }
}

/// The coins of one transaction.
#[derive(Default)]
struct Transaction {
    txid: Option<Txid>,
    coins: u64,
    bytes: Vec<u8>,
}

impl Transaction {
    /// Writes it, if there is one, and begins anew.
    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(txid) = self.txid.take() else { return Ok(()) };
        let mut head = txid.to_byte_array().to_vec();
        write_compact_size(&mut head, self.coins);
        out.write_all(&head)?;
        out.write_all(&self.bytes)?;
        self.coins = 0;
        self.bytes.clear();
        Ok(())
    }
}

/// Longest coin with its output number: far more than a coin that can be spent has, bytes.
const LONGEST_COIN: usize = 64 << 10;

/// Reads a snapshot coin by coin. Every byte is a stranger's.
pub(crate) struct Reader<R> {
    input: R,
    /// Read, and not yet taken from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// Coins still to come, and those of the current transaction.
    left: u64,
    transaction: (Txid, u64),
    last: Option<OutPoint>,
}

/// What a snapshot says of itself.
pub(crate) struct Metadata {
    pub(crate) block: BlockHash,
    pub(crate) coins: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header; it must be of the network with this magic.
    pub(crate) fn begin(input: R, network: [u8; 4]) -> Result<(Metadata, Self), ChainError> {
        let no_transaction = (Txid::all_zeros(), 0);
        let mut this = Self { input, buffer: Vec::new(), at: 0, left: 0, transaction: no_transaction, last: None };
        this.fill(LONGEST_COIN)?;
        let truncated = || unusable("the file is too short to be one");
        if this.take::<5>().ok_or_else(truncated)? != MAGIC {
            return Err(unusable("the file does not begin as one does (or is of an outdated format)"));
        }
        let version = u16::from_le_bytes(this.take().ok_or_else(truncated)?);
        if version != VERSION {
            return Err(unusable(&format!("the file has version {version}, this program reads version {VERSION}")));
        }
        let magic = this.take::<4>().ok_or_else(truncated)?;
        if magic != network {
            let of = |magic: [u8; 4]| match bitcoin::Network::from_magic(bitcoin::p2p::Magic::from_bytes(magic)) {
                Some(network) => network.to_core_arg().to_owned(),
                None => format!("a network of its own (magic {})", magic.to_lower_hex_string()),
            };
            return Err(unusable(&format!("it is of {}, this node of {}", of(magic), of(network))));
        }
        let block = BlockHash::from_byte_array(this.take().ok_or_else(truncated)?);
        let coins = u64::from_le_bytes(this.take().ok_or_else(truncated)?);
        this.left = coins;
        Ok((Metadata { block, coins }, this))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.buffer[self.at..].first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    /// Reads on until `count` bytes are at hand, or the input ends.
    fn fill(&mut self, count: usize) -> Result<(), ChainError> {
        if self.buffer.len() - self.at >= count {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let more = (1 << 20) as u64;
        let read = self.input.by_ref().take(more).read_to_end(&mut self.buffer);
        read.map_err(|error| unusable(&format!("the file cannot be read: {error}")))?;
        Ok(())
    }

    /// The next coin; `None` after the last, with which the input must end.
    pub(crate) fn next(&mut self) -> Result<Option<(OutPoint, Coin)>, ChainError> {
        self.fill(LONGEST_COIN)?;
        if self.left == 0 {
            let nothing_follows = self.buffer.len() == self.at;
            return if nothing_follows { Ok(None) } else { Err(unusable("bytes follow the last coin")) };
        }
        self.read_coin().map(Some).map_err(|Malformed| {
            unusable(&format!("the file is truncated or damaged {} coins before its end", self.left))
        })
    }

    fn read_coin(&mut self) -> Result<(OutPoint, Coin), Malformed> {
        if self.transaction.1 == 0 {
            let txid = Txid::from_byte_array(self.take().ok_or(Malformed)?);
            let mut rest = &self.buffer[self.at..];
            let coins = read_compact_size(&mut rest)?;
            self.at = self.buffer.len() - rest.len();
            if coins == 0 || coins > self.left {
                return Err(Malformed);
            }
            self.transaction = (txid, coins);
        }
        let mut rest = &self.buffer[self.at..];
        let vout = u32::try_from(read_compact_size(&mut rest)?).map_err(|_| Malformed)?;
        let coin = take_coin(&mut rest)?;
        self.at = self.buffer.len() - rest.len();
        let outpoint = OutPoint { txid: self.transaction.0, vout };
        // Their hash is of coins in this order; it also makes them different ones.
        if self.last.is_some_and(|last| coin_key(&last) >= coin_key(&outpoint)) || coin.output.value > Amount::MAX_MONEY
        {
            return Err(Malformed);
        }
        self.last = Some(outpoint);
        self.transaction.1 -= 1;
        self.left -= 1;
        Ok((outpoint, coin))
    }
}

pub(crate) fn unusable(what: &str) -> ChainError {
    ChainError::Snapshot { what: what.to_owned() }
}
