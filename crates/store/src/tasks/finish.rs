//! Acknowledgements.

use super::{ERRORS_KEPT, TaskId, now, types};
use crate::{
    Dialect, StoreError, Transaction,
    value::{Value, args, millis},
};
use serde_json::Value as Json;
use std::{collections::HashSet, time::Duration};

/// What came of a try.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done.
    Completed {
        /// What came out.
        result: Json,
        /// What to keep of the payload; all of it where this is none.
        payload: Option<Json>,
    },
    /// It failed; it is tried again after `after` unless that was the last try.
    Failed {
        /// Why.
        error: String,
        /// Not before this has passed.
        after: Duration,
    },
    /// It failed, and trying again is of no use.
    Discarded {
        /// Why.
        error: String,
    },
    /// Nothing was tried, or not to its end: it goes back, and the try does not count.
    Released {
        /// Not before this has passed.
        after: Duration,
    },
}

/// What came of a claimed task.
#[derive(Debug, Clone, PartialEq)]
pub struct Acknowledgement {
    /// The task.
    pub id: TaskId,
    /// The claim that it was claimed by.
    pub claim: i64,
    /// What came of it.
    pub outcome: Outcome,
}

// Whatever has a claim is running. The status is not compared, and the ids are given as a list too, so that rows are found by
// their ids whatever the statistics say: an index of what is running has many entries that are dead.
pub(super) const COMPLETE_POSTGRES: &str = concat!(
    "UPDATE tasks AS t SET status = 'completed', worker = NULL, claim = NULL, result = a.result, finished_at = ",
    now!(postgres),
    ", payload = COALESCE(a.payload, t.payload), input = CASE WHEN t.input_kept = 1 THEN t.input END, \
     unique_key = CASE WHEN t.key_kept = 1 THEN t.unique_key END \
     FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS a (id, claim, result, payload) \
     WHERE t.id = ANY (ARRAY(SELECT unnest($1::text[]))) AND t.id = a.id AND t.claim = a.claim RETURNING t.id"
);
const COMPLETE_SQLITE: &str = concat!(
    "UPDATE tasks SET status = 'completed', worker = NULL, claim = NULL, result = $3, finished_at = ",
    now!(sqlite),
    ", payload = COALESCE($4, payload), input = CASE WHEN input_kept = 1 THEN input END, \
     unique_key = CASE WHEN key_kept = 1 THEN unique_key END \
     WHERE id = $1 AND claim = $2 RETURNING id"
);

/// Gives a task back as if it had not been tried.
macro_rules! released {
    ($clock:ident) => {
        concat!(
            "UPDATE tasks SET status = 'queued', worker = NULL, claim = NULL, attempts = attempts - 1, run_at = ",
            now!($clock),
            " + $3 WHERE id = $1 AND claim = $2 RETURNING id"
        )
    };
}
const RELEASE_POSTGRES: &str = released!(postgres);
const RELEASE_SQLITE: &str = released!(sqlite);

/// Sets what follows from a try that failed; `$4` is 1 where it was the last one, `$5` the errors.
macro_rules! failed {
    ($clock:ident) => {
        concat!(
            "UPDATE tasks SET status = CASE WHEN $4 = 1 THEN 'discarded' ELSE 'failed' END, worker = NULL, claim = NULL, \
             run_at = ",
            now!($clock),
            " + $3, finished_at = CASE WHEN $4 = 1 THEN ",
            now!($clock),
            " END, errors = $5 WHERE id = $1 AND claim = $2 RETURNING id"
        )
    };
}
const FAIL_POSTGRES: &str = failed!(postgres);
const FAIL_SQLITE: &str = failed!(sqlite);

const TRIED_POSTGRES: &str = "SELECT attempts, max_attempts, errors FROM tasks WHERE id = $1 AND claim = $2 FOR UPDATE";
const TRIED_SQLITE: &str = "SELECT attempts, max_attempts, errors FROM tasks WHERE id = $1 AND claim = $2";

/// The errors of a task with one more, the last ones of them.
pub(super) fn with_error(errors: Option<&str>, attempt: i64, at: i64, error: &str) -> Result<String, StoreError> {
    let mut errors: Vec<types::TryError> = errors.map_or(Ok(Vec::new()), types::json)?;
    errors.push(types::TryError { attempt, at, error: types::clipped(error) });
    let surplus = errors.len().saturating_sub(ERRORS_KEPT);
    errors.drain(..surplus);
    serde_json::to_string(&errors).map_err(|error| StoreError::Row(error.to_string()))
}

impl Transaction {
    /// Takes acknowledgements, and answers whose were taken: those of tasks that are still theirs. For the others nothing is
    /// written.
    ///
    /// # Errors
    /// The database failed.
    pub async fn acknowledge(&mut self, all: &[Acknowledgement]) -> Result<HashSet<TaskId>, StoreError> {
        let mut taken = self.complete(all).await?;
        let (release, fail, tried) = self
            .dialect()
            .pick((RELEASE_SQLITE, FAIL_SQLITE, TRIED_SQLITE), (RELEASE_POSTGRES, FAIL_POSTGRES, TRIED_POSTGRES));
        for Acknowledgement { id, claim, outcome } in all {
            let row = match outcome {
                Outcome::Completed { .. } => continue,
                Outcome::Released { after } => {
                    self.fetch_optional(release, args![id.to_string(), *claim, millis(*after)]).await?
                }
                Outcome::Failed { error, .. } | Outcome::Discarded { error } => {
                    let Some(row) = self.fetch_optional(tried, args![id.to_string(), *claim]).await? else { continue };
                    let (attempts, most): (i64, i64) = (row.get(0)?, row.get(1)?);
                    let errors: Option<String> = row.get(2)?;
                    let errors = with_error(errors.as_deref(), attempts, self.now_ms().await?, error)?;
                    let after = match outcome {
                        Outcome::Failed { after, .. } if attempts < most => Some(millis(*after)),
                        _ => None,
                    };
                    let args = args![id.to_string(), *claim, after.unwrap_or(0), i64::from(after.is_none()), errors];
                    self.fetch_optional(fail, args).await?
                }
            };
            taken.extend(row.map(|_| *id));
        }
        Ok(taken)
    }

    async fn complete(&mut self, all: &[Acknowledgement]) -> Result<HashSet<TaskId>, StoreError> {
        let completed = all.iter().filter_map(|acknowledgement| match &acknowledgement.outcome {
            Outcome::Completed { result, payload } => Some((acknowledgement, result, payload)),
            _ => None,
        });
        let mut taken = HashSet::new();
        if self.dialect() == Dialect::Sqlite {
            for (Acknowledgement { id, claim, .. }, result, payload) in completed {
                let payload = payload.as_ref().map(Json::to_string);
                let args = args![id.to_string(), *claim, result.to_string(), payload];
                taken.extend(self.fetch_optional(COMPLETE_SQLITE, args).await?.map(|_| *id));
            }
            return Ok(taken);
        }
        let (mut ids, mut claims, mut results, mut payloads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (acknowledgement, result, payload) in completed {
            ids.push(Some(acknowledgement.id.to_string()));
            claims.push(acknowledgement.claim);
            results.push(Some(result.to_string()));
            payloads.push(payload.as_ref().map(Json::to_string));
        }
        if ids.is_empty() {
            return Ok(taken);
        }
        let args = vec![Value::Texts(ids), Value::Ints(claims), Value::Texts(results), Value::Texts(payloads)];
        for row in self.fetch_all(COMPLETE_POSTGRES, args).await? {
            taken.insert(types::id(&row, 0)?);
        }
        Ok(taken)
    }
}
