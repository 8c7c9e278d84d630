//! A gateway between a client that sees every byte and little backends that do what a test says.
//!
//! | module | shows |
//! |---|---|
//! | `harness` | the backends, the client, and a gateway on a port of its own |
//! | `proxying` | what passes through, and what backends are told |
//! | `faults` | backends that fail, and what clients see of it |
//! | `hostile` | clients that mean harm, or do it |
//! | `operations` | `/lb/…`, limits, TLS, the access log, changes while it runs, its end |

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod harness;
mod hostile;
mod operations;
mod proxying;
