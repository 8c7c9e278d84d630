//! The program as a user starts it: one process, its HTTP and JSON-RPC, its exit codes and what it prints.
//!
//! | module | shows |
//! |---|---|
//! | `harness` | starts `cairn up` or `cairn node` in a directory of its own, asks it things, stops it |
//! | `stamping` | stamp, wait, verify; a flipped byte in the file or the proof |
//! | `ots_client` | the `ots` client from PyPI against our calendar and node, and our proofs in its hands |
//! | `hashes` | API processes and workers over one database, killed and paused |
//! | `kill` | SIGKILL at random moments under concurrent clients |
//! | `reorganisation` | a stamp on a branch that loses |
//! | `bad_input` | each bad input has its clear error and loses nothing |
//! | `block_files` | an index that is lost or does not match its files, and pruning |
//! | `wallet` | a payment outlives the process that sent it |
//! | `gateway` | `cairn gateway` in front of API processes that come and go |
//! | `node` | `cairn node`: alone, as a miner, with the HTTP API |
//! | `signet` | a signet made here, mined, followed, and judged by a bitcoind |
//! | `network` | peers by JSON-RPC and HTTP, readiness, bans |
//! | `lifecycle` | locks, ports, signals, data directories of others |

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
#[path = "../network/bitcoind.rs"]
#[allow(dead_code, reason = "shared with the tier `network`, which uses all of it")]
mod bitcoind;
mod block_files;
mod gateway;
mod harness;
mod hashes;
mod kill;
mod lifecycle;
mod network;
mod node;
mod ots_client;
mod reorganisation;
mod signet;
mod stamping;
mod wallet;
