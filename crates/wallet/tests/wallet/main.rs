//! The wallet on a chain made in memory, on SQLite and, where the machine has it, PostgreSQL.

mod chain;
mod opening;
mod paying;
mod syncing;

use bitcoin::Network;
use cairn_store::{
    Store, StoreOptions,
    testing::{PostgresServer, sqlite_url},
};
use cairn_wallet::{Passphrase, Wallet};

/// Runs a test on each database.
async fn on_both<F: AsyncFn(Store)>(test: F) {
    let directory = tempfile::tempdir().unwrap();
    test(Store::open(&sqlite_url(directory.path()), &StoreOptions::default()).await.unwrap()).await;
    if let Some(server) = PostgresServer::start() {
        test(Store::open(&server.database(), &StoreOptions::default()).await.unwrap()).await;
    }
}

async fn wallet(store: &Store) -> Wallet {
    Wallet::open_or_create(store, "default", Network::Regtest, None).await.unwrap().0
}

/// Cheap to check: the cost protects real passphrases only.
fn passphrase(text: &str) -> Option<Passphrase> {
    Some(Passphrase::new(text.to_owned()).unwrap().with_work_factor(2))
}
