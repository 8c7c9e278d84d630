//! The index of block filters, which a chain may have (Core's `-blockfilterindex=basic`): the basic filter of each block that
//! was ever connected, and its filter header (BIP 157 and 158).
//!
//! Filters are written with the coins of their blocks, in the same batches. A block has one only if its parent has, so that the
//! missing ones are always the last of a branch; opening a chain that is to have the index makes those from blocks and undo
//! data, and may be killed and go on later. Opening a chain that is to have none forgets it.

use crate::Progress;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::index::{Id, status};
use crate::writer::Writer;
use bitcoin::bip158::{BlockFilter, BlockFilterWriter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};
use cairn_consensus::coins::BlockUndo;
use std::collections::BTreeMap;

/// Blocks from one checkpoint of filter headers to the next (BIP 157).
pub const CFCHECKPT_INTERVAL: u32 = 1000;
/// Bytes of filters written at a time.
const BYTES_A_BATCH: usize = 8 << 20;
/// Memory of a filter that is not written yet besides its content, bytes.
const ROW_BYTES: usize = 4 + 2 * 32 + 24 + 36;

/// The filter of a block.
#[derive(Debug)]
pub(crate) struct FilterRow {
    pub(crate) hash: FilterHash,
    pub(crate) header: FilterHeader,
    pub(crate) content: Vec<u8>,
}

impl FilterRow {
    /// That of a block which spent the coins of `undo`, after a block whose filter has the header `previous`.
    fn new(block: &Block, undo: &BlockUndo, previous: &FilterHeader) -> Self {
        let mut content = Vec::new();
        let mut writer = BlockFilterWriter::new(&mut content, block);
        writer.add_output_scripts();
        for coin in undo.0.iter().flat_map(|spent| &spent.0) {
            writer.add_element(coin.output.script_pubkey.as_bytes());
        }
        writer.finish().expect("a vector takes all that is written");
        let hash = FilterHash::hash(&content);
        Self { hash, header: hash.filter_header(previous), content }
    }

    fn bytes(&self) -> usize {
        ROW_BYTES + self.content.len()
    }
}

/// Filters that are not in the database yet.
#[derive(Debug, Default)]
pub(crate) struct FilterCache {
    rows: BTreeMap<Id, FilterRow>,
    bytes: usize,
}

impl Extend<(Id, FilterRow)> for FilterCache {
    fn extend<T: IntoIterator<Item = (Id, FilterRow)>>(&mut self, rows: T) {
        for (id, row) in rows {
            self.bytes += row.bytes();
            self.rows.insert(id, row);
        }
    }
}

impl FilterCache {
    /// All of them, by their blocks' ids.
    pub(crate) fn rows(&self) -> Vec<(Id, &FilterRow)> {
        self.rows.iter().map(|(id, row)| (*id, row)).collect()
    }

    /// Memory in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them are in the database now.
    pub(crate) fn written(&mut self) {
        *self = Self::default();
    }
}

/// Filters of blocks that follow each other, with the blocks' hashes: see [`Chain::filters`].
#[derive(Debug)]
pub struct Filters<'a> {
    chain: &'a Chain,
    blocks: std::vec::IntoIter<Id>,
}

impl Iterator for Filters<'_> {
    type Item = Result<(BlockHash, BlockFilter), ChainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.blocks.next()?;
        let hash = self.chain.read().index.node(id).hash;
        self.chain.filter_of(id).map(|filter| Some((hash, filter?))).transpose()
    }
}

impl Chain {
    /// Whether there are filters of blocks.
    pub fn has_filter_index(&self) -> bool {
        self.blockfilterindex
    }

    /// The filter of a block that was connected once; `None` of others, and without the index.
    ///
    /// # Errors
    /// Those of reading.
    pub fn filter(&self, hash: &BlockHash) -> Result<Option<BlockFilter>, ChainError> {
        let id = self.read().index.id(hash);
        id.map_or(Ok(None), |id| self.filter_of(id))
    }

    fn filter_of(&self, id: Id) -> Result<Option<BlockFilter>, ChainError> {
        if let Some(row) = self.read().filters.rows.get(&id) {
            return Ok(Some(BlockFilter::new(&row.content)));
        }
        let Some((hash, _)) = self.filter_ids(&[id])?.map(|ids| ids[0]) else { return Ok(None) };
        match self.db.filter(id)? {
            Some(content) if FilterHash::hash(&content) == hash => Ok(Some(BlockFilter { content })),
            _ => {
                let block = self.read().index.node(id).hash;
                Err(ChainError::Corrupt { what: format!("the block filter index (block {block})") })
            }
        }
    }

    /// The header of a block's filter, as [`Chain::filter`].
    ///
    /// # Errors
    /// Those of reading.
    pub fn filter_header(&self, hash: &BlockHash) -> Result<Option<FilterHeader>, ChainError> {
        let id = self.read().index.id(hash);
        id.map_or(Ok(None), |id| self.filter_header_of(id))
    }

    fn filter_header_of(&self, id: Id) -> Result<Option<FilterHeader>, ChainError> {
        Ok(self.filter_ids(&[id])?.map(|ids| ids[0].1))
    }

    /// Hashes and headers of filters; `None` unless there are all of them.
    fn filter_ids(&self, blocks: &[Id]) -> Result<Option<Vec<(FilterHash, FilterHeader)>>, ChainError> {
        let pending: Vec<_> = {
            let view = self.read();
            blocks.iter().map(|id| view.filters.rows.get(id).map(|row| (row.hash, row.header))).collect()
        };
        // What was not pending a moment ago was in the database then, if it ever was.
        let stored = match pending.iter().all(Option::is_some) {
            true => vec![None; blocks.len()],
            false => self.db.filter_ids(blocks)?,
        };
        Ok(pending.into_iter().zip(stored).map(|(pending, stored)| pending.or(stored)).collect())
    }

    /// The block at `stop` and those that lead to it from `start_height` on, the lowest first; `None` if it is not known, or
    /// lower.
    fn range(&self, start_height: u32, stop: &BlockHash) -> Option<Vec<Id>> {
        let view = self.read();
        let stop = view.index.id(stop)?;
        let count = view.index.node(stop).height.checked_sub(start_height)? + 1;
        let back = std::iter::successors(Some(stop), |&at| view.index.parent(at));
        let mut blocks: Vec<Id> = back.take(count as usize).collect();
        blocks.reverse();
        Some(blocks)
    }

    /// Filters of the block `stop` and of those that lead to it from `start_height` on, the lowest first, each read when its
    /// turn comes; `None` if there are not all of them. The caller bounds how many.
    ///
    /// # Errors
    /// Those of reading.
    pub fn filters(&self, start_height: u32, stop: &BlockHash) -> Result<Option<Filters<'_>>, ChainError> {
        let Some(blocks) = self.range(start_height, stop) else { return Ok(None) };
        // If the last has one, all before it have.
        let there = self.filter_header(stop)?.is_some();
        Ok(there.then(|| Filters { chain: self, blocks: blocks.into_iter() }))
    }

    /// Filter hashes of the same blocks as [`Chain::filters`], and the filter header of the block before them.
    ///
    /// # Errors
    /// Those of reading.
    pub fn filter_hashes(
        &self,
        start_height: u32,
        stop: &BlockHash,
    ) -> Result<Option<(FilterHeader, Vec<FilterHash>)>, ChainError> {
        let Some(blocks) = self.range(start_height, stop) else { return Ok(None) };
        let Some(ids) = self.filter_ids(&blocks)? else { return Ok(None) };
        let previous = match self.read().index.parent(blocks[0]) {
            None => Some(FilterHeader::all_zeros()),
            Some(parent) => self.filter_header_of(parent)?,
        };
        Ok(previous.map(|previous| (previous, ids.into_iter().map(|(hash, _)| hash).collect())))
    }

    /// Filter headers of every [`CFCHECKPT_INTERVAL`]th block that leads to `stop`, the lowest first; `None` if there are not
    /// all of them.
    ///
    /// # Errors
    /// Those of reading.
    pub fn filter_checkpoints(&self, stop: &BlockHash) -> Result<Option<Vec<FilterHeader>>, ChainError> {
        let blocks = {
            let view = self.read();
            let Some(stop) = view.index.id(stop) else { return Ok(None) };
            let heights = 1..=view.index.node(stop).height / CFCHECKPT_INTERVAL;
            heights.map(|n| view.index.ancestor(stop, n * CFCHECKPT_INTERVAL)).collect::<Option<Vec<Id>>>()
        };
        let ids = blocks.map_or(Ok(None), |blocks| self.filter_ids(&blocks))?;
        Ok(ids.map(|ids| ids.into_iter().map(|(_, header)| header).collect()))
    }

    /// Height of the last block of the active chain that has a filter; the tip's but where blocks are damaged, or below a
    /// snapshot that is not validated yet.
    ///
    /// # Errors
    /// Those of reading.
    pub fn filter_index_height(&self) -> Result<Option<u32>, ChainError> {
        let tip = self.tip();
        if self.filter_header(&tip.hash)?.is_some() {
            return Ok(Some(tip.height));
        }
        let active = self.read().active.clone();
        let missing = self.count_unfiltered(&active)?;
        Ok((active.len() - missing).checked_sub(1).map(|height| height as u32))
    }

    /// How many of the last of `blocks` have no filter.
    fn count_unfiltered(&self, blocks: &[Id]) -> Result<usize, ChainError> {
        let back = blocks.iter().rev().copied();
        let known = {
            let view = self.read();
            back.clone().take_while(|id| !view.filters.rows.contains_key(id)).count()
        };
        self.db.count_unfiltered(back.take(known))
    }

    /// The filter of a block that is being connected, unless there is one already, or none of its parent.
    pub(crate) fn filter_to_keep(
        &self,
        id: Id,
        block: &Block,
        undo: &BlockUndo,
    ) -> Result<Option<(Id, FilterRow)>, ChainError> {
        if !self.blockfilterindex || self.filter_header_of(id)?.is_some() {
            return Ok(None);
        }
        let parent = self.read().index.node(id).parent;
        let previous = self.filter_header_of(parent)?;
        Ok(previous.map(|previous| (id, FilterRow::new(block, undo, &previous))))
    }

    /// Brings the index to what was asked for.
    pub(crate) fn settle_filter_index(&self, writer: &Writer) -> Result<(), ChainError> {
        if !self.blockfilterindex {
            return self.db.forget_filters();
        }
        let blocks = self.blocks_to_filter(writer);
        let missing = self.count_unfiltered(&blocks)?;
        let (filtered, missing) = blocks.split_at(blocks.len() - missing);
        let mut previous = match filtered.last() {
            None => FilterHeader::all_zeros(),
            Some(&id) => self.filter_header_of(id)?.expect("it is not one of the missing"),
        };
        if missing.len() > 1 {
            tracing::info!(blocks = missing.len(), "making the block filter index");
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (done, &id) in (1..).zip(missing) {
            let row = match self.block_to_filter(id) {
                Ok((block, undo)) => FilterRow::new(&block, &undo, &previous),
                Err(error @ ChainError::Corrupt { .. }) => {
                    // Whoever needs the block is told of the damage, and the next start goes on from here.
                    tracing::error!(%error, "the block filter index ends here");
                    break;
                }
                Err(error) => return Err(error),
            };
            previous = row.header;
            bytes += row.bytes();
            rows.push((id, row));
            if bytes >= BYTES_A_BATCH {
                self.db.add_filters(&rows)?;
                (rows, bytes) = (Vec::new(), 0);
            }
            writer.show(Progress::Filtering { done, of: missing.len() as u32 });
        }
        if rows.is_empty() { Ok(()) } else { self.db.add_filters(&rows) }
    }

    /// The active chain's blocks by height; below a snapshot those that are validated.
    fn blocks_to_filter(&self, writer: &Writer) -> Vec<Id> {
        let view = self.read();
        let below = writer.background.as_ref().map(|below| view.index.node(below.tip).height as usize);
        view.active[..below.map_or(view.active.len(), |height| height + 1)].to_vec()
    }

    /// A block and what it spent, from the disk.
    fn block_to_filter(&self, id: Id) -> Result<(std::sync::Arc<Block>, BlockUndo), ChainError> {
        if id == 0 {
            return Ok((self.params.genesis.clone().into(), BlockUndo::default()));
        }
        {
            let view = self.read();
            let node = view.index.node(id);
            let whole = node.has(status::HAVE_DATA) && node.has(status::HAVE_UNDO);
            if !whole && crate::prune::has_pruned(&view.index) {
                return Err(ChainError::FilterPruned { hash: node.hash });
            }
        }
        let ((block, _), undo) = self.block_and_undo(id)?;
        Ok((block, undo))
    }
}
