//! Tasks by the clock: of all processes that know a schedule, one enqueues its task at each tick.

use crate::jobs::{Jobs, JobsError};
use cairn_store::tasks::{NewTask, Schedule};
use chrono::{DateTime, Utc};
use croner::Cron;
use std::str::FromStr as _;
use std::time::Duration;

/// How often it is looked, at least: the clock may have been set, or the expression changed by a newer version of the program.
const LOOK: Duration = Duration::from_secs(30);

/// The expression of a schedule means nothing, or no time that will ever be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schedule {name:?} cannot be {cron:?}: {reason}: use five fields as in crontab(5), in UTC")]
pub struct CronError {
    /// The schedule.
    pub name: String,
    /// What was given.
    pub cron: String,
    /// What is wrong.
    pub reason: String,
}

/// A task that is enqueued by the clock.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    name: String,
    cron: Cron,
    text: String,
    task: NewTask,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
enum Tick {
    /// The tick has come; the one after it is at this time.
    Due(i64),
    /// It comes after so long.
    In(Duration),
}

impl Timed {
    pub(crate) fn new(name: &str, cron: &str, task: NewTask) -> Result<Timed, CronError> {
        let wrong = |reason: croner::errors::CronError| CronError {
            name: name.to_owned(),
            cron: cron.to_owned(),
            reason: reason.to_string(),
        };
        let parsed = Cron::from_str(cron).map_err(wrong)?;
        parsed.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, false).map_err(wrong)?;
        Ok(Timed { name: name.to_owned(), cron: parsed, text: cron.to_owned(), task })
    }

    /// The first tick after a time, both in milliseconds since 1970; the end of time if there is none.
    fn after(&self, time: i64) -> i64 {
        let time = DateTime::from_timestamp_millis(time).unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
        self.cron.find_next_occurrence(&time, false).map_or(i64::MAX, |next| next.timestamp_millis())
    }

    /// Ticks that were missed while nobody ran count as one.
    fn tick(&self, next_at: i64, now: i64) -> Tick {
        match u64::try_from(next_at.saturating_sub(now)) {
            Ok(wait) if wait > 0 => Tick::In(Duration::from_millis(wait)),
            _ => Tick::Due(self.after(now)),
        }
    }
}

/// Puts the schedules into the database, where they are not.
async fn announce(jobs: &Jobs, schedules: &[Timed]) -> Result<(), JobsError> {
    let mut transaction = jobs.store().begin().await?;
    let now = transaction.now_ms().await?;
    for timed in schedules {
        let schedule = Schedule { name: timed.name.clone(), cron: timed.text.clone(), next_at: timed.after(now) };
        transaction.set_schedule(&schedule).await?;
    }
    Ok(transaction.commit().await?)
}

/// Enqueues what has come, unless another process has: how long until the next.
async fn look(jobs: &Jobs, schedules: &[Timed]) -> Result<Duration, JobsError> {
    let mut reading = jobs.store().begin_read().await?;
    let now = reading.now_ms().await?;
    drop(reading);
    let mut wait = LOOK;
    for schedule in jobs.store().schedules().await? {
        // With another expression it is another version's, which runs beside.
        let known = schedules.iter().find(|timed| timed.name == schedule.name && timed.text == schedule.cron);
        let Some(timed) = known else { continue };
        let following = match timed.tick(schedule.next_at, now) {
            Tick::In(time) => {
                wait = wait.min(time);
                continue;
            }
            Tick::Due(following) => following,
        };
        let mut transaction = jobs.store().begin().await?;
        if transaction.take_tick(&schedule, following).await? {
            transaction.enqueue(std::slice::from_ref(&timed.task)).await?;
            transaction.commit().await?;
            jobs.wake(&timed.task.queue);
        }
        wait = wait.min(Duration::from_millis(u64::try_from(following.saturating_sub(now)).unwrap_or(0)));
    }
    Ok(wait)
}

/// Goes by the clock for as long as it is polled.
pub(crate) async fn run(jobs: Jobs, schedules: Vec<Timed>) {
    let mut announced = false;
    loop {
        let looked = async {
            if !announced {
                announce(&jobs, &schedules).await?;
            }
            announced = true;
            look(&jobs, &schedules).await
        };
        let wait = looked.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what is to be done by the clock waits: trying again");
            Duration::from_secs(1)
        });
        tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn timed(cron: &str) -> Result<Timed, CronError> {
        Timed::new("clean", cron, NewTask::new("q", "clean", json!(null)))
    }

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 24 * 60 * MINUTE;

    #[test]
    fn ticks_follow_the_expression_in_utc() {
        assert_eq!(timed("*/5 * * * *").unwrap().after(MINUTE), 5 * MINUTE);
        assert_eq!(timed("*/5 * * * *").unwrap().after(5 * MINUTE), 10 * MINUTE, "not the same again");
        assert_eq!(timed("30 2 * * *").unwrap().after(0), 150 * MINUTE);
        assert_eq!(timed("0 0 * * MON").unwrap().after(0), 4 * DAY, "1970 began on a Thursday");
        assert_eq!(timed("@hourly").unwrap().after(61 * MINUTE), 120 * MINUTE);
    }

    #[test]
    fn missed_ticks_count_as_one() {
        let hourly = timed("0 * * * *").unwrap();
        assert_eq!(hourly.tick(60 * MINUTE, 59 * MINUTE), Tick::In(Duration::from_secs(60)));
        assert_eq!(hourly.tick(60 * MINUTE, 60 * MINUTE), Tick::Due(120 * MINUTE));
        assert_eq!(hourly.tick(60 * MINUTE, 2 * DAY + MINUTE), Tick::Due(2 * DAY + 60 * MINUTE));
    }

    #[test]
    fn what_never_comes_is_refused() {
        for cron in ["", "x", "* * *", "61 * * * *", "0 0 31 2 *"] {
            let error = timed(cron).unwrap_err();
            assert_eq!((&*error.name, &*error.cron), ("clean", cron));
        }
    }
}
