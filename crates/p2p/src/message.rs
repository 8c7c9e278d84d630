//! Messages to and from bytes.
//!
//! A payload is read as Core's `ProcessMessage` reads it: what it forgives (bytes after the end, short forms of
//! `version`, any text for a user agent) is forgiven here, and what it refuses is refused. The types are the `bitcoin`
//! crate's. Nothing is allocated on the word of a count: the bytes must be there.
//!
//! The room that holds a peer's state asks first whether a message may come now: Core drops some unread (a `tx` during
//! initial download) and disconnects for others (a `filterload` that was not offered), whatever their payload is.

mod addrv2;
mod bytes;
mod command;
mod decode;
mod frame;
#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;
mod walk;

pub use command::Command;
pub use decode::{DecodeError, decode, is_feature};
pub use frame::{Frame, encode};
