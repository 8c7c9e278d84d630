//! Addresses of nodes: told by peers, told to peers.

use super::{Engine, PeerId};
use crate::address::{AddressRecord, Host, Net, NetAddress};
use crate::addrman::GOSSIP_TIME_PENALTY;
use crate::addrrelay::Rules;
use crate::limits;
use crate::types::ConnectionKind;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use std::net::SocketAddr;

impl Engine {
    /// A peer's version came: what it offers is known, and an outbound one is asked for addresses.
    pub(super) fn version_received(&mut self, id: PeerId) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.kind.is_inbound() {
            return;
        }
        let address = NetAddress::from(peer.address);
        let services = peer.services();
        if peer.addrs.ask() {
            peer.send(&NetworkMessage::GetAddr);
        }
        self.book.addrman.set_services(&address, services);
        self.book.addrman.good(&address, now);
    }

    /// An outbound peer is gone that was spoken with: its address was good a moment ago.
    pub(super) fn was_connected(&mut self, address: SocketAddr, kind: ConnectionKind, ready: bool) {
        // Of peers for blocks alone nothing is to be seen.
        if ready && !kind.is_inbound() && kind != ConnectionKind::BlockRelay {
            self.book.addrman.connected(&NetAddress::from(address), self.now);
        }
    }

    pub(super) fn on_addresses(&mut self, id: PeerId, records: Vec<AddressRecord>) {
        let now = self.now;
        let bans = &self.book.bans;
        let is_reachable = |host: &Host| matches!(host.network(), Net::Ipv4 | Net::Ipv6);
        let is_kept_out = |host: &Host| bans.is_banned(host, now) || bans.is_discouraged(host);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let rules = Rules { rate_limited: true, is_kept_out: &is_kept_out, is_reachable: &is_reachable };
        let source = Host::from(peer.address.ip());
        let heard = match peer.addrs.receive(records, rules, now, &mut self.rng) {
            Ok(heard) => heard,
            Err(error) => {
                self.misbehaving(id, &format!("addr message size = {}", error.0));
                return;
            }
        };
        for record in heard.relay {
            let reachable = is_reachable(&record.address.host);
            let peers = self.peers.iter().map(|(id, peer)| (*id, &peer.addrs));
            for target in self.addr_relay.targets(&record.address, reachable, id, now, peers) {
                if let Some(peer) = self.peers.get_mut(&target) {
                    peer.addrs.push(record, &mut self.rng);
                }
            }
        }
        self.book.addrman.add(&heard.add, &source, GOSSIP_TIME_PENALTY, now);
        if heard.fetched {
            self.disconnect(id, "its addresses were all that was wanted");
        }
    }

    pub(super) fn on_getaddr(&mut self, id: PeerId) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.addrs.receive_getaddr() {
            return;
        }
        let network = Host::from(peer.address.ip()).net_class();
        let bound = peer.bound.map_or(NetAddress::NONE, NetAddress::from);
        let book = &mut self.book;
        let draw = || {
            let all = book.addrman.get_addr(limits::MAX_ADDR_TO_SEND, limits::MAX_PCT_ADDR_TO_SEND, None, true, now);
            let wanted = |record: &AddressRecord| !book.is_unwanted(&record.address.host, now);
            all.into_iter().filter(wanted).collect()
        };
        let response = self.addr_relay.response(network, bound, now, &mut self.rng, draw).to_vec();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for record in response {
            peer.addrs.push(record, &mut self.rng);
        }
    }

    /// Core's `MaybeSendAddr`.
    pub(super) fn tell_addresses(&mut self, id: PeerId) {
        let now = self.now;
        let catching_up = self.host.is_initial_block_download();
        let (port, services) = (self.config.listen_port, self.config.services);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !catching_up && peer.addrs.is_announcement_due(now) {
            // As the peer sees us, if others can reach that.
            let seen = peer.version.as_ref().and_then(|version| version.our_address).zip(port);
            let own = seen
                .map(|(address, port)| NetAddress::new(Host::from(address.ip()), port))
                .filter(|address| address.host.is_routable())
                .map(|address| AddressRecord::new(address, services, now));
            if let Some(record) = peer.addrs.announce(own, now, &mut self.rng) {
                send(peer, &[record]);
            }
        }
        let due = peer.addrs.take_due(now, &mut self.rng);
        if !due.is_empty() {
            send(peer, &due);
        }
    }

    /// Of the node itself: what is known to be its services.
    pub fn services(&self) -> ServiceFlags {
        self.config.services
    }
}

fn send(peer: &mut super::peer::Peer, records: &[AddressRecord]) {
    let message = match peer.addrs.wants_addrv2() {
        true => NetworkMessage::AddrV2(records.iter().filter_map(AddressRecord::to_v2).collect()),
        false => NetworkMessage::Addr(records.iter().filter_map(AddressRecord::to_v1).collect()),
    };
    peer.send(&message);
}
