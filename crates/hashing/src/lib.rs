//! Hashes as tasks: algorithms, their limits, and what is computed once.
//!
//! | module | holds |
//! |---|---|
//! | [`algorithm`] | the algorithms and how each is computed |
//! | [`argon2id`] | the parameters of the one that costs memory |
//! | [`request`] | what a caller asks for, its identity, and how it travels through a queue |
//! | [`service`] | requests become tasks, tasks become results |
//!
//! Called by `api`, which takes requests, and by the binary, whose workers compute them. Queues and HTTP are others'.

pub mod algorithm;
pub mod argon2id;
pub mod request;
pub mod service;

pub use algorithm::Algorithm;
pub use argon2id::Argon2id;
pub use request::{Identity, Request};
pub use service::Hashes;

/// Why a hash cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// There is no such algorithm.
    #[error("unknown algorithm {0:?}: md5, sha1, sha256, sha512, blake3 and argon2id are known")]
    UnknownAlgorithm(String),
    /// A parameter is outside its bounds.
    #[error("{name} is {given}: {least} to {most} are allowed")]
    OutOfBounds {
        /// The parameter.
        name: &'static str,
        /// What was asked for.
        given: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// An algorithm that has no parameters was given some.
    #[error("{0} takes no parameters: only argon2id does")]
    NoParameters(Algorithm),
    /// What a queue held is no request.
    #[error("a task that is no hash request: {0}")]
    Malformed(String),
    /// The parameters are allowed one by one but not together.
    #[error("argon2id: {0}")]
    Argon2(String),
}
