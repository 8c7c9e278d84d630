//! Core's vectors of addresses, keys and Base58, whole, against what `validateaddress` and descriptors read and print.

#[path = "../../../consensus/tests/vectors/core_data.rs"]
mod core_data;

use super::decode_address;
use crate::rpc::descriptor::script_of;
use crate::rpc::script::{address, solve};
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::{Address, Network, NetworkKind, PrivateKey, ScriptBuf, base58};
use serde_json::Value;

const NETWORKS: [(&str, Network); 4] = [
    ("main", Network::Bitcoin),
    ("testnet4", Network::Testnet4),
    ("signet", Network::Signet),
    ("regtest", Network::Regtest),
];

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(text(value)).expect("hex")
}

/// The script that a private key of the wallet import format is read as, in a descriptor.
fn script_of_key(wif: &str, network: Network) -> Option<ScriptBuf> {
    script_of(&format!("pkh({wif})"), network).ok()
}

fn flip_case(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn key_io_valid() {
    let cases = core_data::load_cases("key_io_valid.json");
    assert_eq!(cases.len(), 70);
    let (mut keys, mut addresses) = (0, 0);
    for case in &cases {
        let [given, payload, about] = case.as_slice() else { panic!("{case:?}") };
        let given = text(given);
        let network = NETWORKS.iter().find(|(name, _)| about["chain"] == *name).expect("a chain of ours").1;
        if about["isPrivkey"] == true {
            let inner = SecretKey::from_slice(&hex(payload)).expect("a key");
            let compressed = about["isCompressed"] == true;
            let key = PrivateKey { compressed, network: network.into(), inner };
            assert_eq!(key.to_wif(), given);
            let script = Address::p2pkh(key.public_key(&Secp256k1::new()), network).script_pubkey();
            for (name, other) in NETWORKS {
                let same = NetworkKind::from(other) == network.into();
                assert_eq!(script_of_key(given, other), same.then(|| script.clone()), "{given} on {name}");
            }
            assert!(decode_address(given, network).is_err(), "{given}");
            keys += 1;
        } else {
            let script = ScriptBuf::from_bytes(hex(payload));
            assert_eq!(decode_address(given, network).map(|address| address.script_pubkey()), Ok(script.clone()));
            let printed = address(&script, &solve(&script), network).expect("it has an address");
            assert_eq!(printed.to_string(), given);
            let flipped = decode_address(&flip_case(given), network).ok().map(|address| address.script_pubkey());
            assert_eq!(flipped, (about["tryCaseFlip"] == true).then_some(script), "{given} in the other case");
            assert_eq!(script_of_key(given, network), None, "{given}");
            addresses += 1;
        }
    }
    assert_eq!((keys, addresses), (16, 54));
}

#[test]
fn key_io_invalid() {
    let cases = core_data::load("key_io_invalid.json");
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 70);
    for case in cases {
        let given = text(&case[0]);
        for (name, network) in NETWORKS {
            assert!(decode_address(given, network).is_err(), "{given} as an address on {name}");
            assert_eq!(script_of_key(given, network), None, "{given} as a key on {name}");
        }
    }
}

#[test]
fn base58_encode_decode() {
    let cases = core_data::load_cases("base58_encode_decode.json");
    assert_eq!(cases.len(), 21);
    for case in &cases {
        let (bytes, encoded) = (hex(&case[0]), text(&case[1]));
        assert_eq!(base58::encode(&bytes), encoded);
        assert_eq!(base58::decode(encoded).expect("Base58"), bytes);
    }
}
