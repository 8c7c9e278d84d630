//! The calendar: takes digests, answers what is known of them. Every state is in the database, so that any process answers.

use crate::{
    digests::{Digests, MAX_DIGEST},
    index,
    journal::{Journal, chunk_leaves, chunked_path, now_ms, ops_to_commitment},
    ots::{Attestation, Op, OtsError, Timestamp},
};
use bitcoin::{BlockHash, Txid, hashes::Hash as _, hex::DisplayHex as _};
use cairn_store::{
    Store, StoreError,
    leases::holder_token,
    stamps::{BatchRow, LEAVES_IN_CHUNK, VersionRow},
};
use sha2::{Digest as _, Sha256};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};

/// Commitments in a chunk of a round's tree.
pub(crate) const COMMITMENTS_IN_CHUNK: usize = 256;
/// Digests with one keyed hash that a look-up tells apart; equal digests beyond are not listed.
const CANDIDATES: usize = 1000;
/// Leaves that a look-up reads at a time from batches that are in no run.
const LEAVES_SEARCHED: i64 = 65_536;
/// Most digests of one bulk request: one database transaction.
pub const MAX_BULK: usize = 1 << 20;
const ERROR_KEY: &str = "stamp-error";
/// Nobody holds the stamper's lease, or it fails, for this long with digests waiting: it is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(15);
pub(crate) const STAMPER_LEASE: &str = "stamper";

/// How a calendar answers.
#[derive(Debug, Clone)]
pub struct CalendarConfig {
    /// Its address in pending attestations: at most 1,000 of `A-Z a-z 0-9 - . _ / :`.
    pub uri: String,
    /// Confirmations after which a proof is final: 1 on regtest, 6 elsewhere.
    pub confirmations: u32,
}

/// Why a digest was not taken. Nothing is acknowledged then.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// More than 64 bytes.
    #[error("digest too long")]
    TooLong,
    /// More digests than one request may have.
    #[error("more than {MAX_BULK} digests in one request: send several")]
    TooMany,
    /// Too much waits for the disk.
    #[error("too many digests wait for the disk: try again in a second")]
    Busy,
    /// The process stops.
    #[error("the calendar is stopping: try again")]
    Stopping,
    /// The database failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A proof would exceed a limit of the format.
    #[error(transparent)]
    Proof(Arc<OtsError>),
}

/// Why the calendar could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored makes no proof.
    #[error("the journal is damaged: {0}: restore the database from a backup")]
    Proof(#[from] OtsError),
    /// What is stored cannot be read.
    #[error("the journal is damaged: {0}: restore the database from a backup")]
    Damaged(String),
    /// The address cannot be in a proof.
    #[error("the calendar's address cannot be in a proof: {0}")]
    Uri(OtsError),
}

/// What a bulk request got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkReceipt {
    /// Digests that are durable now.
    pub count: usize,
    /// The commitments that they are under.
    pub commitments: Vec<[u8; 44]>,
}

/// What the calendar protocol answers for a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The serialised timestamp of the commitment: final.
    Complete(Vec<u8>),
    /// Not yet; why.
    Pending(String),
    /// Not a commitment of this calendar; what to do if it is something else of ours.
    NotFound(String),
}

/// How far a digest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StampState {
    /// Durable here.
    Journaled,
    /// In a transaction that was recorded, and sent.
    Anchored {
        /// It; may be replaced by another.
        txid: Txid,
    },
    /// In a block of the active chain.
    Confirmed {
        /// The transaction.
        txid: Txid,
        /// The block's height.
        height: u32,
        /// The block.
        block_hash: BlockHash,
        /// The block's time, seconds since 1970.
        time: u32,
        /// Blocks from it to the tip, itself included.
        confirmations: u32,
    },
}

/// What is known of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampStatus {
    /// How far it is.
    pub state: StampState,
    /// The commitment that it is under.
    pub commitment: [u8; 44],
    /// When it was journaled, milliseconds since 1970.
    pub submitted_at: i64,
    /// Its batch in this database.
    pub batch: i64,
    /// Its place in the batch.
    pub leaf: u16,
    /// Confirmed deeply enough to be final.
    pub complete: bool,
}

/// A change of state, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StampEvent {
    /// Digests became durable.
    Journaled {
        /// The commitment that they are under.
        commitment: [u8; 44],
        /// How many.
        digests: usize,
    },
    /// A transaction was recorded, and sent.
    Anchored {
        /// It.
        txid: Txid,
        /// Batches in it.
        commitments: u64,
    },
    /// A block has a transaction.
    Confirmed {
        /// The transaction.
        txid: Txid,
        /// The block's height.
        height: u32,
        /// The block.
        block_hash: BlockHash,
    },
    /// A transaction's block is no longer in the active chain.
    Reorganised {
        /// The transaction.
        txid: Txid,
    },
}

/// Totals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampStats {
    /// Digests in no block.
    pub pending: u64,
    /// Age of the oldest of them, seconds.
    pub oldest_pending_seconds: Option<u64>,
    /// This process stamps.
    pub holds_lease: bool,
    /// What keeps the stamper from going on, with the remedy.
    pub last_error: Option<String>,
    /// Why stamping does not go on although digests wait, if so.
    pub stalled: Option<String>,
}

#[derive(Debug, Default)]
struct Health {
    error: Option<String>,
    holds_lease: bool,
    trouble_since: Option<Instant>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: CalendarConfig,
    pending: Attestation,
    hmac_key: Arc<[u8]>,
    journal: Journal,
    pub(crate) events: broadcast::Sender<StampEvent>,
    health: Mutex<Health>,
    pub(crate) journaled: tokio::sync::Notify,
    pub(crate) holder: String,
    stopping: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The calendar of one process. Clones are the same.
#[derive(Clone)]
pub struct Calendar {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calendar").field("uri", &self.inner.config.uri).finish_non_exhaustive()
    }
}

impl Calendar {
    /// Starts the journal and the index's upkeep; the HMAC key is made at the first start of all.
    ///
    /// # Errors
    /// The database failed, or the address cannot be in a proof.
    pub async fn start(store: Store, config: CalendarConfig) -> Result<Self, CalendarError> {
        Self::start_as(store, config, holder_token()).await
    }

    /// As [`Self::start`], by a name of its own: a process that knows its predecessor dead, because it holds the lock of the
    /// same data directory, keeps the name and takes over that one's leases at once. No two running processes may share it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_as(store: Store, config: CalendarConfig, holder: String) -> Result<Self, CalendarError> {
        let pending = Attestation::pending(config.uri.clone()).map_err(CalendarError::Uri)?;
        let candidate: [u8; 32] = rand::random();
        let hmac_key: Arc<[u8]> = store.meta_or_init("hmac-key", &candidate).await?.into();
        let calendar = Self {
            inner: Arc::new(Inner {
                store,
                config,
                pending,
                hmac_key,
                journal: Journal::default(),
                events: broadcast::channel(1024).0,
                health: Mutex::default(),
                journaled: tokio::sync::Notify::new(),
                holder,
                stopping: watch::channel(false).0,
                tasks: Mutex::default(),
            }),
        };
        let inner = calendar.inner.clone();
        let journal = tokio::spawn(async move {
            let committed = |batches: &[Arc<crate::journal::Batch>]| {
                inner.journaled.notify_one();
                for batch in batches {
                    // Nobody watching is no error.
                    let event = StampEvent::Journaled { commitment: batch.commitment, digests: batch.count };
                    drop(inner.events.send(event));
                }
            };
            inner.journal.run(inner.store.clone(), inner.hmac_key.clone(), committed).await;
        });
        let inner = &calendar.inner;
        let upkeep = tokio::spawn(index::run(
            inner.store.clone(),
            inner.hmac_key.clone(),
            inner.holder.clone(),
            inner.stopping.subscribe(),
        ));
        inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([journal, upkeep]);
        Ok(calendar)
    }

    /// Commits what waits, and stops. Looking up still works afterwards.
    pub async fn stop(&self) {
        self.inner.journal.close();
        self.inner.stopping.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the calendar failed");
            }
        }
    }

    /// Changes from now on, of this process.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<StampEvent> {
        self.inner.events.subscribe()
    }

    /// Journals a digest of 0 to 64 bytes; its bare timestamp, with the pending attestation. Durable when it answers.
    ///
    /// # Errors
    /// Nothing is acknowledged then.
    pub async fn submit(&self, digest: &[u8]) -> Result<Vec<u8>, SubmitError> {
        if digest.len() > MAX_DIGEST {
            return Err(SubmitError::TooLong);
        }
        let (batch, index) = self.inner.journal.single(digest.to_vec()).await?;
        let proof = batch
            .ops(index, digest)
            .and_then(|ops| Timestamp::chain(digest, ops, self.inner.pending.clone())?.to_bytes());
        proof.map_err(|error| SubmitError::Proof(Arc::new(error)))
    }

    /// Journals many digests in one transaction: all are durable when it answers, or none is.
    ///
    /// # Errors
    /// Nothing is acknowledged then.
    pub async fn submit_bulk(&self, digests: Digests) -> Result<BulkReceipt, SubmitError> {
        let count = digests.len();
        if count > MAX_BULK {
            return Err(SubmitError::TooMany);
        }
        let commitments = if count == 0 { Vec::new() } else { self.inner.journal.bulk(digests).await? };
        Ok(BulkReceipt { count, commitments })
    }

    /// `GET /timestamp/{commitment}`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn timestamp(&self, commitment: &[u8]) -> Result<Lookup, CalendarError> {
        let store = &self.inner.store;
        if let Some(batch) = store.batch_by_commitment(commitment).await? {
            return Ok(match self.confirmed(&batch).await? {
                Some((version, confirmations)) if confirmations >= self.inner.config.confirmations => {
                    let (ops, attestation) = self.stamped_ops(&batch, &version).await?;
                    Lookup::Complete(Timestamp::chain(commitment, ops, attestation)?.to_bytes()?)
                }
                Some((version, _)) => Lookup::Pending(format!(
                    "Timestamped by transaction {}; waiting for {} confirmations",
                    Txid::from_byte_array(version.txid),
                    self.inner.config.confirmations
                )),
                None => Lookup::Pending("Pending confirmation in Bitcoin blockchain".to_owned()),
            });
        }
        let known = if commitment.len() <= MAX_DIGEST { self.find(commitment, 4).await? } else { Vec::new() };
        if known.is_empty() {
            return Ok(Lookup::NotFound("Not found".to_owned()));
        }
        let paths: Vec<String> =
            known.iter().map(|(batch, _)| format!("/timestamp/{}", batch.commitment.to_lower_hex_string())).collect();
        Ok(Lookup::NotFound(format!(
            "Not found: this is a digest that was submitted, not a commitment; ask for {}",
            paths.join(" or ")
        )))
    }

    /// `GET /tip`: the tip in the newest transaction that no block has.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tip(&self) -> Result<Option<[u8; 32]>, CalendarError> {
        let version = self.inner.store.newest_version().await?;
        Ok(version.filter(|version| version.block.is_none()).map(|version| version.tip))
    }

    /// How far a digest is: the earliest of equal ones. `None` if it was never submitted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status(&self, digest: &[u8]) -> Result<Option<StampStatus>, CalendarError> {
        Ok(self.status_all(digest, 1).await?.into_iter().next())
    }

    /// How far equal digests are, the earliest first, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status_all(&self, digest: &[u8], limit: usize) -> Result<Vec<StampStatus>, CalendarError> {
        let mut all = Vec::new();
        for (batch, leaf) in self.find(digest, limit).await? {
            let covering = match batch.seq {
                Some(seq) => self.inner.store.version_covering(seq).await?,
                None => None,
            };
            let tip = self.inner.store.stamp_tip().await?.map_or(0, |(height, _)| height);
            let state = match covering {
                None => StampState::Journaled,
                Some(VersionRow { txid, block: None, .. }) => {
                    StampState::Anchored { txid: Txid::from_byte_array(txid) }
                }
                Some(VersionRow { txid, block: Some((height, hash, time)), .. }) => StampState::Confirmed {
                    txid: Txid::from_byte_array(txid),
                    height,
                    block_hash: BlockHash::from_byte_array(hash),
                    time,
                    confirmations: (tip + 1).saturating_sub(height),
                },
            };
            let complete = matches!(&state, StampState::Confirmed { confirmations, .. }
                if *confirmations >= self.inner.config.confirmations);
            all.push(StampStatus {
                state,
                commitment: batch.commitment,
                submitted_at: batch.created_at,
                batch: batch.id,
                leaf,
                complete,
            });
        }
        Ok(all)
    }

    /// The whole timestamp of a digest, serialised without file header: with a block's attestation once that is final, else
    /// with the pending one. `None` if it was never submitted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn proof(&self, digest: &[u8]) -> Result<Option<Vec<u8>>, CalendarError> {
        let Some((batch, leaf)) = self.find(digest, 1).await?.into_iter().next() else { return Ok(None) };
        let index = usize::from(leaf);
        let chunk = index / LEAVES_IN_CHUNK;
        let leaves = chunk_leaves(&batch.salt, chunk, &self.chunk(&batch, chunk).await?);
        let path = chunked_path(leaves, &batch.roots, index, LEAVES_IN_CHUNK)?;
        let mut ops = ops_to_commitment(&batch.salt, &batch.commitment, index, digest, path);
        let attestation = match self.confirmed(&batch).await? {
            Some((version, confirmations)) if confirmations >= self.inner.config.confirmations => {
                let (stamped, attestation) = self.stamped_ops(&batch, &version).await?;
                ops.extend(stamped);
                attestation
            }
            _ => self.inner.pending.clone(),
        };
        Ok(Some(Timestamp::chain(digest, ops, attestation)?.to_bytes()?))
    }

    /// Totals and health.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stats(&self) -> Result<StampStats, CalendarError> {
        let store = &self.inner.store;
        let pending = store.pending_digests(crate::stamper::settled_seq(store).await?).await?;
        let held = store.lease_holder(STAMPER_LEASE).await?.is_some();
        let stored = store.meta(ERROR_KEY).await?.filter(|text| !text.is_empty());
        let error = stored.map(|text| String::from_utf8_lossy(&text).into_owned());
        let mut health = self.inner.health.lock().unwrap_or_else(PoisonError::into_inner);
        let error = if health.holds_lease { health.error.clone() } else { error };
        let trouble = match &error {
            _ if pending.digests == 0 => None,
            Some(error) => Some(error.clone()),
            None if !held => Some("no process stamps: start one that has a wallet and a node".to_owned()),
            None => None,
        };
        let since = match trouble {
            Some(_) => Some(*health.trouble_since.get_or_insert_with(Instant::now)),
            None => {
                health.trouble_since = None;
                None
            }
        };
        Ok(StampStats {
            pending: pending.digests,
            oldest_pending_seconds: pending.oldest.map(|at| u64::try_from((now_ms() - at) / 1000).unwrap_or(0)),
            holds_lease: health.holds_lease,
            last_error: error,
            stalled: trouble.filter(|_| since.is_some_and(|since| since.elapsed() >= STALLED_AFTER)),
        })
    }

    /// What the stamper says of itself; other processes read the error from the database.
    pub(crate) async fn report(&self, holds_lease: bool, error: Option<String>) {
        let changed = {
            let mut health = self.inner.health.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever takes the lease over says what holds now, whatever its predecessor left in the database.
            let changed = health.error != error || (holds_lease && !health.holds_lease);
            health.holds_lease = holds_lease;
            health.error.clone_from(&error);
            changed
        };
        if changed && holds_lease {
            let write = async {
                let mut transaction = self.inner.store.begin().await?;
                transaction.set_meta(ERROR_KEY, error.unwrap_or_default().as_bytes()).await?;
                transaction.commit().await
            };
            if let Err(error) = write.await {
                tracing::warn!(%error, "the stamper's state could not be recorded");
            }
        }
    }

    /// The version in a block that covers a batch, and its confirmations.
    async fn confirmed(&self, batch: &BatchRow) -> Result<Option<(VersionRow, u32)>, CalendarError> {
        let Some(seq) = batch.seq else { return Ok(None) };
        let Some(version) = self.inner.store.version_covering(seq).await? else { return Ok(None) };
        let Some((height, ..)) = version.block else { return Ok(None) };
        let tip = self.inner.store.stamp_tip().await?.map_or(0, |(height, _)| height);
        Ok(Some((version, (tip + 1).saturating_sub(height))))
    }

    /// The operations from a commitment to its block's Merkle root, with the attestation.
    async fn stamped_ops(
        &self,
        batch: &BatchRow,
        version: &VersionRow,
    ) -> Result<(Vec<Op>, Attestation), CalendarError> {
        let damaged = |what: &str| CalendarError::Damaged(format!("transaction {}: {what}", version.id));
        let seq = batch.seq.ok_or_else(|| damaged("its batch has no place"))?;
        let index = usize::try_from(seq - version.first_seq).map_err(|_| damaged("it does not cover its batch"))?;
        let chunk = (index / COMMITMENTS_IN_CHUNK * COMMITMENTS_IN_CHUNK) as i64;
        let first = version.first_seq + chunk;
        let last = version.upto_seq.min(first + COMMITMENTS_IN_CHUNK as i64 - 1);
        let commitments = self.inner.store.commitments(first, last).await?;
        let leaves = commitments.iter().map(|commitment| Sha256::digest(commitment).into()).collect();
        let (roots, branch) =
            self.inner.store.version_proof(version.id).await?.ok_or_else(|| damaged("it has vanished"))?;
        let branch = branch.ok_or_else(|| damaged("it has no branch"))?;
        let mut ops = vec![Op::Sha256];
        ops.extend(chunked_path(leaves, &roots, index, COMMITMENTS_IN_CHUNK)?);
        let branch = Timestamp::from_bytes(version.tip, &branch).map_err(|error| damaged(&error.to_string()))?;
        let (_, attestation, node) = branch.attestations().next().ok_or_else(|| damaged("it has no attestation"))?;
        ops.extend(branch.path(node).into_iter().cloned());
        Ok((ops, attestation.clone()))
    }

    async fn chunk(&self, batch: &BatchRow, chunk: usize) -> Result<Digests, CalendarError> {
        let row = self.inner.store.leaf_chunk(batch.id, chunk as i64).await?;
        row.as_deref()
            .and_then(Digests::decode)
            .ok_or_else(|| CalendarError::Damaged(format!("batch {} has no chunk {chunk}", batch.id)))
    }

    /// Where a digest is: (batch, leaf), the earliest first, at most `limit`.
    async fn find(&self, digest: &[u8], limit: usize) -> Result<Vec<(BatchRow, u16)>, CalendarError> {
        let hash = index::keyed_hash(&self.inner.hmac_key, digest);
        let candidates = self.inner.store.candidates(hash, CANDIDATES).await?;
        let mut found = Vec::new();
        for (batch, leaf) in candidates.found {
            if found.len() >= limit {
                break;
            }
            let Some(batch) = self.inner.store.batch(batch).await? else { continue };
            let leaves = self.chunk(&batch, usize::from(leaf) / LEAVES_IN_CHUNK).await?;
            if leaves.iter().nth(usize::from(leaf) % LEAVES_IN_CHUNK) == Some(digest) {
                found.push((batch, leaf));
            }
        }
        // What is in no run yet is searched, some megabytes at a time.
        let mut rest = candidates.unindexed.as_slice();
        while let (Some((first, _)), true) = (rest.first(), found.len() < limit) {
            let mut leaves = 0;
            let fits = rest.iter().take_while(|(_, count)| {
                leaves += count;
                leaves <= LEAVES_SEARCHED
            });
            let (part, after) = rest.split_at(fits.count().max(1));
            rest = after;
            let last = part.last().map_or(*first, |(batch, _)| *batch);
            for (batch, chunk, leaves) in self.inner.store.leaf_rows(*first, last).await? {
                if part.binary_search_by_key(&batch, |(batch, _)| *batch).is_err() {
                    continue;
                }
                let leaves = Digests::decode(&leaves)
                    .ok_or_else(|| CalendarError::Damaged(format!("batch {batch} has a chunk that cannot be read")))?;
                for (index, _) in leaves.iter().enumerate().filter(|(_, leaf)| *leaf == digest) {
                    let leaf = chunk * LEAVES_IN_CHUNK as i64 + index as i64;
                    let row = self.inner.store.batch(batch).await?;
                    if let (Some(row), Ok(leaf), true) = (row, u16::try_from(leaf), found.len() < limit) {
                        found.push((row, leaf));
                    }
                }
            }
        }
        found.sort_by_key(|(batch, leaf)| (batch.created_at, batch.id, *leaf));
        Ok(found)
    }
}
