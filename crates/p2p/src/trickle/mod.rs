//! Which transactions are announced to a peer, and when: not at once, lest it tell where they come from.
//!
//! Announcements are gathered and sent at times that nobody can foretell: every two seconds on average to an outbound
//! peer, every five to inbound ones, all at the same time, so that nobody learns more by connecting often. What pays
//! best goes first, so many at a time as the network carries.

#[cfg(test)]
mod tests;

use crate::limits::{INVENTORY_BROADCAST_MAX, INVENTORY_BROADCAST_TARGET};
use crate::poisson::rand_exp;
use crate::rolling::RollingBloomFilter;
use crate::types::{GenTxid, Time, TxHash};
use bitcoin::{Txid, Wtxid};
use cairn_consensus::tx::MAX_MONEY;
use rand::Rng;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Average time between announcements to inbound peers (`INBOUND_INVENTORY_BROADCAST_INTERVAL`).
pub const INBOUND_INVENTORY_BROADCAST_INTERVAL: Duration = Duration::from_secs(5);
/// Average time between announcements to an outbound peer (`OUTBOUND_INVENTORY_BROADCAST_INTERVAL`).
pub const OUTBOUND_INVENTORY_BROADCAST_INTERVAL: Duration = Duration::from_secs(2);

/// Ids that a peer is remembered to know.
const KNOWN_INVENTORY: u32 = 50_000;
const FALSE_POSITIVES: f64 = 0.000_001;

/// What is to be known of a transaction to announce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayInfo {
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// Its fee in satoshi.
    pub fee: u64,
    /// Its virtual size.
    pub vsize: u64,
}

/// What is asked of the mempool.
pub trait RelayMempool {
    /// A counter that grows with every transaction that comes or goes (Core's `GetSequence`).
    fn sequence(&self) -> u64;
    /// A transaction that is there.
    fn relay_info(&self, wtxid: &Wtxid) -> Option<RelayInfo>;
    /// Brings transactions into the order in which they would be mined, parents before children, and takes out those
    /// that are not there.
    fn sort_for_announcement(&self, wtxids: &mut Vec<Wtxid>);
    /// All, in that order.
    fn all(&self) -> Vec<RelayInfo>;
}

/// When inbound peers hear something: all of a network at once.
#[derive(Debug, Default)]
pub struct InboundTimers {
    next: HashMap<u64, Time>,
}

impl InboundTimers {
    /// The next time for inbound peers of a network (Core's `NextInvToInbounds`). There are few keys: a network and an
    /// own address each (Core's `m_network_key`).
    pub fn next_inv_to_inbounds(&mut self, now: Time, network_key: u64, rng: &mut (impl Rng + ?Sized)) -> Time {
        let timer = self.next.entry(network_key).or_default();
        if *timer < now {
            *timer = now + rand_exp(INBOUND_INVENTORY_BROADCAST_INTERVAL, rng);
        }
        *timer
    }
}

/// How a peer is announced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayPeer {
    /// By wtxid (BIP 339), or by txid.
    pub wtxid_relay: bool,
    /// The network key of an inbound peer.
    pub inbound: Option<u64>,
    /// It hears everything at once (`noban` permission).
    pub noban: bool,
    /// It wants transactions at all (`version`'s `relay`).
    pub relay_txs: bool,
}

/// What one peer is and was told: Core's `Peer::TxRelay`. There is none for block-relay-only connections.
#[derive(Debug)]
pub struct TxRelay {
    peer: RelayPeer,
    /// By the kind of id that the peer uses.
    known: RollingBloomFilter,
    to_send: BTreeSet<Wtxid>,
    send_mempool: bool,
    /// Zero before the first time.
    next_inv_send_time: Time,
    last_inv_sequence: u64,
    /// Satoshi for 1,000 vbytes.
    fee_filter_received: u64,
}

impl TxRelay {
    /// A peer that was told nothing. The seed is secret and random.
    pub fn new(peer: RelayPeer, seed: u64) -> Self {
        Self {
            peer,
            known: RollingBloomFilter::new(KNOWN_INVENTORY, FALSE_POSITIVES, seed),
            to_send: BTreeSet::new(),
            send_mempool: false,
            next_inv_send_time: Time::ZERO,
            last_inv_sequence: 1,
            fee_filter_received: 0,
        }
    }

    /// The peer knows a transaction: it announced it, sent it, or will be asked for it (Core's `AddKnownTx`).
    pub fn add_known_tx(&mut self, hash: &TxHash) {
        self.known.insert(hash);
    }

    /// A transaction is to be announced, unless the peer knows it. Before the first time to announce nothing is
    /// gathered, so that nobody learns by connecting what came meanwhile.
    pub fn initiate_tx_broadcast(&mut self, txid: &Txid, wtxid: &Wtxid) {
        if self.next_inv_send_time == Time::ZERO {
            return;
        }
        if !self.known.contains(&self.id(txid, wtxid).to_hash()) {
            self.to_send.insert(*wtxid);
        }
    }

    /// The peer asked for all there is (BIP 35). It hears it the next time.
    pub fn request_mempool(&mut self) {
        self.send_mempool = true;
    }

    /// The peer wants nothing that pays less (BIP 133), in satoshi for 1,000 vbytes. What is no amount of money is
    /// ignored.
    pub fn set_fee_filter(&mut self, rate: i64) {
        if let Ok(rate) = u64::try_from(rate)
            && rate <= MAX_MONEY
        {
            self.fee_filter_received = rate;
        }
    }

    /// What the peer wants at least, in satoshi for 1,000 vbytes.
    pub fn fee_filter_received(&self) -> u64 {
        self.fee_filter_received
    }

    /// Transactions that wait to be announced (`inv_to_send`).
    pub fn inv_to_send(&self) -> usize {
        self.to_send.len()
    }

    /// The mempool's sequence when something was announced last (`last_inv_sequence`).
    pub fn last_inv_sequence(&self) -> u64 {
        self.last_inv_sequence
    }

    /// After this time there is something to do, with [`Self::announcements`].
    pub fn next_inv_send_time(&self) -> Time {
        self.next_inv_send_time
    }

    /// Whether the peer may have a transaction of the mempool that came at a sequence of it (Core's `info_for_relay`):
    /// only what came before the last announcements, lest it learn by asking when something came. It may have those of
    /// the latest block too.
    pub fn may_fetch(&self, entry_sequence: u64) -> bool {
        entry_sequence < self.last_inv_sequence
    }

    /// What to announce now (`inv`), in order; the caller splits it into messages. To be called once
    /// [`Self::next_inv_send_time`] has passed, or as often as one likes.
    pub fn announcements(
        &mut self,
        now: Time,
        mempool: &impl RelayMempool,
        timers: &mut InboundTimers,
        rng: &mut (impl Rng + ?Sized),
    ) -> Vec<GenTxid> {
        let is_time = self.next_inv_send_time < now;
        if is_time {
            self.next_inv_send_time = match self.peer.inbound {
                Some(network_key) => timers.next_inv_to_inbounds(now, network_key, rng),
                None => now + rand_exp(OUTBOUND_INVENTORY_BROADCAST_INTERVAL, rng),
            };
        }
        if !is_time && !self.peer.noban {
            return Vec::new();
        }
        if !self.peer.relay_txs {
            self.to_send.clear();
        }
        let mut announced = Vec::new();
        if std::mem::take(&mut self.send_mempool) {
            self.announce_mempool(mempool, &mut announced);
        }
        if !self.to_send.is_empty() {
            self.announce_waiting(mempool, &mut announced);
        }
        self.last_inv_sequence = mempool.sequence();
        announced
    }

    fn announce_mempool(&mut self, mempool: &impl RelayMempool, announced: &mut Vec<GenTxid>) {
        for info in mempool.all() {
            self.to_send.remove(&info.wtxid);
            if self.pays_enough(&info) {
                let id = self.id(&info.txid, &info.wtxid);
                self.known.insert(&id.to_hash());
                announced.push(id);
            }
        }
    }

    fn announce_waiting(&mut self, mempool: &impl RelayMempool, announced: &mut Vec<GenTxid>) {
        let mut waiting: Vec<Wtxid> = self.to_send.iter().copied().collect();
        let most = (INVENTORY_BROADCAST_TARGET + waiting.len() / 1000 * 5).min(INVENTORY_BROADCAST_MAX);
        mempool.sort_for_announcement(&mut waiting);
        let mut relayed = 0;
        let mut waiting = waiting.into_iter();
        while relayed < most
            && let Some(wtxid) = waiting.next()
        {
            let Some(info) = mempool.relay_info(&wtxid) else { continue };
            let id = self.id(&info.txid, &wtxid);
            if !self.known.contains(&id.to_hash()) && self.pays_enough(&info) {
                self.known.insert(&id.to_hash());
                announced.push(id);
                relayed += 1;
            }
        }
        self.to_send = waiting.collect();
    }

    fn id(&self, txid: &Txid, wtxid: &Wtxid) -> GenTxid {
        if self.peer.wtxid_relay { GenTxid::Wtxid(*wtxid) } else { GenTxid::Txid(*txid) }
    }

    fn pays_enough(&self, info: &RelayInfo) -> bool {
        let least = (u128::from(self.fee_filter_received) * u128::from(info.vsize)).div_ceil(1000);
        u128::from(info.fee) >= least
    }
}
