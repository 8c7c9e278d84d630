//! [`Mempool`]: one lock around the transactions, and what callers do with it.

use crate::accept::{Limits, Prepared, Proposal, check_scripts};
use crate::feerate::FeeFrac;
use crate::limit::{self, RollingFee};
use crate::policy::reject;
use crate::pool::{Member, Next, Pool};
use crate::reorg::Reorg;
use crate::types::{Accepted, MempoolConfig, MempoolEntry, MempoolInfo};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use cairn_chain::{Chain, ChainError};
use cairn_consensus::coins::Coin;
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_consensus::tx as rules;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lowest rate that is mined, satoshi for 1,000 vbytes (`DEFAULT_BLOCK_MIN_TX_FEE`).
pub const BLOCK_MIN_FEE_RATE: u64 = 1;
/// Chunks in a row that may not fit before a nearly full block is left as it is (`MAX_CONSECUTIVE_FAILURES`).
const MAX_CONSECUTIVE_FAILURES: usize = 1000;
/// A block with less weight left than this is nearly full (`BLOCK_FULL_ENOUGH_WEIGHT_DELTA`).
const BLOCK_FULL_ENOUGH_WEIGHT_DELTA: u64 = 4000;

/// The mempool. `Send + Sync`.
///
/// Its lock is held while coins are read and never while scripts run. It is taken inside the chain's observer, so nobody
/// who holds it may call a writing method of the chain, and no observer may call a method of the mempool but
/// [`Mempool::chain_event`].
pub struct Mempool {
    pub(crate) config: MempoolConfig,
    pub(crate) chain: Arc<Chain>,
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pool: Pool,
    pub(crate) rolling: RollingFee,
    /// The latest time that a caller told, seconds since 1970.
    pub(crate) now: u64,
    /// Blocks were disconnected, and what they held is not returned yet.
    pub(crate) reorg: Option<Reorg>,
}

impl Mempool {
    /// An empty mempool over a chain.
    pub fn new(config: MempoolConfig, chain: Arc<Chain>) -> Mempool {
        Mempool { config, chain, state: Mutex::default() }
    }

    /// The limits that it was made with.
    pub fn config(&self) -> &MempoolConfig {
        &self.config
    }

    /// The lock as it is, with a reorganisation perhaps half done.
    pub(crate) fn lock_unsettled(&self) -> MutexGuard<'_, State> {
        // Each change is made of steps that do not panic, so that a poisoned lock guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, with what disconnected blocks held back in its place.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.lock_unsettled();
        if state.reorg.is_none() {
            return state;
        }
        drop(state);
        // In the middle of a reorganisation the tip is no measure of anything. The chain's writer comes here from within
        // a change, so that it has to be waited for first.
        let _steady = self.chain.steady();
        let mut state = self.lock_unsettled();
        state.settle(&self.chain, &self.config);
        state
    }

    /// Validates and adds. `now` is seconds since 1970.
    pub fn accept(&self, tx: Transaction, now: u64) -> Result<Accepted, TxReject> {
        let prepared = Prepared::new(Arc::new(tx), &self.config)?;
        let spent = self.propose(&prepared, now)?.spent;
        check_scripts(&self.chain, &prepared.tx, &spent)?;

        // The mempool may have changed while the scripts ran. Their verdict has not: an outpoint names its output.
        let mut state = self.lock();
        let proposal = state.propose(&self.chain, &self.config, &prepared, now, Limits::Enforced)?;
        let accepted = accepted(&proposal);
        state.pool.remove(proposal.replaced);
        state.pool.insert(prepared.txid, proposal.entry);
        let State { pool, rolling, .. } = &mut *state;
        limit::enforce(pool, rolling, &self.config, now);
        if !state.pool.contains(&prepared.txid) {
            return Err(reject(TxRejectKind::Reconsiderable, "mempool full", ""));
        }
        Ok(accepted)
    }

    /// Validates without adding (`testmempoolaccept`).
    pub fn test_accept(&self, tx: &Transaction, now: u64) -> Result<Accepted, TxReject> {
        let prepared = Prepared::new(Arc::new(tx.clone()), &self.config)?;
        let proposal = self.propose(&prepared, now)?;
        check_scripts(&self.chain, &prepared.tx, &proposal.spent)?;
        Ok(accepted(&proposal))
    }

    fn propose(&self, prepared: &Prepared, now: u64) -> Result<Proposal, TxReject> {
        let mut state = self.lock();
        state.now = state.now.max(now);
        state.propose(&self.chain, &self.config, prepared, now, Limits::Enforced)
    }

    /// A transaction by id.
    pub fn get(&self, txid: &Txid) -> Option<MempoolEntry> {
        let state = self.lock();
        state.pool.get(txid).map(|member| entry(&state.pool, member))
    }

    /// All transaction ids, highest fee rate first (as chunks would be mined, parents before children).
    pub fn txids(&self) -> Vec<Txid> {
        let state = self.lock();
        let mut txids = Vec::with_capacity(state.pool.len());
        state.pool.best_chunks(|chunk| {
            txids.extend(&chunk.txids);
            Next::Go
        });
        txids
    }

    /// Totals.
    pub fn info(&self) -> MempoolInfo {
        let mut state = self.lock();
        let State { pool, rolling, now, .. } = &mut *state;
        MempoolInfo {
            size: pool.len(),
            bytes: pool.total_vsize(),
            usage: pool.usage(),
            total_fee: pool.total_fee(),
            min_fee_rate: rolling.rate(*now, pool.usage(), &self.config).max(self.config.min_relay_fee_rate),
        }
    }

    /// A counter that grows with every transaction that comes or goes (Core's `GetSequence`); 1 when none ever did.
    pub fn sequence(&self) -> u64 {
        self.lock().pool.sequence()
    }

    /// The coin at `outpoint` as the mempool sees it: created by a transaction in it, or the chain's, unless spent in it.
    /// The height of a mempool coin is [`MEMPOOL_HEIGHT`](crate::MEMPOOL_HEIGHT).
    ///
    /// # Errors
    /// The chain's coins could not be read.
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let state = self.lock();
        match state.pool.spender(outpoint) {
            Some(_) => Ok(None),
            None => state.unspent_or_here(&self.chain, outpoint),
        }
    }

    /// The mempool transaction that spends `outpoint`.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.lock().pool.spender(outpoint)
    }

    /// Transactions for a block, parents before children, best fee rate first, below weight and sigop limits
    /// (Core's `addChunks`: a chunk that would reach a limit is left out).
    pub fn select(&self, max_weight: u64, max_sigop_cost: u64) -> Vec<MempoolEntry> {
        let state = self.lock();
        let tip = self.chain.tip();
        let (mut weight, mut sigop_cost, mut failures) = (0, 0, 0);
        let mut selected = Vec::new();
        state.pool.best_chunks(|chunk| {
            let lowest = FeeFrac::new(BLOCK_MIN_FEE_RATE, 1000);
            if chunk.rate.weight_to_vsize().cmp_rate(&lowest).is_lt() {
                return Next::Stop;
            }
            let members = || chunk.txids.iter().filter_map(|txid| state.pool.get(txid));
            let chunk_sigops: u64 = members().map(|member| member.entry.sigop_cost).sum();
            let fits = weight + chunk.rate.size < max_weight
                && sigop_cost + chunk_sigops < max_sigop_cost
                && members().all(|member| rules::is_final_tx(&member.entry.tx, tip.height + 1, tip.median_time_past));
            if !fits {
                failures += 1;
                let nearly_full = weight + BLOCK_FULL_ENOUGH_WEIGHT_DELTA > max_weight;
                return if failures > MAX_CONSECUTIVE_FAILURES && nearly_full { Next::Stop } else { Next::SkipCluster };
            }
            failures = 0;
            sigop_cost += chunk_sigops;
            weight += members().map(|member| member.entry.weight).sum::<u64>();
            selected.extend(members());
            Next::Go
        });
        selected.into_iter().map(|member| entry(&state.pool, member)).collect()
    }
}

fn accepted(proposal: &Proposal) -> Accepted {
    Accepted {
        vsize: proposal.entry.vsize(),
        fee: Amount::from_sat(proposal.entry.fee),
        replaced: proposal.replaced.iter().copied().collect(),
    }
}

fn entry(pool: &Pool, member: &Member) -> MempoolEntry {
    let own = &member.entry;
    let totals = |relatives: BTreeSet<Txid>| {
        let start = (1, own.vsize(), own.fee);
        relatives.iter().filter_map(|txid| pool.get(txid)).fold(start, |(count, vsize, fee), relative| {
            (count + 1, vsize + relative.entry.vsize(), fee + relative.entry.fee)
        })
    };
    MempoolEntry {
        tx: own.tx.clone(),
        fee: Amount::from_sat(own.fee),
        vsize: own.vsize(),
        weight: own.weight,
        sigop_cost: own.sigop_cost,
        time: own.time,
        height: own.height,
        depends: member.parents.iter().copied().collect(),
        spent_by: member.children.iter().copied().collect(),
        ancestors: totals(pool.ancestors(&member.parents)),
        descendants: totals(pool.with_descendants(member.children.iter().copied())),
    }
}
