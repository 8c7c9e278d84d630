//! How ECDSA signatures and public keys must be encoded.

use super::{ScriptError, ScriptFlags, SigVersion};
use crate::sighash::{SIGHASH_ALL, SIGHASH_ANYONECANPAY, SIGHASH_SINGLE};
use bitcoin::secp256k1::ecdsa::Signature;

/// Core's `CheckSignatureEncoding`. An empty signature is always allowed: the short way to give an invalid one.
pub(crate) fn check_signature_encoding(signature: &[u8], flags: ScriptFlags) -> Result<(), ScriptError> {
    let Some((&hash_type, der)) = signature.split_last() else { return Ok(()) };
    if flags.intersects(ScriptFlags::DERSIG | ScriptFlags::LOW_S | ScriptFlags::STRICTENC) && !is_strict_der(signature)
    {
        return Err(ScriptError::SigDer);
    }
    if flags.contains(ScriptFlags::LOW_S) && !is_low_s(der) {
        return Err(ScriptError::SigHighS);
    }
    if flags.contains(ScriptFlags::STRICTENC) {
        let base = u32::from(hash_type) & !SIGHASH_ANYONECANPAY;
        if !(SIGHASH_ALL..=SIGHASH_SINGLE).contains(&base) {
            return Err(ScriptError::SigHashType);
        }
    }
    Ok(())
}

/// Core's `CheckPubKeyEncoding`.
pub(crate) fn check_public_key_encoding(
    key: &[u8],
    flags: ScriptFlags,
    version: SigVersion,
) -> Result<(), ScriptError> {
    let compressed = matches!(key, [2 | 3, ..] if key.len() == 33);
    let uncompressed = matches!(key, [4, ..] if key.len() == 65);
    if flags.contains(ScriptFlags::STRICTENC) && !compressed && !uncompressed {
        return Err(ScriptError::PubkeyType);
    }
    if flags.contains(ScriptFlags::WITNESS_PUBKEYTYPE) && version == SigVersion::WitnessV0 && !compressed {
        return Err(ScriptError::WitnessPubkeyType);
    }
    Ok(())
}

/// Core's `IsValidSignatureEncoding` (BIP 66):
/// `0x30 [total length] 0x02 [length of R] [R] 0x02 [length of S] [S] [hash type]`.
fn is_strict_der(signature: &[u8]) -> bool {
    if !(9..=73).contains(&signature.len()) || signature[0] != 0x30 || usize::from(signature[1]) != signature.len() - 3
    {
        return false;
    }
    // The hash type is no part of the DER.
    let integers = &signature[2..signature.len() - 1];
    strict_integer(integers).and_then(strict_integer).is_some_and(<[u8]>::is_empty)
}

/// Skips a positive integer in its shortest form.
fn strict_integer(bytes: &[u8]) -> Option<&[u8]> {
    let [0x02, length, rest @ ..] = bytes else { return None };
    let (integer, rest) = rest.split_at_checked((*length).into())?;
    match integer {
        [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => None,
        _ => Some(rest),
    }
}

/// Whether S is at most half the order. Core's `CheckLowS` parses leniently, and so a signature whose R or S overflows is
/// a correctly parsed invalid one with a low S.
fn is_low_s(der: &[u8]) -> bool {
    let Ok(signature) = Signature::from_der_lax(der) else { return false };
    let mut normalized = signature;
    normalized.normalize_s();
    normalized == signature
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(r: &[u8], s: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x30, (4 + r.len() + s.len()) as u8, 2, r.len() as u8];
        bytes.extend_from_slice(r);
        bytes.extend_from_slice(&[2, s.len() as u8]);
        bytes.extend_from_slice(s);
        bytes.push(1);
        bytes
    }

    #[test]
    fn strict_der() {
        assert!(is_strict_der(&signature(&[1], &[1])));
        assert!(is_strict_der(&signature(&[0], &[0x7f; 33])));
        assert!(is_strict_der(&signature(&[0, 0x80], &[1; 32])));
        for (r, s) in [(&[][..], &[1, 1][..]), (&[1, 1], &[]), (&[0x80], &[1]), (&[1], &[0xff]), (&[0, 1], &[1])] {
            assert!(!is_strict_der(&signature(r, s)), "{r:?} {s:?}");
        }
        let good = signature(&[1; 32], &[1; 32]);
        for index in [0, 1, 2, 3, 36, 37] {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(!is_strict_der(&bad), "{index}");
        }
        assert!(!is_strict_der(&good[..good.len() - 1]));
        assert!(!is_strict_der(&signature(&[1; 33], &[1; 34])));
    }

    #[test]
    fn low_s() {
        // Half the group's order, and one more.
        let half = *b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
            \x5d\x57\x6e\x73\x57\xa4\x50\x1d\xdf\xe9\x2f\x46\x68\x1b\x20\xa0";
        let mut above = half;
        above[31] += 1;
        let check = |s: &[u8]| check_signature_encoding(&signature(&[1], s), ScriptFlags::LOW_S);
        assert_eq!(check(&half), Ok(()));
        assert_eq!(check(&above), Err(ScriptError::SigHighS));
        // An overflowing S parses as zero.
        assert_eq!(check(&[[0].as_slice(), &[0xff; 32]].concat()), Ok(()));
    }
}
