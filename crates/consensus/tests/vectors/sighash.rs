//! sighash.json, and all kinds of signature hashes against those of the `bitcoin` crate.

use crate::{core_data, for_each};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::hex::FromHex;
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TapLeafHash, Transaction, TxIn, TxOut, Txid, VarInt, Witness};
use cairn_consensus::sighash::{
    PrecomputedTransactionData, TapscriptSpend, legacy_sighash, segwit_v0_sighash, taproot_sighash,
};
use cairn_consensus::tx::check_transaction;
use proptest::prelude::*;

#[test]
fn legacy() {
    let cases = core_data::load_cases("sighash.json");
    assert_eq!(cases.len(), 500);
    for_each(&cases, |_, case| {
        let tx: Transaction = deserialize_hex(case[0].as_str().expect("hex")).expect("a transaction");
        check_transaction(&tx).map_err(|reject| reject.to_string())?;
        let script = Vec::from_hex(case[1].as_str().expect("hex")).expect("hex");
        let input = case[2].as_u64().expect("an index") as usize;
        let hash_type = case[3].as_i64().expect("a hash type") as u32;
        let mut hash = legacy_sighash(&tx, input, &script, hash_type);
        hash.reverse();
        let expected = <[u8; 32]>::from_hex(case[4].as_str().expect("hex")).expect("a hash");
        if hash == expected { Ok(()) } else { Err(format!("{hash:02x?} instead of {expected:02x?}")) }
    });
}

/// As in Core, a script that cannot be read to its end is hashed up to where reading stops, under its whole length.
#[test]
fn legacy_of_a_truncated_script() {
    let input = TxIn { sequence: Sequence::MAX, ..TxIn::default() };
    let tx = Transaction { version: Version::ONE, lock_time: LockTime::ZERO, input: vec![input], output: vec![] };
    let mut message = vec![1, 0, 0, 0, 1];
    message.extend([0; 32]);
    message.extend([0xff; 4]);
    // CODESEPARATOR, 1, and a push of two bytes of which one is there.
    message.extend([3, 0x51, 0x02]);
    message.extend([0xff; 4]);
    message.extend([0; 5]);
    message.extend([1, 0, 0, 0]);
    let expected = sha256d::Hash::hash(&message).to_byte_array();
    assert_eq!(legacy_sighash(&tx, 0, &[0xab, 0x51, 0x02, 0xff], 1), expected);
}

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), length)
}

fn output() -> impl Strategy<Value = TxOut> {
    (any::<u64>(), bytes(0..300)).prop_map(|(value, script)| TxOut {
        value: Amount::from_sat(value),
        script_pubkey: ScriptBuf::from_bytes(script),
    })
}

fn input() -> impl Strategy<Value = TxIn> {
    (any::<[u8; 32]>(), any::<u32>(), any::<u32>(), bytes(0..10)).prop_map(|(txid, vout, sequence, script)| TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array(txid), vout),
        script_sig: ScriptBuf::from_bytes(script),
        sequence: Sequence(sequence),
        witness: Witness::new(),
    })
}

/// A transaction, the outputs it spends, and the index of an input.
fn spend() -> impl Strategy<Value = (Transaction, Vec<TxOut>, usize)> {
    let inputs = prop::collection::vec((input(), output()), 1..5);
    (any::<i32>(), any::<u32>(), inputs, prop::collection::vec(output(), 0..5), any::<prop::sample::Index>()).prop_map(
        |(version, lock_time, inputs, output, index)| {
            let index = index.index(inputs.len());
            let (input, spent) = inputs.into_iter().unzip();
            let lock_time = LockTime::from_consensus(lock_time);
            (Transaction { version: Version(version), lock_time, input, output }, spent, index)
        },
    )
}

const ECDSA_TYPES: [u32; 6] = [1, 2, 3, 0x81, 0x82, 0x83];

proptest! {
    #[test]
    fn segwit_v0_agrees((tx, spent, index) in spend(), script in bytes(0..300)) {
        let amount = spent[index].value;
        let shared = PrecomputedTransactionData::new(&tx, spent);
        let mut cache = SighashCache::new(&tx);
        for hash_type in ECDSA_TYPES {
            let ours = segwit_v0_sighash(&tx, index, &script, amount.to_sat(), hash_type, &shared);
            let kind = EcdsaSighashType::from_consensus(hash_type);
            let theirs = cache.p2wsh_signature_hash(index, bitcoin::Script::from_bytes(&script), amount, kind);
            prop_assert_eq!(ours, theirs.expect("the index is valid").to_byte_array());
        }
    }

    #[test]
    fn taproot_agrees(
        (tx, spent, index) in spend(),
        annex in prop::option::of(bytes(0..300)),
        leaf in prop::option::of((any::<[u8; 32]>(), any::<u32>())),
    ) {
        let annex = annex.map(|annex| [&[0x50], annex.as_slice()].concat());
        let annex_hash = annex.as_ref().map(|annex| {
            let mut engine = sha256::Hash::engine();
            engine.input(&bitcoin::consensus::serialize(&VarInt::from(annex.len())));
            engine.input(annex);
            sha256::Hash::from_engine(engine).to_byte_array()
        });
        let tapscript = leaf.map(|(leaf_hash, codeseparator_position)| TapscriptSpend { leaf_hash, codeseparator_position });
        let shared = PrecomputedTransactionData::new(&tx, spent.clone());
        for hash_type in 0..=255u8 {
            let ours = taproot_sighash(&tx, index, hash_type, annex_hash.as_ref(), tapscript.as_ref(), &shared);
            let Ok(kind) = TapSighashType::from_consensus_u8(hash_type) else {
                prop_assert!(ours.is_err());
                continue;
            };
            let theirs = SighashCache::new(&tx).taproot_signature_hash(
                index,
                &Prevouts::All(&spent),
                annex.as_ref().map(|annex| Annex::new(annex).expect("its tag is there")),
                leaf.map(|(hash, position)| (TapLeafHash::from_byte_array(hash), position)),
                kind,
            );
            prop_assert_eq!(ours.ok(), theirs.ok().map(|hash| hash.to_byte_array()));
        }
    }
}
