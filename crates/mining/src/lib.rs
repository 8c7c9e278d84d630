//! Block templates (BIP 22, 23, 145), the proof-of-work search, and when blocks are due.
//!
//! `node` mines with it and `api` shows its templates. It takes block contents from `mempool`, asks `chain` whether the
//! block would connect, and changes neither: whoever mines a block gives it to the chain. No threads of its own.

pub mod pace;
mod search;
mod template;

pub use search::{mine, search_nonces};
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
    /// The chain refused or failed.
    #[error(transparent)]
    Chain(#[from] cairn_chain::ChainError),
}
