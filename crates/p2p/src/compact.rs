//! Compact blocks, version 2 (BIP 152; Core's `blockencodings.cpp`): a block told by short ids of its transactions, most of
//! which whoever receives it has.
//!
//! Core bounds how many short ids share a bucket of its table, which a peer could otherwise fill. The table here is keyed by
//! a secret, so that nobody can choose what shares a bucket, and needs no such bound.

mod extra;
#[cfg(test)]
mod tests;

pub use extra::ExtraPool;

use crate::limits::MAX_COMPACT_BLOCK_TRANSACTIONS;
use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, PrefilledTransaction, ShortId};
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, CompactTarget, Transaction, Wtxid};
use cairn_consensus::block::{WitnessRoot, check_not_mutated, txids};
use cairn_consensus::params::Params;
use std::collections::HashMap;
use std::sync::Arc;

/// The version that Core speaks: with witnesses, short ids of wtxids.
pub const CMPCTBLOCKS_VERSION: u32 = 2;

/// A compact block or its missing transactions cannot be used (Core's `ReadStatus`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactBlockError {
    /// The peer sent what nobody may (`READ_STATUS_INVALID`): it misbehaves.
    #[error("{0}")]
    Invalid(&'static str),
    /// The transactions here do not make the block (`READ_STATUS_FAILED`), by a chance that is nobody's fault: the whole block
    /// is to be asked for.
    #[error("{0}")]
    Failed(&'static str),
}

use CompactBlockError::{Failed, Invalid};

/// The compact block of a block with a coinbase, which alone goes with it whole. `nonce` is to be random: it keeps others
/// from making transactions whose short ids are the same.
pub fn compact_block(block: &Block, nonce: u64) -> HeaderAndShortIds {
    HeaderAndShortIds::from_block(block, nonce, CMPCTBLOCKS_VERSION, &[])
        .expect("the version is known, and no index wrong")
}

/// The transactions of `block` that a `getblocktxn` asks for.
///
/// # Errors
/// An index that the block does not have: the peer misbehaves.
pub fn block_transactions(
    block: &Block,
    request: &BlockTransactionsRequest,
) -> Result<BlockTransactions, CompactBlockError> {
    BlockTransactions::from_request(request, block).map_err(|_| Invalid("getblocktxn with out-of-bounds tx indices"))
}

/// A block of which transactions may be missing (Core's `PartiallyDownloadedBlock`).
#[derive(Debug, Clone)]
pub struct PartiallyDownloadedBlock {
    header: Header,
    hash: BlockHash,
    available: Vec<Option<Arc<Transaction>>>,
}

impl PartiallyDownloadedBlock {
    /// Takes a compact block, and what it needs of the mempool and of `extra`, by wtxid. Which come first of the mempool does not
    /// matter, and each comes once.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new<'a>(
        compact: HeaderAndShortIds,
        mempool: impl IntoIterator<Item = (&'a Wtxid, &'a Arc<Transaction>)>,
        extra: &ExtraPool,
    ) -> Result<Self, CompactBlockError> {
        let HeaderAndShortIds { header, nonce, short_ids, prefilled_txs } = compact;
        let count = short_ids.len() + prefilled_txs.len();
        if header.bits == CompactTarget::from_consensus(0) || count == 0 {
            return Err(Invalid("compact block without a header or transactions"));
        }
        if count > MAX_COMPACT_BLOCK_TRANSACTIONS {
            return Err(Invalid("compact block with more transactions than a block can have"));
        }
        let available = place(prefilled_txs, count)?;
        let mut slots = Slots { available, positions: HashMap::with_capacity(short_ids.len()), found: 0 };
        let mut position = 0;
        for short_id in &short_ids {
            while slots.available[position].is_some() {
                position += 1;
            }
            slots.positions.insert(*short_id, (position as u32, false));
            position += 1;
        }
        if slots.positions.len() != short_ids.len() {
            return Err(Failed("two transactions of the block have the same short id"));
        }
        let keys = ShortId::calculate_siphash_keys(&header, nonce);
        slots.fill_from(keys, mempool);
        slots.fill_from(keys, extra.iter());
        Ok(Self { header, hash: header.block_hash(), available: slots.available })
    }

    /// The block's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The block's hash.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// Whether the transaction at an index of the block is here.
    pub fn is_tx_available(&self, index: usize) -> bool {
        self.available.get(index).is_some_and(Option::is_some)
    }

    /// The `getblocktxn` that asks for what is missing; its indexes are empty if nothing is.
    pub fn missing(&self) -> BlockTransactionsRequest {
        let missing = self.available.iter().enumerate().filter(|(_, tx)| tx.is_none());
        BlockTransactionsRequest { block_hash: self.hash, indexes: missing.map(|(index, _)| index as u64).collect() }
    }

    /// The block, with what was missing, in order. `height` is its own.
    ///
    /// # Errors
    /// Transactions too few or too many ([`CompactBlockError::Invalid`]), or not those that the header commits to
    /// ([`CompactBlockError::Failed`]: a transaction here may have the short id of another one).
    pub fn fill(self, missing: Vec<Transaction>, height: u32, params: &Params) -> Result<Block, CompactBlockError> {
        if missing.len() != self.available.iter().filter(|tx| tx.is_none()).count() {
            return Err(Invalid("not the transactions that were asked for"));
        }
        let mut missing = missing.into_iter();
        let txdata =
            self.available.into_iter().filter_map(|tx| tx.map(Arc::unwrap_or_clone).or_else(|| missing.next()));
        let block = Block { header: self.header, txdata: txdata.collect() };
        match check_not_mutated(&block, &txids(&block), WitnessRoot::of(&block), height, params) {
            Ok(()) => Ok(block),
            Err(_) => Err(Failed("the transactions do not make the block")),
        }
    }
}

/// Puts the transactions that came with a compact block in their places among `count`.
fn place(
    prefilled: Vec<PrefilledTransaction>,
    count: usize,
) -> Result<Vec<Option<Arc<Transaction>>>, CompactBlockError> {
    let mut available = vec![None; count];
    let short_ids = count - prefilled.len();
    let mut next = 0;
    for (i, PrefilledTransaction { idx, tx }) in prefilled.into_iter().enumerate() {
        if tx.input.is_empty() && tx.output.is_empty() {
            return Err(Invalid("empty transaction in a compact block"));
        }
        let index = next + usize::from(idx);
        // Behind it there would be places that neither a short id nor a transaction is for.
        if index > short_ids + i {
            return Err(Invalid("compact block with an index beyond its transactions"));
        }
        available[index] = Some(Arc::new(tx));
        next = index + 1;
    }
    Ok(available)
}

/// Places of a block's transactions, some of them filled.
struct Slots {
    available: Vec<Option<Arc<Transaction>>>,
    /// By short id: the place in the block, and whether a transaction with that id was found already.
    positions: HashMap<ShortId, (u32, bool)>,
    /// Transactions that were found by their short ids.
    found: usize,
}

impl Slots {
    /// Looks for the block's transactions among `pool`.
    fn fill_from<'a>(&mut self, keys: (u64, u64), pool: impl IntoIterator<Item = (&'a Wtxid, &'a Arc<Transaction>)>) {
        for (wtxid, tx) in pool {
            // Later ones might share a short id with those found: too rare to go through all for it.
            if self.found == self.positions.len() {
                break;
            }
            let Some((position, seen)) = self.positions.get_mut(&ShortId::with_siphash_keys(wtxid, keys)) else {
                continue;
            };
            let slot = &mut self.available[*position as usize];
            match slot {
                _ if !*seen => {
                    *seen = true;
                    *slot = Some(tx.clone());
                    self.found += 1;
                }
                // Which of the two it is only the peer knows, and asking for it costs less than a block that does not fit.
                Some(other) if other.compute_wtxid() != *wtxid => {
                    *slot = None;
                    self.found -= 1;
                }
                _ => {}
            }
        }
    }
}
