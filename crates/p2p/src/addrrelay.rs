//! Addresses that peers tell, and which peers they are told.
//!
//! What a peer tells is let in slowly, what it knows is remembered, and what is news is told on to one or two others, the
//! same for a day, so that nobody gets their address further by telling it again. Who asks what we know is answered
//! once, and all who ask at one place get the same answer for a day: that hides whom we just met.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::hashes::siphash24;
use bitcoin::p2p::ServiceFlags;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::address::{AddressRecord, Host, Net, NetAddress};
use crate::limits::{
    ADDR_KNOWN_FALSE_POSITIVES, MAX_ADDR_KNOWN, MAX_ADDR_NEWS, MAX_ADDR_PROCESSING_TOKEN_BUCKET,
    MAX_ADDR_RATE_PER_SECOND, MAX_ADDR_RELAY_PEERS, MAX_ADDR_RESPONSE_CACHES, MAX_ADDR_TO_SEND,
};
use crate::poisson::rand_exp;
use crate::rolling::RollingBloomFilter;
use crate::types::{ConnectionKind, PeerId, Time};

/// How often on average a peer is told addresses (`AVG_ADDRESS_BROADCAST_INTERVAL`).
pub const AVG_ADDRESS_BROADCAST_INTERVAL: Duration = Duration::from_secs(30);
/// How often on average a peer is told our own (`AVG_LOCAL_ADDRESS_BROADCAST_INTERVAL`).
pub const AVG_LOCAL_ADDRESS_BROADCAST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long an address is told on to the same peers (`ROTATE_ADDR_RELAY_DEST_INTERVAL`).
pub const ROTATE_ADDR_RELAY_DEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an answer to `getaddr` is kept at least.
pub const MIN_ADDR_RESPONSE_LIFETIME: Duration = Duration::from_secs(21 * 60 * 60);
/// By how much longer, at most.
pub const ADDR_RESPONSE_LIFETIME_SPREAD: Duration = Duration::from_secs(6 * 60 * 60);

/// How new an address must be to be told on, and how far in the future it may be.
const NEWS: Duration = Duration::from_secs(10 * 60);
/// A time that no node wrote.
const IMPOSSIBLE_TIME: Time = Duration::from_secs(100_000_000);
/// How old an address is taken to be whose time is impossible.
const UNKNOWN_AGE: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// More addresses in a message than one may have: the peer misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("addr message size = {0}")]
pub struct TooManyAddresses(pub usize);

/// What decides over an address that is told.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Whether too many are dropped: not for peers with the permission `addr`.
    pub rate_limited: bool,
    /// Whether an address is banned or discouraged.
    pub is_kept_out: &'a dyn Fn(&Host) -> bool,
    /// Whether we can connect to its network.
    pub is_reachable: &'a dyn Fn(&Host) -> bool,
}

/// What follows from addresses that a peer told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What the address manager is to have, with a penalty of two hours.
    pub add: Vec<AddressRecord>,
    /// What is to be told on: see [`AddrRelay::targets`].
    pub relay: Vec<AddressRecord>,
    /// Whether this is all we wanted of the peer ([`ConnectionKind::AddrFetch`]).
    pub fetched: bool,
}

/// What is kept of a peer for telling addresses. It is small until there are some.
#[derive(Debug)]
pub struct PeerAddrs {
    kind: ConnectionKind,
    /// Whether addresses are told at all (`m_addr_relay_enabled`).
    enabled: bool,
    wants_addrv2: bool,
    known: RollingBloomFilter,
    to_send: Vec<AddressRecord>,
    getaddr_sent: bool,
    getaddr_received: bool,
    next_send: Time,
    /// None until our own address was first told.
    next_local_send: Option<Time>,
    tokens: f64,
    tokens_at: Time,
    processed: u64,
    rate_limited: u64,
}

impl PeerAddrs {
    /// For a peer that is just connected.
    pub fn new(kind: ConnectionKind, now: Time, rng: &mut (impl Rng + ?Sized)) -> Self {
        Self {
            kind,
            enabled: false,
            wants_addrv2: false,
            known: RollingBloomFilter::new(MAX_ADDR_KNOWN, ADDR_KNOWN_FALSE_POSITIVES, rng.random()),
            to_send: Vec::new(),
            getaddr_sent: false,
            getaddr_received: false,
            next_send: Duration::ZERO,
            next_local_send: None,
            tokens: 1.0,
            tokens_at: now,
            processed: 0,
            rate_limited: 0,
        }
    }

    /// The peer sent `sendaddrv2`.
    pub fn set_wants_addrv2(&mut self) {
        self.wants_addrv2 = true;
    }

    /// Whether it wants `addrv2`.
    pub fn wants_addrv2(&self) -> bool {
        self.wants_addrv2
    }

    /// Whether it is told addresses: `addr_relay_enabled` of `getpeerinfo`.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How many addresses of it were looked at: `addr_processed` of `getpeerinfo`.
    pub fn processed(&self) -> u64 {
        self.processed
    }

    /// How many were dropped because they came too fast: `addr_rate_limited` of `getpeerinfo`.
    pub fn rate_limited(&self) -> u64 {
        self.rate_limited
    }

    /// Begins to tell it addresses, unless that would show who is a peer for blocks alone (`SetupAddressRelay`).
    fn set_up(&mut self) -> bool {
        if matches!(self.kind, ConnectionKind::BlockRelay | ConnectionKind::Feeler) {
            return false;
        }
        self.enabled = true;
        true
    }

    /// After the handshake: whether to send `getaddr`, whose answer may then be long.
    pub fn ask(&mut self) -> bool {
        if self.kind.is_inbound() || !self.set_up() {
            return false;
        }
        self.getaddr_sent = true;
        self.tokens += MAX_ADDR_TO_SEND as f64;
        true
    }

    /// The peer sent `getaddr`: whether it is to be answered, by [`Self::push`] of each of the answer. Only those that
    /// came to us are, once: the others could find us again by addresses that they planted.
    pub fn receive_getaddr(&mut self) -> bool {
        if !self.kind.is_inbound() || !self.set_up() || self.getaddr_received {
            return false;
        }
        self.getaddr_received = true;
        self.to_send.clear();
        true
    }

    fn knows(&self, address: &NetAddress) -> bool {
        self.known.contains(&address.key())
    }

    /// The peer has this address.
    pub fn add_known(&mut self, address: &NetAddress) {
        self.known.insert(&address.key());
    }

    /// Whether it understands what an address is.
    fn is_compatible(&self, host: &Host) -> bool {
        self.wants_addrv2 || host.is_addr_v1_compatible()
    }

    /// An address is to be told, unless the peer knows it. If there are too many already, it takes the place of one
    /// (`PushAddress`).
    pub fn push(&mut self, record: AddressRecord, rng: &mut (impl Rng + ?Sized)) {
        let host = &record.address.host;
        if !self.enabled || !host.is_valid() || !self.is_compatible(host) || self.knows(&record.address) {
            return;
        }
        if self.to_send.len() >= MAX_ADDR_TO_SEND {
            let place = rng.random_range(0..self.to_send.len());
            self.to_send[place] = record;
        } else {
            self.to_send.push(record);
        }
    }

    /// The peer told addresses (`ProcessAddrs`).
    pub fn receive(
        &mut self,
        mut records: Vec<AddressRecord>,
        rules: Rules<'_>,
        now: Time,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Heard, TooManyAddresses> {
        let mut heard = Heard::default();
        if !self.set_up() {
            return Ok(heard);
        }
        let count = records.len();
        if count > MAX_ADDR_TO_SEND {
            return Err(TooManyAddresses(count));
        }
        self.refill(now);
        records.shuffle(rng);
        for mut record in records {
            if self.tokens >= 1.0 {
                self.tokens -= 1.0;
            } else if rules.rate_limited {
                self.rate_limited += 1;
                continue;
            }
            let blocks = ServiceFlags::NETWORK.to_u64() | ServiceFlags::NETWORK_LIMITED.to_u64();
            if record.services.to_u64() & blocks == 0 {
                continue;
            }
            if record.time <= IMPOSSIBLE_TIME || record.time > now + NEWS {
                record.time = now.saturating_sub(UNKNOWN_AGE);
            }
            self.add_known(&record.address);
            let host = &record.address.host;
            if (rules.is_kept_out)(host) {
                continue;
            }
            self.processed += 1;
            let news = record.time + NEWS > now && !self.getaddr_sent && count <= MAX_ADDR_NEWS;
            if news && host.is_routable() {
                heard.relay.push(record);
            }
            if (rules.is_reachable)(host) {
                heard.add.push(record);
            }
        }
        // A full message may be followed by more of the answer.
        if count < MAX_ADDR_TO_SEND {
            self.getaddr_sent = false;
        }
        // One address is the peer's own, and no answer.
        heard.fetched = self.kind == ConnectionKind::AddrFetch && count > 1;
        Ok(heard)
    }

    /// What the peer may send grows with time.
    fn refill(&mut self, now: Time) {
        if self.tokens < MAX_ADDR_PROCESSING_TOKEN_BUCKET {
            let grown = now.saturating_sub(self.tokens_at).as_secs_f64() * MAX_ADDR_RATE_PER_SECOND;
            self.tokens = (self.tokens + grown).min(MAX_ADDR_PROCESSING_TOKEN_BUCKET);
        }
        self.tokens_at = now;
    }

    /// Whether [`Self::announce`] is due, if we listen and have the chain.
    pub fn is_announcement_due(&self, now: Time) -> bool {
        self.enabled && self.next_local_send.is_none_or(|next| next < now)
    }

    /// Tells the peer our own address, if we have one, when it is due. The first time it is returned, to be sent at once
    /// in a message of its own: the peer lets one address in before others. Later it goes with the others.
    pub fn announce(
        &mut self,
        own: Option<AddressRecord>,
        now: Time,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<AddressRecord> {
        if !self.is_announcement_due(now) {
            return None;
        }
        let is_first = self.next_local_send.is_none();
        self.next_local_send = Some(now + rand_exp(AVG_LOCAL_ADDRESS_BROADCAST_INTERVAL, rng));
        if is_first {
            return own.filter(|own| self.is_compatible(&own.address.host));
        }
        // It was told before; else it would not be told again.
        self.known.reset();
        if let Some(own) = own {
            self.push(own, rng);
        }
        None
    }

    /// Addresses that are to be sent now, in one message; most times there are none. They are all ones that `addr` can
    /// carry unless the peer wants `addrv2` (`MaybeSendAddr`).
    pub fn take_due(&mut self, now: Time, rng: &mut (impl Rng + ?Sized)) -> Vec<AddressRecord> {
        if !self.enabled || now <= self.next_send {
            return Vec::new();
        }
        self.next_send = now + rand_exp(AVG_ADDRESS_BROADCAST_INTERVAL, rng);
        // Its place goes too: the answer to `getaddr` is long, and all others are short.
        let mut due = std::mem::take(&mut self.to_send);
        due.retain(|record| {
            let is_news = !self.knows(&record.address);
            if is_news {
                self.add_known(&record.address);
            }
            is_news
        });
        due
    }
}

/// An answer to `getaddr`.
#[derive(Debug)]
struct Response {
    expires: Time,
    records: Vec<AddressRecord>,
}

/// What is kept of all peers together for telling addresses.
#[derive(Debug)]
pub struct AddrRelay {
    /// Nobody may know to whom an address is told on.
    key: (u64, u64),
    responses: BTreeMap<(Net, NetAddress), Response>,
}

impl AddrRelay {
    /// With keys that `rng` makes.
    pub fn new(rng: &mut (impl Rng + ?Sized)) -> Self {
        Self { key: rng.random(), responses: BTreeMap::new() }
    }

    /// To whom an address is told on that came from `originator`: two of those who are told addresses, or sometimes one
    /// if we cannot reach it ourselves. They are the same for 24 hours if the peers are (`RelayAddress`).
    pub fn targets<'a>(
        &self,
        address: &NetAddress,
        is_reachable: bool,
        originator: PeerId,
        now: Time,
        peers: impl IntoIterator<Item = (PeerId, &'a PeerAddrs)>,
    ) -> Vec<PeerId> {
        if !is_reachable && !address.host.is_relayable() {
            return Vec::new();
        }
        let hash_address = siphash24::Hash::hash_to_u64_with_keys(0, 0, &address.key());
        // The hash makes the time of change another for each address.
        let day = now.as_secs().wrapping_add(hash_address) / ROTATE_ADDR_RELAY_DEST_INTERVAL.as_secs();
        let hash = |peer: &[u8]| {
            let bytes = [&hash_address.to_le_bytes()[..], &day.to_le_bytes(), peer].concat();
            siphash24::Hash::hash_to_u64_with_keys(self.key.0, self.key.1, &bytes)
        };
        let count = if is_reachable || hash(&[]) & 1 == 1 { MAX_ADDR_RELAY_PEERS } else { 1 };
        let mut best: Vec<(u64, PeerId)> = Vec::with_capacity(count + 1);
        for (id, peer) in peers {
            if peer.enabled && id != originator && peer.is_compatible(&address.host) {
                best.push((hash(&id.0.to_le_bytes()), id));
                best.sort_unstable_by(|a, b| b.cmp(a));
                best.truncate(count);
            }
        }
        best.into_iter().map(|(_, id)| id).collect()
    }

    /// The answer to `getaddr` of a peer that came by `network` to our socket `bound`. It is what `draw` draws for 21 to
    /// 27 hours (`GetAddresses`): who asks often learns no more, and who asks elsewhere does not see that it is us.
    pub fn response(
        &mut self,
        network: Net,
        bound: NetAddress,
        now: Time,
        rng: &mut (impl Rng + ?Sized),
        draw: impl FnOnce() -> Vec<AddressRecord>,
    ) -> &[AddressRecord] {
        let key = (network, bound);
        self.responses.retain(|other, response| *other == key || response.expires >= now);
        if !self.responses.contains_key(&key) && self.responses.len() >= MAX_ADDR_RESPONSE_CACHES {
            let first = self.responses.iter().min_by_key(|(_, response)| response.expires).map(|(key, _)| *key);
            first.map(|first| self.responses.remove(&first));
        }
        let response = self.responses.entry(key).or_insert(Response { expires: Duration::ZERO, records: Vec::new() });
        if response.expires < now {
            response.records = draw();
            response.expires = now
                + MIN_ADDR_RESPONSE_LIFETIME
                + Duration::from_micros(rng.random_range(0..ADDR_RESPONSE_LIFETIME_SPREAD.as_micros() as u64));
        }
        &response.records
    }
}

#[cfg(test)]
#[path = "addrrelay_tests.rs"]
mod tests;
