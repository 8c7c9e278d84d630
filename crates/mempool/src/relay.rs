//! What peers ask of the mempool: whether it has a transaction, what may be told of it, and in which order.

use crate::mempool::Mempool;
use crate::pool::Member;
use crate::types::RelayEntry;
use bitcoin::{Amount, Transaction, Txid, Wtxid};
use std::sync::Arc;

impl Mempool {
    /// Whether a transaction is here, whatever its witnesses.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.lock().pool.contains(txid)
    }

    /// Whether a transaction is here with exactly these witnesses.
    pub fn contains_wtxid(&self, wtxid: &Wtxid) -> bool {
        self.lock().pool.txid_of(wtxid).is_some()
    }

    /// A transaction.
    pub fn get_tx(&self, txid: &Txid) -> Option<Arc<Transaction>> {
        self.lock().pool.get(txid).map(|member| member.entry.tx.clone())
    }

    /// A transaction with exactly these witnesses.
    pub fn get_tx_by_wtxid(&self, wtxid: &Wtxid) -> Option<Arc<Transaction>> {
        let state = self.lock();
        state.pool.txid_of(wtxid).and_then(|txid| state.pool.get(&txid)).map(|member| member.entry.tx.clone())
    }

    /// What relay needs to know of a transaction.
    pub fn relay_entry(&self, txid: &Txid) -> Option<RelayEntry> {
        self.lock().pool.get(txid).map(relay_entry)
    }

    /// What relay needs to know of a transaction with exactly these witnesses.
    pub fn relay_entry_by_wtxid(&self, wtxid: &Wtxid) -> Option<RelayEntry> {
        let state = self.lock();
        state.pool.txid_of(wtxid).and_then(|txid| state.pool.get(&txid)).map(relay_entry)
    }

    /// Calls `visit` with everything here, in no order. It runs under the lock, so it is quick and calls nothing of the
    /// mempool.
    pub fn for_each(&self, mut visit: impl FnMut(&Wtxid, &Arc<Transaction>)) {
        for member in self.lock().pool.members() {
            visit(&member.entry.wtxid, &member.entry.tx);
        }
    }

    /// Brings transactions into the order in which they are announced and mined: best chunk first, parents before
    /// children (Core's `CompareMiningScoreWithTopology`). Those that are not here are taken out.
    pub fn sort_for_announcement(&self, wtxids: &mut Vec<Wtxid>) {
        let state = self.lock();
        let place = |wtxid: &Wtxid| state.pool.txid_of(wtxid).and_then(|txid| state.pool.mining_order(&txid));
        wtxids.retain(|wtxid| state.pool.txid_of(wtxid).is_some());
        wtxids.sort_by_cached_key(place);
    }
}

fn relay_entry(member: &Member) -> RelayEntry {
    let entry = &member.entry;
    RelayEntry {
        tx: entry.tx.clone(),
        txid: entry.tx.compute_txid(),
        wtxid: entry.wtxid,
        fee: Amount::from_sat(entry.fee),
        vsize: entry.vsize(),
        time: entry.time,
        sequence: entry.sequence,
    }
}
