//! Unconfirmed transactions: standardness, fees, replacement (full RBF as Core 31 has it), selection for blocks.
//!
//! `node` owns it and feeds it the chain's events; `mining` takes block contents from it, `api` and the wallet read it.
//! Consensus rules are `consensus`'s, coins are `chain`'s: here is only policy, and the order in which all is asked. It
//! keeps nothing on disk, knows no peers, and may never call a writing method of the chain.
//!
//! | module | holds |
//! |---|---|
//! | `mempool` | [`Mempool`]: the lock, what callers do, selection |
//! | `accept` | Core's `MemPoolAccept`: every check of one transaction, in its order |
//! | `policy` | standardness, replacement, version 3 topology |
//! | `pool` | the transactions and their indexes; clusters |
//! | `linearize` | the best order of a cluster, exactly |
//! | `feerate` | fees over sizes, feerate diagrams |
//! | `limit` | expiry, eviction, the rolling minimum fee rate |
//! | `relay` | what peers ask: is it here, in which order is it announced |
//! | `reorg` | following the chain |

mod accept;
mod feerate;
mod limit;
mod linearize;
mod mempool;
mod policy;
mod pool;
mod relay;
mod reorg;
mod types;

pub use mempool::{BLOCK_MIN_FEE_RATE, Mempool};
pub use types::{Accepted, MEMPOOL_HEIGHT, MempoolConfig, MempoolEntry, MempoolInfo, RelayEntry};
