//! Version and features, before anything else is heard.

use super::peer::{Peer, TheirVersion, Traffic};
use super::{Engine, PROTOCOL_VERSION};
use crate::addrrelay::PeerAddrs;
use crate::feefilter::FeeFilter;
use crate::headerssync::HeadersSyncState;
use crate::limits;
use crate::link::Link;
use crate::transport::Info;
use crate::types::{ConnectionKind, PeerId, Time};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use rand::{RngExt, rngs::StdRng};
use std::net::SocketAddr;
use std::time::Duration;

/// Core's `MIN_PEER_PROTO_VERSION`.
const MIN_PEER_PROTO_VERSION: u32 = 31800;
/// From which on `wtxidrelay` (BIP 339) and `sendaddrv2` (BIP 155) are said.
const WTXID_RELAY_VERSION: u32 = 70016;
/// From which on compact blocks (BIP 152) are.
const SHORT_IDS_BLOCKS_VERSION: u32 = 70014;
/// Version 2 of compact blocks: with witnesses.
pub(super) const CMPCTBLOCKS_VERSION: u64 = 2;

impl Peer {
    #[expect(clippy::too_many_arguments, reason = "each is a fact of the connection, named at the only call")]
    pub(super) fn new(
        id: PeerId,
        kind: ConnectionKind,
        address: SocketAddr,
        name: Option<String>,
        bound: Option<SocketAddr>,
        link: Link,
        transport: Info,
        now: Time,
        rng: &mut StdRng,
    ) -> Peer {
        Peer {
            id,
            kind,
            address,
            name,
            bound,
            connected: now,
            link,
            transport,
            nonce: rng.random(),
            leaving: false,
            version: None,
            common_version: 0,
            ready: false,
            wtxid_relay: false,
            prefers_headers: false,
            sent_sendheaders: false,
            preferred: false,
            sync_started: false,
            headers_timeout: None,
            last_getheaders: None,
            headers_sync: None::<Box<HeadersSyncState>>,
            inv_triggered_getheaders: false,
            busy: false,
            waiting: Default::default(),
            best_known: None,
            last_unknown: None,
            last_common: None,
            best_sent: None,
            in_flight: Vec::new(),
            stalling_since: None,
            downloading_since: Duration::ZERO,
            announce: Vec::new(),
            continuation: None,
            getdata: Default::default(),
            reading: false,
            to_read: None,
            last_block: Duration::ZERO,
            last_block_announcement: Duration::ZERO,
            chain_sync: Default::default(),
            provides_compact: false,
            wants_hb: false,
            hb_to: false,
            last_tx: Duration::ZERO,
            relay: None,
            fee_filter: FeeFilter::default(),
            addrs: PeerAddrs::new(kind, now, rng),
            pings: Default::default(),
            received: Traffic::begun(transport.received),
            sent: Traffic::begun(transport.sent),
            now,
            misbehaviour: None,
        }
    }
}

impl Engine {
    /// Core's `PushNodeVersion`.
    pub(super) fn send_version(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let relay = !peer.may_not_send_transactions();
        peer.send(&NetworkMessage::Version(VersionMessage {
            version: PROTOCOL_VERSION,
            services: self.config.services,
            timestamp: i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX),
            receiver: Address::new(&peer.address, ServiceFlags::NONE),
            sender: Address::new(&nowhere, self.config.services),
            nonce: peer.nonce,
            user_agent: self.config.user_agent.clone(),
            start_height: i32::try_from(self.chain.tip().height).unwrap_or(i32::MAX),
            relay,
        }));
    }

    /// A message before the handshake is done.
    pub(super) fn handshake(&mut self, id: PeerId, message: NetworkMessage) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match message {
            NetworkMessage::Version(version) if peer.version.is_none() => self.on_version(id, version),
            _ if peer.version.is_none() => {}
            NetworkMessage::Verack => self.on_verack(id),
            NetworkMessage::WtxidRelay => {
                if peer.common_version >= WTXID_RELAY_VERSION {
                    peer.wtxid_relay = true;
                }
            }
            NetworkMessage::SendAddrV2 => peer.addrs.set_wants_addrv2(),
            NetworkMessage::SendHeaders => peer.prefers_headers = true,
            NetworkMessage::SendCmpct(message) => self.on_sendcmpct(id, &message),
            other => tracing::debug!(peer = %id, command = other.cmd(), "too early"),
        }
    }

    fn on_version(&mut self, id: PeerId, theirs: VersionMessage) {
        let ours = self.nonces.contains(&theirs.nonce);
        let now = self.now.as_secs();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let wanted = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let limited = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
        let enough = theirs.services.has(wanted) || theirs.services.has(limited);
        if peer.is_outbound_or_block_relay() && !enough {
            self.disconnect(id, "it does not offer the services that are expected");
            return;
        }
        if theirs.version < MIN_PEER_PROTO_VERSION {
            self.disconnect(id, "it uses an obsolete version");
            return;
        }
        if peer.kind.is_inbound() && ours {
            self.disconnect(id, "it is this node itself");
            return;
        }
        let common = theirs.version.min(PROTOCOL_VERSION);
        let mut user_agent: String = theirs.user_agent.chars().filter(|&c| is_safe(c)).collect();
        user_agent.truncate(limits::MAX_SUBVERSION_LENGTH);
        peer.common_version = common;
        peer.version = Some(TheirVersion {
            version: theirs.version,
            services: theirs.services,
            user_agent,
            start_height: theirs.start_height,
            relay: theirs.relay,
            time_offset: theirs.timestamp.max(0).saturating_sub(i64::try_from(now).unwrap_or(i64::MAX)),
            our_address: theirs.receiver.socket_addr().ok(),
        });
        peer.preferred = !peer.kind.is_inbound() && peer.kind != ConnectionKind::AddrFetch && peer.can_serve_blocks();
        if peer.kind.is_inbound() {
            self.send_version(id);
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if common >= WTXID_RELAY_VERSION {
            peer.send(&NetworkMessage::WtxidRelay);
            peer.send(&NetworkMessage::SendAddrV2);
        }
        peer.send(&NetworkMessage::Verack);
        self.version_received(id);
        if self.peers.get(&id).is_some_and(|peer| peer.kind == ConnectionKind::Feeler) {
            self.disconnect(id, "the feeler found it");
        }
    }

    fn on_verack(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.ready = true;
        let version = peer.version.as_ref().map_or(0, |version| version.version);
        tracing::debug!(peer = %id, address = %peer.address, kind = peer.kind.name(), version, "connected");
        if peer.common_version >= SHORT_IDS_BLOCKS_VERSION {
            peer.send(&NetworkMessage::SendCmpct(SendCmpct { send_compact: false, version: CMPCTBLOCKS_VERSION }));
        }
        self.peer_ready(id);
        self.maintain(id);
    }

    pub(super) fn on_sendcmpct(&mut self, id: PeerId, message: &SendCmpct) {
        if message.version != CMPCTBLOCKS_VERSION {
            return;
        }
        self.with(id, |peer| {
            peer.provides_compact = true;
            peer.wants_hb = message.send_compact;
        });
    }
}

/// Core's `SanitizeString`: what may be shown of a peer's words.
fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(c)
}
