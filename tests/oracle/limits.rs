//! Scripts at their limits and just beyond, and outputs that only look like something else.

use crate::scripts::FALSE;
use crate::spends::{Case, KEY, Place, case};
use bitcoin::ScriptBuf;

const TOO_LARGE: Option<&str> = Some("Push value size limit exceeded");
const TOO_MANY: Option<&str> = Some("Operation limit exceeded");
const TOO_HIGH: Option<&str> = Some("Stack size limit exceeded");
const NO_NUMBER: Option<&str> = Some("Script number overflowed or is non-minimally encoded");
const UNSATISFIED: Option<&str> = Some("Locktime requirement not satisfied");
const MISMATCH: Option<&str> = Some("Witness program hash mismatch");
const MALLEATED: Option<&str> = Some("Witness requires only-redeemscript scriptSig");

/// A push of so many zeros.
fn zeros(count: u16) -> Vec<u8> {
    [&[0x4d][..], &count.to_le_bytes(), &vec![0; count.into()]].concat()
}

/// A script of `length` bytes that pushes and drops, and ends true.
pub(crate) fn of_length(length: usize) -> Vec<u8> {
    let mut script = Vec::new();
    // What is left after it has room for PUSHDATA2 and its length, DROP and OP_1.
    while length - script.len() > 525 {
        let piece = (length - script.len() - 5).min(524);
        script.extend([zeros((piece - 4) as u16), vec![0x75]].concat());
    }
    let rest = length - script.len() - 5;
    script.extend([zeros(rest as u16), vec![0x75, 0x51]].concat());
    script
}

/// CHECKMULTISIG of no signatures and `keys` keys after so many NOPs.
fn multisig(nops: usize, keys: u8) -> Vec<u8> {
    [&vec![0x61; nops][..], &[0, 0], &vec![0; keys.into()], &[1, keys, 0xae]].concat()
}

/// A script hash's output: what is before the hash of `redeem`, and after.
fn around_hash(before: &[u8], redeem: &[u8], after: &[u8]) -> Vec<u8> {
    let hash = ScriptBuf::from_bytes(redeem.to_vec()).script_hash();
    [before, AsRef::<[u8]>::as_ref(&hash), after].concat()
}

pub(crate) fn cases() -> Vec<Case> {
    [sizes(), counts(), lock_times(), look_alikes(), taproot()].concat()
}

fn sizes() -> Vec<Case> {
    use Place::{Bare, Sh, Tap, Wsh};
    vec![
        case("script-size-limit", Bare, &of_length(10_000), &[], None),
        case("wsh-script-size-limit", Wsh, &of_length(10_000), &[], None),
        case("tap-script-size", Tap, &of_length(10_001), &[], None),
        case("push-size-limit", Bare, &of_length(520 + 5), &[], None),
        case("sh-redeem-size-limit", Sh, &of_length(520), &[], None),
        case("sh-redeem-size", Sh, &of_length(521), &[], TOO_LARGE),
        case("wsh-item-size-limit", Wsh, &[0x75, 0x51], &[&[0; 520]], None),
        case("tap-item-size-limit", Tap, &[0x75, 0x51], &[&[0; 520]], None),
        case("number-size-limit", Bare, &[4, 0xff, 0xff, 0xff, 0x7f, 0x8b], &[], None),
        case("cltv-number-size-limit", Bare, &[5, 0, 0, 0, 0, 0, 0xb1, 0x51], &[], None),
        case("cltv-number-size", Bare, &[6, 0, 0, 0, 0, 0, 0, 0xb1, 0x51], &[], NO_NUMBER),
    ]
}

fn counts() -> Vec<Case> {
    use Place::{Bare, Tap, Wsh};
    let nops = |count: usize| [&[0x51][..], &vec![0x61; count]].concat();
    let items = |count: usize| vec![&[1u8][..]; count];
    let drop_all_but_one = [vec![0x6d; 499], vec![0x75]].concat();
    vec![
        case("op-count-limit", Bare, &nops(201), &[], None),
        case("wsh-op-count-limit", Wsh, &nops(201), &[], None),
        case("wsh-op-count", Wsh, &nops(202), &[], TOO_MANY),
        case("tap-op-count", Tap, &nops(202), &[], None),
        case("op-count-not-run", Bare, &[&[0x51, 0, 0x63][..], &[0x61; 199], &[0x68]].concat(), &[], None),
        case("op-count-not-run-either", Bare, &[&[0x51, 0, 0x63][..], &[0x61; 200], &[0x68]].concat(), &[], TOO_MANY),
        // Each key of a CHECKMULTISIG counts as an operation.
        case("multisig-keys-limit", Bare, &multisig(180, 20), &[], None),
        case("multisig-op-count", Bare, &multisig(181, 20), &[], TOO_MANY),
        case("multisig-keys-negative", Bare, &[0, 0, 0x4f, 0xae], &[], Some("Pubkey count negative or limit exceeded")),
        case(
            "multisig-signature-count",
            Bare,
            &[0, 0x52, 0, 0x51, 0xae],
            &[],
            Some("Signature count negative or greater than pubkey count"),
        ),
        case("stack-size-limit", Bare, &[0x51; 1_000], &[], None),
        case("stack-size-with-altstack-limit", Bare, &[&[0x51; 999][..], &[0x6b, 0x51]].concat(), &[], None),
        case("stack-size-with-altstack", Bare, &[&[0x51; 1_000][..], &[0x6b, 0x51]].concat(), &[], TOO_HIGH),
        // A witness may bring more than the stack may hold, if the first operation takes what is too much.
        case(
            "wsh-stack-size-limit",
            Wsh,
            &[0x75],
            &items(1_001),
            Some("Stack size must be exactly one after execution"),
        ),
        case("wsh-stack-size", Wsh, &[0x75], &items(1_002), TOO_HIGH),
        case("tap-stack-size-limit", Tap, &drop_all_but_one, &items(1_000), None),
        case("tap-stack-size", Tap, &drop_all_but_one, &items(1_001), TOO_HIGH),
    ]
}

fn lock_times() -> Vec<Case> {
    use Place::Bare;
    let cltv = |name, number, lock_time, error| Case { lock_time, ..case(name, Bare, &[number, 0xb1], &[], error) };
    let csv = |name, script: &[u8], sequence, error| Case { sequence, ..case(name, Bare, script, &[], error) };
    vec![
        cltv("cltv-exact", 0x55, 5, None),
        cltv("cltv-below", 0x56, 5, UNSATISFIED),
        csv("csv-exact", &[0x51, 0xb2], 1, None),
        csv("csv-below", &[0x52, 0xb2], 1, UNSATISFIED),
        csv("csv-kind", &[3, 1, 0, 0x40, 0xb2], 1, UNSATISFIED),
        Case { version: 1, ..csv("csv-version-1", &[0x51, 0xb2], 1, UNSATISFIED) },
        Case { version: -1, ..csv("csv-version-negative", &[0x51, 0xb2], 1, None) },
    ]
}

fn look_alikes() -> Vec<Case> {
    use Place::{Bare, Program, Sh, ShProgram, ShWsh, Wsh};
    // What fails if it is run.
    let redeem: &[u8] = &[0x00];
    let wrapped = ScriptBuf::from_bytes(vec![0x51]).to_p2wsh().into_bytes();
    let with_sig = |name, place, script_sig: Vec<u8>, error| Case {
        script_sig: Some(script_sig),
        ..case(name, place, &[0x51], &[], error)
    };
    let pushed = |push: &[u8]| [push, &wrapped].concat();
    vec![
        case("sh-look-alike-push", Bare, &around_hash(&[0xa9, 0x4c, 20], redeem, &[0x87]), &[redeem], None),
        case("sh-look-alike-verify", Bare, &around_hash(&[0xa9, 20], redeem, &[0x88, 0x51]), &[redeem], None),
        case("sh-look-alike-nop", Bare, &around_hash(&[0xa9, 20], redeem, &[0x87, 0x61]), &[redeem], None),
        with_sig("sh-not-push-only", Sh, vec![0x61, 1, 0x51], Some("Only push operators allowed in signatures")),
        with_sig("sh-empty", Sh, vec![], Some("Operation not valid with the current stack size")),
        with_sig("sh-other-script", Sh, vec![1, 0x52], Some(FALSE)),
        case("sh-wsh-true", ShWsh, &[0x51], &[], None),
        case("sh-wsh-false", ShWsh, &[0x00], &[], Some(FALSE)),
        with_sig("sh-wsh-push", ShWsh, pushed(&[0x4c, 34]), MALLEATED),
        with_sig("sh-wsh-more", ShWsh, [vec![0x51], pushed(&[34])].concat(), MALLEATED),
        case("sh-program-0-length", ShProgram, &[&[0, 31][..], &[1; 31]].concat(), &[&[1]], {
            Some("Witness program has incorrect length")
        }),
        // Taproot is not wrapped: such programs are free.
        case("sh-program-1", ShProgram, &[&[0x51, 32][..], &KEY].concat(), &[], None),
        case("program-too-long", Bare, &[&[0, 41][..], &[1; 41]].concat(), &[], None),
        case("program-pushed-otherwise", Bare, &[&[0, 0x4c, 32][..], &[1; 32]].concat(), &[], None),
        case("program-1-33", Program, &[&[0x51, 33][..], &[1; 33]].concat(), &[&[1]], None),
        case("wsh-annex", Wsh, &[0x51], &[], MISMATCH),
    ]
    .into_iter()
    .map(|case| if case.name == "wsh-annex" { Case { annex: Some(vec![0x50]), ..case } } else { case })
    .collect()
}

fn taproot() -> Vec<Case> {
    use Place::{Program, Tap};
    let size = Some("Invalid Taproot control block size");
    let key: &[u8] = &[&[0x51, 32][..], &KEY].concat();
    let many = [0x76, 1, 7, 0xac, 0x75].repeat(20).into_iter().chain([0x75, 0x51]).collect::<Vec<_>>();
    let annex = |length| Some([&[0x50][..], &vec![0; length]].concat());
    vec![
        Case { leaf: (128, 0xc0), ..case("tap-depth-limit", Tap, &[0x51], &[], None) },
        case("tap-depth", Program, key, &[&[0x51], &[0xc0; 33 + 129 * 32]], size),
        Case { leaf: (1, 0xc2), ..case("tap-leaf-version", Tap, &[0x6a], &[], None) },
        Case { annex: annex(0), ..case("tap-annex", Tap, &[0x51], &[], None) },
        // The annex is part of the witness that pays for signatures.
        Case { annex: annex(1_000), ..case("tap-sigops-with-annex", Tap, &many, &[&[1]], None) },
        Case {
            annex: annex(0),
            ..case("program-1-annex-only", Program, key, &[], Some("Invalid Schnorr signature size"))
        },
    ]
}
