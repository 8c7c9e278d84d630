//! Looking at tasks and queues.

use super::{Status, Task, TaskId, types};
use crate::{
    Dialect, Store, StoreError,
    value::{Value, args},
};

/// Which tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these types; of all where there is none.
    pub task_types: Vec<String>,
    /// In this state.
    pub status: Option<Status>,
}

/// Tasks of a queue by status. Completed ones are not counted: there may be millions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCounts {
    /// The queue.
    pub queue: String,
    /// The status.
    pub status: Status,
    /// How many.
    pub count: i64,
}

const BY_ID: &str = concat!("SELECT ", types::columns!(), " FROM tasks WHERE id = $1");
const ENDED_POSTGRES: &str =
    "SELECT id FROM tasks WHERE id = ANY ($1::text[]) AND status IN ('completed', 'discarded')";
const ENDED_SQLITE: &str =
    "SELECT id FROM tasks WHERE id IN (SELECT value FROM json_each($1)) AND status IN ('completed', 'discarded')";

/// A page, the newest first, before `$1`. The type and the status are compared only where they are given.
macro_rules! page {
    ($types:literal) => {
        concat!(
            "SELECT ",
            types::columns!(),
            " FROM tasks WHERE id < $1 AND ($2 = '' OR status = $2) AND ($3 = 0 OR type ",
            $types,
            ") ORDER BY id DESC LIMIT $5"
        )
    };
    ($types:literal, discarded) => {
        concat!(
            "SELECT ",
            types::columns!(),
            " FROM tasks WHERE id < $1 AND $2 = 'discarded' AND status = 'discarded' AND ($3 = 0 OR type ",
            $types,
            ") ORDER BY id DESC LIMIT $5"
        )
    };
}
const PAGE_POSTGRES: &str = page!("= ANY ($4::text[])");
const PAGE_SQLITE: &str = page!("IN (SELECT value FROM json_each($4))");
const DISCARDED_POSTGRES: &str = page!("= ANY ($4::text[])", discarded);
const DISCARDED_SQLITE: &str = page!("IN (SELECT value FROM json_each($4))", discarded);

/// Each part is answered by an index that holds nothing else.
const COUNTS: &str = "SELECT queue, 'queued', count(*) FROM tasks WHERE status IN ('queued', 'failed') GROUP BY queue \
     UNION ALL SELECT queue, 'running', count(*) FROM tasks WHERE status = 'running' GROUP BY queue \
     UNION ALL SELECT queue, 'discarded', count(*) FROM tasks WHERE status = 'discarded' GROUP BY queue";

impl Store {
    /// A task.
    ///
    /// # Errors
    /// The database failed.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.fetch_optional(BY_ID, args![id.to_string()]).await?.map(|row| Task::of(&row)).transpose()
    }

    /// Those of some tasks that have ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ended_tasks(&self, ids: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        let sql = self.dialect().pick(ENDED_SQLITE, ENDED_POSTGRES);
        let ids = Value::Texts(ids.iter().map(|id| Some(id.to_string())).collect());
        self.fetch_all(sql, vec![ids]).await?.iter().map(|row| types::id(row, 0)).collect()
    }

    /// A page of tasks, the newest first: those before `before`, or the first ones.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tasks(&self, filter: &Filter, before: Option<TaskId>, limit: u32) -> Result<Vec<Task>, StoreError> {
        let sql = match (self.dialect(), filter.status) {
            (Dialect::Sqlite, Some(Status::Discarded)) => DISCARDED_SQLITE,
            (Dialect::Postgres, Some(Status::Discarded)) => DISCARDED_POSTGRES,
            (Dialect::Sqlite, _) => PAGE_SQLITE,
            (Dialect::Postgres, _) => PAGE_POSTGRES,
        };
        // Above every id, which is of hex digits and hyphens.
        let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
        let types: Vec<Option<String>> = filter.task_types.iter().cloned().map(Some).collect();
        let mut args = args![before, filter.status.map_or("", Status::as_str), i64::from(!types.is_empty())];
        args.extend([Value::Texts(types), Value::from(limit)]);
        self.fetch_all(sql, args).await?.iter().map(Task::of).collect()
    }

    /// How many tasks each queue has that are queued (those to be tried again among them), running and discarded.
    ///
    /// # Errors
    /// The database failed.
    pub async fn queue_counts(&self) -> Result<Vec<QueueCounts>, StoreError> {
        let rows = self.fetch_all(COUNTS, Vec::new()).await?;
        rows.iter()
            .map(|row| {
                let status: String = row.get(1)?;
                Ok(QueueCounts { queue: row.get(0)?, status: status.parse()?, count: row.get(2)? })
            })
            .collect()
    }
}
