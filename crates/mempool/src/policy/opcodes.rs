//! Scripts as policy reads them: as a list of operations, never executed.

use bitcoin::Script;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4, OP_PUSHNUM_1, OP_PUSHNUM_16, OP_RETURN,
};
use cairn_consensus::script;

/// Core's `TxoutType`, as far as policy tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputType {
    NonStandard,
    PubKey,
    PubKeyHash,
    ScriptHash,
    /// `required` of `keys`.
    Multisig {
        required: u64,
        keys: u64,
    },
    NullData,
    WitnessV0KeyHash,
    WitnessV0ScriptHash,
    WitnessV1Taproot,
    Anchor,
    WitnessUnknown,
}

/// Core's `Solver`.
pub(crate) fn output_type(output: &Script) -> OutputType {
    if output.is_p2sh() {
        return OutputType::ScriptHash;
    }
    if let Some((version, program)) = script::witness_program(output.as_bytes()) {
        return match (version, program.len()) {
            (0, 20) => OutputType::WitnessV0KeyHash,
            (0, 32) => OutputType::WitnessV0ScriptHash,
            (0, _) => OutputType::NonStandard,
            (1, 32) => OutputType::WitnessV1Taproot,
            _ if is_anchor(version, program) => OutputType::Anchor,
            _ => OutputType::WitnessUnknown,
        };
    }
    let bytes = output.as_bytes();
    if let Some((first, rest)) = bytes.split_first()
        && *first == OP_RETURN.to_u8()
        && script::is_push_only(rest)
    {
        return OutputType::NullData;
    }
    if is_pay_to_pubkey(bytes) {
        return OutputType::PubKey;
    }
    if output.is_p2pkh() {
        return OutputType::PubKeyHash;
    }
    multisig(bytes).unwrap_or(OutputType::NonStandard)
}

/// Whether a witness program is pay-to-anchor.
pub(crate) fn is_anchor(version: u8, program: &[u8]) -> bool {
    version == 1 && program == [0x4e, 0x73]
}

/// The first operation of a script: opcode, what it pushes, and the rest. `None` if a push is cut short.
fn next_op(script: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&op, rest) = script.split_first()?;
    let length_bytes = match op {
        op if op == OP_PUSHDATA1.to_u8() => 1,
        op if op == OP_PUSHDATA2.to_u8() => 2,
        op if op == OP_PUSHDATA4.to_u8() => 4,
        _ => 0,
    };
    let (length, rest) = rest.split_at_checked(length_bytes)?;
    let length = match op {
        op if op < OP_PUSHDATA1.to_u8() => usize::from(op),
        _ => length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    let (data, rest) = rest.split_at_checked(length)?;
    Some((op, data, rest))
}

/// Core's `CPubKey::ValidSize`: the length is what the first byte announces.
fn is_pubkey_size(key: &[u8]) -> bool {
    match key.first() {
        Some(2 | 3) => key.len() == 33,
        Some(4 | 6 | 7) => key.len() == 65,
        _ => false,
    }
}

fn is_pay_to_pubkey(script: &[u8]) -> bool {
    let [push, key @ .., last] = script else { return false };
    matches!(push, 33 | 65) && usize::from(*push) == key.len() && *last == OP_CHECKSIG.to_u8() && is_pubkey_size(key)
}

/// Core's `MatchMultisig`.
fn multisig(script: &[u8]) -> Option<OutputType> {
    if script.last() != Some(&OP_CHECKMULTISIG.to_u8()) {
        return None;
    }
    let (op, data, mut rest) = next_op(script)?;
    let required = script_number(op, data, 1)?;
    let mut keys = 0;
    loop {
        let (op, data, after) = next_op(rest)?;
        rest = after;
        if is_pubkey_size(data) {
            keys += 1;
            continue;
        }
        let announced = script_number(op, data, required)?;
        return (announced == keys && rest.len() == 1).then_some(OutputType::Multisig { required, keys });
    }
}

/// A number from `min` to 20 in its shortest form, as an opcode or as a push.
fn script_number(op: u8, data: &[u8], min: u64) -> Option<u64> {
    let number = match data {
        [] if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&op) => u64::from(op - OP_PUSHNUM_1.to_u8() + 1),
        // Up to 16 there is an opcode, so a push is not the shortest form; above 20 it is out of range anyway.
        [byte @ 17..=20] if op == 1 => u64::from(*byte),
        _ => return None,
    };
    (min..=script::MAX_PUBKEYS_PER_MULTISIG as u64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputType::*;

    fn kind(hex: &str) -> OutputType {
        output_type(Script::from_bytes(&bitcoin::hex::FromHex::from_hex(hex).map(|v: Vec<u8>| v).unwrap()))
    }

    #[test]
    fn tells_output_types_apart() {
        let key = format!("02{}", "11".repeat(32));
        let long_key = format!("04{}", "11".repeat(64));
        assert_eq!(kind(&format!("21{key}ac")), PubKey);
        assert_eq!(kind(&format!("41{long_key}ac")), PubKey);
        assert_eq!(kind(&format!("2105{}ac", "11".repeat(32))), NonStandard);
        assert_eq!(kind(&format!("76a914{}88ac", "22".repeat(20))), PubKeyHash);
        assert_eq!(kind(&format!("a914{}87", "22".repeat(20))), ScriptHash);
        assert_eq!(kind(&format!("0014{}", "22".repeat(20))), WitnessV0KeyHash);
        assert_eq!(kind(&format!("0020{}", "22".repeat(32))), WitnessV0ScriptHash);
        assert_eq!(kind(&format!("0010{}", "22".repeat(16))), NonStandard);
        assert_eq!(kind(&format!("5120{}", "22".repeat(32))), WitnessV1Taproot);
        assert_eq!(kind("51024e73"), Anchor);
        assert_eq!(kind("51024e74"), WitnessUnknown);
        assert_eq!(kind(&format!("6020{}", "22".repeat(32))), WitnessUnknown);
        assert_eq!(kind("6a"), NullData);
        assert_eq!(kind("6a0401020304"), NullData);
        assert_eq!(kind("6a04010203"), NonStandard);
        assert_eq!(kind("6a61"), NonStandard);
        assert_eq!(kind(&format!("5121{key}51ae")), Multisig { required: 1, keys: 1 });
        assert_eq!(kind(&format!("5221{key}21{key}41{long_key}53ae")), Multisig { required: 2, keys: 3 });
        assert_eq!(kind(&format!("5221{key}51ae")), NonStandard);
        assert_eq!(kind(&format!("5121{key}52ae")), NonStandard);
        assert_eq!(kind(&format!("0121{key}51ae")), NonStandard);
        let twenty = format!("21{key}").repeat(20);
        assert_eq!(kind(&format!("51{twenty}0114ae")), Multisig { required: 1, keys: 20 });
        assert_eq!(kind(""), NonStandard);
        assert_eq!(kind("51"), NonStandard);
    }
}
