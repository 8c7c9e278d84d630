//! Which transaction is asked of which peer, and when: Core's `TxRequestTracker`.
//!
//! Peers announce transactions; for each there is one request at a time. A peer is asked only after its announcement's
//! `reqtime`, once, and the next one only when that failed: it answered `notfound`, sent something useless, or let the
//! request expire. Preferred peers are asked first; among equals a salted hash of peer and transaction decides, so that
//! nobody gains by being first or by announcing often. An announcement that failed is remembered while others for the
//! same transaction are not done, so that no peer gets a second chance.

#[cfg(test)]
mod tests;

use crate::types::{GenTxid, PeerId, Time, TxHash};
use bitcoin::hashes::{HashEngine, siphash24};
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};

/// What becomes of an announcement. At most one of a transaction's is `Best` or `Requested`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its `reqtime` has not come (`CANDIDATE_DELAYED`).
    Delayed,
    /// It could be asked for, but another is better or under way (`CANDIDATE_READY`).
    Ready,
    /// It is to be asked for now (`CANDIDATE_BEST`).
    Best,
    /// It was asked for, until it expires (`REQUESTED`).
    Requested,
    /// It failed (`COMPLETED`).
    Completed,
}

/// One peer's announcement of one transaction.
#[derive(Debug, Clone)]
struct Announcement {
    peer: PeerId,
    /// When to ask, or when the request expires.
    time: Time,
    sequence: u64,
    is_wtxid: bool,
    preferred: bool,
    state: State,
}

impl Announcement {
    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Delayed | State::Requested)
    }

    fn is_selected(&self) -> bool {
        matches!(self.state, State::Best | State::Requested)
    }
}

/// What is known of one peer. There is none without announcements.
#[derive(Debug, Default)]
struct PeerInfo {
    /// All its announcements, in their order.
    announced: BTreeMap<u64, TxHash>,
    /// Those that are `Best`.
    best: BTreeSet<u64>,
    requested: usize,
    completed: usize,
}

/// Core's `TxRequestTracker`. Bounds on announcements are its caller's, by [`TxRequestTracker::count`].
#[derive(Debug)]
pub struct TxRequestTracker {
    keys: (u64, u64),
    next_sequence: u64,
    /// A transaction's announcements: no more than there are peers.
    by_hash: HashMap<TxHash, Vec<Announcement>>,
    peers: HashMap<PeerId, PeerInfo>,
    /// Those that wait, by when it ends and their sequence.
    waiting: BTreeMap<(Time, u64), (TxHash, PeerId)>,
    now: Time,
    size: usize,
}

impl TxRequestTracker {
    /// An empty tracker. What peers may not foretell is salted from `rng`.
    pub fn new(rng: &mut (impl Rng + ?Sized)) -> Self {
        Self {
            keys: rng.random(),
            next_sequence: 0,
            by_hash: HashMap::new(),
            peers: HashMap::new(),
            waiting: BTreeMap::new(),
            now: Time::ZERO,
            size: 0,
        }
    }

    /// A peer announced a transaction, and may be asked for it from `reqtime` on. Does nothing if the peer has
    /// announced the same hash already, as whichever kind of id.
    pub fn received_inv(&mut self, peer: PeerId, gtxid: GenTxid, preferred: bool, reqtime: Time) {
        let hash = gtxid.to_hash();
        let announcements = self.by_hash.entry(hash).or_default();
        if announcements.iter().any(|known| known.peer == peer) {
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let is_wtxid = matches!(gtxid, GenTxid::Wtxid(_));
        announcements.push(Announcement { peer, time: reqtime, sequence, is_wtxid, preferred, state: State::Delayed });
        self.peers.entry(peer).or_default().announced.insert(sequence, hash);
        self.waiting.insert((reqtime, sequence), (hash, peer));
        self.size += 1;
    }

    /// A peer is gone: forgets all that it announced.
    pub fn disconnected_peer(&mut self, peer: PeerId) {
        let Some(info) = self.peers.get(&peer) else { return };
        let hashes: Vec<TxHash> = info.announced.values().copied().collect();
        for hash in hashes {
            if self.make_completed(&hash, peer) {
                self.erase(&hash, peer);
            }
        }
    }

    /// A transaction is not needed any more, or is here: forgets its announcements.
    pub fn forget_tx_hash(&mut self, hash: &TxHash) {
        for announcement in self.by_hash.remove(hash).unwrap_or_default() {
            self.unindex(&announcement);
        }
    }

    /// What is to be asked of a peer now, in the order in which it was announced, and which requests have expired.
    ///
    /// The caller tells of each with [`Self::requested_tx`] or [`Self::forget_tx_hash`].
    pub fn get_requestable(&mut self, peer: PeerId, now: Time) -> (Vec<GenTxid>, Vec<(PeerId, GenTxid)>) {
        let expired = self.set_time_point(now);
        let Some(info) = self.peers.get(&peer) else { return (Vec::new(), expired) };
        let hashes = info.best.iter().filter_map(|sequence| info.announced.get(sequence));
        let requestable = hashes.filter_map(|hash| {
            let own = self.by_hash.get(hash)?.iter().find(|announcement| announcement.peer == peer)?;
            Some(gen_txid(hash, own.is_wtxid))
        });
        (requestable.collect(), expired)
    }

    /// A peer was asked for a transaction, which it has until `expiry` to answer. Another request for it that is under
    /// way has failed. Does nothing if the peer did not announce it, or was asked already.
    pub fn requested_tx(&mut self, peer: PeerId, hash: &TxHash, expiry: Time) {
        let Some((place, state)) = self.find(hash, peer) else { return };
        if matches!(state, State::Requested | State::Completed) {
            return;
        }
        let selected = self.by_hash.get(hash).and_then(|all| all.iter().position(Announcement::is_selected));
        if let Some(other) = selected.filter(|other| *other != place) {
            let was_requested = self.by_hash[hash][other].state == State::Requested;
            self.modify(hash, other, if was_requested { State::Completed } else { State::Ready }, None);
        }
        self.modify(hash, place, State::Requested, Some(expiry));
    }

    /// A peer answered, with the transaction or with `notfound`. The next candidate's turn comes.
    pub fn received_response(&mut self, peer: PeerId, hash: &TxHash) {
        self.make_completed(hash, peer);
    }

    /// A peer's requests under way.
    pub fn count_in_flight(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |info| info.requested)
    }

    /// What a peer could yet be asked for.
    pub fn count_candidates(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |info| info.announced.len() - info.requested - info.completed)
    }

    /// All a peer's announcements.
    pub fn count(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |info| info.announced.len())
    }

    /// All announcements.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Peers whose announcements of a transaction have not failed.
    pub fn get_candidate_peers(&self, hash: &TxHash) -> Vec<PeerId> {
        let announcements = self.by_hash.get(hash).into_iter().flatten();
        announcements.filter(|known| known.state != State::Completed).map(|known| known.peer).collect()
    }

    /// Higher is asked first.
    fn priority(&self, hash: &TxHash, peer: PeerId, preferred: bool) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.keys.0, self.keys.1);
        engine.input(hash);
        engine.input(&peer.0.to_le_bytes());
        siphash24::Hash::from_engine_to_u64(engine) >> 1 | u64::from(preferred) << 63
    }

    fn find(&self, hash: &TxHash, peer: PeerId) -> Option<(usize, State)> {
        let announcements = self.by_hash.get(hash)?;
        let place = announcements.iter().position(|known| known.peer == peer)?;
        Some((place, announcements[place].state))
    }

    /// Moves all to a point in time: what waited for it is ready or has failed. If the clock went back, what was ready
    /// waits again.
    fn set_time_point(&mut self, now: Time) -> Vec<(PeerId, GenTxid)> {
        let mut expired = Vec::new();
        while let Some((&(time, _), &(hash, peer))) = self.waiting.first_key_value()
            && time <= now
        {
            let Some((place, state)) = self.find(&hash, peer) else { break };
            if state == State::Requested {
                expired.push((peer, gen_txid(&hash, self.by_hash[&hash][place].is_wtxid)));
                self.make_completed(&hash, peer);
            } else {
                self.modify(&hash, place, State::Ready, None);
                self.select_best(&hash);
            }
        }
        if now < self.now {
            let ahead = |known: &Announcement| matches!(known.state, State::Ready | State::Best) && known.time > now;
            let hashes: Vec<TxHash> =
                self.by_hash.iter().filter(|(_, all)| all.iter().any(ahead)).map(|(hash, _)| *hash).collect();
            for hash in hashes {
                while let Some(place) = self.by_hash[&hash].iter().position(ahead) {
                    self.modify(&hash, place, State::Delayed, None);
                }
                self.select_best(&hash);
            }
        }
        self.now = now;
        expired
    }

    /// Makes the best of those that are ready `Best`, unless one is requested.
    fn select_best(&mut self, hash: &TxHash) {
        let Some(announcements) = self.by_hash.get(hash) else { return };
        if announcements.iter().any(|known| known.state == State::Requested) {
            return;
        }
        let ready =
            announcements.iter().enumerate().filter(|(_, known)| matches!(known.state, State::Ready | State::Best));
        let best =
            ready.max_by_key(|(_, known)| self.priority(hash, known.peer, known.preferred)).map(|(place, _)| place);
        let before = announcements.iter().position(|known| known.state == State::Best);
        if best != before {
            if let Some(place) = before {
                self.modify(hash, place, State::Ready, None);
            }
            if let Some(place) = best {
                self.modify(hash, place, State::Best, None);
            }
        }
    }

    /// Marks an announcement as failed and lets the next one have its turn; without a next one, forgets all of the
    /// transaction's. Returns whether the announcement still exists.
    fn make_completed(&mut self, hash: &TxHash, peer: PeerId) -> bool {
        let Some((place, state)) = self.find(hash, peer) else { return false };
        if state == State::Completed {
            return true;
        }
        let not_failed = |(other, known): (usize, &Announcement)| other != place && known.state != State::Completed;
        if !self.by_hash[hash].iter().enumerate().any(not_failed) {
            self.forget_tx_hash(hash);
            return false;
        }
        self.modify(hash, place, State::Completed, None);
        self.select_best(hash);
        true
    }

    /// Changes an announcement's state, and what indexes know of it.
    fn modify(&mut self, hash: &TxHash, place: usize, state: State, time: Option<Time>) {
        let Some(known) = self.by_hash.get_mut(hash).and_then(|all| all.get_mut(place)) else { return };
        if known.is_waiting() {
            self.waiting.remove(&(known.time, known.sequence));
        }
        let info = self.peers.entry(known.peer).or_default();
        info.count(known, false);
        known.state = state;
        known.time = time.unwrap_or(known.time);
        info.count(known, true);
        if known.is_waiting() {
            self.waiting.insert((known.time, known.sequence), (*hash, known.peer));
        }
    }

    /// Forgets one announcement that failed.
    fn erase(&mut self, hash: &TxHash, peer: PeerId) {
        let hash_map::Entry::Occupied(mut entry) = self.by_hash.entry(*hash) else { return };
        let Some(place) = entry.get().iter().position(|known| known.peer == peer) else { return };
        let announcement = entry.get_mut().swap_remove(place);
        if entry.get().is_empty() {
            entry.remove();
        }
        self.unindex(&announcement);
    }

    /// Takes an announcement that is gone out of the indexes.
    fn unindex(&mut self, announcement: &Announcement) {
        self.size -= 1;
        if announcement.is_waiting() {
            self.waiting.remove(&(announcement.time, announcement.sequence));
        }
        if let hash_map::Entry::Occupied(mut entry) = self.peers.entry(announcement.peer) {
            entry.get_mut().count(announcement, false);
            entry.get_mut().announced.remove(&announcement.sequence);
            if entry.get().announced.is_empty() {
                entry.remove();
            }
        }
    }
}

impl PeerInfo {
    /// Counts an announcement in its state, or out of it.
    fn count(&mut self, announcement: &Announcement, there: bool) {
        let counter = match announcement.state {
            State::Requested => &mut self.requested,
            State::Completed => &mut self.completed,
            State::Best => {
                match there {
                    true => self.best.insert(announcement.sequence),
                    false => self.best.remove(&announcement.sequence),
                };
                return;
            }
            State::Delayed | State::Ready => return,
        };
        *counter = if there { *counter + 1 } else { *counter - 1 };
    }
}

fn gen_txid(hash: &TxHash, is_wtxid: bool) -> GenTxid {
    use bitcoin::hashes::Hash;
    match is_wtxid {
        true => GenTxid::Wtxid(bitcoin::Wtxid::from_byte_array(*hash)),
        false => GenTxid::Txid(bitcoin::Txid::from_byte_array(*hash)),
    }
}
