//! Blocks and coins for this crate's unit tests.

use crate::block::{coinbase_height, txids, witness_commitment_output};
use crate::coins::{Coin, CoinView};
use crate::connect::AncestorTimes;
use crate::merkle::merkle_root;
use crate::params::Params;
use crate::pow::Ancestors;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use std::collections::HashMap;

pub(crate) fn regtest() -> Params {
    Params::new(Network::Regtest).expect("supported")
}

/// An output that anyone can spend.
pub(crate) fn output(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: vec![0x51].into() }
}

pub(crate) fn coinbase(height: u32, outputs: Vec<TxOut>) -> Transaction {
    let mut script_sig = coinbase_height(height).into_bytes();
    script_sig.push(0);
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: outputs,
    }
}

/// The outpoint of a coin that [`Coins`] may hold.
pub(crate) fn outpoint(n: u32) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([9; 32]), n)
}

/// Spends outpoints with empty scripts.
pub(crate) fn spend(inputs: &[OutPoint], outputs: Vec<TxOut>) -> Transaction {
    let input = |previous_output: &OutPoint| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: outputs,
    }
}

/// A block after [`Headers`] with a coinbase of one output and these transactions, its roots and its proof of work right.
pub(crate) fn block(height: u32, reward: u64, transactions: Vec<Transaction>) -> Block {
    let mut txdata = vec![coinbase(height, vec![output(reward)])];
    txdata.extend(transactions);
    let genesis = regtest().genesis.header;
    let header = Header {
        version: BlockVersion::from_consensus(0x2000_0000),
        time: genesis.time + height * 600,
        prev_blockhash: genesis.block_hash(),
        ..genesis
    };
    seal(Block { header, txdata })
}

/// Makes the merkle root and the proof of work right.
pub(crate) fn seal(mut block: Block) -> Block {
    let leaves = txids(&block).iter().map(|txid| txid.to_byte_array()).collect();
    block.header.merkle_root = TxMerkleNode::from_byte_array(merkle_root(leaves).0);
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// Adds a witness commitment with its reserved value.
pub(crate) fn commit(mut block: Block) -> Block {
    let commitment = witness_commitment_output(&block);
    block.txdata[0].output.push(commitment);
    block.txdata[0].input[0].witness.push([0u8; 32]);
    seal(block)
}

/// Headers ten minutes apart, up to a height.
pub(crate) struct Headers(pub(crate) u32);

impl Ancestors for Headers {
    fn height(&self) -> u32 {
        self.0
    }
    fn header(&self, height: u32) -> Header {
        let genesis = regtest().genesis.header;
        Header { time: genesis.time + height * 600, ..genesis }
    }
}

impl AncestorTimes for Headers {
    fn median_time_past(&self, height: u32) -> u32 {
        Ancestors::median_time_past(&Headers(height))
    }
}

/// Coins by outpoint.
#[derive(Default)]
pub(crate) struct Coins(pub(crate) HashMap<OutPoint, Coin>);

impl Coins {
    pub(crate) fn add(&mut self, n: u32, output: TxOut, height: u32, coinbase: bool) -> OutPoint {
        self.0.insert(outpoint(n), Coin { output, height, coinbase });
        outpoint(n)
    }
}

impl CoinView for Coins {
    type Error = std::convert::Infallible;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Self::Error> {
        Ok(self.0.get(outpoint).cloned())
    }
}
