//! Numbers on the stack.

use super::ScriptError;

/// A number as scripts see it: little endian with a sign bit, operands of at most four bytes (five for lock times).
///
/// Results of arithmetic may exceed that range; they fail only when used as an operand again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptNum(pub i64);

impl ScriptNum {
    /// Longest encoding of an operand in bytes, lock times excepted.
    pub const MAX_SIZE: usize = 4;
    /// Longest encoding of a lock time in bytes (BIP 65 and BIP 112).
    pub const MAX_LOCK_TIME_SIZE: usize = 5;

    /// Reads an operand of at most `max_size` bytes (eight or fewer).
    ///
    /// # Errors
    /// [`ScriptError::ScriptNum`] if it is longer, or not minimal though `minimal` demands it.
    pub fn decode(bytes: &[u8], minimal: bool, max_size: usize) -> Result<Self, ScriptError> {
        if bytes.len() > max_size.min(8) {
            return Err(ScriptError::ScriptNum);
        }
        let Some((&last, rest)) = bytes.split_last() else { return Ok(Self(0)) };
        // The last byte may hold nothing but the sign only if the byte before needs its own highest bit. This
        // refuses the negative zero 0x80 too.
        if minimal && last & 0x7f == 0 && rest.last().is_none_or(|before| before & 0x80 == 0) {
            return Err(ScriptError::ScriptNum);
        }
        let magnitude =
            rest.iter().rev().fold(u64::from(last & 0x7f), |value, byte| value << 8 | u64::from(*byte)) as i64;
        Ok(Self(if last & 0x80 == 0 { magnitude } else { -magnitude }))
    }

    /// The shortest encoding; zero is empty.
    pub fn encode(self) -> Vec<u8> {
        if self.0 == 0 {
            return Vec::new();
        }
        let magnitude = self.0.unsigned_abs();
        let length = 8 - magnitude.leading_zeros() as usize / 8;
        let mut bytes = magnitude.to_le_bytes()[..length].to_vec();
        let sign = if self.0 < 0 { 0x80 } else { 0 };
        if bytes[length - 1] & 0x80 != 0 {
            bytes.push(sign);
        } else {
            bytes[length - 1] |= sign;
        }
        bytes
    }
}

/// What a stack element means as a condition: false if all its bytes are zero, the sign of the last one aside.
pub fn cast_to_bool(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        None => false,
        Some((last, rest)) => last & 0x7f != 0 || rest.iter().any(|byte| *byte != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], minimal: bool) -> Result<i64, ScriptError> {
        ScriptNum::decode(bytes, minimal, 5).map(|number| number.0)
    }

    #[test]
    fn encodings() {
        for (value, bytes) in [
            (0, &[][..]),
            (1, &[0x01]),
            (-1, &[0x81]),
            (127, &[0x7f]),
            (-127, &[0xff]),
            (128, &[0x80, 0x00]),
            (-128, &[0x80, 0x80]),
            (255, &[0xff, 0x00]),
            (-255, &[0xff, 0x80]),
            (256, &[0x00, 0x01]),
            (0x7fff_ffff, &[0xff, 0xff, 0xff, 0x7f]),
            (-0x8000_0000, &[0x00, 0x00, 0x00, 0x80, 0x80]),
            (0xffff_ffff, &[0xff, 0xff, 0xff, 0xff, 0x00]),
        ] {
            assert_eq!(ScriptNum(value).encode(), bytes, "{value}");
            assert_eq!(decode(bytes, true), Ok(value));
        }
        assert_eq!(ScriptNum(i64::MIN).encode(), [0, 0, 0, 0, 0, 0, 0, 0x80, 0x80]);
    }

    #[test]
    fn minimal_only_if_asked() {
        for (bytes, value) in [(&[0x00][..], 0), (&[0x80], 0), (&[0x01, 0x00], 1), (&[0x01, 0x80], -1), (&[0, 0], 0)] {
            assert_eq!(decode(bytes, true), Err(ScriptError::ScriptNum));
            assert_eq!(decode(bytes, false), Ok(value));
        }
    }

    #[test]
    fn size_limit() {
        assert_eq!(ScriptNum::decode(&[1, 2, 3, 4, 5], false, 4), Err(ScriptError::ScriptNum));
        assert_eq!(ScriptNum::decode(&[0xff; 9], false, 100), Err(ScriptError::ScriptNum));
        assert_eq!(ScriptNum::decode(&[0xff; 8], false, 8), Ok(ScriptNum(-i64::MAX)));
    }

    #[test]
    fn truth() {
        for falsehood in [&[][..], &[0], &[0x80], &[0, 0, 0], &[0, 0, 0x80]] {
            assert!(!cast_to_bool(falsehood));
        }
        for truth in [&[1][..], &[0x81], &[0x80, 0], &[0, 0x80, 0], &[0, 1], &[1, 0x80]] {
            assert!(cast_to_bool(truth));
        }
    }

    proptest! {
        #[test]
        fn round_trip(value in -0x7f_ffff_ffff_i64..=0x7f_ffff_ffff) {
            prop_assert_eq!(decode(&ScriptNum(value).encode(), true), Ok(value));
        }

        #[test]
        fn minimal_encodings_are_unique(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            match decode(&bytes, true) {
                Ok(value) => prop_assert_eq!(ScriptNum(value).encode(), bytes),
                Err(_) => prop_assert!(bytes.len() > 5 || ScriptNum(decode(&bytes, false).unwrap()).encode() != bytes),
            }
        }
    }
}
