//! Headers of a chain whose work is not known yet (Core's `headerssync.cpp`): nothing of it is kept for good before it is
//! known to have enough.
//!
//! The headers are downloaded twice. In the first pass ([`State::Presync`]) their work is added up, and of one in
//! [`HeadersSyncParams::commitment_period`] a single bit is kept. Once the work suffices they are asked for again
//! ([`State::Redownload`]), and are released to the caller behind enough bits that agree: a peer cannot have shown a chain
//! with work and then serve another.

mod bits;
#[cfg(test)]
mod tests;

use crate::types::Time;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, siphash24};
use bitcoin::{BlockHash, CompactTarget, Network, TxMerkleNode, Work};
use bits::BitQueue;
use cairn_chain::BlockEntry;
use cairn_consensus::header::MAX_FUTURE_BLOCK_TIME;
use cairn_consensus::params::Params;
use cairn_consensus::pow::{permitted_difficulty_transition, target_from_compact};
use rand::{Rng, RngExt};
use std::collections::VecDeque;

/// Most blocks a second that the rule on the median time past lets a chain have.
const MAX_BLOCKS_PER_SECOND: u64 = 6;

/// How much memory a sync takes (Core's `HeadersSyncParams`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadersSyncParams {
    /// Blocks from one commitment to the next; not 0.
    pub commitment_period: u32,
    /// Headers that stay in the redownload buffer until more follow them.
    pub redownload_buffer_size: usize,
}

impl HeadersSyncParams {
    /// Those of a network, as Core's `chainparams.cpp` has them.
    pub fn of(network: Network) -> Self {
        let (commitment_period, redownload_buffer_size) = match network {
            Network::Bitcoin => (641, 15_218),
            Network::Testnet => (673, 14_460),
            Network::Testnet4 => (606, 16_092),
            Network::Signet => (620, 15_724),
            Network::Regtest => (275, 7_017),
        };
        Self { commitment_period, redownload_buffer_size }
    }
}

/// How far a sync is (Core's `HeadersSyncState::State`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The first pass: the work is not known to suffice.
    Presync,
    /// The second pass.
    Redownload,
    /// Over, well or not: there is nothing left to do with it.
    Final,
}

/// Why a sync was given up. None of these proves that the peer is bad: its chain may have been reorganised meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadersSyncError {
    /// There are no headers.
    #[error("no headers to go on with")]
    Empty,
    /// The sync is over already.
    #[error("headers of a sync that is over")]
    Final,
    /// The headers do not follow those before.
    #[error("headers that do not continue the chain at height {0}")]
    NonContinuous(u32),
    /// The difficulty changes faster than it may.
    #[error("a difficulty that cannot follow the one before at height {0}")]
    DifficultyTransition(u32),
    /// The chain is longer than any can be by now.
    #[error("more headers than a chain can have by now, at height {0}")]
    TooManyHeaders(u32),
    /// The second pass is longer than the first was.
    #[error("more headers than were committed to, at height {0}")]
    CommitmentOverrun(u32),
    /// The second pass shows another chain than the first.
    #[error("another chain than was committed to at height {0}")]
    CommitmentMismatch(u32),
}

/// What came of a `headers` message (Core's `ProcessingResult`).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Processed {
    /// Headers to accept now, in order, each the parent of the next; they are on a chain with enough work.
    pub headers: Vec<Header>,
    /// Ask for more, with [`HeadersSyncState::next_headers_locator`].
    pub request_more: bool,
}

/// A header without the hash of the one before (48 bytes).
#[derive(Debug)]
struct CompressedHeader {
    version: Version,
    merkle_root: TxMerkleNode,
    time: u32,
    bits: CompactTarget,
    nonce: u32,
}

impl From<&Header> for CompressedHeader {
    fn from(header: &Header) -> Self {
        let Header { version, merkle_root, time, bits, nonce, .. } = *header;
        Self { version, merkle_root, time, bits, nonce }
    }
}

impl CompressedHeader {
    fn after(self, prev_blockhash: BlockHash) -> Header {
        let Self { version, merkle_root, time, bits, nonce } = self;
        Header { version, prev_blockhash, merkle_root, time, bits, nonce }
    }
}

/// A header's place in a chain.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: BlockHash,
    height: u32,
    bits: CompactTarget,
    /// Seconds since 1970.
    time: u32,
    /// Of the chain up to and including it.
    work: Work,
}

impl Place {
    /// That of `header` after this one, if the difficulty may go there.
    fn next(&self, header: &Header, hash: BlockHash, params: &Params) -> Result<Self, HeadersSyncError> {
        let height = self.height.checked_add(1).ok_or(HeadersSyncError::TooManyHeaders(self.height))?;
        if !permitted_difficulty_transition(params, height, self.bits, header.bits) {
            return Err(HeadersSyncError::DifficultyTransition(height));
        }
        Ok(Self { hash, height, bits: header.bits, time: header.time, work: add(self.work, work(header.bits)) })
    }
}

/// The download of one peer's headers, twice (Core's `HeadersSyncState`).
#[derive(Debug)]
pub struct HeadersSyncState {
    params: HeadersSyncParams,
    /// Commitments are made at heights that leave this when divided by the period. Secret, as is `salt`.
    commit_offset: u32,
    salt: (u64, u64),
    minimum_required_work: Work,
    /// Hashes that lead back from the chain's start.
    locator: Box<[BlockHash]>,
    state: State,
    /// The last header of the first pass.
    presync: Place,
    commitments: BitQueue,
    max_commitments: u64,
    /// The last header of the second pass.
    redownload: Place,
    /// The last headers of the second pass.
    buffer: VecDeque<CompressedHeader>,
    /// Hash before the first of `buffer`.
    buffer_first_prev_hash: BlockHash,
    /// The second pass has shown the work that is needed: the rest needs no commitments.
    process_all_remaining: bool,
}

impl HeadersSyncState {
    /// Begins with the headers after `chain_start`, the last block that both know. `locator` are Core's
    /// `LocatorEntries` of that block, itself the first. The chain is wanted from `minimum_required_work` on; `now` bounds how
    /// long it can be.
    pub fn new(
        params: HeadersSyncParams,
        chain_start: &BlockEntry,
        locator: Vec<BlockHash>,
        minimum_required_work: Work,
        now: Time,
        rng: &mut impl Rng,
    ) -> Self {
        let start = Place {
            hash: chain_start.hash,
            height: chain_start.height,
            bits: chain_start.header.bits,
            time: chain_start.header.time,
            work: chain_start.chain_work,
        };
        let seconds =
            (now.as_secs() + u64::from(MAX_FUTURE_BLOCK_TIME)).saturating_sub(u64::from(chain_start.median_time_past));
        Self {
            params,
            commit_offset: rng.random_range(0..params.commitment_period),
            salt: rng.random(),
            minimum_required_work,
            locator: locator.into_boxed_slice(),
            state: State::Presync,
            presync: start,
            commitments: BitQueue::default(),
            max_commitments: seconds.saturating_mul(MAX_BLOCKS_PER_SECOND) / u64::from(params.commitment_period),
            redownload: start,
            buffer: VecDeque::new(),
            buffer_first_prev_hash: start.hash,
            process_all_remaining: false,
        }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Height that the first pass has reached.
    pub fn presync_height(&self) -> u32 {
        self.presync.height
    }

    /// Time of the last header of the first pass, seconds since 1970.
    pub fn presync_time(&self) -> u32 {
        self.presync.time
    }

    /// Work that the first pass has shown.
    pub fn presync_work(&self) -> Work {
        self.presync.work
    }

    /// Bytes of memory that it takes; see [`crate::limits::MAX_HEADERS_SYNC_MEMORY`].
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.commitments.memory()
            + self.buffer.capacity() * size_of::<CompressedHeader>()
            + size_of_val(&*self.locator)
    }

    /// Goes on with the headers of a message, of which each is the parent of the next and has the proof of work that it
    /// claims: the caller has checked that. `full` says that the message had as many as a message can have, so that the
    /// peer may have more.
    ///
    /// # Errors
    /// Why the sync is over. It is over as well once [`Processed::request_more`] is false.
    pub fn process_next_headers(
        &mut self,
        headers: &[Header],
        full: bool,
        params: &Params,
    ) -> Result<Processed, HeadersSyncError> {
        let processed = match self.state {
            _ if headers.is_empty() => return Err(HeadersSyncError::Empty),
            State::Final => return Err(HeadersSyncError::Final),
            State::Presync => self.presync(headers, full, params),
            State::Redownload => self.redownload(headers, full, params),
        };
        if !processed.as_ref().is_ok_and(|processed| processed.request_more) {
            self.finish();
        }
        processed
    }

    /// Hashes for the next `getheaders`, the newest first; none if it is over.
    pub fn next_headers_locator(&self) -> Vec<BlockHash> {
        let newest = match self.state {
            State::Presync => self.presync.hash,
            State::Redownload => self.redownload.hash,
            State::Final => return Vec::new(),
        };
        std::iter::once(newest).chain(self.locator.iter().copied()).collect()
    }

    fn presync(&mut self, headers: &[Header], full: bool, params: &Params) -> Result<Processed, HeadersSyncError> {
        if headers[0].prev_blockhash != self.presync.hash {
            return Err(HeadersSyncError::NonContinuous(self.presync.height));
        }
        for (i, header) in headers.iter().enumerate() {
            // The next header names this one's hash: it need not be computed again.
            let hash = headers.get(i + 1).map_or_else(|| header.block_hash(), |next| next.prev_blockhash);
            // Whoever has little work shows most in few blocks: not fewer than the rules allow.
            let place = self.presync.next(header, hash, params)?;
            if self.is_commitment(place.height) {
                self.commitments.push(self.commitment(&hash));
                if self.commitments.len() > self.max_commitments {
                    return Err(HeadersSyncError::TooManyHeaders(place.height));
                }
            }
            self.presync = place;
        }
        if self.presync.work >= self.minimum_required_work {
            self.state = State::Redownload;
        }
        // A message that is not full ends the peer's chain, which then has too little work.
        Ok(Processed { headers: Vec::new(), request_more: full || self.state == State::Redownload })
    }

    fn redownload(&mut self, headers: &[Header], full: bool, params: &Params) -> Result<Processed, HeadersSyncError> {
        // By what is needed: doubling would leave half of it empty.
        self.buffer.reserve_exact(headers.len());
        for header in headers {
            self.keep(header, params)?;
        }
        let headers = self.pop_ready();
        let is_complete = self.process_all_remaining && self.buffer.is_empty();
        // A message that is not full ends a chain that had more headers before: what is left of it is not wanted.
        Ok(Processed { headers, request_more: !is_complete && full })
    }

    /// Checks a header of the second pass against its commitment, and keeps it.
    fn keep(&mut self, header: &Header, params: &Params) -> Result<(), HeadersSyncError> {
        if header.prev_blockhash != self.redownload.hash {
            return Err(HeadersSyncError::NonContinuous(self.redownload.height));
        }
        let hash = header.block_hash();
        let place = self.redownload.next(header, hash, params)?;
        // The peer's chain may have grown since the first pass: there are no commitments to what is new.
        self.process_all_remaining |= place.work >= self.minimum_required_work;
        if !self.process_all_remaining && self.is_commitment(place.height) {
            let expected = self.commitments.pop().ok_or(HeadersSyncError::CommitmentOverrun(place.height))?;
            if self.commitment(&hash) != expected {
                return Err(HeadersSyncError::CommitmentMismatch(place.height));
            }
        }
        self.buffer.push_back(header.into());
        self.redownload = place;
        Ok(())
    }

    /// Takes the headers that enough others follow.
    fn pop_ready(&mut self) -> Vec<Header> {
        let keep = if self.process_all_remaining { 0 } else { self.params.redownload_buffer_size };
        let ready = self.buffer.len().saturating_sub(keep);
        let mut headers = Vec::with_capacity(ready);
        for compressed in self.buffer.drain(..ready) {
            let header = compressed.after(self.buffer_first_prev_hash);
            self.buffer_first_prev_hash = header.block_hash();
            headers.push(header);
        }
        headers
    }

    /// Frees the memory.
    fn finish(&mut self) {
        self.state = State::Final;
        self.commitments = BitQueue::default();
        self.buffer = VecDeque::new();
        self.locator = Box::default();
    }

    fn is_commitment(&self, height: u32) -> bool {
        height % self.params.commitment_period == self.commit_offset
    }

    fn commitment(&self, hash: &BlockHash) -> bool {
        siphash24::Hash::hash_to_u64_with_keys(self.salt.0, self.salt.1, hash.as_byte_array()) & 1 == 1
    }
}

/// Work of a block with a target (Core's `GetBlockProof`): of one that is none, none.
fn work(bits: CompactTarget) -> Work {
    target_from_compact(bits.to_consensus()).map_or(Work::from_be_bytes([0; 32]), |target| target.to_work())
}

/// The sum, or the most that there can be.
fn add(a: Work, b: Work) -> Work {
    let most = Work::from_be_bytes([0xff; 32]);
    if most - a < b { most } else { a + b }
}
