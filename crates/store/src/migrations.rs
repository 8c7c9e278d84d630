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
const MIGRATIONS: &[Migration] = &[migration!(1, "0001_base")];

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
