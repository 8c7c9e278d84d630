//! What the API asks of stamping: the calendar in this process, or one elsewhere.

use cairn_stamp::{Calendar, CalendarError, SubmitError};
pub use cairn_stamp::{Digests, Lookup, StampEvent, StampState, StampStats, StampStatus};
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

/// Stamping.
pub trait Stamping: Send + Sync {
    /// Journals a digest of 0 to 64 bytes and returns its serialised timestamp; durable when it answers.
    fn submit<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Vec<u8>>;
    /// Journals many at once; all are durable when it answers, or none is.
    fn submit_bulk(&self, digests: Digests) -> Answer<'_, ()>;
    /// What is known of a commitment.
    fn timestamp<'a>(&'a self, commitment: &'a [u8]) -> Answer<'a, Lookup>;
    /// The tip of the tree that the latest unconfirmed transaction commits to.
    fn tip(&self) -> Answer<'_, Option<[u8; 32]>>;
    /// How far a digest is; none if it was never stamped here.
    fn status<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<StampStatus>>;
    /// The `.ots` file for data with this SHA-256, as complete as it can be now; none if it was never stamped here.
    fn proof<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<Vec<u8>>>;
    /// Totals.
    fn stats(&self) -> Answer<'_, StampStats>;
    /// Changes from now on.
    fn subscribe(&self) -> broadcast::Receiver<StampEvent>;
}

impl From<SubmitError> for StampingError {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Proof(_) => StampingError::Internal(error.to_string()),
            // Busy, stopping, or the database: a full disk and a lock that is held both pass.
            _ => StampingError::Unavailable(error.to_string()),
        }
    }
}

impl From<CalendarError> for StampingError {
    fn from(error: CalendarError) -> Self {
        match &error {
            CalendarError::Store(_) => StampingError::Unavailable(error.to_string()),
            _ => StampingError::Internal(error.to_string()),
        }
    }
}

impl Stamping for Calendar {
    fn submit<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Vec<u8>> {
        Box::pin(async move { Ok(Calendar::submit(self, digest).await?) })
    }

    fn submit_bulk(&self, digests: Digests) -> Answer<'_, ()> {
        Box::pin(async move {
            Calendar::submit_bulk(self, digests).await?;
            Ok(())
        })
    }

    fn timestamp<'a>(&'a self, commitment: &'a [u8]) -> Answer<'a, Lookup> {
        Box::pin(async move { Ok(Calendar::timestamp(self, commitment).await?) })
    }

    fn tip(&self) -> Answer<'_, Option<[u8; 32]>> {
        Box::pin(async move { Ok(Calendar::tip(self).await?) })
    }

    fn status<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<StampStatus>> {
        Box::pin(async move { Ok(Calendar::status(self, digest).await?) })
    }

    fn proof<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move { Ok(Calendar::proof(self, digest).await?) })
    }

    fn stats(&self) -> Answer<'_, StampStats> {
        Box::pin(async move { Ok(Calendar::stats(self).await?) })
    }

    fn subscribe(&self) -> broadcast::Receiver<StampEvent> {
        Calendar::subscribe(self)
    }
}
