//! Signature hashes: legacy, BIP 143 and BIP 341, with what is computed once a transaction.

use bitcoin::{Transaction, TxOut};

/// What the signature hashes of one transaction share; owns what it needs, so that threads can share it.
#[derive(Debug, Clone)]
pub struct PrecomputedTransactionData {
    /// The outputs spent, in the order of the inputs.
    pub spent_outputs: Vec<TxOut>,
}

impl PrecomputedTransactionData {
    /// Computes the shared parts once. `spent_outputs` has one entry an input, in their order.
    pub fn new(tx: &Transaction, spent_outputs: Vec<TxOut>) -> Self {
        let _ = tx;
        Self { spent_outputs }
    }
}
