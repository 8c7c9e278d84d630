//! What can go wrong with a database, one cause each, with its remedy.

/// Errors of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no database that we know.
    #[error("{0} is no database URL: use sqlite://PATH or postgres://USER@HOST/DATABASE")]
    Url(String),
    /// The URL of Redis, or a file that it names, cannot be used.
    #[error("the URL of Redis is wrong: {0}")]
    RedisUrl(String),
    /// Redis does not answer.
    #[error("Redis does not answer: check that it runs and that its URL is right ({0})")]
    Redis(String),
    /// A newer version of the program wrote this database.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: \
         run the newer program, or restore the backup taken before the upgrade"
    )]
    Newer {
        /// Version in the database.
        found: i64,
        /// Newest version that this program knows.
        known: i64,
    },
    /// No space left for the database.
    #[error("the disk that holds the database is full: free space or grow it, nothing acknowledged is lost ({0})")]
    Full(String),
    /// The file or its directory cannot be written or created.
    #[error(
        "the database cannot be written: give the user that runs this program write access to it and its directory ({0})"
    )]
    NotWritable(String),
    /// Another process held the database for longer than the busy timeout.
    #[error("the database is locked by another process: stop that process or try again ({0})")]
    Locked(String),
    /// The server cannot be reached or refuses the connection.
    #[error("the database server does not answer: check that it runs and that the URL is right ({0})")]
    Unreachable(String),
    /// The file is no database or is damaged.
    #[error("the database is damaged or is no database: restore it from a backup ({0})")]
    Damaged(String),
    /// A row holds what no version of this program writes.
    #[error("the database holds a row that this program cannot have written: {0}: restore it from a backup")]
    Row(String),
    /// The lease that a write relies on has passed to somebody else. Nothing was written.
    #[error("the lease {0:?} has passed to another process: nothing was written")]
    LeaseLost(String),
    /// A transaction lost against a concurrent one; the same again may succeed.
    #[error("a concurrent transaction was in the way: try again ({0})")]
    Conflict(String),
    /// A value that has to be unique is there already.
    #[error("the database has this already ({0})")]
    Duplicate(String),
    /// The database failed otherwise.
    #[error("database: {0}")]
    Database(sqlx::Error),
}

impl StoreError {
    /// Whether the same call may succeed later with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::Unreachable(_) | Self::Conflict(_) | Self::Redis(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Self::Unreachable(error.to_string()),
            sqlx::Error::PoolTimedOut => Self::Unreachable("no connection became free in time".into()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Row(error.to_string())
            }
            sqlx::Error::Database(database) => {
                let text = database.to_string();
                let code = database.code().unwrap_or_default();
                let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some();
                let kind = if postgres { postgres_kind(&code) } else { sqlite_kind(&code) };
                match kind {
                    Some(kind) => kind(text),
                    None => Self::Database(error),
                }
            }
            _ => Self::Database(error),
        }
    }
}

type Kind = fn(String) -> StoreError;

/// By <https://www.sqlite.org/rescode.html>; the low byte of an extended code is the primary one.
fn sqlite_kind(code: &str) -> Option<Kind> {
    let extended: i32 = code.parse().ok()?;
    if extended == 1555 || extended == 2067 {
        return Some(StoreError::Duplicate);
    }
    match extended & 0xff {
        5 | 6 => Some(StoreError::Locked),
        8 | 14 | 3 => Some(StoreError::NotWritable),
        11 | 26 => Some(StoreError::Damaged),
        13 => Some(StoreError::Full),
        _ => None,
    }
}

/// By <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_kind(code: &str) -> Option<Kind> {
    match code {
        "23505" => Some(StoreError::Duplicate),
        "25006" => Some(StoreError::NotWritable),
        "40001" | "40P01" => Some(StoreError::Conflict),
        "53100" => Some(StoreError::Full),
        "55P03" => Some(StoreError::Locked),
        "53300" | "57P01" | "57P02" | "57P03" | "3D000" | "28000" | "28P01" => Some(StoreError::Unreachable),
        "XX001" | "XX002" => Some(StoreError::Damaged),
        _ if code.starts_with("08") => Some(StoreError::Unreachable),
        _ => None,
    }
}
