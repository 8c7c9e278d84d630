//! A worker: claims, runs, acknowledges, drains.

use crate::buffer::{Buffer, Held};
use crate::cron::{self, CronError, Timed};
use crate::handler::{Context, Done, Handler, TaskError, outcome};
use crate::jobs::Jobs;
use crate::lease::Lease;
use crate::news::lock;
use cairn_store::leases::LEASE_TIME;
use cairn_store::tasks::{Acknowledgement, Claimed, NewTask, Outcome, Position, Status, TaskId};
use cairn_store::{Dialect, StoreError};
use futures_util::FutureExt as _;
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often it is looked for tasks whose worker is gone.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often tasks are deleted by age, and how many at a time.
const DELETE_EVERY: Duration = Duration::from_secs(60);
const DELETE_BATCH: u32 = 1000;
/// How often it is looked for tasks that came before those that were claimed last.
const FROM_FRONT: Duration = Duration::from_millis(250);
/// After an empty claim: how long until it is asked when the next task is due.
const SOON: Duration = Duration::from_millis(200);
/// How long a task of a type that has no handler here is left to others.
const NOT_OURS: Duration = Duration::from_secs(10);
/// How long to wait after the database failed.
const RETRY: Duration = Duration::from_millis(500);
/// How long giving back may take at the end.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// Acknowledgements in one transaction.
const ACKNOWLEDGED_AT_ONCE: usize = 2000;

/// How long ended tasks are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Completed ones.
    pub completed: Duration,
    /// Discarded ones.
    pub discarded: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Retention { completed: day * 7, discarded: day * 30 }
    }
}

/// A worker to be.
#[derive(Debug)]
pub struct Worker {
    jobs: Jobs,
    queues: Vec<(String, usize)>,
    handlers: HashMap<String, Handler>,
    retention: Retention,
    schedules: Vec<Timed>,
}

/// A worker that runs. It goes on when this is dropped; [`RunningWorker::stop`] ends it.
#[derive(Debug)]
pub struct RunningWorker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    jobs: Jobs,
    handlers: HashMap<String, Handler>,
    queues: Vec<(String, Arc<Buffer>)>,
    lease: Arc<Lease>,
    retention: Retention,
    /// Tasks that run, and the claims that they were claimed by.
    running: Mutex<HashMap<TaskId, i64>>,
    acknowledgements: Mutex<Vec<Acknowledgement>>,
    acknowledge: Notify,
    /// Nothing is claimed any more.
    stopping: CancellationToken,
    /// The time to end is up.
    aborting: CancellationToken,
    /// All is acknowledged.
    done: CancellationToken,
    tracker: TaskTracker,
}

impl Worker {
    /// A worker without queues.
    #[must_use]
    pub fn new(jobs: Jobs) -> Worker {
        Worker {
            jobs,
            queues: Vec::new(),
            handlers: HashMap::new(),
            retention: Retention::default(),
            schedules: Vec::new(),
        }
    }

    /// Takes tasks of a queue, so many at once.
    #[must_use]
    pub fn queue(mut self, name: &str, concurrency: usize) -> Worker {
        self.queues.push((name.to_owned(), concurrency));
        self
    }

    /// Does tasks of a type on a thread that may compute as long as it likes.
    #[must_use]
    pub fn cpu(
        mut self,
        task_type: &str,
        handler: impl Fn(Claimed) -> Result<Done, TaskError> + Send + Sync + 'static,
    ) -> Worker {
        self.handlers.insert(task_type.to_owned(), Handler::Cpu(Arc::new(handler)));
        self
    }

    /// Does tasks of a type on the event loop.
    #[must_use]
    pub fn io<F>(mut self, task_type: &str, handler: impl Fn(Claimed, Context) -> F + Send + Sync + 'static) -> Worker
    where
        F: Future<Output = Result<Done, TaskError>> + Send + 'static,
    {
        let handler = move |claimed, context| handler(claimed, context).boxed();
        self.handlers.insert(task_type.to_owned(), Handler::Io(Arc::new(handler)));
        self
    }

    /// How long ended tasks are kept.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Worker {
        self.retention = retention;
        self
    }

    /// Enqueues a task by the clock, whichever queue it is for: once at each tick, however many workers have the schedule. What
    /// was missed while none ran is made up for by one.
    ///
    /// `cron` has five fields as in crontab(5), or six with seconds first, in UTC. `name` is the schedule's, of all workers.
    ///
    /// # Errors
    /// The expression means nothing, or a time that never comes.
    pub fn schedule(mut self, name: &str, cron: &str, task: NewTask) -> Result<Worker, CronError> {
        self.schedules.push(Timed::new(name, cron, task)?);
        Ok(self)
    }

    /// Begins to work.
    #[must_use]
    pub fn start(self) -> RunningWorker {
        let queues = self.queues.into_iter().map(|(name, concurrency)| (name, Arc::new(Buffer::new(concurrency))));
        let shared = Arc::new(Shared {
            lease: Lease::new(self.jobs.store().clone()),
            jobs: self.jobs,
            handlers: self.handlers,
            queues: queues.collect(),
            retention: self.retention,
            running: Mutex::default(),
            acknowledgements: Mutex::default(),
            acknowledge: Notify::new(),
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            done: CancellationToken::new(),
            tracker: TaskTracker::new(),
        });
        for (name, buffer) in &shared.queues {
            shared.tracker.spawn(shared.clone().claim_from(name.clone(), buffer.clone()));
        }
        shared.tracker.spawn(shared.clone().acknowledge_all());
        if !self.schedules.is_empty() {
            let (stopping, clock) = (shared.stopping.clone(), cron::run(shared.jobs.clone(), self.schedules));
            shared.tracker.spawn(async move { stopping.run_until_cancelled(clock).await });
        }
        shared.tracker.spawn(shared.clone().keep_house());
        RunningWorker { shared }
    }
}

impl RunningWorker {
    /// Claims nothing more, lets what runs end until `deadline` has passed, and gives back what has not ended by then.
    pub async fn stop(&self, deadline: Duration) {
        let shared = &self.shared;
        shared.stopping.cancel();
        for (_, buffer) in &shared.queues {
            let unbegun = buffer.drain();
            shared.give_back(unbegun.iter().map(|held| (held.claimed.id, held.claimed.claim)));
        }
        if tokio::time::timeout(deadline, shared.holds_nothing()).await.is_err() {
            shared.aborting.cancel();
            // What computes cannot be interrupted; what it says in the end is not asked for any more.
            let running = std::mem::take(&mut *lock(&shared.running));
            tracing::warn!(count = running.len(), "tasks still ran when the time to end was up: they are given back");
            shared.give_back(running.into_iter());
            let _ = tokio::time::timeout(GIVE_BACK, shared.holds_nothing()).await;
        }
        shared.done.cancel();
        shared.lease.stop();
        shared.tracker.close();
        let _ = tokio::time::timeout(GIVE_BACK, shared.tracker.wait()).await;
    }
}

impl Shared {
    /// Returns once all that was claimed is acknowledged.
    async fn holds_nothing(&self) {
        while self.lease.held() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Claims tasks of a queue until the worker stops.
    async fn claim_from(self: Arc<Self>, name: String, buffer: Arc<Buffer>) {
        let news = self.jobs.news().queue(&name);
        let (mut position, mut at_front) = (Position::default(), Instant::now());
        while !self.stopping.is_cancelled() {
            let room = buffer.room();
            if room == 0 {
                tokio::select! {
                    () = buffer.wanted.notified() => continue,
                    () = self.stopping.cancelled() => return,
                }
            }
            if at_front.elapsed() > FROM_FRONT {
                (position, at_front) = (Position::default(), Instant::now());
            }
            let wait = match self.claim(&mut position, &name, room).await {
                Ok(held) if !held.is_empty() => {
                    buffer.push(held);
                    self.dispatch(&buffer);
                    continue;
                }
                Ok(_) => SOON,
                Err(error) => {
                    tracing::warn!(queue = name, %error, "no tasks can be claimed: trying again");
                    self.pause(RETRY).await;
                    continue;
                }
            };
            tokio::select! {
                () = news.notified() => {}
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {
                    let due = self.jobs.store().next_due(&name).await.ok().flatten().unwrap_or(Duration::MAX);
                    tokio::select! {
                        () = news.notified() => {}
                        () = self.stopping.cancelled() => return,
                        () = tokio::time::sleep(due.min(self.jobs.news().patience())) => {}
                    }
                }
            }
        }
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stopping.cancelled()).await;
    }

    async fn claim(&self, position: &mut Position, queue: &str, limit: usize) -> Result<Vec<Held>, StoreError> {
        let store = self.jobs.store();
        // Claiming writes: it is asked first where that would wait for others, or would need a lease that is not held.
        let ask_first = store.dialect() == Dialect::Sqlite || !self.lease.is_held();
        if ask_first && !store.next_due(queue).await?.is_some_and(|wait| wait.is_zero()) {
            return Ok(Vec::new());
        }
        let session = self.lease.hold();
        let claimed = async {
            // A claim that is forgotten costs a try, and nothing else.
            let mut transaction = store.begin_forgettable().await?;
            if !session.registered {
                transaction.begin_worker(&session.name, self.lease.host(), LEASE_TIME).await?;
            }
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let claimed = transaction.claim_after(position, &session.name, queue, limit).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(claimed)
        };
        let claimed = claimed.await;
        if claimed.is_ok() {
            self.lease.registered(&session.name);
        }
        self.lease.add(claimed.as_ref().map_or(0, Vec::len));
        self.lease.release(1);
        let held = claimed?.into_iter().map(|claimed| Held { claimed, lost: session.lost.clone() });
        Ok(held.collect())
    }

    /// Runs what waits, as far as it may.
    fn dispatch(self: &Arc<Self>, buffer: &Arc<Buffer>) {
        while let Some(held) = buffer.start() {
            self.run(buffer, held);
        }
    }

    fn handler(&self, held: &Held) -> Option<&Handler> {
        self.handlers.get(&held.claimed.task_type)
    }

    fn run(self: &Arc<Self>, buffer: &Arc<Buffer>, held: Held) {
        lock(&self.running).insert(held.claimed.id, held.claimed.claim);
        let (shared, buffer) = (self.clone(), buffer.clone());
        match self.handler(&held).cloned() {
            Some(Handler::Cpu(_)) => {
                self.tracker.spawn_blocking(move || shared.compute(&buffer, held));
            }
            Some(Handler::Io(handler)) => {
                self.tracker.spawn(async move {
                    let began = Instant::now();
                    let context = Context { cancelled: held.lost.child_token() };
                    let (id, claim, attempt) = (held.claimed.id, held.claimed.claim, held.claimed.attempt);
                    let kind = held.claimed.task_type.clone();
                    let running = AssertUnwindSafe(handler(held.claimed, context.clone())).catch_unwind();
                    let result = tokio::select! {
                        result = running => Some(result.unwrap_or_else(|panic| Err(panicked(&*panic)))),
                        () = held.lost.cancelled() => None,
                        () = shared.aborting.cancelled() => Some(Err(TaskError::Later(Duration::ZERO))),
                    };
                    context.cancelled.cancel();
                    shared.ended(id, claim, &kind, result.map(|result| outcome(result, attempt)), began.elapsed());
                    buffer.free(began.elapsed());
                    shared.dispatch(&buffer);
                });
            }
            None => {
                let kind = &held.claimed.task_type;
                tracing::warn!(kind, "no handler for this type of task here: it is left to other workers");
                let outcome = Outcome::Released { after: NOT_OURS };
                self.ended(held.claimed.id, held.claimed.claim, kind, Some(outcome), Duration::ZERO);
                buffer.free(Duration::ZERO);
            }
        }
    }

    /// Runs a task that computes, and then those after it, for as long as there are any.
    fn compute(self: Arc<Self>, buffer: &Arc<Buffer>, mut held: Held) {
        loop {
            let began = Instant::now();
            let Claimed { id, claim, attempt, .. } = held.claimed;
            let kind = held.claimed.task_type.clone();
            let result = match self.handler(&held) {
                _ if held.lost.is_cancelled() => None,
                Some(Handler::Cpu(handler)) => {
                    let run = catch_unwind(AssertUnwindSafe(|| handler(held.claimed)));
                    Some(outcome(run.unwrap_or_else(|panic| Err(panicked(&*panic))), attempt))
                }
                _ => Some(Outcome::Released { after: NOT_OURS }),
            };
            self.ended(id, claim, &kind, result, began.elapsed());
            let next = buffer.replace(began.elapsed(), |next| matches!(self.handler(next), Some(Handler::Cpu(_))));
            match next {
                Some(next) => {
                    lock(&self.running).insert(next.claimed.id, next.claimed.claim);
                    held = next;
                }
                None => break,
            }
        }
        self.dispatch(buffer);
    }

    /// A task ended here; with no outcome it was others' by then.
    fn ended(&self, id: TaskId, claim: i64, kind: &str, outcome: Option<Outcome>, took: Duration) {
        if lock(&self.running).remove(&id).is_none() {
            // It was given back.
            return;
        }
        let label = match &outcome {
            Some(Outcome::Completed { .. }) => "completed",
            Some(Outcome::Failed { .. }) => "failed",
            Some(Outcome::Discarded { .. }) => "discarded",
            Some(Outcome::Released { .. }) => "released",
            None => "lost",
        };
        metrics::counter!("cairn_jobs_ended_total", "type" => kind.to_owned(), "outcome" => label).increment(1);
        metrics::histogram!("cairn_job_duration_seconds", "type" => kind.to_owned()).record(took);
        match outcome {
            Some(outcome) => {
                lock(&self.acknowledgements).push(Acknowledgement { id, claim, outcome });
                self.acknowledge.notify_one();
            }
            None => self.lease.release(1),
        }
    }

    fn give_back(&self, tasks: impl Iterator<Item = (TaskId, i64)>) {
        let outcome = || Outcome::Released { after: Duration::ZERO };
        let mut waiting = lock(&self.acknowledgements);
        waiting.extend(tasks.map(|(id, claim)| Acknowledgement { id, claim, outcome: outcome() }));
        self.acknowledge.notify_one();
    }

    /// Writes acknowledgements until the worker is done: those that came while the ones before were written.
    async fn acknowledge_all(self: Arc<Self>) {
        loop {
            let some = {
                let mut waiting = lock(&self.acknowledgements);
                let count = waiting.len().min(ACKNOWLEDGED_AT_ONCE);
                waiting.drain(..count).collect::<Vec<_>>()
            };
            if some.is_empty() {
                tokio::select! {
                    () = self.acknowledge.notified() => continue,
                    () = self.done.cancelled() => {}
                }
                if lock(&self.acknowledgements).is_empty() {
                    return;
                }
                continue;
            }
            let count = some.len();
            match self.write(&some).await {
                Ok(taken) => {
                    if taken < count {
                        tracing::warn!(refused = count - taken, "tasks that ended here were others' by then");
                    }
                    self.lease.release(count);
                    self.jobs.news().ended();
                    self.wake_for_released(&some);
                }
                Err(error) => {
                    tracing::warn!(%error, "tasks that ended cannot be acknowledged: trying again");
                    lock(&self.acknowledgements).extend(some);
                    if self.done.is_cancelled() {
                        // They are lost with the lease, and done again.
                        return;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn wake_for_released(&self, some: &[Acknowledgement]) {
        if some.iter().any(|one| matches!(one.outcome, Outcome::Released { .. } | Outcome::Failed { .. })) {
            self.jobs.news().enqueued(self.queues.iter().map(|(name, _)| name.as_str()));
        }
    }

    async fn write(&self, some: &[Acknowledgement]) -> Result<usize, StoreError> {
        let mut transaction = self.jobs.store().begin().await?;
        let taken = transaction.acknowledge(some).await?;
        transaction.commit().await?;
        Ok(taken.len())
    }

    /// Gives back what lost workers held, and deletes what is old.
    async fn keep_house(self: Arc<Self>) {
        let mut deleted = Instant::now();
        while !self.stopping.is_cancelled() {
            if let Err(error) = self.rescue().await {
                tracing::warn!(%error, "it is not known whether workers were lost: looking again");
            }
            if deleted.elapsed() >= DELETE_EVERY {
                deleted = Instant::now();
                if let Err(error) = self.delete_old().await {
                    tracing::warn!(%error, "old tasks are kept longer");
                }
            }
            self.pause(RESCUE_EVERY.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
        }
    }

    async fn rescue(&self) -> Result<(), StoreError> {
        let store = self.jobs.store();
        if !store.has_lost_tasks().await? {
            return Ok(());
        }
        let mut transaction = store.begin().await?;
        let rescued = transaction.rescue().await?;
        transaction.commit().await?;
        if rescued > 0 {
            tracing::warn!(rescued, "tasks of workers that are gone are queued again");
            self.jobs.news().enqueued(self.queues.iter().map(|(name, _)| name.as_str()));
            self.jobs.news().ended();
        }
        Ok(())
    }

    async fn delete_old(&self) -> Result<(), StoreError> {
        let Retention { completed, discarded } = self.retention;
        for (status, age) in [(Status::Completed, completed), (Status::Discarded, discarded)] {
            loop {
                let mut transaction = self.jobs.store().begin().await?;
                let deleted = transaction.delete_old_tasks(status, age, DELETE_BATCH).await?;
                transaction.commit().await?;
                if deleted < u64::from(DELETE_BATCH) || self.stopping.is_cancelled() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A panic as an error: the next try may fare better.
fn panicked(panic: &(dyn Any + Send)) -> TaskError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    TaskError::Retry(format!("the handler panicked: {}", text.unwrap_or("no message")))
}
