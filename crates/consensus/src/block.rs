//! Rules of one block, alone and in its place (Core's `CheckBlock` and `ContextualCheckBlock`), and what a miner needs
//! to keep them.

use crate::error::{BlockReject, BlockRejectKind};
use crate::header::check_header;
use crate::merkle::{Node, merkle_root};
use crate::params::Params;
use crate::pow::Ancestors;
use crate::signet::check_signet_solution;
use crate::tx::{
    MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT, WITNESS_SCALE_FACTOR, check_transaction, is_final_tx, legacy_sigop_count,
};
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Amount, Block, ScriptBuf, Transaction, TxOut, Txid, VarInt, script};

/// How the script of a witness commitment starts (BIP 141): OP_RETURN, a push of 36 bytes, and a tag.
const WITNESS_COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// Bytes of the shortest script that is a witness commitment.
pub(crate) const MINIMUM_WITNESS_COMMITMENT: usize = 38;
/// Bytes of a serialised header.
const HEADER_SIZE: usize = 80;
/// Bytes that a node of the merkle tree is the hash of.
const TWO_HASHES: usize = 64;

fn reject(kind: BlockRejectKind, reason: &'static str, debug: &str) -> BlockReject {
    BlockReject { kind, reason: reason.into(), debug: debug.into() }
}

fn consensus(reason: &'static str, debug: &str) -> BlockReject {
    reject(BlockRejectKind::Consensus, reason, debug)
}

fn mutated(reason: &'static str, debug: &str) -> BlockReject {
    reject(BlockRejectKind::Mutated, reason, debug)
}

/// What a block that is only being tried need not have: a template has no proof of work yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Check the proof of work and signet's solution.
    pub proof_of_work: bool,
    /// Check the merkle root.
    pub merkle_root: bool,
}

impl Checks {
    /// Everything: what every block of a peer or a user must pass.
    pub const ALL: Checks = Checks { proof_of_work: true, merkle_root: true };
}

/// Ids of a block's transactions, in order: computed once and handed to whoever needs them.
pub fn txids(block: &Block) -> Vec<Txid> {
    block.txdata.iter().map(Transaction::compute_txid).collect()
}

/// Checks what needs no context. `txids` are those of [`txids`].
///
/// # Errors
/// `high-hash`, `bad-signet-blksig`, `bad-txnmrklroot` and `bad-txns-duplicate` (which condemn the data, not the header),
/// `bad-blk-length`, `bad-cb-missing`, `bad-cb-multiple`, those of [`check_transaction`], `bad-blk-sigops`.
pub fn check_block(block: &Block, txids: &[Txid], params: &Params, checks: Checks) -> Result<(), BlockReject> {
    if checks.proof_of_work {
        check_header(&block.header, params)?;
        if let Some(challenge) = &params.signet_challenge
            && block.header.block_hash() != params.genesis_hash
            && !check_signet_solution(block, txids, challenge)
        {
            return Err(consensus("bad-signet-blksig", "signet block signature validation failure"));
        }
    }
    if checks.merkle_root {
        check_merkle_root(block, txids)?;
    }
    if block.txdata.is_empty() || sizes(block).0 * WITNESS_SCALE_FACTOR > MAX_BLOCK_WEIGHT {
        return Err(consensus("bad-blk-length", "size limits failed"));
    }
    if !block.txdata[0].is_coinbase() {
        return Err(consensus("bad-cb-missing", "first tx is not coinbase"));
    }
    if block.txdata[1..].iter().any(Transaction::is_coinbase) {
        return Err(consensus("bad-cb-multiple", "more than one coinbase"));
    }
    for (tx, txid) in block.txdata.iter().zip(txids) {
        check_transaction(tx).map_err(|rejected| BlockReject {
            kind: BlockRejectKind::Consensus,
            reason: rejected.reason,
            debug: format!("Transaction check failed (tx hash {txid}) {}", rejected.debug),
        })?;
    }
    // Witness and P2SH operations are counted once the coins are known.
    let sigops: usize = block.txdata.iter().map(legacy_sigop_count).sum();
    if sigops * WITNESS_SCALE_FACTOR > MAX_BLOCK_SIGOPS_COST {
        return Err(consensus("bad-blk-sigops", "out-of-bounds SigOpCount"));
    }
    Ok(())
}

/// Core's `CheckMerkleRoot`.
fn check_merkle_root(block: &Block, txids: &[Txid]) -> Result<(), BlockReject> {
    let (root, is_mutated) = merkle_root(txids.iter().map(|txid| txid.to_byte_array()).collect());
    if root != block.header.merkle_root.to_byte_array() {
        return Err(mutated("bad-txnmrklroot", "hashMerkleRoot mismatch"));
    }
    if is_mutated {
        return Err(mutated("bad-txns-duplicate", "duplicate transaction"));
    }
    Ok(())
}

/// Checks that transactions and witnesses are those that the header of the block at `height` commits to (Core's
/// `IsBlockMutated`): asked of a block that is read from a disk again, or that was put together from parts. `txids` are those
/// of [`txids`], `witnesses` is the block's.
///
/// # Errors
/// Only those that condemn the data, not the header: see [`check_block`] and [`contextual_check_block`]; and
/// `bad-txns-ambiguous` for a block that no coinbase leads, which may be a part of another one's tree.
pub fn check_not_mutated(
    block: &Block,
    txids: &[Txid],
    witnesses: WitnessRoot,
    height: u32,
    params: &Params,
) -> Result<(), BlockReject> {
    check_merkle_root(block, txids)?;
    if block.txdata.first().is_some_and(Transaction::is_coinbase) {
        return check_witness(block, witnesses, height >= params.segwit_height);
    }
    // Two hashes of the tree are as long: what looks like a transaction may be an inner node.
    if block.txdata.iter().any(|tx| tx.base_size() == TWO_HASHES) {
        return Err(mutated("bad-txns-ambiguous", "transaction of 64 bytes in a block without a coinbase"));
    }
    Ok(())
}

/// Bytes of a block without and with witnesses.
fn sizes(block: &Block) -> (usize, usize) {
    let around = HEADER_SIZE + VarInt::from(block.txdata.len()).size();
    block.txdata.iter().fold((around, around), |(base, total), tx| (base + tx.base_size(), total + tx.total_size()))
}

/// Weight of a block in weight units (BIP 141).
pub fn block_weight(block: &Block) -> usize {
    let (base, total) = sizes(block);
    base * (WITNESS_SCALE_FACTOR - 1) + total
}

/// Checks a block after `chain`. `witnesses` is the block's.
///
/// # Errors
/// `bad-txns-nonfinal`, `bad-cb-height`, `bad-witness-nonce-size`, `bad-witness-merkle-match` and `unexpected-witness` (which
/// condemn the data, not the header), `bad-blk-weight`.
pub fn contextual_check_block(
    block: &Block,
    witnesses: WitnessRoot,
    chain: &impl Ancestors,
    params: &Params,
) -> Result<(), BlockReject> {
    let height = chain.height() + 1;
    // BIP 113: lock times are compared with the median time past.
    let cutoff = if height >= params.csv_height { chain.median_time_past() } else { block.header.time };
    if !block.txdata.iter().all(|tx| is_final_tx(tx, height, cutoff)) {
        return Err(consensus("bad-txns-nonfinal", "non-final transaction"));
    }
    if height >= params.bip34_height {
        let expected = coinbase_height(height);
        let script_sig =
            block.txdata.first().and_then(|coinbase| coinbase.input.first()).map(|input| &input.script_sig);
        if !script_sig.is_some_and(|script| script.as_bytes().starts_with(expected.as_bytes())) {
            return Err(consensus("bad-cb-height", "block height mismatch in coinbase"));
        }
    }
    check_witness(block, witnesses, height >= params.segwit_height)?;
    if block_weight(block) > MAX_BLOCK_WEIGHT {
        return Err(consensus("bad-blk-weight", "ContextualCheckBlock : weight limit failed"));
    }
    Ok(())
}

/// The script that a coinbase of a block at `height` starts with (BIP 34).
pub fn coinbase_height(height: u32) -> ScriptBuf {
    script::Builder::new().push_int(i64::from(height)).into_script()
}

/// What the witnesses of a block come to: computed once, on whichever thread has time, and handed to whoever checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessRoot(Option<Commitment>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commitment {
    /// The output of the coinbase that holds it.
    position: usize,
    /// Root over the witness ids.
    root: Node,
}

impl WitnessRoot {
    /// That of a block; of one that commits to no witnesses nothing needs to be computed.
    pub fn of(block: &Block) -> Self {
        let position = witness_commitment_position(block);
        Self(position.map(|position| Commitment { position, root: witness_root(block) }))
    }
}

/// Core's `CheckWitnessMalleation`.
fn check_witness(block: &Block, witnesses: WitnessRoot, expect_commitment: bool) -> Result<(), BlockReject> {
    if expect_commitment && let WitnessRoot(Some(Commitment { position, root })) = witnesses {
        let coinbase = &block.txdata[0];
        let witness = &coinbase.input[0].witness;
        let reserved = match witness.nth(0) {
            Some(reserved) if witness.len() == 1 && reserved.len() == 32 => reserved,
            _ => {
                return Err(mutated(
                    "bad-witness-nonce-size",
                    "CheckWitnessMalleation : invalid witness reserved value size",
                ));
            }
        };
        let commitment = commitment_hash(root, reserved);
        if coinbase.output[position].script_pubkey.as_bytes()[6..38] != commitment {
            return Err(mutated(
                "bad-witness-merkle-match",
                "CheckWitnessMalleation : witness merkle commitment mismatch",
            ));
        }
        return Ok(());
    }
    if block.txdata.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty())) {
        return Err(mutated("unexpected-witness", "CheckWitnessMalleation : unexpected witness data found"));
    }
    Ok(())
}

/// Which output of the coinbase commits to the witnesses: the last that has the form.
pub fn witness_commitment_position(block: &Block) -> Option<usize> {
    let coinbase = block.txdata.first()?;
    coinbase.output.iter().rposition(|output| {
        let script = output.script_pubkey.as_bytes();
        script.len() >= MINIMUM_WITNESS_COMMITMENT && script.starts_with(&WITNESS_COMMITMENT_PREFIX)
    })
}

/// Root over the witness ids, the coinbase's being zero.
fn witness_root(block: &Block) -> Node {
    let ids = block.txdata.iter().skip(1).map(|tx| tx.compute_wtxid().to_byte_array());
    merkle_root(std::iter::once([0; 32]).chain(ids).collect()).0
}

fn commitment_hash(witness_root: Node, reserved: &[u8]) -> Node {
    let mut engine = sha256d::Hash::engine();
    engine.input(&witness_root);
    engine.input(reserved);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// The output that commits to a block's witnesses, with a reserved value of zeros.
pub fn witness_commitment_output(block: &Block) -> TxOut {
    let mut script = WITNESS_COMMITMENT_PREFIX.to_vec();
    script.extend_from_slice(&commitment_hash(witness_root(block), &[0; 32]));
    TxOut { value: Amount::ZERO, script_pubkey: script.into() }
}

/// Adds the reserved value of zeros to a coinbase that commits to witnesses but carries none (Core's
/// `UpdateUncommittedBlockStructures`); `height` is the block's.
pub fn add_witness_reserved_value(block: &mut Block, height: u32, params: &Params) {
    if height < params.segwit_height || witness_commitment_position(block).is_none() {
        return;
    }
    if let Some(input) = block.txdata.first_mut().and_then(|coinbase| coinbase.input.first_mut())
        && input.witness.is_empty()
    {
        input.witness.push([0u8; 32]);
    }
}

/// New coins that a block at `height` may create, in satoshi.
pub fn block_subsidy(height: u32, params: &Params) -> Amount {
    let halvings = height / params.subsidy_halving_interval;
    let initial: u64 = 50 * 100_000_000;
    Amount::from_sat(initial.checked_shr(halvings).unwrap_or(0))
}

/// Version of a block that signals nothing (BIP 9).
pub const VERSIONBITS_TOP_BITS: i32 = 0x2000_0000;

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
