//! Taking in headers and blocks: checked as far as their place in the tree allows, then stored.

use crate::chain::Chain;
use crate::error::ChainError;
use crate::files::FilePos;
use crate::index::{Id, status};
use crate::rules::{self, ActiveChain, reject};
use crate::scripts::Scripts;
use crate::writer::Writer;
use crate::{BlockAccepted, BlockEntry};
use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::{Block, BlockHash};
use cairn_consensus::block::{Checks, WitnessRoot, check_block, txids};
use cairn_consensus::connect::ConnectError;
use cairn_consensus::error::{BlockReject, BlockRejectKind};
use cairn_consensus::header::check_header;
use std::collections::VecDeque;
use std::sync::Arc;

impl Chain {
    /// Accepts headers in order; returns the last one's entry (the tip's if there are none). Those before a refused
    /// one stay. `now` is seconds since 1970.
    pub fn process_headers(&self, headers: &[Header], now: u32) -> Result<BlockEntry, ChainError> {
        let mut writer = self.writer()?;
        let mut last = None;
        for header in headers {
            let known = self.read().index.len();
            last = Some(self.accept_header(&mut writer, header, now)?);
            writer.headers_dirty |= self.read().index.len() > known;
        }
        let view = self.read();
        Ok(view.index.entry(last.unwrap_or_else(|| view.tip())))
    }

    /// Checks, stores and (when it makes the best chain) connects a block; `now` is seconds since 1970.
    ///
    /// If `durable`, the block survives a loss of power from the moment anybody hears of it; otherwise that may take
    /// until the next flush. An invalid block is `Err(Rejected)`; a block stored on a losing branch is `Ok(New)`. Any
    /// other error condemns nothing: the block may be given again.
    pub fn process_block(&self, block: Arc<Block>, now: u32, durable: bool) -> Result<BlockAccepted, ChainError> {
        // As Core's `ProcessNewBlock`: whoever fails here is refused, not marked, lest malleation condemns a header.
        let (block, witnesses) = self.check_alone(block)?;
        let header = block.0.header;
        let mut writer = self.writer()?;
        let known = self.read().index.len();
        let id = self.accept_header(&mut writer, &header, now)?;
        let accepted = if self.read().index.node(id).has(status::HAVE_DATA) {
            BlockAccepted::Duplicate
        } else {
            let stored = self.accept_data(&mut writer, id, &block.0, witnesses);
            if stored.is_err() && self.read().index.len() > known {
                writer.headers_dirty = true;
            }
            stored?;
            BlockAccepted::New
        };
        if writer.headers_dirty {
            // The block builds on headers that the block files do not hold.
            writer.flush_index(self)?;
        } else if durable {
            writer.sync_blocks(self)?;
        }
        let refused = self.activate_best_chain(&mut writer, Some((id, block)))?;
        self.advance_background(&mut writer)?;
        writer.flush_if_due(self)?;
        match refused {
            Some(refused) => Err(refused.into()),
            None if self.read().index.node(id).has(status::FAILED) => Err(bad_prevblk(&header).into()),
            None => Ok(accepted),
        }
    }

    /// Core's `AcceptBlockHeader`.
    pub(crate) fn accept_header(&self, writer: &mut Writer, header: &Header, now: u32) -> Result<Id, ChainError> {
        let hash = header.block_hash();
        let parent = {
            let view = self.read();
            let index = &view.index;
            if let Some(id) = index.id(&hash) {
                if index.node(id).has(status::FAILED) {
                    let debug = format!("block {hash} was previously marked invalid");
                    return Err(reject(BlockRejectKind::InvalidPrev, "duplicate-invalid", debug).into());
                }
                return Ok(id);
            }
            check_header(header, &self.params)?;
            let Some(parent) = index.id(&header.prev_blockhash) else {
                return Err(reject(BlockRejectKind::MissingPrev, "prev-blk-not-found", String::new()).into());
            };
            if index.node(parent).has(status::FAILED) {
                return Err(bad_prevblk(header).into());
            }
            rules::check_header_in_place(header, &self.params, index, parent, now)?;
            parent
        };
        Ok(self.add_header(writer, header, hash, parent))
    }

    fn add_header(&self, writer: &mut Writer, header: &Header, hash: BlockHash, parent: Id) -> Id {
        let mut view = self.change();
        let id = view.index.insert(header, hash, parent);
        if view.index.node(id).chain_work > view.index.node(view.best_header).chain_work {
            view.best_header = id;
        }
        writer.dirty.insert(id);
        id
    }

    /// The checks that need the block's place, then to disk.
    fn accept_data(
        &self,
        writer: &mut Writer,
        id: Id,
        block: &Block,
        witnesses: WitnessRoot,
    ) -> Result<(), ChainError> {
        self.check_place(writer, id, block, witnesses)?;
        let bytes = serialize(block);
        writer.unindexed_bytes += bytes.len() as u64;
        let at = writer.appender.append_block(&self.files, &bytes)?;
        self.receive_transactions(writer, id, block, at);
        Ok(())
    }

    /// Core's `ContextualCheckBlock`; a block that fails it is condemned.
    pub(crate) fn check_place(
        &self,
        writer: &mut Writer,
        id: Id,
        block: &Block,
        witnesses: WitnessRoot,
    ) -> Result<(), ChainError> {
        let checked = {
            let view = self.read();
            rules::check_block_in_place(block, witnesses, &self.params, &view.index, view.index.node(id).parent)
        };
        checked.map_err(|refused| {
            if refused.kind != BlockRejectKind::Mutated {
                self.mark_failed(writer, id);
            }
            refused.into()
        })
    }

    /// Core's `ReceivedBlockTransactions`: notes where the data is, and which blocks can be connected now.
    pub(crate) fn receive_transactions(&self, writer: &mut Writer, id: Id, block: &Block, at: FilePos) {
        let mut view = self.change();
        let tip = view.index.node(view.tip()).rank(view.tip());
        let index = &mut view.index;
        let node = index.node_mut(id);
        node.tx_count = block.txdata.len() as u32;
        (node.file, node.data_pos, node.undo_pos) = (at.file, at.pos, 0);
        node.status = (node.status | status::HAVE_DATA) & !status::HAVE_UNDO;
        node.raise_validity(status::VALID_TRANSACTIONS);
        writer.dirty.insert(id);
        let mut linked = VecDeque::from([id]);
        while let Some(id) = linked.pop_front() {
            let before = match index.parent(id) {
                None => 0,
                Some(parent) if index.node(parent).chain_tx_count > 0 => index.node(parent).chain_tx_count,
                Some(parent) => {
                    writer.unlinked.entry(parent).or_default().push(id);
                    continue;
                }
            };
            let node = index.node_mut(id);
            node.chain_tx_count = before + u64::from(node.tx_count);
            node.sequence = writer.next_sequence;
            writer.next_sequence += 1;
            writer.dirty.insert(id);
            let rank = node.rank(id);
            if rank >= tip && !node.has(status::FAILED) && index.follows_snapshot(id) {
                writer.candidates.insert(rank);
            }
            linked.extend(writer.unlinked.remove(&id).unwrap_or_default());
        }
    }

    /// Core's `TestBlockValidity`: would the block connect on the tip? Changes nothing.
    pub fn test_block(&self, block: &Block, now: u32, check_pow: bool, check_merkle: bool) -> Result<(), ChainError> {
        // Nothing is written, but the tip must not move meanwhile.
        let writer = self.writer()?;
        let txids = txids(block);
        {
            let view = self.read();
            if block.header.prev_blockhash != view.index.node(view.tip()).hash {
                let kind = BlockRejectKind::MissingPrev;
                return Err(reject(kind, "inconclusive-not-best-prevblk", String::new()).into());
            }
            let checks = Checks { proof_of_work: check_pow, merkle_root: check_merkle };
            check_block(block, &txids, &self.params, checks)?;
            rules::check_header_in_place(&block.header, &self.params, &view.index, view.tip(), now)?;
            rules::check_block_in_place(block, WitnessRoot::of(block), &self.params, &view.index, view.tip())?;
        }
        let height = self.tip().height + 1;
        let block = Arc::new(block.clone());
        let connected = self.connect_at(&block, &txids, height, &ActiveChain(self), Scripts::Check);
        drop(writer);
        connected.map(|_| ()).map_err(|error| match error {
            ConnectError::Rejected(refused) => ChainError::Rejected(refused),
            ConnectError::View(error) => error,
        })
    }
}

pub(crate) fn bad_prevblk(header: &Header) -> BlockReject {
    let debug = format!("header {} has prev block invalid: {}", header.block_hash(), header.prev_blockhash);
    reject(BlockRejectKind::InvalidPrev, "bad-prevblk", debug)
}
