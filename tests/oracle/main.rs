//! The same blocks to our engine and to Bitcoin Core's: verdicts, reasons and tips agree.
//!
//! | module | shows |
//! |---|---|
//! | `engines` | a pair of engines that is given the same blocks |
//! | `coins` | coins of every kind of output, and transactions that spend them |
//! | `catalogue` | one mutation for each rule, with Core's reason |
//! | `scripts` | one spend for each way in which a script fails |
//! | `random` | mutations at random, counted by reason |
//! | `trees` | branches that compete, given in any order |
//!
//! `cargo nextest run -p cairn --features oracle --test oracle`. `CAIRN_ORACLE_BLOCKS` says how many random mutants,
//! `CAIRN_ORACLE_SEED` which.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod catalogue;
mod coins;
mod engines;
mod random;
mod scripts;
mod trees;
