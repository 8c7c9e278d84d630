//! The load balancer: what clients reach, in front of stateless API processes.
//!
//! | module | holds |
//! |---|---|
//! | `config` | what an operator may set |
//! | `server` | a gateway from its start to its end |
//! | `core` | what all parts of a gateway share |
//! | `listener` | connections of clients: accepted, bounded, dealt to the workers |
//! | `connection` | one of them, with the limits that Pingora does not keep |
//! | `proxy` | a request's way to a backend and back; retries |
//! | `guard` | what is refused of a request's head |
//! | `forwarded` | who the client is, and what backends are told about it |
//! | `pool`, `backend` | which backends there are, how each does, and whether it may be asked |
//! | `strategy` | how one of them is chosen |
//! | `discovery` | backends by address and by name |
//! | `health` | active checks |
//! | `share` | the strategy that gateways share through the database |
//! | `admin`, `metrics` | `/lb/…` and `/metrics` |
//! | `access_log`, `histogram`, `problem`, `tls` | as they say |
//!
//! The binary boots it with [`Gateway::start`]. HTTP itself is Pingora's: parsing, framing, streaming, connections to
//! backends. Pingora's `Server` is not used, since it would own the process: its signals, its threads, its end. Everything
//! that a client or a backend sends is untrusted; nothing here may panic on it.

mod access_log;
mod admin;
mod backend;
mod config;
mod connection;
mod core;
mod discovery;
mod forwarded;
mod guard;
mod health;
mod histogram;
mod listener;
mod metrics;
mod pool;
mod problem;
mod proxy;
mod server;
mod share;
mod strategy;
mod tls;

pub use config::{BackendSpec, Config, ConfigError, LogFormat};
pub use core::Keys;
pub use server::{Gateway, GatewayError};
pub use share::Database;
pub use strategy::{Strategy, UnknownStrategy};
pub use tls::TlsError;
