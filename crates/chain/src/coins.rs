//! Coins in memory over those in the database, as Core's `CCoinsViewCache`: what changed is written in one batch.

use crate::db::{TxPos, coin_key};
use crate::index::Id;
use bitcoin::{Block, OutPoint, Txid};
use cairn_consensus::coins::{BlockUndo, Coin};
use cairn_consensus::connect::is_unspendable;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Memory of one cached coin besides its script, bytes: key, entry and the table's slack.
const COIN_BYTES: usize = 36 + 56 + 20;
/// Memory of one pending row of the transaction index, bytes.
const TX_BYTES: usize = 32 + 12 + 12;

/// A cached coin.
#[derive(Debug)]
struct Cached {
    /// `None` once spent.
    coin: Option<Coin>,
    /// Differs from the database.
    dirty: bool,
    /// The database has no coin here, so that a spent one need not be deleted there.
    fresh: bool,
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct CoinCache {
    coins: HashMap<OutPoint, Cached>,
    /// Whether there is a transaction index.
    indexed: bool,
    /// Its rows that are not written yet.
    transactions: HashMap<Txid, TxPos>,
    script_bytes: usize,
}

impl CoinCache {
    /// An empty cache, which keeps rows of the transaction index too if it is `indexed`.
    pub(crate) fn new(indexed: bool) -> Self {
        Self { indexed, ..Self::default() }
    }

    /// The coin if the cache knows of it: `Some(None)` is a coin that is spent, `None` asks the database.
    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<Option<&Coin>> {
        self.coins.get(outpoint).map(|cached| cached.coin.as_ref())
    }

    pub(crate) fn transaction(&self, txid: &Txid) -> Option<TxPos> {
        self.transactions.get(txid).copied()
    }

    /// Memory in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.coins.len() * COIN_BYTES + self.script_bytes + self.transactions.len() * TX_BYTES
    }

    /// Adds an unspent coin. `overwrite` says that the database may hold one there already.
    fn add(&mut self, outpoint: OutPoint, coin: Coin, overwrite: bool) {
        if is_unspendable(&coin.output.script_pubkey) {
            return;
        }
        self.script_bytes += coin.output.script_pubkey.len();
        match self.coins.entry(outpoint) {
            Entry::Vacant(place) => {
                place.insert(Cached { coin: Some(coin), dirty: true, fresh: !overwrite });
            }
            Entry::Occupied(mut place) => {
                let cached = place.get_mut();
                // A spent coin whose deletion is not written yet is still in the database.
                let fresh = cached.fresh || (!overwrite && cached.coin.is_none() && !cached.dirty);
                let old = cached.coin.replace(coin);
                self.script_bytes -= old.map_or(0, |old| old.output.script_pubkey.len());
                (cached.dirty, cached.fresh) = (true, fresh);
            }
        }
    }

    /// Spends a coin that exists, here or in the database.
    fn spend(&mut self, outpoint: OutPoint) {
        match self.coins.entry(outpoint) {
            Entry::Vacant(place) => {
                place.insert(Cached { coin: None, dirty: true, fresh: false });
            }
            Entry::Occupied(mut place) => {
                let old = place.get_mut().coin.take();
                self.script_bytes -= old.map_or(0, |old| old.output.script_pubkey.len());
                if place.get().fresh {
                    place.remove();
                } else {
                    place.get_mut().dirty = true;
                }
            }
        }
    }

    /// Does what a valid block does: spends, creates, and remembers where its transactions lie.
    pub(crate) fn connect(&mut self, block: &Block, txids: &[Txid], id: Id, height: u32) {
        if self.indexed {
            self.transactions.extend(tx_positions(block, txids, id));
        }
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate() {
            let coinbase = n == 0;
            if !coinbase {
                for input in &tx.input {
                    self.spend(input.previous_output);
                }
            }
            for (vout, output) in (0..).zip(&tx.output) {
                let coin = Coin { output: output.clone(), height, coinbase };
                // As Core: only coinbases could ever repeat an older transaction (before BIP 34).
                self.add(OutPoint { txid, vout }, coin, coinbase);
            }
        }
    }

    /// Undoes [`CoinCache::connect`]. The undo data fits the block.
    pub(crate) fn disconnect(&mut self, block: &Block, undo: BlockUndo) {
        let mut spent = undo.0;
        for (n, tx) in block.txdata.iter().enumerate().rev() {
            let txid = tx.compute_txid();
            for (vout, output) in (0..).zip(&tx.output) {
                if !is_unspendable(&output.script_pubkey) {
                    self.spend(OutPoint { txid, vout });
                }
            }
            if n > 0 {
                let coins = spent.pop().unwrap_or_default().0;
                for (input, coin) in tx.input.iter().zip(coins).rev() {
                    // The coin's deletion may not have reached the database: it is not known to be missing there.
                    self.add(input.previous_output, coin, true);
                }
            }
        }
    }

    /// What the database does not have yet, in the order of its keys.
    pub(crate) fn dirty(&self) -> Vec<([u8; 36], Option<&Coin>)> {
        let dirty = self.coins.iter().filter(|(_, cached)| cached.dirty);
        let mut dirty: Vec<_> = dirty.map(|(outpoint, cached)| (coin_key(outpoint), cached.coin.as_ref())).collect();
        dirty.sort_unstable_by_key(|(key, _)| *key);
        dirty
    }

    /// Rows of the transaction index that the database does not have yet, in the order of its keys.
    pub(crate) fn dirty_transactions(&self) -> Vec<(&Txid, TxPos)> {
        let mut rows: Vec<_> = self.transactions.iter().map(|(txid, at)| (txid, *at)).collect();
        rows.sort_unstable_by_key(|(txid, _)| *txid);
        rows
    }

    /// Everything is in the database now. Coins stay cached unless they fill more than `keep` bytes.
    pub(crate) fn written(&mut self, keep: usize) {
        self.transactions = HashMap::new();
        if self.bytes() > keep {
            *self = Self::new(self.indexed);
            return;
        }
        self.coins.retain(|_, cached| {
            (cached.dirty, cached.fresh) = (false, false);
            cached.coin.is_some()
        });
        self.coins.shrink_to_fit();
    }
}

/// Where the transactions of the block `id` lie.
pub(crate) fn tx_positions(block: &Block, txids: &[Txid], id: Id) -> impl Iterator<Item = (Txid, TxPos)> {
    let mut offset = 80 + compact_size_length(block.txdata.len());
    block.txdata.iter().zip(txids).map(move |(tx, &txid)| {
        let length = tx.total_size() as u32;
        offset += length;
        (txid, TxPos { block: id, offset: offset - length, length })
    })
}

/// Bytes of a `CompactSize`.
fn compact_size_length(n: usize) -> u32 {
    bitcoin::VarInt::from(n).size() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf, TxOut};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn coin(value: u64) -> Coin {
        let output = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
        Coin { output, height: 1, coinbase: false }
    }

    proptest! {
        /// Whatever is added, spent and written in whatever order, cache over database equals a plain map.
        #[test]
        fn cache_and_database_together_are_a_map(steps in prop::collection::vec((0u8..4, 0u32..6, 1u64..1000), 1..80)) {
            let mut cache = CoinCache::default();
            let mut database: BTreeMap<[u8; 36], Coin> = BTreeMap::new();
            let mut model: BTreeMap<u32, Coin> = BTreeMap::new();
            let place = |vout| OutPoint { txid: Txid::all_zeros(), vout };
            for (step, vout, value) in steps {
                match step {
                    0 | 1 => {
                        if let std::collections::btree_map::Entry::Vacant(slot) = model.entry(vout) {
                            slot.insert(coin(value));
                            cache.add(place(vout), coin(value), step == 1);
                        }
                    }
                    2 => {
                        if model.remove(&vout).is_some() {
                            cache.spend(place(vout));
                        }
                    }
                    _ => {
                        for (key, change) in cache.dirty() {
                            match change {
                                Some(coin) => drop(database.insert(key, coin.clone())),
                                None => drop(database.remove(&key)),
                            }
                        }
                        cache.written(if value % 2 == 0 { 0 } else { usize::MAX });
                        prop_assert!(cache.dirty().is_empty());
                    }
                }
                for vout in 0..6 {
                    let seen = match cache.get(&place(vout)) {
                        Some(known) => known,
                        None => database.get(&coin_key(&place(vout))),
                    };
                    prop_assert_eq!(seen, model.get(&vout));
                }
                let scripts: usize = cache.coins.values().flat_map(|c| &c.coin).map(|c| c.output.script_pubkey.len()).sum();
                prop_assert_eq!(cache.script_bytes, scripts);
            }
        }
    }
}
