//! The schema's versions. A version that was released is never edited: a change is a new file, and none drops data.
//!
//! They are applied in one transaction that no other process can be in (SQLite: the write lock; PostgreSQL: an advisory
//! lock that ends with the transaction), so that a start that is killed leaves the schema as it was.

use crate::StoreError;
use sqlx::{PgConnection, SqliteConnection};

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
        }
    };
}

/// In ascending order of version.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_base"),
    migration!(2, "0002_stamps"),
    migration!(3, "0003_tasks"),
    migration!(4, "0004_cache"),
    migration!(200, "0200_wallet"),
];

/// Serialises migrations of processes that start together; any number that nothing else of ours uses.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock(4918061203749)";
const CREATE: &str = "CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL)";
const APPLIED: &str = "SELECT version FROM migrations ORDER BY version";
const RECORD: &str = "INSERT INTO migrations (version, name) VALUES ($1, $2)";

/// The migrations that are missing from `applied`, or a refusal.
fn missing(applied: &[i64]) -> Result<Vec<&'static Migration>, StoreError> {
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    if let Some(found) = applied.iter().copied().find(|version| MIGRATIONS.iter().all(|m| m.version != *version)) {
        return Err(StoreError::Newer { found, known });
    }
    Ok(MIGRATIONS.iter().filter(|m| !applied.contains(&m.version)).collect())
}

/// Applies what is missing, inside a transaction that holds the write lock.
pub(crate) async fn sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(CREATE).execute(&mut *connection).await?;
    let applied: Vec<i64> = sqlx::query_scalar::<sqlx::Sqlite, i64>(APPLIED).fetch_all(&mut *connection).await?;
    for migration in missing(&applied)? {
        tracing::info!(migration = migration.name, "migrating the database");
        sqlx::raw_sql(migration.sqlite).execute(&mut *connection).await?;
        let record = sqlx::query::<sqlx::Sqlite>(RECORD).bind(migration.version).bind(migration.name);
        record.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Applies what is missing, inside a transaction.
pub(crate) async fn postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(POSTGRES_LOCK).execute(&mut *connection).await?;
    sqlx::raw_sql(CREATE).execute(&mut *connection).await?;
    let query = sqlx::query_scalar::<sqlx::Postgres, i64>(APPLIED).persistent(false);
    let applied: Vec<i64> = query.fetch_all(&mut *connection).await?;
    for migration in missing(&applied)? {
        tracing::info!(migration = migration.name, "migrating the database");
        sqlx::raw_sql(migration.postgres).execute(&mut *connection).await?;
        let record = sqlx::query::<sqlx::Postgres>(RECORD).persistent(false);
        record.bind(migration.version).bind(migration.name).execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions, testing, value::args};

    #[test]
    fn versions_ascend_and_are_those_of_the_file_names() {
        assert!(MIGRATIONS.is_sorted_by(|a, b| a.version < b.version));
        for migration in MIGRATIONS {
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
        }
    }

    async fn newer_is_refused(url: &str) {
        let store = Store::open(url, &StoreOptions::default()).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        transaction.execute(RECORD, args![9999i64, "9999_future"]).await.unwrap();
        transaction.commit().await.unwrap();
        store.close().await;
        let error = Store::open(url, &StoreOptions::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_newer_sqlite_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        newer_is_refused(&testing::sqlite_url(directory.path())).await;
    }

    #[tokio::test]
    async fn a_newer_postgres_database_is_refused() {
        let Some(server) = testing::PostgresServer::start() else { return };
        newer_is_refused(&server.database()).await;
    }

    #[tokio::test]
    async fn no_statement_stays_prepared_on_the_server() {
        let Some(server) = testing::PostgresServer::start() else { return };
        let options = StoreOptions { writers: 1, readers: 1, ..StoreOptions::default() };
        let store = Store::open(&server.database(), &options).await.unwrap();
        store.meta_or_init("key", b"value").await.unwrap();
        store.acquire_lease("lease", "holder", std::time::Duration::ZERO).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        let sql = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''";
        let row = transaction.fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
        assert_eq!(row.get::<i64>(0).unwrap(), 0);
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        let row = transaction.fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
        assert_eq!(row.get::<i64>(0).unwrap(), 0, "the migrations' lock ended with their transaction");
    }

    /// Whether a commit waits for the disk, in a transaction of each kind, one after the other on one connection.
    async fn durability(url: &str, sql: &'static str) -> Vec<String> {
        let store = Store::open(url, &StoreOptions { writers: 1, ..StoreOptions::default() }).await.unwrap();
        let mut all = Vec::new();
        for forgettable in [false, true, false] {
            let begun = if forgettable { store.begin_forgettable().await } else { store.begin().await };
            let mut transaction = begun.unwrap();
            let row = transaction.fetch_optional(sql, Vec::new()).await.unwrap().unwrap();
            all.push(row.get::<String>(0).unwrap());
            transaction.commit().await.unwrap();
        }
        all
    }

    #[tokio::test]
    async fn only_what_is_forgettable_does_not_wait_for_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let sql = "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous";
        assert_eq!(
            durability(&testing::sqlite_url(directory.path()), sql).await,
            ["2", "1", "2"],
            "FULL, NORMAL, FULL"
        );
        let Some(server) = testing::PostgresServer::start() else { return };
        let sql = "SELECT current_setting('synchronous_commit')";
        assert_eq!(durability(&server.database(), sql).await, ["on", "off", "on"]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_leaves_the_database_usable() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&testing::sqlite_url(directory.path()), &StoreOptions::default()).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        // SQLite answers SQLITE_FULL above this size just as it does when the file system has no space.
        transaction.fetch_all("PRAGMA max_page_count = 64", Vec::new()).await.unwrap();
        transaction.commit().await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        let error = transaction.set_meta("large", &vec![7; 1 << 20]).await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        drop(transaction);
        let mut transaction = store.begin().await.unwrap();
        transaction.set_meta("small", b"fits").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(store.meta("large").await.unwrap(), None);
        assert!(store.meta("small").await.unwrap().is_some());
    }
}
