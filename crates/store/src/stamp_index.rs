//! Sorted runs that find a digest's batch: 16-byte keys (8 bytes of a keyed hash, 6 of the batch, 2 of the leaf) in pages,
//! so that ten million digests cost some hundred thousand rows less than a B-tree entry each, written in order.

use crate::{Store, StoreError, Transaction, stamps::CHUNKS_IN_BATCH, value::args};

/// Bytes of a key.
pub const KEY: usize = 16;
/// Keys in a page.
pub const KEYS_IN_PAGE: usize = 256;

const WATERMARK: &str = "stamp-indexed-seq";

/// A sorted run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// How often its keys were merged.
    pub tier: i64,
    /// Keys in it.
    pub entries: i64,
}

fn watermark(value: Option<Vec<u8>>) -> Result<i64, StoreError> {
    let Some(value) = value else { return Ok(0) };
    let bytes = value.try_into().map_err(|_| StoreError::Row("the index's watermark is not 8 bytes".into()))?;
    Ok(i64::from_be_bytes(bytes))
}

impl Store {
    /// Batches up to this `seq` are in the runs.
    ///
    /// # Errors
    /// The database failed.
    pub async fn indexed_seq(&self) -> Result<i64, StoreError> {
        watermark(self.meta(WATERMARK).await?)
    }

    /// Runs that look-ups read, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live_runs(&self) -> Result<Vec<Run>, StoreError> {
        let rows =
            self.fetch_all("SELECT id, tier, entries FROM stamp_runs WHERE live = 1 ORDER BY id", args![]).await?;
        rows.iter().map(|row| Ok(Run { id: row.get(0)?, tier: row.get(1)?, entries: row.get(2)? })).collect()
    }

    /// Up to `limit` batches after the watermark, in order: (`seq`, batch, leaves).
    ///
    /// # Errors
    /// The database failed.
    pub async fn unindexed(&self, limit: i64) -> Result<Vec<(i64, i64, i64)>, StoreError> {
        let sql = "SELECT seq, id, leaf_count FROM stamp_batches WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = self.fetch_all(sql, args![self.indexed_seq().await?, limit]).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    }

    /// The encoded chunks of a batch, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn leaf_chunks(&self, batch: i64) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT leaves FROM stamp_leaves WHERE id >= $1 AND id < $2 ORDER BY id";
        let rows = self.fetch_all(sql, args![batch * CHUNKS_IN_BATCH, (batch + 1) * CHUNKS_IN_BATCH]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The encoded chunks of the batches `first..=last`, by number, in order: (batch, chunk, encoded digests).
    ///
    /// # Errors
    /// The database failed.
    pub async fn leaf_rows(&self, first: i64, last: i64) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
        let sql = "SELECT id, leaves FROM stamp_leaves WHERE id >= $1 AND id < $2 ORDER BY id";
        let rows = self.fetch_all(sql, args![first * CHUNKS_IN_BATCH, (last + 1) * CHUNKS_IN_BATCH]).await?;
        rows.iter()
            .map(|row| {
                let id: i64 = row.get(0)?;
                Ok((id / CHUNKS_IN_BATCH, id % CHUNKS_IN_BATCH, row.get(1)?))
            })
            .collect()
    }

    /// Up to `limit` pages of a run after the page that begins with `after`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn run_pages(&self, run: i64, after: &[u8], limit: i64) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let sql = "SELECT first_key, page FROM stamp_run_pages WHERE run_id = $1 AND first_key > $2 ORDER BY first_key LIMIT $3";
        let rows = self.fetch_all(sql, args![run, after, limit]).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Where digests with this 8-byte hash may be: (batch, leaf), at most `limit` from the runs, in order; and the
    /// batches that are in no run yet. All of one state of the database.
    ///
    /// # Errors
    /// The database failed.
    pub async fn candidates(&self, hash: [u8; 8], limit: usize) -> Result<Candidates, StoreError> {
        let mut transaction = self.begin_read().await?;
        let mut found = Vec::new();
        let (mut low, mut high) = ([0u8; KEY], [0xffu8; KEY]);
        low[..8].copy_from_slice(&hash);
        high[..8].copy_from_slice(&hash);
        let runs = transaction.fetch_all("SELECT id FROM stamp_runs WHERE live = 1 ORDER BY id", args![]).await?;
        for run in &runs {
            let run: i64 = run.get(0)?;
            let sql = "SELECT page FROM stamp_run_pages WHERE run_id = $1 AND first_key <= $2 ORDER BY first_key DESC LIMIT 1";
            let mut pages = transaction.fetch_all(sql, args![run, &low[..]]).await?;
            let sql = "SELECT page FROM stamp_run_pages WHERE run_id = $1 AND first_key > $2 AND first_key <= $3 \
                       ORDER BY first_key LIMIT $4";
            let more = i64::try_from(limit / KEYS_IN_PAGE + 1).unwrap_or(i64::MAX);
            pages.extend(transaction.fetch_all(sql, args![run, &low[..], &high[..], more]).await?);
            let mut of_run = 0;
            for page in &pages {
                let page: Vec<u8> = page.get(0)?;
                for key in page.chunks_exact(KEY).filter(|key| key[..8] == hash) {
                    if of_run < limit {
                        let key: [u8; KEY] = key.try_into().expect("chunks of this size");
                        found.push(decode_key(key));
                        of_run += 1;
                    }
                }
            }
        }
        let from = watermark(transaction.meta(WATERMARK).await?)?;
        let sql = "SELECT id, leaf_count FROM stamp_batches WHERE seq > $1 OR seq IS NULL ORDER BY id";
        let rows = transaction.fetch_all(sql, args![from]).await?;
        let unindexed = rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, StoreError>>()?;
        transaction.commit().await?;
        found.sort_unstable();
        Ok(Candidates { found, unindexed })
    }
}

/// Where a digest may be.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// (batch, leaf) by the runs; the hash is equal, the digest perhaps not.
    pub found: Vec<(i64, u16)>,
    /// (batch, leaves) of the batches that are in no run, in order: their digests are still to be searched.
    pub unindexed: Vec<(i64, i64)>,
}

/// The key of a leaf.
#[must_use]
pub fn encode_key(hash: [u8; 8], batch: i64, leaf: u16) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&hash);
    // 2^48 batches are more than any disk holds.
    key[8..14].copy_from_slice(&batch.to_be_bytes()[2..]);
    key[14..].copy_from_slice(&leaf.to_be_bytes());
    key
}

fn decode_key(key: [u8; KEY]) -> (i64, u16) {
    let mut batch = [0; 8];
    batch[2..].copy_from_slice(&key[8..14]);
    (i64::from_be_bytes(batch), u16::from_be_bytes([key[14], key[15]]))
}

impl Transaction {
    /// Begins a run that look-ups do not read yet; its number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn create_run(&mut self, tier: i64) -> Result<i64, StoreError> {
        let row = self
            .fetch_optional("INSERT INTO stamp_runs (tier, entries, live) VALUES ($1, 0, 0) RETURNING id", args![tier])
            .await?;
        row.ok_or_else(|| StoreError::Row("an insert returns no id".into()))?.get(0)
    }

    /// Adds a page of sorted keys to a run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn insert_run_page(&mut self, run: i64, page: Vec<u8>) -> Result<(), StoreError> {
        let first = page.get(..KEY).unwrap_or_default().to_vec();
        let sql = "INSERT INTO stamp_run_pages (run_id, first_key, page) VALUES ($1, $2, $3)";
        self.execute(sql, args![run, first, page]).await.map(drop)
    }

    /// Look-ups read the run from now on, and those in `replaced` no more.
    ///
    /// # Errors
    /// The database failed.
    pub async fn publish_run(
        &mut self,
        run: i64,
        entries: i64,
        replaced: &[i64],
        indexed: Option<i64>,
    ) -> Result<(), StoreError> {
        self.execute("UPDATE stamp_runs SET live = 1, entries = $1 WHERE id = $2", args![entries, run]).await?;
        for old in replaced {
            self.execute("UPDATE stamp_runs SET live = 0 WHERE id = $1", args![*old]).await?;
        }
        if let Some(seq) = indexed {
            self.set_meta(WATERMARK, &seq.to_be_bytes()).await?;
        }
        Ok(())
    }

    /// Deletes up to `pages` pages of runs that nothing reads; whether there may be more.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_dead_runs(&mut self, pages: i64) -> Result<bool, StoreError> {
        let Some(row) = self.fetch_optional("SELECT id FROM stamp_runs WHERE live = 0 LIMIT 1", args![]).await? else {
            return Ok(false);
        };
        let run: i64 = row.get(0)?;
        let sql = "DELETE FROM stamp_run_pages WHERE run_id = $1 AND first_key IN \
                   (SELECT first_key FROM stamp_run_pages WHERE run_id = $1 ORDER BY first_key LIMIT $2)";
        if self.execute(sql, args![run, pages]).await? == 0 {
            self.execute("DELETE FROM stamp_runs WHERE id = $1", args![run]).await?;
        }
        Ok(true)
    }
}
