//! What peers ask for: headers, inventory, blocks.

use super::{Engine, PeerId};
use crate::limits;
use crate::message::Frame;
use crate::work::{Job, ReadFailure, ReadForm};
use bitcoin::bip152::BlockTransactionsRequest;
use bitcoin::consensus::serialize;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use bitcoin::{Block, BlockHash};
use cairn_chain::BlockEntry;
use rand::RngExt;
use std::sync::Arc;

/// Seconds after which a stale block is not served any more, lest it tell nodes apart (Core's `STALE_RELAY_AGE_LIMIT`).
const STALE_RELAY_AGE_LIMIT: u64 = 30 * 24 * 3600;
/// Blocks read for a peer in one job: few, so that others' turns come.
const READ_BATCH: usize = 16;
/// Hashes in the answer to `getblocks`.
const MAX_GETBLOCKS: usize = 500;

impl Engine {
    pub(super) fn on_getheaders(&mut self, id: PeerId, request: &GetHeadersMessage) {
        if request.locator_hashes.len() > limits::MAX_LOCATOR_SIZE {
            self.disconnect(id, "a locator with too many hashes");
            return;
        }
        let tip = self.chain.tip();
        if tip.chain_work < self.chain.params().minimum_chain_work {
            // An empty answer: the peer need not wait, and does not begin what it would give up.
            self.with(id, |peer| peer.send(&NetworkMessage::Headers(Vec::new())));
            return;
        }
        let (headers, last) = if request.locator_hashes.is_empty() {
            let Some(entry) = self.chain.entry(&request.stop_hash) else { return };
            if !self.may_serve(&entry) {
                return;
            }
            (vec![entry.header], entry)
        } else {
            self.chain.headers_after(&request.locator_hashes, &request.stop_hash, limits::MAX_HEADERS_RESULTS)
        };
        self.with(id, |peer| {
            peer.best_sent = Some(last.hash);
            peer.send(&NetworkMessage::Headers(headers));
        });
    }

    pub(super) fn on_getblocks(&mut self, id: PeerId, request: &GetBlocksMessage) {
        if request.locator_hashes.len() > limits::MAX_LOCATOR_SIZE {
            self.disconnect(id, "a locator with too many hashes");
            return;
        }
        let hashes = self.chain.hashes_after(&request.locator_hashes, &request.stop_hash, MAX_GETBLOCKS);
        if hashes.is_empty() {
            return;
        }
        self.with(id, |peer| {
            if hashes.len() == MAX_GETBLOCKS {
                peer.continuation = hashes.last().copied();
            }
            peer.send(&NetworkMessage::Inv(hashes.into_iter().map(Inventory::Block).collect()));
        });
    }

    /// Core's `BlockRequestAllowed`: the active chain, and recent blocks beside it.
    pub(super) fn may_serve(&self, entry: &BlockEntry) -> bool {
        if self.chain.is_active(&entry.hash) {
            return true;
        }
        let best = self.chain.best_header();
        let age = u64::from(best.header.time).saturating_sub(u64::from(entry.header.time));
        let work = best.chain_work;
        let lag = if work > entry.chain_work { work - entry.chain_work } else { return entry.status.valid_scripts };
        let month = best.header.work();
        // As much work as a month of blocks like the best one.
        let blocks = STALE_RELAY_AGE_LIMIT / u64::from(self.chain.params().pow_target_spacing.max(1));
        entry.status.valid_scripts && age < STALE_RELAY_AGE_LIMIT && within(lag, month, blocks)
    }

    pub(super) fn on_getdata(&mut self, id: PeerId, inventory: Vec<Inventory>) {
        self.with(id, |peer| peer.getdata.extend(inventory));
        self.serve_getdata(id);
    }

    /// Answers what a peer asked for, in order, as far as it reads what is sent.
    pub(super) fn serve_getdata(&mut self, id: PeerId) {
        let mut not_found = Vec::new();
        let mut reads = Vec::new();
        loop {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            if peer.leaving || peer.reading || !peer.has_room() {
                break;
            }
            let Some(&item) = peer.getdata.front() else { break };
            match item {
                Inventory::Transaction(_) | Inventory::WTx(_) | Inventory::WitnessTransaction(_) => {
                    // Blocks asked for before come first.
                    if !reads.is_empty() {
                        break;
                    }
                    peer.getdata.pop_front();
                    if !self.serve_transaction(id, item) {
                        not_found.push(item);
                    }
                }
                Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => {
                    peer.getdata.pop_front();
                    let ends = peer.continuation == Some(hash);
                    match self.how_to_serve(id, item, hash) {
                        Served::Refused => {}
                        Served::Frame(frame) if reads.is_empty() => self.send_frame(id, frame),
                        Served::Frame(_) => reads.push((hash, ReadForm::Witness)),
                        Served::Read(form) => reads.push((hash, form)),
                    }
                    if ends || reads.len() == READ_BATCH {
                        break;
                    }
                }
                // Core too passes over what it does not know.
                _ => {
                    peer.getdata.pop_front();
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            if !not_found.is_empty() {
                peer.send(&NetworkMessage::NotFound(not_found));
            }
            if !reads.is_empty() {
                peer.reading = true;
                self.job(Job::Read { peer: id, blocks: reads });
            }
        }
    }

    fn how_to_serve(&mut self, id: PeerId, item: Inventory, hash: BlockHash) -> Served {
        // What was announced before the chain had it is served likewise: it may yet lose to another block, and then is one that
        // the chain would not give away.
        if let Some(block) = self.fresh(&hash).cloned() {
            return Served::Frame(match item {
                Inventory::CompactBlock(_) => match self.recent_compact(&hash) {
                    Some(frame) => frame,
                    None => crate::work::compact(&block, self.rng.random()),
                },
                Inventory::Block(_) => Frame::block_without_witness(&block),
                _ => Frame::block(serialize(&*block)),
            });
        }
        let Some(entry) = self.chain.entry(&hash) else { return Served::Refused };
        if !self.may_serve(&entry) {
            return Served::Refused;
        }
        let tip = self.chain.tip();
        let depth = tip.height.saturating_sub(entry.height);
        let pruned = !self.config.services.has(ServiceFlags::NETWORK);
        if pruned && depth > limits::NODE_NETWORK_LIMITED_MIN_BLOCKS + 2 {
            self.disconnect(id, "it asked for a block below those that a pruned node serves");
            return Served::Refused;
        }
        if !entry.status.has_data {
            return Served::Refused;
        }
        let compact = self.can_direct_fetch() && depth <= limits::MAX_CMPCTBLOCK_DEPTH;
        Served::Read(match item {
            Inventory::CompactBlock(_) if compact => ReadForm::Compact(self.rng.random()),
            Inventory::Block(_) => ReadForm::Stripped,
            _ => ReadForm::Witness,
        })
    }

    fn send_frame(&mut self, id: PeerId, frame: Frame) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.send_frame(frame);
        }
    }

    pub(super) fn read_done(&mut self, id: PeerId, blocks: Vec<(BlockHash, Result<Frame, ReadFailure>)>) {
        let tip = self.chain.tip().hash;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for (hash, read) in blocks {
            match read {
                Ok(frame) => peer.send_frame(frame),
                // It would wait for what never comes.
                Err(ReadFailure::Gone) => {
                    self.disconnect(id, "a block that it asked for is not here any more");
                    return;
                }
                Err(ReadFailure::OutOfBounds) => {
                    self.misbehaving(id, "getblocktxn with out-of-bounds tx indices");
                    return;
                }
            }
            if peer.continuation == Some(hash) {
                peer.continuation = None;
                peer.send(&NetworkMessage::Inv(vec![Inventory::Block(tip)]));
            }
        }
    }

    pub(super) fn on_getblocktxn(&mut self, id: PeerId, request: BlockTransactionsRequest) {
        let hash = request.block_hash;
        if let Some(block) = self.fresh(&hash) {
            match crate::work::transactions(block, &request) {
                Some(frame) => self.send_frame(id, frame),
                None => self.misbehaving(id, "getblocktxn with out-of-bounds tx indices"),
            }
            return;
        }
        let Some(entry) = self.chain.entry(&hash).filter(|entry| entry.status.has_data) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if entry.height + limits::MAX_BLOCKTXN_DEPTH >= self.chain.tip().height {
            peer.reading = true;
            self.job(Job::Read { peer: id, blocks: vec![(hash, ReadForm::Transactions(request))] });
        } else {
            // An old block is not worth picking from: it is sent whole, by the way that has its limits.
            peer.getdata.push_back(Inventory::WitnessBlock(hash));
            self.serve_getdata(id);
        }
    }

    /// A block that was announced a moment ago.
    fn fresh(&self, hash: &BlockHash) -> Option<&Arc<Block>> {
        let recent = self.recent.iter().map(|recent| (&recent.hash, &recent.block));
        let early = self.early.iter().map(|(hash, block)| (hash, block));
        recent.chain(early).find(|(fresh, _)| *fresh == hash).map(|(_, block)| block)
    }

    /// The compact block of the recent block, if it is that one.
    pub(super) fn recent_compact(&mut self, hash: &BlockHash) -> Option<Frame> {
        let nonce = self.rng.random();
        let recent = self.recent.as_mut().filter(|recent| recent.hash == *hash)?;
        Some(recent.compact.get_or_insert_with(|| crate::work::compact(&recent.block, nonce)).clone())
    }
}

enum Served {
    /// Not at all.
    Refused,
    /// From memory.
    Frame(Frame),
    /// From disk.
    Read(ReadForm),
}

/// Whether `work` is at most that of `blocks` blocks of `block` work each.
fn within(work: bitcoin::Work, block: bitcoin::Work, blocks: u64) -> bool {
    // Counted down in doubling steps, since work has no multiplication.
    let (mut sum, mut left, mut step) = (None::<bitcoin::Work>, blocks, block);
    while left > 0 {
        if left & 1 == 1 {
            sum = Some(sum.map_or(step, |sum| sum + step));
        }
        left >>= 1;
        if left > 0 {
            step = step + step;
        }
    }
    sum.is_some_and(|sum| work <= sum)
}
