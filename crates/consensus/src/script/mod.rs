//! The script interpreter, complete through Tapscript, with Core's consensus and policy flags.
//!
//! [`verify_script`] judges one input; a [`TransactionSignatureChecker`] answers what its scripts ask of the
//! transaction. Rules, their order and the errors are those of Core's `script/interpreter.cpp`.

mod checker;
mod checksig;
mod code;
mod encoding;
mod error;
mod eval;
mod flags;
mod num;
mod ops;
mod sigops;
mod stack;
mod verify;

pub use checker::{
    ExecutionData, NoTransaction, Secp256k1Verifier, SigVersion, SignatureChecker, SignatureVerifier,
    TransactionSignatureChecker,
};
pub(crate) use code::{Reader, push};
pub use code::{is_p2sh, is_push_only, witness_program};
pub use error::ScriptError;
pub use eval::eval_script;
pub use flags::{ScriptFlags, UnknownScriptFlag};
pub use num::{ScriptNum, cast_to_bool};
pub use sigops::{legacy_sigops, p2sh_sigops, witness_sigops};
pub use stack::{Element, Stack};
pub use verify::{ANNEX_TAG, TAPROOT_LEAF_MASK, TAPROOT_LEAF_TAPSCRIPT, tapleaf_hash, verify_script};

/// Most bytes in one stack element.
pub const MAX_SCRIPT_ELEMENT_SIZE: usize = 520;
/// Most operations other than pushes in a script that is no Tapscript.
pub const MAX_OPS_PER_SCRIPT: usize = 201;
/// Most public keys in a CHECKMULTISIG.
pub const MAX_PUBKEYS_PER_MULTISIG: usize = 20;
/// Most bytes in a script that is no Tapscript.
pub const MAX_SCRIPT_SIZE: usize = 10_000;
/// Most elements on the stack and the altstack together.
pub const MAX_STACK_SIZE: usize = 1000;
/// Witness weight that a signature check in Tapscript takes (BIP 342), in weight units.
pub const VALIDATION_WEIGHT_PER_SIGOP_PASSED: i64 = 50;
/// Witness weight that every Tapscript has for free (BIP 342), in weight units.
pub const VALIDATION_WEIGHT_OFFSET: i64 = 50;

/// The stack that a scriptSig leaves, run without flags or transaction: how policy looks at redeem scripts.
///
/// # Errors
/// What fails in the script; for scripts that only push it is their size or their form.
pub fn script_sig_stack(script_sig: &bitcoin::Script) -> Result<Stack<'_>, ScriptError> {
    let mut stack = Stack::default();
    let script = script_sig.as_bytes();
    eval_script(
        &mut stack,
        script,
        ScriptFlags::NONE,
        &NoTransaction,
        SigVersion::Base,
        &mut ExecutionData::default(),
    )?;
    Ok(stack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Script;

    #[test]
    fn a_script_sig_leaves_what_it_pushes() {
        let left = |script: &'static [u8]| script_sig_stack(Script::from_bytes(script));
        let stack = left(&[0x51, 2, 7, 8, 0]).expect("it only pushes");
        assert_eq!(stack, Stack::new([&[1][..], &[7, 8], &[]]));
        assert_eq!(left(&[2, 7]), Err(ScriptError::BadOpcode), "a push that ends early");
    }
}
