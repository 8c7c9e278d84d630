//! Verifying one input: Core's `VerifyScript`, with P2SH, witness programs and Taproot.

use super::checker::{ExecutionData, SECP256K1, SigVersion, SignatureChecker};
use super::code::{Reader, is_op_success, is_p2sh, is_push_only, push, witness_program};
use super::eval::eval_script;
use super::num::cast_to_bool;
use super::stack::Stack;
use super::{MAX_SCRIPT_ELEMENT_SIZE, MAX_STACK_SIZE, ScriptError, ScriptFlags, VALIDATION_WEIGHT_OFFSET};
use crate::sighash::TapscriptSpend;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::opcodes::all::*;
use bitcoin::secp256k1::{Scalar, XOnlyPublicKey};
use bitcoin::{Script, TapLeafHash, TapNodeHash, TapTweakHash, VarInt, Witness};

/// First byte of an annex (BIP 341).
pub const ANNEX_TAG: u8 = 0x50;
/// The bits of a control block's first byte that are the leaf version; the last one is a parity.
pub const TAPROOT_LEAF_MASK: u8 = 0xfe;
/// The leaf version whose scripts have rules (BIP 342).
pub const TAPROOT_LEAF_TAPSCRIPT: u8 = 0xc0;
const TAPROOT_CONTROL_BASE_SIZE: usize = 33;
const TAPROOT_CONTROL_NODE_SIZE: usize = 32;
const TAPROOT_CONTROL_MAX_NODE_COUNT: usize = 128;

/// Verifies that `script_sig` and `witness` satisfy `script_pubkey`.
///
/// The checker must be that of the input which carries them.
///
/// # Errors
/// The rule that is broken first, the same that Core names.
pub fn verify_script<C: SignatureChecker + ?Sized>(
    script_sig: &Script,
    script_pubkey: &Script,
    witness: &Witness,
    flags: ScriptFlags,
    checker: &C,
) -> Result<(), ScriptError> {
    let (script_sig, script_pubkey) = (script_sig.as_bytes(), script_pubkey.as_bytes());

    if flags.contains(ScriptFlags::SIGPUSHONLY) && !is_push_only(script_sig) {
        return Err(ScriptError::SigPushOnly);
    }

    // One stack, but one script after the other: joined, the first could alter the second (CVE-2010-5141).
    let mut stack = Stack::default();
    eval_base_script(&mut stack, script_sig, flags, checker)?;
    let is_p2sh = flags.contains(ScriptFlags::P2SH) && is_p2sh(script_pubkey);
    let pushed = is_p2sh.then(|| stack.clone());
    eval_base_script(&mut stack, script_pubkey, flags, checker)?;
    if !stack.top_is_true() {
        return Err(ScriptError::EvalFalse);
    }

    let mut had_witness = false;
    if flags.contains(ScriptFlags::WITNESS)
        && let Some((version, program)) = witness_program(script_pubkey)
    {
        had_witness = true;
        if !script_sig.is_empty() {
            return Err(ScriptError::WitnessMalleated);
        }
        verify_witness_program(witness, version, program, flags, checker, false)?;
        // The program's stack was judged inside; this one passes CLEANSTACK.
        stack.truncate(1);
    }

    let mut remaining = stack.len();
    if let Some(mut stack) = pushed {
        if !is_push_only(script_sig) {
            return Err(ScriptError::SigPushOnly);
        }
        // Not empty, for the hash was taken of its top.
        let redeem_script = stack.pop()?;
        eval_base_script(&mut stack, &redeem_script, flags, checker)?;
        if !stack.top_is_true() {
            return Err(ScriptError::EvalFalse);
        }
        remaining = stack.len();
        if flags.contains(ScriptFlags::WITNESS)
            && let Some((version, program)) = witness_program(&redeem_script)
        {
            had_witness = true;
            if script_sig != push(&redeem_script) {
                return Err(ScriptError::WitnessMalleatedP2sh);
            }
            verify_witness_program(witness, version, program, flags, checker, true)?;
            remaining = 1;
        }
    }

    if flags.contains(ScriptFlags::CLEANSTACK) && remaining != 1 {
        return Err(ScriptError::CleanStack);
    }
    if flags.contains(ScriptFlags::WITNESS) && !had_witness && !witness.is_empty() {
        return Err(ScriptError::WitnessUnexpected);
    }
    Ok(())
}

fn eval_base_script<'a, C: SignatureChecker + ?Sized>(
    stack: &mut Stack<'a>,
    script: &'a [u8],
    flags: ScriptFlags,
    checker: &C,
) -> Result<(), ScriptError> {
    eval_script(stack, script, flags, checker, SigVersion::Base, &mut ExecutionData::default())
}

fn verify_witness_program<C: SignatureChecker + ?Sized>(
    witness: &Witness,
    version: u8,
    program: &[u8],
    flags: ScriptFlags,
    checker: &C,
    is_p2sh: bool,
) -> Result<(), ScriptError> {
    const PAY_TO_ANCHOR: [u8; 2] = [0x4e, 0x73];
    match (version, program.len()) {
        (0, 32) => verify_p2wsh(witness, program, flags, checker),
        (0, 20) => verify_p2wpkh(witness, program, flags, checker),
        (0, _) => Err(ScriptError::WitnessProgramWrongLength),
        (1, 32) if !is_p2sh => match program.try_into() {
            Ok(program) if flags.contains(ScriptFlags::TAPROOT) => verify_taproot(witness, program, flags, checker),
            _ => Ok(()),
        },
        (1, 2) if !is_p2sh && program == PAY_TO_ANCHOR => Ok(()),
        _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM) => {
            Err(ScriptError::DiscourageUpgradableWitnessProgram)
        }
        _ => Ok(()),
    }
}

/// BIP 141: the last witness element is the script whose SHA-256 the program is.
fn verify_p2wsh<C: SignatureChecker + ?Sized>(
    witness: &Witness,
    program: &[u8],
    flags: ScriptFlags,
    checker: &C,
) -> Result<(), ScriptError> {
    let script = witness.last().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
    if sha256::Hash::hash(script).as_byte_array() != program {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    let stack = Stack::new(witness.iter().take(witness.len() - 1));
    execute_witness_script(stack, script, flags, checker, SigVersion::WitnessV0, &mut ExecutionData::default())
}

/// BIP 141: the program is the HASH160 of a public key, and the script is implied.
fn verify_p2wpkh<C: SignatureChecker + ?Sized>(
    witness: &Witness,
    program: &[u8],
    flags: ScriptFlags,
    checker: &C,
) -> Result<(), ScriptError> {
    if witness.len() != 2 {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    let mut script = [0; 25];
    script[..3].copy_from_slice(&[OP_DUP.to_u8(), OP_HASH160.to_u8(), OP_PUSHBYTES_20.to_u8()]);
    script[3..23].copy_from_slice(program);
    script[23..].copy_from_slice(&[OP_EQUALVERIFY.to_u8(), OP_CHECKSIG.to_u8()]);
    let stack = Stack::new(witness.iter());
    execute_witness_script(stack, &script, flags, checker, SigVersion::WitnessV0, &mut ExecutionData::default())
}

/// BIP 341: one witness element is a signature by the program itself; two or more reveal a script committed to in it.
fn verify_taproot<C: SignatureChecker + ?Sized>(
    witness: &Witness,
    program: &[u8; 32],
    flags: ScriptFlags,
    checker: &C,
) -> Result<(), ScriptError> {
    let mut data = ExecutionData::default();
    let mut elements = witness.len();
    if elements >= 2
        && let Some(annex @ [ANNEX_TAG, ..]) = witness.last()
    {
        data.annex_hash = Some(sha256_with_length(annex));
        elements -= 1;
    }
    let element = |index: usize| witness.nth(index).unwrap_or_default();
    match elements {
        0 => Err(ScriptError::WitnessProgramWitnessEmpty),
        1 => checker.check_schnorr_signature(element(0), program, &data),
        _ => {
            let (script, control) = (element(elements - 2), element(elements - 1));
            let leaf_version = verify_control_block(control, script, program, &mut data)?;
            if leaf_version != TAPROOT_LEAF_TAPSCRIPT {
                return if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION) {
                    Err(ScriptError::DiscourageUpgradableTaprootVersion)
                } else {
                    Ok(())
                };
            }
            // The whole witness pays, annex included; its serialised size cannot exceed that of a block.
            data.validation_weight_left = witness.size() as i64 + VALIDATION_WEIGHT_OFFSET;
            let stack = witness.iter().take(elements - 2);
            execute_tapscript(stack, script, flags, checker, &mut data)
        }
    }
}

/// Verifies that the output key commits to the script, and answers with the leaf version.
fn verify_control_block(
    control: &[u8],
    script: &[u8],
    program: &[u8; 32],
    data: &mut ExecutionData,
) -> Result<u8, ScriptError> {
    let (first, internal_key, path) = match control.split_at_checked(TAPROOT_CONTROL_BASE_SIZE) {
        Some(([first, internal_key @ ..], path))
            if path.len() % TAPROOT_CONTROL_NODE_SIZE == 0
                && path.len() / TAPROOT_CONTROL_NODE_SIZE <= TAPROOT_CONTROL_MAX_NODE_COUNT =>
        {
            (*first, internal_key, path)
        }
        _ => return Err(ScriptError::TaprootWrongControlSize),
    };
    let leaf_version = first & TAPROOT_LEAF_MASK;
    let leaf_hash = tapleaf_hash(leaf_version, script);
    let merkle_root = path.chunks_exact(TAPROOT_CONTROL_NODE_SIZE).fold(leaf_hash, |hash, node| {
        // A branch hashes its children in their order, so that proofs need no sides.
        let mut engine = TapNodeHash::engine();
        let (left, right) = if hash.as_slice() < node { (&hash[..], node) } else { (node, &hash[..]) };
        engine.input(left);
        engine.input(right);
        TapNodeHash::from_engine(engine).to_byte_array()
    });
    if !is_tweaked(program, first & 1 == 1, internal_key, &merkle_root) {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    data.tapscript = Some(TapscriptSpend { leaf_hash, codeseparator_position: u32::MAX });
    Ok(leaf_version)
}

/// The hash of a script in a Taproot tree.
pub fn tapleaf_hash(leaf_version: u8, script: &[u8]) -> [u8; 32] {
    let mut engine = TapLeafHash::engine();
    engine.input(&[leaf_version]);
    engine.input(&bitcoin::consensus::serialize(&VarInt::from(script.len())));
    engine.input(script);
    TapLeafHash::from_engine(engine).to_byte_array()
}

/// Whether `key`, of the given parity, is `internal_key` tweaked by a tree of scripts.
fn is_tweaked(key: &[u8; 32], is_odd: bool, internal_key: &[u8], merkle_root: &[u8; 32]) -> bool {
    let mut engine = TapTweakHash::engine();
    engine.input(internal_key);
    engine.input(merkle_root);
    let tweak = TapTweakHash::from_engine(engine).to_byte_array();
    let Ok(internal_key) = XOnlyPublicKey::from_slice(internal_key) else { return false };
    let Ok(tweak) = Scalar::from_be_bytes(tweak) else { return false };
    internal_key
        .add_tweak(&SECP256K1, &tweak)
        .is_ok_and(|(tweaked, parity)| tweaked.serialize() == *key && (parity.to_u8() == 1) == is_odd)
}

fn sha256_with_length(bytes: &[u8]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(&bitcoin::consensus::serialize(&VarInt::from(bytes.len())));
    engine.input(bytes);
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// BIP 342: an OP_SUCCESSx anywhere before what cannot be read overrides every other rule, stack limits included.
fn execute_tapscript<'a, C: SignatureChecker + ?Sized>(
    stack: impl Iterator<Item = &'a [u8]>,
    script: &'a [u8],
    flags: ScriptFlags,
    checker: &C,
    data: &mut ExecutionData,
) -> Result<(), ScriptError> {
    for operation in Reader::new(script) {
        let (opcode, _) = operation.map_err(|_| ScriptError::BadOpcode)?;
        if is_op_success(opcode) {
            return if flags.contains(ScriptFlags::DISCOURAGE_OP_SUCCESS) {
                Err(ScriptError::DiscourageOpSuccess)
            } else {
                Ok(())
            };
        }
    }
    let stack = Stack::new(stack);
    if stack.len() > MAX_STACK_SIZE {
        return Err(ScriptError::StackSize);
    }
    execute_witness_script(stack, script, flags, checker, SigVersion::Tapscript, data)
}

fn execute_witness_script<'a, C: SignatureChecker + ?Sized>(
    mut stack: Stack<'a>,
    script: &'a [u8],
    flags: ScriptFlags,
    checker: &C,
    version: SigVersion,
    data: &mut ExecutionData,
) -> Result<(), ScriptError> {
    if stack.elements().iter().any(|element| element.len() > MAX_SCRIPT_ELEMENT_SIZE) {
        return Err(ScriptError::PushSize);
    }
    eval_script(&mut stack, script, flags, checker, version, data)?;
    // What CLEANSTACK is to other scripts is consensus here.
    match stack.elements() {
        [top] if cast_to_bool(top) => Ok(()),
        [_] => Err(ScriptError::EvalFalse),
        _ => Err(ScriptError::CleanStack),
    }
}
