//! What operators change: fees as this node sees them, and what is still to be told to the first peer.

use crate::mempool::Mempool;
use crate::policy::standard;
use crate::types::Prioritised;
use bitcoin::Txid;
use std::collections::BTreeSet;

/// A transaction with dust pays nothing, not even by an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Priority is not supported for transactions with dust outputs.")]
pub struct DustNotPrioritised;

impl Mempool {
    /// Adds satoshi to the fee by which a transaction is judged and mined, whether it is here or comes later
    /// (`prioritisetransaction`). Sums up with what was added before, until a block confirms the transaction.
    ///
    /// # Errors
    /// The transaction is here and has dust.
    pub fn prioritise(&self, txid: Txid, fee_delta: i64) -> Result<(), DustNotPrioritised> {
        let mut state = self.lock();
        let dust = || state.pool.get(&txid).is_some_and(|member| standard::has_dust(&member.entry.tx));
        if self.config.require_standard && dust() {
            return Err(DustNotPrioritised);
        }
        state.pool.prioritise(txid, fee_delta);
        Ok(())
    }

    /// What operators have added to fees, by id.
    pub fn prioritised(&self) -> Vec<Prioritised> {
        let state = self.lock();
        let each = state.pool.deltas().iter().map(|(txid, fee_delta)| Prioritised {
            txid: *txid,
            fee_delta: *fee_delta,
            modified_fee: state.pool.get(txid).map(|member| member.entry.modified_fee),
        });
        each.collect()
    }

    /// Remembers that a transaction that is here comes from this node and no peer has asked for it yet.
    pub fn add_unbroadcast(&self, txid: Txid) {
        self.lock().pool.add_unbroadcast(txid);
    }

    /// A peer has asked for a transaction: it is on its way.
    pub fn remove_unbroadcast(&self, txid: &Txid) {
        self.lock().pool.remove_unbroadcast(txid);
    }

    /// Transactions of this node that no peer has asked for yet.
    pub fn unbroadcast(&self) -> BTreeSet<Txid> {
        self.lock().pool.unbroadcast().clone()
    }
}
