//! Whether bytes are transactions, before memory is taken for them.
//!
//! The `bitcoin` crate takes memory for as many witness elements as a count announces, and lets a transaction without
//! inputs say that it has witnesses. Here every count must be borne out by bytes, and Core's `UnserializeTransaction`
//! decides what is a transaction.

use super::DecodeError;
use super::bytes::{any_compact_size, array, compact_size, take};

/// Goes over one transaction, and leaves `input` after it.
pub(super) fn walk_transaction(input: &mut &[u8]) -> Result<(), DecodeError> {
    take(input, 4)?; // version
    let mut inputs = compact_size(input)?;
    let has_witness = inputs == 0;
    if has_witness {
        // BIP 144: no inputs, then a flag; 1 is the only one there is.
        if array(input)? != [1] {
            return Err(DecodeError::malformed("a transaction has no inputs or unknown optional data"));
        }
        inputs = compact_size(input)?;
    }
    for _ in 0..inputs {
        take(input, 36)?; // outpoint
        run(input)?;
        take(input, 4)?; // sequence
    }
    for _ in 0..compact_size(input)? {
        take(input, 8)?; // amount
        run(input)?;
    }
    if has_witness {
        let mut any = false;
        for _ in 0..inputs {
            let elements = compact_size(input)?;
            any |= elements > 0;
            for _ in 0..elements {
                run(input)?;
            }
        }
        if !any {
            return Err(DecodeError::malformed("superfluous witness record"));
        }
    }
    take(input, 4)?; // lock time
    Ok(())
}

/// Goes over a list of transactions with its count.
pub(super) fn walk_transactions(input: &mut &[u8]) -> Result<(), DecodeError> {
    for _ in 0..compact_size(input)? {
        walk_transaction(input)?;
    }
    Ok(())
}

/// Goes over a compact block (BIP 152). Its transactions must be countable in 16 bits.
pub(super) fn walk_compact_block(input: &mut &[u8]) -> Result<(), DecodeError> {
    take(input, 80 + 8)?; // header, nonce
    let short_ids = compact_size(input)?;
    take(input, short_ids * 6)?;
    let prefilled = compact_size(input)?;
    if short_ids + prefilled > usize::from(u16::MAX) {
        return Err(DecodeError::malformed("indexes overflowed 16 bits"));
    }
    for _ in 0..prefilled {
        if any_compact_size(input)? > u16::MAX.into() {
            return Err(DecodeError::malformed("CompactSize exceeds limit of type"));
        }
        walk_transaction(input)?;
    }
    Ok(())
}

/// Goes over bytes that follow their length.
fn run(input: &mut &[u8]) -> Result<(), DecodeError> {
    let length = compact_size(input)?;
    take(input, length)?;
    Ok(())
}
