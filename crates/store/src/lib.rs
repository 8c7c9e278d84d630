//! SQL for everyone: SQLite (WAL) or PostgreSQL behind one interface. The only room that knows SQL.
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | what can go wrong, one cause each, with its remedy |
//! | [`options`] | how a database is opened |
//! | [`store`](Store) | opening, pools, transactions |
//! | `migrations` | the schema's versions, one text a dialect; applied at start by one process at a time |
//! | `meta` | small values kept by name (keys, watermarks) |
//! | [`wallet`] | keys, coins and transactions of the wallets |
//! | [`stamps`] | the calendar's journal, the stamping rounds and their transactions |
//! | [`stamp_index`] | sorted runs that find a digest's batch |
//! | [`changes`] | news of what other processes wrote |
//! | [`tasks`] | work that is queued, claimed and acknowledged |
//! | [`leases`] | leases with a fence: who may do what only one process may do |
//! | [`pools`](PoolStatistics) | pools of connections, and who waits for one |
//! | [`replica`](ReplicaStatus) | reads from a streaming replica |
//! | [`cache`] | values that can be computed anew, in memory, on Redis or in a table |
//! | [`redis`](Redis) | Redis by URL, and what happens while it is away |
//! | [`limits`] | how often a client may ask |
//! | `testing` | a private PostgreSQL server for tests; only with the feature of that name |
//!
//! Called by `wallet`, `stamp`, `jobs` and `api`. SQL stays in here: other rooms call the typed functions of the
//! repositories. A function that takes part in a larger transaction is a method of [`Transaction`]; one that only
//! reads is a method of [`Store`].
//!
//! A repository writes one SQL text with `$1` placeholders for both databases; columns are `BIGINT`, `BYTEA`/`BLOB` and
//! `TEXT` only. PostgreSQL works behind PgBouncer in transaction mode: every statement runs inside an explicit transaction,
//! unnamed, and no session state is kept.

pub mod cache;
pub mod changes;
pub mod error;
pub mod leases;
pub mod limits;
mod meta;
mod migrations;
pub mod options;
mod pools;
mod redis;
mod replica;
pub mod stamp_index;
pub mod stamps;
mod store;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
mod value;
pub mod wallet;

pub use self::redis::{Redis, RedisState};
pub use cache::Cache;
pub use error::StoreError;
pub use leases::Lease;
pub use limits::{Decision, Quota, RateLimiter, client_key};
pub use options::StoreOptions;
pub use pools::{PoolStatistics, Role};
pub use replica::ReplicaStatus;
pub use store::{Dialect, Store, Transaction};
