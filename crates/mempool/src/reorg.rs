//! Following the chain: what blocks confirm leaves, what disconnected blocks held returns.
//!
//! A reorganisation is a row of events, and nothing says which is the last. Core returns transactions once it is over,
//! so that what the new branch confirms is not validated in vain, and what only the passing lower tip would forbid
//! stays. Here that is when the tip has more work than the one undone, or else when somebody next uses the mempool.

use crate::accept::{Prepared, Terms, check_scripts, is_bip68_final};
use crate::limit;
use crate::mempool::{Mempool, State};
use crate::types::{MEMPOOL_HEIGHT, MempoolConfig};
use bitcoin::{Transaction, Txid, Work};
use cairn_chain::{BlockEntry, Chain, ChainError, ChainEvent};
use cairn_consensus::coins::Coin;
use cairn_consensus::tx as rules;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

/// Most bytes of transactions kept for return; of more, the last blocks' go (`MAX_DISCONNECTED_TX_POOL_BYTES`).
const MAX_RETURNED_BYTES: usize = 20_000_000;

/// What disconnected blocks held.
#[derive(Debug)]
pub(crate) struct Reorg {
    /// Work of the tip before.
    work: Work,
    /// In the chain's order, without coinbases.
    returned: VecDeque<Arc<Transaction>>,
    /// Coinbases, and what did not fit, with the number of their outputs: what depends on them goes.
    lost: Vec<(Txid, usize)>,
    /// Bytes of `returned`.
    bytes: usize,
}

impl Mempool {
    /// Follows the chain: removes what a block confirmed or made conflict, returns what a disconnected block held.
    pub fn chain_event(&self, event: &ChainEvent, now: u64) {
        let mut state = self.lock_unsettled();
        state.now = now;
        match event {
            ChainEvent::Connected { block, entry } => {
                state.connected(&block.txdata, now);
                if state.reorg.as_ref().is_some_and(|reorg| entry.chain_work > reorg.work) {
                    state.settle(&self.chain, &self.config);
                }
            }
            ChainEvent::Disconnected { block, entry } => state.disconnected(&block.txdata, entry),
            ChainEvent::Stopped { .. } => {}
        }
    }
}

impl State {
    fn connected(&mut self, transactions: &[Transaction], now: u64) {
        let confirmed: Vec<Txid> = transactions.iter().map(Transaction::compute_txid).collect();
        self.pool.remove(confirmed.iter().copied());
        let conflicts: BTreeSet<Txid> = (transactions.iter().flat_map(|tx| &tx.input))
            .filter_map(|input| self.pool.spender(&input.previous_output))
            .collect();
        for txid in confirmed.iter().chain(&conflicts) {
            self.pool.clear_prioritisation(txid);
        }
        self.remove_with_descendants(conflicts);
        self.rolling.block_connected(now);
        if let Some(reorg) = &mut self.reorg {
            let confirmed: HashSet<Txid> = confirmed.into_iter().collect();
            reorg.returned.retain(|tx| !confirmed.contains(&tx.compute_txid()));
            reorg.bytes = reorg.returned.iter().map(|tx| tx.total_size()).sum();
            reorg.lost.retain(|(txid, _)| !confirmed.contains(txid));
        }
    }

    fn disconnected(&mut self, transactions: &[Transaction], entry: &BlockEntry) {
        let reorg = self.reorg.get_or_insert_with(|| Reorg {
            work: entry.chain_work,
            returned: VecDeque::new(),
            lost: Vec::new(),
            bytes: 0,
        });
        // Of several blocks the last comes first.
        for tx in transactions.iter().rev() {
            if tx.is_coinbase() {
                reorg.lost.push((tx.compute_txid(), tx.output.len()));
            } else {
                reorg.bytes += tx.total_size();
                reorg.returned.push_front(Arc::new(tx.clone()));
            }
        }
        while reorg.bytes > MAX_RETURNED_BYTES
            && let Some(last) = reorg.returned.pop_back()
        {
            reorg.bytes -= last.total_size();
            reorg.lost.push((last.compute_txid(), last.output.len()));
        }
    }

    /// Core's `MaybeUpdateMempoolForReorg`, if there is anything to do.
    pub(crate) fn settle(&mut self, chain: &Chain, config: &MempoolConfig) {
        let Some(reorg) = self.reorg.take() else { return };
        let mut returned = Vec::new();
        for tx in reorg.returned {
            match self.give_back(chain, config, &tx) {
                Some(txid) => returned.push(txid),
                None => self.remove_dependents(tx.compute_txid(), tx.output.len()),
            }
        }
        for (txid, outputs) in reorg.lost {
            self.remove_dependents(txid, outputs);
        }
        let excess = self.pool.excess(returned);
        self.remove_with_descendants(excess);
        let invalid: Vec<Txid> = self.pool.txids().filter(|txid| !self.is_still_valid(chain, txid)).copied().collect();
        self.remove_with_descendants(invalid);
        limit::enforce(&mut self.pool, &mut self.rolling, config, self.now);
    }

    /// Returns one transaction; `None` if it is no longer valid or not standard.
    fn give_back(&mut self, chain: &Chain, config: &MempoolConfig, tx: &Arc<Transaction>) -> Option<Txid> {
        let accepted = Prepared::new(tx.clone(), config).and_then(|prepared| {
            let proposal = self.propose(chain, config, &prepared, Terms::returned(self.now))?;
            check_scripts(chain, tx, &proposal.spent)?;
            Ok((prepared.txid, proposal))
        });
        match accepted {
            Ok((txid, proposal)) => {
                self.pool.remove(proposal.replaced);
                self.pool.insert(txid, proposal.entry);
                Some(txid)
            }
            Err(reason) => {
                tracing::debug!(txid = %tx.compute_txid(), %reason, "not returned to the mempool");
                // It may have come again by another way.
                let txid = tx.compute_txid();
                self.pool.contains(&txid).then_some(txid)
            }
        }
    }

    /// Removes whatever spends a transaction that is neither here nor in the chain.
    fn remove_dependents(&mut self, txid: Txid, outputs: usize) {
        let children = self.pool.children_of(txid, outputs);
        self.remove_with_descendants(children);
    }

    fn remove_with_descendants(&mut self, txids: impl IntoIterator<Item = Txid>) {
        let all = self.pool.with_descendants(txids);
        self.pool.remove(all);
    }

    /// Whether the next block could hold a transaction, its scripts and parents apart: final (lock time and BIP 68),
    /// coinbases mature, coins there.
    fn is_still_valid(&self, chain: &Chain, txid: &Txid) -> bool {
        let Some(member) = self.pool.get(txid) else { return true };
        let tx = &member.entry.tx;
        let tip = chain.tip();
        if !rules::is_final_tx(tx, tip.height + 1, tip.median_time_past) {
            return false;
        }
        let coins: Result<Option<Vec<Coin>>, ChainError> =
            tx.input.iter().map(|input| self.unspent_or_here(chain, &input.previous_output)).collect();
        let coins = match coins {
            Ok(Some(coins)) => coins,
            Ok(None) => return false,
            Err(error) => {
                // Unknown is not invalid; a block template is validated as a whole again.
                tracing::warn!(%txid, %error, "a transaction could not be checked after a reorganisation");
                return true;
            }
        };
        let mature = coins.iter().all(|coin| {
            !coin.coinbase || coin.height == MEMPOOL_HEIGHT || tip.height + 1 >= coin.height + rules::COINBASE_MATURITY
        });
        mature && is_bip68_final(chain, &tip, tx, &coins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::constants::genesis_block;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, Network, OutPoint, ScriptBuf, TxIn, TxOut};
    use cairn_chain::BlockStatus;

    /// A transaction of somewhat more than so many bytes.
    fn sized(bytes: usize, vout: u32) -> Transaction {
        let input = TxIn {
            previous_output: OutPoint { txid: Txid::from_raw_hash(Hash::all_zeros()), vout },
            ..TxIn::default()
        };
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a; bytes]) }],
        }
    }

    #[test]
    fn what_the_new_branch_confirms_makes_room() {
        let header = genesis_block(Network::Regtest).header;
        let entry = BlockEntry {
            hash: header.block_hash(),
            height: 1,
            header,
            chain_work: header.work(),
            median_time_past: header.time,
            tx_count: 1,
            chain_tx_count: 2,
            status: BlockStatus { has_data: true, valid_scripts: true, failed: false },
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(|vout| sized(9_000_000, vout));
        let kept = |state: &State| -> Vec<Txid> {
            state.reorg.iter().flat_map(|reorg| &reorg.returned).map(|tx| tx.compute_txid()).collect()
        };
        let mut state = State::default();
        state.disconnected(&[a.clone(), b.clone()], &entry);
        state.connected(&[b], 0);
        state.disconnected(std::slice::from_ref(&c), &entry);
        assert_eq!(kept(&state), [c.compute_txid(), a.compute_txid()], "18 of 20 MB");
        state.disconnected(std::slice::from_ref(&d), &entry);
        assert_eq!(kept(&state), [d.compute_txid(), c.compute_txid()], "the last blocks' go");
        assert_eq!(state.reorg.as_ref().map(|reorg| reorg.lost.clone()), Some(vec![(a.compute_txid(), 1)]));
    }
}
