//! Everything that can be wrong with a proof.

use super::{
    MAX_ARGUMENT_LENGTH, MAX_ATTESTATION_PAYLOAD, MAX_DEPTH, MAX_MESSAGE_LENGTH, MAX_OPERATIONS, MAX_PROOF_SIZE,
    MAX_URI_LENGTH,
};

/// What is wrong with a proof, or with a change to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtsError {
    /// The input is longer than [`MAX_PROOF_SIZE`].
    #[error("the proof has {0} bytes, more than the {MAX_PROOF_SIZE} allowed")]
    ProofTooLarge(usize),
    /// The file does not begin with the magic bytes.
    #[error("not an OpenTimestamps proof: the magic bytes are missing")]
    BadMagic,
    /// The file is of another major version.
    #[error("version {0} of the proof format is not supported, only version 1")]
    UnsupportedVersion(u8),
    /// The file was hashed by something that is no file hash.
    #[error("unknown file hash 0x{0:02x}")]
    UnknownFileHash(u8),
    /// The digest is not as long as the file's hash makes them.
    #[error("the file's digest has {actual} bytes, its hash makes {expected}")]
    DigestLength {
        /// What the hash makes, in bytes.
        expected: usize,
        /// What was given, in bytes.
        actual: usize,
    },
    /// The input ends too early.
    #[error("truncated: {wanted} more bytes needed, {available} left")]
    Truncated {
        /// Bytes needed.
        wanted: usize,
        /// Bytes left.
        available: usize,
    },
    /// Bytes follow a complete proof.
    #[error("{0} bytes follow the end of the proof")]
    TrailingBytes(usize),
    /// A LEB128 number does not fit 64 bits.
    #[error("a number is larger than 64 bits")]
    NumberTooLarge,
    /// A tag that is no operation.
    #[error("unknown operation 0x{0:02x}")]
    UnknownOperation(u8),
    /// `append` or `prepend` of nothing.
    #[error("the operation's argument is empty")]
    EmptyArgument,
    /// `append` or `prepend` of too much.
    #[error("the operation's argument has {0} bytes, more than the {MAX_ARGUMENT_LENGTH} allowed")]
    ArgumentTooLong(u64),
    /// `reverse` or `hexlify` of an empty message.
    #[error("{0} of an empty message")]
    EmptyMessage(&'static str),
    /// A message, or an operation's result, is too long.
    #[error("a message of {0} bytes, more than the {MAX_MESSAGE_LENGTH} allowed")]
    MessageTooLong(usize),
    /// Too many operations follow one another.
    #[error("more than {MAX_DEPTH} operations deep")]
    TooDeep,
    /// Too many operations altogether.
    #[error("more than {MAX_OPERATIONS} operations")]
    TooManyOperations,
    /// An attestation's payload is too long.
    #[error("an attestation of {0} bytes, more than the {MAX_ATTESTATION_PAYLOAD} allowed")]
    AttestationTooLong(u64),
    /// An attestation of unknown kind was given the tag of a known one.
    #[error("an unknown attestation with the tag of a known one")]
    KnownTag,
    /// Bytes follow the end of a known attestation's payload.
    #[error("{0} bytes follow the end of the attestation")]
    TrailingPayload(usize),
    /// A calendar's address is too long.
    #[error("a calendar address of {0} bytes, more than the {MAX_URI_LENGTH} allowed")]
    UriTooLong(u64),
    /// A calendar's address has a character that is not allowed there.
    #[error("the calendar address has the byte 0x{0:02x}, which is not allowed there")]
    UriCharacter(u8),
    /// A branch ends without an attestation.
    #[error("a timestamp without attestations proves nothing and cannot be written")]
    Empty,
    /// Two timestamps to be merged are for different messages.
    #[error("the timestamps are for different messages")]
    DifferentMessages,
    /// Two proofs to be merged are for files hashed in different ways.
    #[error("the proofs use different file hashes")]
    DifferentFileHashes,
    /// A Merkle tree of nothing.
    #[error("a Merkle tree needs at least one leaf")]
    NoLeaves,
    /// A leaf that the Merkle tree does not have, or a message that the transaction does not contain.
    #[error("the message is not in the tree")]
    NotInTree,
}

/// What is wrong with a proof that was read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error} (at byte {offset})")]
pub struct DecodeError {
    /// Where, in bytes from the start of the input.
    pub offset: usize,
    /// What.
    #[source]
    pub error: OtsError,
}
