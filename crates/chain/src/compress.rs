//! Core's compact encodings of numbers, amounts, scripts and coins (`serialize.h`, `compressor.h`, `coins.h`), as
//! undo files and the coin store hold them.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, PubkeyHash, Script, ScriptBuf, ScriptHash, TxOut};
use cairn_consensus::coins::Coin;

/// Scripts with an encoding of their own (`ScriptCompression::nSpecialScripts`).
const SPECIAL_SCRIPTS: u64 = 6;
/// Core's `MAX_SCRIPT_SIZE` in bytes: a longer one can never be spent.
const MAX_SCRIPT_SIZE: usize = 10_000;

/// The bytes end early or say something impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Core's `VARINT`: base 128, most significant first, one added between digits.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 10];
    let mut last = 0;
    loop {
        digits[last] = (n & 0x7f) as u8 | if last > 0 { 0x80 } else { 0 };
        if n <= 0x7f {
            break;
        }
        n = (n >> 7) - 1;
        last += 1;
    }
    out.extend(digits[..=last].iter().rev());
}

/// Reads [`write_varint`]'s form.
pub(crate) fn read_varint(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut n: u64 = 0;
    loop {
        let byte = read_byte(input)?;
        if n > u64::MAX >> 7 {
            return Err(Malformed);
        }
        n = (n << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(n);
        }
        n = n.checked_add(1).ok_or(Malformed)?;
    }
}

/// Bitcoin's `CompactSize`, for lengths of vectors.
pub(crate) fn write_compact_size(out: &mut Vec<u8>, n: u64) {
    out.extend(bitcoin::consensus::serialize(&bitcoin::VarInt(n)));
}

/// Reads a `CompactSize`.
pub(crate) fn read_compact_size(input: &mut &[u8]) -> Result<u64, Malformed> {
    let (size, used) = bitcoin::consensus::deserialize_partial::<bitcoin::VarInt>(input).map_err(|_| Malformed)?;
    *input = &input[used..];
    Ok(size.0)
}

fn read_byte(input: &mut &[u8]) -> Result<u8, Malformed> {
    let (&byte, rest) = input.split_first().ok_or(Malformed)?;
    *input = rest;
    Ok(byte)
}

fn read_bytes<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (bytes, rest) = input.split_at_checked(count).ok_or(Malformed)?;
    *input = rest;
    Ok(bytes)
}

/// Core's `CompressAmount`: round amounts become short. Satoshi.
fn compress_amount(mut n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let mut exponent = 0;
    while n.is_multiple_of(10) && exponent < 9 {
        n /= 10;
        exponent += 1;
    }
    if exponent < 9 {
        let digit = n % 10;
        1 + ((n / 10) * 9 + digit - 1) * 10 + exponent
    } else {
        1 + (n - 1) * 10 + 9
    }
}

/// Inverse of [`compress_amount`].
fn decompress_amount(x: u64) -> Result<u64, Malformed> {
    let Some(x) = x.checked_sub(1) else { return Ok(0) };
    let (exponent, x) = ((x % 10) as u32, x / 10);
    let n =
        if exponent < 9 { (x / 9).checked_mul(10).and_then(|n| n.checked_add(x % 9 + 1)) } else { x.checked_add(1) };
    n.and_then(|n| n.checked_mul(10u64.pow(exponent))).ok_or(Malformed)
}

fn write_script(out: &mut Vec<u8>, script: &Script) {
    let bytes = script.as_bytes();
    if script.is_p2pkh() {
        out.push(0);
        out.extend(&bytes[3..23]);
    } else if script.is_p2sh() {
        out.push(1);
        out.extend(&bytes[2..22]);
    } else if let Some((parity, x)) = pay_to_pubkey(bytes) {
        out.push(parity);
        out.extend(x);
    } else {
        write_varint(out, bytes.len() as u64 + SPECIAL_SCRIPTS);
        out.extend(bytes);
    }
}

/// Code (2 to 5) and x coordinate of a pay-to-pubkey script that can be restored exactly.
fn pay_to_pubkey(script: &[u8]) -> Option<(u8, &[u8])> {
    let checksig = OP_CHECKSIG.to_u8();
    match script {
        [33, parity @ (2 | 3), x @ .., last] if script.len() == 35 && *last == checksig => Some((*parity, x)),
        [65, 4, key @ .., last] if script.len() == 67 && *last == checksig => {
            // A point that is not on the curve could not be restored from its x.
            PublicKey::from_slice(&script[1..66]).ok()?;
            Some((4 | (key[63] & 1), &key[..32]))
        }
        _ => None,
    }
}

fn read_script(input: &mut &[u8]) -> Result<ScriptBuf, Malformed> {
    let code = read_varint(input)?;
    let checksig = OP_CHECKSIG.to_u8();
    match code {
        0 => {
            let hash = PubkeyHash::from_slice(read_bytes(input, 20)?).map_err(|_| Malformed)?;
            Ok(ScriptBuf::new_p2pkh(&hash))
        }
        1 => {
            let hash = ScriptHash::from_slice(read_bytes(input, 20)?).map_err(|_| Malformed)?;
            Ok(ScriptBuf::new_p2sh(&hash))
        }
        2 | 3 => {
            let mut script = vec![33, code as u8];
            script.extend(read_bytes(input, 32)?);
            script.push(checksig);
            Ok(ScriptBuf::from_bytes(script))
        }
        4 | 5 => {
            let mut key = vec![code as u8 - 2];
            key.extend(read_bytes(input, 32)?);
            let key = PublicKey::from_slice(&key).map_err(|_| Malformed)?;
            let mut script = vec![65];
            script.extend(key.serialize_uncompressed());
            script.push(checksig);
            Ok(ScriptBuf::from_bytes(script))
        }
        _ => {
            let size = usize::try_from(code - SPECIAL_SCRIPTS).map_err(|_| Malformed)?;
            let bytes = read_bytes(input, size)?;
            if size > MAX_SCRIPT_SIZE {
                // As Core: too long to be spent, so a short script that cannot be spent either stands in.
                return Ok(ScriptBuf::from_bytes(vec![bitcoin::opcodes::all::OP_RETURN.to_u8()]));
            }
            Ok(ScriptBuf::from_bytes(bytes.to_vec()))
        }
    }
}

fn write_output(out: &mut Vec<u8>, value: Amount, script: &Script) {
    write_varint(out, compress_amount(value.to_sat()));
    write_script(out, script);
}

fn read_output(input: &mut &[u8]) -> Result<TxOut, Malformed> {
    let value = Amount::from_sat(decompress_amount(read_varint(input)?)?);
    Ok(TxOut { value, script_pubkey: read_script(input)? })
}

fn read_code(input: &mut &[u8]) -> Result<(u32, bool), Malformed> {
    let code = u32::try_from(read_varint(input)?).map_err(|_| Malformed)?;
    Ok((code >> 1, code & 1 == 1))
}

/// A coin as Core's coin database holds it.
pub(crate) fn write_coin(out: &mut Vec<u8>, coin: &Coin) {
    write_coin_of(out, coin.height, coin.coinbase, coin.output.value, &coin.output.script_pubkey);
}

/// [`write_coin`] of a coin in parts.
pub(crate) fn write_coin_of(out: &mut Vec<u8>, height: u32, coinbase: bool, value: Amount, script: &Script) {
    write_varint(out, u64::from(height) << 1 | u64::from(coinbase));
    write_output(out, value, script);
}

/// Reads a whole coin: nothing may follow it.
pub(crate) fn read_coin(mut input: &[u8]) -> Result<Coin, Malformed> {
    let coin = take_coin(&mut input)?;
    if input.is_empty() { Ok(coin) } else { Err(Malformed) }
}

/// Reads a coin and leaves what follows.
pub(crate) fn take_coin(input: &mut &[u8]) -> Result<Coin, Malformed> {
    let (height, coinbase) = read_code(input)?;
    let output = read_output(input)?;
    Ok(Coin { output, height, coinbase })
}

/// A coin as Core's undo files hold it (`TxInUndoFormatter`): a zero stands where versions once stood.
pub(crate) fn write_undo_coin(out: &mut Vec<u8>, coin: &Coin) {
    write_varint(out, u64::from(coin.height) << 1 | u64::from(coin.coinbase));
    if coin.height > 0 {
        out.push(0);
    }
    write_output(out, coin.output.value, &coin.output.script_pubkey);
}

/// Reads [`write_undo_coin`]'s form.
pub(crate) fn read_undo_coin(input: &mut &[u8]) -> Result<Coin, Malformed> {
    let (height, coinbase) = read_code(input)?;
    if height > 0 {
        read_varint(input)?;
    }
    let output = read_output(input)?;
    Ok(Coin { output, height, coinbase })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bitcoin::hex::DisplayHex::to_lower_hex_string(bytes)
    }

    #[test]
    fn amounts_and_varints_match_cores_vectors() {
        // src/test/compress_tests.cpp and serialize_tests.cpp.
        let coin = 100_000_000;
        for (amount, compressed) in
            [(0, 0), (1, 1), (coin / 100, 7), (coin, 9), (50 * coin, 0x32), (21_000_000 * coin, 0x1406f40)]
        {
            assert_eq!(compress_amount(amount), compressed);
            assert_eq!(decompress_amount(compressed), Ok(amount));
        }
        for (number, bytes) in [
            (0, "00"),
            (0x7f, "7f"),
            (0x80, "8000"),
            (0x1234, "a334"),
            (0xffff, "82fe7f"),
            (u64::MAX, "80fefefefefefefefe7f"),
        ] {
            let mut out = Vec::new();
            write_varint(&mut out, number);
            assert_eq!(hex(&out), bytes);
        }
    }

    #[test]
    fn special_scripts_are_short() {
        let key = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
        let uncompressed = ScriptBuf::from_hex(&format!("41{key}ac")).expect("hex");
        let off_curve = ScriptBuf::from_hex(&format!("41{}00ac", &key[..128])).expect("hex");
        for (script, size) in [
            (ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()), 21),
            (ScriptBuf::new_p2sh(&ScriptHash::all_zeros()), 21),
            (ScriptBuf::from_hex(&format!("2102{}ac", &key[2..66])).expect("hex"), 33),
            (uncompressed, 33),
            (off_curve, 68),
            (ScriptBuf::new(), 1),
        ] {
            let mut out = Vec::new();
            write_script(&mut out, &script);
            assert_eq!(out.len(), size, "{script}");
            assert_eq!(read_script(&mut out.as_slice()), Ok(script));
        }
    }

    proptest! {
        #[test]
        fn coins_come_back(value in 0u64..=2_100_000_000_000_000, script in prop::collection::vec(any::<u8>(), 0..300),
                           height in 0u32..0x7fff_ffff, coinbase: bool) {
            let output = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(script) };
            let coin = Coin { output, height, coinbase };
            let mut out = Vec::new();
            write_coin(&mut out, &coin);
            prop_assert_eq!(read_coin(&out), Ok(coin.clone()));
            let mut out = Vec::new();
            write_undo_coin(&mut out, &coin);
            prop_assert_eq!(read_undo_coin(&mut out.as_slice()), Ok(coin));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_coin(&bytes);
            let _ = read_undo_coin(&mut bytes.as_slice());
        }
    }
}
