//! Block templates (BIP 22, 23, 145) and the proof-of-work search.

use bitcoin::{Amount, Block, Script, block::Header};
use cairn_chain::Chain;
use cairn_mempool::{Mempool, MempoolEntry};
use std::sync::atomic::AtomicBool;

/// Why no template or block could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiningError {
    /// The search was told to stop.
    #[error("mining was stopped")]
    Stopped,
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

/// Searches nonces `start..=end` for a header at or below its own target, with the midstate kept; `None` when exhausted or stopped.
pub fn search_nonces(header: &Header, start: u32, end: u32, stop: &AtomicBool) -> Option<u32> {
    let _ = (header, start, end, stop);
    todo!()
}

/// Finds the proof of work of a block on one thread, changing nonce, then extra nonce (coinbase and merkle root) as
/// needed. Returns the number of hashes that it took.
pub fn mine(block: &mut Block, stop: &AtomicBool) -> Result<u64, MiningError> {
    let _ = (block, stop);
    todo!()
}
