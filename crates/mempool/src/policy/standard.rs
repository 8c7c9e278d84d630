//! Standardness of a transaction by itself: `IsStandardTx`, dust, and ephemeral dust.

use super::opcodes::{OutputType, output_type};
use super::{not_standard, reject};
use crate::feerate::fee_at_rate;
use crate::pool::Pool;
use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};
use cairn_consensus::connect::is_unspendable;
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_consensus::script::{is_push_only, witness_program};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Largest weight that is relayed (`MAX_STANDARD_TX_WEIGHT`).
pub(crate) const MAX_STANDARD_TX_WEIGHT: u64 = 400_000;
/// Smallest size without witness that is relayed (`MIN_STANDARD_TX_NONWITNESS_SIZE`; CVE-2017-12842).
pub(crate) const MIN_STANDARD_TX_NONWITNESS_SIZE: usize = 65;
/// Most signature operation cost that is relayed (`MAX_STANDARD_TX_SIGOPS_COST`).
pub(crate) const MAX_STANDARD_TX_SIGOPS_COST: u64 = 16_000;
/// Weight that a unit of signature operation cost stands for (`DEFAULT_BYTES_PER_SIGOP`).
pub(crate) const BYTES_PER_SIGOP: u64 = 20;
/// Longest scriptSig (`MAX_STANDARD_SCRIPTSIG_SIZE`).
const MAX_STANDARD_SCRIPTSIG_SIZE: usize = 1650;
/// Most bytes of data carrier scripts in a transaction (`MAX_OP_RETURN_RELAY`).
pub const MAX_OP_RETURN_RELAY: usize = 100_000;
/// Rate below which spending an output costs more than it is worth, satoshi for 1,000 vbytes (`DUST_RELAY_TX_FEE`).
const DUST_RELAY_TX_FEE: u64 = 3000;
/// Most dust outputs, in a transaction that pays no fee (`MAX_DUST_OUTPUTS_PER_TX`).
const MAX_DUST_OUTPUTS_PER_TX: usize = 1;
/// Standard transaction versions.
const STANDARD_VERSIONS: std::ops::RangeInclusive<i32> = 1..=3;

/// Core's `IsStandardTx` with its default options.
pub(crate) fn check_standard(tx: &Transaction) -> Result<(), TxReject> {
    if !STANDARD_VERSIONS.contains(&tx.version.0) {
        return Err(not_standard("version", ""));
    }
    if tx.weight().to_wu() > MAX_STANDARD_TX_WEIGHT {
        return Err(not_standard("tx-size", ""));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_STANDARD_SCRIPTSIG_SIZE {
            return Err(not_standard("scriptsig-size", ""));
        }
        if !is_push_only(input.script_sig.as_bytes()) {
            return Err(not_standard("scriptsig-not-pushonly", ""));
        }
    }
    let mut carrier_left = MAX_OP_RETURN_RELAY;
    for output in &tx.output {
        match output_type(&output.script_pubkey) {
            OutputType::NonStandard => return Err(not_standard("scriptpubkey", "")),
            // Up to x of 3.
            OutputType::Multisig { required, keys } if keys > 3 || required > keys => {
                return Err(not_standard("scriptpubkey", ""));
            }
            OutputType::NullData => {
                carrier_left = carrier_left
                    .checked_sub(output.script_pubkey.len())
                    .ok_or_else(|| not_standard("datacarrier", ""))?;
            }
            _ => {}
        }
    }
    if tx.output.iter().filter(|output| is_dust(output)).count() > MAX_DUST_OUTPUTS_PER_TX {
        return Err(not_standard("dust", ""));
    }
    Ok(())
}

/// Whether an output of a transaction is dust.
pub(crate) fn has_dust(tx: &Transaction) -> bool {
    tx.output.iter().any(is_dust)
}

/// Core's `IsDust`.
fn is_dust(output: &TxOut) -> bool {
    output.value.to_sat() < dust_threshold(output)
}

/// Core's `GetDustThreshold` in satoshi.
fn dust_threshold(output: &TxOut) -> u64 {
    if is_unspendable(&output.script_pubkey) {
        return 0;
    }
    // The input that spends it, with a signature and a key at a quarter of their size in a witness.
    let signature = if witness_program(output.script_pubkey.as_bytes()).is_some() { 107 / 4 } else { 107 };
    fee_at_rate(DUST_RELAY_TX_FEE, (output.size() + 32 + 4 + 1 + signature + 4) as u64)
}

/// Core's `PreCheckEphemeralTx`: a transaction with dust pays nothing, so that nobody mines it without its child.
pub(crate) fn check_dust_pays_nothing(tx: &Transaction, fee: u64, modified_fee: i64) -> Result<(), TxReject> {
    if (fee != 0 || modified_fee != 0) && has_dust(tx) {
        return Err(not_standard("dust", "tx with dust output must be 0-fee"));
    }
    Ok(())
}

/// Core's `CheckEphemeralSpends`: whoever spends from an unconfirmed transaction, in the mempool or in the package, spends
/// all its dust. Tells who does not.
pub(crate) fn check_ephemeral_spends(pool: &Pool, package: &[Arc<Transaction>]) -> Result<(), (Wtxid, TxReject)> {
    let in_package: BTreeMap<Txid, &Arc<Transaction>> = package.iter().map(|tx| (tx.compute_txid(), tx)).collect();
    for tx in package {
        let mut dust = BTreeSet::new();
        let parents: BTreeSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
        for txid in parents {
            let here = || pool.get(&txid).map(|member| &member.entry.tx);
            let Some(parent) = in_package.get(&txid).copied().or_else(here) else { continue };
            let outputs = parent.output.iter().zip(0u32..);
            dust.extend(outputs.filter(|(output, _)| is_dust(output)).map(|(_, vout)| OutPoint { txid, vout }));
        }
        for input in &tx.input {
            dust.remove(&input.previous_output);
        }
        if !dust.is_empty() {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            let debug = format!("tx {txid} (wtxid={wtxid}) did not spend parent's ephemeral dust");
            return Err((wtxid, reject(TxRejectKind::MempoolPolicy, "missing-ephemeral-spends", debug)));
        }
    }
    Ok(())
}
