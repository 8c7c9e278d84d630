//! New tips, told to peers as each wants to hear of them.

use super::{Engine, PeerId};
use crate::limits;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Block, BlockHash};
use std::sync::Arc;

impl Engine {
    /// Core's `NewPoWValidBlock`: a block whose work is proven goes to the peers that want it so, before it is validated
    /// (BIP 152 allows that, and a network is as quick as its slowest hop).
    pub(super) fn announce_early(&mut self, hash: BlockHash, parent: BlockHash, block: &Arc<Block>) {
        if self.fast_announced == Some(hash) || self.host.is_initial_block_download() {
            return;
        }
        self.fast_announced = Some(hash);
        if self.early.len() == limits::MAX_EARLY_BLOCKS {
            self.early.pop_front();
        }
        self.early.push_back((hash, block.clone()));
        self.block_connected(block);
        let Some(compact) = self.recent_compact(&hash) else { return };
        let chain = self.chain.clone();
        for peer in self.peers.values_mut().filter(|peer| peer.ready && !peer.leaving && peer.wants_hb) {
            peer.resolve_unknown(&chain);
            // Of no use to who lacks the block before, or has this one.
            let has = peer.best_sent == Some(hash) || peer.last_unknown == Some(hash) || peer.has_header(&chain, &hash);
            if !has && peer.has_header(&chain, &parent) {
                peer.send_frame(compact.clone());
                peer.best_sent = Some(hash);
            }
        }
    }

    /// The tip changed: blocks since the last one told are announced, all but those that a peer has.
    pub(super) fn tip_changed(&mut self) {
        let tip = self.chain.tip();
        if tip.hash == self.announced_tip {
            self.fetch_blocks();
            return;
        }
        let before = std::mem::replace(&mut self.announced_tip, tip.hash);
        self.last_tip_update = self.now;
        self.stalling_timeout = (self.stalling_timeout * 17 / 20).max(limits::BLOCK_STALLING_TIMEOUT);
        if self.host.is_initial_block_download() {
            return;
        }
        self.download.active_tip_change();
        let Some(fork) = self.chain.fork(&before, &tip.hash) else { return };
        // The last ones are enough: more is told by the tip alone.
        let first = tip.height.saturating_sub(limits::MAX_BLOCKS_TO_ANNOUNCE as u32).max(fork.height + 1);
        let hashes: Vec<BlockHash> = self
            .chain
            .branch(&tip.hash, first, limits::MAX_BLOCKS_TO_ANNOUNCE as u32 + 1)
            .iter()
            .map(|b| b.hash)
            .collect();
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.with(id, |peer| {
                if peer.ready {
                    peer.announce.extend(&hashes);
                }
            });
            self.announce_blocks(id);
        }
    }

    /// Core's announcements of `SendMessages`: by compact block, by headers, or by inventory.
    pub(super) fn announce_blocks(&mut self, id: PeerId) {
        let chain = self.chain.clone();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let hashes = std::mem::take(&mut peer.announce);
        let Some(&tip) = hashes.last() else { return };
        let compact = if peer.wants_hb { self.recent_compact(&tip) } else { None };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.resolve_unknown(&chain);
        let compact_only = peer.wants_hb && hashes.len() == 1;
        let mut by_inventory =
            (!peer.prefers_headers && !compact_only) || hashes.len() > limits::MAX_BLOCKS_TO_ANNOUNCE;
        let mut headers = Vec::new();
        let mut best = None;
        if !by_inventory {
            for hash in &hashes {
                let Some(entry) = chain.entry(hash).filter(|entry| chain.is_active(&entry.hash)) else {
                    by_inventory = true;
                    break;
                };
                if best.is_some_and(|best| best != entry.header.prev_blockhash) {
                    by_inventory = true;
                    break;
                }
                best = Some(*hash);
                if !headers.is_empty() {
                    headers.push(entry.header);
                } else if peer.has_header(&chain, hash) {
                } else if peer.has_header(&chain, &entry.header.prev_blockhash) {
                    headers.push(entry.header);
                } else {
                    by_inventory = true;
                    break;
                }
            }
        }
        if !by_inventory && let (Some(best), false) = (best, headers.is_empty()) {
            if headers.len() == 1 && peer.wants_hb {
                match compact {
                    Some(frame) => peer.send_frame(frame),
                    // Its block is not at hand: the header leads the peer to it as well.
                    None => peer.send(&NetworkMessage::Headers(headers)),
                }
                peer.best_sent = Some(best);
            } else if peer.prefers_headers {
                peer.send(&NetworkMessage::Headers(headers));
                peer.best_sent = Some(best);
            } else {
                by_inventory = true;
            }
        }
        if by_inventory && !peer.has_header(&chain, &tip) {
            peer.send(&NetworkMessage::Inv(vec![Inventory::Block(tip)]));
        }
    }
}
