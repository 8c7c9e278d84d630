//! By hand; and what is deleted by age.

use super::{Status, TaskId, now};
use crate::{
    Store, StoreError, Transaction,
    value::{args, millis},
};
use std::time::Duration;

/// What somebody has set of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// The queue.
    pub name: String,
    /// Nothing is claimed from it.
    pub paused: bool,
    /// Tasks at once over all workers; none: as many as workers take.
    pub concurrency: Option<u32>,
}

const RETRY_SQLITE: &str = concat!(
    "UPDATE tasks SET status = 'queued', finished_at = NULL, max_attempts = max(max_attempts, attempts + 1), \
     run_at = ",
    now!(sqlite),
    " WHERE id = $1 AND status IN ('discarded', 'failed')"
);
const RETRY_POSTGRES: &str = concat!(
    "UPDATE tasks SET status = 'queued', finished_at = NULL, max_attempts = greatest(max_attempts, attempts + 1), \
     run_at = ",
    now!(postgres),
    " WHERE id = $1 AND status IN ('discarded', 'failed')"
);
const SET_QUEUE: &str = "INSERT INTO queues (name, paused, concurrency) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, concurrency = excluded.concurrency";
const DELETE_OLD_SQLITE: &str = "DELETE FROM tasks WHERE id IN \
     (SELECT id FROM tasks WHERE id < $1 AND status = $2 AND finished_at < $3 ORDER BY id LIMIT $4)";
const DELETE_OLD_POSTGRES: &str = "DELETE FROM tasks WHERE id = ANY (ARRAY\
     (SELECT id FROM tasks WHERE id < $1 AND status = $2 AND finished_at < $3 ORDER BY id LIMIT $4 \
     FOR UPDATE SKIP LOCKED))";

impl Transaction {
    /// Queues a task again that was discarded, or that waits to be tried again; false if it is neither. It has one try more
    /// at least.
    ///
    /// # Errors
    /// [`StoreError::Duplicate`] where another task has taken its key meanwhile; else the database failed.
    pub async fn retry_task(&mut self, id: TaskId) -> Result<bool, StoreError> {
        let sql = self.dialect().pick(RETRY_SQLITE, RETRY_POSTGRES);
        Ok(self.execute(sql, args![id.to_string()]).await? == 1)
    }

    /// Deletes a task, unless a worker has it; false if there is none to delete.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_task(&mut self, id: TaskId) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM tasks WHERE id = $1 AND status <> 'running'", args![id.to_string()]).await? == 1)
    }

    /// Pauses a queue or lets it go on, and bounds how many of its tasks run at once.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_queue(&mut self, settings: &QueueSettings) -> Result<(), StoreError> {
        let QueueSettings { name, paused, concurrency } = settings;
        self.execute(SET_QUEUE, args![name.as_str(), i64::from(*paused), *concurrency]).await.map(drop)
    }

    /// Deletes tasks of a final status that ended longer ago than `age`, at most `limit` of them: how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_old_tasks(&mut self, status: Status, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let before = self.now_ms().await?.saturating_sub(millis(age));
        // Ids begin with the time of their making, 48 bits: what ended before was made before.
        let made = format!("{:012x}", before.max(0));
        let first = format!("{}-{}", &made[..8], &made[8..12]);
        let sql = self.dialect().pick(DELETE_OLD_SQLITE, DELETE_OLD_POSTGRES);
        self.execute(sql, args![first, status.as_str(), before, limit]).await
    }
}

impl Store {
    /// The queues that somebody has set something of.
    ///
    /// # Errors
    /// The database failed.
    pub async fn queues(&self) -> Result<Vec<QueueSettings>, StoreError> {
        let rows = self.fetch_all("SELECT name, paused, concurrency FROM queues ORDER BY name", Vec::new()).await?;
        rows.iter()
            .map(|row| {
                let concurrency: Option<i64> = row.get(2)?;
                let concurrency = concurrency.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
                Ok(QueueSettings { name: row.get(0)?, paused: row.get::<i64>(1)? == 1, concurrency })
            })
            .collect()
    }
}
