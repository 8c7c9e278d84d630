//! Group commit: everything that waits becomes a few batches in one database transaction, which answers all of it.

use crate::{
    calendar::SubmitError,
    digests::Digests,
    ots::{MerkleTree, Op, nonced},
};
use cairn_store::{
    Store, StoreError,
    stamps::{LEAVES_IN_CHUNK, NewBatch},
};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, oneshot};

/// Most leaves of a batch: a leaf's number fits 16 bits, a proof has at most 16 steps to the batch's root.
pub(crate) const LEAVES_IN_BATCH: usize = 65_536;
/// Leaves after which a transaction takes no further request.
const LEAVES_IN_TRANSACTION: usize = 2 * LEAVES_IN_BATCH;
/// Leaves that may wait, above which a request is refused rather than kept in memory.
const LEAVES_WAITING: usize = 4 << 20;
/// Leaves above which trees are built on a blocking thread.
const LEAVES_INLINE: usize = 2048;

/// The time, milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The nonce of a leaf: nobody who lacks the batch's salt can guess it.
pub(crate) fn nonce(salt: &[u8; 16], leaf: usize) -> [u8; 16] {
    let hash = Sha256::new().chain_update(salt).chain_update((leaf as u64).to_le_bytes()).finalize();
    hash[..16].try_into().expect("16 of 32 bytes")
}

/// `otsserver.calendar.derive_key_for_idx`: a binary tree of keys, the index's bits from the highest down.
fn derive_key_for_idx(key: &[u8], idx: u32) -> [u8; 32] {
    let mut derived = key.to_vec();
    for bit in (0..32).rev() {
        derived.push(if idx >> bit & 1 == 1 { 0xff } else { 0x00 });
        derived = Sha256::digest(&derived).to_vec();
    }
    derived.try_into().expect("a SHA-256")
}

/// The 44 bytes that the calendar promises to stamp: time, root, HMAC.
pub(crate) fn commitment(hmac_key: &[u8], time: u32, root: &[u8; 32]) -> [u8; 44] {
    let mut commitment = [0; 44];
    commitment[..4].copy_from_slice(&time.to_be_bytes());
    commitment[4..36].copy_from_slice(root);
    let key = derive_key_for_idx(hmac_key, time);
    let mac = Sha256::new().chain_update(&commitment[..36]).chain_update(key).finalize();
    commitment[36..].copy_from_slice(&mac[..8]);
    commitment
}

/// The leaf of a digest in its batch's tree.
fn leaf_hash(salt: &[u8; 16], index: usize, digest: &[u8]) -> [u8; 32] {
    nonced(digest, nonce(salt, index)).0
}

/// The operations from a digest to its batch's commitment.
pub(crate) fn ops_to_commitment(
    salt: &[u8; 16],
    commitment: &[u8; 44],
    index: usize,
    digest: &[u8],
    path: impl IntoIterator<Item = Op>,
) -> Vec<Op> {
    let (_, first) = nonced(digest, nonce(salt, index));
    let mut ops = Vec::from(first);
    ops.extend(path);
    ops.push(Op::Prepend(commitment[..4].to_vec()));
    ops.push(Op::Append(commitment[36..].to_vec()));
    ops
}

/// The path from leaf `index` to the root, of the leaf's own chunk and the roots of all chunks.
pub(crate) fn chunked_path(
    chunk: Vec<[u8; 32]>,
    roots: &[u8],
    index: usize,
    size: usize,
) -> Result<Vec<Op>, crate::ots::OtsError> {
    let mut path = MerkleTree::new(chunk)?.path(index % size)?;
    // Chunks are aligned to a power of two and the rule carries odd nodes up unchanged: their roots are nodes of the tree.
    if roots.len() > 32 {
        let roots = roots.chunks_exact(32).map(|root| root.try_into().expect("32 bytes")).collect();
        path.extend(MerkleTree::new(roots)?.path(index / size)?);
    }
    Ok(path)
}

/// The leaves of a chunk from its row.
pub(crate) fn chunk_leaves(salt: &[u8; 16], chunk: usize, digests: &Digests) -> Vec<[u8; 32]> {
    let first = chunk * LEAVES_IN_CHUNK;
    digests.iter().enumerate().map(|(index, digest)| leaf_hash(salt, first + index, digest)).collect()
}

/// A batch that is in the journal, with the trees to prove its leaves from.
pub(crate) struct Batch {
    pub(crate) salt: [u8; 16],
    pub(crate) commitment: [u8; 44],
    pub(crate) count: usize,
    chunks: Vec<MerkleTree>,
    roots: Vec<u8>,
}

impl Batch {
    /// Builds the trees and what the journal keeps.
    fn build(hmac_key: &[u8], digests: &[&[u8]]) -> (Self, NewBatch) {
        let salt: [u8; 16] = rand::random();
        let created_at = now_ms();
        let mut rows = Vec::new();
        let mut chunks = Vec::new();
        let mut roots = Vec::new();
        for (number, chunk) in digests.chunks(LEAVES_IN_CHUNK).enumerate() {
            let row: Digests = chunk.iter().copied().collect();
            let tree = MerkleTree::new(chunk_leaves(&salt, number, &row)).expect("a chunk is never empty");
            rows.push(row.encode());
            roots.push(tree.tip());
            chunks.push(tree);
        }
        let root = MerkleTree::new(roots.clone()).expect("a batch is never empty").tip();
        let time = u32::try_from(created_at / 1000).unwrap_or(u32::MAX);
        let commitment = commitment(hmac_key, time, &root);
        let roots = if roots.len() > 1 { roots.concat() } else { Vec::new() };
        let leaf_count = u32::try_from(digests.len()).expect("at most 65,536");
        let new = NewBatch { commitment, salt, leaf_count, roots: roots.clone(), created_at, chunks: rows };
        (Self { salt, commitment, count: digests.len(), chunks, roots }, new)
    }

    /// The operations from a digest of this batch to the commitment.
    pub(crate) fn ops(&self, index: usize, digest: &[u8]) -> Result<Vec<Op>, crate::ots::OtsError> {
        let chunk = self.chunks.get(index / LEAVES_IN_CHUNK).ok_or(crate::ots::OtsError::NotInTree)?;
        let mut path = chunk.path(index % LEAVES_IN_CHUNK)?;
        if !self.roots.is_empty() {
            let roots = self.roots.chunks_exact(32).map(|root| root.try_into().expect("32 bytes")).collect();
            path.extend(MerkleTree::new(roots)?.path(index / LEAVES_IN_CHUNK)?);
        }
        Ok(ops_to_commitment(&self.salt, &self.commitment, index, digest, path))
    }
}

type Answer<T> = oneshot::Sender<Result<T, SubmitError>>;
/// A digest whose caller wants its batch and its place there.
type Single = (Vec<u8>, Answer<(Arc<Batch>, usize)>);
/// Digests whose caller wants the commitments that they are under.
type Bulk = (Digests, Answer<Vec<[u8; 44]>>);

#[derive(Default)]
struct Waiting {
    singles: VecDeque<Single>,
    bulk: VecDeque<Bulk>,
    leaves: usize,
    closed: bool,
}

/// What waits for the next group commit.
#[derive(Default)]
pub(crate) struct Journal {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Journal {
    fn enqueue(&self, leaves: usize, push: impl FnOnce(&mut Waiting)) -> Result<(), SubmitError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(SubmitError::Stopping);
        }
        if waiting.leaves + leaves > LEAVES_WAITING && waiting.leaves > 0 {
            return Err(SubmitError::Busy);
        }
        waiting.leaves += leaves;
        push(&mut waiting);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until a digest is durable.
    pub(crate) async fn single(&self, digest: Vec<u8>) -> Result<(Arc<Batch>, usize), SubmitError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(1, |waiting| waiting.singles.push_back((digest, answer)))?;
        answered.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// Waits until many digests are durable, all of them in one transaction; the commitments, in order.
    pub(crate) async fn bulk(&self, digests: Digests) -> Result<Vec<[u8; 44]>, SubmitError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(digests.len(), |waiting| waiting.bulk.push_back((digests, answer)))?;
        answered.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// Takes no more; what waits is still committed.
    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.wake.notify_one();
    }

    fn take(&self) -> (Waiting, bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Waiting::default();
        // Singles first: their callers wait for one digest, not for thousands.
        let singles = waiting.singles.len().min(LEAVES_IN_BATCH);
        taken.singles = waiting.singles.drain(..singles).collect();
        taken.leaves = singles;
        while taken.leaves < LEAVES_IN_TRANSACTION {
            let Some(bulk) = waiting.bulk.pop_front() else { break };
            taken.leaves += bulk.0.len();
            taken.bulk.push_back(bulk);
        }
        waiting.leaves -= taken.leaves;
        (taken, waiting.closed)
    }

    /// Commits what waits until the journal is closed and empty.
    pub(crate) async fn run(&self, store: Store, hmac_key: Arc<[u8]>, committed: impl Fn(&[Arc<Batch>]) + Send + Sync) {
        loop {
            let (taken, closed) = self.take();
            if taken.singles.is_empty() && taken.bulk.is_empty() {
                if closed {
                    return;
                }
                self.wake.notified().await;
                continue;
            }
            let Waiting { singles, bulk, leaves, .. } = taken;
            let (digests, answers): (Vec<_>, Vec<_>) = singles.into_iter().unzip();
            let key = hmac_key.clone();
            let build = move || build(&key, digests, bulk);
            let built = if leaves > LEAVES_INLINE {
                match tokio::task::spawn_blocking(build).await {
                    Ok(built) => built,
                    // The answers are dropped with the thread: every caller learns that nothing is acknowledged.
                    Err(error) => {
                        tracing::error!(%error, "building a batch failed");
                        continue;
                    }
                }
            } else {
                build()
            };
            let (batches, rows, bulk) = built;
            match write(&store, rows).await {
                Ok(()) => {
                    committed(&batches);
                    for (index, answer) in answers.into_iter().enumerate() {
                        drop(answer.send(Ok((batches[index / LEAVES_IN_BATCH].clone(), index % LEAVES_IN_BATCH))));
                    }
                    for (commitments, answer) in bulk {
                        drop(answer.send(Ok(commitments)));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, leaves, "journaling failed; nothing was acknowledged");
                    let error = Arc::new(error);
                    for answer in answers {
                        drop(answer.send(Err(SubmitError::Store(error.clone()))));
                    }
                    for (_, answer) in bulk {
                        drop(answer.send(Err(SubmitError::Store(error.clone()))));
                    }
                }
            }
        }
    }
}

type Built = (Vec<Arc<Batch>>, Vec<NewBatch>, Vec<(Vec<[u8; 44]>, Answer<Vec<[u8; 44]>>)>);

/// Singles and bulk share batches; a bulk request learns the commitments of those that its digests are in.
fn build(key: &[u8], singles: Vec<Vec<u8>>, bulk: VecDeque<Bulk>) -> Built {
    let digests: Vec<&[u8]> =
        singles.iter().map(Vec::as_slice).chain(bulk.iter().flat_map(|(digests, _)| digests.iter())).collect();
    let (batches, rows): (Vec<_>, Vec<_>) = digests
        .chunks(LEAVES_IN_BATCH)
        .map(|digests| {
            let (batch, row) = Batch::build(key, digests);
            (Arc::new(batch), row)
        })
        .unzip();
    let mut first = singles.len();
    let mut answers = Vec::with_capacity(bulk.len());
    for (digests, answer) in bulk {
        let commitments = if digests.is_empty() {
            Vec::new()
        } else {
            let range = first / LEAVES_IN_BATCH..=(first + digests.len() - 1) / LEAVES_IN_BATCH;
            batches[range].iter().map(|batch: &Arc<Batch>| batch.commitment).collect()
        };
        first += digests.len();
        answers.push((commitments, answer));
    }
    (batches, rows, answers)
}

async fn write(store: &Store, rows: Vec<NewBatch>) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    for row in rows {
        transaction.insert_batch(row).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_key_is_derived_as_the_reference_server_does() {
        // python: derive_key_for_idx(bytes(range(32)), 0x12345678).hex(), and the commitment over 32 bytes of 7.
        let key: Vec<u8> = (0..32).collect();
        let mut expected = key.clone();
        for bit in "00010010001101000101011001111000".chars() {
            expected.push(if bit == '1' { 0xff } else { 0 });
            expected = Sha256::digest(&expected).to_vec();
        }
        assert_eq!(derive_key_for_idx(&key, 0x1234_5678).to_vec(), expected);
        let commitment = commitment(&key, 0x1234_5678, &[7; 32]);
        assert_eq!(commitment[..4], [0x12, 0x34, 0x56, 0x78]);
        let mac = Sha256::digest([&commitment[..36], &expected].concat());
        assert_eq!(commitment[36..], mac[..8]);
    }

    #[test]
    fn every_leaf_leads_to_the_commitment() {
        for count in [1usize, 2, 3, 1023, 1024, 1025, 2049, 3000] {
            let digests: Vec<Vec<u8>> = (0..count).map(|n| n.to_be_bytes().repeat(4)).collect();
            let slices: Vec<&[u8]> = digests.iter().map(Vec::as_slice).collect();
            let (batch, row) = Batch::build(b"key", &slices);
            for index in [0, count / 2, count - 1] {
                let ops = batch.ops(index, slices[index]).unwrap();
                let end = ops.iter().fold(slices[index].to_vec(), |message, op| op.apply(&message).unwrap());
                assert_eq!(end, row.commitment, "{index} of {count}");
                let chunk = index / LEAVES_IN_CHUNK;
                let stored = Digests::decode(&row.chunks[chunk]).unwrap();
                let leaves = chunk_leaves(&row.salt, chunk, &stored);
                let path = chunked_path(leaves, &row.roots, index, LEAVES_IN_CHUNK).unwrap();
                assert_eq!(ops_to_commitment(&row.salt, &row.commitment, index, slices[index], path), ops);
            }
        }
    }
}
