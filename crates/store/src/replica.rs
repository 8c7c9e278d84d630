//! Reads from a streaming replica, and when not to trust it.
//!
//! A replica shows the past. Only what may be some seconds old is read there, through [`Store::relaxed`]: lists and searches of
//! clients. What decides something (leases, claims, a wallet's coins) reads where it writes.
//!
//! How far behind it is, is measured and not asked: each second the primary's position in the write-ahead log is noted, and the
//! replica's lag is the age of the newest note that it has replayed. That needs no common clock, and also notices a replica that
//! has lost its primary, which believes to be up to date. While it lags, is away, was promoted, or nobody has looked yet,
//! reads go to the primary.

use crate::{
    Store, StoreError,
    pools::Pool,
    tasks::{Status, Task, TaskId},
};
use sqlx::{PgConnection, Postgres};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often it is looked how far the replica is, while it is read from.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long the replica may take for anything before the primary is asked instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A task that was queued since then is not looked for in the replica.
const FRESH: Duration = Duration::from_secs(2);

const WRITTEN: &str = "SELECT CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS BIGINT)";
const REPLAYED: &str = "SELECT CASE WHEN pg_is_in_recovery() \
     THEN CAST(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') AS BIGINT) END";

/// How it is with a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Reads go there.
    pub used: bool,
    /// How far behind it may be: what it was when last looked at, and the time since.
    pub lag: Option<Duration>,
    /// Why reads do not go there.
    pub reason: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) pool: Pool<Postgres>,
    primary: Pool<Postgres>,
    max_lag: Duration,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    checking: bool,
    checked: Option<Instant>,
    /// When the primary had written how much; only the newest one that is replayed, and those after it.
    written: VecDeque<(Instant, i64)>,
    verdict: Option<Result<Duration, String>>,
}

impl Replica {
    pub(crate) fn new(pool: Pool<Postgres>, primary: Pool<Postgres>, max_lag: Duration) -> Self {
        Self { pool, primary, max_lag, watch: Mutex::default() }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to read from it. Looks after it in the background, and never waits.
    pub(crate) fn is_fit(self: &Arc<Self>) -> bool {
        let mut watch = self.watch();
        if !watch.checking && watch.checked.is_none_or(|checked| checked.elapsed() >= CHECK_EVERY) {
            watch.checking = true;
            let check = Check(self.clone());
            tokio::spawn(async move { check.0.check().await });
        }
        self.status_of(&watch).used
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        self.status_of(&self.watch())
    }

    fn status_of(&self, watch: &Watch) -> ReplicaStatus {
        let no = |lag, reason: &str| ReplicaStatus { used: false, lag, reason: Some(reason.to_owned()) };
        match (&watch.verdict, watch.checked) {
            (None, _) | (_, None) => no(None, "nobody has looked yet"),
            (Some(Err(reason)), _) => no(None, reason),
            (Some(Ok(lag)), Some(checked)) => {
                // Whether it has replayed anything since is not known.
                let lag = *lag + checked.elapsed();
                if lag <= self.max_lag {
                    ReplicaStatus { used: true, lag: Some(lag), reason: None }
                } else {
                    no(Some(lag), "it lags, or nobody has looked lately")
                }
            }
        }
    }

    /// It has failed somebody: no more reads until the next look.
    pub(crate) fn failed(&self, error: &StoreError) {
        self.watch().verdict = Some(Err(error.to_string()));
    }

    async fn check(&self) {
        let begin = Instant::now();
        let looked = tokio::time::timeout(PATIENCE, self.look()).await;
        let mut watch = self.watch();
        watch.checked = Some(Instant::now());
        let before = matches!(watch.verdict, Some(Ok(_)));
        watch.verdict = Some(match looked {
            Err(_) => Err("it does not answer".into()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok((_, None))) => Err("it is no replica".into()),
            Ok(Ok((written, Some(replayed)))) => {
                watch.written.push_back((begin, written));
                while watch.written.get(1).is_some_and(|(_, position)| *position <= replayed) {
                    watch.written.pop_front();
                }
                // A note a second: more than any lag that is allowed.
                if watch.written.len() > 600 {
                    watch.written.remove(1);
                }
                match watch.written.front() {
                    Some((at, position)) if *position <= replayed => Ok(at.elapsed()),
                    _ => Err("it has not caught up since this process began to look".into()),
                }
            }
        });
        if let Some(Err(reason)) = &watch.verdict
            && before
        {
            tracing::warn!(reason, "reading from the primary instead of the replica");
        }
    }

    /// How much the primary has written, and after that how much the replica has replayed.
    async fn look(&self) -> Result<(i64, Option<i64>), StoreError> {
        let written = position(WRITTEN, &mut *self.primary.acquire().await?).await?;
        let written = written.ok_or_else(|| StoreError::Row("the primary has no position".into()))?;
        Ok((written, position(REPLAYED, &mut *self.pool.acquire().await?).await?))
    }
}

/// In a transaction, as all statements, for poolers.
async fn position(sql: &'static str, connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    use sqlx::Connection as _;
    let mut transaction = connection.begin().await?;
    let position = sqlx::query_scalar(sql).persistent(false).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(position)
}

/// Its runtime may end before it does.
struct Check(Arc<Replica>);

impl Drop for Check {
    fn drop(&mut self) {
        self.0.watch().checking = false;
    }
}

impl Store {
    /// A task as its client may see it: never older than what that client has seen before. Only a task that has completed is
    /// taken from a replica, because that does not change any more; and one that was queued lately is not looked for there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn task_for_client(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        if self.replica_status().is_some()
            && age(id) > FRESH
            && let Some(task) = self.relaxed().task(id).await?
            && task.status == Status::Completed
        {
            return Ok(Some(task));
        }
        self.task(id).await
    }
}

/// Since the task was queued, by its id.
fn age(id: TaskId) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = uuid::Uuid::try_parse(&id.to_string()).ok().and_then(|id| id.get_timestamp());
    created.map_or(Duration::MAX, |created| {
        let (seconds, nanoseconds) = created.to_unix();
        now.saturating_sub(Duration::new(seconds, nanoseconds))
    })
}
