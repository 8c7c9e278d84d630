//! Counting signature operations without running scripts.

use super::code::{Reader, is_p2sh, is_push_only, witness_program};
use super::{MAX_PUBKEYS_PER_MULTISIG, ScriptFlags};
use bitcoin::opcodes::all::*;
use bitcoin::{Script, Witness};

/// Counts CHECKSIG as one and CHECKMULTISIG as 20, or if `accurate` as the number of keys pushed just before. What
/// cannot be read, and all after it, counts nothing: Core's `CScript::GetSigOpCount(bool)`.
pub fn legacy_sigops(script: &Script, accurate: bool) -> usize {
    count(script.as_bytes(), accurate)
}

/// Counts what the redeem script of a P2SH output may check; 0 if the output is none or the scriptSig does not only
/// push: Core's `CScript::GetSigOpCount(const CScript&)` as `GetP2SHSigOpCount` calls it.
pub fn p2sh_sigops(script_pubkey: &Script, script_sig: &Script) -> usize {
    redeem_script(script_pubkey, script_sig).map_or(0, |script| count(script, true))
}

/// Counts signature operations of one input as `GetTransactionSigOpCost` does (witness part).
pub fn witness_sigops(script_sig: &Script, script_pubkey: &Script, witness: &Witness, flags: ScriptFlags) -> usize {
    if !flags.contains(ScriptFlags::WITNESS) {
        return 0;
    }
    let script = match witness_program(script_pubkey.as_bytes()) {
        Some(program) => Some(program),
        None => redeem_script(script_pubkey, script_sig).and_then(witness_program),
    };
    match script {
        Some((0, program)) if program.len() == 20 => 1,
        Some((0, program)) if program.len() == 32 => witness.last().map_or(0, |script| count(script, true)),
        _ => 0,
    }
}

fn count(script: &[u8], accurate: bool) -> usize {
    let mut total = 0;
    let mut last = None;
    for (opcode, _) in Reader::new(script).map_while(Result::ok) {
        total += match opcode {
            OP_CHECKSIG | OP_CHECKSIGVERIFY => 1,
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY => match last {
                Some(number @ 0x51..=0x60) if accurate => usize::from(number - 0x50),
                _ => MAX_PUBKEYS_PER_MULTISIG,
            },
            _ => 0,
        };
        last = Some(opcode.to_u8());
    }
    total
}

/// What the last operation of a push-only scriptSig pushes as data, if the output is P2SH. Unlike in execution, numeric
/// opcodes give an empty script.
fn redeem_script<'a>(script_pubkey: &Script, script_sig: &'a Script) -> Option<&'a [u8]> {
    let script_sig = script_sig.as_bytes();
    if !is_p2sh(script_pubkey.as_bytes()) || !is_push_only(script_sig) {
        return None;
    }
    Some(Reader::new(script_sig).map_while(Result::ok).last().map_or(&[], |(_, data)| data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;
    use bitcoin::script::{Builder, PushBytes};

    fn push(builder: Builder, data: &[u8]) -> Builder {
        builder.push_slice(<&PushBytes>::try_from(data).unwrap())
    }

    fn multisig(required: i64, keys: i64) -> Builder {
        let builder = (0..keys).fold(Builder::new().push_int(required), |builder, _| push(builder, &[0; 33]));
        builder.push_int(keys).push_opcode(OP_CHECKMULTISIG)
    }

    // Core's sigopcount_tests, GetSigOpCount.
    #[test]
    fn legacy_and_p2sh() {
        assert_eq!(legacy_sigops(Script::new(), false), 0);
        assert_eq!(legacy_sigops(Script::new(), true), 0);
        let script = multisig(1, 2);
        assert_eq!(legacy_sigops(script.as_script(), true), 2);
        let script = script.push_opcode(OP_IF).push_opcode(OP_CHECKSIG).push_opcode(OP_ENDIF).into_script();
        assert_eq!(legacy_sigops(&script, true), 3);
        assert_eq!(legacy_sigops(&script, false), 21);

        let p2sh = ScriptBuf::new_p2sh(&script.script_hash());
        let script_sig = push(Builder::new().push_int(0), script.as_bytes()).into_script();
        assert_eq!(p2sh_sigops(&p2sh, &script_sig), 3);

        let script = multisig(1, 3).into_script();
        assert_eq!(legacy_sigops(&script, true), 3);
        assert_eq!(legacy_sigops(&script, false), 20);
        let p2sh = ScriptBuf::new_p2sh(&script.script_hash());
        assert_eq!(legacy_sigops(&p2sh, true), 0);
        let script_sig = push(push(push(Builder::new().push_int(1), &[0; 20]), &[0; 20]), script.as_bytes());
        assert_eq!(p2sh_sigops(&p2sh, script_sig.as_script()), 3);
        // No push, no count; nor without P2SH.
        assert_eq!(p2sh_sigops(&p2sh, script_sig.clone().push_opcode(OP_NOP).as_script()), 0);
        assert_eq!(p2sh_sigops(&script, script_sig.as_script()), 0);
    }

    #[test]
    fn what_follows_a_truncated_push_is_not_counted() {
        assert_eq!(legacy_sigops(Script::from_bytes(&[0xac, 0x4c, 0xac]), true), 1);
        // A number above 16 is not accurate.
        assert_eq!(legacy_sigops(Script::from_bytes(&[0x01, 17, 0xae]), true), 20);
        assert_eq!(legacy_sigops(Script::from_bytes(&[0x00, 0xae]), true), 20);
    }

    // Core's sigopcount_tests, GetTxSigOpCost.
    #[test]
    fn witness() {
        let flags = ScriptFlags::P2SH | ScriptFlags::WITNESS;
        let script = multisig(1, 2).into_script();
        let key_hash = Builder::new().push_int(0);
        let p2wpkh = push(key_hash, &[7; 20]).into_script();
        let p2wsh = ScriptBuf::new_p2wsh(&script.wscript_hash());
        let key_witness = Witness::from_slice(&[b"", b""]);
        let script_witness = Witness::from_slice(&[&b""[..], &[], script.as_bytes()]);
        let mut version_1 = p2wpkh.to_bytes();
        version_1[0] = 0x51;
        for (program, witness, sigops) in [
            (p2wpkh, &key_witness, 1),
            (p2wsh.clone(), &script_witness, 2),
            (p2wsh, &Witness::new(), 0),
            (ScriptBuf::from_bytes(version_1), &key_witness, 0),
            // No program of version 0, which fails when it runs.
            (ScriptBuf::from_bytes([&[0, 31], &[7; 31][..]].concat()), &script_witness, 0),
        ] {
            let empty = ScriptBuf::new();
            assert_eq!(witness_sigops(&empty, &program, witness, flags), sigops);
            assert_eq!(witness_sigops(&empty, &program, witness, flags - ScriptFlags::WITNESS), 0);
            let p2sh = ScriptBuf::new_p2sh(&program.script_hash());
            let script_sig = push(Builder::new(), program.as_bytes()).into_script();
            assert_eq!(witness_sigops(&script_sig, &p2sh, witness, flags), sigops);
        }
    }
}
