//! Signature hashes: legacy, BIP 143 and BIP 341, with what is computed once a transaction.
//!
//! Hash types are raw numbers, as they stand in signatures: every bit is hashed, even those without a meaning. The
//! `bitcoin` crate's typed ones cannot express that.

use crate::script::Reader;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::opcodes::all::OP_CODESEPARATOR;
use bitcoin::{OutPoint, TapSighash, Transaction, TxOut};
use std::sync::OnceLock;

/// Sign all outputs.
pub const SIGHASH_ALL: u32 = 1;
/// Sign no output.
pub const SIGHASH_NONE: u32 = 2;
/// Sign the output with the input's index.
pub const SIGHASH_SINGLE: u32 = 3;
/// Sign only this input.
pub const SIGHASH_ANYONECANPAY: u32 = 0x80;
/// Taproot without a hash type byte: as [`SIGHASH_ALL`] (BIP 341).
pub const SIGHASH_DEFAULT: u8 = 0;

/// What the signature hashes of one transaction share; owns what it needs, so that threads can share it.
///
/// Creating it costs nothing: each part is computed when the first signature needs it, once, whichever thread that is on.
#[derive(Debug, Clone)]
pub struct PrecomputedTransactionData {
    spent_outputs: Vec<TxOut>,
    common: OnceLock<CommonHashes>,
    taproot: OnceLock<TaprootHashes>,
}

/// Shared by BIP 143 (hashed twice) and BIP 341 (hashed once).
#[derive(Debug, Clone)]
struct CommonHashes {
    prevouts: sha256::Hash,
    sequences: sha256::Hash,
    outputs: sha256::Hash,
    prevouts_twice: sha256d::Hash,
    sequences_twice: sha256d::Hash,
    outputs_twice: sha256d::Hash,
}

/// Needed by BIP 341 only.
#[derive(Debug, Clone)]
struct TaprootHashes {
    amounts: sha256::Hash,
    scripts: sha256::Hash,
}

impl PrecomputedTransactionData {
    /// Prepares the shared parts. `spent_outputs` has one entry an input, in their order.
    ///
    /// # Panics
    /// If their numbers differ, which no input can cause: a transaction whose coins are missing was refused before.
    pub fn new(tx: &Transaction, spent_outputs: Vec<TxOut>) -> Self {
        assert_eq!(tx.input.len(), spent_outputs.len(), "one spent output an input");
        Self { spent_outputs, common: OnceLock::new(), taproot: OnceLock::new() }
    }

    /// The outputs spent, in the order of the inputs.
    pub fn spent_outputs(&self) -> &[TxOut] {
        &self.spent_outputs
    }

    fn common(&self, tx: &Transaction) -> &CommonHashes {
        self.common.get_or_init(|| {
            let prevouts = sha256_of(|engine| tx.input.iter().for_each(|i| write_outpoint(engine, &i.previous_output)));
            let sequences = sha256_of(|engine| tx.input.iter().for_each(|i| engine.input(&i.sequence.0.to_le_bytes())));
            let outputs = sha256_of(|engine| tx.output.iter().for_each(|output| write_output(engine, output)));
            CommonHashes {
                prevouts,
                sequences,
                outputs,
                prevouts_twice: prevouts.hash_again(),
                sequences_twice: sequences.hash_again(),
                outputs_twice: outputs.hash_again(),
            }
        })
    }

    fn taproot(&self) -> &TaprootHashes {
        self.taproot.get_or_init(|| TaprootHashes {
            amounts: sha256_of(|engine| {
                self.spent_outputs.iter().for_each(|output| engine.input(&output.value.to_sat().to_le_bytes()));
            }),
            scripts: sha256_of(|engine| {
                self.spent_outputs.iter().for_each(|output| write_bytes(engine, output.script_pubkey.as_bytes()));
            }),
        })
    }
}

fn sha256_of(write: impl FnOnce(&mut sha256::HashEngine)) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    write(&mut engine);
    sha256::Hash::from_engine(engine)
}

fn write_compact_size(engine: &mut sha256::HashEngine, value: usize) {
    let bytes = (value as u64).to_le_bytes();
    match value {
        0..=0xfc => engine.input(&bytes[..1]),
        0xfd..=0xffff => engine.input(&[0xfd, bytes[0], bytes[1]]),
        0x1_0000..=0xffff_ffff => engine.input(&[0xfe, bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => {
            engine.input(&[0xff]);
            engine.input(&bytes);
        }
    }
}

fn write_bytes(engine: &mut sha256::HashEngine, bytes: &[u8]) {
    write_compact_size(engine, bytes.len());
    engine.input(bytes);
}

fn write_outpoint(engine: &mut sha256::HashEngine, outpoint: &OutPoint) {
    engine.input(outpoint.txid.as_byte_array());
    engine.input(&outpoint.vout.to_le_bytes());
}

fn write_output(engine: &mut sha256::HashEngine, output: &TxOut) {
    engine.input(&output.value.to_sat().to_le_bytes());
    write_bytes(engine, output.script_pubkey.as_bytes());
}

/// Everything of an ECDSA signature hash but the hash type, which comes last: several types share a midstate.
///
/// `None` stands for the number one, which SIGHASH_SINGLE without an output signs in legacy scripts.
pub(crate) type Midstate = Option<sha256::HashEngine>;

/// Ends a signature hash with its hash type.
pub(crate) fn finish(midstate: Midstate, hash_type: u32) -> [u8; 32] {
    match midstate {
        Some(mut engine) => {
            engine.input(&hash_type.to_le_bytes());
            sha256::Hash::from_engine(engine).hash_again().to_byte_array()
        }
        None => {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }
    }
}

fn is_single(hash_type: u32) -> bool {
    hash_type & 0x1f == SIGHASH_SINGLE
}

fn is_none(hash_type: u32) -> bool {
    hash_type & 0x1f == SIGHASH_NONE
}

fn anyone_can_pay(hash_type: u32) -> bool {
    hash_type & SIGHASH_ANYONECANPAY != 0
}

/// Which midstates two hash types share, of six.
pub(crate) fn midstate_index(hash_type: u32) -> usize {
    3 * usize::from(anyone_can_pay(hash_type)) + 2 * usize::from(is_single(hash_type)) + usize::from(is_none(hash_type))
}

/// The signature hash of scripts without witness.
///
/// `script_code` starts after the last executed CODESEPARATOR, and signatures are deleted from it already.
///
/// # Panics
/// If the transaction has no input at `input_index`.
pub fn legacy_sighash(tx: &Transaction, input_index: usize, script_code: &[u8], hash_type: u32) -> [u8; 32] {
    finish(legacy_midstate(tx, input_index, script_code, hash_type), hash_type)
}

pub(crate) fn legacy_midstate(tx: &Transaction, input_index: usize, script_code: &[u8], hash_type: u32) -> Midstate {
    let (single, none, anyone) = (is_single(hash_type), is_none(hash_type), anyone_can_pay(hash_type));
    if single && input_index >= tx.output.len() {
        return None;
    }
    let mut engine = sha256::Hash::engine();
    engine.input(&tx.version.0.to_le_bytes());

    if anyone {
        write_compact_size(&mut engine, 1);
        let input = &tx.input[input_index];
        write_outpoint(&mut engine, &input.previous_output);
        write_script_code(&mut engine, script_code);
        engine.input(&input.sequence.0.to_le_bytes());
    } else {
        write_compact_size(&mut engine, tx.input.len());
        for (index, input) in tx.input.iter().enumerate() {
            write_outpoint(&mut engine, &input.previous_output);
            let this = index == input_index;
            if this {
                write_script_code(&mut engine, script_code);
            } else {
                write_compact_size(&mut engine, 0);
            }
            let free = !this && (single || none);
            engine.input(&if free { 0 } else { input.sequence.0 }.to_le_bytes());
        }
    }

    if none {
        write_compact_size(&mut engine, 0);
    } else if single {
        write_compact_size(&mut engine, input_index + 1);
        for _ in 0..input_index {
            // Core's null output: a value of -1 and an empty script.
            engine.input(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        }
        write_output(&mut engine, &tx.output[input_index]);
    } else {
        write_compact_size(&mut engine, tx.output.len());
        tx.output.iter().for_each(|output| write_output(&mut engine, output));
    }
    engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
    Some(engine)
}

/// Writes a script without its CODESEPARATORs. A script that cannot be read to its end is cut where reading stops,
/// under the length that it would have had: so does Core.
fn write_script_code(engine: &mut sha256::HashEngine, script_code: &[u8]) {
    let is_separator = |code: u8| code == OP_CODESEPARATOR.to_u8();
    if !script_code.iter().copied().any(is_separator) && Reader::new(script_code).all(|operation| operation.is_ok()) {
        return write_bytes(engine, script_code);
    }
    let separators = Reader::new(script_code).map_while(Result::ok).filter(|(opcode, _)| *opcode == OP_CODESEPARATOR);
    write_compact_size(engine, script_code.len() - separators.count());
    let mut reader = Reader::new(script_code);
    let mut start = 0;
    while let Some(Ok((opcode, _))) = reader.next() {
        if opcode == OP_CODESEPARATOR {
            engine.input(&script_code[start..reader.position - 1]);
            start = reader.position;
        }
    }
    engine.input(&script_code[start..reader.position]);
}

/// The signature hash of witness version 0 (BIP 143). `amount` is the value of the output spent, in satoshi.
///
/// # Panics
/// If the transaction has no input at `input_index`.
pub fn segwit_v0_sighash(
    tx: &Transaction,
    input_index: usize,
    script_code: &[u8],
    amount: u64,
    hash_type: u32,
    shared: &PrecomputedTransactionData,
) -> [u8; 32] {
    finish(segwit_v0_midstate(tx, input_index, script_code, amount, hash_type, shared), hash_type)
}

pub(crate) fn segwit_v0_midstate(
    tx: &Transaction,
    input_index: usize,
    script_code: &[u8],
    amount: u64,
    hash_type: u32,
    shared: &PrecomputedTransactionData,
) -> Midstate {
    const ZERO: &[u8; 32] = &[0; 32];
    let (single, none, anyone) = (is_single(hash_type), is_none(hash_type), anyone_can_pay(hash_type));
    let common = shared.common(tx);
    let input = &tx.input[input_index];
    let mut engine = sha256::Hash::engine();
    engine.input(&tx.version.0.to_le_bytes());
    engine.input(if anyone { ZERO } else { common.prevouts_twice.as_byte_array() });
    engine.input(if anyone || single || none { ZERO } else { common.sequences_twice.as_byte_array() });
    write_outpoint(&mut engine, &input.previous_output);
    write_bytes(&mut engine, script_code);
    engine.input(&amount.to_le_bytes());
    engine.input(&input.sequence.0.to_le_bytes());
    match tx.output.get(input_index) {
        _ if !single && !none => engine.input(common.outputs_twice.as_byte_array()),
        Some(output) if single => {
            engine.input(sha256_of(|engine| write_output(engine, output)).hash_again().as_byte_array());
        }
        _ => engine.input(ZERO),
    }
    engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
    Some(engine)
}

/// A Taproot hash type without a meaning, or SIGHASH_SINGLE without an output (BIP 341).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash type is not defined for Taproot, or there is no output at the input's index")]
pub struct InvalidTaprootHashType;

/// What a Tapscript signature commits to beyond the transaction (BIP 342).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapscriptSpend {
    /// The tapleaf hash of the script.
    pub leaf_hash: [u8; 32],
    /// Position in operations of the last executed CODESEPARATOR, or `u32::MAX`.
    pub codeseparator_position: u32,
}

/// The signature hash of Taproot (BIP 341), for key paths if `tapscript` is `None`.
///
/// `annex_hash` is the SHA-256 of the annex with its length before it.
///
/// # Errors
/// If the hash type does not exist or asks for an output that does not.
///
/// # Panics
/// If the transaction has no input at `input_index`.
pub fn taproot_sighash(
    tx: &Transaction,
    input_index: usize,
    hash_type: u8,
    annex_hash: Option<&[u8; 32]>,
    tapscript: Option<&TapscriptSpend>,
    shared: &PrecomputedTransactionData,
) -> Result<[u8; 32], InvalidTaprootHashType> {
    let single_output = || tx.output.get(input_index).map(|output| sha256_of(|engine| write_output(engine, output)));
    taproot_sighash_with(tx, input_index, hash_type, annex_hash, tapscript, shared, single_output)
}

/// [`taproot_sighash`] with the hash of the input's own output given: a script may need it many times.
pub(crate) fn taproot_sighash_with(
    tx: &Transaction,
    input_index: usize,
    hash_type: u8,
    annex_hash: Option<&[u8; 32]>,
    tapscript: Option<&TapscriptSpend>,
    shared: &PrecomputedTransactionData,
    single_output: impl FnOnce() -> Option<sha256::Hash>,
) -> Result<[u8; 32], InvalidTaprootHashType> {
    const EPOCH: u8 = 0;
    const KEY_VERSION: u8 = 0;
    if !matches!(hash_type, 0..=3 | 0x81..=0x83) {
        return Err(InvalidTaprootHashType);
    }
    let output_type = if hash_type == SIGHASH_DEFAULT { SIGHASH_ALL } else { u32::from(hash_type & 3) };
    let input = &tx.input[input_index];
    let mut engine = TapSighash::engine();
    engine.input(&[EPOCH, hash_type]);
    engine.input(&tx.version.0.to_le_bytes());
    engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
    let anyone = anyone_can_pay(hash_type.into());
    if !anyone {
        let (common, taproot) = (shared.common(tx), shared.taproot());
        for hash in [&common.prevouts, &taproot.amounts, &taproot.scripts, &common.sequences] {
            engine.input(hash.as_byte_array());
        }
    }
    if output_type == SIGHASH_ALL {
        engine.input(shared.common(tx).outputs.as_byte_array());
    }
    engine.input(&[u8::from(tapscript.is_some()) << 1 | u8::from(annex_hash.is_some())]);
    if anyone {
        write_outpoint(&mut engine, &input.previous_output);
        write_output(&mut engine, &shared.spent_outputs[input_index]);
        engine.input(&input.sequence.0.to_le_bytes());
    } else {
        engine.input(&(input_index as u32).to_le_bytes());
    }
    if let Some(hash) = annex_hash {
        engine.input(hash);
    }
    if output_type == SIGHASH_SINGLE {
        engine.input(single_output().ok_or(InvalidTaprootHashType)?.as_byte_array());
    }
    if let Some(spend) = tapscript {
        engine.input(&spend.leaf_hash);
        engine.input(&[KEY_VERSION]);
        engine.input(&spend.codeseparator_position.to_le_bytes());
    }
    Ok(TapSighash::from_engine(engine).to_byte_array())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{outpoint, output, spend};

    #[test]
    fn lengths_are_written_as_compact_sizes() {
        for length in [0, 1, 0xfc, 0xfd, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000] {
            let expected = bitcoin::consensus::serialize(&bitcoin::VarInt(length as u64));
            let written = sha256_of(|engine| write_compact_size(engine, length));
            assert_eq!(written, sha256::Hash::hash(&expected), "{length:x}");
        }
    }

    #[test]
    fn separators_are_no_part_of_what_is_signed() {
        let tx = spend(&[outpoint(0)], vec![output(1)]);
        let hash = |code: &[u8]| legacy_sighash(&tx, 0, code, SIGHASH_ALL);
        assert_eq!(hash(&[0xab, 0xab]), hash(&[]));
        assert_eq!(hash(&[0xab, 0x51, 0xab, 0x52, 0xab]), hash(&[0x51, 0x52]));
        assert_ne!(hash(&[1, 0xab]), hash(&[]), "in a push it is data");
    }
}
