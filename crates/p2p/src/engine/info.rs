//! What is told of peers.

use super::Engine;
use super::peer::{Peer, TheirVersion};
use crate::address::{Host, NetAddress};
use crate::eviction::EvictionCandidate;
use crate::net::{PeerInfo, Summary};
use crate::types::{PeerId, Time};
use bitcoin::p2p::ServiceFlags;
use std::net::SocketAddr;

impl Engine {
    /// All peers, in the order of their connections.
    pub fn peers_info(&self) -> Vec<PeerInfo> {
        let (best, tip) = (self.chain.best_header().hash, self.chain.tip().hash);
        let now = self.host.now();
        self.peers
            .values()
            .map(|peer| {
                let version = peer.version.as_ref();
                let height = |hash| self.chain.entry(hash).map(|entry| entry.height);
                let common_with = |ours| peer.best_known.and_then(|known| self.chain.fork(&known.hash, ours));
                PeerInfo {
                    id: peer.id,
                    kind: peer.kind,
                    address: peer.address,
                    name: peer.name.clone(),
                    bound: peer.bound,
                    our_address: version.and_then(|version| version.our_address),
                    services: peer.services(),
                    relays_transactions: version.is_some_and(|version| version.relay),
                    last_send: peer.sent.last,
                    last_received: peer.received.last,
                    last_transaction: peer.last_tx,
                    last_block: peer.last_block,
                    connected: peer.connected,
                    bytes_sent: peer.sent.total,
                    bytes_received: peer.received.total,
                    sent_by_command: peer.sent.by_command.clone(),
                    received_by_command: peer.received.by_command.clone(),
                    time_offset: version.map_or(0, |version| version.time_offset),
                    ping: peer.pings.last,
                    min_ping: peer.pings.min,
                    ping_wait: peer.pings.waiting.map(|(_, sent)| now.saturating_sub(sent)),
                    version: version.map_or(0, |version| version.version),
                    user_agent: version.map(|version| version.user_agent.clone()).unwrap_or_default(),
                    start_height: version.map_or(-1, |version| version.start_height),
                    synced_headers: common_with(&best).map(|entry| entry.height),
                    synced_blocks: common_with(&tip).map(|entry| entry.height),
                    best_known: peer.best_known.map(|known| known.hash),
                    presynced_headers: peer.headers_sync.as_ref().map(|sync| sync.presync_height()),
                    addr_relay_enabled: peer.addrs.is_enabled(),
                    addr_processed: peer.addrs.processed(),
                    addr_rate_limited: peer.addrs.rate_limited(),
                    last_inv_sequence: peer.relay.as_ref().map_or(0, |relay| relay.last_inv_sequence()),
                    inv_to_send: peer.relay.as_ref().map_or(0, |relay| relay.inv_to_send()),
                    in_flight: peer.in_flight.iter().filter_map(height).collect(),
                    min_fee_filter: peer.relay.as_ref().map_or(0, |relay| relay.fee_filter_received()),
                    hb_from: peer.wants_hb,
                    hb_to: peer.hb_to,
                    transport: peer.transport,
                }
            })
            .collect()
    }

    /// How peers stand, in short; what is not of peers is left out.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        let ours = i64::from(self.chain.tip().height);
        for peer in self.peers.values() {
            match peer.kind.is_inbound() {
                true => summary.inbound += 1,
                false => summary.outbound += 1,
            }
            let nothing_new = |version: &TheirVersion| i64::from(version.start_height) <= ours;
            if peer.ready && (peer.best_known.is_some() || peer.version.as_ref().is_some_and(nothing_new)) {
                summary.heard += 1;
            }
            let presynced = peer.headers_sync.as_ref().map(|sync| sync.presync_height());
            summary.presynced_headers = summary.presynced_headers.max(presynced);
            let known = peer.best_known.map_or(0, |known| known.height);
            summary.headers = summary.headers.max(known).max(presynced.unwrap_or(0));
        }
        summary
    }

    /// The peer of this name or, without one, of this address: what `getpeerinfo` calls `addr`.
    pub fn named(&self, name: &str) -> Option<PeerId> {
        let is_called = |peer: &Peer| match &peer.name {
            Some(given) => given == name,
            None => NetAddress::from(peer.address).to_string() == name,
        };
        self.peers.values().find(|peer| is_called(peer)).map(|peer| peer.id)
    }

    /// Inbound peers, by what counts when one has to go. `group` hides an address's group, `discouraged` tells who is.
    pub fn eviction_candidates(
        &self,
        group: impl Fn(&Host) -> u64,
        discouraged: impl Fn(&Host) -> bool,
    ) -> Vec<EvictionCandidate> {
        let wanted = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        self.peers
            .values()
            .filter(|peer| peer.kind.is_inbound() && !peer.leaving)
            .map(|peer| {
                let host = Host::from(peer.address.ip());
                EvictionCandidate {
                    id: peer.id,
                    connected: peer.connected,
                    min_ping_time: peer.pings.min.unwrap_or(Time::MAX),
                    last_block_time: peer.last_block,
                    last_tx_time: peer.last_tx,
                    relevant_services: peer.services().has(wanted),
                    relay_txs: peer.version.as_ref().is_some_and(|version| version.relay),
                    bloom_filter: false,
                    keyed_net_group: group(&host),
                    prefer_evict: discouraged(&host),
                    is_local: host.is_local(),
                    network: host.net_class(),
                    noban: false,
                    kind: peer.kind,
                }
            })
            .collect()
    }

    /// Where peers are.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.values().map(|peer| peer.address).collect()
    }

    /// Whether a peer's connection is there.
    pub fn is_connected(&self, id: PeerId) -> bool {
        self.peers.contains_key(&id)
    }

    /// Pings all peers at the next occasion.
    pub fn ping_all(&mut self) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.with(id, |peer| peer.pings.queued = true);
            self.maintain(id);
        }
    }
}
