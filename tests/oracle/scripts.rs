//! One spend for each way in which a script fails, and some that do not, with Core's words.

use crate::coins::World;
use crate::spends::{Case, KEY, Place, case};
use cairn_consensus::script::ScriptError;

pub(crate) const FALSE: &str = "Script evaluated without error but finished with a false/empty top stack element";

fn with_key(before: &[u8], after: &[u8]) -> Vec<u8> {
    [before, &[32], &KEY, after].concat()
}

/// A strictly encoded signature of nothing in particular.
fn der() -> Vec<u8> {
    let mut signature = vec![0x30, 0x44, 0x02, 0x20];
    signature.extend([0x11; 32]);
    signature.extend([0x02, 0x20]);
    signature.extend([0x11; 32]);
    signature.push(1);
    signature
}

fn basic() -> Vec<Case> {
    use Place::{Bare, Program, Sh, Tap, Wsh};
    let key33 = [&[2u8][..], &KEY].concat();
    let mut many_ops = vec![0x61; 202];
    many_ops.insert(0, 0x51);
    vec![
        case("true", Bare, &[0x51], &[], None),
        case("false", Bare, &[0x00], &[], Some(FALSE)),
        case("empty", Bare, &[], &[], Some(FALSE)),
        case("return", Bare, &[0x51, 0x63, 0x6a, 0x68], &[], Some("OP_RETURN was encountered")),
        case("verify", Bare, &[0x00, 0x69, 0x51], &[], Some("Script failed an OP_VERIFY operation")),
        case("equalverify", Bare, &[0x51, 0x52, 0x88, 0x51], &[], Some("Script failed an OP_EQUALVERIFY operation")),
        case(
            "numequalverify",
            Bare,
            &[0x51, 0x52, 0x9d, 0x51],
            &[],
            Some("Script failed an OP_NUMEQUALVERIFY operation"),
        ),
        case("unbalanced-if", Bare, &[0x51, 0x63, 0x51], &[], Some("Invalid OP_IF construction")),
        case("unbalanced-else", Bare, &[0x67, 0x51], &[], Some("Invalid OP_IF construction")),
        case("unbalanced-endif", Bare, &[0x51, 0x68], &[], Some("Invalid OP_IF construction")),
        case("verif", Bare, &[0x51, 0x00, 0x63, 0x65, 0x68], &[], Some("Opcode missing or not understood")),
        case("reserved", Bare, &[0x51, 0x50], &[], Some("Opcode missing or not understood")),
        case("reserved-not-run", Bare, &[0x51, 0x00, 0x63, 0x50, 0x68], &[], None),
        case("unknown-opcode", Bare, &[0x51, 0xba], &[], Some("Opcode missing or not understood")),
        case("disabled-cat", Bare, &[0x51, 0x00, 0x63, 0x7e, 0x68], &[], Some("Attempted to use a disabled opcode")),
        case("disabled-mul", Bare, &[0x52, 0x52, 0x95], &[], Some("Attempted to use a disabled opcode")),
        case("stack-underflow", Bare, &[0x93], &[], Some("Operation not valid with the current stack size")),
        case("altstack-underflow", Bare, &[0x6c], &[], Some("Operation not valid with the current altstack size")),
        case("push-cut", Bare, &[0x51, 0x05, 1, 2], &[], Some("Opcode missing or not understood")),
        case(
            "push-size",
            Bare,
            &[vec![0x4d, 0x09, 0x02], vec![0; 521], vec![0x75, 0x51]].concat(),
            &[],
            Some("Push value size limit exceeded"),
        ),
        case("op-count", Bare, &many_ops, &[], Some("Operation limit exceeded")),
        case("stack-size", Bare, &vec![0x51; 1_001], &[], Some("Stack size limit exceeded")),
        case(
            "number-size",
            Bare,
            &[0x05, 1, 2, 3, 4, 5, 0x8b],
            &[],
            Some("Script number overflowed or is non-minimally encoded"),
        ),
        case(
            "multisig-keys",
            Bare,
            &[0x00, 0x00, 0x01, 21, 0xae],
            &[],
            Some("Pubkey count negative or limit exceeded"),
        ),
        case(
            "multisig-signatures",
            Bare,
            &[0x00, 0x52, 0x51, 0xae],
            &[],
            Some("Operation not valid with the current stack size"),
        ),
        case("multisig-dummy", Wsh, &[0x51, 0x00, 0x00, 0xae], &[], Some("Dummy CHECKMULTISIG argument must be zero")),
        case(
            "signature-der",
            Wsh,
            &[&[33][..], &key33, &[0xac]].concat(),
            &[&[1, 2, 3]],
            Some("Non-canonical DER signature"),
        ),
        case("signature-wrong", Wsh, &[&[33][..], &key33, &[0xac]].concat(), &[&der()], Some(FALSE)),
        case("signature-empty", Wsh, &[&[33][..], &key33, &[0xac]].concat(), &[&[]], Some(FALSE)),
        case(
            "checksigverify",
            Wsh,
            &[&[33][..], &key33, &[0xad, 0x51]].concat(),
            &[&[]],
            Some("Script failed an OP_CHECKSIGVERIFY operation"),
        ),
        case(
            "checkmultisigverify",
            Wsh,
            &[&[0x51, 33][..], &key33, &[0x51, 0xaf, 0x51]].concat(),
            &[&[], &[]],
            Some("Script failed an OP_CHECKMULTISIGVERIFY operation"),
        ),
        case("cltv-negative", Bare, &[0x4f, 0xb1], &[], Some("Negative locktime")),
        case("cltv-later", Bare, &[0x03, 0, 0, 0x10, 0xb1], &[], Some("Locktime requirement not satisfied")),
        case("cltv-kind", Bare, &[0x05, 0, 0, 0, 0x70, 0, 0xb1], &[], Some("Locktime requirement not satisfied")),
        case("cltv-zero", Bare, &[0x00, 0xb1, 0x51], &[], None),
        Case {
            sequence: 0xffff_ffff,
            ..case("cltv-final", Bare, &[0x00, 0xb1, 0x51], &[], Some("Locktime requirement not satisfied"))
        },
        case("csv-negative", Bare, &[0x4f, 0xb2], &[], Some("Negative locktime")),
        Case {
            sequence: 0xffff_ffff,
            ..case("csv-disabled-input", Bare, &[0x51, 0xb2], &[], Some("Locktime requirement not satisfied"))
        },
        case("csv-disabled-operand", Bare, &[0x05, 0, 0, 0, 0x80, 0, 0xb2], &[], None),
        case("sh-false", Sh, &[0x00], &[], Some(FALSE)),
        case("sh-true", Sh, &[0x51], &[], None),
        case("wsh-cleanstack", Wsh, &[0x51, 0x51], &[], Some("Stack size must be exactly one after execution")),
        case("wsh-item-size", Wsh, &[0x75, 0x51], &[&[0; 521]], Some("Push value size limit exceeded")),
        case("wsh-script-size", Wsh, &vec![0x61; 10_001], &[], Some("Script is too big")),
        case("wsh-if-not-minimal", Wsh, &[0x63, 0x51, 0x68], &[&[2]], None),
        case("tap-true", Tap, &[0x51], &[], None),
        case("tap-false", Tap, &[0x00], &[], Some(FALSE)),
        case("tap-cleanstack", Tap, &[0x51, 0x51], &[], Some("Stack size must be exactly one after execution")),
        case("tap-success", Tap, &[0x50], &[], None),
        case("tap-success-after-cut", Tap, &[0x7e, 0x4e], &[], None),
        case("tap-cut", Tap, &[0x4c], &[], Some("Opcode missing or not understood")),
        case(
            "tap-if-not-minimal",
            Tap,
            &[0x63, 0x51, 0x68],
            &[&[2]],
            Some("OP_IF/NOTIF argument must be minimal in tapscript"),
        ),
        case(
            "tap-checkmultisig",
            Tap,
            &[0x00, 0x00, 0x00, 0xae],
            &[],
            Some("OP_CHECKMULTISIG(VERIFY) is not available in tapscript"),
        ),
        case("tap-empty-key", Tap, &[0x00, 0xac], &[&[1; 64]], Some("Empty public key in tapscript")),
        case("tap-unknown-key", Tap, &[0x01, 7, 0xac], &[&[1; 64]], None),
        case("tap-signature-size", Tap, &with_key(&[], &[0xac]), &[&[1; 63]], Some("Invalid Schnorr signature size")),
        case(
            "tap-signature-hashtype",
            Tap,
            &with_key(&[], &[0xac]),
            &[&[4; 65]],
            Some("Invalid Schnorr signature hash type"),
        ),
        case("tap-signature-wrong", Tap, &with_key(&[], &[0xac]), &[&[1; 64]], Some("Invalid Schnorr signature")),
        case("tap-signature-empty", Tap, &with_key(&[], &[0xac]), &[&[]], Some(FALSE)),
        case("tap-item-size", Tap, &[0x75, 0x51], &[&[0; 521]], Some("Push value size limit exceeded")),
        case(
            "tap-budget",
            Tap,
            &[vec![0x51], [&[0x6e][..], &[0xad]].concat().repeat(1)].concat(),
            &[],
            Some("Operation not valid with the current stack size"),
        ),
        case(
            "tap-sigops",
            Tap,
            &[0x76, 0x01, 7, 0xac, 0x75].repeat(20).into_iter().chain([0x75, 0x51]).collect::<Vec<_>>(),
            &[&[1]],
            Some("Too much signature validation relative to witness weight"),
        ),
        case(
            "program-0-length",
            Program,
            &[&[0x00, 31][..], &[1; 31]].concat(),
            &[&[1]],
            Some("Witness program has incorrect length"),
        ),
        case(
            "program-0-empty",
            Program,
            &[&[0x00, 32][..], &[1; 32]].concat(),
            &[],
            Some("Witness program was passed an empty witness"),
        ),
        case(
            "program-0-pkh-items",
            Program,
            &[&[0x00, 20][..], &[1; 20]].concat(),
            &[&[1]],
            Some("Witness program hash mismatch"),
        ),
        case(
            "program-0-pkh-key",
            Program,
            &[&[0x00, 20][..], &[1; 20]].concat(),
            &[&der(), &key33],
            Some("Script failed an OP_EQUALVERIFY operation"),
        ),
        case(
            "program-1-empty",
            Program,
            &[&[0x51, 32][..], &KEY].concat(),
            &[],
            Some("Witness program was passed an empty witness"),
        ),
        case(
            "program-1-signature",
            Program,
            &[&[0x51, 32][..], &KEY].concat(),
            &[&[1; 64]],
            Some("Invalid Schnorr signature"),
        ),
        case(
            "program-1-size",
            Program,
            &[&[0x51, 32][..], &KEY].concat(),
            &[&[1; 10]],
            Some("Invalid Schnorr signature size"),
        ),
        case(
            "program-1-control",
            Program,
            &[&[0x51, 32][..], &KEY].concat(),
            &[&[0x51], &[0xc0; 34]],
            Some("Invalid Taproot control block size"),
        ),
        case(
            "program-1-commitment",
            Program,
            &[&[0x51, 32][..], &KEY].concat(),
            &[&[0x51], &[0xc0; 33]],
            Some("Witness program hash mismatch"),
        ),
        case("program-1-short", Program, &[0x51, 2, 0x4e, 0x73], &[], None),
        case("program-2", Program, &[&[0x52, 32][..], &[1; 32]].concat(), &[], None),
        case("program-16", Program, &[&[0x60, 40][..], &[1; 40]].concat(), &[&[1; 600]], None),
        case("unexpected-witness", Program, &[0x51], &[&[1]], Some("Witness provided for non-witness script")),
    ]
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    [basic(), crate::limits::cases(), crate::signatures::cases()].concat()
}

/// Names of all cases.
pub(crate) fn names() -> Vec<&'static str> {
    cases().iter().map(|case| case.name).collect()
}

#[test]
fn every_script_ends_alike_in_both() {
    let cases = cases();
    let (mut world, places) = World::with(cases.iter().map(Case::script_pubkey).collect());
    let mut wrong = Vec::new();
    for (case, place) in cases.iter().zip(places) {
        println!("{}", case.name);
        let block = world.block(vec![case.spend(&world.purse, place)]);
        let found = world.pair.give(&block);
        if found != case.reason() {
            wrong.push(format!("{}: {:?} expected, {found:?} found", case.name, case.reason()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names = crate::names();
    println!("{} mutations and scripts", names.len());
    assert!(names.len() >= 80);
    let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "no name twice");
}

/// Errors that only policy knows: no block is refused for them.
const POLICY: [ScriptError; 15] = [
    ScriptError::UnknownError,
    ScriptError::SigHashType,
    ScriptError::MinimalData,
    ScriptError::SigHighS,
    ScriptError::PubkeyType,
    ScriptError::MinimalIf,
    ScriptError::SigNullFail,
    ScriptError::DiscourageUpgradableNops,
    ScriptError::DiscourageUpgradableWitnessProgram,
    ScriptError::DiscourageUpgradableTaprootVersion,
    ScriptError::DiscourageOpSuccess,
    ScriptError::DiscourageUpgradablePubkeyType,
    ScriptError::WitnessPubkeyType,
    ScriptError::OpCodeSeparator,
    ScriptError::SigFindAndDelete,
];

#[test]
fn every_error_of_consensus_has_a_script() {
    let cases = cases();
    for error in ScriptError::ALL {
        let reason = format!("block-script-verify-flag-failed ({})", error.as_str());
        let shown = cases.iter().any(|case| case.error == Some(error.as_str()))
            || crate::catalogue::reasons().contains(&reason.as_str());
        assert_ne!(shown, POLICY.contains(error), "{error:?}");
    }
}
