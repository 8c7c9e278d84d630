//! What touches the disk or runs scripts: done beside the engine, in the order asked.
//!
//! Two lanes: validation, where what peers sent changes chain and mempool, headers before blocks before transactions; and
//! reading, where what peers ask for is fetched. A lane runs on a blocking thread while it has something to do and on
//! none when it has not, so that an idle node keeps no thread for it.

use crate::filters::FilterRequest;
use crate::limits::MAX_SEND_BUFFER;
use crate::message::{self, Frame};
use crate::txdownload::PackageToValidate;
use crate::types::{PeerId, RelayTx, Time};
use bitcoin::bip152::BlockTransactionsRequest;
use bitcoin::bip158::BlockFilter;
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock};
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter};
use bitcoin::{Block, BlockHash, Transaction, Wtxid};
use cairn_chain::{BlockAccepted, BlockEntry, Chain, ChainError};
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, Mempool};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// What p2p needs of whoever runs it.
pub trait Host: Send + Sync + 'static {
    /// The chain.
    fn chain(&self) -> &Arc<Chain>;
    /// The mempool.
    fn mempool(&self) -> &Arc<Mempool>;
    /// Time by the node's clock.
    fn now(&self) -> Time;
    /// Whether the chain is still far behind (Core's `IsInitialBlockDownload`).
    fn is_initial_block_download(&self) -> bool;
    /// Whether blocks are to be fetched; not while the chain is to begin with a snapshot that is not loaded yet.
    fn wants_blocks(&self) -> bool {
        true
    }
    /// Puts a transaction into the mempool and tells who follows.
    fn accept_transaction(&self, tx: &Arc<Transaction>) -> Result<Accepted, TxReject>;
    /// Puts a parent and its child into the mempool together.
    fn accept_package(&self, txs: &[Arc<Transaction>]) -> PackageOutcome;
}

/// What became of a package.
#[derive(Debug)]
pub struct PackageOutcome {
    /// All of it is in the mempool.
    pub whole: bool,
    /// Each transaction that was looked at; refused ones with the reason.
    pub each: Vec<(Wtxid, Result<(), TxReject>)>,
}

/// How a block is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadForm {
    /// With its witnesses.
    Witness,
    /// Without.
    Stripped,
    /// As a compact block (BIP 152) with this nonce.
    Compact(u64),
    /// These of its transactions.
    Transactions(BlockTransactionsRequest),
}

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Headers to take into the tree.
    Headers {
        /// Who sent them.
        peer: PeerId,
        /// They.
        headers: Vec<Header>,
        /// They were announced by a compact block.
        via_compact: bool,
        /// There may be more where they came from.
        full: bool,
    },
    /// A block to take into the chain.
    Block {
        /// Who sent it.
        peer: PeerId,
        /// It.
        block: Arc<Block>,
        /// Its hash.
        hash: BlockHash,
        /// It was put together from a compact block, which may be relayed before it is known to be valid.
        via_compact: bool,
        /// Bytes that it holds until it is done.
        size: usize,
    },
    /// A transaction to take into the mempool.
    Transaction {
        /// Who sent it.
        peer: PeerId,
        /// It.
        tx: RelayTx,
        /// It waited for a parent.
        orphan: bool,
    },
    /// A parent and its child to take into the mempool together.
    Package(Box<PackageToValidate>),
    /// Block filters that a peer wants.
    Filters {
        /// The peer.
        peer: PeerId,
        /// Of which blocks.
        request: FilterRequest,
        /// What of them.
        answer: FilterAnswer,
    },
    /// Blocks that a peer wants.
    Read {
        /// The peer.
        peer: PeerId,
        /// The blocks, in order.
        blocks: Vec<(BlockHash, ReadForm)>,
    },
}

/// What is wanted of block filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterAnswer {
    /// They themselves (`cfilter`).
    Filters,
    /// Their hashes (`cfheaders`).
    Headers,
    /// The headers of every thousandth (`cfcheckpt`).
    Checkpoints,
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// Of headers: the last one's place.
    Headers {
        /// Who sent them.
        peer: PeerId,
        /// How many.
        count: usize,
        /// The last one's place, and whether it was new; or why not.
        result: Result<(BlockEntry, bool), ChainError>,
        /// As in the job.
        via_compact: bool,
        /// As in the job.
        full: bool,
    },
    /// Of a block.
    Block {
        /// Who sent it.
        peer: PeerId,
        /// Its hash.
        hash: BlockHash,
        /// What became of it.
        result: Result<BlockAccepted, ChainError>,
        /// As in the job.
        via_compact: bool,
        /// As in the job.
        size: usize,
    },
    /// Of a transaction.
    Transaction {
        /// Who sent it.
        peer: PeerId,
        /// It.
        tx: RelayTx,
        /// What became of it.
        result: Result<Accepted, TxReject>,
        /// As in the job.
        orphan: bool,
    },
    /// Of a package.
    Package {
        /// It.
        package: Box<PackageToValidate>,
        /// What became of it.
        outcome: PackageOutcome,
    },
    /// Of filters: the messages, none where the index has not come so far.
    Filters {
        /// The peer.
        peer: PeerId,
        /// The messages.
        frames: Vec<Frame>,
        /// The job for those that follow, once the peer has read these.
        rest: Option<Box<Job>>,
    },
    /// Of reading: a frame a block; none where it is not here any more, or cannot be read.
    Read {
        /// The peer.
        peer: PeerId,
        /// The blocks and the frames.
        blocks: Vec<(BlockHash, Result<Frame, ReadFailure>)>,
        /// As with filters.
        rest: Option<Box<Job>>,
    },
}

/// Why a block is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailure {
    /// It is not here any more, or the disk failed.
    Gone,
    /// A transaction was asked for that is not in it.
    OutOfBounds,
}

impl Job {
    /// Lower is done first.
    fn lane(&self) -> usize {
        match self {
            Job::Headers { .. } => 0,
            Job::Block { .. } => 1,
            Job::Transaction { .. } | Job::Package(_) => 2,
            Job::Read { .. } | Job::Filters { .. } => 3,
        }
    }

    /// Does it.
    pub fn run(self, host: &dyn Host) -> Done {
        let now = u32::try_from(host.now().as_secs()).unwrap_or(u32::MAX);
        match self {
            Job::Headers { peer, headers, via_compact, full } => {
                let chain = host.chain();
                let count = headers.len();
                let new = headers.last().is_some_and(|last| chain.entry(&last.block_hash()).is_none());
                let result = chain.process_headers(&headers, now).map(|entry| (entry, new));
                Done::Headers { peer, count, result, via_compact, full }
            }
            Job::Block { peer, block, hash, via_compact, size } => {
                let result = host.chain().process_block(block, now, false);
                Done::Block { peer, hash, result, via_compact, size }
            }
            Job::Transaction { peer, tx, orphan } => {
                let result = host.accept_transaction(&tx.tx);
                Done::Transaction { peer, tx, result, orphan }
            }
            Job::Package(package) => {
                let txs: Vec<Arc<Transaction>> = package.txns.iter().map(|tx| tx.tx.clone()).collect();
                let outcome = host.accept_package(&txs);
                Done::Package { package, outcome }
            }
            Job::Filters { peer, request, answer } => {
                let (frames, rest) = filters(host.chain(), &request, answer).unwrap_or_else(|error| {
                    tracing::error!(%error, "block filters that a peer wants cannot be read");
                    Default::default()
                });
                let rest = rest.map(|request| Box::new(Job::Filters { peer, request, answer }));
                Done::Filters { peer, frames, rest }
            }
            Job::Read { peer, blocks } => {
                let mut left = blocks.into_iter();
                let (mut blocks, mut bytes) = (Vec::new(), 0);
                while bytes < MAX_SEND_BUFFER
                    && let Some((hash, form)) = left.next()
                {
                    let read = read(host.chain(), &hash, form);
                    bytes += read.as_ref().map_or(0, |frame| frame.payload().len());
                    blocks.push((hash, read));
                }
                let rest = (left.len() > 0).then(|| Box::new(Job::Read { peer, blocks: left.collect() }));
                Done::Read { peer, blocks, rest }
            }
        }
    }
}

/// The answer's messages, as many as a peer may have unread, and the request for the rest.
fn filters(
    chain: &Chain,
    request: &FilterRequest,
    answer: FilterAnswer,
) -> Result<(Vec<Frame>, Option<FilterRequest>), ChainError> {
    let FilterRequest { filter_type, start_height, stop_hash, .. } = *request;
    let frames = match answer {
        FilterAnswer::Filters => {
            let Some(filters) = chain.filters(start_height, &stop_hash)? else { return Ok(Default::default()) };
            let (mut frames, mut bytes) = (Vec::new(), 0);
            for (height, read) in (start_height..).zip(filters) {
                if bytes >= MAX_SEND_BUFFER {
                    return Ok((frames, Some(FilterRequest { start_height: height, ..*request })));
                }
                let (block_hash, filter): (BlockHash, BlockFilter) = read?;
                let message = CFilter { filter_type, block_hash, filter: filter.content };
                let frame = message::encode(&NetworkMessage::CFilter(message));
                bytes += frame.payload().len();
                frames.push(frame);
            }
            frames
        }
        FilterAnswer::Headers => chain
            .filter_hashes(start_height, &stop_hash)?
            .map(|(previous_filter_header, filter_hashes)| {
                let message = CFHeaders { filter_type, stop_hash, previous_filter_header, filter_hashes };
                message::encode(&NetworkMessage::CFHeaders(message))
            })
            .into_iter()
            .collect(),
        FilterAnswer::Checkpoints => chain
            .filter_checkpoints(&stop_hash)?
            .map(|filter_headers| {
                message::encode(&NetworkMessage::CFCheckpt(CFCheckpt { filter_type, stop_hash, filter_headers }))
            })
            .into_iter()
            .collect(),
    };
    Ok((frames, None))
}

fn read(chain: &Chain, hash: &BlockHash, form: ReadForm) -> Result<Frame, ReadFailure> {
    let bytes = match chain.block_bytes(hash) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(ReadFailure::Gone),
        Err(error) => {
            tracing::error!(%hash, %error, "a block that a peer wants cannot be read");
            return Err(ReadFailure::Gone);
        }
    };
    if form == ReadForm::Witness {
        return Ok(Frame::block(bytes));
    }
    let block: Block = deserialize(&bytes).map_err(|error| {
        tracing::error!(%hash, %error, "a block that a peer wants is damaged on disk");
        ReadFailure::Gone
    })?;
    match form {
        ReadForm::Witness | ReadForm::Stripped => Ok(Frame::block_without_witness(&block)),
        ReadForm::Compact(nonce) => Ok(compact(&block, nonce)),
        ReadForm::Transactions(request) => transactions(&block, &request).ok_or(ReadFailure::OutOfBounds),
    }
}

/// A block as a compact block.
pub(crate) fn compact(block: &Block, nonce: u64) -> Frame {
    let compact_block = crate::compact::compact_block(block, nonce);
    message::encode(&NetworkMessage::CmpctBlock(CmpctBlock { compact_block }))
}

/// The answer to `getblocktxn`; `None` if it asks for what the block does not have.
pub(crate) fn transactions(block: &Block, request: &BlockTransactionsRequest) -> Option<Frame> {
    let transactions = crate::compact::block_transactions(block, request).ok()?;
    Some(message::encode(&NetworkMessage::BlockTxn(BlockTxn { transactions })))
}

/// Jobs in the order in which they are done.
#[derive(Default)]
struct Lane {
    queues: [VecDeque<Job>; 3],
    running: bool,
}

impl Lane {
    fn next(&mut self) -> Option<Job> {
        let next = self.queues.iter_mut().find_map(VecDeque::pop_front);
        self.running = next.is_some();
        next
    }
}

/// Who does the jobs.
#[derive(Clone)]
pub struct Worker {
    host: Arc<dyn Host>,
    lanes: Arc<[Mutex<Lane>; 2]>,
    done: tokio::sync::mpsc::UnboundedSender<Done>,
}

impl Worker {
    /// A worker that tells what is done to `done`.
    pub fn new(host: Arc<dyn Host>, done: tokio::sync::mpsc::UnboundedSender<Done>) -> Worker {
        Worker { host, lanes: Arc::default(), done }
    }

    /// Does a job, in its turn. Called within a tokio runtime.
    pub fn submit(&self, job: Job) {
        let (lane, queue) = (job.lane() / 3, job.lane() % 3);
        {
            let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
            lane.queues[queue].push_back(job);
            if std::mem::replace(&mut lane.running, true) {
                return;
            }
        }
        let worker = self.clone();
        tokio::task::spawn_blocking(move || worker.run(lane));
    }

    fn run(&self, lane: usize) {
        loop {
            let job = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(job) = job else { return };
            // Nobody waits any more where the network has stopped.
            if self.done.send(job.run(&*self.host)).is_err() {
                return;
            }
        }
    }
}
