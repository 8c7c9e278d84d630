//! News across connections, on both databases.

use cairn_store::changes::{Change, Changes};
use cairn_store::testing::{PostgresServer, sqlite_url};
use cairn_store::{Store, StoreOptions};
use std::time::Duration;

async fn next(changes: &mut Changes) -> Change {
    tokio::time::timeout(Duration::from_secs(20), changes.next()).await.expect("news come").expect("it listens")
}

#[tokio::test]
async fn every_commit_to_a_file_is_told_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(directory.path());
    let ours = Store::open(&url, &StoreOptions::default()).await.unwrap();
    let theirs = Store::open(&url, &StoreOptions::default()).await.unwrap();
    let mut changes = ours.changes().await.unwrap().expect("Linux tells of files");
    assert!(tokio::time::timeout(Duration::from_millis(200), changes.next()).await.is_err(), "nothing was written");
    theirs.meta_or_init("key", b"value").await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Unknown);
}

#[tokio::test]
async fn what_is_announced_is_heard() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let ours = Store::open(&url, &StoreOptions::default()).await.unwrap();
    let theirs = Store::open(&url, &StoreOptions::default()).await.unwrap();
    let mut changes = ours.changes().await.unwrap().expect("there is no pooler");
    theirs.announce(&["one", "it's two"]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Announced("one".into()));
    assert_eq!(next(&mut changes).await, Change::Announced("it's two".into()));
}
