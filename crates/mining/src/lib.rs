//! Block templates (BIP 22, 23, 145), the proof-of-work search, the solutions of a signet's blocks (BIP
//! 325), and when blocks are due.
//!
//! `node` mines with it and `api` shows its templates. It takes block contents from `mempool`, asks `chain` whether the
//! block would connect, and changes neither: whoever mines a block gives it to the chain. No threads of its own.

pub mod pace;
mod search;
pub mod signet;
mod template;

pub use search::{mine, mine_sealed, search_nonces};
pub use template::{BlockTemplate, build_block_with, build_template};

/// Why no template or block could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiningError {
    /// The search was told to stop.
    #[error("mining was stopped")]
    Stopped,
    /// The block has no coinbase transaction to carry an extra nonce.
    #[error("the block has no coinbase transaction: build it with build_template or build_block_with")]
    NoCoinbase,
    /// All nonces were tried and the coinbase's scriptSig has no room for an extra nonce.
    #[error("the coinbase's scriptSig has no room for an extra nonce: leave at least 9 of its 100 bytes free")]
    CoinbaseFull,
    /// The signet's challenge asks for a solution, and the node has no key.
    #[error("the blocks of this signet must be signed: give the key of its challenge (--signet-key, signet.key)")]
    NoSignetKey,
    /// A block that the key could not sign.
    #[error("the block cannot be signed: {0}")]
    Unsigned(String),
    /// The chain refused or failed.
    #[error(transparent)]
    Chain(#[from] cairn_chain::ChainError),
}
