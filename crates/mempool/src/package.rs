//! Several transactions at once: Core's `ProcessNewPackage`.
//!
//! A child may pay for parents that pay too little alone. Each transaction is tried by itself first, so that nobody's fee
//! counts twice; what only lacks fees or parents is then tried together.

use crate::accept::{Prepared, Terms, Workspace, check_scripts, max_fee_rate_exceeded};
use crate::feerate::FeeFrac;
use crate::limit;
use crate::mempool::{Mempool, State, accepted};
use crate::policy::package::{self, PackageReject};
use crate::policy::{rbf, reject, standard, truc};
use crate::pool::Candidate;
use crate::types::{Accepted, MempoolConfig};
use bitcoin::{Amount, Transaction, Txid, Wtxid};
use cairn_chain::Chain;
use cairn_consensus::error::{TxReject, TxRejectKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What became of a transaction of a package.
#[derive(Debug, Clone)]
pub enum PackageTxResult {
    /// It is in the mempool now, or would be if this was no test.
    Accepted(Accepted),
    /// It was here already.
    InMempool {
        /// Virtual size.
        vsize: u64,
        /// Base fee.
        fee: Amount,
    },
    /// It was here already with other witnesses, and the new ones were not looked at.
    DifferentWitness(Wtxid),
    /// It is refused.
    Rejected(TxReject),
}

/// What became of a package.
#[derive(Debug, Clone, Default)]
pub struct PackageResult {
    /// Why it is not in the mempool whole.
    pub failure: Option<PackageReject>,
    /// By id with witnesses; a transaction is missing if the package failed before its turn.
    pub transactions: BTreeMap<Wtxid, PackageTxResult>,
}

impl PackageResult {
    fn failed(failure: PackageReject) -> Self {
        Self { failure: Some(failure), transactions: BTreeMap::new() }
    }

    fn rejected(failure: PackageReject, wtxid: Wtxid, reason: TxReject) -> Self {
        Self { failure: Some(failure), transactions: BTreeMap::from([(wtxid, PackageTxResult::Rejected(reason))]) }
    }

    fn transaction_failed(wtxid: Wtxid, reason: TxReject) -> Self {
        Self::rejected(PackageReject::transaction("transaction failed"), wtxid, reason)
    }
}

/// A package that may come as far as everything but its scripts goes.
struct PackageProposal {
    new: Vec<Workspace>,
    /// What leaves if it comes.
    replaced: BTreeSet<Txid>,
    /// Fee and vbytes of all.
    whole: FeeFrac,
}

impl Mempool {
    /// Validates and adds one transaction, or a child with some of its parents before it, as far as they may come.
    /// `max_fee_rate` is the most that the caller is willing to pay in satoshi for 1,000 vbytes, `now` seconds since 1970.
    pub fn accept_package(&self, txs: &[Arc<Transaction>], max_fee_rate: Option<u64>, now: u64) -> PackageResult {
        if let Err(failure) = package::check_well_formed(txs) {
            return PackageResult::failed(failure);
        }
        if txs.len() > 1 && !package::is_child_with_parents(txs) {
            return PackageResult::failed(PackageReject::policy("package-not-child-with-parents", ""));
        }
        self.note_time(now);
        let terms = Terms::package(now, max_fee_rate);
        let mut result = PackageResult::default();
        let mut alone = BTreeMap::new();
        let mut together = Vec::new();
        for tx in txs {
            let wtxid = tx.compute_wtxid();
            if let Some(known) = self.already_here(&tx.compute_txid(), &wtxid) {
                result.transactions.insert(wtxid, known);
                continue;
            }
            let single = Terms { allow_sibling_eviction: true, package_feerates: false, ..terms };
            match self.accept_untrimmed(tx, single) {
                Ok(accepted) => {
                    result.transactions.insert(wtxid, PackageTxResult::Accepted(accepted));
                }
                Err(reason) => {
                    let curable = matches!(reason.kind, TxRejectKind::Reconsiderable | TxRejectKind::MissingInputs);
                    if txs.len() == 1 || !curable {
                        result.failure = Some(PackageReject::transaction("transaction failed"));
                    } else {
                        together.push(tx.clone());
                    }
                    alone.insert(wtxid, reason);
                }
            }
        }
        if result.failure.is_none() && !together.is_empty() {
            let mut multi = match together.as_slice() {
                [tx] => self.accept_last(tx, terms),
                _ => self.accept_together(&together, terms),
            };
            result.failure = multi.failure;
            result.transactions.append(&mut multi.transactions);
        }
        for (wtxid, reason) in alone {
            result.transactions.entry(wtxid).or_insert(PackageTxResult::Rejected(reason));
        }
        self.trim_after(txs, &mut result, now);
        result
    }

    /// What to say of a transaction that is here already.
    fn already_here(&self, txid: &Txid, wtxid: &Wtxid) -> Option<PackageTxResult> {
        let state = self.lock();
        let entry = &state.pool.get(txid)?.entry;
        Some(match entry.wtxid == *wtxid {
            true => PackageTxResult::InMempool { vsize: entry.vsize(), fee: Amount::from_sat(entry.fee) },
            false => PackageTxResult::DifferentWitness(entry.wtxid),
        })
    }

    /// Tries again the only transaction that did not come: what it lacked may have come after it.
    fn accept_last(&self, tx: &Arc<Transaction>, terms: Terms) -> PackageResult {
        let single = Terms { allow_sibling_eviction: true, package_feerates: false, ..terms };
        let wtxid = tx.compute_wtxid();
        match self.accept_untrimmed(tx, single) {
            Ok(accepted) => {
                let transactions = BTreeMap::from([(wtxid, PackageTxResult::Accepted(accepted))]);
                PackageResult { failure: None, transactions }
            }
            Err(reason) => PackageResult::transaction_failed(wtxid, reason),
        }
    }

    /// Core's `AcceptMultipleTransactions` and `SubmitPackage`.
    fn accept_together(&self, txs: &[Arc<Transaction>], terms: Terms) -> PackageResult {
        let proposal = match self.lock().propose_package(&self.chain, &self.config, txs, terms) {
            Ok(proposal) => proposal,
            Err(result) => return *result,
        };
        let mut scripts = self.check_package_scripts(&proposal);
        if scripts.failure.is_some() {
            scripts.transactions.retain(|_, result| matches!(result, PackageTxResult::Rejected(_)));
            return scripts;
        }
        // The mempool may have changed while the scripts ran.
        let mut state = self.lock();
        let proposal = match state.propose_package(&self.chain, &self.config, txs, terms) {
            Ok(proposal) => proposal,
            Err(result) => return *result,
        };
        let includes: Vec<Wtxid> = proposal.new.iter().map(|new| new.entry.wtxid).collect();
        let mut replaced: Vec<Txid> = proposal.replaced.iter().copied().collect();
        state.pool.remove(proposal.replaced);
        let mut transactions = BTreeMap::new();
        for new in proposal.new {
            let mut accepted = accepted(&new.entry, std::mem::take(&mut replaced));
            accepted.effective_rate = rate_of(proposal.whole);
            accepted.effective_includes.clone_from(&includes);
            transactions.insert(new.entry.wtxid, PackageTxResult::Accepted(accepted));
            state.pool.insert(new.txid, new.entry);
        }
        PackageResult { failure: None, transactions }
    }

    /// Keeps within the bound on memory, and says so of those of the package that it cost their place.
    fn trim_after(&self, txs: &[Arc<Transaction>], result: &mut PackageResult, now: u64) {
        let mut state = self.lock();
        let State { pool, rolling, .. } = &mut *state;
        limit::enforce(pool, rolling, &self.config, now);
        for tx in txs {
            let Some(known) = result.transactions.get_mut(&tx.compute_wtxid()) else { continue };
            if !matches!(known, PackageTxResult::Rejected(_)) && !pool.contains(&tx.compute_txid()) {
                *known = PackageTxResult::Rejected(reject(TxRejectKind::MempoolPolicy, "mempool full", ""));
                result.failure = Some(PackageReject::transaction("transaction failed"));
            }
        }
    }

    /// Validates several transactions, parents before children, without adding them (`testmempoolaccept`). They may
    /// replace nothing, and each must pay for itself.
    pub fn test_accept_package(&self, txs: &[Arc<Transaction>], now: u64) -> PackageResult {
        let terms = Terms::package_test(now);
        self.note_time(now);
        let proposal = self.lock().propose_package(&self.chain, &self.config, txs, terms);
        match proposal {
            Ok(proposal) => self.check_package_scripts(&proposal),
            Err(result) => *result,
        }
    }

    /// Checks scripts in the package's order, up to the first failure.
    fn check_package_scripts(&self, proposal: &PackageProposal) -> PackageResult {
        let mut result = PackageResult::default();
        for new in &proposal.new {
            let wtxid = new.entry.wtxid;
            if let Err(reason) = check_scripts(&self.chain, &new.entry.tx, &new.spent) {
                result.failure = Some(PackageReject::transaction("transaction failed"));
                result.transactions.insert(wtxid, PackageTxResult::Rejected(reason));
                return result;
            }
            result.transactions.insert(wtxid, PackageTxResult::Accepted(accepted(&new.entry, Vec::new())));
        }
        result
    }
}

impl State {
    /// Everything but the scripts, for transactions that come together.
    fn propose_package(
        &mut self,
        chain: &Chain,
        config: &MempoolConfig,
        txs: &[Arc<Transaction>],
        terms: Terms,
    ) -> Result<PackageProposal, Box<PackageResult>> {
        let new = self.check_each(chain, config, txs, terms)?;
        let failed = |failure| Box::new(PackageResult::failed(failure));
        for one in &new {
            if let Err(violation) = truc::check_in_package(&self.pool, one, &new) {
                return Err(failed(PackageReject::policy("TRUC-violation", violation.debug)));
            }
        }
        let whole = new
            .iter()
            .fold(FeeFrac::default(), |sum, new| sum.plus(FeeFrac::new(new.entry.modified_fee, new.entry.vsize())));
        if terms.package_feerates
            && let Err(reason) = self.check_fee_rate(config, whole.fee, whole.size)
            && let Some(last) = new.last()
        {
            return Err(Box::new(PackageResult::transaction_failed(last.entry.wtxid, reason)));
        }
        let candidates: Vec<Candidate> = new.iter().map(|one| one.candidate(parents(one, &new))).collect();
        let replaced = if new.iter().all(|one| one.conflicts.is_empty()) {
            BTreeSet::new()
        } else {
            rbf::check_package(&self.pool, &new, &candidates, whole, config.incremental_fee_rate).map_err(failed)?
        };
        if !self.pool.staged(&candidates, &replaced).within_limits() {
            return Err(failed(PackageReject::policy("too-large-cluster", "")));
        }
        if config.require_standard {
            standard::check_ephemeral_spends(&self.pool, txs).map_err(|(wtxid, reason)| {
                Box::new(PackageResult::rejected(PackageReject::transaction("unspent-dust"), wtxid, reason))
            })?;
        }
        Ok(PackageProposal { new, replaced, whole })
    }

    /// What can be said of each by itself, in their order.
    fn check_each(
        &mut self,
        chain: &Chain,
        config: &MempoolConfig,
        txs: &[Arc<Transaction>],
        terms: Terms,
    ) -> Result<Vec<Workspace>, Box<PackageResult>> {
        package::check_well_formed(txs).map_err(|failure| Box::new(PackageResult::failed(failure)))?;
        let mut new: Vec<Workspace> = Vec::with_capacity(txs.len());
        for tx in txs {
            let checked = Prepared::new(tx.clone(), config)
                .and_then(|prepared| self.pre_checks(chain, config, &prepared, terms, &new))
                .and_then(
                    |one| if terms.exceeds_max_fee_rate(&one.entry) { Err(max_fee_rate_exceeded()) } else { Ok(one) },
                );
            match checked {
                Ok(one) => new.push(one),
                Err(reason) => {
                    return Err(Box::new(PackageResult::transaction_failed(tx.compute_wtxid(), reason)));
                }
            }
        }
        Ok(new)
    }
}

/// The parents of one of a package, in the mempool and in the package.
fn parents(one: &Workspace, package: &[Workspace]) -> BTreeSet<Txid> {
    let inputs = one.entry.tx.input.iter().map(|input| input.previous_output.txid);
    let in_package = inputs.filter(|txid| package.iter().any(|other| other.txid == *txid));
    in_package.chain(one.parents.iter().copied()).collect()
}

/// Satoshi for 1,000 vbytes, rounded down.
pub(crate) fn rate_of(rate: FeeFrac) -> u64 {
    rate.per_thousand().try_into().unwrap_or(0)
}
