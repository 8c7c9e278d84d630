//! What happens because time goes on: pings, stalls, chains that lag.

use super::peer::Known;
use super::{Engine, PeerId};
use crate::limits;
use crate::types::ConnectionKind;
use bitcoin::p2p::message::NetworkMessage;
use rand::RngExt;
use std::time::Duration;

impl Engine {
    /// Called about once a second, and by tests.
    pub(super) fn tick(&mut self) {
        self.announce_unbroadcast();
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.maintain(id);
        }
    }

    /// What is due for one peer.
    pub(super) fn maintain(&mut self, id: PeerId) {
        let now = self.now;
        let Some(peer) = self.peers.get(&id).filter(|peer| !peer.leaving) else { return };
        if !peer.ready {
            if now.saturating_sub(peer.connected) > limits::HANDSHAKE_TIMEOUT {
                self.disconnect(id, "no handshake in time");
            }
            return;
        }
        self.ping(id);
        self.tell_addresses(id);
        self.send_sendheaders(id);
        self.start_headers_sync(id);
        self.announce_blocks(id);
        if self.is_stalling(id) {
            return;
        }
        self.consider_eviction(id);
        self.fetch_blocks_from(id);
        self.relay_transactions(id);
        self.resume(id);
    }

    fn ping(&mut self, id: PeerId) {
        let (now, nonce) = (self.now, self.rng.random::<u64>().max(1));
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some((_, sent)) = peer.pings.waiting
            && now.saturating_sub(sent) > limits::PING_TIMEOUT
        {
            self.disconnect(id, "no answer to a ping");
            return;
        }
        let due = peer.pings.waiting.is_none() && now.saturating_sub(peer.pings.last_sent) > limits::PING_INTERVAL;
        if due || peer.pings.queued {
            peer.pings.queued = false;
            peer.pings.waiting = Some((nonce, now));
            peer.pings.last_sent = now;
            peer.send(&NetworkMessage::Ping(nonce));
        }
    }

    pub(super) fn on_pong(&mut self, id: PeerId, nonce: u64) {
        let now = self.now;
        self.with(id, |peer| {
            if let Some((expected, sent)) = peer.pings.waiting {
                if nonce == expected {
                    let time = now.saturating_sub(sent);
                    peer.pings.last = Some(time);
                    peer.pings.min = Some(peer.pings.min.map_or(time, |min| min.min(time)));
                }
                // A zero is the mistake of another implementation; the ping is over all the same.
                if nonce == expected || nonce == 0 {
                    peer.pings.waiting = None;
                }
            }
        });
    }

    /// Core's `MaybeSendSendHeaders`: headers are wanted for announcements once its chain is known to have enough work.
    fn send_sendheaders(&mut self, id: PeerId) {
        let minimum = self.chain.params().minimum_chain_work;
        self.with(id, |peer| {
            let enough = peer.best_known.is_some_and(|best| best.work > minimum);
            if !peer.sent_sendheaders && peer.common_version >= 70012 && enough {
                peer.sent_sendheaders = true;
                peer.send(&NetworkMessage::SendHeaders);
            }
        });
    }

    fn is_stalling(&mut self, id: PeerId) -> bool {
        let now = self.now;
        let spacing = self.chain.params().pow_target_spacing;
        let best_time = u64::from(self.chain.best_header().header.time);
        let downloading = self.peers.values().filter(|peer| !peer.in_flight.is_empty()).count() as u32;
        let preferred = self.peers.values().filter(|peer| peer.preferred).count();
        let syncing = self.peers.values().filter(|peer| peer.headers_timeout.is_some()).count();
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.stalling_since.is_some_and(|since| since + self.stalling_timeout < now) {
            self.stalling_timeout = (self.stalling_timeout * 2).min(limits::BLOCK_STALLING_TIMEOUT_MAX);
            self.disconnect(id, "it holds the download of blocks up");
            return true;
        }
        // A block interval, and half of one for each other peer, which share the line.
        let halves = 2 + downloading.saturating_sub(1);
        if !peer.in_flight.is_empty()
            && now > peer.downloading_since + Duration::from_secs(u64::from(spacing)) * halves / 2
        {
            self.disconnect(id, "a block did not come in time");
            return true;
        }
        if let Some(timeout) = peer.headers_timeout {
            if best_time + 24 * 3600 > now.as_secs() {
                peer.headers_timeout = None;
            } else if now > timeout && syncing == 1 && preferred > usize::from(peer.preferred) {
                self.disconnect(id, "headers did not come in time");
                return true;
            }
        }
        false
    }

    /// Core's `TipMayBeStale`: no block came for long, so that another peer may know more.
    pub fn wants_extra_outbound(&self) -> bool {
        let spacing = Duration::from_secs(u64::from(self.chain.params().pow_target_spacing));
        self.in_flight.is_empty() && self.now > self.last_tip_update + spacing * limits::STALE_TIP_INTERVALS
    }

    /// Core's `EvictExtraOutboundPeers`: where there is one outbound peer too many, the one that told of a new block least
    /// recently.
    pub fn extra_outbound(&self) -> Option<PeerId> {
        let outbound = self.peers.values().filter(|peer| peer.kind == ConnectionKind::OutboundFullRelay);
        let worst = outbound
            .filter(|peer| !peer.leaving && !peer.chain_sync.protect)
            .min_by_key(|peer| (peer.last_block_announcement, std::cmp::Reverse(peer.id)))?;
        let old = self.now.saturating_sub(worst.connected) >= limits::MINIMUM_CONNECT_TIME;
        (old && worst.in_flight.is_empty()).then_some(worst.id)
    }

    /// Core's `ConsiderEviction`: an outbound peer whose chain stays behind ours is let go.
    fn consider_eviction(&mut self, id: PeerId) {
        let (now, tip) = (self.now, self.known_tip());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.chain_sync.protect || !peer.is_outbound_or_block_relay() || !peer.sync_started {
            return;
        }
        let best = peer.best_known;
        let sync = &mut peer.chain_sync;
        if best.is_some_and(|best| best.work >= tip.work) {
            (sync.timeout, sync.target, sync.sent_getheaders) = (None, None, false);
            return;
        }
        let reached = |target: &Known| best.is_some_and(|best| best.work >= target.work);
        match sync.timeout {
            None => {
                (sync.timeout, sync.target, sync.sent_getheaders) =
                    (Some(now + limits::CHAIN_SYNC_TIMEOUT), Some(tip), false)
            }
            Some(_) if sync.target.as_ref().is_some_and(reached) => {
                (sync.timeout, sync.target, sync.sent_getheaders) =
                    (Some(now + limits::CHAIN_SYNC_TIMEOUT), Some(tip), false);
            }
            Some(timeout) if now > timeout => {
                if sync.sent_getheaders {
                    self.disconnect(id, "its chain is old");
                    return;
                }
                sync.sent_getheaders = true;
                sync.timeout = Some(now + limits::HEADERS_RESPONSE_TIME);
                let before =
                    sync.target.and_then(|target| self.chain.ancestor(&target.hash, target.height.saturating_sub(1)));
                let locator = before.and_then(|entry| self.chain.locator(&entry.hash)).unwrap_or_default();
                self.ask_for_headers(id, locator);
            }
            Some(_) => {}
        }
    }
}
