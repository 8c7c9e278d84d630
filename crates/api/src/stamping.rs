//! What the API asks of stamping: the calendar in this process, or one elsewhere.

use std::future::Future;
use std::pin::Pin;
use tokio::sync::broadcast;

/// An answer to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StampingError>> + Send + 'a>>;

/// Why stamping gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StampingError {
    /// Not now: the database is busy, full or away. Nothing was acknowledged.
    #[error("{0}")]
    Unavailable(String),
    /// A mistake of ours, or damage.
    #[error("{0}")]
    Internal(String),
}

/// What a calendar knows of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The serialised rest of the proof: confirmed for good.
    Complete(Vec<u8>),
    /// Not yet, with the reason in the reference server's words.
    Pending(String),
    /// It is not in this calendar.
    Unknown,
}

/// How far a stamp is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StampState {
    /// Durable, in no transaction yet.
    Journaled,
    /// In a transaction that no block has.
    Anchored {
        /// The transaction.
        txid: bitcoin::Txid,
    },
    /// In a block of the active chain.
    Confirmed {
        /// The transaction.
        txid: bitcoin::Txid,
        /// Height of the block.
        height: u32,
        /// Hash of the block.
        block_hash: bitcoin::BlockHash,
        /// Time of the block, seconds since 1970.
        time: u32,
        /// Blocks from it to the tip, itself included.
        confirmations: u32,
    },
}

/// What is known of a stamped digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampStatus {
    /// How far it is.
    pub state: StampState,
    /// The calendar commitment that it is under.
    pub commitment: Vec<u8>,
    /// When it was journaled, seconds since 1970.
    pub submitted_at: u64,
    /// Whether its proof can be had and will not change.
    pub complete: bool,
}

/// Totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StampStats {
    /// Commitments that no block has confirmed for good.
    pub pending: u64,
    /// Age of the oldest of them, seconds.
    pub oldest_pending_seconds: Option<u64>,
    /// Why stamping does not go on, if it does not.
    pub stalled: Option<String>,
}

/// A change of the stamps under a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampEvent {
    /// The commitment.
    pub commitment: Vec<u8>,
    /// How far its stamps are now.
    pub state: StampState,
}

/// Stamping.
pub trait Stamping: Send + Sync {
    /// Journals a digest of 0 to 64 bytes and returns its serialised timestamp; durable when it answers.
    fn submit<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Vec<u8>>;
    /// Journals many at once; all are durable when it answers, or none is.
    fn submit_bulk(&self, digests: Vec<Vec<u8>>) -> Answer<'_, ()>;
    /// What is known of a commitment.
    fn timestamp<'a>(&'a self, commitment: &'a [u8]) -> Answer<'a, Lookup>;
    /// The tip of the tree that the latest unconfirmed transaction commits to.
    fn tip(&self) -> Answer<'_, Option<Vec<u8>>>;
    /// How far a digest is; none if it was never stamped here.
    fn status<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<StampStatus>>;
    /// The `.ots` file for data with this SHA-256, as complete as it can be now; none if it was never stamped here.
    fn proof<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<Vec<u8>>>;
    /// Totals.
    fn stats(&self) -> Answer<'_, StampStats>;
    /// Changes from now on.
    fn subscribe(&self) -> broadcast::Receiver<StampEvent>;
}
