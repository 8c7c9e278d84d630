//! Who is woken by what: queues by new tasks, waiters by tasks that ended, in this process and in others.

use cairn_store::Store;
use cairn_store::changes::Change;
use cairn_store::tasks::TaskId;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often it is looked without news: where they come, in case one was lost; and where none come.
const LOOK_WITH_NEWS: Duration = Duration::from_secs(2);
const LOOK_WITHOUT_NEWS: Duration = Duration::from_millis(100);
/// At most so often others are told, and news are taken.
const GATHER: Duration = Duration::from_millis(3);
/// When listening is tried again that failed, or that told nothing.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_SILENT: Duration = Duration::from_secs(60);
/// What is announced of tasks that ended; a queue has its name after a `+`.
const ENDED: &str = "ended";

/// Locks what no panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The news of a process. What it runs ends with it.
#[derive(Debug)]
pub(crate) struct News {
    shared: Arc<Shared>,
    started: AtomicBool,
    stop: CancellationToken,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    queues: Mutex<HashMap<String, Arc<Notify>>>,
    /// Who waits for a task's end, each with a number of its own.
    waiting: Mutex<HashMap<TaskId, Vec<Waiting>>>,
    /// To be told to others.
    outgoing: Mutex<BTreeSet<String>>,
    tell: Notify,
    ended: Notify,
    listening: AtomicBool,
}

type Waiting = (u64, oneshot::Sender<()>);

impl Shared {
    /// How long to wait for news before looking by oneself.
    fn patience(&self) -> Duration {
        match self.listening.load(Ordering::Relaxed) {
            true => LOOK_WITH_NEWS,
            false => LOOK_WITHOUT_NEWS,
        }
    }
}

/// Somebody who waits for a task's end; no longer, once it is dropped.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    id: TaskId,
    number: u64,
    ended: oneshot::Receiver<()>,
}

impl Waiter {
    /// Returns when the task may have ended.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = lock(&self.shared.waiting);
        if let Some(waiters) = waiting.get_mut(&self.id) {
            waiters.retain(|(number, _)| *number != self.number);
            if waiters.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}

impl News {
    pub(crate) fn new(store: Store) -> News {
        let stop = CancellationToken::new();
        News {
            shared: Arc::new(Shared {
                store,
                queues: Mutex::default(),
                waiting: Mutex::default(),
                outgoing: Mutex::default(),
                tell: Notify::new(),
                ended: Notify::new(),
                listening: AtomicBool::new(false),
            }),
            started: AtomicBool::new(false),
            _stop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Begins to listen, to tell and to look, the first time.
    fn start(&self) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let run = |task: futures_util::future::BoxFuture<'static, ()>| {
            let stop = self.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(task).await });
        };
        run(Box::pin(listen(self.shared.clone())));
        run(Box::pin(tell(self.shared.clone())));
        run(Box::pin(look(self.shared.clone())));
    }

    /// Is notified when a queue may have something new.
    pub(crate) fn queue(&self, name: &str) -> Arc<Notify> {
        self.start();
        lock(&self.shared.queues).entry(name.to_owned()).or_default().clone()
    }

    /// How long to wait for news of a queue before looking by oneself.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.patience()
    }

    /// Waits for a task's end.
    pub(crate) fn waiter(&self, id: TaskId) -> Waiter {
        self.start();
        let (sender, ended) = oneshot::channel();
        let number = rand::random();
        lock(&self.shared.waiting).entry(id).or_default().push((number, sender));
        Waiter { shared: self.shared.clone(), id, number, ended }
    }

    /// Tasks came into queues.
    pub(crate) fn enqueued<'a>(&self, queues: impl IntoIterator<Item = &'a str>) {
        self.start();
        let known = lock(&self.shared.queues);
        let mut outgoing = lock(&self.shared.outgoing);
        for queue in queues {
            if let Some(notify) = known.get(queue) {
                notify.notify_one();
            }
            outgoing.insert(format!("+{queue}"));
        }
        self.shared.tell.notify_one();
    }

    /// Tasks ended.
    pub(crate) fn ended(&self) {
        self.start();
        self.shared.ended.notify_one();
        lock(&self.shared.outgoing).insert(ENDED.to_owned());
        self.shared.tell.notify_one();
    }
}

/// Tells others, at once and then not too often.
async fn tell(shared: Arc<Shared>) {
    loop {
        shared.tell.notified().await;
        let news = std::mem::take(&mut *lock(&shared.outgoing));
        let news: Vec<&str> = news.iter().map(String::as_str).collect();
        if let Err(error) = shared.store.announce(&news).await {
            tracing::warn!(%error, "other processes are not told of tasks: they find them later");
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Hears others.
async fn listen(shared: Arc<Shared>) {
    loop {
        let retry = match shared.store.changes().await {
            Ok(Some(mut changes)) => {
                shared.listening.store(true, Ordering::Relaxed);
                // What was told before is not heard.
                hear(&shared, &Change::Unknown);
                let error = loop {
                    match changes.next().await {
                        Ok(change) => {
                            hear(&shared, &change);
                            if change == Change::Unknown {
                                tokio::time::sleep(GATHER).await;
                            }
                        }
                        Err(error) => break error,
                    }
                };
                tracing::warn!(%error, "news of tasks come no more: polling until they do");
                RETRY
            }
            Ok(None) => RETRY_SILENT,
            Err(error) => {
                tracing::warn!(%error, "no news of tasks: polling until they come");
                RETRY
            }
        };
        shared.listening.store(false, Ordering::Relaxed);
        tokio::time::sleep(retry).await;
    }
}

fn hear(shared: &Shared, change: &Change) {
    match change {
        Change::Announced(text) if text == ENDED => shared.ended.notify_one(),
        Change::Announced(text) => {
            if let Some(notify) = text.strip_prefix('+').and_then(|queue| lock(&shared.queues).get(queue).cloned()) {
                notify.notify_one();
            }
        }
        Change::Unknown => {
            shared.ended.notify_one();
            lock(&shared.queues).values().for_each(|notify| notify.notify_one());
        }
    }
}

/// Looks which of the tasks that are waited for have ended.
async fn look(shared: Arc<Shared>) {
    loop {
        let _ = tokio::time::timeout(shared.patience(), shared.ended.notified()).await;
        let ids: Vec<TaskId> = lock(&shared.waiting).keys().copied().collect();
        for ids in ids.chunks(1000) {
            match shared.store.ended_tasks(ids).await {
                Ok(ended) => {
                    let mut waiting = lock(&shared.waiting);
                    for (_, waiter) in ended.iter().filter_map(|id| waiting.remove(id)).flatten() {
                        let _ = waiter.send(());
                    }
                }
                Err(error) => tracing::warn!(%error, "it is not known which tasks ended: looking again"),
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}
