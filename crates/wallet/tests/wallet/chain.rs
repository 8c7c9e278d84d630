//! A chain without proof of work: the wallet takes the node's word for validity.

use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness, absolute, block, constants::genesis_block, hashes::Hash, script::Builder, transaction,
};
use cairn_wallet::{ChainSource, SendError, SourceError};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

pub(crate) const REWARD: Amount = Amount::from_sat(5_000_000_000);

#[derive(Default)]
struct State {
    active: Vec<BlockHash>,
    blocks: HashMap<BlockHash, Arc<Block>>,
    made: u32,
}

pub(crate) struct FakeChain {
    state: Mutex<State>,
    /// Blocks that it still gives before it stops answering.
    pub(crate) answers: AtomicU32,
    /// Blocks that were read.
    pub(crate) reads: AtomicU32,
}

impl FakeChain {
    pub(crate) fn new() -> Arc<Self> {
        let genesis = genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        let state = State { active: vec![hash], blocks: [(hash, Arc::new(genesis))].into(), made: 0 };
        Arc::new(Self { state: Mutex::new(state), answers: AtomicU32::new(u32::MAX), reads: AtomicU32::new(0) })
    }

    /// As the wallet takes it.
    pub(crate) fn source(self: &Arc<Self>) -> Arc<dyn ChainSource> {
        self.clone()
    }

    /// Adds blocks whose rewards go to a script.
    pub(crate) fn mine(&self, count: u32, to: &ScriptBuf) {
        for _ in 0..count {
            self.mine_with(to, Vec::new());
        }
    }

    /// Adds a block with transactions.
    pub(crate) fn mine_with(&self, to: &ScriptBuf, transactions: Vec<Transaction>) {
        let mut state = self.state.lock().unwrap();
        state.made += 1;
        let height = i64::try_from(state.active.len()).unwrap();
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                // The counter makes blocks of one height on two branches differ.
                script_sig: Builder::new().push_int(height).push_int(i64::from(state.made)).into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output: vec![TxOut { value: REWARD, script_pubkey: to.clone() }],
        };
        let mut block = Block {
            header: block::Header {
                version: block::Version::TWO,
                prev_blockhash: *state.active.last().unwrap(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: 1_600_000_000 + state.made,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(transactions).collect(),
        };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        let hash = block.block_hash();
        state.active.push(hash);
        state.blocks.insert(hash, Arc::new(block));
    }

    /// Leaves the active chain at a height; the next blocks make another branch.
    pub(crate) fn cut(&self, height: u32) {
        self.state.lock().unwrap().active.truncate(height as usize + 1);
    }

    /// The active chain, to go back to.
    pub(crate) fn active(&self) -> Vec<BlockHash> {
        self.state.lock().unwrap().active.clone()
    }

    pub(crate) fn activate(&self, active: Vec<BlockHash>) {
        self.state.lock().unwrap().active = active;
    }
}

impl ChainSource for FakeChain {
    fn tip(&self) -> Result<(u32, BlockHash), SourceError> {
        let state = self.state.lock().unwrap();
        Ok((u32::try_from(state.active.len()).unwrap() - 1, *state.active.last().unwrap()))
    }

    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError> {
        Ok(self.state.lock().unwrap().active.get(height as usize).copied())
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError> {
        if self.answers.load(Ordering::Relaxed) == 0 {
            return Err(SourceError("stopped by the test".into()));
        }
        self.answers.fetch_sub(1, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.state.lock().unwrap().blocks.get(hash).cloned())
    }

    fn send(&self, _: &Transaction) -> Result<(), SendError> {
        Ok(())
    }

    fn in_mempool(&self, _: &Txid) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn min_fee_rate(&self) -> Result<u64, SourceError> {
        Ok(1_000)
    }
}
