//! Opcodes that check signatures.

use super::checker::{SigVersion, SignatureChecker};
use super::code::{find_and_delete, push};
use super::encoding::{check_public_key_encoding, check_signature_encoding};
use super::eval::Interpreter;
use super::{MAX_PUBKEYS_PER_MULTISIG, ScriptError, ScriptFlags, VALIDATION_WEIGHT_PER_SIGOP_PASSED};
use std::borrow::Cow;

impl<'a, C: SignatureChecker + ?Sized> Interpreter<'a, '_, C> {
    /// CHECKSIG: takes a signature and a public key, and answers whether the signature is valid.
    pub(super) fn check_sig(&mut self) -> Result<bool, ScriptError> {
        self.stack.require(2)?;
        let success = self.check_one_signature(1)?;
        self.stack.drop(2)?;
        Ok(success)
    }

    /// CHECKSIGADD (BIP 342): takes a signature, a number and a public key, and pushes the number of valid ones.
    pub(super) fn check_sig_add(&mut self) -> Result<(), ScriptError> {
        if self.version != SigVersion::Tapscript {
            return Err(ScriptError::BadOpcode);
        }
        self.stack.require(3)?;
        let number = self.stack.number(1, self.minimal)?;
        let success = self.check_one_signature(2)?;
        self.stack.drop(3)?;
        self.stack.push_number(number + i64::from(success));
        Ok(())
    }

    /// Checks the signature `depth` below the top against the public key on top.
    fn check_one_signature(&mut self, depth: usize) -> Result<bool, ScriptError> {
        if self.version == SigVersion::Tapscript {
            return self.check_tapscript_signature(depth);
        }
        let (signature, public_key) = (self.stack.peek(depth)?, self.stack.peek(0)?);
        let script_code = self.delete_signature(Cow::Borrowed(self.script_code()), signature)?;
        check_signature_encoding(signature, self.flags)?;
        check_public_key_encoding(public_key, self.flags, self.version)?;
        let success = self.checker.check_ecdsa_signature(signature, public_key, &script_code, self.version);
        if !success && self.flags.contains(ScriptFlags::NULLFAIL) && !signature.is_empty() {
            return Err(ScriptError::SigNullFail);
        }
        Ok(success)
    }

    /// BIP 342. The order of the rules is consensus: unknown public key versions come before all that concern the
    /// signature itself, but they pay for it too, and an empty key fails even without a signature.
    fn check_tapscript_signature(&mut self, depth: usize) -> Result<bool, ScriptError> {
        let (signature, public_key) = (self.stack.peek(depth)?, self.stack.peek(0)?);
        let success = !signature.is_empty();
        if success {
            self.data.validation_weight_left -= VALIDATION_WEIGHT_PER_SIGOP_PASSED;
            if self.data.validation_weight_left < 0 {
                return Err(ScriptError::TapscriptValidationWeight);
            }
        }
        if public_key.is_empty() {
            return Err(ScriptError::TapscriptEmptyPubkey);
        }
        if let Ok(public_key) = public_key.try_into() {
            if success {
                self.checker.check_schnorr_signature(signature, public_key, self.data)?;
            }
        } else if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_PUBKEYTYPE) {
            return Err(ScriptError::DiscourageUpgradablePubkeyType);
        }
        Ok(success)
    }

    /// Before segwit a signature cannot sign itself: it is removed from the code that it signs.
    fn delete_signature<'c>(&self, code: Cow<'c, [u8]>, signature: &[u8]) -> Result<Cow<'c, [u8]>, ScriptError> {
        if self.version != SigVersion::Base {
            return Ok(code);
        }
        let length = code.len();
        let code = find_and_delete(code, &push(signature));
        if code.len() != length && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE) {
            return Err(ScriptError::SigFindAndDelete);
        }
        Ok(code)
    }

    /// CHECKMULTISIG: takes a dummy, signatures, their number, public keys and their number, and answers whether every
    /// signature is valid for a key, in the order of the keys.
    pub(super) fn check_multisig(&mut self) -> Result<bool, ScriptError> {
        if self.version == SigVersion::Tapscript {
            return Err(ScriptError::TapscriptCheckMultisig);
        }
        let keys = usize::try_from(self.stack.number(0, self.minimal)?).unwrap_or(usize::MAX);
        if keys > MAX_PUBKEYS_PER_MULTISIG {
            return Err(ScriptError::PubkeyCount);
        }
        self.count_operations(keys)?;
        let first_key = 1;
        let signatures = usize::try_from(self.stack.number(first_key + keys, self.minimal)?).unwrap_or(usize::MAX);
        if signatures > keys {
            return Err(ScriptError::SigCount);
        }
        let first_signature = first_key + keys + 1;
        let arguments = first_signature + signatures;
        // The dummy counts.
        self.stack.require(arguments + 1)?;

        let mut script_code = Cow::Borrowed(self.script_code());
        for index in 0..signatures {
            script_code = self.delete_signature(script_code, self.stack.peek(first_signature + index)?)?;
        }

        let (mut signature_index, mut key_index) = (0, 0);
        // As soon as more signatures are left than keys, no further one is looked at.
        while signature_index < signatures && signatures - signature_index <= keys - key_index {
            let signature = self.stack.peek(first_signature + signature_index)?;
            let public_key = self.stack.peek(first_key + key_index)?;
            check_signature_encoding(signature, self.flags)?;
            check_public_key_encoding(public_key, self.flags, self.version)?;
            if self.checker.check_ecdsa_signature(signature, public_key, &script_code, self.version) {
                signature_index += 1;
            }
            key_index += 1;
        }
        let success = signature_index == signatures;

        if !success && self.flags.contains(ScriptFlags::NULLFAIL) {
            for index in 0..signatures {
                if !self.stack.peek(first_signature + index)?.is_empty() {
                    return Err(ScriptError::SigNullFail);
                }
            }
        }
        self.stack.drop(arguments)?;
        // A bug from the beginning takes one element too many, which BIP 147 requires to be empty.
        let dummy = self.stack.pop()?;
        if self.flags.contains(ScriptFlags::NULLDUMMY) && !dummy.is_empty() {
            return Err(ScriptError::SigNullDummy);
        }
        Ok(success)
    }
}

#[cfg(test)]
mod tests {
    use crate::script::{
        ExecutionData, NoTransaction, ScriptError, ScriptFlags, SigVersion, Stack, eval_script, legacy_sigops,
    };

    fn run(script: &[u8], flags: ScriptFlags) -> Result<(), ScriptError> {
        let data = &mut ExecutionData::default();
        eval_script(&mut Stack::default(), script, flags, &NoTransaction, SigVersion::Base, data)
    }

    /// A missing dummy is found before any signature is looked at, and a dummy that is not empty after all of them.
    #[test]
    fn multisig_dummy() {
        let signature_key_one = [0x01, 0x30, 0x51, 0x01, 0x02, 0x51, 0xae];
        assert_eq!(run(&signature_key_one, ScriptFlags::DERSIG), Err(ScriptError::InvalidStackOperation));
        let with_dummy = [&[0x51], &signature_key_one[..]].concat();
        assert_eq!(run(&with_dummy, ScriptFlags::DERSIG), Err(ScriptError::SigDer));
        assert_eq!(run(&with_dummy, ScriptFlags::NULLFAIL), Err(ScriptError::SigNullFail));
        assert_eq!(run(&with_dummy, ScriptFlags::NULLDUMMY), Err(ScriptError::SigNullDummy));
        assert_eq!(run(&with_dummy, ScriptFlags::NONE), Ok(()));
    }

    /// Every public key counts as an operation, even without a signature to check.
    #[test]
    fn multisig_counts_its_keys() {
        // 0 0 <20 keys> 20 CHECKMULTISIG DROP: 22 operations a time.
        let one = [&[0x00, 0x00][..], &[0x51; 20], &[0x01, 20, 0xae, 0x75]].concat();
        assert_eq!(legacy_sigops(bitcoin::Script::from_bytes(&one), true), 20);
        let times = |count: usize, nops: usize| [one.repeat(count), vec![0x61; nops]].concat();
        assert_eq!(run(&times(9, 3), ScriptFlags::NONE), Ok(()));
        assert_eq!(run(&times(9, 4), ScriptFlags::NONE), Err(ScriptError::OpCount));
        assert_eq!(run(&times(10, 0), ScriptFlags::NONE), Err(ScriptError::OpCount));
    }
}
