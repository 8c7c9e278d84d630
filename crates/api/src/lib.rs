//! Every HTTP surface: REST, the OpenTimestamps calendar, events, metrics, and Bitcoin Core's JSON-RPC.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what an operator may set |
//! | [`keys`] | keys: made, kept and compared |
//! | [`rpc`] | JSON-RPC |
//!
//! The binary boots it. It has no logic: it authenticates, validates, calls a room and renders. It may not know SQL,
//! and it may not block the event loop: what reads disks or validates goes to blocking threads.

pub mod config;
pub mod keys;
pub mod rpc;
