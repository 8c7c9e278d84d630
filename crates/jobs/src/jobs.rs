//! Enqueueing, waiting, looking.

use crate::news::{News, lock};
use cairn_store::tasks::{Enqueued, Filter, NewTask, QueueCounts, QueueSettings, Task, TaskId};
use cairn_store::{Store, StoreError, Transaction};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most tasks, and most bytes of their inputs, in one transaction.
const BATCH: usize = 2000;
const BATCH_BYTES: usize = 32 << 20;

/// Why something with tasks failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The database failed.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The process stops.
    #[error("the process is stopping: nothing was enqueued")]
    Stopping,
}

impl From<StoreError> for JobsError {
    fn from(error: StoreError) -> JobsError {
        JobsError::Store(Arc::new(error))
    }
}

/// The queues of a database. Clones share everything.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    news: News,
    /// What waits for the transaction before it to end.
    pending: Mutex<Vec<Pending>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Pending {
    tasks: Vec<NewTask>,
    done: oneshot::Sender<Result<Vec<Enqueued>, JobsError>>,
}

impl Jobs {
    /// The queues of a database. Nothing runs until something is done with them.
    #[must_use]
    pub fn new(store: Store) -> Jobs {
        let news = News::new(store.clone());
        Jobs(Arc::new(Inner { store, news, pending: Mutex::default(), turn: tokio::sync::Mutex::default() }))
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn news(&self) -> &News {
        &self.0.news
    }

    /// Enqueues a task. What others enqueue at the same time goes into the same transaction.
    ///
    /// # Errors
    /// The database failed: nothing was enqueued.
    pub async fn enqueue(&self, task: NewTask) -> Result<Enqueued, JobsError> {
        let done = self.enqueue_all(vec![task]).await?;
        done.into_iter().next().ok_or(JobsError::Stopping)
    }

    /// Enqueues tasks, all or none.
    ///
    /// # Errors
    /// The database failed: none was enqueued.
    pub async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, JobsError> {
        let (done, answer) = oneshot::channel();
        lock(&self.0.pending).push(Pending { tasks, done });
        let inner = self.0.clone();
        // Whoever gives up waiting does not take the others with it.
        tokio::spawn(async move {
            let _turn = inner.turn.lock().await;
            inner.write_pending().await;
        });
        answer.await.map_err(|_| JobsError::Stopping)?
    }

    /// Enqueues tasks in a transaction of the caller's. Once it is committed, [`Jobs::wake`] tells the workers; they find it
    /// out by themselves otherwise, a little later.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enqueue_in(transaction: &mut Transaction, tasks: &[NewTask]) -> Result<Vec<Enqueued>, JobsError> {
        Ok(transaction.enqueue(tasks).await?)
    }

    /// Tells workers that a queue has something new.
    pub fn wake(&self, queue: &str) {
        self.0.news.enqueued([queue]);
    }

    /// A task as it is now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, id: TaskId) -> Result<Option<Task>, JobsError> {
        Ok(self.0.store.task(id).await?)
    }

    /// A task once it has ended, or as it is when the time is up.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wait(&self, id: TaskId, time: Duration) -> Result<Option<Task>, JobsError> {
        if time.is_zero() {
            return self.get(id).await;
        }
        let deadline = tokio::time::Instant::now() + time;
        loop {
            // Before it is looked, so that no end is missed.
            let mut waiter = self.0.news.waiter(id);
            let task = self.get(id).await?;
            if task.as_ref().is_none_or(|task| task.status.is_final()) {
                return Ok(task);
            }
            if tokio::time::timeout_at(deadline, waiter.ended()).await.is_err() {
                return Ok(task);
            }
        }
    }

    /// A page of tasks, the newest first: those before `before`, or the first ones.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, filter: &Filter, before: Option<TaskId>, limit: u32) -> Result<Vec<Task>, JobsError> {
        Ok(self.0.store.tasks(filter, before, limit).await?)
    }

    /// How many tasks the queues have, by status; completed ones are not counted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn counts(&self) -> Result<Vec<QueueCounts>, JobsError> {
        Ok(self.0.store.queue_counts().await?)
    }

    /// Tries a task again that was discarded; false if it was not.
    ///
    /// # Errors
    /// The database failed, or another task has taken its key.
    pub async fn retry(&self, id: TaskId) -> Result<bool, JobsError> {
        let Some(task) = self.get(id).await? else { return Ok(false) };
        let mut transaction = self.0.store.begin().await?;
        let retried = transaction.retry_task(id).await?;
        transaction.commit().await?;
        self.wake(&task.queue);
        Ok(retried)
    }

    /// Deletes a task that no worker has; false if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete(&self, id: TaskId) -> Result<bool, JobsError> {
        let mut transaction = self.0.store.begin().await?;
        let deleted = transaction.delete_task(id).await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    /// Pauses a queue or lets it go on, and bounds how many of its tasks run at once over all workers.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_queue(&self, settings: &QueueSettings) -> Result<(), JobsError> {
        let mut transaction = self.0.store.begin().await?;
        transaction.set_queue(settings).await?;
        transaction.commit().await?;
        self.wake(&settings.name);
        Ok(())
    }
}

impl Inner {
    /// Writes what waits, in as few transactions as its size allows.
    async fn write_pending(&self) {
        loop {
            let batch = {
                let mut pending = lock(&self.pending);
                let (mut tasks, mut bytes) = (0, 0);
                let fits = pending.iter().position(|next| {
                    tasks += next.tasks.len();
                    bytes += next.tasks.iter().map(|task| task.input.as_ref().map_or(0, Vec::len)).sum::<usize>();
                    tasks > BATCH || bytes > BATCH_BYTES
                });
                let count = fits.map_or(pending.len(), |first| first.max(1));
                pending.drain(..count).collect::<Vec<_>>()
            };
            match batch.len() {
                0 => return,
                1 => {
                    for Pending { tasks, done } in batch {
                        let _ = done.send(self.write(&tasks).await);
                    }
                }
                _ => self.write_together(batch).await,
            }
        }
    }

    async fn write_together(&self, mut batch: Vec<Pending>) {
        let counts: Vec<usize> = batch.iter().map(|pending| pending.tasks.len()).collect();
        let tasks: Vec<NewTask> = batch.iter_mut().flat_map(|pending| pending.tasks.drain(..)).collect();
        let result = self.write(&tasks).await;
        let mut rest = &tasks[..];
        let mut written = result.as_ref().map(|all| &all[..]).unwrap_or_default();
        for (Pending { done, .. }, count) in batch.into_iter().zip(counts) {
            let (mine, others) = rest.split_at(count);
            rest = others;
            let answer = match &result {
                Ok(_) => {
                    let (mine, others) = written.split_at(count);
                    written = others;
                    Ok(mine.to_vec())
                }
                // One may have spoilt it for all.
                Err(JobsError::Store(error)) if !error.is_transient() => self.write(mine).await,
                Err(error) => Err(error.clone()),
            };
            let _ = done.send(answer);
        }
    }

    async fn write(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>, JobsError> {
        let mut transaction = self.store.begin().await?;
        let done = transaction.enqueue(tasks).await?;
        transaction.commit().await?;
        let mut queues: Vec<&str> = tasks.iter().map(|task| task.queue.as_str()).collect();
        queues.sort_unstable();
        queues.dedup();
        self.news.enqueued(queues);
        Ok(done)
    }
}
