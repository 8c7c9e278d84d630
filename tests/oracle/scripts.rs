//! One spend for each way in which a script fails, and some that do not, with Core's words.

use crate::coins::{VALUE, World};
use bitcoin::absolute::LockTime;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{Secp256k1, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_chain::testing::anyone_can_spend;

/// How a script is put into an output and given when it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The output's script itself.
    Bare,
    /// Pay-to-script-hash.
    Sh,
    /// Version 0 witness script.
    Wsh,
    /// A tapscript leaf.
    Tap,
    /// The output's script is this; the items are the whole witness.
    Program,
}

struct Case {
    name: &'static str,
    place: Place,
    script: Vec<u8>,
    /// Items that the script finds on its stack.
    items: Vec<Vec<u8>>,
    sequence: u32,
    lock_time: u32,
    /// Core's text of the error; none if the spend is valid.
    error: Option<&'static str>,
}

fn case(name: &'static str, place: Place, script: &[u8], items: &[&[u8]], error: Option<&'static str>) -> Case {
    let items = items.iter().map(|item| item.to_vec()).collect();
    Case { name, place, script: script.to_vec(), items, sequence: 0xffff_fffe, lock_time: 0, error }
}

const FALSE: &str = "Script evaluated without error but finished with a false/empty top stack element";
const KEY: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02, 0x9b, 0xfc,
    0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];

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

fn cases() -> Vec<Case> {
    use Place::{Bare, Program, Sh, Tap, Wsh};
    let key33 = [&[2u8][..], &KEY].concat();
    let mut many_ops = vec![0x61; 202];
    many_ops.insert(0, 0x51);
    let mut cases = vec![
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
        case("cltv-final", Bare, &[0x00, 0xb1, 0x51], &[], Some("Locktime requirement not satisfied")),
        case("csv-negative", Bare, &[0x4f, 0xb2], &[], Some("Negative locktime")),
        case("csv-disabled-input", Bare, &[0x51, 0xb2], &[], Some("Locktime requirement not satisfied")),
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
    ];
    for case in &mut cases {
        match case.name {
            "cltv-final" | "csv-disabled-input" => case.sequence = 0xffff_ffff,
            _ => {}
        }
    }
    cases
}

/// Names of all cases.
pub(crate) fn names() -> Vec<&'static str> {
    cases().iter().map(|case| case.name).collect()
}

impl Case {
    fn tree(&self) -> (bitcoin::taproot::TaprootSpendInfo, ScriptBuf) {
        let leaf = ScriptBuf::from_bytes(self.script.clone());
        let key = XOnlyPublicKey::from_slice(&KEY).expect("a key");
        let tree = TaprootBuilder::new().add_leaf(0, leaf.clone()).expect("depth");
        (tree.finalize(&Secp256k1::new(), key).expect("complete"), leaf)
    }

    fn script_pubkey(&self) -> ScriptBuf {
        let script = ScriptBuf::from_bytes(self.script.clone());
        match self.place {
            Place::Bare | Place::Program => script,
            Place::Sh => script.to_p2sh(),
            Place::Wsh => script.to_p2wsh(),
            Place::Tap => ScriptBuf::new_p2tr_tweaked(self.tree().0.output_key()),
        }
    }

    fn spend(&self, previous_output: OutPoint) -> Transaction {
        let push = |items: &[Vec<u8>]| {
            let push = |item: &Vec<u8>| PushBytesBuf::try_from(item.clone()).expect("short");
            items.iter().fold(Builder::new(), |builder, item| builder.push_slice(push(item))).into_script()
        };
        let mut items = self.items.clone();
        let (script_sig, witness) = match self.place {
            Place::Bare => (push(&items), Witness::new()),
            Place::Program => (ScriptBuf::new(), Witness::from_slice(&items)),
            Place::Sh => {
                items.push(self.script.clone());
                (push(&items), Witness::new())
            }
            Place::Wsh => {
                items.push(self.script.clone());
                (ScriptBuf::new(), Witness::from_slice(&items))
            }
            Place::Tap => {
                let (tree, leaf) = self.tree();
                let control = tree.control_block(&(leaf.clone(), LeafVersion::TapScript)).expect("the leaf is there");
                items.extend([leaf.to_bytes(), control.serialize()]);
                (ScriptBuf::new(), Witness::from_slice(&items))
            }
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(self.lock_time),
            input: vec![TxIn { previous_output, script_sig, sequence: Sequence(self.sequence), witness }],
            output: vec![TxOut { value: Amount::from_sat(VALUE / 2), script_pubkey: anyone_can_spend() }],
        }
    }
}

#[test]
fn every_script_ends_alike_in_both() {
    let cases = cases();
    let (mut world, places) = World::with(cases.iter().map(Case::script_pubkey).collect());
    let mut wrong = Vec::new();
    for (case, place) in cases.iter().zip(places) {
        println!("{}", case.name);
        let block = world.block(vec![case.spend(place)]);
        let expected = case.error.map(|error| format!("block-script-verify-flag-failed ({error})"));
        let found = world.pair.give(&block);
        if found != expected {
            wrong.push(format!("{}: {expected:?} expected, {found:?} found", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut names = [names(), crate::catalogue::names()].concat();
    println!("{} mutations and scripts", names.len());
    assert!(names.len() >= 80);
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= 80, "no name twice");
}
