//! What callers see of the mempool.

use bitcoin::{Amount, Transaction, Txid, Wtxid};
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
    /// Whether the node keeps the mempool in a file while it is not running.
    pub persist: bool,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            min_relay_fee_rate: 100,
            incremental_fee_rate: 100,
            max_bytes: 300_000_000,
            expiry_seconds: 336 * 3600,
            require_standard: true,
            persist: true,
        }
    }
}

/// One transaction in the mempool.
#[derive(Debug, Clone)]
pub struct MempoolEntry {
    /// Transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// Its own fee.
    pub fee: Amount,
    /// Its fee with what an operator added or took, satoshi: what policy and selection go by.
    pub modified_fee: i64,
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
    /// Ancestors, itself included: count, vsize, modified fees in satoshi.
    pub ancestors: (u64, u64, i64),
    /// Descendants, itself included: count, vsize, modified fees in satoshi.
    pub descendants: (u64, u64, i64),
    /// Sigop-adjusted weight of what it is mined together with, itself included.
    pub chunk_weight: u64,
    /// Modified fees of what it is mined together with, itself included, satoshi.
    pub chunk_fee: i64,
    /// It comes from this node, and no peer has asked for it yet.
    pub unbroadcast: bool,
}

/// Transactions that are mined together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolChunk {
    /// Modified fees, satoshi.
    pub fee: i64,
    /// Sigop-adjusted weight.
    pub weight: u64,
    /// Parents before children.
    pub txids: Vec<Txid>,
}

/// What operators have added to a transaction's fee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prioritised {
    /// The transaction.
    pub txid: Txid,
    /// What was added, satoshi.
    pub fee_delta: i64,
    /// The sum with its fee, satoshi, if it is in the mempool.
    pub modified_fee: Option<i64>,
}

/// What relay needs to know of a transaction in the mempool (Core's `TxMempoolInfo`).
#[derive(Debug, Clone)]
pub struct RelayEntry {
    /// Transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// Its own fee; over `vsize` it is what a peer's `feefilter` is compared with.
    pub fee: Amount,
    /// Virtual size in vbytes (sigop-adjusted as Core's).
    pub vsize: u64,
    /// When it came, seconds since 1970.
    pub time: u64,
    /// [`Mempool::sequence`](crate::Mempool::sequence) when it came; zero when a disconnected block returned it.
    pub sequence: u64,
}

/// What accepting a transaction did or would do.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Virtual size.
    pub vsize: u64,
    /// Base fee.
    pub fee: Amount,
    /// The rate by which it was judged, satoshi for 1,000 vbytes: with what operators have added to fees, and of all its
    /// package if it came as one.
    pub effective_rate: u64,
    /// Whose fees and sizes are in that rate.
    pub effective_includes: Vec<Wtxid>,
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
    /// Lowest fee rate that gets in, satoshi for 1,000 vbytes, as of the latest block or transaction.
    pub min_fee_rate: u64,
    /// Transactions of this node that no peer has asked for yet.
    pub unbroadcast: usize,
}
