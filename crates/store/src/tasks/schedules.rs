//! Tasks by the clock: which tick is next, so that each is taken once over all processes.

use crate::{Store, StoreError, Transaction, value::args};

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When, as a cron expression: the caller's to read.
    pub cron: String,
    /// The next tick, milliseconds since 1970.
    pub next_at: i64,
}

// A schedule that stays as it was keeps its tick, so that a restart neither loses nor repeats one.
const SET: &str = "INSERT INTO schedules (name, cron, next_at) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, next_at = excluded.next_at \
     WHERE schedules.cron <> excluded.cron";
const TAKE: &str = "UPDATE schedules SET next_at = $4 WHERE name = $1 AND cron = $2 AND next_at = $3";

impl Transaction {
    /// Makes a schedule, or gives it another expression. One that has this expression is left as it is: `next_at` is the
    /// first tick of a new one only.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        let Schedule { name, cron, next_at } = schedule;
        self.execute(SET, args![name.as_str(), cron.as_str(), *next_at]).await.map(drop)
    }

    /// Takes a schedule's next tick, after which `following` is the next one. False if another process has taken it, or the
    /// expression is another one by now: nothing is written then. What the tick stands for belongs into this transaction.
    ///
    /// # Errors
    /// The database failed.
    pub async fn take_tick(&mut self, schedule: &Schedule, following: i64) -> Result<bool, StoreError> {
        let Schedule { name, cron, next_at } = schedule;
        Ok(self.execute(TAKE, args![name.as_str(), cron.as_str(), *next_at, following]).await? == 1)
    }

    /// Deletes a schedule; false if there is none of that name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_schedule(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM schedules WHERE name = $1", args![name]).await? == 1)
    }
}

impl Store {
    /// Every schedule, by name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        let rows = self.fetch_all("SELECT name, cron, next_at FROM schedules ORDER BY name", Vec::new()).await?;
        rows.iter().map(|row| Ok(Schedule { name: row.get(0)?, cron: row.get(1)?, next_at: row.get(2)? })).collect()
    }
}
