//! Small values kept by name.

use crate::{Store, StoreError, Transaction, value::args};

const GET: &str = "SELECT value FROM meta WHERE key = $1";

impl Store {
    /// The value kept under `key`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.fetch_optional(GET, args![key]).await?.map(|row| row.get(0)).transpose()
    }

    /// The value kept under `key`; where there is none, `candidate` becomes it. Every process gets the same.
    ///
    /// # Errors
    /// The database failed.
    pub async fn meta_or_init(&self, key: &str, candidate: &[u8]) -> Result<Vec<u8>, StoreError> {
        if let Some(value) = self.meta(key).await? {
            return Ok(value);
        }
        let mut transaction = self.begin().await?;
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        transaction.execute(sql, args![key, candidate]).await?;
        let value = transaction.meta(key).await?;
        transaction.commit().await?;
        value.ok_or_else(|| StoreError::Row(format!("meta {key:?} vanished")))
    }
}

impl Transaction {
    /// The value kept under `key`, as this transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.fetch_optional(GET, args![key]).await?.map(|row| row.get(0)).transpose()
    }

    /// Keeps `value` under `key`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_meta(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.execute(sql, args![key, value]).await.map(drop)
    }

    /// Forgets what is kept under `key`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_meta(&mut self, key: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM meta WHERE key = $1", args![key]).await.map(drop)
    }
}
