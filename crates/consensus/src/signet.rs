//! The solution that a signet's blocks carry (BIP 325; Core's `signet.cpp`).

use crate::block::{MINIMUM_WITNESS_COMMITMENT, txids, witness_commitment_position};
use crate::merkle::merkle_root;
use crate::script::{Reader, ScriptFlags, TransactionSignatureChecker, push, verify_script};
use crate::sighash::PrecomputedTransactionData;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::{Decodable, Encodable, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, opcodes};

/// What the push that carries a solution starts with.
const SIGNET_HEADER: [u8; 4] = [0xec, 0xc7, 0xda, 0xa2];

/// Flags of the solution's scripts.
const FLAGS: ScriptFlags =
    ScriptFlags::union(&[ScriptFlags::P2SH, ScriptFlags::WITNESS, ScriptFlags::DERSIG, ScriptFlags::NULLDUMMY]);

/// Whether a block that is not the genesis block solves a challenge.
pub fn is_solved(block: &Block, challenge: &Script) -> bool {
    check_signet_solution(block, &txids(block), challenge)
}

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

/// Puts a solution into a block's witness commitment, in place of one that is there. An empty one is what has to be there
/// when [`signet_transactions`] tells what is to be signed. The merkle root is another then, and so are the hashes.
///
/// Returns false, and changes nothing, where the block has no witness commitment.
pub fn set_solution(block: &mut Block, script_sig: &Script, witness: &Witness) -> bool {
    let Some(position) = witness_commitment_position(block) else { return false };
    let mut section = SIGNET_HEADER.to_vec();
    if !(script_sig.is_empty() && witness.is_empty()) {
        section.extend(serialize(script_sig));
        section.extend(serialize(witness));
    }
    let commitment = &mut block.txdata[0].output[position].script_pubkey;
    *commitment = [&commitment.as_bytes()[..MINIMUM_WITNESS_COMMITMENT], &push(&section)].concat().into();
    true
}

/// Takes the solution out of a witness commitment: what follows the header in the first push that has one and more.
fn take_solution(commitment: &mut ScriptBuf) -> Option<Vec<u8>> {
    let mut solution = None;
    let mut rest = Vec::with_capacity(commitment.len());
    // As Core: parsing stops where the script cannot be read further.
    for (opcode, data) in Reader::new(commitment.as_bytes()).map_while(Result::ok) {
        match data.strip_prefix(&SIGNET_HEADER) {
            Some(found) if solution.is_none() && !found.is_empty() => {
                solution = Some(found.to_vec());
                rest.extend(push(&SIGNET_HEADER));
            }
            // An empty push keeps its opcode alone, whichever it was.
            _ if data.is_empty() => rest.push(opcode.to_u8()),
            _ => rest.extend(push(data)),
        }
    }
    if solution.is_some() {
        *commitment = ScriptBuf::from_bytes(rest);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Checks, check_block};
    use crate::params::Params;
    use crate::testing::{block, seal};

    /// Core's signet_parse_tests, with a challenge that needs no solution.
    #[test]
    fn solutions_parse_as_in_core() {
        let challenge = ScriptBuf::from_bytes(vec![0x51]);
        let mut commitment = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        commitment.extend([0xff; 32]);
        let section = |solution: &[u8]| {
            let mut script = commitment.clone();
            script.extend(push(&[&SIGNET_HEADER[..], solution].concat()));
            script
        };
        for (script, valid) in [
            (vec![0x51], false),
            (commitment.clone(), true),
            (section(&[]), true),
            (section(&[1, 0x51]), false),
            (section(&[1, 0x51, 0]), true),
            (section(&[1, 0x51, 0, 0]), false),
        ] {
            let mut block = block(1, 1, vec![]);
            block.txdata[0].output[0].script_pubkey = script.into();
            let (block, params) = (seal(block), crate::testing::regtest());
            assert_eq!(signet_transactions(&block, &txids(&block), &challenge).is_some(), valid);
            let signet = Params { signet_challenge: Some(challenge.clone()), ..params };
            let checked = check_block(&block, &txids(&block), &signet, Checks::ALL);
            assert_eq!(
                checked.map_err(|rejected| rejected.reason),
                valid.then_some(()).ok_or("bad-signet-blksig".into())
            );
        }
    }

    #[test]
    fn a_solution_that_was_set_is_the_one_that_is_taken() {
        let challenge = ScriptBuf::from_bytes(vec![0x51]);
        let mut unsolved = block(1, 1, vec![]);
        let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[0xff; 32]].concat();
        unsolved.txdata[0].output[0].script_pubkey = commitment.into();
        let mut solved = unsolved.clone();
        assert!(set_solution(&mut unsolved, Script::new(), &Witness::new()));
        let (_, unsigned) = signet_transactions(&unsolved, &txids(&unsolved), &challenge).expect("a commitment");
        for (script_sig, witness) in [(vec![0x52], vec![]), (vec![], vec![vec![7; 300]]), (vec![0; 80], vec![vec![]])] {
            let (script_sig, witness) = (ScriptBuf::from(script_sig), Witness::from_slice(&witness));
            assert!(set_solution(&mut solved, &script_sig, &witness));
            let (to_spend, to_sign) = signet_transactions(&solved, &txids(&solved), &challenge).expect("a commitment");
            assert_eq!((&to_sign.input[0].script_sig, &to_sign.input[0].witness), (&script_sig, &witness));
            assert_eq!(to_sign.input[0].previous_output.txid, to_spend.compute_txid());
            assert_eq!(to_sign.compute_ntxid(), unsigned.compute_ntxid(), "what is signed is the same without it");
        }
        unsolved.txdata[0].output.clear();
        assert!(!set_solution(&mut unsolved, Script::new(), &Witness::new()));
    }

    #[test]
    fn a_taken_solution_leaves_the_header_and_all_else() {
        // An empty push by OP_PUSHDATA1 loses its length, as in Core.
        let script = [&[0x6a, 0x4c, 0][..], &[6], &SIGNET_HEADER, &[7, 8], &[0x4c, 1, 9]].concat();
        let mut script = ScriptBuf::from_bytes(script);
        assert_eq!(take_solution(&mut script), Some(vec![7, 8]));
        assert_eq!(script.as_bytes(), [&[0x6a, 0x4c][..], &[4], &SIGNET_HEADER, &[1, 9]].concat());
        let before = script.clone();
        assert_eq!(take_solution(&mut script), None);
        assert_eq!(script, before);
    }
}
