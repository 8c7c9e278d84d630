//! Where a wallet and the stamper learn of the chain.

use bitcoin::{Block, BlockHash, Transaction, Txid};
use std::sync::Arc;

/// Where a wallet and the stamper learn of the chain and send transactions. Blocking; callers use a blocking thread.
/// `node` implements it in process; a remote node can implement it over RPC.
pub trait ChainSource: Send + Sync {
    /// Tip of the active chain.
    ///
    /// # Errors
    /// The node does not answer.
    fn tip(&self) -> Result<(u32, BlockHash), SourceError>;
    /// Hash of the active chain's block at a height, `None` above the tip.
    ///
    /// # Errors
    /// The node does not answer.
    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError>;
    /// A block by hash.
    ///
    /// # Errors
    /// The node does not answer.
    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError>;
    /// Puts a transaction into the mempool and announces it. Already there counts as done.
    ///
    /// # Errors
    /// Refused, confirmed already, or the node does not answer.
    fn send(&self, tx: &Transaction) -> Result<(), SendError>;
    /// Whether a transaction is in the mempool.
    ///
    /// # Errors
    /// The node does not answer.
    fn in_mempool(&self, txid: &Txid) -> Result<bool, SourceError>;
    /// Lowest fee rate that enters the mempool now, satoshi for 1,000 vbytes.
    ///
    /// # Errors
    /// The node does not answer.
    fn min_fee_rate(&self) -> Result<u64, SourceError>;
}

/// The source could not answer; try again later.
#[derive(Debug, thiserror::Error)]
#[error("the node does not answer: {0}")]
pub struct SourceError(pub String);

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The node refused it; Core's reject reason.
    #[error("refused: {0}")]
    Rejected(String),
    /// Confirmed already.
    #[error("the transaction is confirmed already")]
    AlreadyConfirmed,
    /// The node could not be asked.
    #[error(transparent)]
    Source(#[from] SourceError),
}
