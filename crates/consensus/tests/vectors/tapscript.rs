//! Rules of BIP 341 and BIP 342 for which Core's sources carry no vectors, one by one.

use crate::asm;
use crate::script_tests::taproot;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1};
use bitcoin::sighash::{Annex, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Script, ScriptBuf, TapLeafHash, Transaction, TxIn, TxOut, Witness};
use cairn_consensus::script::{
    NoTransaction, ScriptError, ScriptFlags, TransactionSignatureChecker, tapleaf_hash, verify_script,
};
use cairn_consensus::sighash::PrecomputedTransactionData;

fn name(result: Result<(), ScriptError>) -> &'static str {
    result.err().map_or("OK", ScriptError::name)
}

/// Spends a script path with this stack below the script, without a transaction.
fn run(script: &str, stack: &[Vec<u8>], flags: ScriptFlags) -> &'static str {
    run_script(asm::parse(script), stack, flags)
}

fn run_script(script: ScriptBuf, stack: &[Vec<u8>], flags: ScriptFlags) -> &'static str {
    let (control, output) = taproot(script.clone());
    let witness: Vec<_> = stack.iter().cloned().chain([script.into_bytes(), control]).collect();
    name(verify_script(Script::new(), &output, &Witness::from_slice(&witness), flags, &NoTransaction))
}

/// The same script as witness version 0.
fn run_p2wsh(script: &str, stack: &[Vec<u8>], flags: ScriptFlags) -> &'static str {
    let script = asm::parse(script);
    let output = ScriptBuf::new_p2wsh(&script.wscript_hash());
    let witness: Vec<_> = stack.iter().cloned().chain([script.into_bytes()]).collect();
    name(verify_script(Script::new(), &output, &Witness::from_slice(&witness), flags, &NoTransaction))
}

const CONSENSUS: ScriptFlags = ScriptFlags::MANDATORY;
const STANDARD: ScriptFlags = ScriptFlags::STANDARD;

#[test]
fn op_success_overrides_all_but_what_stands_before_it() {
    for opcode in (0..=255u8).filter(
        |opcode| matches!(opcode, 80 | 98 | 126..=129 | 131..=134 | 137 | 138 | 141 | 142 | 149..=153 | 187..=254),
    ) {
        let script = ScriptBuf::from_bytes(vec![0x00, 0x69, opcode, 0x4c]);
        assert_eq!(run_script(script.clone(), &[], CONSENSUS), "OK", "{opcode}");
        assert_eq!(run_script(script, &[], STANDARD), "DISCOURAGE_OP_SUCCESS", "{opcode}");
        // In a push it is data, and after a push that runs out it is not reached.
        assert_eq!(run_script(ScriptBuf::from_bytes(vec![2, opcode, 1]), &[], CONSENSUS), "OK");
        assert_eq!(run_script(ScriptBuf::from_bytes(vec![3, opcode]), &[], CONSENSUS), "BAD_OPCODE");
    }
    assert_eq!(run("RESERVED", &vec![vec![0; 521]; 1001], CONSENSUS), "OK");
    // The opcodes around the ranges are none.
    for opcode in [0x65, 0x66, 0xff] {
        assert_eq!(run_script(ScriptBuf::from_bytes(vec![0x51, opcode]), &[], CONSENSUS), "BAD_OPCODE");
    }
}

#[test]
fn limits() {
    let ones = vec![vec![1]; 1001];
    assert_eq!(run("1", &ones, CONSENSUS), "STACK_SIZE");
    assert_eq!(run("DEPTH", &ones[..1000], CONSENSUS), "STACK_SIZE");
    // Before the script runs as after each operation.
    assert_eq!(run(&"2DROP ".repeat(500), &ones, CONSENSUS), "STACK_SIZE");
    assert_eq!(run(&("2DROP ".repeat(499) + "DROP"), &ones[..1000], CONSENSUS), "OK");
    // The altstack counts.
    assert_eq!(run("TOALTSTACK DEPTH DEPTH", &ones[..999], CONSENSUS), "STACK_SIZE");
    assert_eq!(run("TOALTSTACK DEPTH", &ones[..999], CONSENSUS), "CLEANSTACK");
    assert_eq!(run("DROP 1", &[vec![0; 521]], CONSENSUS), "PUSH_SIZE");
    assert_eq!(run("DROP 1", &[vec![0; 520]], CONSENSUS), "OK");
    // Neither operations nor the script's size are limited, as they are in version 0.
    let many = "NOP ".repeat(300) + "1";
    assert_eq!(run(&many, &[], STANDARD), "OK");
    assert_eq!(run_p2wsh(&many, &[], CONSENSUS), "OP_COUNT");
    let long = "0x4d0802".to_owned() + &"00".repeat(520) + " DROP ";
    let long = long.repeat(20) + "1";
    assert_eq!(run(&long, &[], STANDARD), "OK");
    assert_eq!(run_p2wsh(&long, &[], CONSENSUS), "SCRIPT_SIZE");
}

#[test]
fn stack_at_the_end() {
    assert_eq!(run("1", &[], CONSENSUS), "OK");
    assert_eq!(run("1 1", &[], CONSENSUS), "CLEANSTACK");
    assert_eq!(run("NOP", &[], CONSENSUS), "CLEANSTACK");
    assert_eq!(run("0", &[], CONSENSUS), "EVAL_FALSE");
}

#[test]
fn minimal_if_is_consensus() {
    for (argument, error) in [(vec![], "OK"), (vec![1], "OK"), (vec![0], "X"), (vec![2], "X"), (vec![1, 0], "X")] {
        let tapscript = if error == "X" { "TAPSCRIPT_MINIMALIF" } else { error };
        let policy = if error == "X" { "MINIMALIF" } else { error };
        for script in ["IF 1 ELSE 1 ENDIF", "NOTIF 1 ELSE 1 ENDIF"] {
            let stack = [argument.clone()];
            assert_eq!(run(script, &stack, CONSENSUS), tapscript);
            assert_eq!(run_p2wsh(script, &stack, CONSENSUS), "OK");
            assert_eq!(run_p2wsh(script, &stack, STANDARD), policy);
        }
    }
}

#[test]
fn opcodes_that_differ() {
    for opcode in ["CHECKMULTISIG", "CHECKMULTISIGVERIFY"] {
        assert_eq!(run(opcode, &[], CONSENSUS), "TAPSCRIPT_CHECKMULTISIG");
        assert_eq!(run(&format!("0 IF {opcode} ENDIF 1"), &[], CONSENSUS), "OK");
    }
    assert_eq!(run_p2wsh("0 5 1 CHECKSIGADD", &[], CONSENSUS), "BAD_OPCODE");
    assert_eq!(run_p2wsh("0 IF CHECKSIGADD ENDIF 1", &[], CONSENSUS), "OK");
    // An empty signature adds nothing, whatever the kind of key.
    let key = format!("0x20 0x{}", "11".repeat(32));
    assert_eq!(run(&format!("0 5 {key} CHECKSIGADD 5 NUMEQUAL"), &[], STANDARD), "OK");
    assert_eq!(run("0 5 0x01 0xaa CHECKSIGADD 5 NUMEQUAL", &[], CONSENSUS), "OK");
    assert_eq!(run("1 5 0x01 0xaa CHECKSIGADD 6 NUMEQUAL", &[], CONSENSUS), "OK");
    assert_eq!(run("0 0x05 0x0000000001 0x01 0xaa CHECKSIGADD", &[], CONSENSUS), "SCRIPTNUM");
}

#[test]
fn public_keys() {
    assert_eq!(run("0 0 CHECKSIG", &[], CONSENSUS), "TAPSCRIPT_EMPTY_PUBKEY");
    assert_eq!(run("1 0 CHECKSIG", &[], CONSENSUS), "TAPSCRIPT_EMPTY_PUBKEY");
    for length in [1, 31, 33, 65] {
        let key = format!("0x{length:02x} 0x{}", "22".repeat(length));
        for signature in ["0", "1"] {
            let script = format!("{signature} {key} CHECKSIG");
            let consensus = if signature == "1" { "OK" } else { "EVAL_FALSE" };
            assert_eq!(run(&script, &[], CONSENSUS), consensus);
            assert_eq!(run(&script, &[], STANDARD), "DISCOURAGE_UPGRADABLE_PUBKEYTYPE");
        }
    }
}

#[test]
fn signature_checks_pay_with_witness_weight() {
    let passes = |checks: usize, length: usize| {
        let script = "DUP 0x01 0x02 CHECKSIGVERIFY ".repeat(checks) + "DROP 1";
        run(&script, &[vec![1; length]], CONSENSUS)
    };
    // Witness: its length, the signature, the script with its length, and the control block.
    let weight = |checks: usize, length: usize| {
        let script = 4 * checks + 2;
        50 + 1 + 1 + length + script + if script < 253 { 1 } else { 3 } + 34
    };
    let mut spent_to_zero = 0;
    for (checks, length) in (0..6).flat_map(|checks| (1..=60).map(move |length| (checks, length))) {
        let expected = if 50 * checks <= weight(checks, length) { "OK" } else { "TAPSCRIPT_VALIDATION_WEIGHT" };
        assert_eq!(passes(checks, length), expected, "{checks} {length}");
        spent_to_zero += usize::from(50 * checks == weight(checks, length));
    }
    assert!(spent_to_zero > 0);
    assert_eq!((passes(1, 1), passes(19, 1)), ("OK", "TAPSCRIPT_VALIDATION_WEIGHT"));
    // Empty signatures are free.
    assert_eq!(run(&("0 0x01 0x02 CHECKSIG DROP ".repeat(100) + "1"), &[], CONSENSUS), "OK");
}

#[test]
fn versions_without_rules_succeed() {
    let (mut control, output) = taproot(asm::parse("RETURN"));
    // A leaf of another version is committed to like any other: build its output by hand.
    let leaf = tapleaf_hash(0xc2, &[0x6a]);
    let secp = Secp256k1::new();
    let internal = bitcoin::key::UntweakedPublicKey::from_slice(&control[1..33]).expect("a key");
    let root = bitcoin::TapNodeHash::from_byte_array(leaf);
    let spend = bitcoin::taproot::TaprootSpendInfo::new_key_spend(&secp, internal, Some(root));
    let future = ScriptBuf::new_p2tr_tweaked(spend.output_key());
    control[0] = 0xc2 | spend.output_key_parity().to_u8();
    let verify = |output: &ScriptBuf, flags| {
        let witness = Witness::from_slice(&[&[0x6a][..], &control]);
        name(verify_script(Script::new(), output, &witness, flags, &NoTransaction))
    };
    assert_eq!(verify(&future, CONSENSUS), "OK");
    assert_eq!(verify(&future, STANDARD), "DISCOURAGE_UPGRADABLE_TAPROOT_VERSION");
    assert_eq!(verify(&output, CONSENSUS), "WITNESS_PROGRAM_MISMATCH");

    // Witness versions without rules; Taproot inside P2SH; and pay to anchor, which policy allows.
    let spend = |script_sig: &ScriptBuf, output: &ScriptBuf, flags| {
        name(verify_script(script_sig, output, &Witness::from_slice(&[[1]]), flags, &NoTransaction))
    };
    let discouraged = "DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM";
    for (program, policy) in [("2 0x02 0x4e73", discouraged), ("1 0x02 0x4e74", discouraged), ("1 0x02 0x4e73", "OK")] {
        let program = asm::parse(program);
        assert_eq!(spend(&ScriptBuf::new(), &program, CONSENSUS), "OK");
        assert_eq!(spend(&ScriptBuf::new(), &program, STANDARD), policy);
    }
    for program in [output, asm::parse("1 0x02 0x4e73")] {
        let p2sh = ScriptBuf::new_p2sh(&program.script_hash());
        let script_sig = [&[program.len() as u8], program.as_bytes()].concat().into();
        assert_eq!(spend(&script_sig, &p2sh, CONSENSUS), "OK");
        assert_eq!(spend(&script_sig, &p2sh, STANDARD), discouraged);
    }
}

#[test]
fn witness_shapes() {
    let (control, output) = taproot(asm::parse("1"));
    let verify = |stack: &[&[u8]]| {
        name(verify_script(Script::new(), &output, &Witness::from_slice(stack), CONSENSUS, &NoTransaction))
    };
    let annex: &[u8] = &[0x50, 1];
    assert_eq!(verify(&[]), "WITNESS_PROGRAM_WITNESS_EMPTY");
    assert_eq!(verify(&[&[0x51], &control]), "OK");
    assert_eq!(verify(&[&[0x51], &control, annex]), "OK");
    // An annex alone is a signature, and with one element before it leaves that as the signature.
    assert_eq!(verify(&[annex]), "SCHNORR_SIG");
    assert_eq!(verify(&[&[0x51], annex]), "SCHNORR_SIG");
    for (length, error) in [
        (32, "TAPROOT_WRONG_CONTROL_SIZE"),
        (34, "TAPROOT_WRONG_CONTROL_SIZE"),
        (33 + 32 * 128, "WITNESS_PROGRAM_MISMATCH"),
        (33 + 32 * 129, "TAPROOT_WRONG_CONTROL_SIZE"),
    ] {
        let mut control = control.clone();
        control.resize(length, 0);
        assert_eq!(verify(&[&[0x51], &control]), error);
    }
    // Without the flag anyone can spend.
    let anyone = CONSENSUS - ScriptFlags::TAPROOT;
    assert_eq!(verify_script(Script::new(), &output, &Witness::new(), anyone, &NoTransaction), Ok(()));
}

/// Real signatures over everything that they commit to: annex, leaf and the last executed CODESEPARATOR.
#[test]
fn signatures() {
    let secp = Secp256k1::new();
    let pair = Keypair::from_seckey_slice(&secp, &[3; 32]).expect("below the order");
    let key = format!("0x20 0x{}", pair.x_only_public_key().0);
    let annex = [0x50, 7, 7];
    let script = asm::parse(&format!("0 IF CODESEPARATOR ENDIF CODESEPARATOR {key} CHECKSIG"));
    let (control, output) = taproot(script.clone());
    let spent = TxOut { value: Amount::from_sat(5000), script_pubkey: output.clone() };
    let tx = Transaction {
        version: Version(-1),
        lock_time: LockTime::ZERO,
        input: vec![TxIn::default()],
        output: vec![spent.clone()],
    };
    let shared = PrecomputedTransactionData::new(&tx, vec![spent.clone()]);
    let checker = TransactionSignatureChecker::new(&tx, 0, &shared);
    let sign = |position: u32, annex: Option<&[u8]>, kind: TapSighashType| {
        let leaf = TapLeafHash::from_byte_array(tapleaf_hash(0xc0, script.as_bytes()));
        let hash = SighashCache::new(&tx).taproot_signature_hash(
            0,
            &Prevouts::All(std::slice::from_ref(&spent)),
            annex.map(|annex| Annex::new(annex).expect("its tag is there")),
            Some((leaf, position)),
            kind,
        );
        let message = Message::from_digest(hash.expect("valid").to_byte_array());
        secp.sign_schnorr_no_aux_rand(&message, &pair).serialize().to_vec()
    };
    let verify = |signature: &[u8], annex: Option<&[u8]>| {
        let mut stack = vec![signature, script.as_bytes(), &control];
        stack.extend(annex);
        name(verify_script(Script::new(), &output, &Witness::from_slice(&stack), STANDARD, &checker))
    };

    // Operations count from zero, those not executed included: the second CODESEPARATOR is the fifth.
    let all = TapSighashType::Default;
    assert_eq!(verify(&sign(4, None, all), None), "OK");
    assert_eq!(verify(&sign(4, Some(&annex), all), Some(&annex)), "OK");
    for wrong in [sign(2, None, all), sign(u32::MAX, None, all), sign(4, Some(&annex), all)] {
        assert_eq!(verify(&wrong, None), "SCHNORR_SIG");
    }
    for kind in [1, 2, 3, 0x81, 0x82, 0x83u8] {
        let mut signature = sign(4, None, TapSighashType::from_consensus_u8(kind).expect("defined"));
        assert_eq!(verify(&signature, None), "SCHNORR_SIG");
        signature.push(kind);
        assert_eq!(verify(&signature, None), "OK", "{kind}");
        signature[64] ^= 0x40;
        assert_eq!(verify(&signature, None), "SCHNORR_SIG_HASHTYPE");
    }
    let mut signature = sign(4, None, all);
    signature.push(0);
    assert_eq!(verify(&signature, None), "SCHNORR_SIG_HASHTYPE");
    signature.push(0);
    assert_eq!(verify(&signature, None), "SCHNORR_SIG_SIZE");
    assert_eq!(verify(&signature[..63], None), "SCHNORR_SIG_SIZE");
    // An empty one is false, and fails nothing yet.
    assert_eq!(verify(&[], None), "EVAL_FALSE");
}
