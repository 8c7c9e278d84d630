//! Standardness of what a transaction spends: `ValidateInputsStandardness` and `IsWitnessStandard`.

use super::opcodes::{OutputType, is_anchor, output_type};
use super::{not_standard, reject};
use bitcoin::{Script, Transaction, TxIn, TxOut, Witness};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_consensus::script::{
    ANNEX_TAG, TAPROOT_LEAF_MASK, TAPROOT_LEAF_TAPSCRIPT, legacy_sigops, p2sh_sigops, script_sig_stack, witness_program,
};

/// Most signature operations in a P2SH redeem script (`MAX_P2SH_SIGOPS`).
const MAX_P2SH_SIGOPS: usize = 15;
/// Most signature operations outside witnesses that a transaction may execute (BIP 54; `MAX_TX_LEGACY_SIGOPS`).
const MAX_TX_LEGACY_SIGOPS: usize = 2500;
/// Most elements before the script in a P2WSH witness (`MAX_STANDARD_P2WSH_STACK_ITEMS`).
const MAX_STANDARD_P2WSH_STACK_ITEMS: usize = 100;
/// Longest element before the script in a P2WSH or Tapscript witness (`MAX_STANDARD_P2WSH_STACK_ITEM_SIZE`).
const MAX_STANDARD_STACK_ITEM_SIZE: usize = 80;
/// Longest script in a P2WSH witness (`MAX_STANDARD_P2WSH_SCRIPT_SIZE`).
const MAX_STANDARD_P2WSH_SCRIPT_SIZE: usize = 3600;
/// Core's `ValidateInputsStandardness`. `spent` has one output an input, in their order.
pub(crate) fn check_inputs(tx: &Transaction, spent: &[TxOut]) -> Result<(), TxReject> {
    let refuse = |debug: String| not_standard("bad-txns-nonstandard-inputs", debug);
    let mut sigops = 0;
    for (input, output) in tx.input.iter().zip(spent) {
        sigops += legacy_sigops(&input.script_sig, true) + spent_sigops(&output.script_pubkey, input);
        if sigops > MAX_TX_LEGACY_SIGOPS {
            return Err(refuse("non-witness sigops exceed bip54 limit".into()));
        }
    }
    for (place, (input, output)) in tx.input.iter().zip(spent).enumerate() {
        match output_type(&output.script_pubkey) {
            OutputType::NonStandard => return Err(refuse(format!("input {place} script unknown"))),
            // The script interpreter refuses it too, but later.
            OutputType::WitnessUnknown => return Err(refuse(format!("input {place} witness program is undefined"))),
            OutputType::ScriptHash => {
                let stack = script_sig_stack(&input.script_sig)
                    .map_err(|error| refuse(format!("p2sh scriptsig malformed (input {place}: {error})")))?;
                let redeem_script =
                    stack.last().ok_or_else(|| refuse(format!("input {place} P2SH redeemscript missing")))?;
                let sigops = legacy_sigops(Script::from_bytes(redeem_script), true);
                if sigops > MAX_P2SH_SIGOPS {
                    return Err(refuse(format!(
                        "p2sh redeemscript sigops exceed limit (input {place}: {sigops} > {MAX_P2SH_SIGOPS})"
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Core's `CScript::GetSigOpCount(scriptSig)`: a P2SH output counts its redeem script's operations.
fn spent_sigops(script_pubkey: &Script, input: &TxIn) -> usize {
    match script_pubkey.is_p2sh() {
        true => p2sh_sigops(script_pubkey, &input.script_sig),
        false => legacy_sigops(script_pubkey, true),
    }
}

/// Core's `IsWitnessStandard`.
pub(crate) fn check_witnesses(tx: &Transaction, spent: &[TxOut]) -> Result<(), TxReject> {
    for (input, output) in tx.input.iter().zip(spent) {
        if !input.witness.is_empty() && !is_witness_standard(input, &output.script_pubkey) {
            return Err(reject(TxRejectKind::WitnessMutated, "bad-witness-nonstandard", ""));
        }
    }
    Ok(())
}

fn is_witness_standard(input: &TxIn, script_pubkey: &Script) -> bool {
    let is_p2sh = script_pubkey.is_p2sh();
    let stack = match is_p2sh {
        false => None,
        true => match script_sig_stack(&input.script_sig) {
            Ok(stack) => Some(stack),
            Err(_) => return false,
        },
    };
    let script = match &stack {
        None => script_pubkey.as_bytes(),
        Some(stack) => match stack.last() {
            Some(redeem_script) => redeem_script,
            None => return false,
        },
    };
    match witness_program(script) {
        // Anybody can spend an anchor: a witness there is stuffing.
        Some((version, program)) if !is_p2sh && is_anchor(version, program) => false,
        Some((0, program)) if program.len() == 32 => is_p2wsh_standard(&input.witness),
        Some((1, program)) if program.len() == 32 && !is_p2sh => is_taproot_standard(&input.witness),
        Some(_) => true,
        None => false,
    }
}

fn is_p2wsh_standard(witness: &Witness) -> bool {
    let Some(script) = witness.last() else { return false };
    let items = witness.len() - 1;
    script.len() <= MAX_STANDARD_P2WSH_SCRIPT_SIZE
        && items <= MAX_STANDARD_P2WSH_STACK_ITEMS
        && witness.iter().take(items).all(|item| item.len() <= MAX_STANDARD_STACK_ITEM_SIZE)
}

fn is_taproot_standard(witness: &Witness) -> bool {
    let stack: Vec<&[u8]> = witness.iter().collect();
    match stack.as_slice() {
        [] => false,
        [_] => true,
        // No annex has a meaning yet.
        [.., annex] if annex.first() == Some(&ANNEX_TAG) => false,
        [items @ .., _script, control_block] => match control_block.first() {
            None => false,
            Some(first) if first & TAPROOT_LEAF_MASK == TAPROOT_LEAF_TAPSCRIPT => {
                items.iter().all(|item| item.len() <= MAX_STANDARD_STACK_ITEM_SIZE)
            }
            Some(_) => true,
        },
    }
}

/// Core's `SpendsNonAnchorWitnessProg`: whether a missing witness may be why a script failed.
pub(crate) fn spends_witness_program(tx: &Transaction, spent: &[TxOut]) -> bool {
    tx.input.iter().zip(spent).any(|(input, output)| {
        let script = &output.script_pubkey;
        match witness_program(script.as_bytes()) {
            Some((version, program)) => !is_anchor(version, program),
            None if script.is_p2sh() => script_sig_stack(&input.script_sig)
                .is_ok_and(|stack| stack.last().is_some_and(|script| witness_program(script).is_some())),
            None => false,
        }
    })
}
