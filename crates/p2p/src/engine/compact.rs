//! Compact blocks (BIP 152) that came: put together from the mempool, completed, or asked for whole.

use super::peer::Peer;
use super::{Engine, PeerId};
use crate::compact::{CompactBlockError, PartiallyDownloadedBlock};
use crate::limits;
use bitcoin::bip152::{BlockTransactions, HeaderAndShortIds};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::{GetBlockTxn, SendCmpct};
use bitcoin::{Block, BlockHash, Transaction, Wtxid};
use cairn_consensus::error::BlockRejectKind;
use std::sync::Arc;

/// How far above the tip a compact block is put together; further up it is treated as a header.
const MAX_AHEAD: u32 = 2;

impl Engine {
    pub(super) fn on_cmpctblock(&mut self, id: PeerId, compact: HeaderAndShortIds) {
        let Some(peer) = self.peers.get(&id) else { return };
        if !peer.provides_compact {
            return;
        }
        let header = compact.header;
        let hash = header.block_hash();
        let known = self.chain.entry(&hash);
        let place = match self.chain.place_header(&header, self.now_seconds()) {
            _ if known.as_ref().is_some_and(|entry| entry.status.failed) => {
                self.punish_for_block(
                    id,
                    BlockRejectKind::InvalidPrev,
                    true,
                    true,
                    "a compact block known to be invalid",
                );
                return;
            }
            Ok(Some(place)) => place,
            Ok(None) => {
                if !self.host.is_initial_block_download() {
                    self.ask_for_headers_after_best(id);
                }
                return;
            }
            Err(refused) => {
                self.punish_for_block(
                    id,
                    refused.kind,
                    false,
                    true,
                    &format!("invalid header via cmpctblock: {refused}"),
                );
                return;
            }
        };
        if place.chain_work < self.work_threshold() {
            return;
        }
        let (now, chain, tip) = (self.now, self.chain.clone(), self.chain.tip());
        let new = known.is_none();
        self.with(id, |peer| {
            peer.announced(&chain, hash);
            if new && place.chain_work > tip.chain_work {
                peer.last_block_announcement = now;
            }
        });
        if known.as_ref().is_some_and(|entry| entry.status.has_data) || self.validating.contains_key(&hash) {
            return;
        }
        let requests = self.in_flight.get(&hash).map_or(0, Vec::len);
        let first = requests == 0 || self.in_flight.get(&hash).is_some_and(|requests| requests[0].peer == id);
        let Some(peer) = self.peers.get(&id) else { return };
        let asked = peer.in_flight.contains(&hash);
        if !asked && !peer.hb_to {
            return;
        }
        let was_pruned = known.as_ref().is_some_and(|entry| entry.tx_count > 0);
        let ahead = place.height > tip.height + MAX_AHEAD;
        if place.chain_work <= tip.chain_work || was_pruned || (ahead && asked) {
            if asked {
                self.ask_for_whole(id, hash);
            }
            return;
        }
        if requests == 0 && !self.can_direct_fetch() {
            return;
        }
        if ahead {
            self.on_headers(id, vec![header], true);
            return;
        }
        let slots = requests < limits::MAX_CMPCTBLOCKS_IN_FLIGHT
            && peer.in_flight.len() < limits::MAX_BLOCKS_IN_TRANSIT_PER_PEER;
        let partial = self.put_together(compact);
        if !(slots || asked) {
            // It may be whole all the same, and then need not wait for another peer.
            if let Ok(partial) = partial {
                self.take_whole(id, hash, partial, Vec::new(), place.height, None);
            }
            return;
        }
        if !asked {
            self.requested(id, hash);
        } else if self.partial(id, &hash).is_some_and(|partial| partial.is_some()) {
            return;
        }
        let partial = match partial {
            Ok(partial) => partial,
            Err(CompactBlockError::Invalid(why)) => {
                self.forget_request(&hash, id);
                self.misbehaving(id, why);
                return;
            }
            Err(CompactBlockError::Failed(_)) if first => return self.ask_for_whole(id, hash),
            Err(CompactBlockError::Failed(_)) => return self.forget_request(&hash, id),
        };
        let missing = partial.missing();
        if missing.indexes.is_empty() {
            self.take_whole(id, hash, partial, Vec::new(), place.height, Some(first));
            return;
        }
        if first || self.may_ask_beside(id, &hash, requests) {
            if let Some(slot) = self.partial(id, &hash) {
                *slot = Some(Box::new(partial));
            }
            self.with(id, |peer| peer.send(&NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request: missing })));
        } else {
            self.forget_request(&hash, id);
        }
        if new {
            // So that blocks on top of it find their place, and peers that announce it are known to have it.
            self.with(id, |peer| peer.busy = true);
            self.job(crate::work::Job::Headers { peer: id, headers: vec![header], via_compact: true, full: false });
        }
    }

    /// Whether a second or third peer is asked for what is missing of the same block.
    fn may_ask_beside(&self, id: PeerId, hash: &BlockHash, requests: usize) -> bool {
        let outbound = |peer: &Peer| !peer.kind.is_inbound();
        let Some(peer) = self.peers.get(&id) else { return false };
        let asked_outbound = self.in_flight.get(hash).into_iter().flatten();
        let asked_outbound = asked_outbound
            .filter(|request| request.peer != id)
            .any(|request| self.peers.get(&request.peer).is_some_and(outbound));
        peer.hb_to && (outbound(peer) || asked_outbound || requests + 1 < limits::MAX_CMPCTBLOCKS_IN_FLIGHT)
    }

    fn partial(&mut self, id: PeerId, hash: &BlockHash) -> Option<&mut Option<Box<PartiallyDownloadedBlock>>> {
        let request = self.in_flight.get_mut(hash)?.iter_mut().find(|request| request.peer == id)?;
        Some(&mut request.partial)
    }

    fn put_together(&self, compact: HeaderAndShortIds) -> Result<PartiallyDownloadedBlock, CompactBlockError> {
        let mut transactions: Vec<(Wtxid, Arc<Transaction>)> = Vec::new();
        self.host.mempool().for_each(|wtxid, tx| transactions.push((*wtxid, tx.clone())));
        let transactions = transactions.iter().map(|(wtxid, tx)| (wtxid, tx));
        PartiallyDownloadedBlock::new(compact, transactions, &self.extra)
    }

    fn ask_for_whole(&mut self, id: PeerId, hash: BlockHash) {
        let item = self.peers.get(&id).map(|peer| peer.block_inventory(hash));
        self.send_getdata(id, item.into_iter().collect());
    }

    /// A block of which nothing is missing any more. `asked` says whether it was asked of the peer, and whether it was the
    /// first that was.
    fn take_whole(
        &mut self,
        id: PeerId,
        hash: BlockHash,
        partial: PartiallyDownloadedBlock,
        missing: Vec<Transaction>,
        height: u32,
        asked: Option<bool>,
    ) {
        match partial.fill(missing, height, self.chain.params()) {
            Ok(block) => {
                self.forget_request(&hash, id);
                let block = Arc::new(block);
                self.take_compact(id, hash, block);
            }
            Err(CompactBlockError::Invalid(why)) => {
                self.forget_request(&hash, id);
                self.misbehaving(id, why);
            }
            // Perhaps a transaction of the mempool has the short id of another one.
            Err(CompactBlockError::Failed(_)) => match asked {
                Some(true) => self.ask_for_whole(id, hash),
                Some(false) => self.forget_request(&hash, id),
                None => {}
            },
        }
    }

    fn take_compact(&mut self, id: PeerId, hash: BlockHash, block: Arc<Block>) {
        if self.validating.contains_key(&hash) {
            return;
        }
        let parent = block.header.prev_blockhash;
        // A new tip, by its proof of work: it goes on before it is looked into.
        if parent == self.chain.tip().hash {
            self.announce_early(hash, parent, &block);
        }
        self.validate(id, block, hash, true);
    }

    pub(super) fn on_blocktxn(&mut self, id: PeerId, answer: BlockTransactions) {
        let BlockTransactions { block_hash: hash, transactions } = answer;
        let first = self.in_flight.get(&hash).is_some_and(|requests| requests[0].peer == id);
        let Some(partial) = self.partial(id, &hash).and_then(Option::take) else { return };
        let Some(parent) = self.chain.entry(&partial.header().prev_blockhash) else { return };
        self.take_whole(id, hash, *partial, transactions, parent.height + 1, Some(first));
    }

    /// Core's `MaybeSetPeerAsAnnouncingHeaderAndIDs`: a peer that was the first with a block is asked to announce the next
    /// ones by compact block, unasked. Three are, one of them outbound where there is one.
    pub(super) fn prefer_compact_from(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.provides_compact) else { return };
        if let Some(place) = self.hb_peers.iter().position(|chosen| *chosen == id) {
            self.hb_peers.remove(place);
            self.hb_peers.push_back(id);
            return;
        }
        let outbound = |id: &PeerId| self.peers.get(id).is_some_and(|peer| !peer.kind.is_inbound());
        let outbound_chosen = self.hb_peers.iter().filter(|id| outbound(id)).count();
        let oldest_is_outbound = self.hb_peers.front().is_some_and(outbound);
        if peer.kind.is_inbound()
            && self.hb_peers.len() >= limits::MAX_HB_PEERS
            && outbound_chosen == 1
            && oldest_is_outbound
        {
            self.hb_peers.swap(0, 1);
        }
        self.hb_peers.push_back(id);
        self.tell_hb(id, true);
        if self.hb_peers.len() > limits::MAX_HB_PEERS
            && let Some(oldest) = self.hb_peers.pop_front()
        {
            self.tell_hb(oldest, false);
        }
    }

    fn tell_hb(&mut self, id: PeerId, wanted: bool) {
        let version = super::handshake::CMPCTBLOCKS_VERSION;
        self.with(id, |peer| {
            peer.hb_to = wanted;
            peer.link.expect(wanted || !peer.in_flight.is_empty());
            peer.send(&NetworkMessage::SendCmpct(SendCmpct { send_compact: wanted, version }));
        });
    }
}
