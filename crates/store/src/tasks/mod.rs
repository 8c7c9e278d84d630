//! Tasks: work that is queued, claimed by workers, and acknowledged once.
//!
//! | module | holds |
//! |---|---|
//! | `types` | what a task is |
//! | `enqueue` | into a queue, in the caller's transaction |
//! | `claim` | out of it, by a worker that holds a lease |
//! | `finish` | acknowledgements |
//! | `workers` | leases of workers, and what the lost ones held |
//! | `read` | looking at tasks and queues |
//! | `manage` | by hand: retry, delete, pause; and what is deleted by age |
//! | `schedules` | tasks by the clock |
//!
//! Every claim of a task gives it a new random number, and an acknowledgement names the one that it was claimed by: a worker
//! that was presumed dead cannot acknowledge what another one has claimed since. The lease is the worker's, not the task's:
//! renewing it writes one row however many tasks it holds.

mod claim;
mod enqueue;
mod finish;
mod manage;
#[cfg(test)]
mod plans;
mod read;
mod schedules;
mod types;
mod workers;

pub use claim::Position;
pub use finish::{Acknowledgement, Outcome};
pub use manage::QueueSettings;
pub use read::{Filter, QueueCounts};
pub use schedules::Schedule;
pub use types::{Claimed, Enqueued, NewTask, Status, Task, TaskId, TryError, Unique};

/// Priorities that there are: 0, the first, to 3.
pub const PRIORITIES: u8 = 4;
/// Errors of a task that are kept, the last ones.
pub const ERRORS_KEPT: usize = 10;
/// Bytes of an error's text that are kept.
pub const ERROR_LENGTH: usize = 2000;

/// The clock of the statement, in milliseconds since 1970, as SQL.
macro_rules! now {
    (sqlite) => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
    (postgres) => {
        "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)"
    };
}
use now;
