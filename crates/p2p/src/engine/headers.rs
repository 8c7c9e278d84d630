//! Headers: asked for, checked, believed.

use super::peer::no_stop;
use super::{Engine, PeerId};
use crate::headerssync::{HeadersSyncParams, HeadersSyncState};
use crate::limits;
use crate::types::ConnectionKind;
use crate::work::Job;
use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::{BlockHash, Work};
use cairn_chain::{BlockEntry, ChainError};
use cairn_consensus::header::check_header;

/// Blocks that a fork may begin below the tip without showing its work first (Core's anti-DoS buffer).
const FORK_BUFFER: u32 = 144;
/// Core's `MAX_OUTBOUND_PEERS_TO_PROTECT_FROM_DISCONNECT`.
const MAX_PROTECTED_OUTBOUND: usize = 4;

impl Engine {
    /// Core's `MaybeSendGetHeaders`: asks for headers after a locator, unless an earlier question waits for its answer.
    pub(super) fn ask_for_headers(&mut self, id: PeerId, locator: Vec<BlockHash>) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.last_getheaders.is_some_and(|asked| now.saturating_sub(asked) <= limits::HEADERS_RESPONSE_TIME) {
            return false;
        }
        peer.last_getheaders = Some(now);
        let version = peer.common_version;
        peer.send(&NetworkMessage::GetHeaders(GetHeadersMessage {
            version,
            locator_hashes: locator,
            stop_hash: no_stop(),
        }));
        true
    }

    pub(super) fn ask_for_headers_after_best(&mut self, id: PeerId) -> bool {
        let best = self.chain.best_header().hash;
        let locator = self.chain.locator(&best).unwrap_or_default();
        self.ask_for_headers(id, locator)
    }

    /// Core's `GetAntiDoSWorkThreshold`: a chain of headers with less work is not kept.
    pub(super) fn work_threshold(&self) -> Work {
        let tip = self.chain.tip();
        let block = tip.header.work();
        let mut near = tip.chain_work;
        for _ in 0..FORK_BUFFER {
            if near <= block {
                break;
            }
            near = near - block;
        }
        near.max(self.chain.params().minimum_chain_work)
    }

    pub(super) fn on_headers(&mut self, id: PeerId, headers: Vec<Header>, via_compact: bool) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(last) = headers.last().map(Header::block_hash) else {
            // Nothing can be announced by it, so that it is the answer to a question.
            peer.last_getheaders = None;
            peer.headers_sync = None;
            peer.headers_timeout = None;
            return;
        };
        if headers.len() > limits::MAX_HEADERS_RESULTS {
            self.misbehaving(id, "too many headers");
            return;
        }
        let params = self.chain.params();
        if headers.iter().any(|header| check_header(header, params).is_err()) {
            self.misbehaving(id, "a header with invalid proof of work");
            return;
        }
        if headers.windows(2).any(|pair| pair[1].prev_blockhash != pair[0].block_hash()) {
            self.misbehaving(id, "headers that do not follow each other");
            return;
        }
        let full = headers.len() == limits::MAX_HEADERS_RESULTS;
        if !full && !via_compact {
            peer.headers_timeout = None;
        }
        let (headers, mut trusted) = match self.continue_low_work_sync(id, headers, full) {
            Some(continued) => continued,
            None => return,
        };
        let Some(first) = headers.first() else { return };
        let Some(start) = self.chain.entry(&first.prev_blockhash) else {
            // Perhaps an announcement (BIP 130) of a block after one that was missed.
            self.ask_for_headers_after_best(id);
            let chain = self.chain.clone();
            self.with(id, |peer| peer.announced(&chain, last));
            return;
        };
        self.with(id, |peer| peer.last_getheaders = None);
        let best = self.chain.best_header().hash;
        trusted |= self.chain.is_ancestor(&last, &best) || self.chain.is_active(&last);
        if !trusted && self.is_low_work(id, &start, &headers, full) {
            return;
        }
        self.with(id, |peer| peer.busy = true);
        self.job(Job::Headers { peer: id, headers, via_compact, full });
    }

    /// Core's `IsContinuationOfLowWorkHeadersSync`: headers go to the synchronisation that is in progress, if there is one.
    /// What is left to be believed comes back, and whether its work is known to be enough.
    fn continue_low_work_sync(&mut self, id: PeerId, headers: Vec<Header>, full: bool) -> Option<(Vec<Header>, bool)> {
        let peer = self.peers.get_mut(&id)?;
        let Some(sync) = &mut peer.headers_sync else { return Some((headers, false)) };
        let result = sync.process_next_headers(&headers, full, self.chain.params());
        let locator = match &result {
            Ok(processed) if processed.request_more => Some(sync.next_headers_locator()),
            _ => None,
        };
        if result.is_ok() {
            peer.last_getheaders = None;
        }
        match locator {
            Some(locator) => {
                self.ask_for_headers(id, locator);
            }
            None => peer.headers_sync = None,
        }
        match result {
            Ok(processed) => Some((processed.headers, true)),
            Err(error) => {
                tracing::debug!(peer = %id, %error, "a chain of unproven work is given up");
                Some((headers, false))
            }
        }
    }

    /// Core's `TryLowWorkHeadersSync`: whether a chain has too little work to be kept. If there is more of it, it is looked
    /// through without being kept.
    fn is_low_work(&mut self, id: PeerId, start: &BlockEntry, headers: &[Header], full: bool) -> bool {
        let work = headers.iter().fold(start.chain_work, |work, header| work + header.work());
        let minimum = self.work_threshold();
        if work >= minimum {
            return false;
        }
        if full {
            let locator = self.chain.locator(&start.hash).unwrap_or_default();
            let params = HeadersSyncParams::of(self.chain.params().network);
            let sync = HeadersSyncState::new(params, start, locator, minimum, self.now, &mut self.rng);
            self.with(id, |peer| peer.headers_sync = Some(Box::new(sync)));
            let _ = self.continue_low_work_sync(id, headers.to_vec(), full);
        } else {
            tracing::debug!(peer = %id, height = start.height, "a chain with little work is passed over");
        }
        true
    }

    pub(super) fn headers_done(
        &mut self,
        id: PeerId,
        count: usize,
        result: Result<(BlockEntry, bool), ChainError>,
        via_compact: bool,
        full: bool,
    ) {
        self.with(id, |peer| peer.busy = false);
        let (last, new) = match result {
            Ok(done) => done,
            Err(ChainError::Rejected(refused)) => {
                let cached = refused.reason == "duplicate-invalid";
                self.punish_for_block(id, refused.kind, cached, via_compact, &format!("invalid header: {refused}"));
                return;
            }
            // Says nothing of the peer.
            Err(error) => {
                tracing::warn!(%error, "headers were not taken in");
                return;
            }
        };
        let syncing = self.peers.get(&id).is_some_and(|peer| peer.headers_sync.is_some());
        if full && !syncing {
            let locator = self.chain.locator(&last.hash).unwrap_or_default();
            if self.ask_for_headers(id, locator) {
                tracing::debug!(peer = %id, height = last.height, "more headers asked for");
            }
        }
        tracing::trace!(peer = %id, count, height = last.height, "headers");
        self.headers_believed(id, &last, new, full);
        self.fetch_towards(id, &last);
        self.fetch_blocks();
    }

    /// Core's `UpdatePeerStateForReceivedHeaders`.
    fn headers_believed(&mut self, id: PeerId, last: &BlockEntry, new: bool, more: bool) {
        let tip = self.chain.tip();
        let (now, chain) = (self.now, self.chain.clone());
        let minimum = chain.params().minimum_chain_work;
        let catching_up = self.host.is_initial_block_download();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.announced(&chain, last.hash);
        if new && last.chain_work > tip.chain_work {
            peer.last_block_announcement = now;
        }
        let Some(best) = peer.best_known else { return };
        if catching_up && !more && best.work < minimum && peer.is_outbound_or_block_relay() {
            self.disconnect(id, "its chain has too little work");
            return;
        }
        if peer.kind == ConnectionKind::OutboundFullRelay
            && self.protected_outbound < MAX_PROTECTED_OUTBOUND
            && best.work >= tip.chain_work
            && !peer.chain_sync.protect
        {
            peer.chain_sync.protect = true;
            self.protected_outbound += 1;
        }
    }

    /// Begins to synchronise headers with a peer, where that is due (in Core's `SendMessages`).
    pub(super) fn start_headers_sync(&mut self, id: PeerId) {
        let best = self.chain.best_header();
        let recent = u64::from(best.header.time) + 24 * 3600 > self.now.as_secs();
        let preferred = self.peers.values().filter(|peer| peer.preferred).count();
        // Core counts whoever it ever began with, and then may wait beside a peer with a better chain for its next block.
        let syncing = self.peers.values().any(|peer| peer.headers_timeout.is_some());
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.sync_started || !peer.ready || !peer.can_serve_blocks() {
            return;
        }
        let usable =
            peer.preferred || (peer.kind != ConnectionKind::AddrFetch && (preferred == 0 || self.in_flight.is_empty()));
        if !(recent || (!syncing && usable)) {
            return;
        }
        // From the header before the best, so that a peer that has it answers with something.
        let from = self.chain.ancestor(&best.hash, best.height.saturating_sub(1)).map_or(best.hash, |entry| entry.hash);
        let locator = self.chain.locator(&from).unwrap_or_default();
        if self.ask_for_headers(id, locator) {
            let behind = self.now.as_secs().saturating_sub(u64::from(best.header.time));
            let expected = behind / u64::from(self.chain.params().pow_target_spacing.max(1));
            let expected = u32::try_from(expected).unwrap_or(u32::MAX);
            let timeout =
                limits::HEADERS_DOWNLOAD_TIMEOUT_BASE + limits::HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER * expected;
            let until = self.now + timeout;
            self.with(id, |peer| {
                peer.sync_started = true;
                peer.headers_timeout = Some(until);
            });
        }
    }

    /// Inventory: blocks lead to headers, transactions to requests.
    pub(super) fn on_inv(&mut self, id: PeerId, inventory: &[Inventory]) {
        let chain = self.chain.clone();
        let mut unknown_block = None;
        let mut transactions = Vec::new();
        {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            for item in inventory {
                match item {
                    Inventory::Block(hash) => {
                        peer.announced(&chain, *hash);
                        let here = chain.entry(hash).is_some();
                        if !here && !self.in_flight.contains_key(hash) && !self.validating.contains_key(hash) {
                            unknown_block = Some(*hash);
                        }
                    }
                    Inventory::Transaction(_) if peer.wtxid_relay => {}
                    Inventory::WTx(_) if !peer.wtxid_relay => {}
                    Inventory::Transaction(_) | Inventory::WTx(_) => {
                        if peer.may_not_send_transactions() {
                            self.disconnect(id, "it announced a transaction on a connection for blocks alone");
                            return;
                        }
                        transactions.push(*item);
                    }
                    _ => {}
                }
            }
        }
        self.on_transaction_inventory(id, &transactions);
        let Some(hash) = unknown_block else { return };
        let Some(peer) = self.peers.get(&id) else { return };
        let first_time = !peer.inv_triggered_getheaders && self.last_inv_that_triggered_headers != Some(hash);
        let started = peer.sync_started;
        if started || first_time {
            self.ask_for_headers_after_best(id);
            if !started {
                self.with(id, |peer| peer.inv_triggered_getheaders = true);
                self.last_inv_that_triggered_headers = Some(hash);
            }
        }
    }
}
