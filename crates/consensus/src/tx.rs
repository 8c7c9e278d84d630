//! Rules of one transaction, with and without its coins (Core's `tx_check.cpp` and `tx_verify.cpp`).

use crate::coins::Coin;
use crate::connect::AncestorTimes;
use crate::error::{TxReject, TxRejectKind};
use crate::script::{ScriptFlags, legacy_sigops, p2sh_sigops, witness_sigops};
use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use std::collections::HashSet;

/// Most weight units in a block, and so in four times a stripped transaction.
pub const MAX_BLOCK_WEIGHT: usize = 4_000_000;
/// Most signature operation cost in a block.
pub const MAX_BLOCK_SIGOPS_COST: usize = 80_000;
/// Weight units of a byte that is not witness.
pub const WITNESS_SCALE_FACTOR: usize = 4;
/// Blocks between a coinbase and its first spend.
pub const COINBASE_MATURITY: u32 = 100;
/// Lock times below are heights, others seconds since 1970.
pub const LOCKTIME_THRESHOLD: u32 = 500_000_000;
/// Satoshi that there can ever be.
pub const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// Input counts from which a set is quicker than comparing all pairs.
const FEW_INPUTS: usize = 16;

fn reject(kind: TxRejectKind, reason: &'static str, debug: impl Into<String>) -> TxReject {
    TxReject { kind, reason: reason.into(), debug: debug.into() }
}

fn consensus(reason: &'static str) -> Result<(), TxReject> {
    Err(reject(TxRejectKind::Consensus, reason, ""))
}

/// Checks what needs no context.
///
/// # Errors
/// `bad-txns-vin-empty`, `bad-txns-vout-empty`, `bad-txns-oversize`, `bad-txns-vout-negative`, `bad-txns-vout-toolarge`,
/// `bad-txns-txouttotal-toolarge`, `bad-txns-inputs-duplicate` (CVE-2018-17144), `bad-cb-length`, `bad-txns-prevout-null`.
pub fn check_transaction(tx: &Transaction) -> Result<(), TxReject> {
    if tx.input.is_empty() {
        return consensus("bad-txns-vin-empty");
    }
    if tx.output.is_empty() {
        return consensus("bad-txns-vout-empty");
    }
    if tx.base_size() * WITNESS_SCALE_FACTOR > MAX_BLOCK_WEIGHT {
        return consensus("bad-txns-oversize");
    }
    let mut total = 0u64;
    for output in &tx.output {
        let value = output.value.to_sat();
        // Values are signed on the wire.
        if value > i64::MAX as u64 {
            return consensus("bad-txns-vout-negative");
        }
        if value > MAX_MONEY {
            return consensus("bad-txns-vout-toolarge");
        }
        total += value;
        if total > MAX_MONEY {
            return consensus("bad-txns-txouttotal-toolarge");
        }
    }
    if has_duplicate_inputs(tx) {
        return consensus("bad-txns-inputs-duplicate");
    }
    if tx.is_coinbase() {
        if !(2..=100).contains(&tx.input[0].script_sig.len()) {
            return consensus("bad-cb-length");
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return consensus("bad-txns-prevout-null");
    }
    Ok(())
}

fn has_duplicate_inputs(tx: &Transaction) -> bool {
    if tx.input.len() <= FEW_INPUTS {
        return tx
            .input
            .iter()
            .enumerate()
            .any(|(i, input)| tx.input[..i].iter().any(|earlier| earlier.previous_output == input.previous_output));
    }
    let mut seen: HashSet<&OutPoint> = HashSet::with_capacity(tx.input.len());
    !tx.input.iter().all(|input| seen.insert(&input.previous_output))
}

/// Whether a transaction's lock time lets it into a block at `height`, with `time` in seconds since 1970: the median time
/// past of the block before (BIP 113).
pub fn is_final_tx(tx: &Transaction, height: u32, time: u32) -> bool {
    let lock_time = tx.lock_time.to_consensus_u32();
    let cutoff = if lock_time < LOCKTIME_THRESHOLD { height } else { time };
    lock_time == 0 || lock_time < cutoff || tx.input.iter().all(|input| input.sequence.0 == u32::MAX)
}

/// The last height and time that relative lock times forbid (BIP 68); negative if they forbid none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceLocks {
    /// Last height at which the transaction may not be mined.
    pub min_height: i64,
    /// Last median time past at which it may not, seconds since 1970.
    pub min_time: i64,
}

impl SequenceLocks {
    /// Whether they let the transaction into a block at `height` whose predecessor's median time past is given.
    pub fn allow(&self, height: u32, previous_median_time_past: u32) -> bool {
        self.min_height < i64::from(height) && self.min_time < i64::from(previous_median_time_past)
    }
}

/// Relative lock times of a transaction whose inputs spend coins of these heights (BIP 68), in the order of its inputs.
pub fn sequence_locks(tx: &Transaction, coin_heights: &[u32], ancestors: &impl AncestorTimes) -> SequenceLocks {
    const DISABLE_FLAG: u32 = 1 << 31;
    const TYPE_FLAG: u32 = 1 << 22;
    const MASK: u32 = 0xffff;
    const GRANULARITY: u32 = 9;

    let mut locks = SequenceLocks { min_height: -1, min_time: -1 };
    // Versions are unsigned in Core since 28: one with the highest bit set is not below 2.
    if (tx.version.0 as u32) < 2 {
        return locks;
    }
    for (input, &coin_height) in tx.input.iter().zip(coin_heights) {
        let sequence = input.sequence.0;
        if sequence & DISABLE_FLAG != 0 {
            continue;
        }
        let value = i64::from(sequence & MASK);
        if sequence & TYPE_FLAG != 0 {
            let coin_time = i64::from(ancestors.median_time_past(coin_height.saturating_sub(1)));
            locks.min_time = locks.min_time.max(coin_time + (value << GRANULARITY) - 1);
        } else {
            locks.min_height = locks.min_height.max(i64::from(coin_height) + value - 1);
        }
    }
    locks
}

/// Checks a transaction against the coins it spends (one an input, in their order) in a block at `height`; returns its fee.
///
/// # Errors
/// `bad-txns-premature-spend-of-coinbase`, `bad-txns-inputvalues-outofrange`, `bad-txns-in-belowout`.
pub fn check_tx_inputs(tx: &Transaction, coins: &[Coin], height: u32) -> Result<Amount, TxReject> {
    let mut value_in = 0u64;
    for coin in coins {
        let depth = i64::from(height) - i64::from(coin.height);
        if coin.coinbase && depth < i64::from(COINBASE_MATURITY) {
            return Err(reject(
                TxRejectKind::PrematureSpend,
                "bad-txns-premature-spend-of-coinbase",
                format!("tried to spend coinbase at depth {depth}"),
            ));
        }
        value_in = value_in.saturating_add(coin.output.value.to_sat());
        if value_in > MAX_MONEY {
            return Err(reject(TxRejectKind::Consensus, "bad-txns-inputvalues-outofrange", ""));
        }
    }
    let value_out: u64 = tx.output.iter().fold(0u64, |total, output| total.saturating_add(output.value.to_sat()));
    match value_in.checked_sub(value_out) {
        Some(fee) => Ok(Amount::from_sat(fee)),
        None => Err(reject(
            TxRejectKind::Consensus,
            "bad-txns-in-belowout",
            format!("value in ({}) < value out ({})", money(value_in), money(value_out)),
        )),
    }
}

/// Core's `FormatMoney`: bitcoins with at least two decimals.
fn money(sat: u64) -> String {
    let mut text = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
    let decimals = text.len() - 8;
    while text.ends_with('0') && text.len() > decimals + 2 {
        text.pop();
    }
    text
}

/// Core's rejection of a transaction whose coins are not all there.
pub fn missing_inputs() -> TxReject {
    reject(TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent", "CheckTxInputs: inputs missing/spent")
}

/// Signature operations in the scripts of a transaction itself.
pub fn legacy_sigop_count(tx: &Transaction) -> usize {
    let inputs: usize = tx.input.iter().map(|input| legacy_sigops(&input.script_sig, false)).sum();
    let outputs: usize = tx.output.iter().map(|output| legacy_sigops(&output.script_pubkey, false)).sum();
    inputs + outputs
}

/// Signature operation cost of a transaction that spends these outputs, in the order of its inputs (BIP 141).
pub fn transaction_sigop_cost(tx: &Transaction, spent: &[TxOut], flags: ScriptFlags) -> usize {
    let legacy = legacy_sigop_count(tx) * WITNESS_SCALE_FACTOR;
    if tx.is_coinbase() {
        return legacy;
    }
    tx.input.iter().zip(spent).fold(legacy, |cost, (input, output)| {
        cost + input_sigop_cost(&input.script_sig, &output.script_pubkey, &input.witness, flags)
    })
}

/// The part of the cost that depends on the output spent.
pub(crate) fn input_sigop_cost(
    script_sig: &bitcoin::Script,
    script_pubkey: &bitcoin::Script,
    witness: &bitcoin::Witness,
    flags: ScriptFlags,
) -> usize {
    let p2sh = if flags.contains(ScriptFlags::P2SH) && script_pubkey.is_p2sh() {
        p2sh_sigops(script_pubkey, script_sig) * WITNESS_SCALE_FACTOR
    } else {
        0
    };
    p2sh + witness_sigops(script_sig, script_pubkey, witness, flags)
}

#[cfg(test)]
#[path = "tx_tests.rs"]
mod tests;
