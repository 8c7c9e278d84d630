//! The script interpreter, complete through Tapscript, with Core's consensus and policy flags.

use bitcoin::{Script, Witness};

/// Which rules apply: Core's `SCRIPT_VERIFY_*` bits (and their positions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScriptFlags(u32);

/// Core's `ScriptError`. `Display` is Core's `ScriptErrorString`; `name()` the short name of script_tests.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScriptError {
    /// The script ended with a false top of the stack.
    EvalFalse,
}

/// Counts signature operations of one input as `GetTransactionSigOpCost` does (witness part).
pub fn witness_sigops(script_sig: &Script, script_pubkey: &Script, witness: &Witness, flags: ScriptFlags) -> usize {
    let _ = (script_sig, script_pubkey, witness, flags);
    todo!()
}
