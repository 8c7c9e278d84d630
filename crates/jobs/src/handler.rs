//! What a worker does with a task.

use cairn_store::tasks::{Claimed, Outcome};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What came out of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The result, which the task keeps.
    pub result: Value,
    /// What to keep of the payload; all of it where this is none.
    pub payload: Option<Value>,
}

impl From<Value> for Done {
    fn from(result: Value) -> Done {
        Done { result, payload: None }
    }
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// It may succeed later: the wait grows with each try.
    Retry(String),
    /// It may succeed after this time.
    RetryAfter(String, Duration),
    /// Trying again is of no use.
    Final(String),
    /// It is too early; this was no try.
    Later(Duration),
}

/// What a handler has besides its task.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled when the task is no longer this worker's, or when the worker stops and the time to end is up.
    pub cancelled: CancellationToken,
}

type CpuHandler = dyn Fn(Claimed) -> Result<Done, TaskError> + Send + Sync;
type IoHandler = dyn Fn(Claimed, Context) -> BoxFuture<'static, Result<Done, TaskError>> + Send + Sync;

/// How a type of task is done.
#[derive(Clone)]
pub(crate) enum Handler {
    /// On a thread that may compute.
    Cpu(Arc<CpuHandler>),
    /// On the event loop.
    Io(Arc<IoHandler>),
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handler::Cpu(_) => "Cpu",
            Handler::Io(_) => "Io",
        })
    }
}

/// Longest wait between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);

/// How long to wait after so many tries: the fourth power in seconds, a tenth more or less.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let seconds = f64::from(attempt.max(1)).powi(4) * (0.9 + 0.2 * rand::random::<f64>());
    Duration::from_secs_f64(seconds.min(MAX_BACKOFF.as_secs_f64()))
}

/// How a try is acknowledged.
pub(crate) fn outcome(result: Result<Done, TaskError>, attempt: u32) -> Outcome {
    match result {
        Ok(Done { result, payload }) => Outcome::Completed { result, payload },
        Err(TaskError::Retry(error)) => Outcome::Failed { error, after: backoff(attempt) },
        Err(TaskError::RetryAfter(error, after)) => Outcome::Failed { error, after },
        Err(TaskError::Final(error)) => Outcome::Discarded { error },
        Err(TaskError::Later(after)) => Outcome::Released { after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_each_try() {
        let around = |attempt, seconds: f64| {
            let wait = backoff(attempt).as_secs_f64();
            assert!((seconds * 0.9..=seconds * 1.1).contains(&wait), "{attempt}: {wait}");
        };
        around(0, 1.0);
        around(1, 1.0);
        around(3, 81.0);
        assert_eq!(backoff(u32::MAX), MAX_BACKOFF);
    }
}
