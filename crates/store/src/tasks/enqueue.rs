//! Into a queue.

use super::{Enqueued, NewTask, TaskId, now, types};
use crate::{
    Dialect, StoreError, Transaction,
    value::{Value, args, millis},
};
use std::collections::{HashMap, HashSet};

/// How often a key that was taken and is free again is tried.
const TRIES: usize = 5;

const INSERT_SQLITE: &str = concat!(
    "INSERT INTO tasks (id, type, status, queue, priority, created_at, run_at, max_attempts, unique_key, key_kept, \
     payload, input, input_kept) VALUES ($1, $2, 'queued', $3, $4, ",
    now!(sqlite),
    ", ",
    now!(sqlite),
    " + $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND status <> 'discarded' DO NOTHING RETURNING id"
);
const INSERT_POSTGRES: &str = concat!(
    "INSERT INTO tasks (id, type, status, queue, priority, created_at, run_at, max_attempts, unique_key, key_kept, \
     payload, input, input_kept) \
     SELECT a.id, a.type, 'queued', a.queue, a.priority, ",
    now!(postgres),
    ", ",
    now!(postgres),
    " + a.delay, a.max_attempts, a.unique_key, a.key_kept, a.payload, a.input, a.input_kept \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], \
     $8::bigint[], $9::text[], $10::bytea[], $11::bigint[]) \
     AS a (id, type, queue, priority, delay, max_attempts, unique_key, key_kept, payload, input, input_kept) \
     ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND status <> 'discarded' DO NOTHING RETURNING id"
);
const HOLDER_SQLITE: &str = "SELECT unique_key, id, status FROM tasks \
     WHERE unique_key IN (SELECT value FROM json_each($1)) AND status <> 'discarded'";
const HOLDER_POSTGRES: &str = "SELECT unique_key, id, status FROM tasks \
     WHERE unique_key = ANY ($1::text[]) AND unique_key IS NOT NULL AND status <> 'discarded'";

impl Transaction {
    /// Puts tasks into their queues, in this transaction. A task whose key is taken is not: its place has the one that
    /// took it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<Vec<Enqueued>, StoreError> {
        let ids: Vec<TaskId> = tasks.iter().map(|_| TaskId::generate()).collect();
        let mut done: Vec<Option<Enqueued>> = vec![None; tasks.len()];
        for _ in 0..TRIES {
            let open: Vec<usize> = (0..tasks.len()).filter(|&at| done[at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let new: HashSet<TaskId> = self.insert(tasks, &ids, &open).await?.into_iter().collect();
            for &at in open.iter().filter(|&&at| new.contains(&ids[at])) {
                done[at] = Some(Enqueued { id: ids[at], existing: None });
            }
            let taken: Vec<usize> = open.into_iter().filter(|&at| done[at].is_none()).collect();
            if taken.is_empty() {
                break;
            }
            let keys = taken.iter().filter_map(|&at| tasks[at].unique.as_ref()).map(|unique| unique.key.clone());
            let sql = self.dialect().pick(HOLDER_SQLITE, HOLDER_POSTGRES);
            let mut holders = HashMap::new();
            for row in self.fetch_all(sql, vec![Value::Texts(keys.map(Some).collect())]).await? {
                holders.insert(row.get::<String>(0)?, (types::id(&row, 1)?, row.get::<String>(2)?.parse()?));
            }
            for at in taken {
                let holder = tasks[at].unique.as_ref().and_then(|unique| holders.get(&unique.key));
                done[at] = holder.map(|(id, status)| Enqueued { id: *id, existing: Some(*status) });
            }
        }
        let done: Option<Vec<Enqueued>> = done.into_iter().collect();
        done.ok_or_else(|| StoreError::Conflict("a task's key changes hands all the time".into()))
    }

    /// Inserts those of `tasks` at `which`, and answers the ids of those that came in.
    async fn insert(&mut self, tasks: &[NewTask], ids: &[TaskId], which: &[usize]) -> Result<Vec<TaskId>, StoreError> {
        let mut inserted = Vec::with_capacity(which.len());
        let key = |task: &NewTask| task.unique.as_ref().map(|unique| unique.key.clone());
        let key_kept = |task: &NewTask| i64::from(task.unique.as_ref().is_some_and(|unique| unique.while_kept));
        if self.dialect() == Dialect::Sqlite {
            for &at in which {
                let task = &tasks[at];
                let args = args![
                    ids[at].to_string(),
                    task.task_type.as_str(),
                    task.queue.as_str(),
                    task.stored_priority(),
                    millis(task.delay),
                    task.max_attempts.max(1),
                    key(task),
                    key_kept(task),
                    task.payload.to_string(),
                    task.input.clone(),
                    i64::from(task.keep_input),
                ];
                if self.fetch_optional(INSERT_SQLITE, args).await?.is_some() {
                    inserted.push(ids[at]);
                }
            }
            return Ok(inserted);
        }
        let chosen = || which.iter().map(|&at| &tasks[at]);
        let texts = |of: &dyn Fn(&NewTask) -> Option<String>| Value::Texts(chosen().map(of).collect());
        let ints = |of: &dyn Fn(&NewTask) -> i64| Value::Ints(chosen().map(of).collect());
        let args = vec![
            Value::Texts(which.iter().map(|&at| Some(ids[at].to_string())).collect()),
            texts(&|task| Some(task.task_type.clone())),
            texts(&|task| Some(task.queue.clone())),
            ints(&NewTask::stored_priority),
            ints(&|task| millis(task.delay)),
            ints(&|task| i64::from(task.max_attempts.max(1))),
            texts(&key),
            ints(&key_kept),
            texts(&|task| Some(task.payload.to_string())),
            Value::Blobs(chosen().map(|task| task.input.clone()).collect()),
            ints(&|task| i64::from(task.keep_input)),
        ];
        for row in self.fetch_all(INSERT_POSTGRES, args).await? {
            inserted.push(types::id(&row, 0)?);
        }
        Ok(inserted)
    }
}
