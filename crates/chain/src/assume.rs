//! Starting from a snapshot of the coins (Core's assumeutxo), and validating it behind.
//!
//! A snapshot is taken only if the parameters know its block and its coins' hash. Its coins then are the active chain's,
//! and the chain goes on from its block. The coins that were there before become the background: they follow the blocks
//! from below, as their data comes, up to the snapshot's block. If their hash is then the same, the snapshot is validated
//! and they are dropped; otherwise it is refused and they are the active chain's again.

use crate::BlockEntry;
use crate::activate::{Failure, scripts_of};
use crate::chain::Chain;
use crate::coins::CoinCache;
use crate::coinset::{CoinHash, Counting, outpoint};
use crate::db::{Set, coin_key};
use crate::error::ChainError;
use crate::index::{Id, status};
use crate::open::link;
use crate::snapshot::{Metadata, Reader, unusable};
use crate::writer::Writer;
use bitcoin::{BlockHash, OutPoint};
use cairn_consensus::coins::{Coin, CoinView};
use cairn_consensus::params::AssumeUtxo;
use std::io::Read;

/// Coins written to the database at a time while a snapshot is read.
const COINS_A_BATCH: usize = 100_000;

/// The coins below a snapshot that is not validated yet.
#[derive(Debug)]
pub(crate) struct Background {
    /// The block that they belong to.
    pub(crate) tip: Id,
    pub(crate) coins: CoinCache,
}

/// How the validation of a snapshot stands.
#[derive(Debug, Clone)]
pub struct SnapshotState {
    /// The snapshot's block.
    pub base: BlockEntry,
    /// How far the blocks below it are validated.
    pub validated: BlockEntry,
}

struct BackgroundCoins<'a>(&'a Chain, &'a CoinCache);

impl CoinView for BackgroundCoins<'_> {
    type Error = ChainError;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        match self.1.get(outpoint) {
            Some(known) => Ok(known),
            None => self.0.db.coin(Set::Background, outpoint),
        }
    }
}

impl Chain {
    /// The snapshot that the chain started from, until it is validated.
    pub fn snapshot_state(&self) -> Option<SnapshotState> {
        let writer = self.writer().ok()?;
        let view = self.read();
        let ((base, _), below) = (view.index.snapshot?, writer.background.as_ref()?);
        Some(SnapshotState { base: view.index.entry(base), validated: view.index.entry(below.tip) })
    }

    /// The block of a snapshot that is not validated yet. Unlike [`Chain::snapshot_state`] it waits for no writer.
    pub fn snapshot_base(&self) -> Option<BlockEntry> {
        let view = self.read();
        view.index.snapshot.map(|(base, _)| view.index.entry(base))
    }

    /// The block that a snapshot was taken at, by its first bytes.
    ///
    /// # Errors
    /// [`ChainError::Snapshot`] if it is none, of another network, or none that may be loaded.
    pub fn snapshot_block(&self, input: impl Read) -> Result<AssumeUtxo, ChainError> {
        let (metadata, _) = Reader::begin(input, self.params.magic)?;
        self.assumed(&metadata.block).cloned().ok_or_else(|| self.not_assumed(&metadata.block))
    }

    fn not_assumed(&self, hash: &BlockHash) -> ChainError {
        let heights: Vec<String> = self.params.assume_utxo.iter().map(|known| known.height.to_string()).collect();
        let heights = heights.join(", ");
        unusable(&format!("its block {hash} is not one that may be loaded (those are at {heights})"))
    }

    /// Starts from a snapshot: reads it, compares its hash with the one that the parameters know for its block, and makes
    /// its coins the active chain's. Returns its block and the number of coins. The mempool must be empty. `go_on` is
    /// asked now and then.
    ///
    /// # Errors
    /// [`ChainError::Snapshot`] says what is wrong with it, [`ChainError::Interrupted`]; the chain then is as it was.
    pub fn load_snapshot(&self, input: impl Read, go_on: &dyn Fn() -> bool) -> Result<(BlockEntry, u64), ChainError> {
        let (metadata, mut reader) = Reader::begin(input, self.params.magic)?;
        let mut writer = self.writer()?;
        let (base, known) = self.base_of(&metadata)?;
        let loaded = self.read_coins(&mut reader, &metadata, known, base, go_on);
        if let Err(error) = loaded {
            self.db.forget_loading()?;
            return Err(error);
        }
        let path = self.path_to(base);
        while !path.contains(&self.read().tip()) {
            self.disconnect_tip(&mut writer)?;
        }
        writer.flush_all(self)?;
        let done = self.db.activate_snapshot(&metadata.block);
        writer.stop_on_error(self, done)?;
        {
            let mut view = self.change();
            writer.background = Some(Background { tip: view.tip(), coins: CoinCache::new(self.txindex) });
            view.coins = CoinCache::new(self.txindex);
            view.active = path;
            view.index.snapshot = Some((base, known.chain_tx_count));
            link(&mut writer, &mut view.index);
            writer.find_candidates(&view);
        }
        tracing::info!(height = known.height, block = %known.block_hash, coins = metadata.coins, "loaded a snapshot");
        self.activate_best_chain(&mut writer, None)?;
        self.advance_background(&mut writer)?;
        writer.flush_if_due(self)?;
        let entry = self.read().index.entry(base);
        Ok((entry, metadata.coins))
    }

    /// What is known of a snapshot at a block, if it may be loaded.
    fn assumed(&self, block: &BlockHash) -> Option<&AssumeUtxo> {
        self.params.assume_utxo.iter().find(|known| known.block_hash == *block)
    }

    /// The block that a snapshot was taken at, if it may be loaded.
    fn base_of(&self, metadata: &Metadata) -> Result<(Id, &AssumeUtxo), ChainError> {
        let hash = metadata.block;
        let view = self.read();
        let index = &view.index;
        if index.snapshot.is_some() {
            return Err(unusable("one is loaded already and is not validated yet"));
        }
        let Some(known) = self.assumed(&hash) else { return Err(self.not_assumed(&hash)) };
        let Some(id) = index.id(&hash) else {
            let what =
                format!("the header of its block {hash} is not here yet: load it again when headers are synchronised");
            return Err(unusable(&what));
        };
        let node = index.node(id);
        if node.height != known.height {
            return Err(unusable(&format!("its block is at height {}, not {}", node.height, known.height)));
        }
        if node.has(status::FAILED) {
            return Err(unusable(&format!("its block {hash} is part of an invalid chain")));
        }
        if index.ancestor(view.best_header, node.height) != Some(id) {
            return Err(unusable("headers with more work fork off below its block"));
        }
        if node.chain_work <= index.node(view.tip()).chain_work {
            return Err(unusable("its work does not exceed that of the active chain"));
        }
        Ok((id, known))
    }

    fn read_coins(
        &self,
        reader: &mut Reader<impl Read>,
        metadata: &Metadata,
        known: &AssumeUtxo,
        base: Id,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), ChainError> {
        let mut counting = Counting::new(CoinHash::HashSerialized3);
        let mut batch = Vec::new();
        while let Some((outpoint, coin)) = reader.next()? {
            if counting.should_look() && !go_on() {
                return Err(ChainError::Interrupted);
            }
            if coin.height > known.height {
                return Err(unusable(&format!("coin {outpoint} is of a later block")));
            }
            counting.add(outpoint, &coin);
            batch.push((coin_key(&outpoint), coin));
            if batch.len() == COINS_A_BATCH {
                self.db.load_coins(&batch)?;
                batch.clear();
                tracing::info!(coins = counting.coins, of = metadata.coins, "reading a snapshot");
            }
        }
        self.db.load_coins(&batch)?;
        let entry = self.read().index.entry(base);
        match counting.finish(entry).hash {
            Some(hash) if printed(hash) == known.hash_serialized => Ok(()),
            _ => Err(unusable("its coins do not have the hash that is known for its block")),
        }
    }

    /// The blocks from the genesis block to this one.
    fn path_to(&self, id: Id) -> Vec<Id> {
        let view = self.read();
        let mut path: Vec<Id> = std::iter::successors(Some(id), |&at| view.index.parent(at)).collect();
        path.reverse();
        path
    }

    /// The background as the database has it; none without a snapshot to validate.
    pub(crate) fn background(&self) -> Result<Option<Background>, ChainError> {
        if self.read().index.snapshot.is_none() {
            return Ok(None);
        }
        let tip = self.db.marker(Set::Background)?;
        let tip = tip.and_then(|hash| self.read().index.id(&hash)).unwrap_or(0);
        Ok(Some(Background { tip, coins: CoinCache::new(self.txindex) }))
    }

    /// Connects what has come of the blocks below a snapshot; with the last of them the snapshot is validated.
    pub(crate) fn advance_background(&self, writer: &mut Writer) -> Result<(), ChainError> {
        let Some((base, _)) = self.read().index.snapshot else { return Ok(()) };
        while let Some(below) = &writer.background {
            let tip = below.tip;
            if tip == base {
                return self.compare(writer, base);
            }
            let next = {
                let view = self.read();
                let next = view.index.ancestor(base, view.index.node(tip).height + 1);
                next.filter(|&next| view.index.node(next).has(status::HAVE_DATA))
            };
            let Some(next) = next else { return Ok(()) };
            match self.connect_below(writer, next) {
                Ok(()) => writer.flush_if_due(self)?,
                Err(Failure::Chain(error)) => return Err(error),
                Err(Failure::Rejected(reason)) => {
                    self.mark_failed(writer, next);
                    let hash = self.read().index.node(next).hash;
                    return self.refuse(writer, &format!("block {hash} below it is invalid: {reason}"));
                }
            }
        }
        Ok(())
    }

    /// Connects a block to the background, whose tip is its parent.
    fn connect_below(&self, writer: &mut Writer, id: Id) -> Result<(), Failure> {
        let (block, txids) = self.stored_block(id)?;
        let node = self.read().index.node(id).clone();
        let Some(below) = &writer.background else { return Ok(()) };
        let coins = BackgroundCoins(self, &below.coins);
        let connected = self.connect_at(&block, &txids, node.height, &coins, scripts_of(&node))?;
        let undo_pos = self.keep_undo(writer, &node, &block, &connected)?;
        let filter = self.filter_to_keep(id, &block, &connected.undo)?;
        {
            let mut view = self.change();
            view.filters.extend(filter);
            view.index.node_mut(id).connected(undo_pos);
        }
        if let Some(below) = &mut writer.background {
            below.coins.connect(&block, &txids, id, node.height, self.pool_for(&block));
            below.tip = id;
        }
        writer.dirty.insert(id);
        writer.changes += 1;
        Ok(())
    }

    /// Every block below the snapshot is validated: are its coins those that they lead to?
    fn compare(&self, writer: &mut Writer, base: Id) -> Result<(), ChainError> {
        writer.flush_all(self)?;
        let entry = self.read().index.entry(base);
        tracing::info!(height = entry.height, "the blocks below the snapshot are validated: hashing their coins");
        let mut counting = Counting::new(CoinHash::HashSerialized3);
        for row in self.db.coin_rows(Set::Background)?.iter()? {
            let (key, coin) = row?;
            counting.add(outpoint(&key), &coin);
        }
        let known = self.assumed(&entry.hash);
        let hash = counting.finish(entry).hash;
        if known.is_none_or(|known| hash.map(printed) != Some(known.hash_serialized)) {
            return self.refuse(writer, "the blocks below it lead to other coins");
        }
        let done = self.db.accept_snapshot();
        writer.stop_on_error(self, done)?;
        writer.background = None;
        {
            let mut view = self.change();
            view.index.snapshot = None;
            link(writer, &mut view.index);
            writer.find_candidates(&view);
        }
        tracing::info!("the snapshot is validated");
        // The blocks above it had nothing to stand on so far.
        self.settle_filter_index(writer)
    }

    /// Gives the snapshot up. What was built on it is gone, so that nothing goes on before the next start.
    fn refuse(&self, writer: &mut Writer, why: &str) -> Result<(), ChainError> {
        writer.flush_index(self)?;
        let done = self.db.refuse_snapshot();
        writer.stop_on_error(self, done)?;
        let refused =
            unusable(&format!("{why}. It is refused: start again to go on without it, and tell whoever made it"));
        writer.stop_on_error(self, Err(refused))
    }
}

/// As Core prints a hash: last byte first.
fn printed(mut hash: [u8; 32]) -> [u8; 32] {
    hash.reverse();
    hash
}
