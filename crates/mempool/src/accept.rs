//! Whether one transaction may come: Core's `MemPoolAccept` for single transactions, check by check and in its order.

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
use std::sync::Arc;

/// A transaction that has passed every check that needs neither chain nor mempool.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) tx: Arc<Transaction>,
    pub(crate) txid: Txid,
    wtxid: Wtxid,
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

/// Which transactions are measured: those that come from outside, or those that a disconnected block returns, which
/// pay no minimum and are held to no topology (Core's `bypass_limits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    Enforced,
    Bypassed,
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
            Some(member) => Ok(member.entry.tx.output.get(outpoint.vout as usize).map(|output| Coin {
                output: output.clone(),
                height: MEMPOOL_HEIGHT,
                coinbase: false,
            })),
            None => chain.coin(outpoint),
        }
    }

    /// Everything but the scripts.
    pub(crate) fn propose(
        &mut self,
        chain: &Chain,
        config: &MempoolConfig,
        prepared: &Prepared,
        now: u64,
        limits: Limits,
    ) -> Result<Proposal, TxReject> {
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
        let coins = self.coins(chain, tx, txid)?;
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
            weight,
            adjusted_weight: weight.max(sigop_cost * standard::BYTES_PER_SIGOP),
            sigop_cost,
            time: now,
            height: tip.height,
            sequence: if limits == Limits::Bypassed { 0 } else { self.pool.sequence() },
        };
        let vsize = entry.vsize();
        if config.require_standard {
            standard::check_dust_pays_nothing(tx, fee)?;
        }
        if sigop_cost > standard::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(not_standard("bad-txns-too-many-sigops", sigop_cost.to_string()));
        }
        if limits == Limits::Enforced {
            self.check_fee_rate(config, fee, vsize, now)?;
        }
        let parents = self.pool.parents_of(tx);
        let mut evicts_sibling = false;
        if limits == Limits::Enforced
            && let Some(sibling) = truc::check(&self.pool, tx, txid, wtxid, vsize, &parents, &conflicts)?
        {
            conflicts.insert(sibling);
            evicts_sibling = true;
        }
        let candidate = Candidate { txid, rate: FeeFrac::new(fee, entry.adjusted_weight), parents };
        let replaced = self.make_room(config, &candidate, fee, vsize, &conflicts, evicts_sibling)?;
        if limits == Limits::Enforced && config.require_standard {
            standard::check_ephemeral_spends(&self.pool, tx, txid, wtxid)?;
        }
        Ok(Proposal { entry, spent, replaced })
    }

    /// The coins that a transaction spends, in the order of its inputs.
    fn coins(&self, chain: &Chain, tx: &Transaction, txid: Txid) -> Result<Vec<Coin>, TxReject> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let coin = self.unspent_or_here(chain, &input.previous_output).map_err(|error| unreadable(&error))?;
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

    fn check_fee_rate(&mut self, config: &MempoolConfig, fee: u64, vsize: u64, now: u64) -> Result<(), TxReject> {
        let minimum = self.rolling.rate(now, self.pool.usage(), config);
        for (rate, reason) in
            [(minimum, "mempool min fee not met"), (config.min_relay_fee_rate, "min relay fee not met")]
        {
            let needed = fee_at_rate(rate, vsize);
            if fee < needed {
                return Err(reject(TxRejectKind::Reconsiderable, reason, format!("{fee} < {needed}")));
            }
        }
        Ok(())
    }

    /// Cluster limits, and replacement if there are conflicts: what leaves.
    fn make_room(
        &self,
        config: &MempoolConfig,
        candidate: &Candidate,
        fee: u64,
        vsize: u64,
        conflicts: &BTreeSet<Txid>,
        evicts_sibling: bool,
    ) -> Result<BTreeSet<Txid>, TxReject> {
        if conflicts.is_empty() {
            return match self.pool.staged(candidate, &BTreeSet::new()).within_limits() {
                true => Ok(BTreeSet::new()),
                false => Err(reject(TxRejectKind::MempoolPolicy, "too-large-cluster", "")),
            };
        }
        let replacement = rbf::Replacement { candidate, fee, vsize, conflicts, evicts_sibling };
        let replaced = rbf::check(&self.pool, &replacement, config.incremental_fee_rate)?;
        if let Some(ancestor) = self.pool.ancestors(&candidate.parents).intersection(conflicts).next() {
            return Err(reject(
                TxRejectKind::Consensus,
                "bad-txns-spends-conflicting-tx",
                format!("{} spends conflicting transaction {ancestor}", candidate.txid),
            ));
        }
        Ok(replaced)
    }
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
