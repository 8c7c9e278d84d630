//! Sockets: listening, connecting, and the bytes of each connection.
//!
//! A connection has two tasks: one reads and decodes, one writes. All that they learn goes to the one task that owns the
//! engine, through a bounded queue: a node that cannot keep up reads less.
//!
//! | module | holds |
//! |---|---|
//! | `manager` | the task that owns the engine: connections made, taken and let go |
//! | `opener` | outbound connections that nobody asked for by name |
//! | `stream` | one connection |
//! | `handle` | what others ask of the network |

mod handle;
mod manager;
mod opener;
mod stream;

pub use handle::{AddedNode, Asked, Handle, PeerInfo, Stopped, Totals};
pub use manager::{NetConfig, run};
