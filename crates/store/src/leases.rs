//! Leases with a fence: who may do what only one process may do.
//!
//! A lease is held for some seconds and renewed while it is held. Time alone makes nothing safe: a holder may be paused
//! for longer than its lease. So every take-over raises the lease's fence, and a holder's writes check their fence
//! inside their own transaction with [`Transaction::check_lease`]: a holder that was passed by cannot write.

use crate::{
    Store, StoreError, Transaction,
    value::{args, millis},
};
use std::time::Duration;

/// How long a lease lasts.
pub const LEASE_TIME: Duration = Duration::from_secs(10);
/// How often its holder renews it.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Proof that a lease was taken; worth something only inside a transaction that [checks](Transaction::check_lease) it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub name: String,
    /// Who holds it: a random token of the process.
    pub holder: String,
    /// Rises with every take-over.
    pub fence: i64,
    /// When it may be taken over if it is not renewed, by the database's clock, milliseconds since 1970.
    pub expires_at: i64,
}

/// A token that names one holder: 128 random bits.
#[must_use]
pub fn holder_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Store {
    /// Takes the lease if it is free, expired, or `holder`'s own; `None` while somebody else holds it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now_ms().await?;
        let expires_at = now.saturating_add(millis(duration));
        // The fence rises even where the holder is the same: its writes from before must not mix with those from now.
        let sql = "INSERT INTO leases (name, holder, fence, expires_at) VALUES ($1, $2, 1, $3) \
                   ON CONFLICT (name) DO UPDATE \
                   SET holder = excluded.holder, fence = leases.fence + 1, expires_at = excluded.expires_at \
                   WHERE leases.expires_at <= $4 OR leases.holder = excluded.holder OR leases.expires_at > $5 \
                   RETURNING fence";
        // No lease is that long: the database's clock was set back, and nobody has renewed it since.
        let impossible = now.saturating_add(millis(duration.saturating_mul(2)).max(millis(LEASE_TIME * 2)));
        let row = transaction.fetch_optional(sql, args![name, holder, expires_at, now, impossible]).await?;
        let Some(row) = row else { return Ok(None) };
        let fence = row.get(0)?;
        transaction.commit().await?;
        Ok(Some(Lease { name: name.to_owned(), holder: holder.to_owned(), fence, expires_at }))
    }

    /// Makes the lease last `duration` from now; [`StoreError::LeaseLost`] if it has passed on.
    ///
    /// # Errors
    /// Lost, or the database failed.
    pub async fn renew_lease(&self, lease: &mut Lease, duration: Duration) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let expires_at = transaction.now_ms().await?.saturating_add(millis(duration));
        let sql = "UPDATE leases SET expires_at = $1 WHERE name = $2 AND holder = $3 AND fence = $4";
        let args = args![expires_at, lease.name.as_str(), lease.holder.as_str(), lease.fence];
        if transaction.execute(sql, args).await? == 0 {
            return Err(StoreError::LeaseLost(lease.name.clone()));
        }
        transaction.commit().await?;
        lease.expires_at = expires_at;
        Ok(())
    }

    /// Gives the lease back, so that the next holder need not wait. Nothing happens if it has passed on.
    ///
    /// # Errors
    /// The database failed; the lease expires by itself then.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        // The row stays: its fence must never fall.
        let sql = "UPDATE leases SET holder = '', expires_at = 0 WHERE name = $1 AND holder = $2 AND fence = $3";
        transaction.execute(sql, args![lease.name.as_str(), lease.holder.as_str(), lease.fence]).await?;
        transaction.commit().await
    }

    /// Who holds the lease now: (holder, fence, milliseconds left), or `None` if nobody does.
    ///
    /// # Errors
    /// The database failed.
    pub async fn lease_holder(&self, name: &str) -> Result<Option<(String, i64, i64)>, StoreError> {
        let mut transaction = self.begin_read().await?;
        let now = transaction.now_ms().await?;
        let sql = "SELECT holder, fence, expires_at FROM leases WHERE name = $1 AND expires_at > $2";
        let row = transaction.fetch_optional(sql, args![name, now]).await?;
        transaction.commit().await?;
        row.map(|row| Ok((row.get(0)?, row.get(1)?, row.get::<i64>(2)? - now))).transpose()
    }
}

impl Transaction {
    /// Fails with [`StoreError::LeaseLost`] unless the lease is still that of its taker, and keeps it so until this
    /// transaction ends: a successor waits. Expired but not taken over is good enough.
    ///
    /// # Errors
    /// Lost, or the database failed.
    pub async fn check_lease(&mut self, lease: &Lease) -> Result<(), StoreError> {
        // An update, not a read: it locks the row against a successor.
        let sql = "UPDATE leases SET fence = fence WHERE name = $1 AND holder = $2 AND fence = $3";
        let args = args![lease.name.as_str(), lease.holder.as_str(), lease.fence];
        if self.execute(sql, args).await? == 0 {
            return Err(StoreError::LeaseLost(lease.name.clone()));
        }
        Ok(())
    }
}
