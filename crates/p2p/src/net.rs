//! Sockets: listening, connecting, and the bytes of each connection.
//!
//! A connection has two tasks: one reads and decodes, one writes. All that they learn goes to the one task that owns the
//! engine, through a bounded queue: a node that cannot keep up reads less.

mod handle;
mod manager;
mod stream;

pub use handle::{AddedNode, Asked, Handle, PeerInfo, Stopped, Totals};
pub use manager::{NetConfig, run};
