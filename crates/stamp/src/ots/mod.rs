//! The OpenTimestamps proof format, byte for byte as python-opentimestamps reads and writes it.
//!
//! | module | holds |
//! |---|---|
//! | `op` | operations: the edges of a proof |
//! | `attestation` | who says when: the leaves of a proof |
//! | `timestamp` | the tree: building, merging, walking |
//! | `codec` | bytes to tree and back, canonical and never recursive |
//! | `file` | `.ots` files: magic, version, file hash, timestamp |
//! | `merkle` | the trees that put many digests under one |
//! | `error` | everything that can be wrong with a proof |
//!
//! Pure: no I/O, no clock, no randomness. A decoder's time and memory are bounded by its input's length, which is itself
//! bounded by [`MAX_PROOF_SIZE`]; operations are not run while decoding, only the lengths of their results are followed.
//!
//! Two things that Python accepts are refused here: block heights beyond 64 bits, and proofs of more than
//! [`MAX_OPERATIONS`] operations or [`MAX_PROOF_SIZE`] bytes.

mod attestation;
mod codec;
mod error;
mod file;
mod merkle;
mod op;
mod timestamp;

pub use attestation::{Attestation, is_valid_uri};
pub use error::{DecodeError, OtsError};
pub use file::{DetachedTimestampFile, FileHash, HEADER_MAGIC, MAJOR_VERSION};
pub use merkle::{MerkleTree, block_ops, cat_sha256, nonced};
pub use op::Op;
pub use timestamp::{NodeId, Step, Timestamp, Walk};

/// The longest message an operation may take or give, in bytes.
pub const MAX_MESSAGE_LENGTH: usize = 4096;
/// The longest argument of `append` and `prepend`, in bytes.
pub const MAX_ARGUMENT_LENGTH: usize = 4096;
/// The longest chain of operations under a message: Python's recursion limit of 256 levels, the message's own included.
pub const MAX_DEPTH: usize = 255;
/// The longest payload of an attestation, in bytes.
pub const MAX_ATTESTATION_PAYLOAD: usize = 8192;
/// The longest calendar address in a pending attestation, in bytes.
pub const MAX_URI_LENGTH: usize = 1000;
/// The longest proof that is read or written, in bytes.
pub const MAX_PROOF_SIZE: usize = 10_000_000;
/// The most operations in one proof. With [`MAX_MESSAGE_LENGTH`] it bounds the work of running a proof to 256 MiB of
/// hashing; real proofs have a few hundred.
pub const MAX_OPERATIONS: usize = 65_536;
