//! Queues and workers on both databases.
#![allow(missing_docs, reason = "a test binary has no interface")]

use cairn_jobs::{Done, Filter, Jobs, NewTask, QueueSettings, RunningWorker, Status, TaskError, Unique, Worker};
use cairn_store::tasks::Schedule;
use cairn_store::{Store, StoreOptions};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long anything may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process's queues: connections of its own.
async fn jobs(url: &str) -> Jobs {
    Jobs::new(Store::open(url, &StoreOptions::default()).await.expect("opens"))
}

fn double(number: u64) -> NewTask {
    NewTask::new("q", "double", json!({"number": number}))
}

fn doubled(payload: &Value) -> Result<Done, TaskError> {
    let number = payload["number"].as_u64().ok_or_else(|| TaskError::Final("no number".into()))?;
    Ok(json!(number * 2).into())
}

fn doubler(jobs: &Jobs) -> Worker {
    Worker::new(jobs.clone()).queue("q", 2).cpu("double", |claimed| doubled(&claimed.payload))
}

/// A worker that begins a task and does not end it: it says when it begins, and ends its first task once the last is dropped.
fn held_up(jobs: Jobs) -> (RunningWorker, oneshot::Receiver<()>, mpsc::Sender<()>) {
    let (begun, begin) = oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let worker = Worker::new(jobs).queue("q", 1).cpu("double", move |_| {
        if let Some(begun) = begun.lock().unwrap().take() {
            begun.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
        Ok(json!("late").into())
    });
    (worker.start(), begin, release)
}

async fn a_task_is_done_by_another_process(url: String) {
    let (ours, theirs) = (jobs(&url).await, jobs(&url).await);
    let early = ours.enqueue(double(1)).await.unwrap();
    let worker = doubler(&theirs).start();
    let late = ours.enqueue(double(21)).await.unwrap();
    for (enqueued, result) in [(early, 2), (late, 42)] {
        let task = ours.wait(enqueued.id, PATIENCE).await.unwrap().unwrap();
        assert_eq!((task.status, task.result), (Status::Completed, Some(json!(result))));
    }
    let wrong = ours.enqueue(NewTask::new("q", "double", json!({}))).await.unwrap();
    let task = ours.wait(wrong.id, PATIENCE).await.unwrap().unwrap();
    assert_eq!((task.status, &*task.errors[0].error), (Status::Discarded, "no number"));
    worker.stop(PATIENCE).await;

    let unseen = ours.enqueue(double(2)).await.unwrap();
    let task = ours.wait(unseen.id, Duration::from_millis(50)).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Queued, "nobody works any more");
    assert_eq!(ours.wait(cairn_jobs::TaskId::generate(), PATIENCE).await.unwrap(), None);
}

async fn every_task_is_done_once_by_whoever_takes_it(url: String) {
    let ours = jobs(&url).await;
    let (count, each) = (600u64, 20);
    let mut workers = Vec::new();
    let runs: Arc<Mutex<Vec<u64>>> = Arc::default();
    for _ in 0..3 {
        let (theirs, runs) = (jobs(&url).await, runs.clone());
        let worker = Worker::new(theirs).queue("q", 3).io("double", move |claimed, _| {
            let runs = runs.clone();
            async move {
                runs.lock().unwrap().push(claimed.payload["number"].as_u64().unwrap());
                doubled(&claimed.payload)
            }
        });
        workers.push(worker.start());
    }
    let enqueueing = (0..count / each).map(|part| {
        let ours = ours.clone();
        tokio::spawn(async move {
            let tasks = (part * each..(part + 1) * each).map(double).collect();
            ours.enqueue_all(tasks).await.unwrap()
        })
    });
    let mut ids = Vec::new();
    for enqueueing in enqueueing.collect::<Vec<_>>() {
        ids.extend(enqueueing.await.unwrap());
    }
    for enqueued in ids {
        let task = ours.wait(enqueued.id, PATIENCE).await.unwrap().unwrap();
        let expected = task.payload["number"].as_u64().unwrap() * 2;
        assert_eq!((task.status, task.result), (Status::Completed, Some(json!(expected))));
    }
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
    let mut runs = std::mem::take(&mut *runs.lock().unwrap());
    runs.sort_unstable();
    assert_eq!(runs, (0..count).collect::<Vec<_>>());
}

async fn failures_are_tried_again(url: String) {
    let ours = jobs(&url).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let worker = Worker::new(ours.clone())
        .queue("q", 1)
        .cpu("moody", move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(TaskError::Later(Duration::ZERO)),
            1 => Err(TaskError::RetryAfter("not yet".into(), Duration::ZERO)),
            2 => panic!("oh no"),
            _ => Ok(json!("at last").into()),
        })
        .io("hopeless", |_, _| async { Err(TaskError::Final("never".into())) })
        .start();
    let moody = ours.enqueue(NewTask::new("q", "moody", json!(null))).await.unwrap();
    let hopeless = ours.enqueue(NewTask::new("q", "hopeless", json!(null))).await.unwrap();
    let unknown = ours.enqueue(NewTask::new("q", "unknown", json!(null))).await.unwrap();
    let task = ours.wait(moody.id, PATIENCE).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempts, tries.load(Ordering::SeqCst)), (Status::Completed, 3, 4));
    assert_eq!(task.errors[0].error, "not yet");
    assert_eq!(task.errors[1].error, "the handler panicked: oh no");
    let task = ours.wait(hopeless.id, PATIENCE).await.unwrap().unwrap();
    assert_eq!((task.status, &*task.errors[0].error), (Status::Discarded, "never"));
    worker.stop(PATIENCE).await;
    let task = ours.get(unknown.id).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempts), (Status::Queued, 0), "another worker may know it");

    assert!(ours.retry(hopeless.id).await.unwrap());
    assert_eq!(ours.get(hopeless.id).await.unwrap().unwrap().status, Status::Queued);
    assert!(ours.delete(hopeless.id).await.unwrap());
    assert!(!ours.delete(hopeless.id).await.unwrap());
}

async fn a_key_counts_over_all_callers(url: String) {
    let (ours, theirs) = (jobs(&url).await, jobs(&url).await);
    let task = || NewTask { unique: Some(Unique { key: "k".into(), while_kept: true }), ..double(4) };
    let all = (0..40).map(|at| {
        let jobs = if at % 2 == 0 { ours.clone() } else { theirs.clone() };
        tokio::spawn(async move { jobs.enqueue(task()).await.unwrap() })
    });
    let mut answers = Vec::new();
    for one in all.collect::<Vec<_>>() {
        answers.push(one.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.existing.is_none()).count(), 1);
    assert!(answers.iter().all(|answer| answer.id == answers[0].id));
}

async fn a_worker_that_stops_gives_back_what_it_has_not_done(url: String) {
    let ours = jobs(&url).await;
    let theirs = jobs(&url).await;
    let (worker, begin, release) = held_up(theirs);
    let ids = ours.enqueue_all((0..4).map(double).collect()).await.unwrap();
    begin.await.unwrap();
    worker.stop(Duration::from_millis(50)).await;
    for enqueued in &ids {
        let task = ours.get(enqueued.id).await.unwrap().unwrap();
        assert_eq!((task.status, task.attempts), (Status::Queued, 0), "given back, and no try");
    }
    // What still computes ends late, and changes nothing.
    let second = doubler(&ours).start();
    for enqueued in &ids {
        assert_eq!(ours.wait(enqueued.id, PATIENCE).await.unwrap().unwrap().status, Status::Completed);
    }
    drop(release);
    second.stop(PATIENCE).await;
}

async fn a_worker_that_lost_its_lease_is_succeeded(url: String) {
    let ours = jobs(&url).await;
    let theirs = jobs(&url).await;
    let (slow, begin, release) = held_up(theirs);
    let id = ours.enqueue(double(8)).await.unwrap().id;
    begin.await.unwrap();
    // As if the slow one had been away for longer than its lease.
    let mut transaction = ours.store().begin().await.unwrap();
    transaction.end_all_workers().await.unwrap();
    transaction.commit().await.unwrap();
    let successor = doubler(&ours).start();
    // The slow one may claim it again itself once it has a new lease: then its word is as good as any.
    let task = ours.wait(id, PATIENCE).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Completed);
    let result = task.result.clone();
    drop(release);
    slow.stop(PATIENCE).await;
    successor.stop(PATIENCE).await;
    assert_eq!(ours.get(id).await.unwrap().unwrap().result, result, "what is done is done");
    assert!(task.attempts >= 2 && task.errors[0].error.contains("stopped renewing"), "{task:?}");
}

async fn a_paused_queue_waits(url: String) {
    let ours = jobs(&url).await;
    let set = async |paused| {
        ours.set_queue(&QueueSettings { name: "q".into(), paused, concurrency: None }).await.unwrap();
    };
    set(true).await;
    let worker = doubler(&ours).start();
    let id = ours.enqueue(double(3)).await.unwrap().id;
    let task = ours.wait(id, Duration::from_millis(300)).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Queued);
    set(false).await;
    assert_eq!(ours.wait(id, PATIENCE).await.unwrap().unwrap().status, Status::Completed);
    worker.stop(PATIENCE).await;
}

async fn a_tick_is_enqueued_by_one_worker(url: String) {
    let ours = jobs(&url).await;
    let mut transaction = ours.store().begin().await.unwrap();
    let first = transaction.now_ms().await.unwrap() / 1000 * 1000;
    let schedule = Schedule { name: "each second".into(), cron: "* * * * * *".into(), next_at: first };
    transaction.set_schedule(&schedule).await.unwrap();
    transaction.commit().await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let worker = doubler(&jobs(&url).await).schedule("each second", "* * * * * *", double(5)).unwrap();
        workers.push(worker.start());
    }
    let completed = async |count: usize| loop {
        let filter = Filter { status: Some(Status::Completed), ..Filter::default() };
        let tasks = ours.list(&filter, None, 1000).await.unwrap();
        if tasks.len() >= count {
            return tasks;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let tasks = tokio::time::timeout(PATIENCE, completed(4)).await.expect("they tick");
    // Whoever takes a tick moves the next one on, by a second or more.
    let next = ours.store().schedules().await.unwrap()[0].next_at;
    let ticks = usize::try_from((next - first) / 1000).unwrap();
    assert!(tasks.len() <= ticks, "{} tasks at {ticks} ticks", tasks.len());
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
    assert!(doubler(&ours).schedule("never", "0 0 30 2 *", double(1)).is_err());
}

cairn_store::on_both_databases! {
    a_task_is_done_by_another_process,
    every_task_is_done_once_by_whoever_takes_it,
    failures_are_tried_again,
    a_key_counts_over_all_callers,
    a_worker_that_stops_gives_back_what_it_has_not_done,
    a_worker_that_lost_its_lease_is_succeeded,
    a_paused_queue_waits,
    a_tick_is_enqueued_by_one_worker,
}
