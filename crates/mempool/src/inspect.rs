//! What operators see: entries with their relatives, clusters, and how the whole would be mined.

use crate::mempool::Mempool;
use crate::pool::{Member, Next, Pool, PoolChunk};
use crate::types::{MempoolChunk, MempoolEntry};
use bitcoin::{Amount, Txid};
use std::collections::BTreeSet;

impl Mempool {
    /// A transaction by id.
    pub fn get(&self, txid: &Txid) -> Option<MempoolEntry> {
        let state = self.lock();
        state.pool.get(txid).map(|member| entry(&state.pool, member))
    }

    /// All transaction ids, highest fee rate first (as chunks would be mined, parents before children).
    pub fn txids(&self) -> Vec<Txid> {
        self.lock().pool.mining_sequence()
    }

    /// All transaction ids as [`Mempool::txids`], and [`Mempool::sequence`] at the same moment.
    pub fn txids_and_sequence(&self) -> (Vec<Txid>, u64) {
        let state = self.lock();
        (state.pool.mining_sequence(), state.pool.sequence())
    }

    /// All transactions, in the order of [`Mempool::txids`].
    pub fn entries(&self) -> Vec<MempoolEntry> {
        let state = self.lock();
        entries(&state.pool, state.pool.mining_sequence())
    }

    /// The ancestors of a transaction without itself, by id; `None` if it is not here.
    pub fn ancestors(&self, txid: &Txid) -> Option<Vec<MempoolEntry>> {
        let state = self.lock();
        let member = state.pool.get(txid)?;
        Some(entries(&state.pool, state.pool.ancestors(&member.parents)))
    }

    /// The descendants of a transaction without itself, by id; `None` if it is not here.
    pub fn descendants(&self, txid: &Txid) -> Option<Vec<MempoolEntry>> {
        let state = self.lock();
        let member = state.pool.get(txid)?;
        Some(entries(&state.pool, state.pool.with_descendants(member.children.iter().copied())))
    }

    /// The chunks of a transaction's cluster in the order in which they are mined; `None` if it is not here.
    pub fn cluster(&self, txid: &Txid) -> Option<Vec<MempoolChunk>> {
        let state = self.lock();
        Some(state.pool.cluster_of(txid)?.iter().map(chunk).collect())
    }

    /// All chunks in the order in which they are mined.
    pub fn chunks(&self) -> Vec<MempoolChunk> {
        let mut chunks = Vec::new();
        self.lock().pool.best_chunks(|next| {
            chunks.push(chunk(next));
            Next::Go
        });
        chunks
    }
}

fn chunk(chunk: &PoolChunk) -> MempoolChunk {
    MempoolChunk { fee: chunk.rate.fee, weight: chunk.rate.size, txids: chunk.txids.clone() }
}

fn entries(pool: &Pool, txids: impl IntoIterator<Item = Txid>) -> Vec<MempoolEntry> {
    txids.into_iter().filter_map(|txid| pool.get(&txid)).map(|member| entry(pool, member)).collect()
}

pub(crate) fn entry(pool: &Pool, member: &Member) -> MempoolEntry {
    let own = &member.entry;
    let txid = own.tx.compute_txid();
    let totals = |relatives: BTreeSet<Txid>| {
        let start = (1, own.vsize(), own.modified_fee);
        relatives.iter().filter_map(|txid| pool.get(txid)).fold(start, |(count, vsize, fees), relative| {
            let relative = &relative.entry;
            (count + 1, vsize + relative.vsize(), fees.saturating_add(relative.modified_fee))
        })
    };
    let chunk = pool.chunk_of(&txid).map(|chunk| chunk.rate).unwrap_or_default();
    MempoolEntry {
        tx: own.tx.clone(),
        txid,
        wtxid: own.wtxid,
        fee: Amount::from_sat(own.fee),
        modified_fee: own.modified_fee,
        vsize: own.vsize(),
        weight: own.weight,
        sigop_cost: own.sigop_cost,
        time: own.time,
        height: own.height,
        depends: member.parents.iter().copied().collect(),
        spent_by: member.children.iter().copied().collect(),
        ancestors: totals(pool.ancestors(&member.parents)),
        descendants: totals(pool.with_descendants(member.children.iter().copied())),
        chunk_weight: chunk.size,
        chunk_fee: chunk.fee,
        unbroadcast: pool.unbroadcast().contains(&txid),
    }
}
