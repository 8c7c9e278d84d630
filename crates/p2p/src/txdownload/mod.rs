//! Which transactions are asked for, and what becomes of those that come: Core's `TxDownloadManager`.
//!
//! It joins [`TxRequestTracker`], [`TxOrphanage`] and filters of what was refused or confirmed lately. Its caller tells
//! it of every `inv`, `tx` and `notfound`, of what the mempool said and of changes of the chain, and does what it
//! answers.

mod rejection;
#[cfg(test)]
mod tests;

use crate::limits::{MAX_PEER_TX_ANNOUNCEMENTS, MAX_PEER_TX_REQUEST_IN_FLIGHT};
use crate::orphanage::{OrphanInfo, TxOrphanage};
use crate::rolling::RollingBloomFilter;
use crate::txrequest::TxRequestTracker;
use crate::types::{GenTxid, PeerId, RelayTx, Time, TxHash};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Transaction, Txid, Wtxid};
use cairn_consensus::error::TxReject;
use rand::RngExt;
use rand::rngs::StdRng;
use rejection::{Rejection, rejection};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// How long a transaction announced by its txid waits while there are peers that announce wtxids.
pub const TXID_RELAY_DELAY: Duration = Duration::from_secs(2);
/// How long a transaction announced by a peer that is not preferred waits.
pub const NONPREF_PEER_TX_DELAY: Duration = Duration::from_secs(2);
/// How long a transaction announced by a peer waits that has [`MAX_PEER_TX_REQUEST_IN_FLIGHT`] requests to answer.
pub const OVERLOADED_PEER_TX_DELAY: Duration = Duration::from_secs(2);
/// How long a peer has to answer before another is asked.
pub const GETDATA_TX_INTERVAL: Duration = Duration::from_secs(60);

/// Refused transactions that are remembered: two minutes of a flood of the smallest from fast peers.
const RECENT_REJECTS: u32 = 120_000;
/// Ids of confirmed transactions that are remembered: an hour of blocks, two ids a transaction.
const RECENT_CONFIRMED: u32 = 48_000;
const FALSE_POSITIVES: f64 = 0.000_001;

/// What is asked of the mempool.
pub trait TxMempool {
    /// Whether a transaction is there: by txid whatever its witnesses, by wtxid with exactly these.
    fn have_tx(&self, gtxid: &GenTxid) -> bool;
}

/// What decides how a peer is asked (Core's `TxDownloadConnectionInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxDownloadConnectionInfo {
    /// It is asked first: an outbound peer, or one with `noban`.
    pub preferred: bool,
    /// It may announce and be asked without bound (`relay` permission).
    pub relay_permissions: bool,
    /// It announces wtxids (BIP 339).
    pub wtxid_relay: bool,
}

/// A parent and its child, to be validated together (Core's `PackageToValidate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageToValidate {
    /// The parent, then the child.
    pub txns: [RelayTx; 2],
    /// Who sent each.
    pub senders: [PeerId; 2],
}

/// What is left to do for a transaction that was refused (Core's `RejectedTxTodo`).
#[derive(Debug, Default)]
pub struct RejectedTxTodo {
    /// It may come again in a compact block: keep it for that.
    pub should_add_extra_compact_tx: bool,
    /// Parents that its sender is asked for, so that it must know them: they are not announced to it.
    pub unique_parents: Vec<Txid>,
    /// A package that may bring it in.
    pub package_to_validate: Option<PackageToValidate>,
}

/// Core's `TxDownloadManager`.
#[derive(Debug)]
pub struct TxDownloadManager<M> {
    mempool: M,
    rng: StdRng,
    orphanage: TxOrphanage,
    txrequest: TxRequestTracker,
    peers: HashMap<PeerId, TxDownloadConnectionInfo>,
    num_wtxid_peers: usize,
    /// Wtxids that the mempool refused since the tip changed, and txids of those that no witness can help.
    recent_rejects: RollingBloomFilter,
    /// Wtxids that it refused by themselves, and packages that it refused.
    recent_rejects_reconsiderable: RollingBloomFilter,
    recent_confirmed_transactions: RollingBloomFilter,
}

impl<M: TxMempool> TxDownloadManager<M> {
    /// Knows nobody and nothing. The generator is secret: peers may not foretell whom it asks.
    pub fn new(mempool: M, mut rng: StdRng) -> Self {
        let mut filter = |elements| RollingBloomFilter::new(elements, FALSE_POSITIVES, rng.random());
        let (rejects, reconsiderable) = (filter(RECENT_REJECTS), filter(RECENT_REJECTS));
        let confirmed = filter(RECENT_CONFIRMED);
        Self {
            mempool,
            orphanage: TxOrphanage::default(),
            txrequest: TxRequestTracker::new(&mut rng),
            rng,
            peers: HashMap::new(),
            num_wtxid_peers: 0,
            recent_rejects: rejects,
            recent_rejects_reconsiderable: reconsiderable,
            recent_confirmed_transactions: confirmed,
        }
    }

    /// The tip changed, outside initial block download: what was refused may be valid now.
    pub fn active_tip_change(&mut self) {
        self.recent_rejects.reset();
        self.recent_rejects_reconsiderable.reset();
    }

    /// A block became the tip.
    pub fn block_connected(&mut self, txdata: &[Transaction]) {
        self.orphanage.erase_for_block(txdata);
        for tx in txdata {
            let txid = tx.compute_txid().to_byte_array();
            self.recent_confirmed_transactions.insert(&txid);
            self.txrequest.forget_tx_hash(&txid);
            if tx.input.iter().any(|input| !input.witness.is_empty()) {
                let wtxid = tx.compute_wtxid().to_byte_array();
                self.recent_confirmed_transactions.insert(&wtxid);
                self.txrequest.forget_tx_hash(&wtxid);
            }
        }
    }

    /// A block is not in the chain any more: its transactions may be announced again.
    pub fn block_disconnected(&mut self) {
        self.recent_confirmed_transactions.reset();
    }

    /// A peer that may announce transactions is there.
    pub fn connected_peer(&mut self, peer: PeerId, info: TxDownloadConnectionInfo) {
        if self.peers.contains_key(&peer) {
            return;
        }
        self.num_wtxid_peers += usize::from(info.wtxid_relay);
        self.peers.insert(peer, info);
    }

    /// A peer is gone, with its announcements and orphans.
    pub fn disconnected_peer(&mut self, peer: PeerId) {
        self.orphanage.erase_for_peer(peer);
        self.txrequest.disconnected_peer(peer);
        if let Some(info) = self.peers.remove(&peer) {
            self.num_wtxid_peers -= usize::from(info.wtxid_relay);
        }
    }

    /// A peer announced a transaction. Returns whether it is here already, so that it will not be asked for.
    pub fn add_tx_announcement(&mut self, peer: PeerId, gtxid: GenTxid, now: Time) -> bool {
        // The orphan is here, but its parents may be asked of this peer too.
        if let GenTxid::Wtxid(wtxid) = gtxid
            && let Some(orphan) = self.orphanage.get_tx(&wtxid)
        {
            let mut parents = unique_parents(&orphan.tx);
            self.retain_missing(&mut parents);
            if !parents.is_empty() && self.maybe_add_orphan_resolution_candidate(&parents, &wtxid, peer, now) {
                self.orphanage.add_announcer(&wtxid, peer);
            }
            return true;
        }
        if self.already_have_tx(&gtxid, true) {
            return true;
        }
        let Some(info) = self.peers.get(&peer).copied() else { return false };
        if !info.relay_permissions && self.txrequest.count(peer) >= MAX_PEER_TX_ANNOUNCEMENTS {
            return false;
        }
        let delay = self.delay(peer, info, matches!(gtxid, GenTxid::Txid(_)));
        self.txrequest.received_inv(peer, gtxid, info.preferred, now + delay);
        false
    }

    /// What to ask of a peer now, in order (`getdata`).
    pub fn get_requests_to_send(&mut self, peer: PeerId, now: Time) -> Vec<GenTxid> {
        let (requestable, expired) = self.txrequest.get_requestable(peer, now);
        for (peer, gtxid) in expired {
            tracing::debug!(%peer, ?gtxid, "a request for a transaction expired");
        }
        let mut requests = Vec::with_capacity(requestable.len());
        for gtxid in requestable {
            if self.already_have_tx(&gtxid, false) {
                self.txrequest.forget_tx_hash(&gtxid.to_hash());
            } else {
                self.txrequest.requested_tx(peer, &gtxid.to_hash(), now + GETDATA_TX_INTERVAL);
                requests.push(gtxid);
            }
        }
        requests
    }

    /// A peer has not what it was asked for.
    pub fn received_notfound(&mut self, peer: PeerId, gtxids: &[GenTxid]) {
        for gtxid in gtxids {
            self.txrequest.received_response(peer, &gtxid.to_hash());
        }
    }

    /// A transaction came. Returns whether to validate it, or else perhaps a package to validate instead.
    pub fn received_tx(&mut self, peer: PeerId, tx: &RelayTx) -> (bool, Option<PackageToValidate>) {
        self.txrequest.received_response(peer, &tx.txid.to_byte_array());
        self.txrequest.received_response(peer, &tx.wtxid.to_byte_array());
        // By wtxid: of witness transactions hardly any txid is in a filter, and the mempool looks for the txid itself.
        // Filters err now and then, so that nobody is blamed for what is in one.
        if self.already_have_tx(&GenTxid::Wtxid(tx.wtxid), false) {
            (false, None)
        } else if self.recent_rejects_reconsiderable.contains(&tx.wtxid.to_byte_array()) {
            (false, self.find_1p1c_package(tx, peer))
        } else {
            (true, None)
        }
    }

    /// The mempool took a transaction.
    pub fn mempool_accepted_tx(&mut self, tx: &RelayTx) {
        self.forget(tx);
        for (wtxid, peer) in self.orphanage.add_children_to_work_set(tx, &mut self.rng) {
            tracing::debug!(%wtxid, %peer, "an orphan's parent came");
        }
        self.orphanage.erase_tx(&tx.wtxid);
    }

    /// The mempool refused a transaction. `first_time_failure` tells that it came from the peer just now, and not out
    /// of the orphanage or a package.
    pub fn mempool_rejected_tx(
        &mut self,
        tx: &RelayTx,
        reject: &TxReject,
        peer: PeerId,
        first_time_failure: bool,
        now: Time,
    ) -> RejectedTxTodo {
        let wtxid = tx.wtxid.to_byte_array();
        let mut todo = RejectedTxTodo { should_add_extra_compact_tx: first_time_failure, ..RejectedTxTodo::default() };
        let rejection = rejection(reject);
        match rejection {
            Rejection::MissingInputs => {
                if first_time_failure && !self.recent_rejects.contains(&wtxid) {
                    self.add_orphan(tx, peer, now, &mut todo);
                }
                return todo;
            }
            Rejection::Internal => {
                todo.should_add_extra_compact_tx = false;
                return todo;
            }
            Rejection::WitnessStripped => todo.should_add_extra_compact_tx = false,
            Rejection::Reconsiderable => {
                self.recent_rejects_reconsiderable.insert(&wtxid);
                if first_time_failure {
                    todo.package_to_validate = self.find_1p1c_package(tx, peer);
                }
                self.txrequest.forget_tx_hash(&wtxid);
            }
            Rejection::InputsNotStandard | Rejection::Other => {
                // Never the txid of a witness transaction: another may have changed its witnesses, and the true one
                // would not be asked for.
                self.recent_rejects.insert(&wtxid);
                self.txrequest.forget_tx_hash(&wtxid);
                // But for what no witness changes. Its child would have it asked for again by txid.
                if rejection == Rejection::InputsNotStandard && tx.has_witness() {
                    self.recent_rejects.insert(&tx.txid.to_byte_array());
                    self.txrequest.forget_tx_hash(&tx.txid.to_byte_array());
                }
            }
        }
        self.orphanage.erase_tx(&tx.wtxid);
        todo
    }

    /// The mempool refused a package: it is not tried again until the tip changes.
    pub fn mempool_rejected_package(&mut self, package: &[RelayTx]) {
        self.recent_rejects_reconsiderable.insert(&package_hash(package));
    }

    /// Whether orphans of a peer wait for [`Self::get_tx_to_reconsider`].
    pub fn have_more_work(&self, peer: PeerId) -> bool {
        self.orphanage.have_tx_to_reconsider(peer)
    }

    /// An orphan whose parent came, to be validated again.
    pub fn get_tx_to_reconsider(&mut self, peer: PeerId) -> Option<RelayTx> {
        self.orphanage.get_tx_to_reconsider(peer)
    }

    /// All orphans.
    pub fn get_orphan_transactions(&self) -> Vec<OrphanInfo> {
        self.orphanage.get_orphan_transactions()
    }

    /// Whether nothing is kept for anybody, as when nobody is connected.
    pub fn check_is_empty(&self) -> bool {
        self.orphanage.count_unique_orphans() == 0
            && self.orphanage.total_orphan_usage() == 0
            && self.txrequest.size() == 0
            && self.peers.is_empty()
            && self.num_wtxid_peers == 0
    }

    /// Whether nothing is kept for a peer.
    pub fn check_is_empty_for(&self, peer: PeerId) -> bool {
        self.txrequest.count(peer) == 0 && self.orphanage.usage_by_peer(peer) == 0
    }

    /// Whether a transaction need not be asked for. What was refused by itself counts only with
    /// `include_reconsiderable`.
    fn already_have_tx(&self, gtxid: &GenTxid, include_reconsiderable: bool) -> bool {
        let hash = gtxid.to_hash();
        // An orphan is never looked for by txid: one with other witnesses would keep the true one out. But without
        // witnesses a txid is the wtxid.
        self.orphanage.have_tx(&Wtxid::from_byte_array(hash))
            || include_reconsiderable && self.recent_rejects_reconsiderable.contains(&hash)
            || self.recent_confirmed_transactions.contains(&hash)
            || self.recent_rejects.contains(&hash)
            || self.mempool.have_tx(gtxid)
    }

    /// Leaves of an orphan's parents those that are to be asked for; one that was refused by itself is, for the orphan
    /// may pay for it.
    fn retain_missing(&self, parents: &mut Vec<Txid>) {
        parents.retain(|parent| !self.already_have_tx(&GenTxid::Txid(*parent), false));
    }

    fn is_overloaded(&self, peer: PeerId) -> bool {
        self.txrequest.count_in_flight(peer) >= MAX_PEER_TX_REQUEST_IN_FLIGHT
    }

    fn delay(&self, peer: PeerId, info: TxDownloadConnectionInfo, is_txid: bool) -> Duration {
        let delays = [
            (!info.preferred, NONPREF_PEER_TX_DELAY),
            (is_txid && self.num_wtxid_peers > 0, TXID_RELAY_DELAY),
            (!info.relay_permissions && self.is_overloaded(peer), OVERLOADED_PEER_TX_DELAY),
        ];
        delays.into_iter().filter(|(applies, _)| *applies).map(|(_, delay)| delay).sum()
    }

    /// Has a peer that announced an orphan asked for its parents, as if it had announced them. Returns whether it will
    /// be.
    fn maybe_add_orphan_resolution_candidate(
        &mut self,
        parents: &[Txid],
        wtxid: &Wtxid,
        peer: PeerId,
        now: Time,
    ) -> bool {
        let Some(info) = self.peers.get(&peer).copied() else { return false };
        if self.orphanage.have_tx_from_peer(wtxid, peer) {
            return false;
        }
        if !info.relay_permissions && self.txrequest.count(peer) + parents.len() > MAX_PEER_TX_ANNOUNCEMENTS {
            return false;
        }
        let reqtime = now + self.delay(peer, info, true);
        for parent in parents {
            self.txrequest.received_inv(peer, GenTxid::Txid(*parent), info.preferred, reqtime);
        }
        true
    }

    fn add_orphan(&mut self, tx: &RelayTx, peer: PeerId, now: Time, todo: &mut RejectedTxTodo) {
        let mut parents = unique_parents(&tx.tx);
        if self.has_rejected_parents(&parents) {
            // Whatever its witnesses, so that both ids are refused.
            self.recent_rejects.insert(&tx.txid.to_byte_array());
            self.recent_rejects.insert(&tx.wtxid.to_byte_array());
            self.forget(tx);
            return;
        }
        self.retain_missing(&mut parents);
        todo.should_add_extra_compact_tx &= !self.orphanage.have_tx(&tx.wtxid);
        // All who announced it may know its parents. A peer with too many announcements has none of its orphans kept.
        let mut candidates = vec![peer];
        candidates.extend(self.txrequest.get_candidate_peers(&tx.txid.to_byte_array()));
        if tx.has_witness() {
            candidates.extend(self.txrequest.get_candidate_peers(&tx.wtxid.to_byte_array()));
        }
        for candidate in candidates {
            if self.maybe_add_orphan_resolution_candidate(&parents, &tx.wtxid, candidate, now) {
                self.orphanage.add_tx(tx, candidate);
            }
        }
        self.forget(tx);
        todo.unique_parents = parents;
    }

    /// Whether parents were refused, so that the child will be too. One may have been refused by itself: the child may
    /// pay for it, but not for two.
    fn has_rejected_parents(&self, parents: &[Txid]) -> bool {
        let mut reconsiderable = 0;
        parents.iter().any(|parent| {
            let hash = parent.to_byte_array();
            if self.recent_rejects.contains(&hash) {
                return true;
            }
            if self.recent_rejects_reconsiderable.contains(&hash) && !self.mempool.have_tx(&GenTxid::Txid(*parent)) {
                reconsiderable += 1;
            }
            reconsiderable > 1
        })
    }

    /// A child of a refused parent that was not tried with it: of the same peer, lest others hide the true child among
    /// many.
    fn find_1p1c_package(&self, parent: &RelayTx, peer: PeerId) -> Option<PackageToValidate> {
        let children = self.orphanage.get_children_from_same_peer(&parent.txid, peer);
        children.into_iter().map(|child| [parent.clone(), child]).find_map(|txns| {
            let tried = self.recent_rejects_reconsiderable.contains(&package_hash(&txns))
                || self.recent_rejects.contains(&txns[1].txid.to_byte_array());
            (!tried).then_some(PackageToValidate { txns, senders: [peer, peer] })
        })
    }

    /// Nobody is asked for a transaction any more.
    fn forget(&mut self, tx: &RelayTx) {
        self.txrequest.forget_tx_hash(&tx.txid.to_byte_array());
        self.txrequest.forget_tx_hash(&tx.wtxid.to_byte_array());
    }
}

/// The transactions that a transaction spends.
fn unique_parents(tx: &Transaction) -> Vec<Txid> {
    let parents: BTreeSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
    parents.into_iter().collect()
}

/// Core's `GetPackageHash`: of the sorted wtxids.
fn package_hash(package: &[RelayTx]) -> TxHash {
    let mut wtxids: Vec<TxHash> = package.iter().map(|tx| tx.wtxid.to_byte_array()).collect();
    // As numbers, whose last byte is the most significant.
    wtxids.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
    let mut engine = sha256::Hash::engine();
    for wtxid in wtxids {
        engine.input(&wtxid);
    }
    sha256::Hash::from_engine(engine).to_byte_array()
}
