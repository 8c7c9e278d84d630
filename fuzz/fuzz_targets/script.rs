//! Any scripts, witness, flags and transaction are judged without harm. Every flag only forbids; what signatures commit
//! to, and what a script looks like, is the same to the `bitcoin` crate.
#![no_main]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{TweakedPublicKey, UntweakedPublicKey};
use bitcoin::opcodes::all::OP_CODESEPARATOR;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, TapLeafHash, TapNodeHash, Transaction, TxIn, TxOut, Txid, Witness,
    transaction::Version,
};
use cairn_consensus::script::{
    ExecutionData, MAX_STACK_SIZE, NoTransaction, ScriptError, ScriptFlags, SigVersion, SignatureVerifier, Stack,
    TAPROOT_LEAF_MASK, TransactionSignatureChecker, eval_script, is_p2sh, is_push_only, legacy_sigops, tapleaf_hash,
    verify_script, witness_program,
};
use cairn_consensus::sighash::{PrecomputedTransactionData, legacy_sighash, segwit_v0_sighash, taproot_sighash};
use cairn_fuzz::{Input, pick};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SECP256K1: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);
/// BIP 341's point that nobody has the key of.
const INTERNAL_KEY: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e, 0x07, 0x8a, 0x5a,
    0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// Takes every other signature, whatever it signs: the fuzzer cannot make real ones.
struct EveryOther;

impl SignatureVerifier for EveryOther {
    fn verify_ecdsa(&self, signature: &[u8], public_key: &[u8], _: &[u8; 32]) -> bool {
        (signature.len() + public_key.iter().map(|&byte| usize::from(byte)).sum::<usize>()).is_multiple_of(2)
    }
    fn verify_schnorr(&self, signature: &[u8; 64], public_key: &[u8; 32], _: &[u8; 32]) -> bool {
        (signature[0] ^ public_key[0]).is_multiple_of(2)
    }
}

/// What one input is unlocked by and locked with.
struct Spend {
    script_sig: ScriptBuf,
    script_pubkey: ScriptBuf,
    witness: Vec<Vec<u8>>,
}

impl Spend {
    fn push(&mut self, script: Vec<u8>) {
        let script = PushBytesBuf::try_from(script).expect("inputs are shorter than 4 GiB");
        self.script_sig = Builder::from(self.script_sig.to_bytes()).push_slice(script).into_script();
    }

    /// Locks with a hash of the script, which the fuzzer could not find.
    fn wrap(mut self, shape: u8, input: &mut Input<'_>) -> Self {
        let script = self.script_pubkey.to_bytes();
        match shape % 6 {
            1 => {
                self.script_pubkey = self.script_pubkey.to_p2sh();
                self.push(script);
            }
            2 => {
                self.script_pubkey = self.script_pubkey.to_p2wsh();
                self.witness.push(script);
            }
            3 => {
                let program = self.script_pubkey.to_p2wsh();
                self.script_pubkey = program.to_p2sh();
                self.push(program.into_bytes());
                self.witness.push(script);
            }
            4 => self.wrap_in_taproot(script, input),
            5 => self.script_pubkey = ScriptBuf::new_p2tr_tweaked(tweaked(None).0),
            _ => {}
        }
        self
    }

    fn wrap_in_taproot(&mut self, script: Vec<u8>, input: &mut Input<'_>) {
        let (leaf_version, depth, annex) = (input.u8() & TAPROOT_LEAF_MASK, input.u8() % 4, input.u8());
        let path: Vec<[u8; 32]> = (0..depth).map(|_| input.array()).collect();
        let leaf = TapNodeHash::from_byte_array(tapleaf_hash(leaf_version, &script));
        let root = path
            .iter()
            .fold(leaf, |hash, &node| TapNodeHash::from_node_hashes(hash, TapNodeHash::from_byte_array(node)));
        let (key, parity) = tweaked(Some(root));
        self.script_pubkey = ScriptBuf::new_p2tr_tweaked(key);
        let mut control = vec![leaf_version | parity];
        control.extend(INTERNAL_KEY);
        path.iter().for_each(|node| control.extend(node));
        self.witness.extend([script, control]);
        if annex.is_multiple_of(3) {
            self.witness.push(vec![0x50, annex]);
        }
    }
}

fn tweaked(root: Option<TapNodeHash>) -> (TweakedPublicKey, u8) {
    use bitcoin::key::TapTweak;
    let key = UntweakedPublicKey::from_slice(&INTERNAL_KEY).expect("a point on the curve");
    let (key, parity) = key.tap_tweak(&SECP256K1, root);
    (key, parity.to_u8())
}

/// Core's `IsValidFlagCombination`.
fn is_valid(flags: ScriptFlags) -> bool {
    (!flags.contains(ScriptFlags::CLEANSTACK) || flags.contains(ScriptFlags::P2SH | ScriptFlags::WITNESS))
        && (!flags.contains(ScriptFlags::WITNESS) || flags.contains(ScriptFlags::P2SH))
}

/// As Core's target `script_flags`: removing flags from a success, or adding them to a failure, changes nothing.
fn assert_flags_only_forbid(
    flags: ScriptFlags,
    other: ScriptFlags,
    judge: impl Fn(ScriptFlags) -> Result<(), ScriptError>,
) {
    if !is_valid(flags) {
        return;
    }
    let verdict = judge(flags);
    let changed = if verdict.is_ok() { flags & other } else { flags | other };
    if is_valid(changed) {
        let again = judge(changed);
        assert_eq!(verdict.is_ok(), again.is_ok(), "{flags}: {verdict:?}, {changed}: {again:?}");
    }
}

/// What a script looks like, to the `bitcoin` crate too.
fn assert_same_shape(script: &Script) {
    let bytes = script.as_bytes();
    assert_eq!(is_p2sh(bytes), script.is_p2sh());
    assert_eq!(witness_program(bytes).is_some(), script.is_witness_program());
    assert_eq!(is_push_only(bytes), script.is_push_only());
    assert!(legacy_sigops(script, true) <= legacy_sigops(script, false));
    let mut stack = Stack::default();
    let data = &mut ExecutionData::default();
    if eval_script(&mut stack, bytes, ScriptFlags::NONE, &NoTransaction, SigVersion::Base, data).is_ok() {
        assert!(stack.elements().len() <= MAX_STACK_SIZE);
    }
}

/// Signature hashes, as the `bitcoin` crate computes them where it knows the hash type.
fn assert_same_hashes(tx: &Transaction, at: usize, shared: &PrecomputedTransactionData, code: &Script, hash_type: u8) {
    let spent = shared.spent_outputs();
    let mut cache = SighashCache::new(tx);
    let separator = OP_CODESEPARATOR.to_u8();
    let number = u32::from(hash_type);
    if !code.as_bytes().contains(&separator) && code.instructions().all(|instruction| instruction.is_ok()) {
        let ours = legacy_sighash(tx, at, code.as_bytes(), number);
        let theirs = cache.legacy_signature_hash(at, code, number).expect("the input is there");
        assert_eq!(ours, theirs.to_byte_array(), "legacy, type {hash_type}");
    }
    if let Ok(standard) = EcdsaSighashType::from_standard(number) {
        let ours = segwit_v0_sighash(tx, at, code.as_bytes(), spent[at].value.to_sat(), number, shared);
        let theirs = cache.p2wsh_signature_hash(at, code, spent[at].value, standard).expect("the input is there");
        assert_eq!(ours, theirs.to_byte_array(), "BIP 143, type {hash_type}");
    }
    let annex_bytes = [&[0x50], code.as_bytes()].concat();
    let annex = Annex::new(&annex_bytes).expect("it begins as one");
    let ours = taproot_sighash(tx, at, hash_type, None, None, shared);
    let theirs = TapSighashType::from_consensus_u8(hash_type)
        .ok()
        .and_then(|hash_type| cache.taproot_signature_hash(at, &Prevouts::All(spent), None, None, hash_type).ok());
    assert_eq!(ours.ok(), theirs.map(|hash| hash.to_byte_array()), "BIP 341, type {hash_type}");
    if let Ok(hash_type) = TapSighashType::from_consensus_u8(hash_type) {
        let leaf = TapLeafHash::from_byte_array([7; 32]);
        let theirs =
            cache.taproot_signature_hash(at, &Prevouts::All(spent), Some(annex), Some((leaf, u32::MAX)), hash_type);
        let mut engine = bitcoin::hashes::sha256::Hash::engine();
        bitcoin::hashes::HashEngine::input(&mut engine, &bitcoin::consensus::serialize(&annex_bytes));
        let annex = bitcoin::hashes::sha256::Hash::from_engine(engine).to_byte_array();
        let leaf = cairn_consensus::sighash::TapscriptSpend { leaf_hash: [7; 32], codeseparator_position: u32::MAX };
        let ours = taproot_sighash(tx, at, hash_type as u8, Some(&annex), Some(&leaf), shared);
        assert_eq!(ours.ok(), theirs.ok().map(|hash| hash.to_byte_array()), "BIP 342, type {hash_type:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (flags, other) = (ScriptFlags::from_bits(input.u32()), ScriptFlags::from_bits(input.u32()));
    let (shape, counts, hash_type) = (input.u8(), input.u8(), input.u8());
    let (version, lock_time, sequence) = (input.u32() as i32, input.u32(), input.u32());
    let amount = Amount::from_sat(input.u64());
    let script_sig = ScriptBuf::from_bytes(input.chunk().to_vec());
    let script_pubkey = ScriptBuf::from_bytes(input.chunk().to_vec());
    let elements = input.u8() % 32;
    let witness = (0..elements).map(|_| input.chunk().to_vec()).collect();
    for script in [&script_sig, &script_pubkey] {
        assert_same_shape(script);
    }

    let code = script_pubkey.clone();
    let spend = Spend { script_sig, script_pubkey, witness }.wrap(shape, &mut input);
    let (inputs, outputs) = (1 + (counts & 3), counts >> 4 & 3);
    let at = pick(counts >> 2 & 3, inputs.into());
    let tx = Transaction {
        version: Version(version),
        lock_time: LockTime::from_consensus(lock_time),
        input: (0..usize::from(inputs))
            .map(|n| TxIn {
                previous_output: OutPoint::new(Txid::all_zeros(), n as u32),
                script_sig: if n == at { spend.script_sig.clone() } else { ScriptBuf::new() },
                sequence: if n == at { Sequence(sequence) } else { Sequence::ZERO },
                witness: if n == at { Witness::from_slice(&spend.witness) } else { Witness::new() },
            })
            .collect(),
        output: (0..outputs)
            .map(|n| TxOut { value: Amount::from_sat(n.into()), script_pubkey: code.clone() })
            .collect(),
    };
    let spent = vec![TxOut { value: amount, script_pubkey: spend.script_pubkey.clone() }; inputs.into()];
    let shared = PrecomputedTransactionData::new(&tx, spent);
    assert_same_hashes(&tx, at, &shared, &code, hash_type);

    let witness = &tx.input[at].witness;
    assert_flags_only_forbid(flags, other, |flags| {
        let checker = TransactionSignatureChecker::new(&tx, at, &shared);
        verify_script(&spend.script_sig, &spend.script_pubkey, witness, flags, &checker)
    });
    assert_flags_only_forbid(flags, other, |flags| {
        let checker = TransactionSignatureChecker::with_verifier(&tx, at, &shared, EveryOther);
        verify_script(&spend.script_sig, &spend.script_pubkey, witness, flags, &checker)
    });
});
