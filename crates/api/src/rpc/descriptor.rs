//! Output descriptors that name one script (BIP 380 and following), for mining to them.

use bitcoin::hex::FromHex;
use bitcoin::key::Secp256k1;
use bitcoin::{Network, NetworkKind, PublicKey, ScriptBuf, XOnlyPublicKey};
use miniscript::descriptor::DescriptorSecretKey;
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::{Descriptor, DescriptorPublicKey, ForEachKey as _};

/// Why a descriptor names no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DescriptorError {
    /// It cannot be parsed; Core's text where it has one.
    Malformed(String),
    /// It stands for several descriptors (`<0;1>`).
    Multipath,
    /// It stands for many scripts (`/*`).
    Ranged,
}

/// The script of a descriptor: `raw`, `addr`, `pk`, `pkh`, `wpkh`, `sh`, `wsh`, `multi`, `sortedmulti`, `tr`, `rawtr` and
/// `combo`, with or without its checksum. Private keys in it are used for their public half only.
pub(crate) fn script_of(text: &str, network: Network) -> Result<ScriptBuf, DescriptorError> {
    let malformed = |text: &str| DescriptorError::Malformed(text.to_owned());
    let body = match text.split_once('#') {
        None => text,
        Some((body, sum)) => {
            if sum.contains('#') {
                return Err(malformed("Multiple '#' symbols"));
            }
            if sum.len() != 8 {
                return Err(DescriptorError::Malformed(format!(
                    "Expected 8 character checksum, not {} characters",
                    sum.len()
                )));
            }
            let expected = desc_checksum(body).map_err(|_| malformed("Invalid characters in payload"))?;
            if sum != expected {
                return Err(DescriptorError::Malformed(format!(
                    "Provided checksum '{sum}' does not match computed checksum '{expected}'"
                )));
            }
            body
        }
    };
    let inside = |name: &str| body.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(hex) = inside("raw") {
        let bytes = Vec::from_hex(hex).map_err(|_| malformed("Raw script is not hex"))?;
        return Ok(ScriptBuf::from_bytes(bytes));
    }
    if let Some(address) = inside("addr") {
        let address =
            super::validateaddress::decode_address(address, network).map_err(|_| malformed("Address is not valid"))?;
        return Ok(address.script_pubkey());
    }
    if let Some(key) = inside("rawtr") {
        let key = key.parse::<XOnlyPublicKey>().or_else(|_| key.parse::<PublicKey>().map(|key| key.inner.into()));
        let key = key.map_err(|_| malformed("rawtr(): key is not valid"))?;
        let mut bytes = vec![0x51, 0x20];
        bytes.extend_from_slice(&key.serialize());
        return Ok(ScriptBuf::from_bytes(bytes));
    }
    if let Some(key) = inside("combo") {
        return combo(key, network);
    }
    definite_script(body, network)
}

/// The script of a descriptor that miniscript knows.
fn definite_script(body: &str, network: Network) -> Result<ScriptBuf, DescriptorError> {
    let malformed = |error: &dyn std::fmt::Display| DescriptorError::Malformed(error.to_string());
    let (descriptor, secrets) =
        Descriptor::<DescriptorPublicKey>::parse_descriptor(&Secp256k1::new(), body).map_err(|e| malformed(&e))?;
    let kind = NetworkKind::from(network);
    let of_network = |key: &DescriptorPublicKey| match key {
        DescriptorPublicKey::Single(_) => true,
        DescriptorPublicKey::XPub(key) => key.xkey.network == kind,
        DescriptorPublicKey::MultiXPub(key) => key.xkey.network == kind,
    };
    // An extended private key has its public half among the public keys. The library takes any last byte for the mark of a
    // compressed key; Core takes only the one that it writes.
    let as_core_writes_it = |secret: &DescriptorSecretKey| match secret {
        DescriptorSecretKey::Single(secret) => secret.key.network == kind && body.contains(&secret.key.to_wif()),
        _ => true,
    };
    if !descriptor.for_each_key(of_network) || !secrets.values().all(as_core_writes_it) {
        return Err(malformed(&"a key is not valid on this network"));
    }
    if descriptor.is_multipath() {
        return Err(DescriptorError::Multipath);
    }
    if descriptor.has_wildcard() {
        return Err(DescriptorError::Ranged);
    }
    Ok(descriptor.at_derivation_index(0).map_err(|e| malformed(&e))?.script_pubkey())
}

/// Core mines to the P2WPKH of a `combo`, or to the P2PKH where the key is uncompressed.
fn combo(key: &str, network: Network) -> Result<ScriptBuf, DescriptorError> {
    match definite_script(&format!("wpkh({key})"), network) {
        Err(DescriptorError::Malformed(_)) => definite_script(&format!("pkh({key})"), network),
        other => other,
    }
}

/// A public key's P2WPKH script, for tests of what a descriptor means.
#[cfg(test)]
fn p2wpkh(key: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&key.wpubkey_hash().expect("the key is compressed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const TPUB: &str = "tpubD6NzVbkrYhZ4XJDrzRvuxHEyQaPd1mwwdDofEJwekX18tAdsqeKfxss79AJzg1431FybXg5rfpTrJF4iAhyR7RubberdzEQXiRmXGADH2eA";

    #[test]
    fn descriptors_name_their_scripts() {
        let of = |text: &str| script_of(text, Network::Regtest).unwrap();
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(of("raw(51)").as_bytes(), [0x51]);
        assert_eq!(of(&format!("wpkh({KEY})")), p2wpkh(&key));
        assert_eq!(of(&format!("combo({KEY})")), p2wpkh(&key));
        assert_eq!(of(&format!("pk({KEY})")), ScriptBuf::new_p2pk(&key));
        assert_eq!(of(&format!("rawtr({})", &KEY[2..])).as_bytes()[..2], [0x51, 0x20]);
        assert!(of(&format!("tr({KEY})")).is_p2tr());
        assert!(of(&format!("wsh(multi(1,{KEY}))")).is_p2wsh());
        assert!(of(&format!("wpkh({TPUB}/0/1)")).is_p2wpkh());
        let elsewhere = script_of(&format!("wpkh({TPUB}/0/1)"), Network::Bitcoin);
        assert!(matches!(elsewhere, Err(DescriptorError::Malformed(_))), "a key of test networks");
    }

    #[test]
    fn what_names_no_single_script_is_refused() {
        let of = |text: &str| script_of(text, Network::Regtest).unwrap_err();
        assert_eq!(of(&format!("wpkh({TPUB}/*)")), DescriptorError::Ranged);
        assert_eq!(of(&format!("wpkh({TPUB}/<0;1>)")), DescriptorError::Multipath);
        assert_eq!(
            of("raw(51)#00000000"),
            DescriptorError::Malformed(
                "Provided checksum '00000000' does not match computed checksum '8lvh9jxk'".into()
            )
        );
        assert!(matches!(of("nonsense"), DescriptorError::Malformed(_)));
        assert!(matches!(of(""), DescriptorError::Malformed(_)));
    }
}
