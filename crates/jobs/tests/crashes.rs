//! Worker processes are killed while they hold tasks, paused for longer than their lease, and lose the database; on both
//! databases every task that was accepted completes, once for whoever looks, and none is lost.
#![allow(missing_docs, reason = "a test binary has no interface")]

use cairn_jobs::{Context, Done, Jobs, NewTask, Status, Task, TaskError, TaskId, Unique, Worker};
use cairn_store::testing::{PostgresServer, sqlite_url};
use cairn_store::{Store, StoreOptions};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(20);
/// What a worker process is told.
const URL: &str = "CAIRN_TEST_DATABASE";
const DIRECTORY: &str = "CAIRN_TEST_DIRECTORY";

async fn open(url: &str) -> Jobs {
    Jobs::new(Store::open(url, &StoreOptions::default()).await.expect("opens"))
}

/// A worker in a process of its own: this binary, which runs [`worker_process`] alone.
struct Process {
    child: Child,
}

impl Process {
    fn start(url: &str, directory: &Path) -> Process {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "worker_process", "--ignored", "--nocapture"])
            .env(URL, url)
            .env(DIRECTORY, directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a worker process starts");
        Process { child }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name} is sent");
    }

    /// SIGSTOP, and until no thread runs any more: the signal is sent before all of them have heard of it.
    fn pause(&self) {
        self.signal("-STOP");
        let deadline = Instant::now() + PATIENCE;
        let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            // The state stands behind the name, which is in parentheses.
            let stat =
                thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat"))).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
        };
        while !std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("it lives").all(stopped) {
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first try of a task of the type `hold` says that it began, and computes until it is let go; every other one ends at
/// once. Results name the process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a worker process of the other tests"]
async fn worker_process() {
    let (Ok(url), Ok(directory)) = (std::env::var(URL), std::env::var(DIRECTORY)) else { return };
    let directory = PathBuf::from(directory);
    let answer = |number: &Value| Ok(json!({"number": number, "by": std::process::id()}).into());
    let _worker = Worker::new(open(&url).await)
        .queue("q", 4)
        .cpu("hold", move |claimed| {
            let id = claimed.id.to_string();
            if claimed.attempt == 1 {
                std::fs::write(directory.join(format!("{id}.held")), std::process::id().to_string()).expect("written");
                while !directory.join(format!("{id}.go")).exists() {
                    std::thread::sleep(LOOK);
                }
                std::fs::write(directory.join(format!("{id}.over")), "").expect("written");
            }
            answer(&claimed.payload)
        })
        .io("quick", move |claimed, _: Context| async move {
            tokio::time::sleep(Duration::from_millis(claimed.payload.as_u64().unwrap_or(0) % 7)).await;
            let result: Result<Done, TaskError> = answer(&claimed.payload);
            result
        })
        .start();
    std::future::pending().await
}

/// What a client does, and what it saw.
struct Client {
    url: String,
    jobs: Jobs,
    directory: tempfile::TempDir,
    accepted: Vec<TaskId>,
    number: u64,
}

impl Client {
    async fn new(url: String) -> Client {
        let directory = tempfile::tempdir().unwrap();
        Client { jobs: open(&url).await, url, directory, accepted: Vec::new(), number: 0 }
    }

    fn worker(&self) -> Process {
        Process::start(&self.url, self.directory.path())
    }

    /// Enqueues until it is accepted. The key makes a repetition harmless, where it is not known whether it was.
    async fn enqueue(&mut self, kind: &str, count: usize) -> Vec<TaskId> {
        let tasks: Vec<NewTask> = (0..count)
            .map(|_| {
                self.number += 1;
                let unique = Some(Unique { key: self.number.to_string(), while_kept: true });
                NewTask { unique, max_attempts: 50, ..NewTask::new("q", kind, json!(self.number)) }
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let enqueued = loop {
            match self.jobs.enqueue_all(tasks.clone()).await {
                Ok(enqueued) => break enqueued,
                Err(error) => assert!(Instant::now() < deadline, "nothing is accepted: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        };
        let ids: Vec<TaskId> = enqueued.into_iter().map(|enqueued| enqueued.id).collect();
        self.accepted.extend(&ids);
        ids
    }

    /// What the first try of a task of the type `hold` writes, once it does.
    async fn written(&self, id: TaskId, what: &str) -> String {
        let file = self.directory.path().join(format!("{id}.{what}"));
        let deadline = Instant::now() + PATIENCE;
        while !file.exists() {
            assert!(Instant::now() < deadline, "{id} is not {what}");
            tokio::time::sleep(LOOK).await;
        }
        std::fs::read_to_string(&file).unwrap()
    }

    /// The process that makes the first try of a task of the type `hold`, once it does.
    async fn holder(&self, id: TaskId) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It may be there, and still be empty.
            if let Ok(holder) = self.written(id, "held").await.parse() {
                return holder;
            }
            assert!(Instant::now() < deadline, "nobody holds {id}");
        }
    }

    fn let_go(&self, id: TaskId) {
        std::fs::write(self.directory.path().join(format!("{id}.go")), "").unwrap();
    }

    /// A task once it has completed.
    async fn completed(&self, id: TaskId) -> Task {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.jobs.wait(id, PATIENCE).await {
                Ok(Some(task)) if task.status == Status::Completed => return task,
                other => assert!(Instant::now() < deadline, "{id} does not complete: {other:?}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Every accepted task completes, and none is another one when it is looked at again.
    async fn all_complete(&self) {
        let mut seen = HashMap::new();
        for id in &self.accepted {
            let task = self.completed(*id).await;
            assert_eq!(task.result.as_ref().map(|result| &result["number"]), Some(&task.payload));
            seen.insert(*id, task);
        }
        assert_eq!(seen.len(), usize::try_from(self.number).expect("a count"), "no task came twice");
        for (id, task) in seen {
            assert_eq!(self.jobs.get(id).await.unwrap().unwrap(), task);
        }
    }
}

fn result_by(task: &Task) -> Option<u64> {
    task.result.as_ref().and_then(|result| result["by"].as_u64())
}

async fn a_killed_worker_loses_nothing(url: String) {
    let mut client = Client::new(url).await;
    let mut workers = vec![client.worker(), client.worker()];
    let mut held = Vec::new();
    for _ in 0..3 {
        client.enqueue("quick", 100).await;
        let id = client.enqueue("hold", 1).await[0];
        client.enqueue("quick", 100).await;
        let holder = client.holder(id).await;
        workers.retain(|worker| worker.id() != holder);
        assert_eq!(workers.len(), 1, "the holder was one of ours, and is killed");
        workers.push(client.worker());
        held.push((id, holder));
    }
    client.all_complete().await;
    for (id, holder) in held {
        let task = client.jobs.get(id).await.unwrap().unwrap();
        assert_eq!(task.attempts, 2);
        assert!(task.errors[0].error.contains("stopped renewing its lease"), "{:?}", task.errors);
        assert_ne!(result_by(&task), Some(u64::from(holder)));
    }
}

async fn a_paused_worker_cannot_overwrite_its_successor(url: String) {
    let mut client = Client::new(url).await;
    let paused = client.worker();
    let id = client.enqueue("hold", 1).await[0];
    assert_eq!(client.holder(id).await, paused.id());
    paused.pause();
    client.let_go(id);
    let successor = client.worker();
    client.enqueue("quick", 50).await;
    let task = client.completed(id).await;
    assert_eq!((task.attempts, result_by(&task)), (2, Some(u64::from(successor.id()))));
    client.all_complete().await;

    // It goes on where it was, with the result of its own try, and then with tasks that only it can take.
    drop(successor);
    paused.signal("-CONT");
    client.written(id, "over").await;
    let fresh = client.enqueue("quick", 50).await;
    for id in fresh {
        assert_eq!(result_by(&client.completed(id).await), Some(u64::from(paused.id())));
    }
    assert_eq!(client.jobs.get(id).await.unwrap().unwrap(), task, "what is done is done");
}

/// The database is away while workers hold tasks; `away` returns once it is back.
async fn the_database_may_go_away<F: Future<Output = ()>>(url: String, mut away: impl FnMut() -> F) {
    let mut client = Client::new(url).await;
    let _workers = [client.worker(), client.worker()];
    for _ in 0..2 {
        client.enqueue("quick", 100).await;
        let id = client.enqueue("hold", 1).await[0];
        client.holder(id).await;
        client.enqueue("quick", 100).await;
        away().await;
        client.let_go(id);
        client.enqueue("quick", 100).await;
    }
    client.all_complete().await;
}

mod sqlite {
    use super::*;

    fn url() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let url = sqlite_url(directory.path());
        (directory, url)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_worker_loses_nothing() {
        let (_directory, url) = url();
        super::a_killed_worker_loses_nothing(url).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_paused_worker_cannot_overwrite_its_successor() {
        let (_directory, url) = url();
        super::a_paused_worker_cannot_overwrite_its_successor(url).await;
    }

    /// Another process writes for longer than a lease lasts, and than anybody waits for it.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_file_may_be_locked_for_long() {
        let (_directory, url) = url();
        let other = open(&url).await;
        the_database_may_go_away(url, || async {
            let lock = other.store().begin().await.unwrap();
            tokio::time::sleep(cairn_store::leases::LEASE_TIME + Duration::from_secs(3)).await;
            lock.rollback().await.unwrap();
        })
        .await;
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_worker_loses_nothing() {
        let Some(server) = PostgresServer::start() else { return };
        super::a_killed_worker_loses_nothing(server.database()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_paused_worker_cannot_overwrite_its_successor() {
        let Some(server) = PostgresServer::start() else { return };
        super::a_paused_worker_cannot_overwrite_its_successor(server.database()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_server_may_crash() {
        let Some(mut server) = PostgresServer::start() else { return };
        let url = server.database();
        the_database_may_go_away(url, || {
            server.crash();
            std::future::ready(())
        })
        .await;
    }
}
