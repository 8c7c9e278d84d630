//! Tasks on both databases: queued, claimed once, acknowledged by their holder alone.

use cairn_store::tasks::{
    Acknowledgement, Claimed, Filter, NewTask, Outcome, Position, QueueSettings, Schedule, Status, TaskId, Unique,
};
use cairn_store::{Store, StoreOptions};
use serde_json::json;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(600);

async fn open(url: &str) -> Store {
    Store::open(url, &StoreOptions::default()).await.expect("opens")
}

fn task(number: u32) -> NewTask {
    NewTask::new("q", "count", json!({"number": number}))
}

fn with_key(number: u32, key: &str, while_kept: bool) -> NewTask {
    NewTask { unique: Some(Unique { key: key.into(), while_kept }), ..task(number) }
}

async fn enqueue(store: &Store, tasks: &[NewTask]) -> Vec<cairn_store::tasks::Enqueued> {
    let mut transaction = store.begin().await.unwrap();
    let done = transaction.enqueue(tasks).await.unwrap();
    transaction.commit().await.unwrap();
    done
}

async fn worker(store: &Store, name: &str) {
    let mut transaction = store.begin().await.unwrap();
    transaction.begin_worker(name, "here", LEASE).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn claim(store: &Store, worker: &str, limit: u32) -> Vec<Claimed> {
    let mut transaction = store.begin().await.unwrap();
    let claimed = transaction.claim(worker, "q", limit).await.unwrap();
    transaction.commit().await.unwrap();
    claimed
}

/// Whether the acknowledgement was taken.
async fn acknowledge(store: &Store, claimed: &Claimed, outcome: Outcome) -> bool {
    let mut transaction = store.begin().await.unwrap();
    let all = [Acknowledgement { id: claimed.id, claim: claimed.claim, outcome }];
    let taken = transaction.acknowledge(&all).await.unwrap();
    transaction.commit().await.unwrap();
    taken.contains(&claimed.id)
}

fn done() -> Outcome {
    Outcome::Completed { result: json!({"ok": true}), payload: None }
}

fn failed(error: &str) -> Outcome {
    Outcome::Failed { error: error.into(), after: Duration::ZERO }
}

/// The lease of a worker ends as if it had run out.
async fn lose(store: &Store, name: &str) -> u64 {
    let mut transaction = store.begin().await.unwrap();
    transaction.end_worker(name).await.unwrap();
    let rescued = transaction.rescue().await.unwrap();
    transaction.commit().await.unwrap();
    rescued
}

async fn status(store: &Store, id: TaskId) -> Status {
    store.task(id).await.unwrap().expect("it is kept").status
}

async fn tasks_are_claimed_once_in_order(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let mut tasks: Vec<NewTask> = (0..10).map(task).collect();
    tasks[7].priority = 0;
    tasks[2].priority = 3;
    tasks[5].delay = Duration::from_secs(3600);
    let ids = enqueue(&store, &tasks).await;
    assert!(ids.iter().all(|enqueued| enqueued.existing.is_none()));

    let first = claim(&store, "a", 4).await;
    let rest = claim(&store, "a", 100).await;
    let numbers: Vec<_> =
        first.iter().chain(&rest).map(|claimed| claimed.payload["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [7, 0, 1, 3, 4, 6, 8, 9, 2], "by priority, then by age; what is delayed not at all");
    assert!(claim(&store, "a", 100).await.is_empty());
    assert_eq!(status(&store, ids[5].id).await, Status::Queued);
    assert_eq!(status(&store, ids[0].id).await, Status::Running);
    let due = store.next_due("q").await.unwrap().expect("one waits for its time");
    assert!(due > Duration::from_secs(3000) && due <= Duration::from_secs(3600), "{due:?}");
    assert_eq!(store.next_due("other").await.unwrap(), None);
}

async fn what_a_claim_passed_by_is_found_from_the_front(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    enqueue(&store, &(0..6).map(task).collect::<Vec<_>>()).await;
    let mut position = Position::default();
    let mut claim = async |limit, commit: bool| {
        let mut transaction = store.begin().await.unwrap();
        let claimed = transaction.claim_after(&mut position, "a", "q", limit).await.unwrap();
        if commit {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        claimed.into_iter().map(|claimed| claimed.payload["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(claim(2, false).await, [0, 1]);
    let mut all = claim(2, true).await;
    enqueue(&store, &[NewTask { priority: 0, ..task(6) }]).await;
    let next = claim(2, true).await;
    assert_eq!((next.len(), next[0]), (2, 6), "the priority counts before the position");
    all.extend(next);
    all.extend(claim(100, true).await);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
    assert!(claim(100, true).await.is_empty());
}

async fn an_input_is_kept_only_on_request(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let with = |keep_input| NewTask { input: Some(vec![0, 255, 7]), keep_input, ..task(1) };
    let ids = enqueue(&store, &[with(false), with(true), task(2)]).await;
    let claimed = claim(&store, "a", 3).await;
    assert_eq!(claimed[0].input.as_deref(), Some(&[0, 255, 7][..]));
    assert_eq!(claimed[2].input, None);
    for claimed in &claimed {
        let outcome = Outcome::Completed { result: json!("\u{0}é"), payload: Some(json!({"short": 1})) };
        assert!(acknowledge(&store, claimed, outcome).await);
    }
    let read = |at: usize| store.task(ids[at].id);
    let first = read(0).await.unwrap().unwrap();
    assert_eq!((first.input, first.payload, first.status), (None, json!({"short": 1}), Status::Completed));
    assert_eq!(first.result, Some(json!("\u{0}é")));
    assert!(first.finished_at >= first.started_at && first.started_at >= Some(first.created_at));
    assert_eq!(read(1).await.unwrap().unwrap().input, Some(vec![0, 255, 7]));
}

async fn a_worker_that_lost_its_lease_cannot_acknowledge(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let id = enqueue(&store, &[task(1)]).await[0].id;
    let of_a = claim(&store, "a", 1).await.remove(0);
    assert_eq!(lose(&store, "a").await, 1);
    assert_eq!(status(&store, id).await, Status::Queued);
    assert!(!acknowledge(&store, &of_a, done()).await, "it was given back");
    assert!(claim(&store, "a", 1).await.is_empty(), "whoever has no lease claims nothing");

    worker(&store, "b").await;
    let of_b = claim(&store, "b", 1).await.remove(0);
    assert_eq!((of_a.id, of_a.attempt, of_b.attempt), (of_b.id, 1, 2));
    for outcome in [done(), failed("late"), Outcome::Discarded { error: "late".into() }] {
        assert!(!acknowledge(&store, &of_a, outcome).await, "it is another's");
    }
    assert!(!acknowledge(&store, &of_a, Outcome::Released { after: Duration::ZERO }).await);
    assert_eq!(status(&store, id).await, Status::Running);
    assert!(acknowledge(&store, &of_b, done()).await);
    assert!(!acknowledge(&store, &of_b, failed("twice")).await, "it has ended");
    let task = store.task(id).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempts), (Status::Completed, 2));
    assert!(task.errors[0].error.contains("the worker a stopped renewing"), "{:?}", task.errors);
}

async fn a_claim_that_was_undone_acknowledges_nothing(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let id = enqueue(&store, &[task(1)]).await[0].id;
    let mut transaction = store.begin().await.unwrap();
    let undone = transaction.claim("a", "q", 1).await.unwrap().remove(0);
    transaction.rollback().await.unwrap();
    let held = claim(&store, "a", 1).await.remove(0);
    assert_eq!((undone.id, undone.attempt, held.attempt), (id, 1, 1));
    assert!(!acknowledge(&store, &undone, done()).await);
    assert!(acknowledge(&store, &held, done()).await);
}

async fn a_lease_is_renewed_until_it_runs_out(url: String) {
    let store = open(&url).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.begin_worker("a", "here", LEASE).await.unwrap();
    assert!(transaction.renew_worker("a", LEASE).await.unwrap());
    assert_eq!(transaction.rescue().await.unwrap(), 0);
    assert!(transaction.renew_worker("a", Duration::ZERO).await.unwrap());
    assert!(!transaction.renew_worker("a", LEASE).await.unwrap(), "it has run out");
    assert!(!transaction.renew_worker("nobody", LEASE).await.unwrap());
    transaction.commit().await.unwrap();
}

async fn failures_are_tried_again_and_discarded_in_the_end(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let id = enqueue(&store, &[NewTask { max_attempts: 3, ..with_key(1, "k", true) }]).await[0].id;
    for attempt in 1..=3 {
        let claimed = claim(&store, "a", 1).await.remove(0);
        assert_eq!(claimed.attempt, attempt);
        assert!(acknowledge(&store, &claimed, failed(&format!("error {attempt}"))).await);
        let expected = if attempt < 3 { Status::Failed } else { Status::Discarded };
        assert_eq!(status(&store, id).await, expected);
    }
    let task = store.task(id).await.unwrap().unwrap();
    let errors: Vec<_> = task.errors.iter().map(|error| (error.attempt, &*error.error)).collect();
    assert_eq!(errors, [(1, "error 1"), (2, "error 2"), (3, "error 3")]);
    assert!(task.finished_at.is_some());

    // Its key is free; when another has it, it cannot come back.
    let other = enqueue(&store, &[with_key(2, "k", true)]).await[0];
    assert_eq!(other.existing, None);
    let mut transaction = store.begin().await.unwrap();
    assert!(matches!(transaction.retry_task(id).await, Err(cairn_store::StoreError::Duplicate(_))));
    drop(transaction);
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.delete_task(other.id).await.unwrap());
    assert!(transaction.retry_task(id).await.unwrap());
    assert!(!transaction.retry_task(id).await.unwrap(), "it is queued already");
    transaction.commit().await.unwrap();
    let claimed = claim(&store, "a", 1).await.remove(0);
    assert_eq!((claimed.id, claimed.attempt, claimed.max_attempts), (id, 4, 4));
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.delete_task(id).await.unwrap(), "a worker has it");
    transaction.commit().await.unwrap();
    assert!(acknowledge(&store, &claimed, done()).await);
}

async fn what_is_lost_too_often_is_discarded(url: String) {
    let store = open(&url).await;
    let id = enqueue(&store, &[NewTask { max_attempts: 2, ..task(1) }]).await[0].id;
    for name in ["a", "b"] {
        worker(&store, name).await;
        assert_eq!(claim(&store, name, 1).await.len(), 1);
        assert_eq!(lose(&store, name).await, 1);
    }
    assert_eq!(status(&store, id).await, Status::Discarded);
}

async fn what_is_handed_back_does_not_count(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let id = enqueue(&store, &[NewTask { max_attempts: 1, ..task(1) }]).await[0].id;
    let first = claim(&store, "a", 1).await.remove(0);
    assert!(acknowledge(&store, &first, Outcome::Released { after: Duration::ZERO }).await);
    let second = claim(&store, "a", 1).await.remove(0);
    assert_eq!((second.attempt, second.id), (1, id));
    assert!(!acknowledge(&store, &first, done()).await, "the same try, another claim");
    assert!(acknowledge(&store, &second, done()).await);
}

async fn a_key_is_held_by_one_task(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let ids = enqueue(&store, &[with_key(1, "k", true), with_key(2, "k", true), with_key(3, "active", false)]).await;
    assert_eq!(ids[1], cairn_store::tasks::Enqueued { id: ids[0].id, existing: Some(Status::Queued) });
    assert_eq!(enqueue(&store, &[with_key(4, "active", false)]).await[0].id, ids[2].id);
    for claimed in claim(&store, "a", 9).await {
        let again = enqueue(&store, &[with_key(5, "k", true)]).await[0];
        assert_eq!(again.existing.is_some(), again.id == ids[0].id);
        assert!(acknowledge(&store, &claimed, done()).await);
    }
    let kept = enqueue(&store, &[with_key(6, "k", true)]).await[0];
    assert_eq!((kept.id, kept.existing), (ids[0].id, Some(Status::Completed)));
    let free = enqueue(&store, &[with_key(7, "active", false)]).await[0];
    assert_eq!(free.existing, None, "the other one is done");
}

async fn a_queue_can_be_paused_and_bounded(url: String) {
    let store = open(&url).await;
    for name in ["a", "b"] {
        worker(&store, name).await;
    }
    enqueue(&store, &(0..10).map(task).collect::<Vec<_>>()).await;
    let set = async |paused, concurrency| {
        let mut transaction = store.begin().await.unwrap();
        transaction.set_queue(&QueueSettings { name: "q".into(), paused, concurrency }).await.unwrap();
        transaction.commit().await.unwrap();
    };
    set(true, None).await;
    assert!(claim(&store, "a", 9).await.is_empty());
    assert_eq!(store.next_due("q").await.unwrap(), None, "nothing is due in a paused queue");
    set(false, Some(3)).await;
    let first = claim(&store, "a", 2).await;
    assert_eq!(first.len(), 2);
    assert_eq!(claim(&store, "b", 9).await.len(), 1);
    assert!(claim(&store, "a", 9).await.is_empty());
    assert!(acknowledge(&store, &first[0], done()).await);
    assert_eq!(claim(&store, "b", 9).await.len(), 1);
    set(true, Some(3)).await;
    assert!(acknowledge(&store, &first[1], done()).await, "what runs ends");
    assert!(claim(&store, "b", 9).await.is_empty());
    set(false, None).await;
    assert_eq!(claim(&store, "b", 99).await.len(), 6);
    let settings = store.queues().await.unwrap();
    assert_eq!(settings, [QueueSettings { name: "q".into(), paused: false, concurrency: None }]);
}

async fn claims_at_once_never_share_a_task(url: String) {
    let store = open(&url).await;
    enqueue(&store, &(0..500).map(task).collect::<Vec<_>>()).await;
    let mut claiming = Vec::new();
    for number in 0..4 {
        let (store, name) = (store.clone(), format!("w{number}"));
        worker(&store, &name).await;
        claiming.push(tokio::spawn(async move {
            let mut all = Vec::new();
            loop {
                let some = claim(&store, &name, 7).await;
                if some.is_empty() {
                    return all;
                }
                all.extend(some.into_iter().map(|claimed| claimed.id));
            }
        }));
    }
    let mut all = Vec::new();
    for claiming in claiming {
        all.extend(claiming.await.unwrap());
    }
    let unique: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!((unique.len(), all.len()), (500, 500));
}

async fn pages_follow_each_other(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let tasks: Vec<_> =
        (0..9).map(|number| NewTask { task_type: format!("t{}", number % 3), ..task(number) }).collect();
    let ids = enqueue(&store, &tasks).await;
    for claimed in claim(&store, "a", 4).await {
        let outcome = if claimed.task_type == "t0" { Outcome::Discarded { error: "no".into() } } else { done() };
        assert!(acknowledge(&store, &claimed, outcome).await);
    }
    let all = store.tasks(&Filter::default(), None, 100).await.unwrap();
    let newest_first: Vec<_> = ids.iter().rev().map(|enqueued| enqueued.id).collect();
    assert_eq!(all.iter().map(|task| task.id).collect::<Vec<_>>(), newest_first);
    let page = store.tasks(&Filter::default(), Some(newest_first[3]), 2).await.unwrap();
    assert_eq!(page.iter().map(|task| task.id).collect::<Vec<_>>(), newest_first[4..6]);
    let count = async |types: &[&str], status| {
        let filter = Filter { task_types: types.iter().map(|name| (*name).to_owned()).collect(), status };
        store.tasks(&filter, None, 100).await.unwrap().len()
    };
    assert_eq!(count(&["t0", "t1"], None).await, 6);
    assert_eq!(count(&[], Some(Status::Queued)).await, 5);
    assert_eq!(count(&[], Some(Status::Discarded)).await, 2);
    assert_eq!(count(&["t1"], Some(Status::Discarded)).await, 0);
    let counts = store.queue_counts().await.unwrap();
    let of = |status| counts.iter().find(|counts| counts.status == status).map(|counts| counts.count);
    assert_eq!((of(Status::Queued), of(Status::Running), of(Status::Discarded)), (Some(5), None, Some(2)));
    assert_eq!(store.ended_tasks(&newest_first).await.unwrap().len(), 4);
}

async fn old_tasks_are_deleted(url: String) {
    let store = open(&url).await;
    worker(&store, "a").await;
    let ids = enqueue(&store, &(0..5).map(task).collect::<Vec<_>>()).await;
    for claimed in claim(&store, "a", 3).await {
        assert!(acknowledge(&store, &claimed, done()).await);
    }
    let delete = async |age, limit| {
        let mut transaction = store.begin().await.unwrap();
        let deleted = transaction.delete_old_tasks(Status::Completed, age, limit).await.unwrap();
        transaction.commit().await.unwrap();
        deleted
    };
    assert_eq!(delete(Duration::from_secs(60), 100).await, 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(delete(Duration::ZERO, 2).await, 2);
    assert_eq!(delete(Duration::ZERO, 100).await, 1);
    assert_eq!(store.task(ids[0].id).await.unwrap(), None);
    assert_eq!(status(&store, ids[4].id).await, Status::Queued);
}

async fn a_tick_is_taken_once(url: String) {
    let store = open(&url).await;
    let hourly = Schedule { name: "clean".into(), cron: "0 * * * *".into(), next_at: 3_600_000 };
    let set = async |schedule: &Schedule| {
        let mut transaction = store.begin().await.unwrap();
        transaction.set_schedule(schedule).await.unwrap();
        transaction.commit().await.unwrap();
    };
    set(&hourly).await;
    set(&Schedule { next_at: 99, ..hourly.clone() }).await;
    assert_eq!(store.schedules().await.unwrap(), std::slice::from_ref(&hourly), "a restart moves no tick");

    let mut taking = Vec::new();
    for _ in 0..8 {
        let (store, hourly) = (store.clone(), hourly.clone());
        taking.push(tokio::spawn(async move {
            let mut transaction = store.begin().await.unwrap();
            let taken = transaction.take_tick(&hourly, 7_200_000).await.unwrap();
            if taken {
                transaction.enqueue(&[task(1)]).await.unwrap();
            }
            transaction.commit().await.unwrap();
            taken
        }));
    }
    let mut taken = 0;
    for taking in taking {
        taken += u32::from(taking.await.unwrap());
    }
    assert_eq!((taken, store.tasks(&Filter::default(), None, 9).await.unwrap().len()), (1, 1));

    let next = Schedule { next_at: 7_200_000, ..hourly.clone() };
    assert_eq!(store.schedules().await.unwrap(), std::slice::from_ref(&next));
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.take_tick(&next, 10_800_000).await.unwrap());
    transaction.rollback().await.unwrap();
    let daily = Schedule { cron: "0 0 * * *".into(), next_at: 86_400_000, ..hourly };
    set(&daily).await;
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.take_tick(&next, 10_800_000).await.unwrap(), "of an expression that was replaced");
    assert!(transaction.take_tick(&daily, 172_800_000).await.unwrap());
    assert!(transaction.delete_schedule("clean").await.unwrap());
    assert!(!transaction.delete_schedule("clean").await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(store.schedules().await.unwrap(), []);
}

cairn_store::on_both_databases! {
    through PgBouncer:
    tasks_are_claimed_once_in_order,
    what_a_claim_passed_by_is_found_from_the_front,
    an_input_is_kept_only_on_request,
    a_worker_that_lost_its_lease_cannot_acknowledge,
    a_claim_that_was_undone_acknowledges_nothing,
    a_lease_is_renewed_until_it_runs_out,
    failures_are_tried_again_and_discarded_in_the_end,
    what_is_lost_too_often_is_discarded,
    what_is_handed_back_does_not_count,
    a_key_is_held_by_one_task,
    a_queue_can_be_paused_and_bounded,
    claims_at_once_never_share_a_task,
    pages_follow_each_other,
    old_tasks_are_deleted,
    a_tick_is_taken_once,
}
