//! Scripts as Core shows them: type, address and inferred descriptor.

use super::asm::{OP_RETURN, Ops, asm};
use super::render::object;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Network, PublicKey, Script, ScriptBuf, XOnlyPublicKey};
use cairn_consensus::script::MAX_PUBKEYS_PER_MULTISIG;
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::{Miniscript, Segwitv0};
use serde_json::{Map, Value};

const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKMULTISIG: u8 = 0xae;

/// Core's `TxoutType` with the solutions that the API needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputType {
    NonStandard,
    PubKey(Vec<u8>),
    PubKeyHash,
    ScriptHash,
    MultiSig(u8, Vec<Vec<u8>>),
    NullData,
    Anchor,
    WitnessV0KeyHash,
    WitnessV0ScriptHash,
    WitnessV1Taproot,
    WitnessUnknown,
}

impl OutputType {
    /// Core's name of the type.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            OutputType::NonStandard => "nonstandard",
            OutputType::PubKey(_) => "pubkey",
            OutputType::PubKeyHash => "pubkeyhash",
            OutputType::ScriptHash => "scripthash",
            OutputType::MultiSig(..) => "multisig",
            OutputType::NullData => "nulldata",
            OutputType::Anchor => "anchor",
            OutputType::WitnessV0KeyHash => "witness_v0_keyhash",
            OutputType::WitnessV0ScriptHash => "witness_v0_scripthash",
            OutputType::WitnessV1Taproot => "witness_v1_taproot",
            OutputType::WitnessUnknown => "witness_unknown",
        }
    }
}

/// Core's `Solver`.
pub(crate) fn solve(script: &Script) -> OutputType {
    let bytes = script.as_bytes();
    if script.is_p2sh() {
        return OutputType::ScriptHash;
    }
    if script.is_witness_program() {
        return match (bytes[0], bytes.len() - 2) {
            (0, 20) => OutputType::WitnessV0KeyHash,
            (0, 32) => OutputType::WitnessV0ScriptHash,
            (0, _) => OutputType::NonStandard,
            (0x51, 32) => OutputType::WitnessV1Taproot,
            _ if bytes == [0x51, 0x02, 0x4e, 0x73] => OutputType::Anchor,
            _ => OutputType::WitnessUnknown,
        };
    }
    if bytes.first() == Some(&OP_RETURN) && Ops::new(&bytes[1..]).all(|op| matches!(op, Ok((0..=0x60, _)))) {
        return OutputType::NullData;
    }
    match bytes {
        [65, key @ .., OP_CHECKSIG] | [33, key @ .., OP_CHECKSIG]
            if key.len() == usize::from(bytes[0]) && has_key_size(key) =>
        {
            return OutputType::PubKey(key.to_vec());
        }
        [0x76, 0xa9, 20, .., 0x88, OP_CHECKSIG] if bytes.len() == 25 => return OutputType::PubKeyHash,
        _ => {}
    }
    multisig(bytes).map_or(OutputType::NonStandard, |(needed, keys)| OutputType::MultiSig(needed, keys))
}

/// Core's `CPubKey::ValidSize`: the length that the first byte announces.
fn has_key_size(key: &[u8]) -> bool {
    match key.first() {
        Some(2 | 3) => key.len() == 33,
        Some(4 | 6 | 7) => key.len() == 65,
        _ => false,
    }
}

/// Core's `MatchMultisig`: how many signatures, and the keys.
fn multisig(bytes: &[u8]) -> Option<(u8, Vec<Vec<u8>>)> {
    let (&OP_CHECKMULTISIG, _) = bytes.split_last()? else { return None };
    let mut ops = Ops::new(bytes);
    let (op, data) = ops.next()?.ok()?;
    let needed = small_number(op, data, 1)?;
    let mut keys = Vec::new();
    let count = loop {
        let (op, data) = ops.next()?.ok()?;
        if !has_key_size(data) {
            break small_number(op, data, needed)?;
        }
        keys.push(data.to_vec());
    };
    (keys.len() == count && ops.rest().len() == 1).then_some((u8::try_from(needed).ok()?, keys))
}

/// Core's `GetScriptNumber`: a minimally encoded number from `min` to 20, as `OP_n` or pushed.
fn small_number(op: u8, data: &[u8], min: usize) -> Option<usize> {
    let value = match (op, data) {
        (0x51..=0x60, _) => usize::from(op - 0x50),
        // A push of what OP_n could say is not minimal.
        (1, [n]) if *n > 16 => usize::from(*n),
        _ => return None,
    };
    (min..=MAX_PUBKEYS_PER_MULTISIG).contains(&value).then_some(value)
}

/// The address of a script, where Core shows one.
pub(crate) fn address(script: &Script, kind: &OutputType, network: Network) -> Option<Address> {
    match kind {
        OutputType::PubKey(_) | OutputType::MultiSig(..) | OutputType::NullData | OutputType::NonStandard => None,
        _ => Address::from_script(script, network).ok(),
    }
}

/// Core's `InferDescriptor` without any keys, with its checksum. `redeem` is the script behind a P2WSH output, if known.
pub(crate) fn descriptor(script: &Script, network: Network, redeem: Option<&Script>) -> String {
    let kind = solve(script);
    let body = match &kind {
        OutputType::PubKey(_) | OutputType::MultiSig(..) => key_descriptor(&kind, true),
        OutputType::WitnessV0ScriptHash => redeem.and_then(witness_descriptor).map(|inner| format!("wsh({inner})")),
        OutputType::WitnessV1Taproot => XOnlyPublicKey::from_slice(&script.as_bytes()[2..])
            .ok()
            .map(|_| format!("rawtr({})", script.as_bytes()[2..].to_lower_hex_string())),
        _ => None,
    };
    let body = body.unwrap_or_else(|| match address(script, &kind, network) {
        Some(address) => format!("addr({address})"),
        None => format!("raw({})", script.as_bytes().to_lower_hex_string()),
    });
    with_checksum(&body)
}

/// `pk(…)` or `multi(…)`; `None` when a key is hybrid, or uncompressed where that is not allowed.
fn key_descriptor(kind: &OutputType, uncompressed: bool) -> Option<String> {
    let usable = |key: &Vec<u8>| matches!(key[0], 2 | 3) || (uncompressed && key[0] == 4);
    match kind {
        OutputType::PubKey(key) if usable(key) => Some(format!("pk({})", key.to_lower_hex_string())),
        OutputType::MultiSig(needed, keys) if keys.iter().all(usable) => {
            let keys: Vec<String> = keys.iter().map(|key| key.to_lower_hex_string()).collect();
            Some(format!("multi({needed},{})", keys.join(",")))
        }
        _ => None,
    }
}

fn witness_descriptor(redeem: &Script) -> Option<String> {
    key_descriptor(&solve(redeem), false).or_else(|| {
        let miniscript = Miniscript::<PublicKey, Segwitv0>::parse(redeem).ok()?;
        Some(miniscript.to_string())
    })
}

/// Appends a descriptor's checksum (BIP 380).
pub(crate) fn with_checksum(body: &str) -> String {
    match desc_checksum(body) {
        Ok(sum) => format!("{body}#{sum}"),
        // Only characters outside the descriptor alphabet have no checksum; the bodies here have none.
        Err(_) => body.to_owned(),
    }
}

/// Core's `ScriptToUniv` with addresses: `asm`, `desc`, `hex` if asked for, `address` where there is one, `type`.
pub(crate) fn script_to_value(
    script: &Script,
    network: Network,
    hex: bool,
    redeem: Option<&Script>,
) -> Map<String, Value> {
    let kind = solve(script);
    let mut out = object([("asm", asm(script, false).into()), ("desc", descriptor(script, network, redeem).into())]);
    if hex {
        out.insert("hex".into(), script.to_hex_string().into());
    }
    if let Some(address) = address(script, &kind, network) {
        out.insert("address".into(), address.to_string().into());
    }
    out.insert("type".into(), kind.name().into());
    out
}

/// The P2WPKH or P2WSH script that wraps a script, as `decodescript` chooses it.
pub(crate) fn segwit_wrapping(script: &Script, kind: &OutputType) -> ScriptBuf {
    match kind {
        OutputType::PubKey(key) => {
            let hash = <bitcoin::WPubkeyHash as bitcoin::hashes::Hash>::hash(key);
            ScriptBuf::new_p2wpkh(&hash)
        }
        OutputType::PubKeyHash => {
            let mut bytes = vec![0, 20];
            bytes.extend_from_slice(&script.as_bytes()[3..23]);
            ScriptBuf::from_bytes(bytes)
        }
        _ => ScriptBuf::new_p2wsh(&script.wscript_hash()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::FromHex;

    fn script(hex: &str) -> ScriptBuf {
        ScriptBuf::from_bytes(Vec::from_hex(hex).unwrap())
    }

    #[test]
    fn types_and_descriptors_are_cores() {
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let cases = [
            (format!("21{key}ac"), "pubkey", format!("pk({key})")),
            (format!("5121{key}51ae"), "multisig", format!("multi(1,{key})")),
            ("6a01ff".into(), "nulldata", "raw(6a01ff)".into()),
            ("6a4c".into(), "nonstandard", "raw(6a4c)".into()),
            ("51024e73".into(), "anchor", "addr(bcrt1pfeesnyr2tx)".into()),
            (format!("5120{}", &key[2..]), "witness_v1_taproot", format!("rawtr({})", &key[2..])),
            ("51".into(), "nonstandard", "raw(51)".into()),
        ];
        for (hex, kind, desc) in cases {
            let script = script(&hex);
            assert_eq!(solve(&script).name(), kind, "{hex}");
            let found = descriptor(&script, Network::Regtest, None);
            assert_eq!(found.split('#').next(), Some(desc.as_str()), "{hex}");
        }
        // BIP 380's own test vector of the checksum.
        assert_eq!(with_checksum("raw(deadbeef)"), "raw(deadbeef)#89f8spxm");
    }
}
