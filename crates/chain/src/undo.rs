//! Core's `CBlockUndo` serialisation and its checksum.

use crate::compress::{Malformed, read_compact_size, read_undo_coin, write_compact_size, write_undo_coin};
use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use cairn_consensus::coins::{BlockUndo, TxUndo};

/// Serialises undo data as Core does.
pub(crate) fn encode(undo: &BlockUndo) -> Vec<u8> {
    let mut out = Vec::new();
    write_compact_size(&mut out, undo.0.len() as u64);
    for tx in &undo.0 {
        write_compact_size(&mut out, tx.0.len() as u64);
        for coin in &tx.0 {
            write_undo_coin(&mut out, coin);
        }
    }
    out
}

/// Reads [`encode`]'s form; nothing may follow it.
pub(crate) fn decode(mut input: &[u8]) -> Result<BlockUndo, Malformed> {
    let transactions = read_compact_size(&mut input)?;
    // No capacity from a length that the bytes merely claim.
    let mut undo = BlockUndo::default();
    for _ in 0..transactions {
        let coins = read_compact_size(&mut input)?;
        let mut tx = TxUndo::default();
        for _ in 0..coins {
            tx.0.push(read_undo_coin(&mut input)?);
        }
        undo.0.push(tx);
    }
    if input.is_empty() { Ok(undo) } else { Err(Malformed) }
}

/// Double SHA-256 of the previous block's hash and the undo data, which binds undo data to its block.
pub(crate) fn checksum(prev: &BlockHash, undo: &[u8]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(prev.as_byte_array());
    engine.input(undo);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, ScriptBuf, TxOut};
    use cairn_consensus::coins::Coin;

    #[test]
    fn undo_data_comes_back_and_nothing_may_follow() {
        let output = TxOut { value: Amount::from_sat(5_000_000_000), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
        let coin = Coin { output, height: 7, coinbase: true };
        let undo = BlockUndo(vec![TxUndo(vec![coin.clone(), coin]), TxUndo::default()]);
        let mut bytes = encode(&undo);
        assert_eq!(decode(&bytes), Ok(undo));
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(Malformed));
        assert_eq!(decode(&bytes[..4]), Err(Malformed));
    }
}
