//! Bitcoin's consensus rules, pure: no I/O, no clock, no async, no threads.
//!
//! A caller brings a block or a transaction, a [`coins::CoinView`] of the coins that it spends and the
//! chain [`params::Params`]; the answer is what the block does or the exact rule that it breaks, named
//! by Bitcoin Core's own reject reason.
//!
//! | module | holds |
//! |---|---|
//! | [`params`] | the four networks: genesis, limits, deployments, script-flag exceptions |
//! | [`coins`] | [`coins::Coin`], [`coins::CoinView`] and undo data |
//! | [`error`] | why a block or a transaction is refused |
//! | [`pow`], [`header`] | proof of work, retargets, median time past, header rules |
//! | [`merkle`] | merkle roots and the duplicate-leaf mutation |
//! | [`tx`] | rules of one transaction, with and without its coins |
//! | [`block`], [`connect`] | rules of one block alone, in its context, and against its coins |
//! | [`script`] | the script interpreter, its flags, its errors and sigop counting |
//! | [`sighash`] | signature hashes and what can be computed once a transaction |
//! | [`versionbits`] | what new blocks signal for |
//! | [`signet`] | the solution that blocks of a signet carry |
//!
//! `chain`, `mempool` and `mining` call it. It may depend on nothing of Cairn.

pub mod block;
pub mod coins;
pub mod connect;
pub mod error;
pub mod header;
pub mod merkle;
pub mod params;
pub mod pow;
pub mod script;
pub mod sighash;
pub mod signet;
#[cfg(test)]
mod testing;
pub mod tx;
pub mod versionbits;
