//! Blocks ready for their proof of work, as Core's `BlockAssembler` makes them (BIP 22, 23, 141, 145).

use crate::MiningError;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness, opcodes,
    transaction,
};
use cairn_chain::{BlockEntry, Chain, ChainError};
use cairn_consensus::block::{add_witness_reserved_value, block_subsidy, coinbase_height, witness_commitment_output};
use cairn_consensus::header::minimum_time;
use cairn_consensus::pow::{Ancestors, next_work_required};
use cairn_consensus::tx::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT};
use cairn_consensus::versionbits::{Deployment, ThresholdState, VersionBitsCache};
use cairn_mempool::{Mempool, MempoolEntry};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Weight kept free for header, transaction count and coinbase (`DEFAULT_BLOCK_RESERVED_WEIGHT`).
pub(crate) const BLOCK_RESERVED_WEIGHT: u64 = 8000;
/// Signature operation cost kept free for the coinbase's outputs (`DEFAULT_COINBASE_OUTPUT_MAX_ADDITIONAL_SIGOPS`).
const COINBASE_RESERVED_SIGOP_COST: u64 = 400;
/// Times that a template is built anew because tip or mempool moved meanwhile.
const MAX_ATTEMPTS: usize = 16;

/// A block ready for its proof of work, and what `getblocktemplate` says of it.
#[derive(Debug, Clone)]
pub struct BlockTemplate {
    /// The whole block: coinbase paying the given script, witness commitment, merkle root, minimal valid time.
    pub block: Block,
    /// The block's transactions but the coinbase, in order.
    pub entries: Vec<MempoolEntry>,
    /// Height.
    pub height: u32,
    /// Subsidy and fees.
    pub coinbase_value: Amount,
    /// Least time allowed, seconds since 1970 (median time past + 1, and BIP 94's floor).
    pub min_time: u32,
    /// The witness commitment output's script.
    pub witness_commitment: ScriptBuf,
    /// Deployments of version bits and their states for this block.
    pub deployments: Vec<(Deployment, ThresholdState)>,
}

/// Builds a template on the tip. `now` is seconds since 1970; the result has been checked to connect.
///
/// # Errors
/// The chain could not be read, or refuses the block.
pub fn build_template(
    chain: &Chain,
    mempool: &Mempool,
    script: &Script,
    now: u32,
) -> Result<BlockTemplate, MiningError> {
    let mut attempt = 1;
    loop {
        let (tip, sequence) = (chain.tip(), mempool.transactions_updated());
        let entries = mempool.select(
            MAX_BLOCK_WEIGHT as u64 - BLOCK_RESERVED_WEIGHT,
            MAX_BLOCK_SIGOPS_COST as u64 - COINBASE_RESERVED_SIGOP_COST,
        );
        let fees = entries.iter().map(|entry| entry.fee).sum();
        let transactions = entries.iter().map(|entry| Transaction::clone(&entry.tx)).collect();
        let assembled = assemble(chain, &tip, transactions, fees, script, now);
        match chain.test_block(&assembled.block, now, false, false) {
            Ok(()) => {
                return Ok(BlockTemplate {
                    height: tip.height + 1,
                    coinbase_value: assembled.block.txdata[0].output[0].value,
                    min_time: assembled.min_time,
                    witness_commitment: assembled.witness_commitment,
                    deployments: assembled.deployments,
                    block: assembled.block,
                    entries,
                });
            }
            // The chain moves before the mempool hears of it.
            Err(ChainError::Rejected(reason)) if attempt < MAX_ATTEMPTS => {
                if chain.tip().hash == tip.hash && mempool.transactions_updated() == sequence {
                    return Err(ChainError::Rejected(reason).into());
                }
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same with exactly these transactions instead of the mempool's (`generateblock`). As in Core its coinbase claims
/// the subsidy only: whose fees they are is not looked up.
///
/// # Errors
/// The chain could not be read, or refuses the block with these transactions.
pub fn build_block_with(
    chain: &Chain,
    transactions: Vec<Transaction>,
    script: &Script,
    now: u32,
) -> Result<Block, MiningError> {
    let block = assemble(chain, &chain.tip(), transactions, Amount::ZERO, script, now).block;
    chain.test_block(&block, now, false, false)?;
    Ok(block)
}

struct Assembled {
    block: Block,
    min_time: u32,
    witness_commitment: ScriptBuf,
    deployments: Vec<(Deployment, ThresholdState)>,
}

fn assemble(
    chain: &Chain,
    tip: &BlockEntry,
    transactions: Vec<Transaction>,
    fees: Amount,
    script: &Script,
    now: u32,
) -> Assembled {
    let params = chain.params();
    let height = tip.height + 1;
    let branch = Branch { chain, tip };
    let min_time = minimum_time(&branch, params);
    let time = min_time.max(now);
    let (version, deployments) = signals(&branch);
    let mut txdata = vec![coinbase(height, block_subsidy(height, params) + fees, script)];
    txdata.extend(transactions);
    let mut block = Block {
        header: Header {
            version,
            prev_blockhash: tip.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: next_work_required(&branch, time, params),
            nonce: 0,
        },
        txdata,
    };
    let commitment = witness_commitment_output(&block);
    let witness_commitment = commitment.script_pubkey.clone();
    block.txdata[0].output.push(commitment);
    add_witness_reserved_value(&mut block, height, params);
    block.header.merkle_root = block.compute_merkle_root().expect("the block has a coinbase");
    Assembled { block, min_time, witness_commitment, deployments }
}

/// The active chain up to a tip.
struct Branch<'a> {
    chain: &'a Chain,
    tip: &'a BlockEntry,
}

impl Ancestors for Branch<'_> {
    fn height(&self) -> u32 {
        self.tip.height
    }
    fn header(&self, height: u32) -> Header {
        // A reorganisation may have shortened the chain meanwhile; the template is then refused and built anew.
        let entry = if height == self.tip.height { None } else { self.chain.entry_at(height) };
        entry.map_or(self.tip.header, |entry| entry.header)
    }
    fn median_time_past(&self) -> u32 {
        self.tip.median_time_past
    }
}

/// The version that signals for what is up for signalling (BIP 9), and the states that it follows from.
fn signals(branch: &Branch) -> (Version, Vec<(Deployment, ThresholdState)>) {
    // States of past periods never change and are keyed by block: kept, lest each template asks all headers again.
    static KNOWN: LazyLock<Mutex<VersionBitsCache>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let params = branch.chain.params();
    let states = params.deployments.iter().map(|deployment| (*deployment, known.state(deployment, branch))).collect();
    (known.compute_block_version(params, branch), states)
}

/// Core's coinbase: sequence and lock time make it final at this height and no other, so that no two are alike.
fn coinbase(height: u32, value: Amount, script: &Script) -> Transaction {
    let mut script_sig = coinbase_height(height);
    if height <= 16 {
        // The height alone is one byte, and a coinbase's scriptSig has at least two.
        script_sig.push_opcode(opcodes::OP_0);
    }
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(height - 1),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value, script_pubkey: script.to_owned() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coinbase_is_core_31s() {
        let script = Script::from_bytes(&[0x51]);
        let script_sig = |height| coinbase(height, Amount::ONE_BTC, script).input[0].script_sig.to_bytes();
        assert_eq!(script_sig(1), [0x51, 0x00]);
        assert_eq!(script_sig(16), [0x60, 0x00]);
        assert_eq!(script_sig(17), [0x01, 0x11]);
        assert_eq!(script_sig(128), [0x02, 0x80, 0x00]);
        assert_eq!(script_sig(65_536), [0x03, 0x00, 0x00, 0x01]);
        let coinbase = coinbase(200, Amount::ONE_BTC, script);
        assert_eq!(coinbase.lock_time.to_consensus_u32(), 199);
        assert_eq!(coinbase.input[0].sequence.0, 0xffff_fffe);
        assert!(coinbase.is_coinbase());
    }
}
