//! Unconfirmed transactions: standardness, fees, replacement (full RBF as Core 31 has it), selection for blocks.
//!
//! `node` owns it and feeds it the chain's events; `mining` takes block contents from it, `api` and the wallet read it.
//! Consensus rules are `consensus`'s, coins are `chain`'s: here is only policy, and the order in which all is asked. It
//! keeps one file, when its owner says so, knows no peers, and may never call a writing method of the chain.
//!
//! | module | holds |
//! |---|---|
//! | `mempool` | [`Mempool`]: the lock, what callers do, selection |
//! | `accept` | Core's `MemPoolAccept`: every check of a transaction, in its order |
//! | `inspect` | what operators see: entries, clusters, chunks |
//! | `operator` | what operators change: fees as this node sees them, what is still to be told |
//! | `package` | several transactions at once, a child paying for its parents |
//! | `persist` | `mempool.dat` |
//! | `policy` | standardness, replacement, version 3 topology |
//! | `pool` | the transactions and their indexes; clusters |
//! | `linearize` | the best order of a cluster, exactly |
//! | `feerate` | fees over sizes, feerate diagrams |
//! | `limit` | expiry, eviction, the rolling minimum fee rate |
//! | `relay` | what peers ask: is it here, in which order is it announced |
//! | `reorg` | following the chain |

mod accept;
mod feerate;
mod inspect;
mod limit;
mod linearize;
mod mempool;
mod operator;
mod package;
mod persist;
mod policy;
mod pool;
mod relay;
mod reorg;
mod types;

pub use mempool::{BLOCK_MIN_FEE_RATE, Mempool};
pub use operator::DustNotPrioritised;
pub use package::{PackageResult, PackageTxResult};
pub use persist::{ImportOptions, Imported, PersistError, set_aside};
pub use policy::package::{MAX_PACKAGE_COUNT, PackageReject, PackageRejectKind, is_child_with_parents_tree};
pub use policy::standard::MAX_OP_RETURN_RELAY;
pub use pool::{CLUSTER_COUNT_LIMIT, CLUSTER_VSIZE_LIMIT};
pub use types::{
    Accepted, MEMPOOL_HEIGHT, MempoolChunk, MempoolConfig, MempoolEntry, MempoolInfo, Prioritised, RelayEntry,
};
