//! Which block is fetched from whom, and blocks that came.

use super::peer::Known;
use super::{Engine, InFlight, PeerId};
use crate::limits;
use crate::types::ConnectionKind;
use crate::work::Job;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Block, BlockHash};
use cairn_chain::{BlockAccepted, BlockEntry, ChainError};
use std::sync::Arc;

/// Blocks of a branch that are looked at in one step.
const BRANCH_STEP: u32 = 128;
/// An unrequested block this far above the tip is not taken (Core's `MIN_BLOCKS_TO_KEEP`).
const MAX_AHEAD: u32 = 288;

impl Engine {
    /// Whether a block is asked for, or came and is being looked at.
    pub(super) fn is_requested(&self, hash: &BlockHash) -> bool {
        self.in_flight.contains_key(hash) || self.validating.contains_key(hash)
    }

    /// Notes that a peer was asked for a block.
    pub(super) fn requested(&mut self, id: PeerId, hash: BlockHash) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.in_flight.is_empty() {
            peer.downloading_since = now;
        }
        peer.in_flight.push(hash);
        peer.link.expect(true);
        self.in_flight.entry(hash).or_default().push(InFlight { peer: id, since: now, partial: None });
    }

    /// Core's `RemoveBlockRequest` for one peer.
    pub(super) fn forget_request(&mut self, hash: &BlockHash, id: PeerId) {
        let now = self.now;
        if let Some(requests) = self.in_flight.get_mut(hash) {
            requests.retain(|request| request.peer != id);
            if requests.is_empty() {
                self.in_flight.remove(hash);
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(place) = peer.in_flight.iter().position(|asked| asked == hash) {
            if place == 0 {
                // The first one's time is over; the next one's begins.
                peer.downloading_since = peer.downloading_since.max(now);
            }
            peer.in_flight.remove(place);
            peer.stalling_since = None;
        }
    }

    /// Core's `RemoveBlockRequest` for all peers.
    pub(super) fn forget_all_requests(&mut self, hash: &BlockHash) {
        let peers: Vec<PeerId> = self.in_flight.get(hash).into_iter().flatten().map(|request| request.peer).collect();
        for id in peers {
            self.forget_request(hash, id);
        }
    }

    pub(super) fn on_block(&mut self, id: PeerId, block: Block) {
        let hash = block.block_hash();
        let requested = self.in_flight.contains_key(&hash);
        self.forget_request(&hash, id);
        // Only now: a block that another peer sent meanwhile is still on its way from this one.
        self.with(id, |peer| peer.link.expect(peer.hb_to || !peer.in_flight.is_empty()));
        if self.validating.contains_key(&hash) {
            return;
        }
        if !requested && !self.is_wanted_unasked(&block, &hash) {
            return;
        }
        self.validate(id, Arc::new(block), hash, false);
        self.fetch_blocks_from(id);
    }

    /// Hands a block to the chain.
    pub(super) fn validate(&mut self, peer: PeerId, block: Arc<Block>, hash: BlockHash, via_compact: bool) {
        let size = block.total_size();
        self.validating.insert(hash, size);
        self.validating_bytes += size;
        self.job(Job::Block { peer, block, hash, via_compact, size });
    }

    /// Core's conditions for a block that nobody asked for: it would lead, it is not far ahead, its chain has work.
    fn is_wanted_unasked(&self, block: &Block, hash: &BlockHash) -> bool {
        if self.chain.entry(hash).is_some_and(|entry| entry.status.has_data || entry.status.failed) {
            return false;
        }
        let Some(parent) = self.chain.entry(&block.header.prev_blockhash) else { return false };
        let tip = self.chain.tip();
        let work = parent.chain_work + block.header.work();
        work > tip.chain_work && parent.height < tip.height + MAX_AHEAD && work >= self.work_threshold()
    }

    pub(super) fn block_done(
        &mut self,
        id: PeerId,
        hash: BlockHash,
        result: Result<BlockAccepted, ChainError>,
        via_compact: bool,
        size: usize,
    ) {
        self.validating.remove(&hash);
        self.validating_bytes = self.validating_bytes.saturating_sub(size);
        match result {
            Ok(BlockAccepted::New) => {
                let now = self.now;
                self.with(id, |peer| peer.last_block = now);
                let alone = self.in_flight.keys().all(|asked| *asked == hash);
                self.forget_all_requests(&hash);
                if alone && self.chain.tip().hash == hash && !self.host.is_initial_block_download() {
                    self.prefer_compact_from(id);
                }
            }
            Ok(BlockAccepted::Duplicate) => {}
            Err(ChainError::Rejected(refused)) => {
                tracing::debug!(peer = %id, %hash, %refused, "block refused");
                let cached = refused.reason == "duplicate-invalid";
                self.punish_for_block(id, refused.kind, cached, via_compact, &format!("invalid block: {refused}"));
            }
            Err(error) => {
                tracing::warn!(%hash, %error, "a block was not taken in; none is asked for during the next seconds");
                self.fetch_from = self.now + limits::REST_AFTER_FAILURE;
            }
        }
        self.fetch_blocks();
    }

    /// Core's `HeadersDirectFetchBlocks`: a new best header near the tip is fetched at once, from who told it.
    pub(super) fn fetch_towards(&mut self, id: PeerId, last: &BlockEntry) {
        let tip = self.chain.tip();
        if !self.can_direct_fetch()
            || !self.host.wants_blocks()
            || last.status.failed
            || tip.chain_work > last.chain_work
        {
            return;
        }
        let Some(fork) = self.chain.fork(&tip.hash, &last.hash) else { return };
        let limit = limits::MAX_BLOCKS_IN_TRANSIT_PER_PEER;
        // A larger reorganisation goes the way of all blocks.
        if last.height - fork.height > limit as u32 {
            return;
        }
        let branch = self.chain.branch(&last.hash, fork.height + 1, limit as u32);
        let Some(peer) = self.peers.get(&id) else { return };
        if !peer.can_serve_witnesses() {
            return;
        }
        let room = limit.saturating_sub(peer.in_flight.len());
        let wanted: Vec<BlockHash> = branch
            .iter()
            .filter(|block| !block.here && !self.is_requested(&block.hash))
            .map(|block| block.hash)
            .take(room)
            .collect();
        let provides_compact = peer.provides_compact;
        let mut inventory: Vec<Inventory> = wanted.iter().map(|&hash| Inventory::WitnessBlock(hash)).collect();
        for &hash in &wanted {
            self.requested(id, hash);
        }
        if let ([item], true, 1) = (inventory.as_mut_slice(), provides_compact, self.in_flight.len())
            && self.chain.entry(&last.header.prev_blockhash).is_some_and(|parent| parent.chain_tx_count > 0)
        {
            *item = Inventory::CompactBlock(wanted[0]);
        }
        self.send_getdata(id, inventory);
    }

    pub(super) fn send_getdata(&mut self, id: PeerId, inventory: Vec<Inventory>) {
        if inventory.is_empty() {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.send(&NetworkMessage::GetData(inventory));
        }
    }

    /// Asks every peer that has room for blocks that are missing.
    pub(super) fn fetch_blocks(&mut self) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.fetch_blocks_from(id);
        }
    }

    /// Blocks from one peer, as Core's `SendMessages` asks for them.
    pub(super) fn fetch_blocks_from(&mut self, id: PeerId) {
        let catching_up = self.host.is_initial_block_download();
        let preferred = self.peers.values().any(|peer| peer.preferred);
        let nothing_in_flight = self.in_flight.is_empty();
        let Some(peer) = self.peers.get(&id) else { return };
        if !peer.ready || peer.leaving || !peer.can_serve_blocks() || !peer.can_serve_witnesses() {
            return;
        }
        let usable = peer.preferred || (peer.kind != ConnectionKind::AddrFetch && (!preferred || nothing_in_flight));
        if !self.host.wants_blocks() || self.now < self.fetch_from {
            return;
        }
        if catching_up && (!usable || peer.is_limited()) {
            return;
        }
        // What came and is not validated yet is memory: more is fetched as it becomes less.
        if self.validating_bytes > limits::MAX_UNVALIDATED_BLOCK_BYTES {
            return;
        }
        let room = limits::MAX_BLOCKS_IN_TRANSIT_PER_PEER.saturating_sub(peer.in_flight.len());
        // Several at once: a question a block would cost more than the blocks where they are small.
        if room < limits::MAX_BLOCKS_IN_TRANSIT_PER_PEER / 4 {
            return;
        }
        let (mut wanted, staller) = self.next_blocks(id, room);
        self.add_historical_blocks(id, room, &mut wanted);
        if wanted.is_empty() {
            let idle = self.peers.get(&id).is_some_and(|peer| peer.in_flight.is_empty());
            let now = self.now;
            if let (true, Some(staller)) = (idle, staller) {
                self.with(staller, |peer| {
                    peer.stalling_since.get_or_insert(now);
                });
            }
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        let inventory = wanted.iter().map(|&hash| peer.block_inventory(hash)).collect();
        for hash in wanted {
            self.requested(id, hash);
        }
        self.send_getdata(id, inventory);
    }

    /// Core's `TryDownloadingHistoricalBlocks`: blocks below a snapshot that is not validated yet, once those above are asked
    /// for.
    fn add_historical_blocks(&mut self, id: PeerId, count: usize, wanted: &mut Vec<BlockHash>) {
        let Some(base) = self.chain.snapshot_base().filter(|_| wanted.len() < count) else { return };
        let Some(peer) = self.peers.get(&id).filter(|peer| !peer.is_limited()) else { return };
        if !peer.best_known.is_some_and(|best| self.chain.is_ancestor(&base.hash, &best.hash)) {
            return;
        }
        let mut from = self.historical + 1;
        let end = base.height.min(from.saturating_add(limits::BLOCK_DOWNLOAD_WINDOW));
        let mut gapless = true;
        while from <= end && wanted.len() < count {
            let branch = self.chain.branch(&base.hash, from, BRANCH_STEP.min(end - from + 1));
            let Some(last) = branch.last() else { return };
            from = last.height + 1;
            for block in branch {
                gapless &= block.has_data;
                if gapless {
                    self.historical = block.height;
                } else if !block.has_data && !self.is_requested(&block.hash) {
                    wanted.push(block.hash);
                    if wanted.len() == count {
                        return;
                    }
                }
            }
        }
    }

    /// Core's `FindNextBlocksToDownload`: blocks to ask a peer for, and who keeps the window from moving.
    fn next_blocks(&mut self, id: PeerId, count: usize) -> (Vec<BlockHash>, Option<PeerId>) {
        let (chain, now) = (self.chain.clone(), self.now);
        let catching_up = self.host.is_initial_block_download();
        let tip = self.known_tip();
        let minimum = chain.params().minimum_chain_work;
        let Some(peer) = self.peers.get_mut(&id) else { return Default::default() };
        peer.resolve_unknown(&chain);
        let Some(best) = peer.best_known else { return Default::default() };
        if best.work < tip.work || best.work < minimum || best.hash == tip.hash {
            return Default::default();
        }
        // Where both chains part, unless more than that is known to be here.
        let Some(fork) = chain.fork(&best.hash, &tip.hash).map(|entry| Known::from(&entry)) else {
            return Default::default();
        };
        let common = match peer.last_common {
            Some(common) if common.work >= fork.work && chain.is_ancestor(&common.hash, &best.hash) => common,
            _ => fork,
        };
        peer.last_common = Some(common);
        if common.hash == best.hash {
            return Default::default();
        }
        let limited = peer.is_limited();
        let window_end = common.height + limits::BLOCK_DOWNLOAD_WINDOW;
        let last = best.height.min(window_end + 1);
        let (mut wanted, mut waiting_for, mut staller) = (Vec::new(), None, None);
        let mut from = common.height + 1;
        let mut linked = true;
        let mut last_linked = None;
        'window: while from <= last {
            let branch = chain.branch(&best.hash, from, BRANCH_STEP.min(last - from + 1));
            let Some(end) = branch.last() else { break };
            from = end.height + 1;
            for block in &branch {
                if block.failed {
                    break 'window;
                }
                if block.here {
                    linked &= block.linked;
                    if linked {
                        last_linked = Some((block.hash, block.height));
                    }
                    continue;
                }
                linked = false;
                if let Some(requests) = self.in_flight.get(&block.hash) {
                    // The next block, near the tip, that its only source holds back: another one is asked too.
                    let overdue =
                        |request: &InFlight| request.peer != id && request.since + limits::BLOCK_OVERDUE < now;
                    if !catching_up && requests.len() == 1 && overdue(&requests[0]) && waiting_for.is_none() {
                        wanted.push(block.hash);
                    }
                    waiting_for = waiting_for.or(requests.first().map(|request| request.peer));
                    continue;
                }
                if self.validating.contains_key(&block.hash) {
                    continue;
                }
                if block.height > window_end {
                    // The window is full: whoever was asked for its first block holds it up.
                    staller = waiting_for.filter(|&staller| staller != id && wanted.is_empty());
                    break 'window;
                }
                if limited && best.height - block.height >= limits::NODE_NETWORK_LIMITED_MIN_BLOCKS {
                    continue;
                }
                wanted.push(block.hash);
                if wanted.len() == count {
                    break 'window;
                }
            }
        }
        if let Some(entry) = last_linked.and_then(|(hash, _)| chain.entry(&hash)) {
            self.with(id, |peer| peer.last_common = Some(Known::from(&entry)));
        }
        (wanted, staller)
    }
}
