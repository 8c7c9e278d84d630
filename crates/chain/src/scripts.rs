//! Checking a block on all cores: its ids and roots, and its scripts beside all else that is asked of it.

use crate::chain::{Chain, StoredBlock};
use crate::error::ChainError;
use crate::fetch::Fetched;
use crate::rules;
use bitcoin::{Block, Transaction, Txid};
use cairn_consensus::block::{Checks, WitnessRoot, check_block, txids};
use cairn_consensus::coins::CoinView;
use cairn_consensus::connect::{ConnectError, Connected, ScriptCheck};
use cairn_consensus::error::BlockReject;
use cairn_consensus::header::check_header;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// From so many inputs on, a block's scripts go to all cores; fewer are done before threads would have woken.
const PARALLEL_INPUTS: usize = 16;
/// From so many transactions on, all cores check a block.
const PARALLEL_TRANSACTIONS: usize = 256;
/// Most threads for scripts, as Core's `MAX_SCRIPTCHECK_THREADS`.
const MAX_SCRIPT_THREADS: usize = 15;

/// Whether a block's scripts are to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    /// All of them.
    Check,
    /// They were checked before.
    Known,
}

/// The first script in the block's order that fails, of those that were run.
struct FirstFailure {
    /// How many transactions from the first on may still hold it.
    within: AtomicUsize,
    found: Mutex<Option<(usize, BlockReject)>>,
}

impl FirstFailure {
    fn new() -> Self {
        Self { within: AtomicUsize::new(usize::MAX), found: Mutex::new(None) }
    }

    /// Checks a transaction, unless an earlier one has failed.
    fn check(&self, number: usize, check: &ScriptCheck) {
        let run = |input| match number < self.within.load(Ordering::Relaxed) {
            true => check.run(input).err(),
            false => None,
        };
        let inputs = 0..check.inputs();
        let failed = match inputs.len() < PARALLEL_INPUTS {
            true => inputs.into_iter().find_map(run),
            false => inputs.into_par_iter().find_map_first(run),
        };
        if let Some(reason) = failed {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|(first, _)| number < *first) {
                *found = Some((number, reason));
                self.within.fetch_min(number, Ordering::Relaxed);
            }
        }
    }

    /// No script matters any more.
    fn give_up(&self) {
        self.within.store(0, Ordering::Relaxed);
    }

    fn into_result(self) -> Result<(), BlockReject> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.map_or(Ok(()), |(_, reason)| Err(reason))
    }
}

impl Chain {
    /// What a block at `height` does to `coins`, those of the block before it. What is wrong with it otherwise is told before
    /// a script that fails, as by Core with script threads; of several scripts the first in the block's order.
    pub(crate) fn connect_at(
        &self,
        block: &Arc<Block>,
        txids: &[Txid],
        height: u32,
        coins: &(impl CoinView<Error = ChainError> + Sync),
        scripts: Scripts,
    ) -> Result<Connected, ConnectError<ChainError>> {
        match self.pool_for(block) {
            None => self.connect_with(block, txids, height, coins, scripts),
            Some(pool) => {
                let coins = Fetched::new(coins, block, txids, pool);
                self.connect_with(block, txids, height, &coins, scripts)
            }
        }
    }

    fn connect_with(
        &self,
        block: &Arc<Block>,
        txids: &[Txid],
        height: u32,
        coins: &impl CoinView<Error = ChainError>,
        scripts: Scripts,
    ) -> Result<Connected, ConnectError<ChainError>> {
        if scripts == Scripts::Known {
            return rules::connect_at(self, block, txids, height, coins, |_| {});
        }
        let inputs: usize = block.txdata.iter().skip(1).map(|tx| tx.input.len()).sum();
        let pool = if inputs >= PARALLEL_INPUTS { self.script_pool() } else { None };
        let Some(pool) = pool else {
            let mut checks = Vec::new();
            let connected = rules::connect_at(self, block, txids, height, coins, |check| checks.push(check))?;
            checks.iter().try_for_each(|check| (0..check.inputs()).try_for_each(|input| check.run(input)))?;
            return Ok(connected);
        };
        let first = FirstFailure::new();
        let connected = pool.in_place_scope(|scope| {
            let mut number = 0;
            let connected = rules::connect_at(self, block, txids, height, coins, |check| {
                let (first, this) = (&first, number);
                number += 1;
                scope.spawn(move |_| first.check(this, &check));
            });
            if connected.is_err() {
                first.give_up();
            }
            connected
        })?;
        first.into_result()?;
        Ok(connected)
    }

    /// Checks what needs no context, on all cores if the block is large. What is computed for that is kept for later.
    pub(crate) fn check_alone(&self, block: Arc<Block>) -> Result<(StoredBlock, WitnessRoot), BlockReject> {
        let check = |txids: &[Txid]| check_block(&block, txids, &self.params, Checks::ALL);
        let Some(pool) = self.pool_for(&block) else {
            let txids = txids(&block);
            check(&txids)?;
            let witnesses = WitnessRoot::of(&block);
            return Ok(((block, txids), witnesses));
        };
        // Nobody makes all cores work without work of their own.
        check_header(&block.header, &self.params)?;
        let checked = || {
            let txids: Vec<Txid> = block.txdata.par_iter().map(Transaction::compute_txid).collect();
            check(&txids).map(|()| txids)
        };
        let (checked, witnesses) = pool.join(checked, || WitnessRoot::of(&block));
        let txids = checked?;
        Ok(((block, txids), witnesses))
    }

    /// The threads for a block that is large enough.
    pub(crate) fn pool_for(&self, block: &Block) -> Option<&rayon::ThreadPool> {
        if block.txdata.len() >= PARALLEL_TRANSACTIONS { self.script_pool() } else { None }
    }

    /// `None` on one core, or where threads cannot be had: the writer then does the work itself.
    fn script_pool(&self) -> Option<&rayon::ThreadPool> {
        let start = || {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            if cores == 1 {
                return None;
            }
            rayon::ThreadPoolBuilder::new()
                .num_threads(cores.min(MAX_SCRIPT_THREADS))
                .thread_name(|n| format!("scripts-{n}"))
                .build()
                .inspect_err(|error| tracing::warn!(%error, "scripts are checked on one thread"))
                .ok()
        };
        self.pool.get_or_init(start).as_ref()
    }
}
