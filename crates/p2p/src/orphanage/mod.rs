//! Transactions whose parents are not known yet: Core's `TxOrphanage`.
//!
//! An orphan cannot be told from nonsense, so that what a peer may have kept is bounded: there is room for so much
//! weight a peer, and for so many announcements and inputs of all peers together, of which each has an equal share. A
//! peer may use what others leave free. When there is no room, the peer that exceeds its share most loses its oldest
//! announcement; a peer within its share loses nothing, whatever others do. An orphan stays while one of those who
//! announced it has it.

#[cfg(test)]
mod tests;

use crate::limits::{MAX_ORPHAN_WEIGHT, MAX_ORPHANAGE_LATENCY_SCORE, RESERVED_ORPHAN_WEIGHT_PER_PEER};
use crate::types::{PeerId, RelayTx};
use bitcoin::{OutPoint, Transaction, Txid, Wtxid};
use rand::{Rng, RngExt};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, hash_map};

/// An orphan, and who announced it.
#[derive(Debug)]
struct Orphan {
    tx: RelayTx,
    cost: Cost,
    /// The order in which each announced it.
    announcers: BTreeMap<PeerId, u64>,
    /// In whose work set it is.
    reconsider: Option<PeerId>,
}

/// What an announcement counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    /// Weight, which is more than the memory that it takes.
    usage: u64,
    /// What it adds to the time that changes take: one, and one for each ten inputs.
    latency: u64,
}

/// What is kept for one peer. There is none without orphans.
#[derive(Debug, Default)]
struct PeerInfo {
    total: Cost,
    /// In which order they go: what is to be reconsidered last, otherwise as they came.
    announced: BTreeMap<(bool, u64), Wtxid>,
}

/// How much of its share a peer uses: above one is too much. By ratio; of equal ones that of the lesser share is
/// greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DosScore {
    used: u64,
    share: u64,
}

impl Ord for DosScore {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let ratio = cross(self.used, other.share).cmp(&cross(other.used, self.share));
        ratio.then(other.share.cmp(&self.share))
    }
}

impl PartialOrd for DosScore {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An orphan as it is told outside (Core's `OrphanInfo`).
#[derive(Debug, Clone)]
pub struct OrphanInfo {
    /// The transaction.
    pub tx: RelayTx,
    /// Who announced it.
    pub announcers: Vec<PeerId>,
}

/// Core's `TxOrphanage`.
#[derive(Debug)]
pub struct TxOrphanage {
    max_global_latency_score: u64,
    reserved_peer_usage: u64,
    next_sequence: u64,
    orphans: BTreeMap<Wtxid, Orphan>,
    peers: HashMap<PeerId, PeerInfo>,
    /// Which orphans spend an output.
    spenders: HashMap<OutPoint, BTreeSet<Wtxid>>,
    announcements: usize,
    /// Weight of all, each counted once.
    usage: u64,
    /// Tenths of inputs of all, each counted once.
    input_scores: u64,
}

impl Default for TxOrphanage {
    fn default() -> Self {
        Self::new(MAX_ORPHANAGE_LATENCY_SCORE, RESERVED_ORPHAN_WEIGHT_PER_PEER)
    }
}

impl TxOrphanage {
    /// An empty orphanage with other bounds than Core's.
    pub fn new(max_global_latency_score: u64, reserved_peer_usage: u64) -> Self {
        Self {
            max_global_latency_score,
            reserved_peer_usage,
            next_sequence: 0,
            orphans: BTreeMap::new(),
            peers: HashMap::new(),
            spenders: HashMap::new(),
            announcements: 0,
            usage: 0,
            input_scores: 0,
        }
    }

    /// Keeps an orphan that a peer sent, or the peer as another that announced it. Returns whether the orphan is new;
    /// one larger than [`MAX_ORPHAN_WEIGHT`] is not taken. It may be gone again, for want of room.
    pub fn add_tx(&mut self, tx: &RelayTx, peer: PeerId) -> bool {
        if self.orphans.contains_key(&tx.wtxid) {
            self.add_announcer(&tx.wtxid, peer);
            return false;
        }
        let usage = tx.tx.weight().to_wu();
        if usage > MAX_ORPHAN_WEIGHT {
            return false;
        }
        let cost = Cost { usage, latency: 1 + tx.tx.input.len() as u64 / 10 };
        self.usage += cost.usage;
        self.input_scores += cost.latency - 1;
        for input in &tx.tx.input {
            self.spenders.entry(input.previous_output).or_default().insert(tx.wtxid);
        }
        let orphan = Orphan { tx: tx.clone(), cost, announcers: BTreeMap::new(), reconsider: None };
        self.orphans.insert(tx.wtxid, orphan);
        self.add_announcer(&tx.wtxid, peer);
        true
    }

    /// Notes that another peer announced an orphan. Returns whether that is new.
    pub fn add_announcer(&mut self, wtxid: &Wtxid, peer: PeerId) -> bool {
        let Some(orphan) = self.orphans.get_mut(wtxid) else { return false };
        if orphan.announcers.contains_key(&peer) {
            return false;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        orphan.announcers.insert(peer, sequence);
        let info = self.peers.entry(peer).or_default();
        info.total.usage += orphan.cost.usage;
        info.total.latency += orphan.cost.latency;
        info.announced.insert((false, sequence), *wtxid);
        self.announcements += 1;
        self.limit_orphans();
        true
    }

    /// An orphan.
    pub fn get_tx(&self, wtxid: &Wtxid) -> Option<&RelayTx> {
        self.orphans.get(wtxid).map(|orphan| &orphan.tx)
    }

    /// Whether there is an orphan.
    pub fn have_tx(&self, wtxid: &Wtxid) -> bool {
        self.orphans.contains_key(wtxid)
    }

    /// Whether there is an orphan that a peer announced.
    pub fn have_tx_from_peer(&self, wtxid: &Wtxid, peer: PeerId) -> bool {
        self.orphans.get(wtxid).is_some_and(|orphan| orphan.announcers.contains_key(&peer))
    }

    /// Takes an orphan out of a peer's work set. It stays an orphan.
    pub fn get_tx_to_reconsider(&mut self, peer: PeerId) -> Option<RelayTx> {
        let info = self.peers.get_mut(&peer)?;
        let (&(_, sequence), &wtxid) = info.announced.range((true, 0)..).next()?;
        info.announced.remove(&(true, sequence));
        info.announced.insert((false, sequence), wtxid);
        let orphan = self.orphans.get_mut(&wtxid)?;
        orphan.reconsider = None;
        Some(orphan.tx.clone())
    }

    /// Whether a peer's work set holds anything.
    pub fn have_tx_to_reconsider(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|info| info.announced.range((true, 0)..).next().is_some())
    }

    /// Removes an orphan. Returns whether there was one.
    pub fn erase_tx(&mut self, wtxid: &Wtxid) -> bool {
        let erased = self.erase_unlimited(wtxid);
        // With a peer goes the room that it had.
        self.limit_orphans();
        erased
    }

    /// Removes a peer, and what only it announced.
    pub fn erase_for_peer(&mut self, peer: PeerId) {
        let Some(info) = self.peers.get(&peer) else { return };
        let wtxids: Vec<Wtxid> = info.announced.values().copied().collect();
        for wtxid in wtxids {
            self.erase_announcement(&wtxid, peer);
        }
        self.limit_orphans();
    }

    /// Removes orphans that a block confirms or conflicts with.
    pub fn erase_for_block(&mut self, txdata: &[Transaction]) {
        if self.orphans.is_empty() {
            return;
        }
        let inputs = txdata.iter().flat_map(|tx| &tx.input);
        let spenders = inputs.filter_map(|input| self.spenders.get(&input.previous_output));
        let gone: BTreeSet<Wtxid> = spenders.flatten().copied().collect();
        for wtxid in gone {
            self.erase_unlimited(&wtxid);
        }
        self.limit_orphans();
    }

    /// A transaction is here: puts each orphan that spends it into the work set of one who announced it, by chance, so
    /// that a peer cannot hold back what others announced too. Returns which, and whose.
    pub fn add_children_to_work_set(
        &mut self,
        parent: &RelayTx,
        rng: &mut (impl Rng + ?Sized),
    ) -> Vec<(Wtxid, PeerId)> {
        let mut added = Vec::new();
        for vout in 0..parent.tx.output.len() as u32 {
            for wtxid in self.spenders.get(&OutPoint { txid: parent.txid, vout }).into_iter().flatten() {
                let Some(orphan) = self.orphans.get_mut(wtxid).filter(|orphan| orphan.reconsider.is_none()) else {
                    continue;
                };
                let chosen = rng.random_range(0..orphan.announcers.len().max(1));
                let Some((&peer, &sequence)) = orphan.announcers.iter().nth(chosen) else { continue };
                orphan.reconsider = Some(peer);
                if let Some(info) = self.peers.get_mut(&peer) {
                    info.announced.remove(&(false, sequence));
                    info.announced.insert((true, sequence), *wtxid);
                }
                added.push((*wtxid, peer));
            }
        }
        added
    }

    /// Orphans of a peer that spend a transaction: those to be reconsidered first, then the latest first.
    pub fn get_children_from_same_peer(&self, parent: &Txid, peer: PeerId) -> Vec<RelayTx> {
        let Some(info) = self.peers.get(&peer) else { return Vec::new() };
        let orphans = info.announced.values().rev().filter_map(|wtxid| self.get_tx(wtxid));
        orphans
            .filter(|orphan| orphan.tx.input.iter().any(|input| input.previous_output.txid == *parent))
            .cloned()
            .collect()
    }

    /// All orphans, ordered by wtxid.
    pub fn get_orphan_transactions(&self) -> Vec<OrphanInfo> {
        let orphans = self.orphans.values();
        orphans
            .map(|orphan| OrphanInfo { tx: orphan.tx.clone(), announcers: orphan.announcers.keys().copied().collect() })
            .collect()
    }

    /// Weight of all orphans.
    pub fn total_orphan_usage(&self) -> u64 {
        self.usage
    }

    /// Weight of all orphans that a peer announced.
    pub fn usage_by_peer(&self, peer: PeerId) -> u64 {
        self.peers.get(&peer).map_or(0, |info| info.total.usage)
    }

    /// Announcements, of all orphans by all peers.
    pub fn count_announcements(&self) -> usize {
        self.announcements
    }

    /// Orphans.
    pub fn count_unique_orphans(&self) -> usize {
        self.orphans.len()
    }

    /// Orphans that a peer announced.
    pub fn announcements_from_peer(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |info| info.announced.len())
    }

    /// A peer's part of the latency score.
    pub fn latency_score_from_peer(&self, peer: PeerId) -> u64 {
        self.peers.get(&peer).map_or(0, |info| info.total.latency)
    }

    /// All announcements, and a tenth of all inputs.
    pub fn total_latency_score(&self) -> u64 {
        self.announcements as u64 + self.input_scores
    }

    /// The latency score up to which a peer loses nothing: its share, which is the less the more peers there are.
    pub fn max_peer_latency_score(&self) -> u64 {
        self.max_global_latency_score / (self.peers.len() as u64).max(1)
    }

    /// Weight that there is room for: the more the more peers there are.
    pub fn max_global_usage(&self) -> u64 {
        self.reserved_peer_usage.saturating_mul((self.peers.len() as u64).max(1))
    }

    fn needs_trim(&self) -> bool {
        self.total_latency_score() > self.max_global_latency_score || self.usage > self.max_global_usage()
    }

    /// Takes from those who use more than their share until there is room.
    fn limit_orphans(&mut self) {
        if !self.needs_trim() {
            return;
        }
        // The share stays what it was, though peers may go meanwhile.
        let share = Cost { usage: self.reserved_peer_usage.max(1), latency: self.max_peer_latency_score().max(1) };
        const WITHIN: DosScore = DosScore { used: 1, share: 1 };
        let scores = self.peers.iter().map(|(peer, info)| (info.dos_score(share), *peer));
        // If there is no room, somebody exceeds a share. Of equals the newest peer is the worst.
        let mut worst: BinaryHeap<(DosScore, PeerId)> = scores.filter(|(score, _)| score.used > score.share).collect();
        while let Some((_, peer)) = worst.pop() {
            let threshold = worst.peek().map_or(WITHIN, |(score, _)| *score);
            // Until it is not the worst any more.
            let remaining = loop {
                let Some(oldest) = self.peers.get(&peer).and_then(|info| info.announced.values().next().copied())
                else {
                    break None;
                };
                self.erase_announcement(&oldest, peer);
                let Some(score) = self.peers.get(&peer).map(|info| info.dos_score(share)) else { break None };
                if score <= threshold || !self.needs_trim() {
                    break Some(score);
                }
            };
            if !self.needs_trim() {
                return;
            }
            worst.extend(remaining.map(|score| (score, peer)));
        }
    }

    /// Removes an orphan and all its announcements; there may be too much left then.
    fn erase_unlimited(&mut self, wtxid: &Wtxid) -> bool {
        let Some(orphan) = self.orphans.get(wtxid) else { return false };
        let announcers: Vec<PeerId> = orphan.announcers.keys().copied().collect();
        for peer in announcers {
            self.erase_announcement(wtxid, peer);
        }
        true
    }

    /// Removes an announcement, with its orphan if it was the last, and with its peer.
    fn erase_announcement(&mut self, wtxid: &Wtxid, peer: PeerId) {
        let Some(orphan) = self.orphans.get_mut(wtxid) else { return };
        let Some(sequence) = orphan.announcers.remove(&peer) else { return };
        self.announcements -= 1;
        let reconsidered = orphan.reconsider == Some(peer);
        if reconsidered {
            orphan.reconsider = None;
        }
        if let hash_map::Entry::Occupied(mut entry) = self.peers.entry(peer) {
            let info = entry.get_mut();
            info.total.usage -= orphan.cost.usage;
            info.total.latency -= orphan.cost.latency;
            info.announced.remove(&(reconsidered, sequence));
            if info.announced.is_empty() {
                entry.remove();
            }
        }
        if !orphan.announcers.is_empty() {
            return;
        }
        self.usage -= orphan.cost.usage;
        self.input_scores -= orphan.cost.latency - 1;
        let Some(orphan) = self.orphans.remove(wtxid) else { return };
        for input in &orphan.tx.tx.input {
            if let hash_map::Entry::Occupied(mut entry) = self.spenders.entry(input.previous_output) {
                entry.get_mut().remove(wtxid);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
    }
}

impl PeerInfo {
    fn dos_score(&self, share: Cost) -> DosScore {
        let latency = DosScore { used: self.total.latency, share: share.latency };
        latency.max(DosScore { used: self.total.usage, share: share.usage })
    }
}
