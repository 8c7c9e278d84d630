//! bip341_wallet_vectors.json: trees and what they commit to, signature hashes, signatures, and a whole transaction.

use crate::core_data;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::{Hash, HashEngine};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::key::{Keypair, TapTweak, UntweakedPublicKey};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapNodeHash, TapTweakHash, TaprootBuilder};
use bitcoin::{Address, Amount, Network, Script, ScriptBuf, TapSighash, Transaction, TxOut, Witness};
use cairn_consensus::script::{
    NoTransaction, ScriptError, ScriptFlags, TransactionSignatureChecker, tapleaf_hash, verify_script,
};
use cairn_consensus::sighash::{PrecomputedTransactionData, taproot_sighash};
use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(text(value)).expect("hex")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn merkle_root(value: &Value) -> Option<TapNodeHash> {
    (!value.is_null()).then(|| text(value).parse().expect("a hash"))
}

#[test]
fn the_file_has_nothing_else() {
    let vectors = core_data::load("bip341_wallet_vectors.json");
    let parts: Vec<&String> = vectors.as_object().expect("an object").keys().collect();
    assert_eq!(parts, ["version", "scriptPubKey", "keyPathSpending"]);
    assert_eq!(vectors["version"], 1);
}

#[test]
fn key_path_spending() {
    let vectors = core_data::load("bip341_wallet_vectors.json");
    let cases = list(&vectors["keyPathSpending"]);
    assert_eq!(cases.len(), 1);
    for case in cases {
        spend_by_key_path(case);
    }
}

fn spend_by_key_path(case: &Value) {
    let secp = Secp256k1::new();
    let tx: Transaction = deserialize_hex(text(&case["given"]["rawUnsignedTx"])).expect("valid");
    let spent = list(&case["given"]["utxosSpent"]).iter().map(|output| TxOut {
        value: Amount::from_sat(output["amountSats"].as_u64().expect("an amount")),
        script_pubkey: ScriptBuf::from_bytes(hex(&output["scriptPubKey"])),
    });
    let spent: Vec<TxOut> = spent.collect();
    let shared = PrecomputedTransactionData::new(&tx, spent.clone());
    let signed: Transaction = deserialize_hex(text(&case["auxiliary"]["fullySignedTx"])).expect("valid");
    let mut ours = signed.clone();
    let inputs = list(&case["inputSpending"]);
    assert_eq!(inputs.len(), 7);
    for input in inputs {
        let (given, between) = (&input["given"], &input["intermediary"]);
        let index = given["txinIndex"].as_u64().expect("an index") as usize;
        let hash_type = given["hashType"].as_u64().expect("a type") as u8;
        let hash = taproot_sighash(&tx, index, hash_type, None, None, &shared).expect("the type is defined");
        assert_eq!(hash.to_lower_hex_string(), between["sigHash"], "input {index}");

        // What is hashed, and which of the shared hashes are part of it.
        let mut message = Vec::new();
        let defined = TapSighashType::from_consensus_u8(hash_type).expect("the type is defined");
        let mut cache = SighashCache::new(&tx);
        let written =
            cache.taproot_encode_signing_data_to(&mut message, index, &Prevouts::All(&spent), None, None, defined);
        written.expect("the input is there");
        assert_eq!(message.to_lower_hex_string(), between["sigMsg"], "input {index}");
        let mut engine = TapSighash::engine();
        engine.input(&message);
        assert_eq!(TapSighash::from_engine(engine).to_byte_array(), hash, "input {index}");
        for (name, shared) in case["intermediary"].as_object().expect("an object") {
            let used = list(&between["precomputedUsed"]).iter().any(|used| used == name);
            assert_eq!(text(&between["sigMsg"]).contains(text(shared)), used, "{name} of input {index}");
        }

        let secret = SecretKey::from_slice(&hex(&given["internalPrivkey"])).expect("a key");
        let keys = Keypair::from_secret_key(&secp, &secret);
        let root = merkle_root(&given["merkleRoot"]);
        check_tweak(&secp, keys.x_only_public_key().0, root, between);
        assert_eq!(keys.x_only_public_key().0.to_string(), between["internalPubkey"], "input {index}");
        let tweaked = keys.tap_tweak(&secp, root).to_keypair();
        assert_eq!(tweaked.secret_bytes().to_lower_hex_string(), between["tweakedPrivkey"], "input {index}");
        let signature = secp.sign_schnorr_with_aux_rand(&Message::from_digest(hash), &tweaked, &[0; 32]);
        let mut signature = signature.as_ref().to_vec();
        if hash_type != 0 {
            signature.push(hash_type);
        }
        let expected: Vec<Vec<u8>> = list(&input["expected"]["witness"]).iter().map(hex).collect();
        assert_eq!(expected, [signature.clone()], "input {index}");
        ours.input[index].witness = Witness::from_slice(&[signature]);
    }
    assert_eq!(ours, signed);

    let shared = PrecomputedTransactionData::new(&ours, spent);
    for (index, input) in ours.input.iter().enumerate() {
        let checker = TransactionSignatureChecker::new(&ours, index, &shared);
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

fn check_tweak(secp: &Secp256k1<All>, key: UntweakedPublicKey, root: Option<TapNodeHash>, between: &Value) {
    let tweak = TapTweakHash::from_key_and_tweak(key, root);
    assert_eq!(tweak.to_string(), between["tweak"]);
    if let Some(tweaked) = between.get("tweakedPubkey") {
        assert_eq!(key.tap_tweak(secp, root).0.to_string(), *tweaked);
    }
}

/// The leaves of a tree with their depths, from left to right.
fn leaves<'a>(tree: &'a Value, depth: u8, found: &mut Vec<(u8, &'a Value)>) {
    match tree {
        Value::Array(children) => children.iter().for_each(|child| leaves(child, depth + 1, found)),
        Value::Null => {}
        leaf => found.push((depth, leaf)),
    }
}

#[test]
fn script_pubkeys() {
    let secp = Secp256k1::new();
    let vectors = core_data::load("bip341_wallet_vectors.json");
    let cases = list(&vectors["scriptPubKey"]);
    assert_eq!(cases.len(), 7);
    let mut checked = 0;
    for case in cases {
        let key: UntweakedPublicKey = text(&case["given"]["internalPubkey"]).parse().expect("a key");
        let between = &case["intermediary"];
        let root = merkle_root(&between["merkleRoot"]);
        check_tweak(&secp, key, root, between);
        let output = ScriptBuf::new_p2tr(&secp, key, root);
        assert_eq!(output.to_hex_string(), case["expected"]["scriptPubKey"]);
        let address = Address::from_script(&output, Network::Bitcoin).expect("it has one");
        assert_eq!(address.to_string(), case["expected"]["bip350Address"]);

        let mut found = Vec::new();
        leaves(&case["given"]["scriptTree"], 0, &mut found);
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        assert_eq!(count(&between["leafHashes"]), found.len());
        assert_eq!(count(&case["expected"]["scriptPathControlBlocks"]), found.len());
        let builder = found.iter().fold(TaprootBuilder::new(), |builder, (depth, leaf)| {
            let (script, version) = script_and_version(leaf);
            let version = LeafVersion::from_consensus(version).expect("a version");
            builder.add_leaf_with_ver(*depth, script, version).expect("a tree")
        });
        let tree = builder.finalize(&secp, key).expect("complete");
        assert_eq!(tree.merkle_root(), root);
        for (index, (_, leaf)) in found.iter().enumerate() {
            let (script, version) = script_and_version(leaf);
            let hash = tapleaf_hash(version, script.as_bytes()).to_lower_hex_string();
            assert_eq!(hash, between["leafHashes"][index]);
            let control = hex(&case["expected"]["scriptPathControlBlocks"][index]);
            let place = (script.clone(), LeafVersion::from_consensus(version).expect("a version"));
            assert_eq!(tree.control_block(&place).expect("the leaf is there").serialize(), control);
            check_commitment(&output, &script, version, &control);
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}

fn script_and_version(leaf: &Value) -> (ScriptBuf, u8) {
    (ScriptBuf::from_bytes(hex(&leaf["script"])), leaf["leafVersion"].as_u64().expect("a version") as u8)
}

/// Only this control block shows that the output commits to the leaf.
fn check_commitment(output: &Script, script: &Script, version: u8, control: &[u8]) {
    let verify = |control: &[u8]| {
        let witness = Witness::from_slice(&[script.as_bytes(), control]);
        verify_script(Script::new(), output, &witness, ScriptFlags::MANDATORY, &NoTransaction)
    };
    // Tapscripts run, and most end with a CHECKSIG that finds no signature; those of unknown versions do not.
    let checks_signature = version == 0xc0 && script.as_bytes().ends_with(&[0xac]);
    let committed = if checks_signature { Err(ScriptError::InvalidStackOperation) } else { Ok(()) };
    assert_eq!(verify(control), committed);
    for position in 0..control.len() {
        let mut altered = control.to_vec();
        altered[position] ^= 1;
        assert_eq!(verify(&altered), Err(ScriptError::WitnessProgramMismatch));
    }
    assert_eq!(verify(&control[1..]), Err(ScriptError::TaprootWrongControlSize));
}
