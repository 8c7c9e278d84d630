//! What a task is.

use super::{ERROR_LENGTH, PRIORITIES};
use crate::{StoreError, value::Row};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, str::FromStr, time::Duration};
use uuid::Uuid;

/// A task's name: a UUID of version 7 (RFC 9562), so that later ones sort later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A new one.
    #[must_use]
    pub fn generate() -> TaskId {
        TaskId(Uuid::now_v7())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(TaskId)
    }
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It waits for a worker, or for its time.
    Queued,
    /// A worker has it.
    Running,
    /// Done.
    Completed,
    /// It failed and is tried again.
    Failed,
    /// It failed and is not tried again, unless somebody says so.
    Discarded,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 5] =
        [Status::Queued, Status::Running, Status::Completed, Status::Failed, Status::Discarded];

    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Discarded => "discarded",
        }
    }

    /// Whether it will not change by itself any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Status::Completed | Status::Discarded)
    }
}

impl FromStr for Status {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let found = Status::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| StoreError::Row(format!("{text:?} is no status")))
    }
}

/// At most one task with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key, of all types and queues.
    pub key: String,
    /// The key is taken for as long as the task is kept, also once it is completed; otherwise only while it goes on.
    pub while_kept: bool,
}

/// A task to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Queue.
    pub queue: String,
    /// What is to be done: workers have a handler by it.
    pub task_type: String,
    /// What it needs to know.
    pub payload: Value,
    /// Bytes that it works on.
    pub input: Option<Vec<u8>>,
    /// Keep the bytes once it has ended.
    pub keep_input: bool,
    /// No second one like it.
    pub unique: Option<Unique>,
    /// 0, the first, to 3; 1 unless it is set.
    pub priority: u8,
    /// Not before this has passed.
    pub delay: Duration,
    /// Tries until it is discarded.
    pub max_attempts: u32,
}

impl NewTask {
    /// A task with nothing special: priority 1, at once, five tries.
    #[must_use]
    pub fn new(queue: &str, task_type: &str, payload: Value) -> NewTask {
        NewTask {
            queue: queue.to_owned(),
            task_type: task_type.to_owned(),
            payload,
            input: None,
            keep_input: false,
            unique: None,
            priority: 1,
            delay: Duration::ZERO,
            max_attempts: 5,
        }
    }

    /// The priority as it is stored.
    pub(super) fn stored_priority(&self) -> i64 {
        i64::from(self.priority.min(PRIORITIES - 1))
    }
}

/// What became of a task that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id, or the id of the one with the same key.
    pub id: TaskId,
    /// How far that other one is; none for a new task.
    pub existing: Option<Status>,
}

/// A task that a worker holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// Its id.
    pub id: TaskId,
    /// Which claim this is: the acknowledgement names it.
    pub claim: i64,
    /// What is to be done.
    pub task_type: String,
    /// What it needs to know.
    pub payload: Value,
    /// Bytes that it works on.
    pub input: Option<Vec<u8>>,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Tries until it is discarded.
    pub max_attempts: u32,
}

/// One try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryError {
    /// Which try, from 1.
    pub attempt: i64,
    /// Milliseconds since 1970.
    pub at: i64,
    /// Why.
    pub error: String,
}

/// A task as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What is to be done.
    pub task_type: String,
    /// How far it is.
    pub status: Status,
    /// Queue.
    pub queue: String,
    /// Priority.
    pub priority: u8,
    /// When it was enqueued, milliseconds since 1970.
    pub created_at: i64,
    /// Not before this.
    pub run_at: i64,
    /// When the last try began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// Tries so far.
    pub attempts: u32,
    /// Tries until it is discarded.
    pub max_attempts: u32,
    /// What it needs to know.
    pub payload: Value,
    /// Bytes that it works on, while they are kept.
    pub input: Option<Vec<u8>>,
    /// What came out.
    pub result: Option<Value>,
    /// The last tries that failed, the newest last.
    pub errors: Vec<TryError>,
}

/// The columns of [`Task`], in order.
macro_rules! columns {
    () => {
        "id, type, status, queue, priority, created_at, run_at, started_at, finished_at, attempts, max_attempts, \
         payload, input, result, errors"
    };
}
pub(super) use columns;

/// JSON of a column.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Row(format!("a task's JSON: {error}")))
}

/// A text as an error is kept.
pub(super) fn clipped(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(ERROR_LENGTH).collect()
}

pub(super) fn id(row: &Row, column: usize) -> Result<TaskId, StoreError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| StoreError::Row(format!("{text:?} is no task's id")))
}

impl Task {
    /// The task of a row of [`columns!`].
    pub(super) fn of(row: &Row) -> Result<Task, StoreError> {
        let result: Option<String> = row.get(13)?;
        let errors: Option<String> = row.get(14)?;
        Ok(Task {
            id: id(row, 0)?,
            task_type: row.get(1)?,
            status: row.get::<String>(2)?.parse()?,
            queue: row.get(3)?,
            priority: row.get_uint(4)?,
            created_at: row.get(5)?,
            run_at: row.get(6)?,
            started_at: row.get(7)?,
            finished_at: row.get(8)?,
            attempts: row.get_uint(9)?,
            max_attempts: row.get_uint(10)?,
            payload: json(&row.get::<String>(11)?)?,
            input: row.get(12)?,
            result: result.as_deref().map(json).transpose()?,
            errors: errors.as_deref().map_or(Ok(Vec::new()), json)?,
        })
    }
}
