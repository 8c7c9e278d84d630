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
//! | `handle`, `control` | what others ask of the network |
//! | `name` | names of peers as people write them |

mod control;
mod handle;
mod manager;
mod name;
mod opener;
mod stream;

pub use control::{AddAddressError, AddNodeError, AddressCount, Summary};
pub use handle::{AddedNode, Asked, Handle, PeerInfo, Stopped, Totals};
pub use manager::{NetConfig, run};
pub use name::{NameError, check_name};
