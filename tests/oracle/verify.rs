//! Scripts apart from blocks: random and mutated ones, with every set of flags that Core's library takes.

use crate::coins::{Coin, KINDS, Kind, Purse, VALUE, push};
use crate::random::{mutate_script, mutate_witness, number};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Secp256k1, VerifyOnly, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoinkernel as kernel;
use cairn_consensus::script::{ScriptFlags, TransactionSignatureChecker, verify_script};
use cairn_consensus::sighash::PrecomputedTransactionData;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const FLAGS: [(ScriptFlags, kernel::ScriptVerificationFlags); 7] = [
    (ScriptFlags::P2SH, kernel::VERIFY_P2SH),
    (ScriptFlags::DERSIG, kernel::VERIFY_DERSIG),
    (ScriptFlags::NULLDUMMY, kernel::VERIFY_NULLDUMMY),
    (ScriptFlags::CHECKLOCKTIMEVERIFY, kernel::VERIFY_CHECKLOCKTIMEVERIFY),
    (ScriptFlags::CHECKSEQUENCEVERIFY, kernel::VERIFY_CHECKSEQUENCEVERIFY),
    (ScriptFlags::WITNESS, kernel::VERIFY_WITNESS),
    (ScriptFlags::TAPROOT, kernel::VERIFY_TAPROOT),
];

/// The same flags for both engines.
type Flags = (ScriptFlags, kernel::ScriptVerificationFlags);

/// All that Core's library takes.
pub(crate) fn all_flags() -> Flags {
    FLAGS
        .iter()
        .fold((ScriptFlags::NONE, kernel::VERIFY_NONE), |(ours, theirs), (our, their)| (ours | *our, theirs | their))
}

/// Whether both find that an input may spend its output. Panics unless they agree.
pub(crate) fn judge(tx: &Transaction, n: usize, spent: &[TxOut], (flags, their_flags): Flags) -> bool {
    let shared = PrecomputedTransactionData::new(tx, spent.to_vec());
    let checker = TransactionSignatureChecker::new(tx, n, &shared);
    let input = &tx.input[n];
    let ours = verify_script(&input.script_sig, &spent[n].script_pubkey, &input.witness, flags, &checker);

    let script =
        |output: &TxOut| kernel::ScriptPubkey::new(output.script_pubkey.as_bytes()).expect("any bytes are a script");
    let value = |output: &TxOut| i64::try_from(output.value.to_sat()).expect("small");
    let outputs: Vec<_> = spent.iter().map(|output| kernel::TxOut::new(&script(output), value(output))).collect();
    let their_tx = kernel::Transaction::new(&serialize(tx)).expect("a transaction");
    let data = kernel::PrecomputedTransactionData::new(&their_tx, &outputs).expect("data");
    let theirs = kernel::verify(&script(&spent[n]), Some(value(&spent[n])), &their_tx, n, Some(their_flags), &data);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?} {flags} input {n} of {tx:?} spends {spent:?}");
    ours.is_ok()
}

/// A set of flags that Core allows: witnesses need P2SH, Taproot needs witnesses.
fn flags(dice: &mut StdRng) -> Flags {
    let mut chosen: u32 = if dice.random_range(0..2) == 0 { 0x7f } else { dice.random_range(0..0x80) };
    if chosen & 0x40 != 0 {
        chosen |= 0x20;
    }
    if chosen & 0x20 != 0 {
        chosen |= 1;
    }
    let of = FLAGS.iter().enumerate().filter(|(bit, _)| chosen & 1 << bit != 0);
    of.fold((ScriptFlags::NONE, kernel::VERIFY_NONE), |(ours, theirs), (_, (our, their))| (ours | *our, theirs | their))
}

/// A script of opcodes that mostly mean something.
fn script(dice: &mut StdRng) -> Vec<u8> {
    let mut script = Vec::new();
    for _ in 0..dice.random_range(0..14) {
        match dice.random_range(0..10) {
            0..3 => script.push(dice.random_range(0x4f..=0x60)),
            3 => {
                let length = dice.random_range(0..6u8);
                script.push(length);
                script.extend((0..length).map(|_| dice.random::<u8>()));
            }
            4 => script.push(0),
            5 => script.push(*[0x63, 0x64, 0x67, 0x68, 0x69].choose(dice).expect("opcodes")),
            6 => script.push(dice.random_range(0xa6..=0xba)),
            7 => script.push(dice.random()),
            _ => script.push(dice.random_range(0x6a..=0xa5)),
        }
    }
    script
}

fn spender(dice: &mut StdRng, output: Vec<TxOut>) -> Transaction {
    let near = [0, 1, 5, 0x40_0001, 0x8000_0000, u32::MAX - 1, u32::MAX];
    Transaction {
        version: Version(*[1, 2, 3].choose(dice).expect("versions")),
        lock_time: LockTime::from_consensus(*[0, 5, 100, 500_000_000, u32::MAX].choose(dice).expect("times")),
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(*near.choose(dice).expect("sequences")),
            witness: Witness::new(),
        }],
        output,
    }
}

/// A random script somewhere, and items for it.
pub(crate) fn random_spend(dice: &mut StdRng, secp: &Secp256k1<VerifyOnly>) -> (Transaction, TxOut) {
    let inner = ScriptBuf::from_bytes(script(dice));
    let mut items: Vec<Vec<u8>> =
        (0..dice.random_range(0..4)).map(|_| (0..dice.random_range(0..5)).map(|_| dice.random()).collect()).collect();
    let mut tx = spender(dice, vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }]);
    let script_pubkey = match dice.random_range(0..4) {
        0 => {
            tx.input[0].script_sig = push(&items);
            inner
        }
        1 => {
            items.push(inner.to_bytes());
            tx.input[0].script_sig = push(&items);
            inner.to_p2sh()
        }
        2 => {
            items.push(inner.to_bytes());
            tx.input[0].witness = Witness::from_slice(&items);
            inner.to_p2wsh()
        }
        _ => {
            let key = XOnlyPublicKey::from_slice(&[2; 32]).expect("a key");
            let tree = TaprootBuilder::new().add_leaf(0, inner.clone()).expect("depth");
            let tree = tree.finalize(secp, key).expect("complete");
            let control = tree.control_block(&(inner.clone(), LeafVersion::TapScript)).expect("the leaf is there");
            items.extend([inner.to_bytes(), control.serialize()]);
            tx.input[0].witness = Witness::from_slice(&items);
            ScriptBuf::new_p2tr_tweaked(tree.output_key())
        }
    };
    (tx, TxOut { value: Amount::from_sat(VALUE), script_pubkey })
}

/// A signed spend of a real kind, mostly spoilt afterwards.
fn signed_spend(dice: &mut StdRng, purse: &Purse) -> (Transaction, TxOut) {
    let kind: Kind = *KINDS.choose(dice).expect("kinds");
    let output = TxOut { value: Amount::from_sat(VALUE), script_pubkey: purse.script_pubkey(kind) };
    let mut tx = spender(dice, vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }]);
    let coin = Coin { outpoint: tx.input[0].previous_output, kind, output: output.clone() };
    purse.sign(&mut tx, std::slice::from_ref(&coin));
    let mut output = output;
    match dice.random_range(0..6) {
        0 => mutate_script(dice, &mut output.script_pubkey),
        1 => output.value = Amount::from_sat(VALUE + 1),
        2 => tx.lock_time = LockTime::from_consensus(7),
        3 => mutate_script(dice, &mut tx.input[0].script_sig),
        4 => mutate_witness(dice, &mut tx.input[0].witness),
        _ => {}
    }
    (tx, output)
}

#[test]
fn random_scripts_are_judged_alike() {
    let count = number("CAIRN_ORACLE_SCRIPTS", 30_000);
    let seed = number("CAIRN_ORACLE_SEED", 20_261_123);
    println!("CAIRN_ORACLE_SCRIPTS={count} CAIRN_ORACLE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let (purse, secp) = (Purse::new(), Secp256k1::verification_only());
    let (mut valid, mut signed) = (0u64, 0u64);
    for _ in 0..count {
        let (tx, output) = if dice.random_range(0..4) == 0 {
            signed += 1;
            signed_spend(&mut dice, &purse)
        } else {
            random_spend(&mut dice, &secp)
        };
        let flags = flags(&mut dice);
        let agreed = judge(&tx, 0, std::slice::from_ref(&output), flags);
        valid += u64::from(agreed);
    }
    println!("{count} scripts, {signed} of them signed, {valid} valid, no disagreement");
    assert!(valid * 50 > count && valid * 2 < count, "{valid} of {count} are valid");
}
