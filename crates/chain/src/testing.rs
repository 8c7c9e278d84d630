//! Regtest blocks for tests: mined on the spot, paying to a script that anyone can spend.

pub mod faults;
pub mod records;

use crate::db::{Batch, CoinChanges, Set};
use crate::{BlockEntry, Chain, ChainConfig, ChainError};
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, transaction,
};
use cairn_consensus::params::Params;
use std::path::Path;
use std::sync::Arc;

/// A `now` at which no block made here is from the future, seconds since 1970.
pub const NOW: u32 = 1_700_000_000;
/// Confirmations before a coinbase may be spent.
pub const MATURITY: u32 = 100;

/// Regtest's parameters.
pub fn regtest() -> Params {
    Params::new(Network::Regtest).expect("regtest has parameters")
}

/// Opens a regtest chain in `dir`, deaf to its events.
///
/// # Errors
/// Those of [`Chain::open`].
pub fn open(dir: &Path) -> Result<Chain, ChainError> {
    let config = ChainConfig { coin_cache_bytes: 8 << 20, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {}))
}

/// The script inside [`anyone_can_spend`].
fn witness_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// Pay-to-witness-script-hash of `OP_TRUE`.
pub fn anyone_can_spend() -> ScriptBuf {
    witness_script().to_p2wsh()
}

/// The subsidy at a height on regtest.
pub fn subsidy(height: u32) -> Amount {
    Amount::from_sat((50 * 100_000_000u64).checked_shr(height / 150).unwrap_or(0))
}

/// Spends coins of [`anyone_can_spend`] to it again: one output for each amount.
pub fn spend(inputs: &[OutPoint], amounts: &[Amount]) -> Transaction {
    let witness = Witness::from_slice(&[witness_script().into_bytes()]);
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs
            .iter()
            .map(|&previous_output| TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: witness.clone(),
            })
            .collect(),
        output: amounts.iter().map(|&value| TxOut { value, script_pubkey: anyone_can_spend() }).collect(),
    }
}

/// A valid block after `parent`, its coinbase claiming the subsidy and no fees. `salt` tells siblings apart.
pub fn block_after(parent: &Header, height: u32, salt: u32, transactions: Vec<Transaction>) -> Block {
    let script_sig = Builder::new().push_int(i64::from(height)).push_slice(salt.to_le_bytes()).into_script();
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0u8; 32]]),
        }],
        output: vec![
            TxOut { value: subsidy(height), script_pubkey: anyone_can_spend() },
            TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() },
        ],
    };
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: parent.time + 1,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata: vec![coinbase] };
    block.txdata.extend(transactions);
    seal(&mut block);
    block
}

/// Makes commitments and proof of work fit the block's transactions and header again.
pub fn seal(block: &mut Block) {
    let root = block.witness_root().expect("a block has a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend(commitment.as_byte_array());
    let last = block.txdata[0].output.last_mut().expect("a coinbase has outputs");
    last.script_pubkey = ScriptBuf::from_bytes(script);
    block.header.merkle_root = block.compute_merkle_root().expect("a block has a coinbase");
    mine(&mut block.header);
}

/// Finds a nonce that meets the header's own target.
pub fn mine(header: &mut Header) {
    let target = header.target();
    while !target.is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
}

/// The coin that a block's coinbase pays to [`anyone_can_spend`].
pub fn reward(block: &Block) -> OutPoint {
    OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 }
}

/// A branch of `count` blocks without transactions after a block. `salt` tells branches apart.
pub fn branch(parent: &Header, height: u32, count: u32, salt: u32) -> Vec<Arc<Block>> {
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for n in 1..=count {
        let parent = blocks.last().map_or(*parent, |block| block.header);
        blocks.push(Arc::new(block_after(&parent, height + n, salt, Vec::new())));
    }
    blocks
}

/// Mines `count` blocks on the tip and gives them to the chain.
///
/// # Errors
/// Those of [`Chain::process_block`].
pub fn grow(chain: &Chain, count: u32) -> Result<Vec<Arc<Block>>, ChainError> {
    let BlockEntry { header, height, .. } = chain.tip();
    let blocks = branch(&header, height, count, 0);
    for block in &blocks {
        chain.process_block(block.clone(), NOW, false)?;
    }
    Ok(blocks)
}

/// A coin's key (txid, output index) and value as the database holds them.
pub type RawCoin = ([u8; 36], Vec<u8>);

/// Writes the chain out and returns all coins as its database then holds them.
///
/// # Errors
/// Those of [`Chain::flush`], and of reading.
pub fn coins(chain: &Chain) -> Result<Vec<RawCoin>, ChainError> {
    chain.flush()?;
    chain.db.all_coins()
}

/// Loses a coin, as a database might that broke its promises. `key` is as [`coins`] has it.
///
/// # Errors
/// Those of writing.
pub fn drop_coin(chain: &Chain, key: &[u8; 36]) -> Result<(), ChainError> {
    chain.flush()?;
    chain.change().coins.written(0);
    let (coins, transactions) = (vec![(*key, None)], Vec::new());
    let changes = CoinChanges { set: Set::Active, coins, transactions, marker: chain.tip().hash };
    chain.db.commit(&Batch { coins: vec![changes], ..Batch::default() })
}

/// Begins a new block file whenever one would have more than so many bytes, until the chain is closed.
///
/// # Errors
/// Those of writing.
pub fn limit_files(chain: &Chain, bytes: u32) -> Result<(), ChainError> {
    chain.writer()?.appender.max_file_size = Some(bytes);
    Ok(())
}

/// The hash of a block that nobody has.
pub fn unknown_hash() -> BlockHash {
    BlockHash::from_byte_array([0x42; 32])
}
