//! Reads from a streaming replica: while it is fit for that, and never what a client would see go backwards.

use cairn_store::tasks::{Acknowledgement, NewTask, Outcome, Status, TaskId};
use cairn_store::testing::{PgBouncer, PostgresReplica, PostgresServer, sqlite_url};
use cairn_store::{Role, Store, StoreOptions};
use serde_json::json;
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86400);

/// A replica that is further behind than `lag` is not read from.
async fn open(url: &str, replica: &str, lag: Duration) -> Store {
    let options = StoreOptions { replica_url: Some(replica.to_owned()), replica_lag: lag, ..StoreOptions::default() };
    Store::open(url, &options).await.expect("opens")
}

async fn write(store: &Store, value: &[u8]) {
    let mut transaction = store.begin().await.unwrap();
    transaction.set_meta("key", value).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn read(store: &Store) -> String {
    String::from_utf8(store.meta("key").await.unwrap().unwrap_or_default()).unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads until the replica is read from, or is not any more.
async fn until_used(store: &Store, used: bool) {
    until("the replica is used, or not", async || {
        store.relaxed().meta("key").await.unwrap();
        store.replica_status().expect("there is one").used == used
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_old_is_read_from_the_replica_and_nothing_else() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let mut replica = PostgresReplica::start(&server);
    let store = open(&url, &replica.url(&url), DAY).await;
    let relaxed = store.relaxed();
    assert!(!store.replica_status().expect("there is one").used, "nobody has looked");
    write(&store, b"first").await;
    until_used(&store, true).await;
    until("the replica follows", async || read(&relaxed).await == "first").await;
    replica.pause_replay();
    write(&store, b"second").await;
    assert_eq!((read(&store).await, read(&relaxed).await), ("second".into(), "first".into()));
    let key = async |store: &Store| store.begin_read().await.unwrap().meta("key").await.unwrap().unwrap();
    assert_eq!((key(&store).await, key(&relaxed).await), (b"second".to_vec(), b"first".to_vec()));
    let mut writing = relaxed.begin().await.unwrap();
    assert_eq!(writing.meta("key").await.unwrap().as_deref(), Some(&b"second"[..]), "who writes sees all");
    drop(writing);

    // Nobody fails when it goes away.
    replica.stop();
    for _ in 0..20 {
        assert_eq!(read(&relaxed).await, "second");
        assert_eq!(key(&relaxed).await, b"second");
    }
    assert!(!store.replica_status().expect("there is one").used);
    replica.restart();
    until_used(&store, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_or_was_promoted_is_not_read_from() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let replica = PostgresReplica::start(&server);
    let store = open(&url, &replica.url(&url), Duration::from_secs(2)).await;
    write(&store, b"first").await;
    until_used(&store, true).await;
    replica.pause_replay();
    write(&store, b"second").await;
    until("it lags", async || {
        read(&store.relaxed()).await == "second" && {
            let status = store.replica_status().expect("there is one");
            status.lag.is_some_and(|lag| lag > Duration::from_secs(2)) && !status.used
        }
    })
    .await;
    replica.resume_replay();
    until_used(&store, true).await;
    assert_eq!(read(&store.relaxed()).await, "second");
    replica.promote();
    write(&store, b"third").await;
    until("it is seen", async || {
        read(&store.relaxed()).await;
        store.replica_status().expect("there is one").reason.as_deref() == Some("it is no replica")
    })
    .await;
    assert_eq!(read(&store.relaxed()).await, "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_never_sees_its_task_go_backwards() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let replica = PostgresReplica::start(&server);
    let store = open(&url, &replica.url(&url), DAY).await;
    let relaxed = store.relaxed();
    let status = async |id| store.task_for_client(id).await.unwrap().map(|task| task.status);
    let shown = async |id| relaxed.task(id).await.unwrap().map(|task| task.status);
    let old = enqueue(&store).await;
    until_used(&store, true).await;
    until("the replica follows", async || shown(old).await.is_some()).await;
    // Old enough to be looked for there.
    tokio::time::sleep(Duration::from_secs(3)).await;

    replica.pause_replay();
    let new = enqueue(&store).await;
    assert_eq!((shown(new).await, status(new).await), (None, Some(Status::Queued)));
    complete(&store, 2).await;
    assert_eq!((shown(old).await, status(old).await), (Some(Status::Queued), Some(Status::Completed)));
    assert_eq!((shown(new).await, status(new).await), (None, Some(Status::Completed)));

    // What has completed is taken from it: here it is the only one that still has it.
    replica.resume_replay();
    until("the replica follows", async || shown(old).await == Some(Status::Completed)).await;
    replica.pause_replay();
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.delete_old_tasks(Status::Completed, Duration::ZERO, 10).await.unwrap(), 2);
    transaction.commit().await.unwrap();
    assert_eq!((store.task(old).await.unwrap(), status(old).await), (None, Some(Status::Completed)));
}

async fn enqueue(store: &Store) -> TaskId {
    let mut transaction = store.begin().await.unwrap();
    let done = transaction.enqueue(&[NewTask::new("q", "test", json!({}))]).await.unwrap();
    transaction.commit().await.unwrap();
    done[0].id
}

async fn complete(store: &Store, count: usize) {
    let mut transaction = store.begin().await.unwrap();
    transaction.begin_worker("worker", "here", DAY).await.unwrap();
    let claimed = transaction.claim("worker", "q", 10).await.unwrap();
    assert_eq!(claimed.len(), count);
    let all: Vec<_> = claimed
        .iter()
        .map(|claimed| Acknowledgement {
            id: claimed.id,
            claim: claimed.claim,
            outcome: Outcome::Completed { result: json!({}), payload: None },
        })
        .collect();
    transaction.acknowledge(&all).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_too() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let replica = PostgresReplica::start(&server);
    let Some(bouncer) = PgBouncer::start(&server) else { return };
    let store = open(&bouncer.url(&url), &replica.url(&url), DAY).await;
    until_used(&store, true).await;
}

#[tokio::test]
async fn a_replica_that_is_the_database_itself_is_none() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let store = open(&url, &url, DAY).await;
    until("it is seen", async || {
        store.relaxed().meta("key").await.unwrap();
        let status = store.replica_status().expect("it was named");
        assert!(!status.used);
        status.reason.as_deref() == Some("it is no replica")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_tell_who_waits() {
    let directory = tempfile::tempdir().unwrap();
    let mut urls = vec![sqlite_url(directory.path())];
    let server = PostgresServer::start();
    urls.extend(server.as_ref().map(PostgresServer::database));
    for url in urls {
        let options = StoreOptions { writers: 1, readers: 2, ..StoreOptions::default() };
        let store = Store::open(&url, &options).await.unwrap();
        let writer = || store.pool_statistics().into_iter().find(|pool| pool.role == Role::Writer).unwrap();
        let writing = store.begin().await.unwrap();
        // The pool counts a connection that comes back a moment after it can be had again.
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut one = writer();
        while (one.max, one.size, one.idle, one.in_use, one.waiting) != (1, 1, 0, 1, 0) {
            assert!(Instant::now() < deadline, "{url}: {one:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
            one = writer();
        }
        let waits = tokio::spawn({
            let store = store.clone();
            async move { drop(store.begin().await.unwrap()) }
        });
        while writer().waiting != 1 {
            assert!(Instant::now() < deadline, "{:?}", writer());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        writing.rollback().await.unwrap();
        waits.await.unwrap();
        let then = writer();
        assert_eq!((then.waiting, then.acquired, then.failed), (0, one.acquired + 1, 0));
        assert!(then.acquire_wait >= one.acquire_wait + Duration::from_millis(20), "{then:?}");
        let roles: Vec<_> = store.pool_statistics().iter().map(|pool| (pool.role.as_str(), pool.max)).collect();
        assert_eq!(roles, [("writer", 1), ("reader", 2)]);
    }
}
