//! All coins as of one block of the active chain, held still while the chain moves on: what `gettxoutsetinfo` counts and
//! hashes, and `dumptxoutset` writes.

use crate::BlockEntry;
use crate::chain::Chain;
use crate::compress::write_coin;
use crate::db::{CoinRows, Set, coin_key};
use crate::error::ChainError;
use crate::index::Id;
use crate::muhash::MuHash;
use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, BlockHash, OutPoint, Txid};
use cairn_consensus::coins::Coin;
use cairn_consensus::connect::is_unspendable;
use std::collections::BTreeMap;

/// Coins between two looks at whether to go on.
const COINS_BETWEEN_LOOKS: u64 = 5_000;

/// Which hash of the coins to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoinHash {
    /// Core's `hash_serialized_3`: SHA-256d over all coins in the order of their outpoints. What snapshots are known by.
    HashSerialized3,
    /// Core's `muhash`: does not depend on the order.
    MuHash,
    /// None: only count.
    None,
}

/// Counts and a hash of all coins (Core's `CCoinsStats`).
#[derive(Debug, Clone)]
pub struct CoinStats {
    /// The block whose coins they are.
    pub block: BlockEntry,
    /// Unspent outputs.
    pub coins: u64,
    /// Transactions that have unspent outputs.
    pub transactions: u64,
    /// Core's measure of size that depends on no database, bytes.
    pub bogo_size: u64,
    /// Sum of all values.
    pub total_amount: Amount,
    /// Bytes of keys and values in the database.
    pub disk_size: u64,
    /// The hash asked for, in the order in which SHA-256 gives it; Core prints it backwards. `None` if none was.
    pub hash: Option<[u8; 32]>,
}

/// All coins as of one block.
pub struct CoinSet {
    entry: BlockEntry,
    rows: CoinRows,
    /// What the rows, which are those of a later block, must be corrected by.
    changes: BTreeMap<[u8; 36], Option<Coin>>,
}

impl std::fmt::Debug for CoinSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoinSet").field("block", &self.entry.hash).finish_non_exhaustive()
    }
}

impl Chain {
    /// The coins at the tip, or as they were at an earlier block of the active chain. `go_on` is asked now and then
    /// while blocks are undone for the latter (in memory: the chain itself stays as it is).
    ///
    /// # Errors
    /// [`ChainError::UnknownBlock`] if the block is not in the active chain, [`ChainError::Interrupted`], and failures
    /// to read, such as of blocks that were pruned.
    pub fn coin_set(&self, at: Option<&BlockHash>, go_on: &dyn Fn() -> bool) -> Result<CoinSet, ChainError> {
        let (rows, path, entry) = {
            let mut writer = self.writer()?;
            writer.flush_all(self)?;
            let view = self.read();
            let target = match at {
                None => view.tip(),
                Some(hash) => {
                    let id = view.index.id(hash).filter(|&id| view.is_active(id));
                    id.ok_or(ChainError::UnknownBlock(*hash))?
                }
            };
            let above = view.index.node(target).height as usize + 1;
            (self.db.coin_rows(Set::Active)?, view.active[above..].to_vec(), view.index.entry(target))
        };
        let mut changes = BTreeMap::new();
        for &id in path.iter().rev() {
            if !go_on() {
                return Err(ChainError::Interrupted);
            }
            self.undo_in(&mut changes, id)?;
        }
        Ok(CoinSet { entry, rows, changes })
    }

    /// Notes what undoing a block does to the coins.
    fn undo_in(&self, changes: &mut BTreeMap<[u8; 36], Option<Coin>>, id: Id) -> Result<(), ChainError> {
        let ((block, txids), undo) = self.block_and_undo(id)?;
        for (n, (tx, &txid)) in block.txdata.iter().zip(&txids).enumerate().rev() {
            for (vout, output) in (0..).zip(&tx.output) {
                if !is_unspendable(&output.script_pubkey) {
                    changes.insert(coin_key(&OutPoint { txid, vout }), None);
                }
            }
            if n > 0 {
                for (input, coin) in tx.input.iter().zip(&undo.0[n - 1].0) {
                    changes.insert(coin_key(&input.previous_output), Some(coin.clone()));
                }
            }
        }
        Ok(())
    }
}

impl CoinSet {
    /// The block whose coins these are.
    pub fn block(&self) -> &BlockEntry {
        &self.entry
    }

    /// Gives every coin in the order of txid and output number.
    ///
    /// # Errors
    /// Those of `each`, and failures to read.
    pub fn for_each<E: From<ChainError>>(
        &self,
        mut each: impl FnMut(OutPoint, &Coin) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut changes = self.changes.iter().peekable();
        let mut give = |key: &[u8; 36], coin: &Coin| each(outpoint(key), coin);
        for row in self.rows.iter()? {
            let (key, coin) = row?;
            while let Some((changed, now)) = changes.next_if(|(changed, _)| **changed < key) {
                now.as_ref().map_or(Ok(()), |coin| give(changed, coin))?;
            }
            match changes.next_if(|(changed, _)| **changed == key) {
                Some((_, now)) => now.as_ref().map_or(Ok(()), |coin| give(&key, coin))?,
                None => give(&key, &coin)?,
            }
        }
        changes.try_for_each(|(key, now)| now.as_ref().map_or(Ok(()), |coin| give(key, coin)))
    }

    /// Counts and hashes all coins. `go_on` is asked now and then.
    ///
    /// # Errors
    /// [`ChainError::Interrupted`], and failures to read.
    pub fn stats(&self, hash: CoinHash, go_on: &dyn Fn() -> bool) -> Result<CoinStats, ChainError> {
        let mut counting = Counting::new(hash);
        self.for_each(|outpoint, coin| {
            if counting.should_look() && !go_on() {
                return Err(ChainError::Interrupted);
            }
            counting.add(outpoint, coin);
            Ok(())
        })?;
        Ok(counting.finish(self.entry.clone()))
    }
}

pub(crate) fn outpoint(key: &[u8; 36]) -> OutPoint {
    let (txid, vout) = key.split_first_chunk::<32>().expect("a key has more than 32 bytes");
    let vout = u32::from_be_bytes(vout.try_into().expect("four bytes follow the txid"));
    OutPoint { txid: Txid::from_byte_array(*txid), vout }
}

/// Counts and hashes coins that come in the order of their outpoints.
pub(crate) struct Counting {
    pub(crate) coins: u64,
    transactions: u64,
    bogo_size: u64,
    total: u64,
    disk_size: u64,
    last: Option<Txid>,
    hash: Running,
    buffer: Vec<u8>,
}

enum Running {
    Serialized(<sha256d::Hash as Hash>::Engine),
    MuHash(Box<MuHash>),
    None,
}

impl Counting {
    pub(crate) fn new(hash: CoinHash) -> Self {
        let hash = match hash {
            CoinHash::HashSerialized3 => Running::Serialized(sha256d::Hash::engine()),
            CoinHash::MuHash => Running::MuHash(Box::default()),
            CoinHash::None => Running::None,
        };
        Self { coins: 0, transactions: 0, bogo_size: 0, total: 0, disk_size: 0, last: None, hash, buffer: Vec::new() }
    }

    /// Whether it is time to ask whether to go on.
    pub(crate) fn should_look(&self) -> bool {
        self.coins.is_multiple_of(COINS_BETWEEN_LOOKS)
    }

    pub(crate) fn add(&mut self, outpoint: OutPoint, coin: &Coin) {
        self.coins += 1;
        if self.last.replace(outpoint.txid) != Some(outpoint.txid) {
            self.transactions += 1;
        }
        // Txid, output number, height and coinbase, value, length of the script.
        self.bogo_size += 32 + 4 + 4 + 8 + 2 + coin.output.script_pubkey.len() as u64;
        self.total = self.total.saturating_add(coin.output.value.to_sat());
        self.buffer.clear();
        write_coin(&mut self.buffer, coin);
        self.disk_size += 36 + self.buffer.len() as u64;
        if matches!(self.hash, Running::None) {
            return;
        }
        self.buffer.clear();
        serialize_for_hash(&mut self.buffer, outpoint, coin);
        match &mut self.hash {
            Running::Serialized(engine) => bitcoin::hashes::HashEngine::input(engine, &self.buffer),
            Running::MuHash(hash) => hash.insert(&self.buffer),
            Running::None => {}
        }
    }

    pub(crate) fn finish(self, block: BlockEntry) -> CoinStats {
        CoinStats {
            block,
            coins: self.coins,
            transactions: self.transactions,
            bogo_size: self.bogo_size,
            total_amount: Amount::from_sat(self.total),
            disk_size: self.disk_size,
            hash: match self.hash {
                Running::Serialized(engine) => Some(sha256d::Hash::from_engine(engine).to_byte_array()),
                Running::MuHash(hash) => Some(hash.finish()),
                Running::None => None,
            },
        }
    }
}

/// Core's `TxOutSer`.
fn serialize_for_hash(out: &mut Vec<u8>, outpoint: OutPoint, coin: &Coin) {
    let written = outpoint
        .consensus_encode(out)
        .and_then(|_| (coin.height << 1 | u32::from(coin.coinbase)).consensus_encode(out))
        .and_then(|_| coin.output.consensus_encode(out));
    written.expect("a vector takes every byte");
}
