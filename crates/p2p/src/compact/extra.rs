//! Transactions that are in no mempool and may be in the next block all the same.

use crate::limits::{MAX_EXTRA_TRANSACTION_BYTES, MAX_EXTRA_TRANSACTIONS};
use bitcoin::{Transaction, Wtxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// The last transactions that were replaced, refused or came before their parents (Core's `vExtraTxnForCompact`): a miner may
/// have decided otherwise.
#[derive(Debug, Default)]
pub struct ExtraPool {
    /// The oldest first.
    transactions: VecDeque<Extra>,
    /// Sum of theirs.
    bytes: usize,
}

#[derive(Debug)]
struct Extra {
    wtxid: Wtxid,
    tx: Arc<Transaction>,
    /// Serialised.
    bytes: usize,
}

impl ExtraPool {
    /// Keeps a transaction, in place of the oldest ones if there are too many or they are too large.
    pub fn add(&mut self, tx: Arc<Transaction>) {
        let bytes = tx.total_size();
        if bytes > MAX_EXTRA_TRANSACTION_BYTES {
            return;
        }
        while self.transactions.len() >= MAX_EXTRA_TRANSACTIONS || self.bytes + bytes > MAX_EXTRA_TRANSACTION_BYTES {
            let Some(oldest) = self.transactions.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
        self.bytes += bytes;
        self.transactions.push_back(Extra { wtxid: tx.compute_wtxid(), tx, bytes });
    }

    /// All of them by wtxid, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Wtxid, &Arc<Transaction>)> {
        self.transactions.iter().map(|extra| (&extra.wtxid, &extra.tx))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::tests::transaction;
    use bitcoin::{Amount, TxOut};

    fn ids(pool: &ExtraPool) -> Vec<Wtxid> {
        pool.iter().map(|(wtxid, _)| *wtxid).collect()
    }

    #[test]
    fn the_last_hundred_are_kept() {
        let mut pool = ExtraPool::default();
        assert!(pool.is_empty());
        let all: Vec<_> = (0..=MAX_EXTRA_TRANSACTIONS as u64).map(|n| Arc::new(transaction(n))).collect();
        for tx in &all {
            pool.add(tx.clone());
        }
        assert_eq!(pool.len(), MAX_EXTRA_TRANSACTIONS);
        assert_eq!(ids(&pool), all[1..].iter().map(|tx| tx.compute_wtxid()).collect::<Vec<_>>());
    }

    #[test]
    fn large_ones_leave_room_for_fewer_and_one_too_large_is_not_kept() {
        let sized = |n: u64, bytes: usize| {
            let mut tx = transaction(n);
            tx.output.push(TxOut { value: Amount::ZERO, script_pubkey: vec![0; bytes].into() });
            let over = tx.total_size() - bytes;
            tx.output[1].script_pubkey = vec![0; bytes - over].into();
            assert_eq!(tx.total_size(), bytes);
            Arc::new(tx)
        };
        let half = MAX_EXTRA_TRANSACTION_BYTES / 2;
        let (small, first, second) = (Arc::new(transaction(0)), sized(1, half), sized(2, half));
        let mut pool = ExtraPool::default();
        pool.add(small.clone());
        pool.add(first.clone());
        assert_eq!(pool.len(), 2);
        pool.add(second.clone());
        assert_eq!(ids(&pool), [first.compute_wtxid(), second.compute_wtxid()]);
        pool.add(sized(3, MAX_EXTRA_TRANSACTION_BYTES + 1));
        assert_eq!(ids(&pool), [first.compute_wtxid(), second.compute_wtxid()]);
        pool.add(small.clone());
        assert_eq!(ids(&pool), [second.compute_wtxid(), small.compute_wtxid()]);
        let whole = sized(4, MAX_EXTRA_TRANSACTION_BYTES);
        pool.add(whole.clone());
        assert_eq!(ids(&pool), [whole.compute_wtxid()]);
    }
}
