//! The solution that a signet's blocks carry (BIP 325; Core's `signet.cpp`).

use crate::block::witness_commitment_position;
use crate::merkle::merkle_root;
use crate::script::{ScriptFlags, TransactionSignatureChecker, verify_script};
use crate::sighash::PrecomputedTransactionData;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::{Decodable, Encodable};
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, Instruction, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, opcodes};

/// What the push that carries a solution starts with.
const SIGNET_HEADER: [u8; 4] = [0xec, 0xc7, 0xda, 0xa2];

/// Flags of the solution's scripts.
const FLAGS: ScriptFlags = ScriptFlags::from_bits(
    ScriptFlags::P2SH.bits() | ScriptFlags::WITNESS.bits() | ScriptFlags::DERSIG.bits() | ScriptFlags::NULLDUMMY.bits(),
);

/// Whether a block that is not the genesis block solves the challenge.
pub(crate) fn check_signet_solution(block: &Block, txids: &[Txid], challenge: &Script) -> bool {
    let Some((to_spend, to_sign)) = signet_transactions(block, txids, challenge) else { return false };
    let shared = PrecomputedTransactionData::new(&to_sign, to_spend.output.clone());
    let checker = TransactionSignatureChecker::new(&to_sign, 0, &shared);
    let input = &to_sign.input[0];
    verify_script(&input.script_sig, challenge, &input.witness, FLAGS, &checker).is_ok()
}

/// The two virtual transactions of BIP 325: one to be spent, and the one that spends it with the solution. `None` if the
/// block has no witness commitment or its solution cannot be parsed.
pub fn signet_transactions(block: &Block, txids: &[Txid], challenge: &Script) -> Option<(Transaction, Transaction)> {
    let mut coinbase = block.txdata.first()?.clone();
    let position = witness_commitment_position(block)?;
    let commitment = &mut coinbase.output[position].script_pubkey;
    // Without a solution the challenge may still be trivial.
    let (script_sig, witness) = match take_solution(commitment) {
        Some(solution) => parse_solution(&solution)?,
        None => Default::default(),
    };

    let mut leaves = vec![coinbase.compute_txid().to_byte_array()];
    leaves.extend(txids.iter().skip(1).map(|txid| txid.to_byte_array()));
    let mut block_data = PushBytesBuf::new();
    let mut data = Vec::with_capacity(72);
    block.header.version.consensus_encode(&mut data).ok()?;
    block.header.prev_blockhash.consensus_encode(&mut data).ok()?;
    data.extend_from_slice(&merkle_root(leaves).0);
    block.header.time.consensus_encode(&mut data).ok()?;
    block_data.extend_from_slice(&data).ok()?;

    let to_spend = Transaction {
        version: Version(0),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_opcode(opcodes::all::OP_PUSHBYTES_0).push_slice(block_data).into_script(),
            sequence: Sequence::ZERO,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: challenge.to_owned() }],
    };
    let to_sign = Transaction {
        version: Version(0),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(to_spend.compute_txid(), 0),
            script_sig,
            sequence: Sequence::ZERO,
            witness,
        }],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: Builder::new().push_opcode(opcodes::all::OP_RETURN).into_script(),
        }],
    };
    Some((to_spend, to_sign))
}

/// Takes the solution out of a witness commitment: what follows the header in the first push that has one and more.
fn take_solution(commitment: &mut ScriptBuf) -> Option<Vec<u8>> {
    let mut solution = None;
    let mut rest = Builder::new();
    // As Core: parsing stops where the script cannot be read further.
    for instruction in commitment.instructions().map_while(Result::ok) {
        rest = match instruction {
            Instruction::PushBytes(push) if !push.is_empty() => {
                let bytes = push.as_bytes();
                if solution.is_none() && bytes.len() > SIGNET_HEADER.len() && bytes.starts_with(&SIGNET_HEADER) {
                    solution = Some(bytes[SIGNET_HEADER.len()..].to_vec());
                    rest.push_slice(SIGNET_HEADER)
                } else {
                    rest.push_slice(push)
                }
            }
            Instruction::PushBytes(_) => rest.push_opcode(opcodes::all::OP_PUSHBYTES_0),
            Instruction::Op(op) => rest.push_opcode(op),
        };
    }
    if solution.is_some() {
        *commitment = rest.into_script();
    }
    solution
}

/// A solution is a scriptSig and a witness, and nothing more.
fn parse_solution(solution: &[u8]) -> Option<(ScriptBuf, Witness)> {
    let mut reader = solution;
    let script_sig = ScriptBuf::consensus_decode(&mut reader).ok()?;
    let witness = Witness::consensus_decode(&mut reader).ok()?;
    reader.is_empty().then_some((script_sig, witness))
}
