//! Nodes that speak with each other, with Bitcoin Core, and with peers that mean no good: whole programs over real sockets.
//!
//! `BITCOIND` names a `bitcoind`; without it the tests beside Bitcoin Core say that they are skipped, and pass.
//! `BCOIND` names a `bcoin`, likewise.
//!
//! | module | shows |
//! |---|---|
//! | `harness`, `nodes`, `bitcoin_core`, `bitcoind` | start the programs, ask them things, stop them whatever happens |
//! | `links`, `spends` | slow and broken links, transactions |
//! | `peer`, `hostile` | a peer that says what a test tells it to, and what a node makes of each attack |
//! | `fields` | JSON-RPC's answers about the network beside Bitcoin Core's |
//! | `core_chain` | chains followed, served and reorganised beside Bitcoin Core |
//! | `core_transactions` | transactions and encrypted connections beside Bitcoin Core |
//! | `bcoin` | chains and transactions beside bcoin |
//! | `namespaces`, `graph` | thirty nodes, cut apart and healed: in network namespaces, and over slow links |
//! | `soak` | ten nodes for as long as one likes |

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bcoin;
mod bitcoin_core;
#[allow(dead_code, reason = "shared with the tests of `cairn-p2p`")]
mod bitcoind;
mod core_chain;
mod core_transactions;
mod fields;
mod graph;
#[path = "../cli/harness.rs"]
#[allow(dead_code, reason = "shared with the tier `cli`, which uses all of it")]
mod harness;
mod hostile;
mod links;
mod namespaces;
mod nodes;
mod peer;
mod soak;
mod spends;
