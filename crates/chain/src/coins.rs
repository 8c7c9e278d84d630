//! Coins in memory over those in the database, as Core's `CCoinsViewCache`: what changed is written in one batch.

use crate::compress::write_coin_of;
use crate::db::{TxPos, coin_key};
use crate::index::Id;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, OutPoint, Script, ScriptBuf, TxOut, Txid};
use cairn_consensus::coins::{BlockUndo, Coin};
use cairn_consensus::connect::is_unspendable;
use rayon::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Memory of one cached coin besides a long script, bytes: key, entry and the table's slack.
const COIN_BYTES: usize = 36 + 56 + 20;
/// Memory of one pending row of the transaction index, bytes.
const TX_BYTES: usize = 32 + 12 + 12;
/// Longest script that is kept in its entry, bytes: all standard ones but those with bare keys.
const SHORT_SCRIPT: usize = 38;
/// The cache is so many tables by the first byte of the transaction's id: none becomes so large that its growth is felt, and
/// threads can share them out.
const SHARDS: usize = 16;

/// Keys are ids that anybody can search for, so that the hash has a secret of its own.
type Table<K, V> = HashMap<K, V, ahash::RandomState>;

/// A script, in most cases without memory of its own.
#[derive(Debug)]
enum CachedScript {
    Short(u8, [u8; SHORT_SCRIPT]),
    Long(Box<[u8]>),
}

impl CachedScript {
    fn new(script: &Script) -> Self {
        let bytes = script.as_bytes();
        if bytes.len() > SHORT_SCRIPT {
            return Self::Long(bytes.into());
        }
        let mut short = [0; SHORT_SCRIPT];
        short[..bytes.len()].copy_from_slice(bytes);
        Self::Short(bytes.len() as u8, short)
    }

    fn as_script(&self) -> &Script {
        Script::from_bytes(match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        })
    }

    /// Memory of its own, bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// A coin as the cache holds it.
#[derive(Debug)]
pub(crate) struct CachedCoin {
    value: Amount,
    script: CachedScript,
    height: u32,
    coinbase: bool,
}

impl CachedCoin {
    fn new(output: &TxOut, height: u32, coinbase: bool) -> Self {
        Self { value: output.value, script: CachedScript::new(&output.script_pubkey), height, coinbase }
    }

    fn coin(&self) -> Coin {
        let script_pubkey = ScriptBuf::from_bytes(self.script.as_script().as_bytes().to_vec());
        Coin { output: TxOut { value: self.value, script_pubkey }, height: self.height, coinbase: self.coinbase }
    }

    /// Writes it as the database holds it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_coin_of(out, self.height, self.coinbase, self.value, self.script.as_script());
    }
}

/// What the cache knows of an output.
#[derive(Debug)]
struct Cached {
    /// `None` once spent.
    coin: Option<CachedCoin>,
    /// Differs from the database.
    dirty: bool,
    /// The database has no coin here, so that a spent one need not be deleted there.
    fresh: bool,
}

/// One of the cache's tables.
#[derive(Debug, Default)]
struct Shard {
    coins: Table<OutPoint, Cached>,
    script_bytes: usize,
}

impl Shard {
    /// Adds an unspent coin. `overwrite` says that the database may hold one there already.
    fn add(&mut self, outpoint: OutPoint, coin: CachedCoin, overwrite: bool) {
        self.script_bytes += coin.script.bytes();
        match self.coins.entry(outpoint) {
            Entry::Vacant(place) => {
                place.insert(Cached { coin: Some(coin), dirty: true, fresh: !overwrite });
            }
            Entry::Occupied(mut place) => {
                let cached = place.get_mut();
                // A spent coin whose deletion is not written yet is still in the database.
                let fresh = cached.fresh || (!overwrite && cached.coin.is_none() && !cached.dirty);
                let old = cached.coin.replace(coin);
                self.script_bytes -= old.map_or(0, |old| old.script.bytes());
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
                self.script_bytes -= old.map_or(0, |old| old.script.bytes());
                if place.get().fresh {
                    place.remove();
                } else {
                    place.get_mut().dirty = true;
                }
            }
        }
    }

    /// Does what a block does to the coins of shard `number`.
    fn connect(&mut self, number: usize, block: &Block, txids: &[Txid], height: u32) {
        for (n, (tx, txid)) in block.txdata.iter().zip(txids).enumerate() {
            let coinbase = n == 0;
            if !coinbase {
                let spent = tx.input.iter().map(|input| input.previous_output);
                spent.filter(|outpoint| shard_of(&outpoint.txid) == number).for_each(|outpoint| self.spend(outpoint));
            }
            if shard_of(txid) != number {
                continue;
            }
            for (vout, output) in (0..).zip(&tx.output).filter(|(_, output)| !is_unspendable(&output.script_pubkey)) {
                // As Core: only coinbases could ever repeat an older transaction (before BIP 34).
                let coin = CachedCoin::new(output, height, coinbase);
                self.add(OutPoint { txid: *txid, vout }, coin, coinbase);
            }
        }
    }
}

/// Which table an output's coin is in.
fn shard_of(txid: &Txid) -> usize {
    usize::from(txid.as_byte_array()[0]) % SHARDS
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct CoinCache {
    shards: [Shard; SHARDS],
    /// Whether there is a transaction index.
    indexed: bool,
    /// Its rows that are not written yet.
    transactions: Table<Txid, TxPos>,
}

/// A coin's key in the database, and the coin unless it is spent.
pub(crate) type DirtyCoin<'a> = ([u8; 36], Option<&'a CachedCoin>);

impl CoinCache {
    /// An empty cache, which keeps rows of the transaction index too if it is `indexed`.
    pub(crate) fn new(indexed: bool) -> Self {
        Self { indexed, ..Self::default() }
    }

    /// The coin if the cache knows of it: `Some(None)` is a coin that is spent, `None` asks the database.
    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<Option<Coin>> {
        let cached = self.shards[shard_of(&outpoint.txid)].coins.get(outpoint)?;
        Some(cached.coin.as_ref().map(CachedCoin::coin))
    }

    pub(crate) fn transaction(&self, txid: &Txid) -> Option<TxPos> {
        self.transactions.get(txid).copied()
    }

    /// Memory in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let coins: usize = self.shards.iter().map(|shard| shard.coins.len() * COIN_BYTES + shard.script_bytes).sum();
        coins + self.transactions.len() * TX_BYTES
    }

    /// Does what a valid block does: spends, creates, and remembers where its transactions lie; on the threads of `pool`.
    pub(crate) fn connect(
        &mut self,
        block: &Block,
        txids: &[Txid],
        id: Id,
        height: u32,
        pool: Option<&rayon::ThreadPool>,
    ) {
        if self.indexed {
            self.transactions.extend(tx_positions(block, txids, id));
        }
        let shards = &mut self.shards;
        let connect = |(number, shard): (usize, &mut Shard)| shard.connect(number, block, txids, height);
        match pool {
            Some(pool) => pool.install(|| shards.par_iter_mut().enumerate().for_each(connect)),
            None => shards.iter_mut().enumerate().for_each(connect),
        }
    }

    /// Undoes [`CoinCache::connect`]. The undo data fits the block.
    pub(crate) fn disconnect(&mut self, block: &Block, txids: &[Txid], undo: BlockUndo) {
        let mut spent = undo.0;
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate().rev() {
            let shard = &mut self.shards[shard_of(&txid)];
            for (vout, output) in (0..).zip(&tx.output) {
                if !is_unspendable(&output.script_pubkey) {
                    shard.spend(OutPoint { txid, vout });
                }
            }
            if n > 0 {
                let coins = spent.pop().unwrap_or_default().0;
                for (input, coin) in tx.input.iter().zip(coins).rev() {
                    let (outpoint, coin) =
                        (input.previous_output, CachedCoin::new(&coin.output, coin.height, coin.coinbase));
                    // The coin's deletion may not have reached the database: it is not known to be missing there.
                    self.shards[shard_of(&outpoint.txid)].add(outpoint, coin, true);
                }
            }
        }
    }

    /// What the database does not have yet, in the order of its keys.
    pub(crate) fn dirty(&self) -> Vec<DirtyCoin<'_>> {
        let coins = self.shards.iter().flat_map(|shard| &shard.coins);
        let dirty = coins.filter(|(_, cached)| cached.dirty);
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
        self.transactions = Table::default();
        if self.bytes() > keep {
            *self = Self::new(self.indexed);
            return;
        }
        for Shard { coins, .. } in &mut self.shards {
            coins.retain(|_, cached| {
                (cached.dirty, cached.fresh) = (false, false);
                cached.coin.is_some()
            });
            coins.shrink_to_fit();
        }
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Some have short scripts and some long ones.
    fn coin(value: u64) -> Coin {
        let script = ScriptBuf::from_bytes(vec![0x51; value as usize % 50]);
        let output = TxOut { value: Amount::from_sat(value), script_pubkey: script };
        Coin { output, height: 1, coinbase: value.is_multiple_of(3) }
    }

    fn cached(coin: &Coin) -> CachedCoin {
        CachedCoin::new(&coin.output, coin.height, coin.coinbase)
    }

    proptest! {
        /// Whatever is added, spent and written in whatever order, cache over database equals a plain map.
        #[test]
        fn cache_and_database_together_are_a_map(steps in prop::collection::vec((0u8..4, 0u32..6, 1u64..1000), 1..80)) {
            let mut cache = CoinCache::default();
            let mut database: BTreeMap<[u8; 36], Coin> = BTreeMap::new();
            let mut model: BTreeMap<u32, Coin> = BTreeMap::new();
            // In several tables.
            let place = |vout| OutPoint { txid: Txid::from_byte_array([vout as u8 / 2; 32]), vout };
            for (step, vout, value) in steps {
                match step {
                    0 | 1 => {
                        if let std::collections::btree_map::Entry::Vacant(slot) = model.entry(vout) {
                            slot.insert(coin(value));
                            cache.shards[shard_of(&place(vout).txid)].add(place(vout), cached(&coin(value)), step == 1);
                        }
                    }
                    2 => {
                        if model.remove(&vout).is_some() {
                            cache.shards[shard_of(&place(vout).txid)].spend(place(vout));
                        }
                    }
                    _ => {
                        for (key, change) in cache.dirty() {
                            match change {
                                Some(coin) => drop(database.insert(key, coin.coin())),
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
                        None => database.get(&coin_key(&place(vout))).cloned(),
                    };
                    prop_assert_eq!(seen.as_ref(), model.get(&vout));
                }
                for shard in &cache.shards {
                    let scripts: usize = shard.coins.values().flat_map(|c| &c.coin).map(|c| c.script.bytes()).sum();
                    prop_assert_eq!(shard.script_bytes, scripts);
                }
            }
        }
    }
}
