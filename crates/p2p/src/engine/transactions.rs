//! Transactions: asked for, taken in, told on.

use super::{Engine, PeerId};
use crate::feefilter::FeeRates;
use crate::limits;
use crate::message::Frame;
use crate::poisson::rand_exp;
use crate::trickle::{RelayInfo, RelayMempool, RelayPeer, TxRelay};
use crate::txdownload::{PackageToValidate, TxDownloadConnectionInfo, TxMempool};
use crate::types::{GenTxid, RelayTx};
use crate::work::{Job, PackageOutcome};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Transaction, Txid, Wtxid};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_mempool::{Accepted, Mempool};
use rand::RngExt;
use std::sync::Arc;

/// From which on `feefilter` is said (BIP 133).
const FEEFILTER_VERSION: u32 = 70013;

/// The mempool, as who decides over downloads asks it.
pub(super) struct Pool(pub(super) Arc<Mempool>);

impl TxMempool for Pool {
    fn have_tx(&self, gtxid: &GenTxid) -> bool {
        match gtxid {
            GenTxid::Txid(txid) => self.0.contains(txid),
            GenTxid::Wtxid(wtxid) => self.0.contains_wtxid(wtxid),
        }
    }
}

impl RelayMempool for Pool {
    fn sequence(&self) -> u64 {
        self.0.sequence()
    }
    fn relay_info(&self, wtxid: &Wtxid) -> Option<RelayInfo> {
        let entry = self.0.relay_entry_by_wtxid(wtxid)?;
        Some(RelayInfo { txid: entry.txid, wtxid: entry.wtxid, fee: entry.fee.to_sat(), vsize: entry.vsize })
    }
    fn sort_for_announcement(&self, wtxids: &mut Vec<Wtxid>) {
        self.0.sort_for_announcement(wtxids);
    }
    /// Only for BIP 35, which is answered with bloom filters alone, and those are not offered.
    fn all(&self) -> Vec<RelayInfo> {
        Vec::new()
    }
}

fn gtxid(item: &Inventory) -> Option<GenTxid> {
    match item {
        Inventory::Transaction(txid) | Inventory::WitnessTransaction(txid) => Some(GenTxid::Txid(*txid)),
        Inventory::WTx(wtxid) => Some(GenTxid::Wtxid(*wtxid)),
        _ => None,
    }
}

impl Engine {
    /// The handshake is done: the peer may announce transactions.
    pub(super) fn peer_ready(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let info = TxDownloadConnectionInfo {
            preferred: peer.preferred,
            relay_permissions: false,
            wtxid_relay: peer.wtxid_relay,
        };
        let wants = peer.version.as_ref().is_some_and(|version| version.relay);
        if wants && !peer.may_not_send_transactions() {
            let told = RelayPeer {
                wtxid_relay: peer.wtxid_relay,
                // Peers that come by one of our addresses hear at the same times, lest they learn more together.
                inbound: peer.kind.is_inbound().then_some(0),
                noban: false,
                relay_txs: true,
            };
            let relay = TxRelay::new(told, self.rng.random());
            self.with(id, |peer| peer.relay = Some(Box::new(relay)));
        }
        self.download.connected_peer(id, info);
    }

    pub(super) fn on_transaction_inventory(&mut self, id: PeerId, items: &[Inventory]) {
        let catching_up = self.host.is_initial_block_download();
        for gtxid in items.iter().filter_map(gtxid) {
            self.with(id, |peer| peer.knows(&gtxid));
            if !catching_up {
                self.download.add_tx_announcement(id, gtxid, self.now);
            }
        }
        // What need not wait for a better peer is asked for at once.
        self.request_transactions(id);
    }

    pub(super) fn on_notfound(&mut self, id: PeerId, items: &[Inventory]) {
        if items.len() <= limits::MAX_PEER_TX_ANNOUNCEMENTS + limits::MAX_BLOCKS_IN_TRANSIT_PER_PEER {
            let missing: Vec<GenTxid> = items.iter().filter_map(gtxid).collect();
            self.download.received_notfound(id, &missing);
        }
    }

    pub(super) fn on_tx(&mut self, id: PeerId, tx: Transaction) {
        let catching_up = self.host.is_initial_block_download();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.may_not_send_transactions() {
            self.disconnect(id, "it sent a transaction on a connection for blocks alone");
            return;
        }
        // There is nothing yet to judge it by.
        if catching_up {
            return;
        }
        let tx = RelayTx::new(Arc::new(tx));
        let known = if peer.wtxid_relay { GenTxid::Wtxid(tx.wtxid) } else { GenTxid::Txid(tx.txid) };
        peer.knows(&known);
        match self.download.received_tx(id, &tx) {
            (true, _) => self.validate_transaction(id, tx, false),
            (false, package) => self.validate_package(package),
        }
    }

    fn validate_transaction(&mut self, peer: PeerId, tx: RelayTx, orphan: bool) {
        self.validating_transactions += 1;
        self.job(Job::Transaction { peer, tx, orphan });
    }

    fn validate_package(&mut self, package: Option<PackageToValidate>) {
        if let Some(package) = package {
            self.job(Job::Package(Box::new(package)));
        }
    }

    pub(super) fn transaction_done(
        &mut self,
        id: PeerId,
        tx: &RelayTx,
        result: Result<Accepted, TxReject>,
        orphan: bool,
    ) {
        self.validating_transactions -= 1;
        match result {
            Ok(_) => {
                let now = self.now;
                self.with(id, |peer| peer.last_tx = now);
                self.transaction_accepted(tx);
            }
            Err(reject) => self.transaction_refused(id, tx, &reject, !orphan),
        }
        self.reconsider_orphans(id);
    }

    /// A transaction is in the mempool that came from a peer: it is told on, and what waited for it may follow.
    fn transaction_accepted(&mut self, tx: &RelayTx) {
        self.download.mempool_accepted_tx(tx);
        self.announce_transaction(tx.txid, tx.wtxid);
        let waiting: Vec<PeerId> = self.peers.keys().copied().filter(|id| self.download.have_more_work(*id)).collect();
        for id in waiting {
            self.reconsider_orphans(id);
        }
    }

    fn transaction_refused(&mut self, id: PeerId, tx: &RelayTx, reject: &TxReject, first_time: bool) {
        // Says nothing of the transaction.
        if reject.kind == TxRejectKind::Internal {
            return;
        }
        tracing::debug!(peer = %id, txid = %tx.txid, %reject, "transaction refused");
        let todo = self.download.mempool_rejected_tx(tx, reject, id, first_time, self.now);
        if todo.should_add_extra_compact_tx {
            self.extra.add(tx.tx.clone());
        }
        self.with(id, |peer| todo.unique_parents.iter().for_each(|txid| peer.knows(&GenTxid::Txid(*txid))));
        self.validate_package(todo.package_to_validate);
    }

    /// Orphans of a peer whose parents came: one at a time, so that none takes the node for itself.
    fn reconsider_orphans(&mut self, id: PeerId) {
        if self.validating_transactions == 0
            && let Some(orphan) = self.download.get_tx_to_reconsider(id)
        {
            self.validate_transaction(id, orphan, true);
        }
    }

    pub(super) fn package_done(&mut self, package: &PackageToValidate, outcome: PackageOutcome) {
        if !outcome.whole {
            self.download.mempool_rejected_package(&package.txns);
        }
        for (tx, sender) in package.txns.iter().zip(package.senders) {
            let result = outcome.each.iter().find(|(wtxid, _)| *wtxid == tx.wtxid).map(|(_, result)| result);
            match result {
                Some(Ok(())) => self.transaction_accepted(tx),
                // Its package was tried already.
                Some(Err(reject)) if reject.kind != TxRejectKind::Internal => {
                    let todo = self.download.mempool_rejected_tx(tx, reject, sender, false, self.now);
                    if todo.should_add_extra_compact_tx {
                        self.extra.add(tx.tx.clone());
                    }
                }
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Tells peers of a transaction in the mempool, each in its time (Core's `InitiateTxBroadcastToAll`).
    pub fn announce_transaction(&mut self, txid: Txid, wtxid: Wtxid) {
        for relay in self.peers.values_mut().filter_map(|peer| peer.relay.as_mut()) {
            relay.initiate_tx_broadcast(&txid, &wtxid);
        }
    }

    /// Core's `ReattemptInitialBroadcast`: what no peer has asked for yet is told again.
    pub(super) fn announce_unbroadcast(&mut self) {
        if self.now < self.next_unbroadcast {
            return;
        }
        self.next_unbroadcast =
            self.now + limits::UNBROADCAST_INTERVAL + rand_exp(limits::UNBROADCAST_SPREAD, &mut self.rng);
        for txid in self.host.mempool().unbroadcast() {
            match self.host.mempool().relay_entry(&txid) {
                Some(entry) => self.announce_transaction(txid, entry.wtxid),
                None => self.host.mempool().remove_unbroadcast(&txid),
            }
        }
    }

    /// Asks a peer for transactions that are its turn.
    pub(super) fn request_transactions(&mut self, id: PeerId) {
        let wanted = self.download.get_requests_to_send(id, self.now);
        let Some(peer) = self.peers.get(&id) else { return };
        let witness = peer.can_serve_witnesses();
        let items: Vec<Inventory> = wanted
            .into_iter()
            .map(|gtxid| match gtxid {
                GenTxid::Wtxid(wtxid) => Inventory::WTx(wtxid),
                GenTxid::Txid(txid) if witness => Inventory::WitnessTransaction(txid),
                GenTxid::Txid(txid) => Inventory::Transaction(txid),
            })
            .collect();
        for items in items.chunks(limits::MAX_GETDATA_SIZE) {
            self.send_getdata(id, items.to_vec());
        }
    }

    /// Answers `getdata` for a transaction (Core's `FindTxForGetData`); false if it is not here, or not known to the peer.
    pub(super) fn serve_transaction(&mut self, id: PeerId, item: Inventory) -> bool {
        let Some(gtxid) = gtxid(&item) else { return false };
        let mempool = self.host.mempool();
        let entry = match gtxid {
            GenTxid::Txid(txid) => mempool.relay_entry(&txid),
            GenTxid::Wtxid(wtxid) => mempool.relay_entry_by_wtxid(&wtxid),
        };
        let recent = self.recent.as_ref();
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        // Only what was there when the peer was last told: it must not learn when a transaction came.
        let tx = entry
            .filter(|entry| peer.relay.as_ref().is_some_and(|relay| relay.may_fetch(entry.sequence)))
            .map(|entry| entry.tx);
        let frame = |tx: &Transaction| match item {
            Inventory::Transaction(_) => Frame::tx_without_witness(tx),
            _ => Frame::tx(tx),
        };
        if let Some(tx) = tx {
            peer.send_frame(frame(&tx));
            self.host.mempool().remove_unbroadcast(&tx.compute_txid());
            return true;
        }
        // A block that it learnt of has taken the transaction out of the mempool.
        let in_block = recent.and_then(|recent| {
            recent.block.txdata.iter().find(|tx| match gtxid {
                GenTxid::Txid(txid) => tx.compute_txid() == txid,
                GenTxid::Wtxid(wtxid) => tx.compute_wtxid() == wtxid,
            })
        });
        match in_block {
            Some(tx) => {
                peer.send_frame(frame(tx));
                true
            }
            None => false,
        }
    }

    fn send_transaction_inventory(&mut self, id: PeerId) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(relay) = peer.relay.as_mut() else { return };
        if now <= relay.next_inv_send_time() {
            return;
        }
        let due = relay.announcements(now, &self.pool, &mut self.timers, &mut self.rng);
        let items: Vec<Inventory> = due
            .into_iter()
            .map(|gtxid| match gtxid {
                GenTxid::Txid(txid) => Inventory::Transaction(txid),
                GenTxid::Wtxid(wtxid) => Inventory::WTx(wtxid),
            })
            .collect();
        for items in items.chunks(limits::MAX_INV_SIZE) {
            peer.send(&NetworkMessage::Inv(items.to_vec()));
        }
    }

    fn send_fee_filter(&mut self, id: PeerId) {
        let info = self.host.mempool().info();
        let rates = FeeRates {
            mempool_min: info.min_fee_rate,
            min_relay: self.host.mempool().config().min_relay_fee_rate,
            initial_block_download: self.host.is_initial_block_download(),
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.common_version < FEEFILTER_VERSION || peer.may_not_send_transactions() {
            return;
        }
        if let Some(rate) = peer.fee_filter.poll(self.now, rates, &self.rounder, &mut self.rng) {
            peer.send(&NetworkMessage::FeeFilter(i64::try_from(rate).unwrap_or(i64::MAX)));
        }
    }

    /// What is due of transactions for a peer: announcements, requests, the fee filter.
    pub(super) fn relay_transactions(&mut self, id: PeerId) {
        self.send_transaction_inventory(id);
        self.request_transactions(id);
        self.send_fee_filter(id);
    }
}
