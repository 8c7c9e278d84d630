//! The store's base on both databases: opening, migrations, transactions, meta, leases.

use cairn_store::{Dialect, Store, StoreError, StoreOptions, leases::holder_token, testing::sqlite_url};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

async fn open(url: &str) -> Store {
    Store::open(url, &StoreOptions::default()).await.expect("opens")
}

async fn meta_is_kept_and_initialised_once(url: String) {
    let store = open(&url).await;
    assert_eq!(store.meta("key").await.unwrap(), None);
    assert_eq!(store.meta_or_init("key", b"first").await.unwrap(), b"first");
    assert_eq!(store.meta_or_init("key", b"second").await.unwrap(), b"first");

    let mut transaction = store.begin().await.unwrap();
    transaction.set_meta("key", b"third").await.unwrap();
    transaction.set_meta("other", b"").await.unwrap();
    assert_eq!(transaction.meta("key").await.unwrap().as_deref(), Some(&b"third"[..]));
    transaction.commit().await.unwrap();

    store.close().await;
    let store = open(&url).await;
    assert_eq!(store.meta("key").await.unwrap().as_deref(), Some(&b"third"[..]));
    assert_eq!(store.meta("other").await.unwrap().as_deref(), Some(&b""[..]));

    let mut transaction = store.begin().await.unwrap();
    transaction.delete_meta("other").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.meta("other").await.unwrap(), None);
}

async fn a_dropped_transaction_writes_nothing(url: String) {
    let store = open(&url).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.set_meta("dropped", b"x").await.unwrap();
    drop(transaction);
    let mut transaction = store.begin().await.unwrap();
    transaction.set_meta("undone", b"x").await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(store.meta("dropped").await.unwrap(), None);
    assert_eq!(store.meta("undone").await.unwrap(), None);
}

async fn a_read_transaction_sees_one_state(url: String) {
    let store = open(&url).await;
    let mut reader = store.begin_read().await.unwrap();
    assert_eq!(reader.meta("key").await.unwrap(), None);
    let mut writer = store.begin().await.unwrap();
    writer.set_meta("key", b"new").await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(reader.meta("key").await.unwrap(), None, "as when the transaction began");
    reader.commit().await.unwrap();
    assert!(store.meta("key").await.unwrap().is_some());
}

async fn reading_cannot_write(url: String) {
    let store = open(&url).await;
    let mut reader = store.begin_read().await.unwrap();
    let error = reader.set_meta("key", b"x").await.unwrap_err();
    assert!(matches!(error, StoreError::NotWritable(_)), "{error}");
}

async fn only_one_holds_a_lease(url: String) {
    let store = open(&url).await;
    let (ours, theirs) = (holder_token(), holder_token());
    let mut lease = store.acquire_lease("stamper", &ours, LONG).await.unwrap().expect("free");
    assert_eq!(store.acquire_lease("stamper", &theirs, LONG).await.unwrap(), None);
    assert!(store.acquire_lease("other", &theirs, LONG).await.unwrap().is_some(), "another name is another lease");
    store.renew_lease(&mut lease, LONG).await.unwrap();
    let (holder, fence, left) = store.lease_holder("stamper").await.unwrap().expect("held");
    assert_eq!((holder.as_str(), fence), (ours.as_str(), lease.fence));
    assert!(left > 0);

    store.release_lease(&lease).await.unwrap();
    assert_eq!(store.lease_holder("stamper").await.unwrap(), None);
    let next = store.acquire_lease("stamper", &theirs, LONG).await.unwrap().expect("given back");
    assert!(next.fence > lease.fence, "{} > {}", next.fence, lease.fence);

    // A lease that ends later than any can was taken before the clock was set back.
    let far = Duration::from_secs(1_000_000);
    store.acquire_lease("clock", &ours, far).await.unwrap().expect("free");
    assert_eq!(store.acquire_lease("clock", &theirs, far).await.unwrap(), None);
    assert!(store.acquire_lease("clock", &theirs, Duration::from_secs(10)).await.unwrap().is_some());
}

async fn a_holder_that_was_passed_by_cannot_write(url: String) {
    let store = open(&url).await;
    let (ours, theirs) = (holder_token(), holder_token());
    let mut old = store.acquire_lease("stamper", &ours, Duration::ZERO).await.unwrap().expect("free");

    let mut transaction = store.begin().await.unwrap();
    transaction.check_lease(&old).await.expect("expired, but nobody took it over");
    transaction.set_meta("written-by", b"old").await.unwrap();
    transaction.commit().await.unwrap();

    let new = store.acquire_lease("stamper", &theirs, LONG).await.unwrap().expect("expired");
    assert!(new.fence > old.fence);
    let mut transaction = store.begin().await.unwrap();
    let error = transaction.check_lease(&old).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost(_)), "{error}");
    drop(transaction);
    assert!(matches!(store.renew_lease(&mut old, LONG).await, Err(StoreError::LeaseLost(_))));
    store.release_lease(&old).await.unwrap();
    assert!(store.lease_holder("stamper").await.unwrap().is_some(), "giving back what is not ours does nothing");

    let mut transaction = store.begin().await.unwrap();
    transaction.check_lease(&new).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn a_restarted_holder_gets_a_new_fence(url: String) {
    let store = open(&url).await;
    let ours = holder_token();
    let first = store.acquire_lease("stamper", &ours, LONG).await.unwrap().unwrap();
    let second = store.acquire_lease("stamper", &ours, LONG).await.unwrap().expect("our own");
    assert!(second.fence > first.fence);
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.check_lease(&first).await.is_err());
}

async fn processes_that_start_together_migrate_once(url: String) {
    let opened = (0..6).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Store::open(&url, &StoreOptions::default()).await })
    });
    for store in opened.collect::<Vec<_>>() {
        let store = store.await.unwrap().expect("opens");
        store.ping().await.unwrap();
    }
}

async fn concurrent_writers_lose_no_update(url: String) {
    let store = open(&url).await;
    store.meta_or_init("counter", &0u64.to_be_bytes()).await.unwrap();
    let lease = store.acquire_lease("counter", &holder_token(), LONG).await.unwrap().unwrap();
    let tasks = (0..8).map(|_| {
        let (store, lease) = (store.clone(), lease.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut transaction = store.begin().await.unwrap();
                // Taking the lease's row serialises the transactions on both databases.
                transaction.check_lease(&lease).await.unwrap();
                let value = transaction.meta("counter").await.unwrap().unwrap();
                let value = u64::from_be_bytes(value.try_into().unwrap()) + 1;
                transaction.set_meta("counter", &value.to_be_bytes()).await.unwrap();
                transaction.commit().await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.meta("counter").await.unwrap().unwrap(), 80u64.to_be_bytes());
}
cairn_store::on_both_databases! {
    through PgBouncer:
    meta_is_kept_and_initialised_once,
    a_dropped_transaction_writes_nothing,
    a_read_transaction_sees_one_state,
    reading_cannot_write,
    only_one_holds_a_lease,
    a_holder_that_was_passed_by_cannot_write,
    a_restarted_holder_gets_a_new_fence,
    processes_that_start_together_migrate_once,
    concurrent_writers_lose_no_update,
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_its_password() {
    for url in [
        "",
        "cairn.db",
        "mysql://user:secret@host/db",
        "sqlite://",
        "sqlite://:memory:",
        "postgres:/user:secret@host/db",
        "user:secret@host",
        "secret@postgres://host",
        "postgres://user:secret@host:port/db",
        "postgres://user:secret@/db?password=secret&port=x",
    ] {
        let error = Store::open(url, &StoreOptions::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{url}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = Store::open("postgres://user:secret@host:99999/db", &StoreOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("invalid port number"), "{error}");
}

#[tokio::test]
async fn a_path_that_cannot_be_created_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/missing/cairn.db", directory.path().display());
    let error = Store::open(&url, &StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotWritable(_)), "{error}");
    assert!(error.to_string().contains("missing/cairn.db"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cairn.db");
    let content = b"Dear diary, this is no database at all. ".repeat(100);
    std::fs::write(&path, &content).unwrap();
    let error = Store::open(&sqlite_url(directory.path()), &StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_database_locked_by_another_process_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(directory.path());
    let options = StoreOptions { busy_timeout: Duration::from_millis(100), ..StoreOptions::default() };
    let first = Store::open(&url, &options).await.unwrap();
    let second = Store::open(&url, &options).await.unwrap();
    let writing = first.begin().await.unwrap();
    let error = second.begin().await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.is_transient());
    drop(writing);
    second.begin().await.expect("free again");
}

#[tokio::test]
async fn a_server_that_is_not_there_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("postgres://postgres@localhost/db?host={}", directory.path().display());
    let error = Store::open(&url, &StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn the_dialect_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&sqlite_url(directory.path())).await;
    assert_eq!(store.dialect(), Dialect::Sqlite);
}

#[tokio::test]
async fn a_database_that_others_can_read_is_closed_to_them() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(directory.path());
    let store = Store::open(&url, &StoreOptions::default()).await.unwrap();
    let files = || {
        let files = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    for file in files() {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let other = Store::open(&url, &StoreOptions::default()).await.unwrap();
    for file in files() {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    drop((store, other));
}
