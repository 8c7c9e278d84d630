//! SQL for everyone: SQLite (WAL) or PostgreSQL behind one interface. The only room that knows SQL.

/// Errors of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}
