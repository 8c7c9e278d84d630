//! A BIP 86 descriptor wallet (BDK) whose state lives in the store: earns block rewards, pays for stamps.

mod payer;

pub use payer::{Payer, PaymentRequest, Previous};

use bitcoin::{Address, Amount, Block, BlockHash, OutPoint, Transaction, Txid};
use std::sync::Arc;

/// Where a wallet and the stamper learn of the chain and send transactions. Blocking; callers use a blocking thread.
/// `node` implements it in process; a remote node can implement it over RPC.
pub trait ChainSource: Send + Sync {
    /// Tip of the active chain.
    fn tip(&self) -> Result<(u32, BlockHash), SourceError>;
    /// Hash of the active chain's block at a height, `None` above the tip.
    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError>;
    /// A block by hash.
    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError>;
    /// Puts a transaction into the mempool and announces it. Already there counts as done.
    fn send(&self, tx: &Transaction) -> Result<(), SendError>;
    /// Whether a transaction is in the mempool.
    fn in_mempool(&self, txid: &Txid) -> Result<bool, SourceError>;
    /// Lowest fee rate that enters the mempool now, satoshi for 1,000 vbytes.
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

/// Errors of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// Not enough spendable coins.
    #[error(
        "not enough coins: {needed} needed, {available} spendable: mine {blocks} blocks or send coins to the wallet"
    )]
    InsufficientFunds {
        /// Needed.
        needed: Amount,
        /// Spendable now.
        available: Amount,
        /// A hint.
        blocks: u32,
    },
    /// The wallet is encrypted and no or a wrong passphrase was given.
    #[error("the wallet is encrypted: give its passphrase in CAIRN_WALLET__PASSPHRASE")]
    Passphrase,
}

/// Balance in satoshi by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Spendable now.
    pub confirmed: Amount,
    /// Ours, unconfirmed, from ourselves.
    pub trusted_pending: Amount,
    /// Unconfirmed from others.
    pub untrusted_pending: Amount,
    /// Coinbase below 100 confirmations.
    pub immature: Amount,
}

/// A signed transaction not yet recorded: record `changes` in the same database transaction that records the payment, then send.
#[derive(Debug, Clone)]
pub struct BuiltTransaction {
    /// Signed.
    pub tx: Transaction,
    /// Fee.
    pub fee: Amount,
    /// Coins it spends.
    pub inputs: Vec<OutPoint>,
    /// Serialised wallet change set (JSON) to append to the wallet's log.
    pub changes: Option<Vec<u8>>,
}

/// An address of ours. (More in the implementation.)
pub type WalletAddress = Address;
