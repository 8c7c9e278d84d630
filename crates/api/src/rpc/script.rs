//! Scripts as Core shows them: disassembly, type, address and inferred descriptor.

use super::render::object;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Network, PublicKey, Script, ScriptBuf, XOnlyPublicKey};
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::{Miniscript, Segwitv0};
use serde_json::{Map, Value};

/// The largest opcode with a meaning, `OP_NOP10`.
const MAX_OPCODE: u8 = 0xb9;
/// Bytes a script may push at once.
const MAX_SCRIPT_ELEMENT_SIZE: usize = 520;
/// Bytes a script may have.
pub(crate) const MAX_SCRIPT_SIZE: usize = 10_000;
/// Keys in a bare multisignature script.
const MAX_PUBKEYS_PER_MULTISIG: usize = 20;
const OP_RETURN: u8 = 0x6a;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKMULTISIG: u8 = 0xae;

/// Core's names of the opcodes from `OP_NOP` (0x61) to `OP_CHECKSIGADD` (0xba), without their `OP_`.
const OP_NAMES: &str = "\
    NOP VER IF NOTIF VERIF VERNOTIF ELSE ENDIF VERIFY RETURN TOALTSTACK FROMALTSTACK 2DROP 2DUP 3DUP \
    2OVER 2ROT 2SWAP IFDUP DEPTH DROP DUP NIP OVER PICK ROLL ROT SWAP TUCK CAT SUBSTR LEFT RIGHT SIZE \
    INVERT AND OR XOR EQUAL EQUALVERIFY RESERVED1 RESERVED2 1ADD 1SUB 2MUL 2DIV NEGATE ABS NOT 0NOTEQUAL \
    ADD SUB MUL DIV MOD LSHIFT RSHIFT BOOLAND BOOLOR NUMEQUAL NUMEQUALVERIFY NUMNOTEQUAL LESSTHAN \
    GREATERTHAN LESSTHANOREQUAL GREATERTHANOREQUAL MIN MAX WITHIN RIPEMD160 SHA1 SHA256 HASH160 HASH256 \
    CODESEPARATOR CHECKSIG CHECKSIGVERIFY CHECKMULTISIG CHECKMULTISIGVERIFY NOP1 CHECKLOCKTIMEVERIFY \
    CHECKSEQUENCEVERIFY NOP4 NOP5 NOP6 NOP7 NOP8 NOP9 NOP10 CHECKSIGADD";

fn op_name(op: u8) -> String {
    match op {
        0x00 => "0".into(),
        0x4c => "OP_PUSHDATA1".into(),
        0x4d => "OP_PUSHDATA2".into(),
        0x4e => "OP_PUSHDATA4".into(),
        0x4f => "-1".into(),
        0x50 => "OP_RESERVED".into(),
        0x51..=0x60 => (op - 0x50).to_string(),
        0xff => "OP_INVALIDOPCODE".into(),
        _ => match op.checked_sub(0x61).and_then(|i| OP_NAMES.split(' ').nth(usize::from(i))) {
            Some(name) => format!("OP_{name}"),
            None => "OP_UNKNOWN".into(),
        },
    }
}

/// Core's `GetScriptOp`: opcodes with what they push. Ends after the first push that runs past the end, as an error.
struct Ops<'a>(&'a [u8]);

impl<'a> Iterator for Ops<'a> {
    type Item = Result<(u8, &'a [u8]), ()>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&op, rest) = self.0.split_first()?;
        let length = |n: usize| rest.get(..n).map(|b| (b.iter().rev().fold(0, |a, &x| a << 8 | usize::from(x)), n));
        let push = match op {
            0..=0x4b => Some((usize::from(op), 0)),
            0x4c => length(1),
            0x4d => length(2),
            0x4e => length(4),
            _ => {
                self.0 = rest;
                return Some(Ok((op, &[])));
            }
        };
        match push.and_then(|(size, skip)| Some((rest.get(skip..)?.get(..size)?, skip + size))) {
            Some((data, used)) => {
                self.0 = &rest[used..];
                Some(Ok((op, data)))
            }
            None => {
                self.0 = &[];
                Some(Err(()))
            }
        }
    }
}

fn ops(script: &Script) -> Ops<'_> {
    Ops(script.as_bytes())
}

/// Core's `HasValidOps`.
pub(crate) fn has_valid_ops(script: &Script) -> bool {
    ops(script).all(|op| matches!(op, Ok((op, data)) if op <= MAX_OPCODE && data.len() <= MAX_SCRIPT_ELEMENT_SIZE))
}

/// Core's `IsUnspendable`.
pub(crate) fn is_unspendable(script: &Script) -> bool {
    script.as_bytes().first() == Some(&OP_RETURN) || script.len() > MAX_SCRIPT_SIZE
}

/// Whether a Tapscript-only opcode is in it (`OP_CHECKSIGADD` or `OP_SUCCESSx`), so that wrapping it makes no sense.
pub(crate) fn has_tapscript_ops(script: &Script) -> bool {
    ops(script).flatten().any(
        |(op, _)| matches!(op, 0xba | 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254),
    )
}

/// Core's `ScriptToAsmStr`. `signatures` marks what looks like a signature with its hash type.
pub(crate) fn asm(script: &Script, signatures: bool) -> String {
    let mut out = String::new();
    for op in ops(script) {
        if !out.is_empty() {
            out.push(' ');
        }
        match op {
            Err(()) => out.push_str("[error]"),
            Ok((0..=0x4e, data)) if data.len() <= 4 => out.push_str(&script_number(data).to_string()),
            Ok((0..=0x4e, data)) => {
                let hash_type = data.last().copied().and_then(hash_type_name);
                match hash_type {
                    Some(name) if signatures && !is_unspendable(script) && is_der_signature(data) => {
                        out.push_str(&data[..data.len() - 1].to_lower_hex_string());
                        out.push_str(&format!("[{name}]"));
                    }
                    _ => out.push_str(&data.to_lower_hex_string()),
                }
            }
            Ok((op, _)) => out.push_str(&op_name(op)),
        }
    }
    out
}

/// A `CScriptNum` of at most four bytes: little endian, the top bit is the sign.
fn script_number(data: &[u8]) -> i64 {
    let Some((&last, _)) = data.split_last() else { return 0 };
    let value = data.iter().rev().fold(0_i64, |a, &b| a << 8 | i64::from(b));
    if last & 0x80 == 0 { value } else { -(value & !(0x80_i64 << (8 * (data.len() - 1)))) }
}

fn hash_type_name(byte: u8) -> Option<&'static str> {
    Some(match byte {
        0x01 => "ALL",
        0x81 => "ALL|ANYONECANPAY",
        0x02 => "NONE",
        0x82 => "NONE|ANYONECANPAY",
        0x03 => "SINGLE",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => return None,
    })
}

/// BIP 66's strict DER encoding, with the hash type byte at the end.
fn is_der_signature(sig: &[u8]) -> bool {
    if !(9..=73).contains(&sig.len()) || sig[0] != 0x30 || usize::from(sig[1]) != sig.len() - 3 {
        return false;
    }
    let len_r = usize::from(sig[3]);
    if 5 + len_r >= sig.len() {
        return false;
    }
    let len_s = usize::from(sig[5 + len_r]);
    if len_r + len_s + 7 != sig.len() {
        return false;
    }
    let integer = |tag: u8, value: &[u8]| {
        tag == 0x02
            && value.first().is_some_and(|first| first & 0x80 == 0)
            && !(value.len() > 1 && value[0] == 0 && value[1] & 0x80 == 0)
    };
    integer(sig[2], &sig[4..4 + len_r]) && integer(sig[4 + len_r], &sig[6 + len_r..6 + len_r + len_s])
}

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
    if bytes.first() == Some(&OP_RETURN) && Ops(&bytes[1..]).all(|op| matches!(op, Ok((0..=0x60, _)))) {
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
    let mut ops = Ops(bytes);
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
    (keys.len() == count && ops.0.len() == 1).then_some((u8::try_from(needed).ok()?, keys))
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
    fn disassembly_is_cores() {
        for (hex, text) in [
            ("", ""),
            ("6a0548656c6c6f", "OP_RETURN 48656c6c6f"),
            ("51b1b2", "1 OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY"),
            ("4f00600181", "-1 0 16 -1"),
            ("02ffff", "-32767"),
            ("0480000000", "128"),
            ("4c", "[error]"),
            ("5103aabb", "1 [error]"),
            ("babbff", "OP_CHECKSIGADD OP_UNKNOWN OP_INVALIDOPCODE"),
        ] {
            assert_eq!(asm(&script(hex), false), text, "{hex}");
        }
    }

    /// From Core's rpc_decodescript.py: a signature in a scriptSig is shown with its hash type.
    #[test]
    fn signatures_show_their_hash_type() {
        let sig = "304502207fa7a6d1e0ee81132a269ad84e68d695483745cde8b541e3bf630749894e342a022100c1f7ab20e13e22fb95281a870f3dcf38d782e53023ee313d741ad0cfbc0c509001";
        let key = "03b0da749730dc9b4b1f4a14d6902877a92541f5368778853d9c4a0cb7802dcfb2";
        let spend = script(&format!("48{sig}21{key}"));
        let bare = &sig[..sig.len() - 2];
        assert_eq!(asm(&spend, true), format!("{bare}[ALL] {key}"));
        assert_eq!(asm(&spend, false), format!("{sig} {key}"));
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
