//! Every type of signature hash for every kind of coin: what a signature covers cannot be changed, all else can.

use crate::coins::{Coin, KINDS, Kind, Purse, VALUE, World};
use crate::verify::{all_flags, judge};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxOut, Txid};
use cairn_chain::testing::anyone_can_spend;

/// Those of Taproot, and some that mean nothing and yet are valid before it.
const TYPES: [u8; 10] = [0, 1, 2, 3, 0x81, 0x82, 0x83, 4, 0x50, 0xff];

fn types(kind: Kind) -> &'static [u8] {
    if kind.is_taproot() { &TYPES[..7] } else { &TYPES }
}

fn output(value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: anyone_can_spend() }
}

#[test]
fn coins_of_every_kind_are_spent_with_every_type() {
    let mut world = World::new();
    for hash_type in TYPES {
        let coins: Vec<Coin> = KINDS.iter().map(|kind| world.take(*kind)).collect();
        let mut tx = world.purse.pay(&coins, coins.iter().map(|_| output(VALUE / 2)).collect());
        world.purse.sign_as(&mut tx, &coins, |kind| if types(kind).contains(&hash_type) { hash_type } else { 0 });
        let block = world.block(vec![tx]);
        assert_eq!(world.pair.give(&block), None, "{hash_type:02x}");
    }
}

/// A transaction whose second input is signed, and what its inputs spend.
#[derive(Clone)]
struct Spend {
    tx: Transaction,
    spent: Vec<TxOut>,
}

/// What the signature is of.
struct Scope {
    kind: Kind,
    hash_type: u8,
    /// Whether there is an output at the input's index.
    matched: bool,
}

impl Scope {
    fn legacy(&self) -> bool {
        matches!(self.kind, Kind::Pk | Kind::Pkh | Kind::Multisig | Kind::ShMultisig)
    }
    fn anyone(&self) -> bool {
        self.hash_type & 0x80 != 0
    }
    fn none(&self) -> bool {
        self.hash_type & 0x1f == 2
    }
    fn single(&self) -> bool {
        self.hash_type & 0x1f == 3
    }
    fn all(&self) -> bool {
        !self.none() && !self.single()
    }
    /// Without an output for it, a legacy SIGHASH_SINGLE signs the number one and nothing else.
    fn nothing(&self) -> bool {
        self.legacy() && self.single() && !self.matched
    }
}

/// A change, and whether a signature covers it.
type Change = (&'static str, fn(&mut Spend), fn(&Scope) -> bool);

const CHANGES: [Change; 11] = [
    ("version", |spend| spend.tx.version = Version::ONE, |_| true),
    ("lock time", |spend| spend.tx.lock_time = LockTime::from_consensus(1), |_| true),
    ("its sequence", |spend| spend.tx.input[1].sequence = Sequence(5), |_| true),
    (
        "another's sequence",
        |spend| spend.tx.input[0].sequence = Sequence(5),
        |scope| !scope.anyone() && (scope.all() || scope.kind.is_taproot()),
    ),
    ("its coin's value", |spend| spend.spent[1].value += Amount::ONE_SAT, |scope| !scope.legacy()),
    (
        "another coin's value",
        |spend| spend.spent[0].value += Amount::ONE_SAT,
        |scope| scope.kind.is_taproot() && !scope.anyone(),
    ),
    ("another's outpoint", |spend| spend.tx.input[2].previous_output.vout += 7, |scope| !scope.anyone()),
    (
        "one input more",
        |spend| {
            let mut input = spend.tx.input[2].clone();
            input.previous_output.vout += 7;
            spend.tx.input.push(input);
            spend.spent.push(output(VALUE));
        },
        |scope| !scope.anyone(),
    ),
    ("the first output", |spend| spend.tx.output[0].value += Amount::ONE_SAT, Scope::all),
    (
        "its output",
        |spend| {
            if let Some(output) = spend.tx.output.get_mut(1) {
                output.value += Amount::ONE_SAT;
            }
        },
        |scope| scope.matched && !scope.none(),
    ),
    (
        "one output more",
        |spend| spend.tx.output.resize(spend.tx.output.len().max(2) + 1, output(3)),
        |scope| scope.all() || (scope.single() && !scope.matched),
    ),
];

#[test]
fn a_signature_covers_what_its_type_says() {
    let purse = Purse::new();
    let mut judged = 0;
    for kind in KINDS {
        for &hash_type in types(kind) {
            for matched in [true, false] {
                let scope = Scope { kind, hash_type, matched };
                if scope.single() && !matched && kind.is_taproot() {
                    continue; // No such signature can be made.
                }
                let signed = signed(&purse, &scope);
                assert!(judge(&signed.tx, 1, &signed.spent, all_flags()), "{kind:?} {hash_type:02x}");
                for (name, change, covered) in CHANGES {
                    let mut changed = signed.clone();
                    change(&mut changed);
                    let valid = judge(&changed.tx, 1, &changed.spent, all_flags());
                    let expected = !covered(&scope) || (scope.nothing() && changed.tx.output.len() < 2);
                    assert_eq!(valid, expected, "{name} of {kind:?} with {hash_type:02x}, matched: {matched}");
                    judged += 1;
                }
            }
        }
    }
    println!("{judged} changes judged alike");
}

fn signed(purse: &Purse, scope: &Scope) -> Spend {
    let coin = |vout, kind| Coin {
        outpoint: OutPoint { txid: Txid::from_byte_array([3; 32]), vout },
        kind,
        output: TxOut { value: Amount::from_sat(VALUE), script_pubkey: purse.script_pubkey(kind) },
    };
    let coins = [coin(0, Kind::Wpkh), coin(1, scope.kind), coin(2, Kind::Pkh)];
    let outputs = if scope.matched { vec![output(1), output(2), output(1)] } else { vec![output(1)] };
    let mut tx = purse.pay(&coins, outputs);
    purse.sign_as(&mut tx, &coins, |_| scope.hash_type);
    Spend { tx, spent: coins.iter().map(|coin| coin.output.clone()).collect() }
}
