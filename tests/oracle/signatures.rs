//! Spends with signatures: what CODESEPARATOR and an annex change in what is signed.

use crate::coins::Purse;
use crate::scripts::FALSE;
use crate::spends::{Case, Item, Place, Signed, case};

const INVALID: Option<&str> = Some("Invalid Schnorr signature");

/// `<key> CHECKSIG` of the purse's keys, or another opcode in its place.
fn check(purse: &Purse, place: Place, key: usize, opcode: u8) -> Vec<u8> {
    let key = match place {
        Place::Tap => purse.x_only(key).serialize().to_vec(),
        _ => purse.key(key).to_bytes(),
    };
    [&[key.len() as u8][..], &key, &[opcode]].concat()
}

pub(crate) fn cases() -> Vec<Case> {
    let purse = Purse::new();
    [before_taproot(&purse), tapscript(&purse), key_path(&purse)].concat()
}

fn signed(case: Case, signatures: &[Signed]) -> Case {
    Case { items: signatures.iter().copied().map(Item::Signature).collect(), ..case }
}

/// A script's code begins after the last separator that was run. Legacy signatures leave out the others, BIP 143's do not.
fn before_taproot(purse: &Purse) -> Vec<Case> {
    use Place::{Bare, Sh, ShWsh, Wsh};
    let from = |from| Signed { from, ..Signed::default() };
    let one = |place, before: &[u8], after: &[u8]| [before, &check(purse, place, 0, 0xac), after].concat();
    // The first key's signature is checked before the separator, the other's after it.
    let two = |place| [check(purse, place, 0, 0xad), vec![0xab], check(purse, place, 1, 0xac)].concat();
    let middle = check(purse, Wsh, 0, 0xad).len() + 1;
    let other = |from| Signed { key: 1, from, ..Signed::default() };
    let spend = |name, place, script: &[u8], error, signatures: &[Signed]| {
        signed(case(name, place, script, &[], error), signatures)
    };
    vec![
        spend("separator", Bare, &one(Bare, &[0xab], &[]), None, &[from(1)]),
        spend("separator-left-out", Bare, &one(Bare, &[0xab], &[]), None, &[from(0)]),
        spend("separator-later", Bare, &one(Bare, &[], &[0xab]), None, &[from(0)]),
        spend("separator-not-run", Bare, &one(Bare, &[0, 0x63, 0xab, 0x68], &[]), None, &[from(0)]),
        spend("separator-not-run-signed-after", Bare, &one(Bare, &[0, 0x63, 0xab, 0x68], &[]), Some(FALSE), &[from(3)]),
        spend("separator-between", Sh, &two(Sh), None, &[other(middle), from(0)]),
        spend("separator-between-forgotten", Sh, &two(Sh), Some(FALSE), &[other(0), from(0)]),
        spend("wsh-separator", Wsh, &one(Wsh, &[0xab], &[]), None, &[from(1)]),
        spend("wsh-separator-forgotten", Wsh, &one(Wsh, &[0xab], &[]), Some(FALSE), &[from(0)]),
        spend("wsh-separator-later", Wsh, &one(Wsh, &[], &[0xab]), None, &[from(0)]),
        spend("wsh-separator-not-run", Wsh, &one(Wsh, &[0, 0x63, 0xab, 0x68], &[]), None, &[from(0)]),
        spend("sh-wsh-separator-between", ShWsh, &two(ShWsh), None, &[other(middle), from(0)]),
        spend("sh-wsh-separator-forgotten", ShWsh, &two(ShWsh), Some(FALSE), &[other(0), from(0)]),
    ]
}

/// Tapscript signs the position of the last separator, counted in operations, and the annex.
fn tapscript(purse: &Purse) -> Vec<Case> {
    let at = |separator| Signed { separator, hash_type: 0, ..Signed::default() };
    let never = at(u32::MAX);
    let script = |before: &[u8]| [before, &check(purse, Place::Tap, 0, 0xac)].concat();
    let spend = |name, before: &[u8], error, signature| {
        signed(case(name, Place::Tap, &script(before), &[], error), &[signature])
    };
    let with_annex = |case| Case { annex: Some(vec![0x50, 1, 2]), ..case };
    vec![
        spend("tap-separator", &[0xab], None, at(0)),
        spend("tap-separator-position", &[1, 7, 0x75, 0xab], None, at(2)),
        spend("tap-separator-position-in-bytes", &[1, 7, 0x75, 0xab], INVALID, at(3)),
        spend("tap-separator-forgotten", &[0xab], INVALID, never),
        spend("tap-separator-not-run", &[0, 0x63, 0xab, 0x68], None, never),
        spend("tap-separator-last", &[0xab, 0x61, 0xab], None, at(2)),
        with_annex(spend("tap-annex-signed", &[], None, never)),
        with_annex(spend("tap-annex-not-signed", &[], INVALID, Signed { annex: false, ..never })),
    ]
}

fn key_path(purse: &Purse) -> Vec<Case> {
    let output = purse.script_pubkey(crate::coins::Kind::TrKey).into_bytes();
    let signature = Signed { hash_type: 0, ..Signed::default() };
    let spend = |name, error, signature| signed(case(name, Place::Program, &output, &[], error), &[signature]);
    let with_annex = |case| Case { annex: Some(vec![0x50]), ..case };
    vec![
        spend("program-1-key", None, signature),
        with_annex(spend("program-1-annex-signed", None, signature)),
        with_annex(spend("program-1-annex-not-signed", INVALID, Signed { annex: false, ..signature })),
        Case {
            items: vec![Item::Signature(signature), Item::Bytes(vec![0x51])],
            ..spend("program-1-no-annex", Some("Invalid Taproot control block size"), signature)
        },
    ]
}
