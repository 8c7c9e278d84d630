//! Nodes that speak with each other, with Bitcoin Core, and with peers that mean no good: whole programs over real sockets.
//!
//! `BITCOIND` names a `bitcoind`; without it the tests beside Bitcoin Core say that they are skipped, and pass.
//!
//! | module | shows |
//! |---|---|
//! | `harness`, `nodes`, `bitcoin_core`, `bitcoind` | start the programs, ask them things, stop them whatever happens |
//! | `links`, `spends` | slow and broken links, transactions |
//! | `peer`, `hostile` | a peer that says what a test tells it to, and what a node makes of each attack |
//! | `core_chain` | chains followed, served and reorganised beside Bitcoin Core |

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bitcoin_core;
#[allow(dead_code, reason = "shared with the tests of `cairn-p2p`")]
mod bitcoind;
mod core_chain;
#[path = "../cli/harness.rs"]
#[allow(dead_code, reason = "shared with the tier `cli`, which uses all of it")]
mod harness;
mod hostile;
mod links;
mod nodes;
mod peer;
mod spends;
