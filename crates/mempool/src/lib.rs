//! Unconfirmed transactions: standardness, fees, replacement (BIP 125 as Core 31 has it: full RBF), selection for blocks.

mod feerate;
mod linearize;
mod pool;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use cairn_chain::{Chain, ChainError, ChainEvent};
use cairn_consensus::coins::Coin;
use cairn_consensus::error::TxReject;
use std::sync::Arc;

/// The height that coins of unconfirmed transactions are given, as in Core.
pub const MEMPOOL_HEIGHT: u32 = 0x7fff_ffff;

/// Limits and rates; defaults are Core 31's.
#[derive(Debug, Clone)]
pub struct MempoolConfig {
    /// Minimum relay fee rate, satoshi for 1,000 virtual bytes.
    pub min_relay_fee_rate: u64,
    /// Incremental fee rate for replacement, satoshi for 1,000 virtual bytes.
    pub incremental_fee_rate: u64,
    /// Bound on memory in bytes.
    pub max_bytes: usize,
    /// Seconds after which a transaction is dropped.
    pub expiry_seconds: u64,
    /// Whether standardness is required (off allows `-acceptnonstdtxn` on regtest).
    pub require_standard: bool,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            min_relay_fee_rate: 100,
            incremental_fee_rate: 100,
            max_bytes: 300_000_000,
            expiry_seconds: 336 * 3600,
            require_standard: true,
        }
    }
}

/// One transaction in the mempool.
#[derive(Debug, Clone)]
pub struct MempoolEntry {
    /// Transaction.
    pub tx: Arc<Transaction>,
    /// Its own fee.
    pub fee: Amount,
    /// Virtual size in vbytes (sigop-adjusted as Core's).
    pub vsize: u64,
    /// Weight.
    pub weight: u64,
    /// Signature operation cost.
    pub sigop_cost: u64,
    /// When it came, seconds since 1970.
    pub time: u64,
    /// Tip height when it came.
    pub height: u32,
    /// Parents in the mempool.
    pub depends: Vec<Txid>,
    /// Children in the mempool.
    pub spent_by: Vec<Txid>,
    /// Ancestors, itself included: count, vsize, fees in satoshi.
    pub ancestors: (u64, u64, u64),
    /// Descendants, itself included: count, vsize, fees in satoshi.
    pub descendants: (u64, u64, u64),
}

/// What accepting a transaction did or would do.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Virtual size.
    pub vsize: u64,
    /// Base fee.
    pub fee: Amount,
    /// Transactions it replaced.
    pub replaced: Vec<Txid>,
}

/// Totals as `getmempoolinfo` reports them.
#[derive(Debug, Clone, Default)]
pub struct MempoolInfo {
    /// Transactions.
    pub size: usize,
    /// Sum of virtual sizes.
    pub bytes: u64,
    /// Estimated memory in bytes.
    pub usage: usize,
    /// Sum of fees in satoshi.
    pub total_fee: u64,
    /// Current minimum fee rate to get in, satoshi for 1,000 vbytes.
    pub min_fee_rate: u64,
}

/// The mempool. `Send + Sync`.
pub struct Mempool {
    _private: (),
}

impl Mempool {
    /// An empty mempool over a chain.
    pub fn new(config: MempoolConfig, chain: Arc<Chain>) -> Mempool {
        let _ = (config, chain);
        todo!()
    }
    /// The limits that it was made with.
    pub fn config(&self) -> &MempoolConfig {
        todo!()
    }
    /// Validates and adds. `now` is seconds since 1970.
    pub fn accept(&self, tx: Transaction, now: u64) -> Result<Accepted, TxReject> {
        let _ = (tx, now);
        todo!()
    }
    /// Validates without adding (`testmempoolaccept`).
    pub fn test_accept(&self, tx: &Transaction, now: u64) -> Result<Accepted, TxReject> {
        let _ = (tx, now);
        todo!()
    }
    /// Follows the chain: removes what a block confirmed or made conflict, returns what a disconnected block held.
    pub fn chain_event(&self, event: &ChainEvent, now: u64) {
        let _ = (event, now);
        todo!()
    }
    /// A transaction by id.
    pub fn get(&self, txid: &Txid) -> Option<MempoolEntry> {
        let _ = txid;
        todo!()
    }
    /// All transaction ids, highest fee rate first.
    pub fn txids(&self) -> Vec<Txid> {
        todo!()
    }
    /// Totals.
    pub fn info(&self) -> MempoolInfo {
        todo!()
    }
    /// A counter that changes whenever the content does.
    pub fn sequence(&self) -> u64 {
        todo!()
    }
    /// The coin at `outpoint` as the mempool sees it: created by a transaction in it, or the chain's, unless spent in it.
    /// The height of a mempool coin is [`MEMPOOL_HEIGHT`].
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let _ = outpoint;
        todo!()
    }
    /// The mempool transaction that spends `outpoint`.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        let _ = outpoint;
        todo!()
    }
    /// Transactions for a block, parents before children, best fee rate first, within weight and sigop limits.
    pub fn select(&self, max_weight: u64, max_sigop_cost: u64) -> Vec<MempoolEntry> {
        let _ = (max_weight, max_sigop_cost);
        todo!()
    }
}
