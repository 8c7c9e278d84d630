//! What scripts ask of the transaction that runs them: signatures and lock times.

use super::{ScriptError, ScriptNum};
use crate::sighash::{
    Midstate, PrecomputedTransactionData, SIGHASH_DEFAULT, TapscriptSpend, finish, legacy_midstate, midstate_index,
    segwit_v0_midstate, taproot_sighash_with,
};
use bitcoin::Transaction;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, VerifyOnly, XOnlyPublicKey, ecdsa, schnorr};
use std::cell::{OnceCell, RefCell};
use std::sync::LazyLock;

/// Which rules of signing and executing apply to a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigVersion {
    /// Bare scripts and redeem scripts (BIP 16).
    Base,
    /// Witness version 0 (BIP 141 and BIP 143).
    WitnessV0,
    /// Taproot scripts of leaf version 0xc0 (BIP 342).
    Tapscript,
}

/// What a Taproot input carries while its script runs, beyond the stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecutionData {
    /// SHA-256 of the annex with its length before it, if there is an annex.
    pub annex_hash: Option<[u8; 32]>,
    /// The leaf that runs; `None` on key paths and outside Taproot.
    pub tapscript: Option<TapscriptSpend>,
    /// How much witness weight is left to pay for signature checks (BIP 342), in weight units.
    pub validation_weight_left: i64,
}

/// What the interpreter asks of the spending transaction.
pub trait SignatureChecker {
    /// Whether an ECDSA signature (its hash type last) is valid; `version` is `Base` or `WitnessV0`.
    fn check_ecdsa_signature(
        &self,
        signature: &[u8],
        public_key: &[u8],
        script_code: &[u8],
        version: SigVersion,
    ) -> bool;

    /// Checks a Schnorr signature, which is not empty in scripts.
    ///
    /// # Errors
    /// [`ScriptError::SchnorrSigSize`], [`ScriptError::SchnorrSigHashType`] or [`ScriptError::SchnorrSig`].
    fn check_schnorr_signature(
        &self,
        signature: &[u8],
        public_key: &[u8; 32],
        data: &ExecutionData,
    ) -> Result<(), ScriptError>;

    /// Whether the transaction is locked at least until `lock_time`, which is not negative (BIP 65).
    fn check_lock_time(&self, lock_time: ScriptNum) -> bool;

    /// Whether the input is locked at least for `sequence`, which is not negative (BIP 112).
    fn check_sequence(&self, sequence: ScriptNum) -> bool;
}

/// Core's `BaseSignatureChecker`: there is no transaction, and every check fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransaction;

impl SignatureChecker for NoTransaction {
    fn check_ecdsa_signature(&self, _: &[u8], _: &[u8], _: &[u8], _: SigVersion) -> bool {
        false
    }
    fn check_schnorr_signature(&self, _: &[u8], _: &[u8; 32], _: &ExecutionData) -> Result<(), ScriptError> {
        Err(ScriptError::SchnorrSig)
    }
    fn check_lock_time(&self, _: ScriptNum) -> bool {
        false
    }
    fn check_sequence(&self, _: ScriptNum) -> bool {
        false
    }
}

/// Verifies one signature of one hash. A cache of signatures implements it around [`Secp256k1Verifier`].
pub trait SignatureVerifier {
    /// Whether a leniently encoded DER signature, without hash type, of any S, is valid.
    fn verify_ecdsa(&self, signature: &[u8], public_key: &[u8], sighash: &[u8; 32]) -> bool;
    /// Whether a BIP 340 signature is valid.
    fn verify_schnorr(&self, signature: &[u8; 64], public_key: &[u8; 32], sighash: &[u8; 32]) -> bool;
}

/// Verifies by libsecp256k1, every time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Secp256k1Verifier;

pub(crate) static SECP256K1: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

impl SignatureVerifier for Secp256k1Verifier {
    fn verify_ecdsa(&self, signature: &[u8], public_key: &[u8], sighash: &[u8; 32]) -> bool {
        let Ok(public_key) = PublicKey::from_slice(public_key) else { return false };
        // Not all signatures in old blocks are strict DER. Where the rules demand it (BIP 66), it was checked before.
        let Ok(mut signature) = ecdsa::Signature::from_der_lax(signature) else { return false };
        // The library refuses a high S, which consensus allows.
        signature.normalize_s();
        SECP256K1.verify_ecdsa(&Message::from_digest(*sighash), &signature, &public_key).is_ok()
    }

    fn verify_schnorr(&self, signature: &[u8; 64], public_key: &[u8; 32], sighash: &[u8; 32]) -> bool {
        let Ok(public_key) = XOnlyPublicKey::from_slice(public_key) else { return false };
        let Ok(signature) = schnorr::Signature::from_slice(signature) else { return false };
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(*sighash), &public_key).is_ok()
    }
}

/// Whether the first byte of a public key fits its length: Core's `CPubKey::IsValid`. Hybrid keys (6 and 7) are valid.
fn has_valid_length(public_key: &[u8]) -> bool {
    match public_key.first() {
        Some(2 | 3) => public_key.len() == 33,
        Some(4 | 6 | 7) => public_key.len() == 65,
        _ => false,
    }
}

/// A script code and the midstate of its signature hashes.
type CachedMidstate = (Vec<u8>, Midstate);

/// Checks against one input of a transaction.
pub struct TransactionSignatureChecker<'a, V = Secp256k1Verifier> {
    tx: &'a Transaction,
    input_index: usize,
    shared: &'a PrecomputedTransactionData,
    verifier: V,
    /// Core's `SigHashCache`: a script code and its midstate for each of the six kinds of hash types, so that scripts
    /// with many signatures do not hash the transaction for each. No input uses legacy and witness v0 hashes both.
    midstates: RefCell<[Option<CachedMidstate>; 6]>,
    /// Hash of the output with the input's index, for Taproot's SIGHASH_SINGLE.
    single_output: OnceCell<Option<sha256::Hash>>,
}

impl<'a> TransactionSignatureChecker<'a> {
    /// Checks the input at `input_index`, verifying every signature. The amount is that of the output it spends.
    ///
    /// # Panics
    /// If the transaction has no such input.
    pub fn new(tx: &'a Transaction, input_index: usize, shared: &'a PrecomputedTransactionData) -> Self {
        Self::with_verifier(tx, input_index, shared, Secp256k1Verifier)
    }
}

impl<'a, V: SignatureVerifier> TransactionSignatureChecker<'a, V> {
    /// As [`TransactionSignatureChecker::new`], with another verifier.
    ///
    /// # Panics
    /// If the transaction has no such input.
    pub fn with_verifier(
        tx: &'a Transaction,
        input_index: usize,
        shared: &'a PrecomputedTransactionData,
        verifier: V,
    ) -> Self {
        assert!(input_index < tx.input.len(), "the transaction has no input {input_index}");
        Self { tx, input_index, shared, verifier, midstates: Default::default(), single_output: OnceCell::new() }
    }

    fn ecdsa_sighash(&self, script_code: &[u8], hash_type: u8, version: SigVersion) -> [u8; 32] {
        let hash_type = u32::from(hash_type);
        let entry = &mut self.midstates.borrow_mut()[midstate_index(hash_type)];
        let midstate = match entry {
            Some((code, midstate)) if code == script_code => midstate,
            _ => {
                let midstate = if version == SigVersion::WitnessV0 {
                    let amount = self.shared.spent_outputs()[self.input_index].value.to_sat();
                    segwit_v0_midstate(self.tx, self.input_index, script_code, amount, hash_type, self.shared)
                } else {
                    legacy_midstate(self.tx, self.input_index, script_code, hash_type)
                };
                &mut entry.insert((script_code.to_vec(), midstate)).1
            }
        };
        finish(midstate.clone(), hash_type)
    }

    fn single_output(&self) -> Option<sha256::Hash> {
        *self.single_output.get_or_init(|| {
            let output = self.tx.output.get(self.input_index)?;
            let mut engine = sha256::Hash::engine();
            engine.input(&bitcoin::consensus::serialize(output));
            Some(sha256::Hash::from_engine(engine))
        })
    }
}

impl<V: SignatureVerifier> SignatureChecker for TransactionSignatureChecker<'_, V> {
    fn check_ecdsa_signature(
        &self,
        signature: &[u8],
        public_key: &[u8],
        script_code: &[u8],
        version: SigVersion,
    ) -> bool {
        let Some((&hash_type, signature)) = signature.split_last() else { return false };
        has_valid_length(public_key) && {
            let sighash = self.ecdsa_sighash(script_code, hash_type, version);
            self.verifier.verify_ecdsa(signature, public_key, &sighash)
        }
    }

    fn check_schnorr_signature(
        &self,
        signature: &[u8],
        public_key: &[u8; 32],
        data: &ExecutionData,
    ) -> Result<(), ScriptError> {
        let (signature, hash_type) = match signature.split_first_chunk::<64>() {
            Some((signature, [])) => (signature, SIGHASH_DEFAULT),
            // One way to write each type: the default is written by leaving it out.
            Some((_, [SIGHASH_DEFAULT])) => return Err(ScriptError::SchnorrSigHashType),
            Some((signature, [hash_type])) => (signature, *hash_type),
            _ => return Err(ScriptError::SchnorrSigSize),
        };
        let sighash = taproot_sighash_with(
            self.tx,
            self.input_index,
            hash_type,
            data.annex_hash.as_ref(),
            data.tapscript.as_ref(),
            self.shared,
            || self.single_output(),
        )
        .map_err(|_| ScriptError::SchnorrSigHashType)?;
        if self.verifier.verify_schnorr(signature, public_key, &sighash) {
            Ok(())
        } else {
            Err(ScriptError::SchnorrSig)
        }
    }

    fn check_lock_time(&self, lock_time: ScriptNum) -> bool {
        // Below it a lock time is a height, from there on seconds since 1970.
        const THRESHOLD: i64 = 500_000_000;
        let tx_lock_time = i64::from(self.tx.lock_time.to_consensus_u32());
        (lock_time.0 < THRESHOLD) == (tx_lock_time < THRESHOLD)
            && lock_time.0 <= tx_lock_time
            // A final input would switch the transaction's lock time off.
            && !self.tx.input[self.input_index].sequence.is_final()
    }

    fn check_sequence(&self, sequence: ScriptNum) -> bool {
        const DISABLED: i64 = 1 << 31;
        const TYPE: i64 = 1 << 22;
        const MASK: i64 = TYPE | 0xffff;
        let input_sequence = i64::from(self.tx.input[self.input_index].sequence.0);
        let (wanted, given) = (sequence.0 & MASK, input_sequence & MASK);
        // BIP 68 applies from version 2 on; the version is unsigned.
        self.tx.version.0 as u32 >= 2
            && input_sequence & DISABLED == 0
            && (wanted < TYPE) == (given < TYPE)
            && wanted <= given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sighash::{legacy_sighash, segwit_v0_sighash};
    use crate::testing::{outpoint, output, spend};
    use bitcoin::{Sequence, absolute::LockTime, transaction::Version};

    /// Takes every signature for valid and keeps what was signed.
    #[derive(Default)]
    struct Signed(RefCell<Vec<[u8; 32]>>);

    impl SignatureVerifier for Signed {
        fn verify_ecdsa(&self, _: &[u8], _: &[u8], sighash: &[u8; 32]) -> bool {
            self.0.borrow_mut().push(*sighash);
            true
        }
        fn verify_schnorr(&self, _: &[u8; 64], _: &[u8; 32], _: &[u8; 32]) -> bool {
            true
        }
    }

    fn transaction() -> (Transaction, PrecomputedTransactionData) {
        let tx = spend(&[outpoint(0), outpoint(1)], vec![output(3), output(4), output(5)]);
        let shared = PrecomputedTransactionData::new(&tx, vec![output(6), output(7)]);
        (tx, shared)
    }

    /// Whatever was hashed before: the other hash types, other code, and the same again.
    #[test]
    fn signature_hashes_are_those_of_the_code_and_the_type_at_hand() {
        let (tx, shared) = transaction();
        for version in [SigVersion::Base, SigVersion::WitnessV0] {
            let checker = TransactionSignatureChecker::with_verifier(&tx, 1, &shared, Signed::default());
            for code in [&[0x51][..], &[0x52], &[0x52], &[0x51]] {
                for hash_type in 0..=255u8 {
                    assert!(checker.check_ecdsa_signature(&[9, hash_type], &[2; 33], code, version));
                    let expected = match version {
                        SigVersion::WitnessV0 => segwit_v0_sighash(&tx, 1, code, 7, hash_type.into(), &shared),
                        _ => legacy_sighash(&tx, 1, code, hash_type.into()),
                    };
                    assert_eq!(checker.verifier.0.borrow_mut().pop(), Some(expected), "{version:?} {hash_type:02x}");
                }
            }
        }
    }

    /// Core's `CPubKey::IsValid`: others are refused before anything is hashed.
    #[test]
    fn public_keys_have_the_length_that_their_first_byte_says() {
        let (tx, shared) = transaction();
        let checker = TransactionSignatureChecker::with_verifier(&tx, 0, &shared, Signed::default());
        for (first, lengths) in [(2, &[33][..]), (3, &[33]), (4, &[65]), (6, &[65]), (7, &[65]), (0, &[]), (5, &[])] {
            for length in 0..=70 {
                let key = vec![first; length];
                let is_valid = checker.check_ecdsa_signature(&[9, 1], &key, &[], SigVersion::Base);
                assert_eq!(is_valid, lengths.contains(&length), "{first} {length}");
            }
        }
        assert!(!checker.check_ecdsa_signature(&[], &[2; 33], &[], SigVersion::Base), "no signature, not even a type");
    }

    /// BIP 65: of one kind, reached, and not switched off by a final input.
    #[test]
    fn lock_times() {
        let (mut tx, shared) = transaction();
        for (wanted, given, satisfied) in [
            (0, 0, true),
            (10, 11, true),
            (11, 10, false),
            (499_999_999, 499_999_999, true),
            (500_000_000, 500_000_000, true),
            (500_000_000, 500_000_001, true),
            (500_000_001, 500_000_000, false),
            (499_999_999, 500_000_000, false),
            (500_000_000, 499_999_999, false),
            (1 << 32, u32::MAX, false),
        ] {
            tx.lock_time = LockTime::from_consensus(given);
            for (sequence, counts) in [(Sequence::ZERO, true), (Sequence(u32::MAX - 1), true), (Sequence::MAX, false)] {
                tx.input[1].sequence = sequence;
                let checker = TransactionSignatureChecker::new(&tx, 1, &shared);
                assert_eq!(checker.check_lock_time(ScriptNum(wanted)), satisfied && counts, "{wanted} {given}");
            }
        }
    }

    /// BIP 112: of one kind, reached, not disabled, and bits without a meaning aside.
    #[test]
    fn sequences() {
        const TIME: u32 = 1 << 22;
        let (mut tx, shared) = transaction();
        for (wanted, given, satisfied) in [
            (0, 0, true),
            (5, 6, true),
            (6, 5, false),
            (0xffff, 0xffff, true),
            (TIME, TIME, true),
            (TIME, TIME | 1, true),
            (TIME | 1, TIME, false),
            (TIME, 0xffff, false),
            (5, TIME, false),
            (5, TIME | 0xffff, false),
            (1 << 16 | 5, 5, true),
            (1 << 23 | 5, 5, true),
            (5, 1 << 16 | 5, true),
            (6, 1 << 16 | 5, false),
            (5, 1 << 31 | 5, false),
            (0, u32::MAX, false),
        ] {
            tx.input[1].sequence = Sequence(given);
            for (version, counts) in [(1, false), (0, false), (2, true), (3, true), (-1, true), (i32::MIN, true)] {
                tx.version = Version(version);
                let checker = TransactionSignatureChecker::new(&tx, 1, &shared);
                let checked = checker.check_sequence(ScriptNum(wanted.into()));
                assert_eq!(checked, satisfied && counts, "{wanted:x} {given:x} in version {version}");
            }
        }
    }

    #[test]
    fn without_a_transaction_every_check_fails() {
        assert!(!NoTransaction.check_ecdsa_signature(&[9, 1], &[2; 33], &[], SigVersion::Base));
        let checked = NoTransaction.check_schnorr_signature(&[9; 64], &[2; 32], &ExecutionData::default());
        assert_eq!(checked, Err(ScriptError::SchnorrSig));
        assert!(!NoTransaction.check_lock_time(ScriptNum(0)));
        assert!(!NoTransaction.check_sequence(ScriptNum(0)));
    }
}
