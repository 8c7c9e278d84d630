//! [`Mempool`]: one lock around the transactions, and what callers do with it.

use crate::accept::{Prepared, Proposal, Terms, check_scripts};
use crate::feerate::FeeFrac;
use crate::inspect::entry;
use crate::limit::{self, RollingFee};
use crate::package::rate_of;
use crate::policy::reject;
use crate::pool::{Entry, Next, Pool};
use crate::reorg::Reorg;
use crate::types::{Accepted, MempoolConfig, MempoolEntry, MempoolInfo};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use cairn_chain::{Chain, ChainError};
use cairn_consensus::coins::Coin;
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_consensus::tx as rules;
use std::sync::atomic::AtomicBool;
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
    /// What the last run left was read, or there was nothing to read.
    pub(crate) loaded: AtomicBool,
    /// Held while a file is written.
    pub(crate) dumping: Mutex<()>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pool: Pool,
    pub(crate) rolling: RollingFee,
    /// The time that a caller told last, seconds since 1970; a clock that is set goes back too.
    pub(crate) now: u64,
    /// Blocks were disconnected, and what they held is not returned yet.
    pub(crate) reorg: Option<Reorg>,
}

impl Mempool {
    /// An empty mempool over a chain.
    pub fn new(config: MempoolConfig, chain: Arc<Chain>) -> Mempool {
        Mempool { config, chain, state: Mutex::default(), loaded: AtomicBool::new(false), dumping: Mutex::default() }
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
        self.accept_shared(&Arc::new(tx), now, now)
    }

    /// Validates and adds a transaction that came at `time`, perhaps before a restart. Both are seconds since 1970.
    pub fn accept_shared(&self, tx: &Arc<Transaction>, time: u64, now: u64) -> Result<Accepted, TxReject> {
        self.note_time(now);
        let accepted = self.accept_untrimmed(tx, Terms::single(time))?;
        let mut state = self.lock();
        let State { pool, rolling, .. } = &mut *state;
        limit::enforce(pool, rolling, &self.config, now);
        if !pool.contains(&tx.compute_txid()) {
            return Err(reject(TxRejectKind::Reconsiderable, "mempool full", ""));
        }
        Ok(accepted)
    }

    /// Validates and adds, and leaves it to the caller to keep within the bound on memory.
    pub(crate) fn accept_untrimmed(&self, tx: &Arc<Transaction>, terms: Terms) -> Result<Accepted, TxReject> {
        let prepared = Prepared::new(tx.clone(), &self.config)?;
        let spent = self.lock().propose(&self.chain, &self.config, &prepared, terms)?.spent;
        check_scripts(&self.chain, &prepared.tx, &spent)?;

        // The mempool may have changed while the scripts ran. Their verdict has not: an outpoint names its output.
        let mut state = self.lock();
        let Proposal { entry, replaced, .. } = state.propose(&self.chain, &self.config, &prepared, terms)?;
        let accepted = accepted(&entry, replaced.iter().copied().collect());
        state.pool.remove(replaced);
        state.pool.insert(prepared.txid, entry);
        Ok(accepted)
    }

    /// Validates without adding (`testmempoolaccept`).
    pub fn test_accept(&self, tx: &Transaction, now: u64) -> Result<Accepted, TxReject> {
        self.note_time(now);
        let prepared = Prepared::new(Arc::new(tx.clone()), &self.config)?;
        let Proposal { entry, spent, replaced } =
            self.lock().propose(&self.chain, &self.config, &prepared, Terms::single(now))?;
        check_scripts(&self.chain, &prepared.tx, &spent)?;
        Ok(accepted(&entry, replaced.into_iter().collect()))
    }

    /// The minimum fee rate falls with time, which only callers know.
    pub(crate) fn note_time(&self, now: u64) {
        let mut state = self.lock();
        state.now = now;
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
            unbroadcast: pool.unbroadcast().len(),
        }
    }

    /// A counter that grows with every transaction that comes or goes (Core's `GetSequence`); 1 when none ever did.
    pub fn sequence(&self) -> u64 {
        self.lock().pool.sequence()
    }

    /// A counter that grows with everything that may change the next block (Core's `GetTransactionsUpdated`).
    pub fn transactions_updated(&self) -> u64 {
        self.lock().pool.updates()
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

    /// The mempool transaction that spends `outpoint`, whole.
    pub fn spending_tx(&self, outpoint: &OutPoint) -> Option<Arc<Transaction>> {
        let state = self.lock();
        state.pool.spender(outpoint).and_then(|txid| state.pool.get(&txid)).map(|member| member.entry.tx.clone())
    }

    /// Transactions for a block, parents before children, best fee rate first, below weight and sigop limits
    /// (Core's `addChunks`: a chunk that would reach a limit is left out).
    pub fn select(&self, max_weight: u64, max_sigop_cost: u64) -> Vec<MempoolEntry> {
        let state = self.lock();
        let tip = self.chain.tip();
        let (mut weight, mut sigop_cost, mut failures) = (0, 0, 0);
        let mut selected = Vec::new();
        state.pool.best_chunks(|chunk| {
            let lowest = FeeFrac::new(BLOCK_MIN_FEE_RATE as i64, 1000);
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

/// The result for a transaction that pays for itself.
pub(crate) fn accepted(entry: &Entry, replaced: Vec<Txid>) -> Accepted {
    Accepted {
        vsize: entry.vsize(),
        fee: Amount::from_sat(entry.fee),
        effective_rate: rate_of(FeeFrac::new(entry.modified_fee, entry.vsize())),
        effective_includes: vec![entry.wtxid],
        replaced,
    }
}
