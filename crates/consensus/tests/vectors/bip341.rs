//! bip341_wallet_vectors.json: signature hashes, leaf hashes, control blocks, and a whole transaction.

use crate::core_data;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, Script, ScriptBuf, Transaction, TxOut, Witness};
use cairn_consensus::script::{
    NoTransaction, ScriptError, ScriptFlags, TransactionSignatureChecker, tapleaf_hash, verify_script,
};
use cairn_consensus::sighash::{PrecomputedTransactionData, taproot_sighash};
use serde_json::Value;

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().expect("a string")).expect("hex")
}

#[test]
fn key_path_spending() {
    let vectors = core_data::load("bip341_wallet_vectors.json");
    let cases = vectors["keyPathSpending"].as_array().expect("a list");
    assert_eq!(cases.len(), 1);
    for case in cases {
        let tx: Transaction = deserialize_hex(case["given"]["rawUnsignedTx"].as_str().expect("hex")).expect("valid");
        let spent: Vec<TxOut> = case["given"]["utxosSpent"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|output| TxOut {
                value: Amount::from_sat(output["amountSats"].as_u64().expect("an amount")),
                script_pubkey: ScriptBuf::from_bytes(hex(&output["scriptPubKey"])),
            })
            .collect();
        let shared = PrecomputedTransactionData::new(&tx, spent.clone());
        let inputs = case["inputSpending"].as_array().expect("a list");
        assert_eq!(inputs.len(), 7);
        for input in inputs {
            let index = input["given"]["txinIndex"].as_u64().expect("an index") as usize;
            let hash_type = input["given"]["hashType"].as_u64().expect("a type") as u8;
            let hash = taproot_sighash(&tx, index, hash_type, None, None, &shared).expect("the type is defined");
            assert_eq!(hash.to_lower_hex_string(), input["intermediary"]["sigHash"]);
        }

        let signed: Transaction =
            deserialize_hex(case["auxiliary"]["fullySignedTx"].as_str().expect("hex")).expect("valid");
        let shared = PrecomputedTransactionData::new(&signed, spent);
        for (index, input) in signed.input.iter().enumerate() {
            let checker = TransactionSignatureChecker::new(&signed, index, &shared);
            let script_pubkey = &shared.spent_outputs()[index].script_pubkey;
            let verify = |witness: &Witness| {
                verify_script(&input.script_sig, script_pubkey, witness, ScriptFlags::STANDARD, &checker)
            };
            assert_eq!(verify(&input.witness), Ok(()), "input {index}");
            if script_pubkey.is_p2tr() {
                let mut signature = input.witness.to_vec();
                signature[0][20] ^= 1;
                assert_eq!(verify(&Witness::from_slice(&signature)), Err(ScriptError::SchnorrSig), "input {index}");
            }
        }
    }
}

/// The leaves of a tree, from left to right.
fn leaves<'a>(tree: &'a Value, found: &mut Vec<&'a Value>) {
    match tree {
        Value::Array(children) => children.iter().for_each(|child| leaves(child, found)),
        Value::Null => {}
        leaf => found.push(leaf),
    }
}

#[test]
fn script_path_commitments() {
    let vectors = core_data::load("bip341_wallet_vectors.json");
    let cases = vectors["scriptPubKey"].as_array().expect("a list");
    assert_eq!(cases.len(), 7);
    let mut checked = 0;
    for case in cases {
        let mut found = Vec::new();
        leaves(&case["given"]["scriptTree"], &mut found);
        let output = hex(&case["expected"]["scriptPubKey"]);
        for (index, leaf) in found.into_iter().enumerate() {
            let script = hex(&leaf["script"]);
            let version = leaf["leafVersion"].as_u64().expect("a version") as u8;
            let hash = tapleaf_hash(version, &script).to_lower_hex_string();
            assert_eq!(hash, case["intermediary"]["leafHashes"][index]);

            let verify = |control: &[u8]| {
                let witness = Witness::from_slice(&[script.as_slice(), control]);
                let output = Script::from_bytes(&output);
                verify_script(Script::new(), output, &witness, ScriptFlags::MANDATORY, &NoTransaction)
            };
            let control = hex(&case["expected"]["scriptPathControlBlocks"][index]);
            // Tapscripts run, and most end with a CHECKSIG that finds no signature; those of unknown versions do not.
            let checks_signature = version == 0xc0 && script.ends_with(&[0xac]);
            let committed = if checks_signature { Err(ScriptError::InvalidStackOperation) } else { Ok(()) };
            assert_eq!(verify(&control), committed);
            for position in 0..control.len() {
                let mut altered = control.clone();
                altered[position] ^= 1;
                assert_eq!(verify(&altered), Err(ScriptError::WitnessProgramMismatch));
            }
            assert_eq!(verify(&control[1..]), Err(ScriptError::TaprootWrongControlSize));
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}
