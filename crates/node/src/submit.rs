//! Transactions that come: from users of this node, and from peers.

use crate::{Node, NodeEvent};
use bitcoin::{Transaction, Txid};
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, PackageResult, PackageTxResult};
use std::sync::Arc;

impl Node {
    /// Puts a user's transaction into the mempool, and tells the followers and the peers: again and again, until a peer has
    /// asked for it.
    ///
    /// # Errors
    /// It is refused.
    pub fn submit_transaction(&self, tx: Transaction) -> Result<Accepted, TxReject> {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let accepted = self.take_transaction(tx)?;
        self.mempool.add_unbroadcast(txid);
        self.network.announce(txid, wtxid);
        Ok(accepted)
    }

    /// Puts a user's child with its parents into the mempool as far as they may come
    /// ([`cairn_mempool::Mempool::accept_package`]); tells the followers of what is new, and the peers of all that is there
    /// (once: Core does not repeat what came as a package either).
    pub fn submit_package(&self, txs: &[Arc<Transaction>], max_fee_rate: Option<u64>) -> PackageResult {
        let result = self.take_package(txs, max_fee_rate);
        txs.iter().for_each(|tx| self.announce_again(&tx.compute_txid()));
        result
    }

    /// Tells the peers of a transaction if it is in the mempool, with the witnesses that it has there.
    pub fn announce_again(&self, txid: &Txid) {
        if let Some(entry) = self.mempool.relay_entry(txid) {
            self.network.announce(entry.txid, entry.wtxid);
        }
    }

    /// Puts a transaction into the mempool and tells the followers.
    pub(crate) fn take_transaction(&self, tx: Transaction) -> Result<Accepted, TxReject> {
        let txid = tx.compute_txid();
        let accepted = self.mempool.accept(tx, u64::from(self.now()))?;
        self.tell_accepted(txid);
        Ok(accepted)
    }

    /// Puts a package into the mempool as far as it may come, and tells the followers.
    pub(crate) fn take_package(&self, txs: &[Arc<Transaction>], max_fee_rate: Option<u64>) -> PackageResult {
        let result = self.mempool.accept_package(txs, max_fee_rate, u64::from(self.now()));
        accepted(txs, &result).for_each(|tx| self.tell_accepted(tx.compute_txid()));
        result
    }

    fn tell_accepted(&self, txid: Txid) {
        // An error means that nobody follows.
        let _ = self.events.send(NodeEvent::TransactionAccepted { txid });
    }
}

/// Those of a package that came into the mempool.
fn accepted<'a>(txs: &'a [Arc<Transaction>], result: &'a PackageResult) -> impl Iterator<Item = &'a Arc<Transaction>> {
    txs.iter().filter(|tx| matches!(result.transactions.get(&tx.compute_wtxid()), Some(PackageTxResult::Accepted(_))))
}
