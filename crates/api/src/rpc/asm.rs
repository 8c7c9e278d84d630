//! Scripts read opcode by opcode: disassembly, and what can be said without running them.

use bitcoin::Script;
use bitcoin::hex::DisplayHex;
use cairn_consensus::script::{MAX_SCRIPT_ELEMENT_SIZE, MAX_SCRIPT_SIZE};

/// The largest opcode with a meaning, `OP_NOP10`.
const MAX_OPCODE: u8 = 0xb9;
pub(super) const OP_RETURN: u8 = 0x6a;

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
pub(super) struct Ops<'a>(&'a [u8]);

impl<'a> Ops<'a> {
    /// The opcodes of a script.
    pub(super) fn new(script: &'a [u8]) -> Self {
        Ops(script)
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;
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
}
