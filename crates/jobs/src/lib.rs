//! Queues and workers over a database.
//!
//! | module | holds |
//! |---|---|
//! | [`jobs`] | enqueueing, waiting, looking |
//! | `news` | who is woken by what |
//! | [`handler`] | what a worker does with a task |
//! | [`worker`] | a worker: claims, runs, acknowledges, drains |
//! | `lease` | its lease, renewed on a thread of its own |
//! | [`cron`] | tasks by the clock |
//! | `buffer` | tasks that are claimed and not run yet |
//!
//! Called by every room that has work to do later, and by the binary, which runs workers. It may not know SQL: `store` does.
//!
//! A task runs at least once, and is completed once: an acknowledgement counts only from who claimed it last. A handler that
//! changes something outside the database must bear being run again.

mod buffer;
pub mod cron;
pub mod handler;
pub mod jobs;
mod lease;
mod news;
pub mod worker;

pub use cairn_store::tasks::{
    Claimed, Enqueued, Filter, NewTask, QueueCounts, QueueSettings, Status, Task, TaskId, Unique,
};
pub use cron::CronError;
pub use handler::{Context, Done, TaskError};
pub use jobs::{Jobs, JobsError};
pub use worker::{RunningWorker, Worker};
