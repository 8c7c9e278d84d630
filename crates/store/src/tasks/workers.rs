//! Leases of workers, and what the lost ones held.

use super::{finish::with_error, now};
use crate::{
    Store, StoreError, Transaction,
    value::{args, millis},
};
use std::time::Duration;

/// Sets or renews a lease, with the clock and the interval of the statement.
macro_rules! lease {
    ($clock:ident) => {
        (
            concat!(
                "INSERT INTO workers (name, host, started_at, expires_at) VALUES ($1, $2, ",
                now!($clock),
                ", ",
                now!($clock),
                " + $3) ON CONFLICT (name) DO NOTHING"
            ),
            concat!(
                "UPDATE workers SET expires_at = ",
                now!($clock),
                " + $2 WHERE name = $1 AND expires_at > ",
                now!($clock)
            ),
            concat!("DELETE FROM workers WHERE expires_at <= ", now!($clock)),
        )
    };
}
const SQLITE: (&str, &str, &str) = lease!(sqlite);
const POSTGRES: (&str, &str, &str) = lease!(postgres);

/// Tasks whose worker has no lease. Ended leases are deleted before it is asked.
const LOST_SQLITE: &str = "SELECT id, attempts, max_attempts, worker, errors FROM tasks \
     WHERE status = 'running' AND NOT EXISTS (SELECT 1 FROM workers WHERE name = tasks.worker) LIMIT 1000";
const LOST_POSTGRES: &str = "SELECT id, attempts, max_attempts, worker, errors FROM tasks \
     WHERE status = 'running' AND NOT EXISTS (SELECT 1 FROM workers WHERE name = tasks.worker) LIMIT 1000 \
     FOR UPDATE SKIP LOCKED";

/// Gives a lost task back; `$2` is 1 where it was the last try.
macro_rules! give_back {
    ($clock:ident) => {
        concat!(
            "UPDATE tasks SET status = CASE WHEN $2 = 1 THEN 'discarded' ELSE 'queued' END, worker = NULL, claim = NULL, \
             run_at = ",
            now!($clock),
            ", finished_at = CASE WHEN $2 = 1 THEN ",
            now!($clock),
            " END, errors = $3 WHERE id = $1 AND status = 'running'"
        )
    };
}

/// Whether a worker without a lease holds something.
macro_rules! any_lost {
    ($clock:ident) => {
        concat!(
            "SELECT 1 FROM tasks WHERE status = 'running' AND NOT EXISTS \
             (SELECT 1 FROM workers WHERE name = tasks.worker AND expires_at > ",
            now!($clock),
            ") LIMIT 1"
        )
    };
}

pub(super) const ANY_LOST_SQLITE: &str = any_lost!(sqlite);
pub(super) const ANY_LOST_POSTGRES: &str = any_lost!(postgres);

impl Transaction {
    fn lease_sql(&self) -> (&'static str, &'static str, &'static str) {
        self.dialect().pick(SQLITE, POSTGRES)
    }

    /// A worker takes a lease under a name that nobody else has; nothing changes where it has it already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn begin_worker(&mut self, name: &str, host: &str, lease: Duration) -> Result<(), StoreError> {
        self.execute(self.lease_sql().0, args![name, host, millis(lease)]).await.map(drop)
    }

    /// Renews a worker's lease; false if it has run out: what it held may be others' by now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn renew_worker(&mut self, name: &str, lease: Duration) -> Result<bool, StoreError> {
        Ok(self.execute(self.lease_sql().1, args![name, millis(lease)]).await? == 1)
    }

    /// Ends a worker's lease. What it still holds is lost, and found by [`Transaction::rescue`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn end_worker(&mut self, name: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM workers WHERE name = $1", args![name]).await.map(drop)
    }

    /// Ends every worker's lease, for tests.
    ///
    /// # Errors
    /// The database failed.
    #[cfg(feature = "testing")]
    pub async fn end_all_workers(&mut self) -> Result<(), StoreError> {
        self.execute("DELETE FROM workers", Vec::new()).await.map(drop)
    }

    /// Ends the leases that ran out, and gives back what their holders held: the number of tasks. A task that was lost as
    /// often as it may be tried is discarded.
    ///
    /// # Errors
    /// The database failed.
    pub async fn rescue(&mut self) -> Result<u64, StoreError> {
        self.execute(self.lease_sql().2, Vec::new()).await?;
        let (lost, give_back) =
            self.dialect().pick((LOST_SQLITE, give_back!(sqlite)), (LOST_POSTGRES, give_back!(postgres)));
        let mut rescued = 0;
        for row in self.fetch_all(lost, Vec::new()).await? {
            let (id, attempts, most): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (worker, errors): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let why = format!("the worker {} stopped renewing its lease", worker.unwrap_or_default());
            let errors = with_error(errors.as_deref(), attempts, self.now_ms().await?, &why)?;
            rescued += self.execute(give_back, args![id, i64::from(attempts >= most), errors]).await?;
        }
        Ok(rescued)
    }
}

impl Store {
    /// Whether there is something to [rescue](Transaction::rescue).
    ///
    /// # Errors
    /// The database failed.
    pub async fn has_lost_tasks(&self) -> Result<bool, StoreError> {
        let sql = self.dialect().pick(ANY_LOST_SQLITE, ANY_LOST_POSTGRES);
        Ok(self.fetch_optional(sql, Vec::new()).await?.is_some())
    }
}
