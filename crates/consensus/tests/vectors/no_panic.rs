//! No bytes make the interpreter panic.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Script, ScriptBuf, Transaction, TxIn, TxOut, Witness};
use cairn_consensus::script::{
    ScriptFlags, TransactionSignatureChecker, legacy_sigops, p2sh_sigops, script_sig_stack, verify_script,
    witness_sigops,
};
use cairn_consensus::sighash::PrecomputedTransactionData;
use proptest::prelude::*;

/// Mostly operations that do something, with pushes of the sizes that have a meaning.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let operation = prop_oneof![
        4 => (0x61u8..=0xba).prop_map(|opcode| vec![opcode]),
        3 => (0x4fu8..=0x60).prop_map(|opcode| vec![opcode]),
        2 => prop::sample::select(vec![0usize, 1, 2, 5, 20, 32, 33, 64, 65, 71])
            .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
            .prop_map(|data| [&[data.len() as u8], data.as_slice()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(operation, 0..40).prop_map(|operations| operations.concat())
}

/// An output of any kind around a script, and what spends it if the script does.
fn spend() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<Vec<u8>>)> {
    let stack = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4);
    (0..5u8, script(), script(), stack, any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
        |(kind, script, script_sig, mut stack, version, extra)| match kind {
            0 => (script_sig, script, stack),
            1 => {
                let output = ScriptBuf::new_p2sh(&Script::from_bytes(&script).script_hash()).into_bytes();
                let length = script.len().min(255) as u8;
                ([script_sig.as_slice(), &[0x4c, length], &script].concat(), output, stack)
            }
            2 => {
                let output = [&[0x00, 0x20][..], sha256::Hash::hash(&script).as_byte_array()].concat();
                stack.push(script);
                (Vec::new(), output, stack)
            }
            3 => {
                let output = [&[0x51, 0x20][..], sha256::Hash::hash(&extra).as_byte_array()].concat();
                stack.extend([script, extra]);
                (Vec::new(), output, stack)
            }
            _ => (Vec::new(), [&[version, extra.len() as u8], extra.as_slice()].concat(), stack),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn verifying((script_sig, output, stack) in spend(), flags in any::<u32>(), version in any::<i32>()) {
        let flags = ScriptFlags::from_bits(flags);
        let (script_sig, output) = (ScriptBuf::from_bytes(script_sig), ScriptBuf::from_bytes(output));
        let witness = Witness::from_slice(&stack);
        let tx = Transaction {
            version: Version(version),
            lock_time: LockTime::from_consensus(version as u32),
            input: vec![TxIn { script_sig: script_sig.clone(), witness: witness.clone(), ..TxIn::default() }],
            output: vec![],
        };
        let spent = TxOut { value: Amount::MAX, script_pubkey: output.clone() };
        let shared = PrecomputedTransactionData::new(&tx, vec![spent]);
        let checker = TransactionSignatureChecker::new(&tx, 0, &shared);
        let _ = verify_script(&script_sig, &output, &witness, flags, &checker);
        let _ = script_sig_stack(&script_sig);
        let sigops = witness_sigops(&script_sig, &output, &witness, flags) + p2sh_sigops(&output, &script_sig);
        prop_assert!(sigops <= 20 * (legacy_sigops(&output, false) + stack.concat().len() + script_sig.len() + 1));
    }
}
