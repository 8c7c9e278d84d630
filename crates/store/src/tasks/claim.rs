//! Out of a queue.

use super::{Claimed, PRIORITIES, TaskId, now, types};
use crate::{
    Dialect, Store, StoreError, Transaction,
    value::{Row, Value, args},
};
use std::time::Duration;

// The claim is a number that nobody can have by chance or from before: a counter could return to one that was given out, where a
// crash of the server takes back claims that were not on the disk yet.
// `ANY (ARRAY(…))` and not `IN (…)`: the list is made once. The lateral subquery stops at the first priority that has enough,
// so that no more rows are locked than are claimed.
pub(super) const CLAIM_POSTGRES: &str = concat!(
    "UPDATE tasks SET status = 'running', worker = $1, attempts = attempts + 1, \
     claim = CAST(random() * 9007199254740991 AS BIGINT), started_at = ",
    now!(postgres),
    " WHERE id = ANY (ARRAY(SELECT due.id FROM generate_series(0, 3) AS p (priority) CROSS JOIN LATERAL \
     (SELECT id FROM tasks WHERE queue = $2 AND priority = p.priority AND status IN ('queued', 'failed') \
     AND (run_at, id) > (($5::bigint[])[p.priority + 1], ($6::text[])[p.priority + 1]) AND run_at <= ",
    now!(postgres),
    " ORDER BY run_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) AS due \
     WHERE EXISTS (SELECT 1 FROM workers WHERE name = $1 AND expires_at > ",
    now!(postgres),
    ") AND NOT EXISTS (SELECT 1 FROM queues WHERE name = $2 AND (paused = 1 OR (concurrency IS NOT NULL AND $4 = 0))) \
     LIMIT $3)) RETURNING id, claim, type, payload, input, attempts, max_attempts, priority, run_at"
);
pub(super) const CLAIM_SQLITE: &str = concat!(
    "UPDATE tasks SET status = 'running', worker = $1, attempts = attempts + 1, claim = random() & 9007199254740991, \
     started_at = ",
    now!(sqlite),
    " WHERE id IN (SELECT id FROM tasks WHERE queue = $2 AND priority = $5 AND status IN ('queued', 'failed') \
     AND run_at <= ",
    now!(sqlite),
    " AND EXISTS (SELECT 1 FROM workers WHERE name = $1 AND expires_at > ",
    now!(sqlite),
    ") AND NOT EXISTS (SELECT 1 FROM queues WHERE name = $2 AND (paused = 1 OR (concurrency IS NOT NULL AND $4 = 0))) \
     ORDER BY run_at, id LIMIT $3) \
     RETURNING id, claim, type, payload, input, attempts, max_attempts, priority, run_at"
);
const LIMITED_SQLITE: &str =
    "SELECT concurrency FROM queues WHERE name = $1 AND paused = 0 AND concurrency IS NOT NULL";
const LIMITED_POSTGRES: &str =
    "SELECT concurrency FROM queues WHERE name = $1 AND paused = 0 AND concurrency IS NOT NULL FOR UPDATE";
pub(super) const RUNNING: &str = "SELECT count(*) FROM tasks WHERE queue = $1 AND status = 'running'";

/// How long until the first task of a priority is due.
macro_rules! next {
    ($clock:ident) => {
        concat!(
            "SELECT run_at - ",
            now!($clock),
            " FROM tasks WHERE queue = $1 AND priority = $2 AND status IN ('queued', 'failed') \
             AND NOT EXISTS (SELECT 1 FROM queues WHERE name = $1 AND paused = 1) ORDER BY run_at LIMIT 1"
        )
    };
}

pub(super) const NEXT_SQLITE: &str = next!(sqlite);
pub(super) const NEXT_POSTGRES: &str = next!(postgres);

fn claimed(row: &Row) -> Result<((i64, i64), Claimed), StoreError> {
    let claimed = Claimed {
        id: types::id(row, 0)?,
        claim: row.get(1)?,
        task_type: row.get(2)?,
        payload: types::json(&row.get::<String>(3)?)?,
        input: row.get(4)?,
        attempt: row.get_uint(5)?,
        max_attempts: row.get_uint(6)?,
    };
    Ok(((row.get(7)?, row.get(8)?), claimed))
}

/// Where a worker's last claim of a queue ended: the next one begins there.
///
/// PostgreSQL keeps what has left an index in it for a while, and whoever begins at the front passes all of it by.
#[derive(Debug, Clone, Default)]
pub struct Position([Option<(i64, TaskId)>; PRIORITIES as usize]);

impl Position {
    fn is_front(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The columns of the index by priority, with what is before all others for none.
    fn args(&self) -> [Value; 2] {
        let run_at = self.0.iter().map(|last| last.map_or(i64::MIN, |(run_at, _)| run_at));
        let id = self.0.iter().map(|last| Some(last.map_or_else(String::new, |(_, id)| id.to_string())));
        [Value::Ints(run_at.collect()), Value::Texts(id.collect())]
    }

    fn pass(&mut self, (priority, run_at): (i64, i64), id: TaskId) {
        if let Some(last) = usize::try_from(priority).ok().and_then(|priority| self.0.get_mut(priority)) {
            *last = (*last).max(Some((run_at, id)));
        }
    }
}

impl Transaction {
    /// Up to `limit` due tasks of a queue for a worker, the first ones first. None while the queue is paused, or the
    /// worker's lease has run out. With a limit of concurrency no more are ever running over all workers.
    ///
    /// # Errors
    /// The database failed.
    pub async fn claim(&mut self, worker: &str, queue: &str, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        self.claim_after(&mut Position::default(), worker, queue, limit).await
    }

    /// As [`Transaction::claim`], beginning where the last claim ended while there is enough behind it. What came before
    /// that meanwhile waits: begin at the front (`Position::default()`) every now and then.
    ///
    /// # Errors
    /// The database failed.
    pub async fn claim_after(
        &mut self,
        position: &mut Position,
        worker: &str,
        queue: &str,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut found = self.claim_up_to(position, worker, queue, limit, false).await?;
        let rest = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if rest > 0 && !position.is_front() {
            *position = Position::default();
            found.extend(self.claim_up_to(position, worker, queue, rest, false).await?);
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let sql = self.dialect().pick(LIMITED_SQLITE, LIMITED_POSTGRES);
        // Who claims from a limited queue does so alone: the row is locked until the transaction ends.
        let Some(row) = self.fetch_optional(sql, args![queue]).await? else { return Ok(Vec::new()) };
        let concurrency: u32 = row.get_uint(0)?;
        let Some(row) = self.fetch_optional(RUNNING, args![queue]).await? else { return Ok(Vec::new()) };
        let free = concurrency.saturating_sub(row.get_uint(0)?);
        if free == 0 { Ok(Vec::new()) } else { self.claim_up_to(position, worker, queue, limit.min(free), true).await }
    }

    async fn claim_up_to(
        &mut self,
        position: &mut Position,
        worker: &str,
        queue: &str,
        limit: u32,
        limited: bool,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut found = Vec::new();
        if self.dialect() == Dialect::Postgres {
            let mut args = args![worker, queue, limit, i64::from(limited)];
            args.extend(position.args());
            let rows = self.fetch_all(CLAIM_POSTGRES, args).await?;
            found.extend(rows.iter().map(claimed).collect::<Result<Vec<_>, _>>()?);
        } else {
            for priority in 0..i64::from(PRIORITIES) {
                let rest = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
                if rest == 0 {
                    break;
                }
                let rows =
                    self.fetch_all(CLAIM_SQLITE, args![worker, queue, rest, i64::from(limited), priority]).await?;
                found.extend(rows.iter().map(claimed).collect::<Result<Vec<_>, _>>()?);
            }
        }
        // What an UPDATE returns has no order.
        found.sort_by_key(|(order, claimed)| (*order, claimed.id));
        if self.dialect() == Dialect::Postgres {
            found.iter().for_each(|(order, claimed)| position.pass(*order, claimed.id));
        }
        Ok(found.into_iter().map(|(_, claimed)| claimed).collect())
    }
}

impl Store {
    /// How long until the next task of a queue is due: nothing if one is due now; `None` if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn next_due(&self, queue: &str) -> Result<Option<Duration>, StoreError> {
        let sql = self.dialect().pick(NEXT_SQLITE, NEXT_POSTGRES);
        let mut reading = self.begin_read().await?;
        let mut next: Option<Duration> = None;
        for priority in 0..i64::from(PRIORITIES) {
            if let Some(row) = reading.fetch_optional(sql, args![queue, priority]).await? {
                let wait = Duration::from_millis(u64::try_from(row.get::<i64>(0)?).unwrap_or(0));
                next = Some(next.map_or(wait, |next| next.min(wait)));
            }
        }
        Ok(next)
    }
}
