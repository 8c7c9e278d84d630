//! Block templates (BIP 22, 23, 145) and the proof-of-work search.

mod search;

pub use search::{mine, search_nonces};

use bitcoin::{Amount, Block, Script};
use cairn_chain::Chain;
use cairn_mempool::{Mempool, MempoolEntry};

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

/// A block ready for its proof of work, and what `getblocktemplate` says of it.
#[derive(Debug, Clone)]
pub struct BlockTemplate {
    /// The whole block: coinbase paying the given script, witness commitment, merkle root, minimal valid time.
    pub block: Block,
    /// The block's transactions but the coinbase, in order.
    pub entries: Vec<MempoolEntry>,
    /// Height.
    pub height: u32,
    /// Subsidy and fees.
    pub coinbase_value: Amount,
    /// Least time allowed, seconds since 1970 (median time past + 1, and BIP 94's floor).
    pub min_time: u32,
    /// The witness commitment output's script.
    pub witness_commitment: bitcoin::ScriptBuf,
}

/// Builds a template on the tip. `now` is seconds since 1970; the result has been checked to connect.
pub fn build_template(
    chain: &Chain,
    mempool: &Mempool,
    script: &Script,
    now: u32,
) -> Result<BlockTemplate, MiningError> {
    let _ = (chain, mempool, script, now);
    todo!()
}

/// The same with exactly these transactions instead of the mempool's (`generateblock`).
pub fn build_block_with(
    chain: &Chain,
    transactions: Vec<bitcoin::Transaction>,
    script: &Script,
    now: u32,
) -> Result<Block, MiningError> {
    let _ = (chain, transactions, script, now);
    todo!()
}
