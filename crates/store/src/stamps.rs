//! The calendar's journal, the stamping rounds and their transactions.

use crate::{
    Store, StoreError, Transaction,
    value::{Row, Value, args},
};

/// Leaves in one row of a batch.
pub const LEAVES_IN_CHUNK: usize = 1024;
/// Chunks in a batch, at most; a batch has at most `LEAVES_IN_CHUNK` times this leaves.
pub const CHUNKS_IN_BATCH: i64 = 64;

/// A batch to be journaled.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// What it commits to: time, root, HMAC.
    pub commitment: [u8; 44],
    /// What the nonces derive from.
    pub salt: [u8; 16],
    /// Number of digests.
    pub leaf_count: u32,
    /// Roots of its chunks, 32 bytes each; empty where there is one chunk.
    pub roots: Vec<u8>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// The encoded digests of each chunk.
    pub chunks: Vec<Vec<u8>>,
}

/// A journaled batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// Its number in this database.
    pub id: i64,
    /// What it commits to.
    pub commitment: [u8; 44],
    /// What the nonces derive from.
    pub salt: [u8; 16],
    /// Number of digests.
    pub leaf_count: u32,
    /// Roots of its chunks; empty where there is one.
    pub roots: Vec<u8>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Its place in the order of stamping, once it has one.
    pub seq: Option<i64>,
}

/// A round of stamping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRow {
    /// Its number.
    pub id: i64,
    /// First batch, by `seq`.
    pub first_seq: i64,
    /// Last batch that it may ever take.
    pub limit_seq: Option<i64>,
    /// Given up: none of its transactions can confirm any more, as far as we know.
    pub abandoned: bool,
    /// Tip at which every version was refused for missing inputs first.
    pub refused_height: Option<u32>,
}

/// One transaction of a round, without its large parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// Its number.
    pub id: i64,
    /// Its round.
    pub round_id: i64,
    /// First batch, by `seq`.
    pub first_seq: i64,
    /// Last batch, by `seq`.
    pub upto_seq: i64,
    /// The data of its `OP_RETURN`.
    pub tip: [u8; 32],
    /// Transaction id, internal byte order.
    pub txid: [u8; 32],
    /// Fee, satoshi.
    pub fee: i64,
    /// Satoshi for 1,000 vbytes.
    pub fee_rate: i64,
    /// Tip when it was built.
    pub built_height: u32,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// The block that contains it: height, hash (internal byte order), time (seconds since 1970).
    pub block: Option<(u32, [u8; 32], u32)>,
}

/// A transaction to be recorded before it is sent.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Its round.
    pub round_id: i64,
    /// First batch, by `seq`.
    pub first_seq: i64,
    /// Last batch, by `seq`.
    pub upto_seq: i64,
    /// The data of its `OP_RETURN`.
    pub tip: [u8; 32],
    /// Roots of chunks of commitments, 32 bytes each.
    pub roots: Vec<u8>,
    /// Transaction id, internal byte order.
    pub txid: [u8; 32],
    /// The transaction, consensus encoding.
    pub tx: Vec<u8>,
    /// Fee, satoshi.
    pub fee: i64,
    /// Satoshi for 1,000 vbytes.
    pub fee_rate: i64,
    /// Tip when it was built.
    pub built_height: u32,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What is not stamped yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Digests.
    pub digests: u64,
    /// When the oldest came, milliseconds since 1970.
    pub oldest: Option<i64>,
}

const COUNTER: &str = "stamp-seq";
const BASE: &str = "stamp-base-seq";

fn batch(row: &Row) -> Result<BatchRow, StoreError> {
    Ok(BatchRow {
        id: row.get(0)?,
        commitment: row.get_array(1)?,
        salt: row.get_array(2)?,
        leaf_count: row.get_uint(3)?,
        roots: row.get(4)?,
        created_at: row.get(5)?,
        seq: row.get(6)?,
    })
}

fn round(row: &Row) -> Result<RoundRow, StoreError> {
    Ok(RoundRow {
        id: row.get(0)?,
        first_seq: row.get(1)?,
        limit_seq: row.get(2)?,
        abandoned: row.get::<String>(3)? == "abandoned",
        refused_height: row.get::<Option<i64>>(4)?.and_then(|height| u32::try_from(height).ok()),
    })
}

fn version(row: &Row) -> Result<VersionRow, StoreError> {
    let height: Option<i64> = row.get(10)?;
    let hash: Option<Vec<u8>> = row.get(11)?;
    let block = match (height, hash) {
        (Some(height), Some(hash)) => {
            let height = u32::try_from(height).map_err(|_| StoreError::Row(format!("block height {height}")))?;
            let hash = hash.try_into().map_err(|_| StoreError::Row("block hash is not 32 bytes".into()))?;
            Some((height, hash, row.get_uint(12)?))
        }
        _ => None,
    };
    Ok(VersionRow {
        id: row.get(0)?,
        round_id: row.get(1)?,
        first_seq: row.get(2)?,
        upto_seq: row.get(3)?,
        tip: row.get_array(4)?,
        txid: row.get_array(5)?,
        fee: row.get(6)?,
        fee_rate: row.get(7)?,
        built_height: row.get_uint(8)?,
        created_at: row.get(9)?,
        block,
    })
}

macro_rules! version_sql {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.round_id, v.first_seq, v.upto_seq, v.tip, v.txid, v.fee, v.fee_rate, v.built_height, ",
            "v.created_at, v.block_height, v.block_hash, v.block_time FROM stamp_versions v ",
            $rest
        )
    };
}

fn number(value: Option<Vec<u8>>, index: usize) -> Result<i64, StoreError> {
    let Some(value) = value else { return Ok(0) };
    let bytes = value.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(i64::from_be_bytes).ok_or_else(|| StoreError::Row("a counter is too short".into()))
}

impl Store {
    /// The batch with this number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn batch(&self, id: i64) -> Result<Option<BatchRow>, StoreError> {
        let sql = "SELECT id, commitment, salt, leaf_count, roots, created_at, seq FROM stamp_batches WHERE id = $1";
        self.fetch_optional(sql, args![id]).await?.as_ref().map(batch).transpose()
    }

    /// The batch with this commitment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn batch_by_commitment(&self, commitment: &[u8]) -> Result<Option<BatchRow>, StoreError> {
        let sql =
            "SELECT id, commitment, salt, leaf_count, roots, created_at, seq FROM stamp_batches WHERE commitment = $1";
        self.fetch_optional(sql, args![commitment]).await?.as_ref().map(batch).transpose()
    }

    /// The encoded digests of one chunk of a batch.
    ///
    /// # Errors
    /// The database failed.
    pub async fn leaf_chunk(&self, batch: i64, chunk: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT leaves FROM stamp_leaves WHERE id = $1";
        let row = self.fetch_optional(sql, args![batch * CHUNKS_IN_BATCH + chunk]).await?;
        row.map(|row| row.get(0)).transpose()
    }

    /// Commitments of the batches `first..=last`, by `seq`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn commitments(&self, first: i64, last: i64) -> Result<Vec<[u8; 44]>, StoreError> {
        let sql = "SELECT commitment FROM stamp_batches WHERE seq >= $1 AND seq <= $2 ORDER BY seq";
        self.fetch_all(sql, args![first, last]).await?.iter().map(|row| row.get_array(0)).collect()
    }

    /// The highest `seq` given so far.
    ///
    /// # Errors
    /// The database failed.
    pub async fn last_seq(&self) -> Result<i64, StoreError> {
        number(self.meta(COUNTER).await?, 0)
    }

    /// Every batch up to this `seq` is in a transaction that is buried for good.
    ///
    /// # Errors
    /// The database failed.
    pub async fn base_seq(&self) -> Result<i64, StoreError> {
        number(self.meta(BASE).await?, 0)
    }

    /// Gives up to `limit` new batches their place in the order of stamping; how many got one. Any process may call it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sequence_batches(&self, limit: i64) -> Result<u64, StoreError> {
        // Without this look a process that has nothing to do would write all the same.
        if self.fetch_optional("SELECT 1 FROM stamp_batches WHERE seq IS NULL LIMIT 1", args![]).await?.is_none() {
            return Ok(0);
        }
        let mut transaction = self.begin().await?;
        // The counter's row is the lock that keeps the order dense. It is taken before the statement that numbers
        // begins, so that this statement sees what the one before committed.
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = meta.value";
        transaction.execute(sql, args![COUNTER, &[0u8; 16][..]]).await?;
        let counter = transaction.meta(COUNTER).await?;
        let (seq, total) = (number(counter.clone(), 0)?, number(counter, 1)?);
        let sql = "UPDATE stamp_batches SET seq = n.seq, total = n.total FROM ( \
                     SELECT id, $1 + row_number() OVER (ORDER BY id) AS seq, \
                            CAST($2 + sum(leaf_count) OVER (ORDER BY id) AS BIGINT) AS total \
                     FROM (SELECT id, leaf_count FROM stamp_batches WHERE seq IS NULL ORDER BY id LIMIT $3) AS fresh \
                   ) AS n WHERE stamp_batches.id = n.id";
        let taken = transaction.execute(sql, args![seq, total, limit]).await?;
        let sql = "SELECT total FROM stamp_batches WHERE seq = $1";
        let last = seq + i64::try_from(taken).unwrap_or(i64::MAX);
        if let Some(row) = transaction.fetch_optional(sql, args![last]).await? {
            let total: Option<i64> = row.get(0)?;
            let mut counter = last.to_be_bytes().to_vec();
            counter.extend_from_slice(&total.unwrap_or(0).to_be_bytes());
            transaction.set_meta(COUNTER, &counter).await?;
        }
        transaction.commit().await?;
        Ok(taken)
    }

    /// What waits after the batch `settled`, by `seq`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pending_digests(&self, settled: i64) -> Result<Pending, StoreError> {
        let mut transaction = self.begin_read().await?;
        let done =
            match transaction.fetch_optional("SELECT total FROM stamp_batches WHERE seq = $1", args![settled]).await? {
                Some(row) => row.get::<Option<i64>>(0)?.unwrap_or(0),
                None => 0,
            };
        let counted = number(transaction.meta(COUNTER).await?, 1)?;
        let sql =
            "SELECT CAST(coalesce(sum(leaf_count), 0) AS BIGINT), min(created_at) FROM stamp_batches WHERE seq IS NULL";
        let (fresh, fresh_oldest) = match transaction.fetch_optional(sql, args![]).await? {
            Some(row) => (row.get::<i64>(0)?, row.get::<Option<i64>>(1)?),
            None => (0, None),
        };
        let sql = "SELECT created_at FROM stamp_batches WHERE seq > $1 ORDER BY seq LIMIT 1";
        let oldest = match transaction.fetch_optional(sql, args![settled]).await? {
            Some(row) => Some(row.get::<i64>(0)?),
            None => None,
        };
        transaction.commit().await?;
        let digests = u64::try_from(counted - done + fresh).unwrap_or(0);
        Ok(Pending { digests, oldest: oldest.into_iter().chain(fresh_oldest).min() })
    }

    /// Rounds that are still watched, oldest first: not buried.
    ///
    /// # Errors
    /// The database failed.
    pub async fn watched_rounds(&self) -> Result<Vec<RoundRow>, StoreError> {
        let sql = "SELECT id, first_seq, limit_seq, state, refused_height FROM stamp_rounds \
                   WHERE state <> 'buried' ORDER BY id";
        self.fetch_all(sql, args![]).await?.iter().map(round).collect()
    }

    /// Versions of the rounds that are still watched, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn watched_versions(&self) -> Result<Vec<VersionRow>, StoreError> {
        let sql = version_sql!("JOIN stamp_rounds r ON r.id = v.round_id WHERE r.state <> 'buried' ORDER BY v.id");
        self.fetch_all(sql, args![]).await?.iter().map(version).collect()
    }

    /// The version in a block that covers the batch `seq`, or else the newest one that may still confirm.
    ///
    /// # Errors
    /// The database failed.
    pub async fn version_covering(&self, seq: i64) -> Result<Option<VersionRow>, StoreError> {
        // Confirmed ranges do not overlap; the few beyond the first are read in case that one starts later.
        let sql = version_sql!("WHERE v.block_hash IS NOT NULL AND v.upto_seq >= $1 ORDER BY v.upto_seq LIMIT 8");
        let rows = self.fetch_all(sql, args![seq]).await?;
        for row in &rows {
            let version = version(row)?;
            if version.first_seq <= seq {
                return Ok(Some(version));
            }
        }
        let sql = version_sql!(
            "JOIN stamp_rounds r ON r.id = v.round_id WHERE r.state = 'open' AND v.first_seq <= $1 \
             AND v.upto_seq >= $1 ORDER BY v.id DESC LIMIT 1"
        );
        self.fetch_optional(sql, args![seq]).await?.as_ref().map(version).transpose()
    }

    /// Roots of a version's chunks of commitments, and its branch once it is in a block.
    ///
    /// # Errors
    /// The database failed.
    pub async fn version_proof(&self, id: i64) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, StoreError> {
        let row = self.fetch_optional("SELECT roots, branch FROM stamp_versions WHERE id = $1", args![id]).await?;
        row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// A version's transaction, consensus encoding.
    ///
    /// # Errors
    /// The database failed.
    pub async fn version_transaction(&self, id: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.fetch_optional("SELECT tx FROM stamp_versions WHERE id = $1", args![id]).await?;
        row.map(|row| row.get(0)).transpose()
    }

    /// The newest version that is not in a block, of a round that is open.
    ///
    /// # Errors
    /// The database failed.
    pub async fn newest_version(&self) -> Result<Option<VersionRow>, StoreError> {
        let sql =
            version_sql!("JOIN stamp_rounds r ON r.id = v.round_id WHERE r.state = 'open' ORDER BY v.id DESC LIMIT 1");
        self.fetch_optional(sql, args![]).await?.as_ref().map(version).transpose()
    }

    /// The tip that the stamper has followed the chain to.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stamp_tip(&self) -> Result<Option<(u32, [u8; 32])>, StoreError> {
        let row =
            self.fetch_optional("SELECT height, hash FROM stamp_blocks ORDER BY height DESC LIMIT 1", args![]).await?;
        row.map(|row| Ok((row.get_uint(0)?, row.get_array(1)?))).transpose()
    }

    /// The newest blocks that the stamper has followed, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stamp_blocks(&self) -> Result<Vec<(u32, [u8; 32])>, StoreError> {
        let rows = self.fetch_all("SELECT height, hash FROM stamp_blocks ORDER BY height DESC", args![]).await?;
        rows.iter().map(|row| Ok((row.get_uint(0)?, row.get_array(1)?))).collect()
    }
}

impl Transaction {
    /// Journals a batch; its number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn insert_batch(&mut self, new: NewBatch) -> Result<i64, StoreError> {
        let sql = "INSERT INTO stamp_batches (commitment, salt, leaf_count, roots, created_at) \
                   VALUES ($1, $2, $3, $4, $5) RETURNING id";
        let args = args![&new.commitment[..], &new.salt[..], new.leaf_count, new.roots, new.created_at];
        let row = self.fetch_optional(sql, args).await?;
        let id: i64 = row.ok_or_else(|| StoreError::Row("an insert returns no id".into()))?.get(0)?;
        for (chunk, leaves) in (0..CHUNKS_IN_BATCH).zip(new.chunks) {
            let sql = "INSERT INTO stamp_leaves (id, leaves) VALUES ($1, $2)";
            self.execute(sql, args![id * CHUNKS_IN_BATCH + chunk, leaves]).await?;
        }
        Ok(id)
    }

    /// Opens a round; its number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn insert_round(&mut self, first: i64, limit: Option<i64>, now: i64) -> Result<i64, StoreError> {
        let sql = "INSERT INTO stamp_rounds (first_seq, limit_seq, state, created_at) VALUES ($1, $2, 'open', $3) RETURNING id";
        let row = self.fetch_optional(sql, args![first, limit, now]).await?;
        row.ok_or_else(|| StoreError::Row("an insert returns no id".into()))?.get(0)
    }

    /// Records a transaction, before it is sent; its number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn insert_version(&mut self, new: NewVersion) -> Result<i64, StoreError> {
        let sql = "INSERT INTO stamp_versions (round_id, first_seq, upto_seq, tip, roots, txid, tx, fee, fee_rate, \
                   built_height, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id";
        let args: Vec<Value> = args![
            new.round_id,
            new.first_seq,
            new.upto_seq,
            &new.tip[..],
            new.roots,
            &new.txid[..],
            new.tx,
            new.fee,
            new.fee_rate,
            new.built_height,
            new.created_at
        ];
        let row = self.fetch_optional(sql, args).await?;
        row.ok_or_else(|| StoreError::Row("an insert returns no id".into()))?.get(0)
    }

    /// A version is in a block of the active chain.
    ///
    /// # Errors
    /// The database failed.
    pub async fn confirm_version(
        &mut self,
        id: i64,
        height: u32,
        hash: &[u8; 32],
        time: u32,
        branch: Vec<u8>,
    ) -> Result<(), StoreError> {
        let sql =
            "UPDATE stamp_versions SET block_height = $1, block_hash = $2, block_time = $3, branch = $4 WHERE id = $5";
        self.execute(sql, args![height, &hash[..], time, branch, id]).await?;
        // A round that was given up is not, if it confirms after all.
        let sql = "UPDATE stamp_rounds SET state = 'open', refused_height = NULL \
                   WHERE id = (SELECT round_id FROM stamp_versions WHERE id = $1)";
        self.execute(sql, args![id]).await.map(drop)
    }

    /// The block that a version was in is no longer in the active chain.
    ///
    /// # Errors
    /// The database failed.
    pub async fn unconfirm_version(&mut self, id: i64) -> Result<(), StoreError> {
        let sql = "UPDATE stamp_versions SET block_height = NULL, block_hash = NULL, block_time = NULL, branch = NULL WHERE id = $1";
        self.execute(sql, args![id]).await.map(drop)
    }

    /// Since which tip the node refuses all of a round's versions for missing inputs, if it does.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_round_refused(&mut self, round: i64, height: Option<u32>) -> Result<(), StoreError> {
        let sql = "UPDATE stamp_rounds SET refused_height = $1 WHERE id = $2";
        self.execute(sql, args![height, round]).await.map(drop)
    }

    /// Gives a round up: its batches belong to the next.
    ///
    /// # Errors
    /// The database failed.
    pub async fn abandon_round(&mut self, round: i64) -> Result<(), StoreError> {
        self.execute("UPDATE stamp_rounds SET state = 'abandoned' WHERE id = $1", args![round]).await.map(drop)
    }

    /// Opens the round again that has this transaction, which can confirm again; whether there is one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reopen_round_of(&mut self, txid: &[u8; 32]) -> Result<bool, StoreError> {
        let sql = "UPDATE stamp_rounds SET state = 'open', refused_height = NULL \
                   WHERE id = (SELECT round_id FROM stamp_versions WHERE txid = $1)";
        Ok(self.execute(sql, args![&txid[..]]).await? > 0)
    }

    /// A round is buried so deep that it is watched no more; all batches up to `base` are.
    ///
    /// # Errors
    /// The database failed.
    pub async fn bury_round(&mut self, round: i64, base: i64) -> Result<(), StoreError> {
        self.execute("UPDATE stamp_rounds SET state = 'buried' WHERE id = $1", args![round]).await?;
        self.set_meta(BASE, &base.to_be_bytes()).await
    }

    /// The stamper has followed the chain to this block; forgets those more than `keep` below it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn push_stamp_block(&mut self, height: u32, hash: &[u8; 32], keep: u32) -> Result<(), StoreError> {
        let sql = "INSERT INTO stamp_blocks (height, hash) VALUES ($1, $2) ON CONFLICT (height) DO UPDATE SET hash = excluded.hash";
        self.execute(sql, args![height, &hash[..]]).await?;
        let sql = "DELETE FROM stamp_blocks WHERE height > $1 OR height < $2";
        self.execute(sql, args![height, i64::from(height) - i64::from(keep)]).await.map(drop)
    }

    /// Forgets the followed blocks above a height.
    ///
    /// # Errors
    /// The database failed.
    pub async fn truncate_stamp_blocks(&mut self, above: Option<u32>) -> Result<(), StoreError> {
        let above = above.map_or(-1, i64::from);
        self.execute("DELETE FROM stamp_blocks WHERE height > $1", args![above]).await.map(drop)
    }
}
