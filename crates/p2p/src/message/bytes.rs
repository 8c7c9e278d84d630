//! Numbers and runs of bytes taken from the front of a slice.

use super::DecodeError;
use bitcoin::consensus::Decodable;

/// Core's `MAX_SIZE`: no compact size may be larger.
const MAX_SIZE: u64 = 0x0200_0000;

/// The error of a payload that ends before what it announces.
pub(super) fn ends_early() -> DecodeError {
    DecodeError::malformed("it ends early")
}

/// The next `count` bytes.
pub(super) fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, rest) = input.split_at_checked(count).ok_or_else(ends_early)?;
    *input = rest;
    Ok(taken)
}

/// The next `N` bytes.
pub(super) fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or_else(ends_early)?;
    *input = rest;
    Ok(*taken)
}

/// A number of one to nine bytes, in its shortest form only.
pub(super) fn any_compact_size(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let (value, least) = match array::<1>(input)?[0] {
        253 => (u16::from_le_bytes(array(input)?).into(), 253),
        254 => (u32::from_le_bytes(array(input)?).into(), 0x1_0000),
        255 => (u64::from_le_bytes(array(input)?), 0x1_0000_0000),
        small => (small.into(), 0),
    };
    if value < least { Err(DecodeError::malformed("a compact size is not in its shortest form")) } else { Ok(value) }
}

/// A compact size that counts something: at most Core's `MAX_SIZE`.
pub(super) fn compact_size(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let value = any_compact_size(input)?;
    if value > MAX_SIZE {
        return Err(DecodeError::malformed("a compact size is too large"));
    }
    Ok(usize::try_from(value).expect("at most MAX_SIZE"))
}

/// What the `bitcoin` crate reads without asking for more memory than there are bytes.
pub(super) fn read<T: Decodable>(input: &mut &[u8]) -> Result<T, DecodeError> {
    T::consensus_decode_from_finite_reader(input).map_err(|error| DecodeError::Malformed(error.to_string()))
}
