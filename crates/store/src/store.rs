//! Opening a database, its pools, and transactions.

use crate::{
    StoreError, StoreOptions, migrations,
    pools::{Pool, PoolStatistics, Role},
    replica::{PATIENCE, Replica, ReplicaStatus},
    value::{Row, Value, postgres_query, sqlite_query},
};
use sqlx::{
    Connection, PgConnection, Postgres, SqlStr, Sqlite, SqliteConnection,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Which database this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
}

impl Dialect {
    /// The one that is for this database.
    pub(crate) fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

/// A database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Pools,
    /// Reads may be some seconds old.
    relaxed: bool,
    /// How it was opened, to be opened beside.
    how: Arc<How>,
}

#[derive(Debug)]
struct How {
    url: String,
    options: StoreOptions,
}

#[derive(Debug, Clone)]
enum Pools {
    /// One connection writes: a second one would only wait for the first. Readers see the last commit (WAL).
    Sqlite {
        writer: Pool<Sqlite>,
        readers: Pool<Sqlite>,
        /// The writer's transaction, the only one of this process, is not committed.
        open: Arc<AtomicBool>,
    },
    Postgres {
        writers: Pool<Postgres>,
        readers: Pool<Postgres>,
        replica: Option<Arc<Replica>>,
    },
}

/// Makes the file if it is missing, for its owner alone: it may hold a wallet's seed. One that others can read, and its
/// journals, are closed to them. SQLite gives new journals the same mode, and says itself what is wrong where no file can
/// be made.
fn make_private(path: &Path) {
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = Path::new(&name);
        let Ok(mode) = std::fs::metadata(file).map(|data| data.permissions().mode()) else { continue };
        if mode & 0o077 != 0
            && let Err(error) = std::fs::set_permissions(file, Permissions::from_mode(mode & 0o700))
        {
            tracing::warn!(file = %file.display(), %error, "others can read the database, and that cannot be changed");
        }
    }
}

impl Store {
    /// Opens `sqlite://PATH` (created where it is missing) or `postgres://…`, and applies the migrations that are missing.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a database that a newer version wrote; [`StoreError::NotWritable`],
    /// [`StoreError::Locked`], [`StoreError::Unreachable`], [`StoreError::Damaged`] and [`StoreError::Full`] as they say.
    pub async fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let inner = if let Some(path) = sqlite_path(url) {
            let path = path?;
            make_private(&path);
            let pools = sqlite_pools(&path, options);
            migrate_sqlite(&pools, &path, options).await?;
            pools
        } else {
            migrate_postgres(url, options).await?;
            postgres_pools(url, options)?
        };
        Ok(Self { inner, relaxed: false, how: Arc::new(How { url: url.to_owned(), options: options.clone() }) })
    }

    /// The same database through connections of its own, one that writes and one that reads: for what must not wait for
    /// others. They belong to the runtime that it is called in.
    ///
    /// # Errors
    /// None that opening did not have.
    pub fn beside(&self) -> Result<Self, StoreError> {
        let options = StoreOptions { readers: 1, writers: 1, replica_url: None, ..self.how.options.clone() };
        let inner = match sqlite_path(&self.how.url) {
            Some(path) => sqlite_pools(&path?, &options),
            None => postgres_pools(&self.how.url, &options)?,
        };
        Ok(Self { inner, relaxed: false, how: self.how.clone() })
    }

    /// The same database and the same connections, for what may read some seconds old values: the replica is read from where
    /// there is one, it answers, and it is not behind for longer than the options allow.
    #[must_use]
    pub fn relaxed(&self) -> Self {
        Self { relaxed: true, ..self.clone() }
    }

    /// How it is with the replica, where there is one.
    #[must_use]
    pub fn replica_status(&self) -> Option<ReplicaStatus> {
        self.replica().map(|replica| replica.status())
    }

    fn replica(&self) -> Option<&Arc<Replica>> {
        match &self.inner {
            Pools::Sqlite { .. } => None,
            Pools::Postgres { replica, .. } => replica.as_ref(),
        }
    }

    /// The replica, if this may read from it and it is fit for that.
    fn fit_replica(&self) -> Option<&Arc<Replica>> {
        self.replica().filter(|replica| self.relaxed && replica.is_fit())
    }

    /// Past the pooler, where there is one; none in SQLite.
    pub(crate) fn direct(&self) -> Option<PgConnectOptions> {
        match self.inner {
            Pools::Sqlite { .. } => None,
            Pools::Postgres { .. } => direct_options(&self.how.url, &self.how.options).ok(),
        }
    }

    /// The file of SQLite's journal, which every commit writes to.
    pub(crate) fn journal_file(&self) -> Option<PathBuf> {
        let mut file = sqlite_path(&self.how.url)?.ok()?.into_os_string();
        file.push("-wal");
        Some(PathBuf::from(file))
    }

    /// Which database this is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Begins a transaction that may write. SQLite: the only one of all processes, until it ends. Dropping it undoes it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] or [`StoreError::Unreachable`] where it cannot begin in time.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        self.begin_writing("PRAGMA synchronous = FULL; BEGIN IMMEDIATE", "BEGIN").await
    }

    /// As [`Store::begin`], for what need not be on the disk when it is committed: after a crash of the machine or the server it
    /// may be as if it had not been. The next [`Store::begin`] that commits takes it to the disk too.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_forgettable(&self) -> Result<Transaction, StoreError> {
        let postgres = "BEGIN; SET LOCAL synchronous_commit = off";
        self.begin_writing("PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE", postgres).await
    }

    async fn begin_writing(&self, sqlite: &'static str, postgres: &'static str) -> Result<Transaction, StoreError> {
        Ok(Transaction {
            inner: match &self.inner {
                Pools::Sqlite { writer, open, .. } => {
                    let mut connection = writer.acquire().await?;
                    open.store(true, Ordering::Relaxed);
                    sqlx::raw_sql(sqlite).execute(&mut *connection).await?;
                    Inner::Sqlite(connection, Some(open.clone()))
                }
                Pools::Postgres { writers, .. } => Inner::Postgres(begin_postgres(writers, postgres).await?),
            },
        })
    }

    /// Begins a transaction that only reads: all its statements see the same state.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where no connection is free in time.
    pub async fn begin_read(&self) -> Result<Transaction, StoreError> {
        if let Some(replica) = self.fit_replica() {
            match patiently(begin_postgres(&replica.pool, READ)).await {
                Ok(inner) => return Ok(Transaction { inner: Inner::Postgres(inner) }),
                Err(error) => replica.failed(&error),
            }
        }
        Ok(Transaction {
            inner: match &self.inner {
                Pools::Sqlite { readers, .. } => {
                    let mut connection = readers.acquire().await?;
                    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
                    Inner::Sqlite(connection, None)
                }
                Pools::Postgres { readers, .. } => Inner::Postgres(begin_postgres(readers, READ).await?),
            },
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.fetch_all("SELECT 1", Vec::new()).await.map(drop)
    }

    /// Open connections: (all, unused).
    #[must_use]
    pub fn connections(&self) -> (u32, usize) {
        let pools = self.pool_statistics();
        (pools.iter().map(|pool| pool.size).sum(), pools.iter().map(|pool| pool.idle as usize).sum())
    }

    /// The pools' numbers: of those that write, that read, and that read from the replica if there is one.
    #[must_use]
    pub fn pool_statistics(&self) -> Vec<PoolStatistics> {
        match &self.inner {
            Pools::Sqlite { writer, readers, .. } => vec![writer.statistics(), readers.statistics()],
            Pools::Postgres { writers, readers, replica } => {
                let replica = replica.as_ref().map(|replica| replica.pool.statistics());
                [writers.statistics(), readers.statistics()].into_iter().chain(replica).collect()
            }
        }
    }

    /// Closes every connection once it is unused. Later calls fail.
    pub async fn close(&self) {
        match &self.inner {
            Pools::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres { writers, readers, replica } => {
                if let Some(replica) = replica {
                    replica.pool.close().await;
                }
                readers.close().await;
                writers.close().await;
            }
        }
    }

    /// All rows of a reading statement.
    pub(crate) async fn fetch_all(&self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &self.inner {
            Pools::Sqlite { readers, .. } => {
                let mut connection = readers.acquire().await?;
                let rows = sqlite_query(sql, args).fetch_all(&mut *connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            // Preparing and executing are two round trips, which a pooler may send to two servers outside a transaction.
            Pools::Postgres { readers, .. } => {
                if let Some(replica) = self.fit_replica() {
                    match patiently(fetch_postgres(&replica.pool, sql, args.clone())).await {
                        Ok(rows) => return Ok(rows),
                        Err(error) => replica.failed(&error),
                    }
                }
                fetch_postgres(readers, sql, args).await
            }
        }
    }

    /// The first row of a reading statement.
    pub(crate) async fn fetch_optional(&self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(sql, args).await?.into_iter().next())
    }
}

/// A database transaction. Dropping it without [`commit`](Self::commit) undoes it.
#[derive(Debug)]
pub struct Transaction {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    /// SQLite ends a transaction by itself on some errors (a full disk), which sqlx's own transactions do not
    /// survive; [`end_transaction`] undoes what is not committed.
    /// The flag is the writer's [`Pools::Sqlite`] `open`.
    Sqlite(PoolConnection<Sqlite>, Option<Arc<AtomicBool>>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Makes everything durable.
    ///
    /// # Errors
    /// Nothing was written then.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Sqlite(mut inner, open) => {
                sqlx::raw_sql("COMMIT").execute(&mut *inner).await?;
                if let Some(open) = open {
                    open.store(false, Ordering::Relaxed);
                }
            }
            Inner::Postgres(inner) => inner.commit().await?,
        }
        Ok(())
    }

    /// Undoes everything.
    ///
    /// # Errors
    /// The connection failed; the database undoes it by itself then.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Sqlite(mut inner, _) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut *inner).await?;
            }
            Inner::Postgres(inner) => inner.rollback().await?,
        }
        Ok(())
    }

    /// Which database this is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(..) => Dialect::Sqlite,
            Inner::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The database's clock, milliseconds since 1970: the same for every process that shares it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn now_ms(&mut self) -> Result<i64, StoreError> {
        let sql = self.dialect().pick(
            "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        );
        match self.fetch_optional(sql, Vec::new()).await? {
            Some(row) => row.get(0),
            None => Err(StoreError::Row("the clock gives no row".into())),
        }
    }

    /// Rows changed by a statement.
    pub(crate) async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, StoreError> {
        Ok(match &mut self.inner {
            Inner::Sqlite(inner, _) => sqlite_query(sql, args).execute(&mut **inner).await?.rows_affected(),
            Inner::Postgres(inner) => postgres_query(sql, args).execute(&mut **inner).await?.rows_affected(),
        })
    }

    /// All rows of a statement.
    pub(crate) async fn fetch_all(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        Ok(match &mut self.inner {
            Inner::Sqlite(inner, _) => {
                sqlite_query(sql, args).fetch_all(&mut **inner).await?.into_iter().map(Row::Sqlite).collect()
            }
            Inner::Postgres(inner) => {
                postgres_query(sql, args).fetch_all(&mut **inner).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row of a statement.
    pub(crate) async fn fetch_optional(
        &mut self,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(sql, args).await?.into_iter().next())
    }
}

/// The file of a `sqlite://` URL; none for another one.
fn sqlite_path(url: &str) -> Option<Result<PathBuf, StoreError>> {
    let path = url.strip_prefix("sqlite://")?;
    let path = path.split('?').next().unwrap_or(path);
    if path.is_empty() || path == ":memory:" {
        return Some(Err(no_url(url, "it names no file")));
    }
    Some(Ok(PathBuf::from(path)))
}

fn sqlite_pools(path: &Path, options: &StoreOptions) -> Pools {
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(true)
        .pragma("cache_size", format!("-{}", options.cache_kib))
        .pragma("temp_store", "MEMORY");
    let writing = connect
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A digest is acknowledged when its commit is on the disk, so every commit has to reach it.
        .synchronous(SqliteSynchronous::Full)
        // Fewer, larger checkpoints: a bulk commit alone is some megabytes.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864");
    let reading = connect.create_if_missing(false).pragma("query_only", "ON");

    let open = Arc::new(AtomicBool::new(false));
    let left_open = open.clone();
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.busy_timeout + Duration::from_secs(5))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(move |connection, _| {
            // What was committed needs no question to the database, of which each costs two switches of threads.
            let left_open = left_open.swap(false, Ordering::Relaxed);
            Box::pin(async move { if left_open { end_transaction(connection).await } else { Ok(true) } })
        })
        .connect_lazy_with(writing);
    let readers = SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(options.busy_timeout + Duration::from_secs(5))
        .idle_timeout(options.idle_timeout)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(end_transaction(connection)))
        .connect_lazy_with(reading);
    Pools::Sqlite { writer: Pool::new(writer, Role::Writer), readers: Pool::new(readers, Role::Reader), open }
}

async fn migrate_sqlite(pools: &Pools, path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let Pools::Sqlite { writer, open, .. } = pools else { return Ok(()) };
    // Two processes that create one file at the same moment: switching to WAL answers "locked" without waiting.
    let deadline = Instant::now() + options.busy_timeout;
    loop {
        let migrated = async {
            let mut connection = writer.acquire().await?;
            open.store(true, Ordering::Relaxed);
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            migrations::sqlite(&mut connection).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
            Ok(())
        };
        match migrated.await {
            Ok(()) => break,
            Err(StoreError::Locked(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(StoreError::NotWritable(text)) => {
                return Err(StoreError::NotWritable(format!("{}: {text}", path.display())));
            }
            Err(StoreError::Damaged(text)) => {
                return Err(StoreError::Damaged(format!("{}: {text}", path.display())));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn migrate_postgres(url: &str, options: &StoreOptions) -> Result<(), StoreError> {
    let mut connection = PgConnection::connect_with(&direct_options(url, options)?).await?;
    let mut transaction = connection.begin().await?;
    migrations::postgres(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Past the pooler, where there is one.
fn direct_options(url: &str, options: &StoreOptions) -> Result<PgConnectOptions, StoreError> {
    postgres_options(options.direct_url.as_deref().unwrap_or(url))
}

fn postgres_pools(url: &str, options: &StoreOptions) -> Result<Pools, StoreError> {
    let connect = postgres_options(url)?;
    let pool = |role, connect, size: u32, patience| {
        let pool = PgPoolOptions::new()
            .acquire_timeout(patience)
            .idle_timeout(options.idle_timeout)
            .max_lifetime(Duration::from_secs(1800))
            .max_connections(size.max(1));
        Pool::new(pool.connect_lazy_with(connect), role)
    };
    let patience = options.busy_timeout + Duration::from_secs(5);
    let readers = pool(Role::Reader, connect.clone(), options.readers, patience);
    let replica = match &options.replica_url {
        Some(url) => {
            let replica = pool(Role::Replica, postgres_options(url)?, options.readers, PATIENCE);
            let max_lag = options.replica_lag.max(Duration::from_secs(2));
            Some(Arc::new(Replica::new(replica, readers.clone(), max_lag)))
        }
        None => None,
    };
    Ok(Pools::Postgres { writers: pool(Role::Writer, connect, options.writers, patience), readers, replica })
}

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

async fn begin_postgres(
    pool: &Pool<Postgres>,
    how: &'static str,
) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
    Ok(sqlx::Transaction::begin(pool.acquire().await?, Some(SqlStr::from_static(how))).await?)
}

async fn fetch_postgres(pool: &Pool<Postgres>, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
    let mut transaction = Transaction { inner: Inner::Postgres(begin_postgres(pool, READ).await?) };
    let rows = transaction.fetch_all(sql, args).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Waits for the replica as long as that is worth it.
async fn patiently<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unreachable("the replica does not answer in time".into());
    tokio::time::timeout(PATIENCE, call).await.map_err(|_| late())?
}

/// Undoes what a dropped transaction left; whether the connection is fit for the next one.
async fn end_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    match sqlx::raw_sql("ROLLBACK").execute(connection).await {
        Ok(_) => Ok(true),
        // The usual case: it was committed.
        Err(sqlx::Error::Database(error)) => Ok(error.message().contains("no transaction is active")),
        Err(_) => Ok(false),
    }
}

/// Options that PgBouncer takes: it refuses start-up parameters that it does not know.
pub(crate) fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(no_url(url, ""));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| match error {
        sqlx::Error::Configuration(cause) => no_url(url, &cause.to_string()),
        _ => no_url(url, ""),
    })?;
    Ok(options.extra_float_digits(None).statement_cache_capacity(0).application_name("cairn"))
}

fn no_url(url: &str, cause: &str) -> StoreError {
    let url = hide_password(url);
    StoreError::Url(if cause.is_empty() { format!("{url:?}") } else { format!("{url:?} ({cause})") })
}

/// The URL without what must not reach a log: what stands before the host, and the parameters.
fn hide_password(url: &str) -> String {
    let url = url.split('?').next().unwrap_or(url);
    let scheme = url.find("://").map_or(0, |at| at + 3);
    match url.rfind('@') {
        Some(at) if at >= scheme => format!("{}***{}", &url[..scheme], &url[at..]),
        Some(at) => format!("***{}", &url[at..]),
        None => url.to_owned(),
    }
}
