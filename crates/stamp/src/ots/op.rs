//! Operations: the edges of a proof.

use super::{MAX_ARGUMENT_LENGTH, MAX_MESSAGE_LENGTH, OtsError};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;

/// An operation: takes a message, gives another.
///
/// Declared in the order of their tags, so that the derived order is the canonical one: by tag, then by argument.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// SHA-1, 20 bytes. Collisions do no harm here: both files existed.
    Sha1,
    /// RIPEMD-160, 20 bytes.
    Ripemd160,
    /// SHA-256, 32 bytes.
    Sha256,
    /// Keccak-256 as before FIPS 202, 32 bytes.
    Keccak256,
    /// The message, then the argument (1 to 4,096 bytes).
    Append(Vec<u8>),
    /// The argument (1 to 4,096 bytes), then the message.
    Prepend(Vec<u8>),
    /// The message's bytes in reverse order.
    Reverse,
    /// The message in lower-case hexadecimal.
    Hexlify,
}

impl Op {
    /// The byte that stands for the operation in a proof.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Sha1 => 0x02,
            Self::Ripemd160 => 0x03,
            Self::Sha256 => 0x08,
            Self::Keccak256 => 0x67,
            Self::Append(_) => 0xf0,
            Self::Prepend(_) => 0xf1,
            Self::Reverse => 0xf2,
            Self::Hexlify => 0xf3,
        }
    }

    /// The operation's name, as the `ots` client prints it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Ripemd160 => "ripemd160",
            Self::Sha256 => "sha256",
            Self::Keccak256 => "keccak256",
            Self::Append(_) => "append",
            Self::Prepend(_) => "prepend",
            Self::Reverse => "reverse",
            Self::Hexlify => "hexlify",
        }
    }

    /// The argument of `append` and `prepend`.
    pub fn argument(&self) -> Option<&[u8]> {
        match self {
            Self::Append(argument) | Self::Prepend(argument) => Some(argument),
            _ => None,
        }
    }

    /// How many bytes the result for a message of `length` bytes has: everything that can go wrong, without doing it.
    ///
    /// # Errors
    /// Empty or too long arguments, messages and results.
    pub fn result_length(&self, length: usize) -> Result<usize, OtsError> {
        if length > MAX_MESSAGE_LENGTH {
            return Err(OtsError::MessageTooLong(length));
        }
        let result = match self {
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha256 | Self::Keccak256 => 32,
            Self::Append(argument) | Self::Prepend(argument) => {
                if argument.is_empty() {
                    return Err(OtsError::EmptyArgument);
                }
                if argument.len() > MAX_ARGUMENT_LENGTH {
                    return Err(OtsError::ArgumentTooLong(argument.len() as u64));
                }
                length + argument.len()
            }
            // An empty result would let a proof go in circles.
            Self::Reverse | Self::Hexlify if length == 0 => return Err(OtsError::EmptyMessage(self.name())),
            Self::Reverse => length,
            Self::Hexlify => length * 2,
        };
        if result > MAX_MESSAGE_LENGTH { Err(OtsError::MessageTooLong(result)) } else { Ok(result) }
    }

    /// Applies the operation.
    ///
    /// # Errors
    /// As [`Op::result_length`].
    pub fn apply(&self, message: &[u8]) -> Result<Vec<u8>, OtsError> {
        self.result_length(message.len())?;
        Ok(match self {
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Ripemd160 => ripemd::Ripemd160::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Keccak256 => sha3::Keccak256::digest(message).to_vec(),
            Self::Append(argument) => [message, argument].concat(),
            Self::Prepend(argument) => [argument, message].concat(),
            Self::Reverse => message.iter().rev().copied().collect(),
            Self::Hexlify => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                message.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
            }
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(argument) = self.argument() {
            f.write_str(" ")?;
            for byte in argument {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn hashes_match_published_vectors() {
        let abc = |op: Op| hex(&op.apply(b"abc").unwrap());
        assert_eq!(abc(Op::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(abc(Op::Ripemd160), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
        assert_eq!(abc(Op::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(abc(Op::Keccak256), "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
        assert_eq!(abc(Op::Hexlify), hex(b"616263"));
        assert_eq!(abc(Op::Reverse), hex(b"cba"));
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let long = vec![7; 4096];
        assert_eq!(Op::Hexlify.result_length(2048), Ok(4096));
        assert_eq!(Op::Hexlify.result_length(2049), Err(OtsError::MessageTooLong(4098)));
        assert_eq!(Op::Append(long.clone()).result_length(0), Ok(4096));
        assert_eq!(Op::Append(long).result_length(1), Err(OtsError::MessageTooLong(4097)));
        assert_eq!(Op::Prepend(vec![]).result_length(1), Err(OtsError::EmptyArgument));
        assert_eq!(Op::Prepend(vec![0; 4097]).result_length(1), Err(OtsError::ArgumentTooLong(4097)));
        assert_eq!(Op::Reverse.result_length(0), Err(OtsError::EmptyMessage("reverse")));
        assert_eq!(Op::Hexlify.result_length(0), Err(OtsError::EmptyMessage("hexlify")));
        assert_eq!(Op::Sha256.result_length(0), Ok(32));
        assert_eq!(Op::Sha256.result_length(4097), Err(OtsError::MessageTooLong(4097)));
    }

    #[test]
    fn order_is_by_tag_then_argument() {
        let ops = [
            Op::Sha1,
            Op::Ripemd160,
            Op::Sha256,
            Op::Keccak256,
            Op::Append(vec![1]),
            Op::Append(vec![1, 0]),
            Op::Append(vec![2]),
            Op::Prepend(vec![0]),
            Op::Reverse,
            Op::Hexlify,
        ];
        assert!(ops.windows(2).all(|pair| pair[0] < pair[1] && pair[0].tag() <= pair[1].tag()));
    }
}
