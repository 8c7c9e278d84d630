//! What the client commands share.
//!
//! | module | holds |
//! |---|---|
//! | `http` | requests with every limit set |
//! | `calendar` | calendars, and which of them may be asked |
//! | `headers` | block headers from a Bitcoin node or a Cairn server |
//! | `files` | hashing in constant memory, proofs read and written whole or not at all |
//! | `time` | seconds since 1970 as people read them |

pub(crate) mod calendar;
pub(crate) mod files;
pub(crate) mod headers;
pub(crate) mod http;
#[cfg(test)]
pub(crate) mod test_server;
pub(crate) mod time;
