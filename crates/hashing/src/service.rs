//! Requests become tasks, tasks become results; equal requests are computed once.

use crate::{Algorithm, HashError, Request};
use cairn_jobs::{Claimed, Done, Filter, Jobs, JobsError, NewTask, Status, Task, TaskError, TaskId, Unique, Worker};
use cairn_stamp::{Calendar, SubmitError};
use cairn_store::cache::{Cache, CacheOptions};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The queue that hashes are in.
pub const QUEUE: &str = "hash";
/// The queue of results to be stamped, and the type of its tasks.
pub const STAMP_QUEUE: &str = "hash-stamp";
/// Results that are stamped at once.
const STAMPING: usize = 8;
/// How long a result that is to be stamped is waited for at a time.
const NOT_YET: Duration = Duration::from_millis(200);
/// A result never changes: only for how long it takes room where nobody asks for it.
const CACHED: Duration = Duration::from_secs(3600);
/// Tasks whose failure is worth a second look are tried so often.
const ATTEMPTS: u32 = 4;

/// What a request wants besides the hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Stamp the result's bytes.
    pub stamp: bool,
    /// Keep the input with the task.
    pub keep_input: bool,
}

/// A hash that was computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HashResult {
    /// As it is shown: hex, or a PHC string for argon2id.
    pub hash: String,
    /// How long it took to compute.
    pub execution_time_seconds: f64,
    /// Its bytes, hex.
    pub digest: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// An equal one was computed before.
    Known {
        /// Its task, where that is known.
        id: Option<TaskId>,
        /// Its result.
        result: HashResult,
    },
    /// It is a task, or an equal one is.
    Task {
        /// The task.
        id: TaskId,
        /// How far it is.
        status: Status,
    },
}

/// A hash's task.
#[derive(Debug, Clone, PartialEq)]
pub struct HashTask {
    /// Its id.
    pub id: TaskId,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// How far it is.
    pub status: Status,
    /// When it was asked for, milliseconds since 1970.
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// How often it was tried.
    pub attempts: u32,
    /// SHA-256 of the input, hex.
    pub input_sha256: String,
    /// Bytes of the input.
    pub input_bytes: u64,
    /// The input, where it was to be kept and the task has ended.
    pub input: Option<Vec<u8>>,
    /// Whether the request that made the task wanted a stamp.
    pub stamp: bool,
    /// What came out.
    pub result: Option<HashResult>,
    /// Why the last try failed.
    pub error: Option<String>,
}

/// Which tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashFilter {
    /// Of this algorithm.
    pub algorithm: Option<Algorithm>,
    /// In this state.
    pub status: Option<Status>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The request asks for what is not to be had.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A page that does not exist.
    #[error("the cursor is none of ours: pass next_cursor of the page before")]
    Cursor,
    /// The queue failed.
    #[error("{0}")]
    Jobs(#[from] JobsError),
    /// The result could not be stamped.
    #[error("the result is not stamped: {0}")]
    Stamp(#[from] SubmitError),
    /// The database holds what we have not written.
    #[error("a hash's task that is none: {0}")]
    Task(String),
}

/// What a task is kept with.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    request: Value,
    input_sha256: String,
    input_bytes: u64,
    #[serde(default)]
    stamp: bool,
    #[serde(default)]
    keep_input: bool,
}

/// What is cached of a request.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    task: String,
    result: HashResult,
}

/// Hashes over a queue. Clones share everything.
#[derive(Debug, Clone)]
pub struct Hashes {
    jobs: Jobs,
    calendar: Calendar,
    cache: Cache,
}

fn cache_key(identity: &str) -> String {
    format!("hash {identity}")
}

fn type_of(algorithm: Algorithm) -> String {
    format!("hash.{algorithm}")
}

impl Hashes {
    /// Over queues, and the calendar that stamps results.
    #[must_use]
    pub fn new(jobs: Jobs, calendar: Calendar) -> Hashes {
        Hashes { jobs, calendar, cache: Cache::new(&CacheOptions::default(), None, None) }
    }

    /// With results kept in a cache that other processes may share.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Hashes {
        Hashes { cache, ..self }
    }

    /// Where results are kept besides their tasks.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The queues.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Takes a request. It is durable when this returns.
    ///
    /// # Errors
    /// [`ServiceError::Jobs`] and [`ServiceError::Stamp`]: nothing was taken.
    pub async fn submit(&self, request: Request, options: Options) -> Result<Submitted, ServiceError> {
        let (algorithm, identity) = (request.algorithm(), request.identity());
        // Who wants the input kept wants a task.
        if !options.keep_input
            && let Some(kept) = self.cache.get(&cache_key(&identity.key)).await
            && let Ok(Kept { task, result }) = serde_json::from_slice(&kept)
        {
            if options.stamp {
                self.calendar.submit(&result.bytes()?).await?;
            }
            return Ok(Submitted::Known { id: task.parse().ok(), result });
        }
        let (request, input) = request.into_parts();
        let payload = Payload {
            request,
            input_sha256: identity.input_sha256,
            input_bytes: input.len() as u64,
            stamp: options.stamp,
            keep_input: options.keep_input,
        };
        let payload = serde_json::to_value(payload).map_err(|error| ServiceError::Task(error.to_string()))?;
        let task = NewTask {
            input: Some(input),
            keep_input: options.keep_input,
            unique: Some(Unique { key: identity.key.clone(), while_kept: true }),
            max_attempts: ATTEMPTS,
            ..NewTask::new(QUEUE, &type_of(algorithm), payload)
        };
        let enqueued = self.jobs.enqueue(task).await?;
        let status = enqueued.existing.unwrap_or(Status::Queued);
        if status == Status::Completed
            && let Some(task) = self.jobs.get(enqueued.id).await?
            && let Some(result) = HashTask::of(task)?.result
        {
            if options.stamp {
                self.calendar.submit(&result.bytes()?).await?;
            }
            // It was asked for twice: perhaps it is again.
            let kept = Kept { task: enqueued.id.to_string(), result: result.clone() };
            if let Ok(kept) = serde_json::to_vec(&kept) {
                self.cache.put(&cache_key(&identity.key), kept.into(), CACHED).await;
            }
            return Ok(Submitted::Known { id: Some(enqueued.id), result });
        }
        if options.stamp {
            let key = Unique { key: format!("{STAMP_QUEUE} {}", enqueued.id), while_kept: true };
            let follow = NewTask::new(STAMP_QUEUE, STAMP_QUEUE, json!({"task": enqueued.id.to_string()}));
            self.jobs.enqueue(NewTask { unique: Some(key), max_attempts: 1000, ..follow }).await?;
        }
        Ok(Submitted::Task { id: enqueued.id, status })
    }

    /// A task once it has ended, or as it is when the time is up; none for a task that is no hash's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wait(&self, id: TaskId, time: Duration) -> Result<Option<HashTask>, ServiceError> {
        let task = self.jobs.wait(id, time).await?;
        task.filter(|task| task.queue == QUEUE).map(HashTask::of).transpose()
    }

    /// A page of tasks, the newest first, and the cursor of the next one.
    ///
    /// # Errors
    /// [`ServiceError::Cursor`] for a cursor that no page had; else the database failed.
    pub async fn list(
        &self,
        filter: HashFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<HashTask>, Option<String>), ServiceError> {
        let before = cursor.map(|cursor| cursor.parse().map_err(|_| ServiceError::Cursor)).transpose()?;
        let algorithms = filter.algorithm.map_or(Algorithm::ALL.to_vec(), |algorithm| vec![algorithm]);
        let filter = Filter { task_types: algorithms.into_iter().map(type_of).collect(), status: filter.status };
        let tasks = self.jobs.list(&filter, before, limit).await?;
        let full = tasks.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        let next = tasks.last().filter(|_| full).map(|task| task.id.to_string());
        Ok((tasks.into_iter().map(HashTask::of).collect::<Result<_, _>>()?, next))
    }

    /// Gives a worker what it needs to compute hashes, so many at once, and to stamp results.
    #[must_use]
    pub fn worker(&self, worker: Worker, concurrency: usize) -> Worker {
        let computing = Algorithm::ALL
            .into_iter()
            .fold(worker.queue(QUEUE, concurrency), |worker, algorithm| worker.cpu(&type_of(algorithm), compute));
        let hashes = self.clone();
        computing.queue(STAMP_QUEUE, STAMPING).io(STAMP_QUEUE, move |claimed, _| {
            let hashes = hashes.clone();
            async move { hashes.stamp_result(&claimed.payload).await }
        })
    }

    async fn stamp_result(&self, payload: &Value) -> Result<Done, TaskError> {
        let again = |error: &dyn std::fmt::Display| TaskError::Retry(error.to_string());
        let id = payload["task"].as_str().and_then(|text| text.parse().ok());
        let id: TaskId = id.ok_or_else(|| TaskError::Final("it names no task".into()))?;
        let task = self.wait(id, Duration::ZERO).await.map_err(|error| again(&error))?;
        let task = task.ok_or_else(|| TaskError::Final("the task is no longer kept".into()))?;
        match (task.status, task.result) {
            (Status::Completed, Some(result)) => {
                let digest = result.bytes().map_err(|error| TaskError::Final(error.to_string()))?;
                self.calendar.submit(&digest).await.map_err(|error| again(&error))?;
                Ok(json!({"digest": result.digest}).into())
            }
            (Status::Discarded, _) => Err(TaskError::Final("the hash was not computed".into())),
            _ => Err(TaskError::Later(NOT_YET)),
        }
    }
}

/// Computes a task's hash.
fn compute(claimed: Claimed) -> Result<Done, TaskError> {
    let input = claimed.input.ok_or_else(|| TaskError::Final("its input is gone".into()))?;
    let request =
        Request::from_parts(&claimed.payload["request"], input).map_err(|error| TaskError::Final(error.to_string()))?;
    let began = Instant::now();
    let output = request.compute().map_err(|error| TaskError::Final(error.to_string()))?;
    let result = HashResult {
        hash: output.text,
        execution_time_seconds: began.elapsed().as_secs_f64(),
        digest: HEXLOWER.encode(&output.digest),
    };
    serde_json::to_value(result).map(Done::from).map_err(|error| TaskError::Final(error.to_string()))
}

impl HashResult {
    /// The hash's bytes.
    ///
    /// # Errors
    /// [`ServiceError::Task`] for a result that is none of ours.
    pub fn bytes(&self) -> Result<Vec<u8>, ServiceError> {
        HEXLOWER.decode(self.digest.as_bytes()).map_err(|error| ServiceError::Task(error.to_string()))
    }
}

impl HashTask {
    fn of(task: Task) -> Result<HashTask, ServiceError> {
        let wrong = |error: &dyn std::fmt::Display| ServiceError::Task(format!("{}: {error}", task.id));
        let payload = Payload::deserialize(&task.payload).map_err(|error| wrong(&error))?;
        let algorithm = Algorithm::deserialize(&payload.request["algorithm"]).map_err(|error| wrong(&error))?;
        let result = task.result.as_ref().map(HashResult::deserialize).transpose().map_err(|error| wrong(&error))?;
        Ok(HashTask {
            algorithm,
            result,
            input: task.input.filter(|_| payload.keep_input),
            input_sha256: payload.input_sha256,
            input_bytes: payload.input_bytes,
            stamp: payload.stamp,
            error: task.errors.into_iter().next_back().map(|error| error.error),
            id: task.id,
            status: task.status,
            created_at: task.created_at,
            finished_at: task.finished_at,
            attempts: task.attempts,
        })
    }
}
