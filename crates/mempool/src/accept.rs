//! Whether a transaction may come: Core's `MemPoolAccept`, check by check and in its order. What holds of several
//! together is in `package`.

use crate::feerate::{FeeFrac, fee_at_rate};
use crate::mempool::State;
use crate::policy::{inputs, not_standard, rbf, reject, standard, truc};
use crate::pool::{Candidate, Entry};
use crate::types::{MEMPOOL_HEIGHT, MempoolConfig};
use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};
use cairn_chain::{BlockEntry, Chain, ChainError};
use cairn_consensus::coins::Coin;
use cairn_consensus::connect::AncestorTimes;
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_consensus::script::{ScriptFlags, TransactionSignatureChecker, verify_script};
use cairn_consensus::sighash::PrecomputedTransactionData;
use cairn_consensus::tx as rules;
use std::collections::BTreeSet;
use std::slice::from_ref;
use std::sync::Arc;

/// A transaction that has passed every check that needs neither chain nor mempool.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) tx: Arc<Transaction>,
    pub(crate) txid: Txid,
    pub(crate) wtxid: Wtxid,
}

impl Prepared {
    pub(crate) fn new(tx: Arc<Transaction>, config: &MempoolConfig) -> Result<Self, TxReject> {
        rules::check_transaction(&tx)?;
        if tx.is_coinbase() {
            return Err(reject(TxRejectKind::Consensus, "coinbase", ""));
        }
        if config.require_standard {
            standard::check_standard(&tx)?;
        }
        if tx.base_size() < standard::MIN_STANDARD_TX_NONWITNESS_SIZE {
            return Err(not_standard("tx-size-small", ""));
        }
        Ok(Self { txid: tx.compute_txid(), wtxid: tx.compute_wtxid(), tx })
    }
}

/// On what terms a transaction comes (Core's `ATMPArgs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// When it came, seconds since 1970.
    pub(crate) time: u64,
    /// A disconnected block returns it: it pays no minimum and is held to no topology.
    pub(crate) bypass_limits: bool,
    /// It may take the place of what it conflicts with.
    pub(crate) allow_replacement: bool,
    /// It may take the place of its parent's other child (BIP 431).
    pub(crate) allow_sibling_eviction: bool,
    /// It need not pay the minimum by itself: the package does.
    pub(crate) package_feerates: bool,
    /// Most that the caller pays, satoshi for 1,000 vbytes.
    pub(crate) max_fee_rate: Option<u64>,
}

impl Terms {
    /// One transaction from outside.
    pub(crate) fn single(time: u64) -> Self {
        Self {
            time,
            bypass_limits: false,
            allow_replacement: true,
            allow_sibling_eviction: true,
            package_feerates: false,
            max_fee_rate: None,
        }
    }

    /// What a disconnected block returns.
    pub(crate) fn returned(time: u64) -> Self {
        Self { bypass_limits: true, ..Self::single(time) }
    }

    /// A child with its parents.
    pub(crate) fn package(time: u64, max_fee_rate: Option<u64>) -> Self {
        Self { allow_sibling_eviction: false, package_feerates: true, max_fee_rate, ..Self::single(time) }
    }

    /// Several that are only tested.
    pub(crate) fn package_test(time: u64) -> Self {
        Self { allow_replacement: false, allow_sibling_eviction: false, ..Self::single(time) }
    }

    /// Whether a transaction pays more than the caller is willing to.
    pub(crate) fn exceeds_max_fee_rate(&self, entry: &Entry) -> bool {
        let rate = FeeFrac::new(entry.modified_fee, entry.vsize());
        self.max_fee_rate
            .is_some_and(|max| rate.cmp_rate(&FeeFrac::new(max.try_into().unwrap_or(i64::MAX), 1000)).is_gt())
    }
}

/// The refusal of what pays more than the caller is willing to.
pub(crate) fn max_fee_rate_exceeded() -> TxReject {
    reject(TxRejectKind::MempoolPolicy, "max feerate exceeded", "")
}

/// What is known of a transaction after the checks of it by itself (Core's `Workspace`).
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) txid: Txid,
    pub(crate) entry: Entry,
    /// What it spends, in the order of its inputs.
    pub(crate) spent: Vec<TxOut>,
    /// Its parents in the mempool.
    pub(crate) parents: BTreeSet<Txid>,
    /// Transactions here that it conflicts with, a sibling to evict included.
    pub(crate) conflicts: BTreeSet<Txid>,
    pub(crate) evicts_sibling: bool,
}

impl Workspace {
    pub(crate) fn candidate(&self, parents: BTreeSet<Txid>) -> Candidate {
        Candidate { txid: self.txid, rate: self.entry.rate(), parents }
    }
}

/// A transaction that may come as far as everything but its scripts goes.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) entry: Entry,
    /// What it spends, in the order of its inputs.
    pub(crate) spent: Vec<TxOut>,
    /// What leaves if it comes.
    pub(crate) replaced: BTreeSet<Txid>,
}

/// Times of the active chain's blocks, for BIP 68.
struct ActiveTimes<'a>(&'a Chain);

impl AncestorTimes for ActiveTimes<'_> {
    fn median_time_past(&self, height: u32) -> u32 {
        // A reorganisation may have shortened the chain meanwhile; its event has the transaction checked again.
        self.0.entry_at(height).map_or(0, |entry| entry.median_time_past)
    }
}

/// A failure to read coins, which says nothing of the transaction.
pub(crate) fn unreadable(error: &ChainError) -> TxReject {
    reject(TxRejectKind::Internal, "coins-unreadable", error.to_string())
}

impl State {
    /// The coin at an outpoint, whether spent here or not.
    pub(crate) fn unspent_or_here(&self, chain: &Chain, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        match self.pool.get(&outpoint.txid) {
            Some(member) => Ok(unconfirmed_coin(&member.entry.tx, outpoint.vout)),
            None => chain.coin(outpoint),
        }
    }

    /// Everything but the scripts, for a transaction that comes by itself (Core's `AcceptSingleTransactionInternal`).
    pub(crate) fn propose(
        &mut self,
        chain: &Chain,
        config: &MempoolConfig,
        prepared: &Prepared,
        terms: Terms,
    ) -> Result<Proposal, TxReject> {
        let new = self.pre_checks(chain, config, prepared, terms, &[])?;
        let replaced = self.make_room(config, &new)?;
        if terms.exceeds_max_fee_rate(&new.entry) {
            return Err(max_fee_rate_exceeded());
        }
        if !terms.bypass_limits && config.require_standard {
            standard::check_ephemeral_spends(&self.pool, from_ref(&prepared.tx)).map_err(|(_, reason)| reason)?;
        }
        Ok(Proposal { entry: new.entry, spent: new.spent, replaced })
    }

    /// What can be said of a transaction by itself (Core's `PreChecks`). It may spend from what comes `before` it in its
    /// package.
    pub(crate) fn pre_checks(
        &mut self,
        chain: &Chain,
        config: &MempoolConfig,
        prepared: &Prepared,
        terms: Terms,
        before: &[Workspace],
    ) -> Result<Workspace, TxReject> {
        let Prepared { tx, txid, wtxid } = prepared;
        let (txid, wtxid) = (*txid, *wtxid);
        let tip = chain.tip();
        if !rules::is_final_tx(tx, tip.height + 1, tip.median_time_past) {
            return Err(reject(TxRejectKind::PrematureSpend, "non-final", ""));
        }
        if let Some(member) = self.pool.get(&txid) {
            let same = member.entry.wtxid == wtxid;
            let reason = if same { "txn-already-in-mempool" } else { "txn-same-nonwitness-data-in-mempool" };
            return Err(reject(TxRejectKind::Conflict, reason, ""));
        }
        let mut conflicts: BTreeSet<Txid> =
            tx.input.iter().filter_map(|input| self.pool.spender(&input.previous_output)).collect();
        if !terms.allow_replacement && !conflicts.is_empty() {
            return Err(reject(TxRejectKind::MempoolPolicy, "bip125-replacement-disallowed", ""));
        }
        let coins = self.coins(chain, tx, txid, before)?;
        if !is_bip68_final(chain, &tip, tx, &coins) {
            return Err(reject(TxRejectKind::PrematureSpend, "non-BIP68-final", ""));
        }
        let fee = rules::check_tx_inputs(tx, &coins, tip.height + 1)?.to_sat();
        let spent: Vec<TxOut> = coins.into_iter().map(|coin| coin.output).collect();
        let sigop_cost = rules::transaction_sigop_cost(tx, &spent, ScriptFlags::STANDARD) as u64;
        if config.require_standard {
            inputs::check_inputs(tx, &spent)?;
            inputs::check_witnesses(tx, &spent)?;
        }
        let weight = tx.weight().to_wu();
        let entry = Entry {
            tx: tx.clone(),
            wtxid,
            fee,
            modified_fee: self.pool.modified_fee(&txid, fee),
            weight,
            adjusted_weight: weight.max(sigop_cost * standard::BYTES_PER_SIGOP),
            sigop_cost,
            time: terms.time,
            height: tip.height,
            sequence: if terms.bypass_limits { 0 } else { self.pool.sequence() },
        };
        let vsize = entry.vsize();
        if config.require_standard {
            standard::check_dust_pays_nothing(tx, fee, entry.modified_fee)?;
        }
        if sigop_cost > standard::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(not_standard("bad-txns-too-many-sigops", sigop_cost.to_string()));
        }
        if !terms.bypass_limits && !terms.package_feerates {
            self.check_fee_rate(config, entry.modified_fee, vsize)?;
        }
        let parents = self.pool.parents_of(tx);
        let mut evicts_sibling = false;
        if !terms.bypass_limits {
            let violation = truc::check(&self.pool, prepared, vsize, &parents, &conflicts);
            match violation {
                Ok(()) => {}
                Err(truc::Violation { sibling: Some(sibling), .. }) if terms.allow_sibling_eviction => {
                    conflicts.insert(sibling);
                    evicts_sibling = true;
                }
                Err(violation) => return Err(violation.into()),
            }
        }
        Ok(Workspace { txid, entry, spent, parents, conflicts, evicts_sibling })
    }

    /// The coins that a transaction spends, in the order of its inputs.
    fn coins(&self, chain: &Chain, tx: &Transaction, txid: Txid, before: &[Workspace]) -> Result<Vec<Coin>, TxReject> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = &input.previous_output;
            let coin = match before.iter().find(|other| other.txid == outpoint.txid) {
                Some(other) => unconfirmed_coin(&other.entry.tx, outpoint.vout),
                None => self.unspent_or_here(chain, outpoint).map_err(|error| unreadable(&error))?,
            };
            match coin {
                Some(coin) => coins.push(coin),
                None => return Err(self.why_missing(chain, tx, txid)),
            }
        }
        Ok(coins)
    }

    /// Inputs are missing: because the transaction is in the chain already, or for another reason.
    fn why_missing(&self, chain: &Chain, tx: &Transaction, txid: Txid) -> TxReject {
        for vout in 0..tx.output.len() as u32 {
            match chain.coin(&OutPoint { txid, vout }) {
                Ok(Some(_)) => return reject(TxRejectKind::Conflict, "txn-already-known", ""),
                Ok(None) => {}
                Err(error) => return unreadable(&error),
            }
        }
        reject(TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent", "")
    }

    /// Core's `CheckFeeRate`, for one transaction or a package: `fee` is the modified one in satoshi.
    pub(crate) fn check_fee_rate(&mut self, config: &MempoolConfig, fee: i64, vsize: u64) -> Result<(), TxReject> {
        let minimum = self.rolling.rate(self.now, self.pool.usage(), config);
        for (rate, reason) in [
            (Some(minimum).filter(|&rate| rate > 0), "mempool min fee not met"),
            (Some(config.min_relay_fee_rate), "min relay fee not met"),
        ] {
            let Some(needed) = rate.map(|rate| fee_at_rate(rate, vsize)) else { continue };
            if i128::from(fee) < i128::from(needed) {
                return Err(reject(TxRejectKind::Reconsiderable, reason, format!("{fee} < {needed}")));
            }
        }
        Ok(())
    }

    /// Cluster limits, and replacement if there are conflicts: what leaves.
    fn make_room(&self, config: &MempoolConfig, new: &Workspace) -> Result<BTreeSet<Txid>, TxReject> {
        let candidate = new.candidate(new.parents.clone());
        if new.conflicts.is_empty() {
            return match self.pool.staged(from_ref(&candidate), &BTreeSet::new()).within_limits() {
                true => Ok(BTreeSet::new()),
                false => Err(reject(TxRejectKind::MempoolPolicy, "too-large-cluster", "")),
            };
        }
        let replaced = rbf::check(&self.pool, new, &candidate, config.incremental_fee_rate)?;
        if let Some(ancestor) = self.pool.ancestors(&new.parents).intersection(&new.conflicts).next() {
            return Err(reject(
                TxRejectKind::Consensus,
                "bad-txns-spends-conflicting-tx",
                format!("{} spends conflicting transaction {ancestor}", new.txid),
            ));
        }
        Ok(replaced)
    }
}

/// The coin that an unconfirmed transaction makes.
fn unconfirmed_coin(tx: &Transaction, vout: u32) -> Option<Coin> {
    tx.output.get(vout as usize).map(|output| Coin { output: output.clone(), height: MEMPOOL_HEIGHT, coinbase: false })
}

/// Core's `CheckSequenceLocksAtTip`: whether BIP 68 lets the transaction into the next block.
pub(crate) fn is_bip68_final(chain: &Chain, tip: &BlockEntry, tx: &Transaction, coins: &[Coin]) -> bool {
    let next = tip.height + 1;
    // What is unconfirmed is assumed to be confirmed by the next block.
    let heights: Vec<u32> =
        coins.iter().map(|coin| if coin.height == MEMPOOL_HEIGHT { next } else { coin.height }).collect();
    rules::sequence_locks(tx, &heights, &ActiveTimes(chain)).allow(next, tip.median_time_past)
}

/// Checks every input's scripts, by policy and then by the consensus rules of the next block, as Core does lest a policy
/// flag that wrongly admits more lets an invalid transaction in.
pub(crate) fn check_scripts(chain: &Chain, tx: &Arc<Transaction>, spent: &[TxOut]) -> Result<(), TxReject> {
    let precomputed = PrecomputedTransactionData::new(tx, spent.to_vec());
    let run = |flags: ScriptFlags| {
        spent.iter().enumerate().try_for_each(|(place, output)| {
            let checker = TransactionSignatureChecker::new(tx, place, &precomputed);
            let input = &tx.input[place];
            verify_script(&input.script_sig, &output.script_pubkey, &input.witness, flags, &checker)
                .map_err(|error| (place, error))
        })
    };
    let debug = |place: usize| {
        let input = &tx.input[place];
        format!(
            "input {place} of {} (wtxid {}), spending {}",
            tx.compute_txid(),
            tx.compute_wtxid(),
            input.previous_output
        )
    };
    run(ScriptFlags::STANDARD).map_err(|(place, error)| {
        let has_witness = tx.input.iter().any(|input| !input.witness.is_empty());
        let stripped = !has_witness && inputs::spends_witness_program(tx, spent);
        let kind = if stripped { TxRejectKind::WitnessStripped } else { TxRejectKind::NotStandard };
        reject(kind, format!("mempool-script-verify-flag-failed ({error})"), debug(place))
    })?;
    let tip = chain.tip();
    let flags = chain.params().block_script_flags(tip.height, &tip.hash);
    run(flags).map_err(|(place, error)| {
        reject(TxRejectKind::Consensus, format!("block-script-verify-flag-failed ({error})"), debug(place))
    })
}
