//! Snapshots of the coins in Core's format (`node/utxo_snapshot.h`).
//!
//! After a header (magic, version, network, block, number of coins) come the coins in the order of their outpoints, those
//! of one transaction together. The coins' hash is not in the file: whoever loads it must know it already.

use crate::coinset::{CoinHash, CoinSet, CoinStats, Counting};
use crate::compress::{write_coin, write_compact_size};
use crate::error::ChainError;
use crate::lock::sync_dir;
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
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
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(incomplete).map_err(failed)?;
        let written = self.write_to(&file, network, go_on, &failed);
        let stats = written.inspect_err(|_| drop(fs::remove_file(incomplete)))?;
        fs::rename(incomplete, path).map_err(|error| ChainError::io("write", path, error))?;
        sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(stats)
    }

    fn write_to(
        &self,
        file: &File,
        network: [u8; 4],
        go_on: &dyn Fn() -> bool,
        failed: &dyn Fn(io::Error) -> ChainError,
    ) -> Result<CoinStats, ChainError> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
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
        file.write_all_at(&counting.coins.to_le_bytes(), COUNT_AT).map_err(failed)?;
        file.sync_all().map_err(failed)?;
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
