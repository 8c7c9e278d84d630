//! Any sequence of steps leaves tasks as a model of a page says, on both databases.

use cairn_store::tasks::{Acknowledgement, Claimed, NewTask, Outcome, QueueSettings, Status, TaskId, Unique};
use cairn_store::testing::{PostgresServer, sqlite_url};
use cairn_store::{Store, StoreError, StoreOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;

const WORKERS: usize = 3;
const LEASE: Duration = Duration::from_secs(600);

/// What somebody does. Numbers of tasks and claims are taken modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Enqueue { key: Option<u8>, while_kept: bool, max_attempts: u32 },
    Claim { worker: usize, limit: u32 },
    Acknowledge { claim: usize, how: How },
    LoseWorker(usize),
    Retry(usize),
    Delete(usize),
    SetQueue { paused: bool, concurrency: Option<u32> },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Complete,
    Fail,
    Discard,
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![Just(How::Complete), Just(How::Fail), Just(How::Discard), Just(How::Release)];
    let step = prop_oneof![
        5 => (proptest::option::of(0..3u8), any::<bool>(), 1..4u32)
            .prop_map(|(key, while_kept, max_attempts)| Step::Enqueue { key, while_kept, max_attempts }),
        5 => (0..WORKERS, 1..4u32).prop_map(|(worker, limit)| Step::Claim { worker, limit }),
        6 => (any::<usize>(), how).prop_map(|(claim, how)| Step::Acknowledge { claim, how }),
        2 => (0..WORKERS).prop_map(Step::LoseWorker),
        2 => any::<usize>().prop_map(Step::Retry),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => (any::<bool>(), proptest::option::of(1..4u32))
            .prop_map(|(paused, concurrency)| Step::SetQueue { paused, concurrency }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A task as it should be; none of its status once it is deleted.
#[derive(Debug)]
struct Expected {
    id: TaskId,
    status: Option<Status>,
    attempts: u32,
    max_attempts: u32,
    unique: Option<Unique>,
    /// The worker that has it and the number of its claim.
    holder: Option<(String, i64)>,
}

impl Expected {
    fn is_due(&self) -> bool {
        matches!(self.status, Some(Status::Queued | Status::Failed))
    }

    fn holds(&self, key: &str) -> bool {
        self.unique.as_ref().is_some_and(|unique| {
            unique.key == key
                && match self.status {
                    None | Some(Status::Discarded) => false,
                    Some(Status::Completed) => unique.while_kept,
                    Some(_) => true,
                }
        })
    }

    fn leaves_its_worker(&mut self, status: Status) {
        self.status = Some(status);
        self.holder = None;
    }
}

/// The queue of one sequence; names are its own, so that all may share a database.
struct Model {
    store: Store,
    queue: String,
    settings: QueueSettings,
    workers: Vec<String>,
    tasks: Vec<Expected>,
    claims: Vec<Claimed>,
}

impl Model {
    async fn new(store: Store) -> Model {
        let queue = TaskId::generate().to_string();
        let settings = QueueSettings { name: queue.clone(), ..QueueSettings::default() };
        let mut model = Model { store, queue, settings, workers: Vec::new(), tasks: Vec::new(), claims: Vec::new() };
        for _ in 0..WORKERS {
            let name = model.begin_worker().await;
            model.workers.push(name);
        }
        model
    }

    async fn begin_worker(&self) -> String {
        let name = TaskId::generate().to_string();
        let mut transaction = self.store.begin().await.unwrap();
        transaction.begin_worker(&name, "here", LEASE).await.unwrap();
        transaction.commit().await.unwrap();
        name
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Enqueue { key, while_kept, max_attempts } => {
                let unique = key.map(|key| Unique { key: format!("{} {key}", self.queue), while_kept });
                self.enqueue(unique, max_attempts).await;
            }
            Step::Claim { worker, limit } => self.claim(worker, limit).await,
            Step::Acknowledge { claim, how } if !self.claims.is_empty() => {
                self.acknowledge(claim % self.claims.len(), how).await;
            }
            Step::LoseWorker(worker) => self.lose(worker).await,
            Step::Retry(task) if !self.tasks.is_empty() => self.retry(task % self.tasks.len()).await,
            Step::Delete(task) if !self.tasks.is_empty() => self.delete(task % self.tasks.len()).await,
            Step::SetQueue { paused, concurrency } => {
                self.settings = QueueSettings { paused, concurrency, ..self.settings.clone() };
                let mut transaction = self.store.begin().await.unwrap();
                transaction.set_queue(&self.settings).await.unwrap();
                transaction.commit().await.unwrap();
            }
            Step::Acknowledge { .. } | Step::Retry(_) | Step::Delete(_) => {}
        }
    }

    async fn enqueue(&mut self, unique: Option<Unique>, max_attempts: u32) {
        let payload = serde_json::json!({});
        let task = NewTask { unique: unique.clone(), max_attempts, ..NewTask::new(&self.queue, "type", payload) };
        let mut transaction = self.store.begin().await.unwrap();
        let enqueued = transaction.enqueue(&[task]).await.unwrap()[0];
        transaction.commit().await.unwrap();
        let holder = unique.as_ref().and_then(|unique| self.tasks.iter().find(|task| task.holds(&unique.key)));
        match holder {
            Some(holder) => assert_eq!((enqueued.id, enqueued.existing), (holder.id, holder.status)),
            None => {
                assert_eq!(enqueued.existing, None);
                let (status, id) = (Some(Status::Queued), enqueued.id);
                self.tasks.push(Expected { id, status, attempts: 0, max_attempts, unique, holder: None });
            }
        }
    }

    async fn claim(&mut self, worker: usize, limit: u32) {
        let worker = self.workers[worker].clone();
        let mut transaction = self.store.begin().await.unwrap();
        let claimed = transaction.claim(&worker, &self.queue, limit).await.unwrap();
        transaction.commit().await.unwrap();

        let running = self.tasks.iter().filter(|task| task.status == Some(Status::Running)).count();
        let allowed = match self.settings {
            QueueSettings { paused: true, .. } => 0,
            QueueSettings { concurrency: Some(most), .. } => (most as usize).saturating_sub(running),
            _ => usize::MAX,
        };
        let due = self.tasks.iter().filter(|task| task.is_due()).count();
        assert_eq!(claimed.len(), due.min(limit as usize).min(allowed));
        for claimed in claimed {
            let task = self.tasks.iter_mut().find(|task| task.id == claimed.id).expect("a task of this queue");
            assert!(task.is_due(), "{task:?} is claimed");
            task.attempts += 1;
            assert_eq!((claimed.attempt, claimed.max_attempts), (task.attempts, task.max_attempts));
            task.status = Some(Status::Running);
            task.holder = Some((worker.clone(), claimed.claim));
            self.claims.push(claimed);
        }
    }

    async fn acknowledge(&mut self, claim: usize, how: How) {
        let Claimed { id, claim, .. } = self.claims[claim];
        let outcome = match how {
            How::Complete => Outcome::Completed { result: serde_json::json!(1), payload: None },
            How::Fail => Outcome::Failed { error: "fails".into(), after: Duration::ZERO },
            How::Discard => Outcome::Discarded { error: "is of no use".into() },
            How::Release => Outcome::Released { after: Duration::ZERO },
        };
        let mut transaction = self.store.begin().await.unwrap();
        let taken = transaction.acknowledge(&[Acknowledgement { id, claim, outcome }]).await.unwrap();
        transaction.commit().await.unwrap();

        let task = self.tasks.iter_mut().find(|task| task.id == id).expect("it was claimed");
        let is_holder = task.holder.as_ref().is_some_and(|(_, number)| *number == claim);
        assert_eq!(taken.contains(&id), is_holder, "{task:?}");
        if is_holder {
            match how {
                How::Complete => task.leaves_its_worker(Status::Completed),
                How::Fail if task.attempts < task.max_attempts => task.leaves_its_worker(Status::Failed),
                How::Fail | How::Discard => task.leaves_its_worker(Status::Discarded),
                How::Release => {
                    task.attempts -= 1;
                    task.leaves_its_worker(Status::Queued);
                }
            }
        }
    }

    async fn lose(&mut self, worker: usize) {
        let fresh = self.begin_worker().await;
        let name = std::mem::replace(&mut self.workers[worker], fresh);
        let mut transaction = self.store.begin().await.unwrap();
        transaction.end_worker(&name).await.unwrap();
        let rescued = transaction.rescue().await.unwrap();
        transaction.commit().await.unwrap();
        let mut lost = 0;
        for task in &mut self.tasks {
            if task.holder.as_ref().is_some_and(|(holder, _)| *holder == name) {
                let discarded = task.attempts >= task.max_attempts;
                task.leaves_its_worker(if discarded { Status::Discarded } else { Status::Queued });
                lost += 1;
            }
        }
        assert_eq!(rescued, lost);
    }

    async fn retry(&mut self, at: usize) {
        let (id, status) = (self.tasks[at].id, self.tasks[at].status);
        let mut transaction = self.store.begin().await.unwrap();
        let retried = transaction.retry_task(id).await;
        let key = self.tasks[at].unique.as_ref().map(|unique| unique.key.clone());
        let taken = key.is_some_and(|key| self.tasks.iter().any(|task| task.id != id && task.holds(&key)));
        match status {
            Some(Status::Discarded) if taken => {
                assert!(matches!(retried, Err(StoreError::Duplicate(_))), "{retried:?}");
                return;
            }
            Some(Status::Discarded | Status::Failed) => {
                assert!(retried.unwrap());
                let task = &mut self.tasks[at];
                task.status = Some(Status::Queued);
                task.max_attempts = task.max_attempts.max(task.attempts + 1);
            }
            _ => assert!(!retried.unwrap()),
        }
        transaction.commit().await.unwrap();
    }

    async fn delete(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        let mut transaction = self.store.begin().await.unwrap();
        let deleted = transaction.delete_task(task.id).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(deleted, !matches!(task.status, None | Some(Status::Running)));
        if deleted {
            task.status = None;
        }
    }

    /// The database says the same.
    async fn check(&self) {
        for task in &self.tasks {
            let found = self.store.task(task.id).await.unwrap();
            let found = found.map(|found| (found.status, found.attempts, found.max_attempts));
            assert_eq!(found, task.status.map(|status| (status, task.attempts, task.max_attempts)), "{task:?}");
        }
        let counts = self.store.queue_counts().await.unwrap();
        let count = |status| {
            let of = counts.iter().find(|counts| counts.queue == self.queue && counts.status == status);
            of.map_or(0, |counts| usize::try_from(counts.count).expect("a count"))
        };
        let expected = |status| self.tasks.iter().filter(|task| task.status == Some(status)).count();
        assert_eq!(count(Status::Queued), self.tasks.iter().filter(|task| task.is_due()).count());
        assert_eq!(count(Status::Running), expected(Status::Running));
        assert_eq!(count(Status::Discarded), expected(Status::Discarded));
    }
}

fn agrees_with_the_model(url: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(Store::open(url, &StoreOptions::default())).unwrap();
    // A failing case is printed with what makes it again; files of seeds would not be looked at.
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let run = |steps: Vec<Step>| {
        runtime.block_on(async {
            let mut model = Model::new(store.clone()).await;
            for step in &steps {
                model.step(step).await;
                model.check().await;
            }
        });
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}

#[test]
fn sqlite_agrees_with_the_model() {
    let directory = tempfile::tempdir().unwrap();
    agrees_with_the_model(&sqlite_url(directory.path()));
}

#[test]
fn postgres_agrees_with_the_model() {
    let Some(server) = PostgresServer::start() else { return };
    agrees_with_the_model(&server.database());
}
