//! The notation of scripts in Core's test vectors: its `ParseScript`.

use bitcoin::ScriptBuf;
use bitcoin::hex::FromHex;
use bitcoin::opcodes::Opcode;
use bitcoin::script::{Builder, PushBytesBuf};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Opcodes from NOP on, with and without `OP_`, and RESERVED.
static OPCODES: LazyLock<HashMap<String, u8>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for code in std::iter::once(0x50).chain(0x61..=0xba) {
        let name = match code {
            0xb1 => "OP_CHECKLOCKTIMEVERIFY".to_owned(),
            0xb2 => "OP_CHECKSEQUENCEVERIFY".to_owned(),
            _ => Opcode::from(code).to_string(),
        };
        names.insert(name.trim_start_matches("OP_").to_owned(), code);
        names.insert(name, code);
    }
    names
});

/// Decimal numbers are pushed in their shortest form, `0x…` is put in as it is, `'…'` is pushed, words are opcodes.
pub(crate) fn parse(text: &str) -> ScriptBuf {
    let mut script = Vec::new();
    for word in text.split_ascii_whitespace() {
        if let Ok(number) = word.parse::<i64>() {
            script.extend_from_slice(Builder::new().push_int(number).as_bytes());
        } else if let Some(hex) = word.strip_prefix("0x") {
            script.extend(Vec::from_hex(hex).expect("hex"));
        } else if let Some(text) = word.strip_prefix('\'') {
            let text = text.strip_suffix('\'').expect("a closing quote");
            let bytes = PushBytesBuf::try_from(text.as_bytes().to_vec()).expect("short enough");
            script.extend_from_slice(Builder::new().push_slice(bytes).as_bytes());
        } else {
            script.push(*OPCODES.get(word).unwrap_or_else(|| panic!("unknown word {word:?} in {text:?}")));
        }
    }
    ScriptBuf::from_bytes(script)
}
