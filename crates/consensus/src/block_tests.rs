//! Each rule of a block has its reason, and what only its data breaks does not condemn its header.

use super::*;
use crate::testing::{Headers, block as honest, coinbase, commit, outpoint, output, regtest, seal, spend};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::{CompactTarget, Sequence, Target, TxMerkleNode, Witness};

const HEIGHT: u32 = 150;

fn good() -> Block {
    honest(HEIGHT, 1, vec![spend(&[outpoint(0)], vec![output(1)]), spend(&[outpoint(1)], vec![output(1)])])
}

fn alone(block: &Block) -> Result<(), BlockReject> {
    check_block(block, &txids(block), &regtest(), Checks::ALL)
}

fn placed(block: &Block) -> Result<(), BlockReject> {
    contextual_check_block(block, WitnessRoot::of(block), &Headers(HEIGHT - 1), &regtest())
}

#[track_caller]
fn refused(result: Result<(), BlockReject>, kind: BlockRejectKind, reason: &str) {
    let rejected = result.expect_err(reason);
    assert_eq!((rejected.kind, &*rejected.reason), (kind, reason));
}

use BlockRejectKind::{Consensus, InvalidHeader, Mutated};

#[test]
fn a_good_block_passes() {
    alone(&good()).expect("valid");
    placed(&good()).expect("valid without a commitment, since it has no witness");
    let committed = commit(good());
    alone(&committed).expect("valid");
    placed(&committed).expect("valid");
}

#[test]
fn proof_of_work_is_checked_first_and_only_where_asked() {
    let mut block = good();
    while Target::from_compact(block.header.bits).is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    refused(alone(&block), InvalidHeader, "high-hash");
    check_block(&block, &txids(&block), &regtest(), Checks { proof_of_work: false, merkle_root: true })
        .expect("a template has none yet");
    block.header.bits = CompactTarget::from_consensus(0x2100_ffff);
    refused(alone(&block), InvalidHeader, "high-hash");
}

#[test]
fn merkle_roots_bind_the_data() {
    let mut block = good();
    block.header.merkle_root = TxMerkleNode::from_byte_array([1; 32]);
    let sealed = |mut block: Block| {
        while !Target::from_compact(block.header.bits).is_met_by(block.block_hash()) {
            block.header.nonce += 1;
        }
        block
    };
    refused(alone(&sealed(block.clone())), Mutated, "bad-txnmrklroot");
    check_block(&block, &txids(&block), &regtest(), Checks { proof_of_work: false, merkle_root: false })
        .expect("not asked");
    // CVE-2012-2459: three transactions, the last twice, have the root of three.
    let mut block = good();
    block.txdata.push(block.txdata[2].clone());
    refused(alone(&block), Mutated, "bad-txns-duplicate");
}

#[test]
fn sizes_and_coinbases() {
    let mut empty = good();
    empty.txdata.clear();
    refused(alone(&seal(empty)), Consensus, "bad-blk-length");
    // Without witnesses a block has at most a million bytes. An output has 13 around a script of this length.
    let rest = 1_000_000 - serialize(&good()).len() - 13;
    let big = |script: usize| {
        let mut big = good();
        big.txdata[1].output.push(TxOut { script_pubkey: vec![0; script].into(), ..output(0) });
        seal(big)
    };
    assert_eq!(serialize(&big(rest)).len(), 1_000_000);
    alone(&big(rest)).expect("a million bytes exactly");
    refused(alone(&big(rest + 1)), Consensus, "bad-blk-length");
    let mut none = good();
    none.txdata.remove(0);
    refused(alone(&seal(none)), Consensus, "bad-cb-missing");
    let mut two = good();
    two.txdata[1] = coinbase(HEIGHT, vec![output(2)]);
    refused(alone(&seal(two)), Consensus, "bad-cb-multiple");
    let mut invalid = good();
    invalid.txdata[1].output.clear();
    refused(alone(&seal(invalid)), Consensus, "bad-txns-vout-empty");
}

#[test]
fn legacy_sigops_are_bounded() {
    let mut block = good();
    let sigops = |count: usize| TxOut { script_pubkey: vec![0xac; count].into(), ..output(0) };
    block.txdata[1].output.push(sigops(20_000));
    alone(&seal(block.clone())).expect("80,000 exactly");
    block.txdata[1].output.push(sigops(1));
    refused(alone(&seal(block)), Consensus, "bad-blk-sigops");
}

#[test]
fn lock_times_are_judged_by_the_median_time_past() {
    let mut block = good();
    let median = Ancestors::median_time_past(&Headers(HEIGHT - 1));
    block.txdata[1].input[0].sequence = Sequence::ZERO;
    block.txdata[1].lock_time = LockTime::from_consensus(median);
    refused(placed(&block), Consensus, "bad-txns-nonfinal");
    block.txdata[1].lock_time = LockTime::from_consensus(median - 1);
    placed(&block).expect("the median is past it");
    // Before BIP 113 the block's own time counted.
    block.txdata[1].lock_time = LockTime::from_consensus(median);
    let before = Params { csv_height: HEIGHT + 1, ..regtest() };
    contextual_check_block(&block, WitnessRoot::of(&block), &Headers(HEIGHT - 1), &before).expect("valid then");
}

#[test]
fn coinbases_carry_their_height() {
    let mut block = good();
    block.txdata[0] = coinbase(HEIGHT + 1, vec![output(1)]);
    refused(placed(&block), Consensus, "bad-cb-height");
    let before = Params { bip34_height: HEIGHT + 1, ..regtest() };
    contextual_check_block(&block, WitnessRoot::of(&block), &Headers(HEIGHT - 1), &before).expect("not yet a rule");
    for (height, script) in [(1u32, vec![0x51]), (16, vec![0x60]), (17, vec![1, 17]), (128, vec![2, 128, 0])] {
        assert_eq!(coinbase_height(height).into_bytes(), script);
    }
}

#[test]
fn witnesses_are_committed_to() {
    let mut block = good();
    block.txdata[1].input[0].witness = Witness::from_slice(&[[1u8; 1]]);
    refused(placed(&block), Mutated, "unexpected-witness");
    let committed = commit(block.clone());
    placed(&committed).expect("valid");

    let mut changed = committed.clone();
    changed.txdata[1].input[0].witness = Witness::from_slice(&[[2u8; 1]]);
    refused(placed(&changed), Mutated, "bad-witness-merkle-match");
    for witness in [Witness::new(), Witness::from_slice(&[[0u8; 31]]), Witness::from_slice(&[[0u8; 32]; 2])] {
        let mut changed = committed.clone();
        changed.txdata[0].input[0].witness = witness;
        refused(placed(&changed), Mutated, "bad-witness-nonce-size");
    }
    // Of several commitments the last counts.
    let mut two = committed.clone();
    two.txdata[0].output.insert(0, witness_commitment_output(&good()));
    placed(&two).expect("valid");
    two.txdata[0].output.swap(0, 2);
    refused(placed(&two), Mutated, "bad-witness-merkle-match");
    // Before segwit a commitment is an output like any other.
    let before = Params { segwit_height: HEIGHT + 1, ..regtest() };
    refused(
        contextual_check_block(&committed, WitnessRoot::of(&committed), &Headers(HEIGHT - 1), &before),
        Mutated,
        "unexpected-witness",
    );
}

#[test]
fn the_reserved_value_is_added_where_it_is_missing() {
    let mut block = commit(good());
    block.txdata[0].input[0].witness = Witness::new();
    refused(placed(&block), Mutated, "bad-witness-nonce-size");
    add_witness_reserved_value(&mut block, HEIGHT, &regtest());
    placed(&block).expect("valid");
    let mut without = good();
    add_witness_reserved_value(&mut without, HEIGHT, &regtest());
    assert_eq!(without, good(), "nothing to add without a commitment");
    let mut block = commit(good());
    block.txdata[0].input[0].witness = Witness::new();
    let bare = block.clone();
    add_witness_reserved_value(&mut block, HEIGHT, &Params { segwit_height: HEIGHT + 1, ..regtest() });
    assert_eq!(block, bare, "nothing to add before segwit");
    add_witness_reserved_value(&mut block, HEIGHT, &Params { segwit_height: HEIGHT, ..regtest() });
    assert_ne!(block, bare);
    let complete = block.clone();
    add_witness_reserved_value(&mut block, HEIGHT, &regtest());
    assert_eq!(block, complete, "once is enough");
}

/// BIP 141: at least 38 bytes that start with the tag; the last such output counts.
#[test]
fn commitments_are_known_by_their_form() {
    let mut block = commit(good());
    assert_eq!(witness_commitment_position(&block), Some(1));
    let script = |bytes: &[u8]| TxOut { script_pubkey: bytes.to_vec().into(), ..output(0) };
    let commitment = block.txdata[0].output[1].script_pubkey.to_bytes();
    block.txdata[0].output.push(script(&commitment[..37]));
    block.txdata[0].output.push(script(&[0x51; 38]));
    assert_eq!(witness_commitment_position(&block), Some(1));
    block.txdata[0].output.push(script(&[&commitment[..], &[0]].concat()));
    assert_eq!(witness_commitment_position(&block), Some(4));
    block.txdata[0].output.clear();
    assert_eq!(witness_commitment_position(&block), None);
}

#[test]
fn what_a_disk_gives_back_must_be_what_the_header_commits_to() {
    let mut block = good();
    block.txdata[1].input[0].witness = Witness::from_slice(&[[1u8; 1]]);
    let block = commit(block);
    let read = |block: &Block, segwit_height| {
        check_not_mutated(block, &txids(block), WitnessRoot::of(block), HEIGHT, &Params { segwit_height, ..regtest() })
    };
    read(&block, HEIGHT).expect("as it was accepted");
    refused(read(&block, HEIGHT + 1), Mutated, "unexpected-witness");
    let mut witness = block.clone();
    witness.txdata[1].input[0].witness = Witness::from_slice(&[[2u8; 1]]);
    refused(read(&witness, HEIGHT), Mutated, "bad-witness-merkle-match");
    let mut transaction = block;
    transaction.txdata[1].lock_time = LockTime::from_consensus(1);
    refused(read(&transaction, HEIGHT), Mutated, "bad-txnmrklroot");
}

/// Core's validation_tests block_malleation, where no coinbase leads the block.
#[test]
fn a_block_without_a_coinbase_is_mutated_if_a_transaction_may_be_two_hashes() {
    let read = |block: &Block| check_not_mutated(block, &txids(block), WitnessRoot::of(block), 0, &regtest());
    let with_root = |txdata: Vec<Transaction>| {
        let mut block = Block { txdata, ..good() };
        block.header.merkle_root = block.compute_merkle_root().expect("transactions");
        block
    };
    let mut tx = spend(&[outpoint(0)], vec![TxOut { script_pubkey: ScriptBuf::new(), ..output(0) }]);
    for (script_sig, bytes) in [(3, 63), (4, 64), (5, 65)] {
        tx.input[0].script_sig = vec![0x51; script_sig].into();
        tx.input[0].witness = Witness::from_slice(&[[1u8; 1]]);
        assert_eq!(tx.base_size(), bytes);
        let other = Transaction { lock_time: LockTime::from_consensus(1), output: vec![output(0); 2], ..tx.clone() };
        for txdata in [vec![tx.clone()], vec![other, tx.clone()]] {
            match read(&with_root(txdata)) {
                refusal if bytes == 64 => refused(refusal, Mutated, "bad-txns-ambiguous"),
                // Nobody committed to the witness, but this is no block at all.
                accepted => accepted.expect("as its header says"),
            }
        }
    }
    // Neither has a transaction without inputs, which only its witness form can say.
    let none = with_root(vec![Transaction { input: Vec::new(), ..commit(good()).txdata[0].clone() }]);
    assert_eq!(witness_commitment_position(&none), Some(1));
    read(&none).expect("as its header says");
}

#[test]
fn weight_is_bounded() {
    let mut block = good();
    let mut weighing = |witness: usize| {
        block.txdata[1].input[0].witness = Witness::from_slice(&[vec![0u8; witness]]);
        let block = commit(block.clone());
        assert_eq!(block_weight(&block) as u64, block.weight().to_wu());
        block
    };
    let rest = 4_000_000 - (block_weight(&weighing(3_000_000)) - 3_000_000);
    assert_eq!(block_weight(&weighing(rest)), 4_000_000);
    placed(&weighing(rest)).expect("four million exactly");
    refused(placed(&weighing(rest + 1)), Consensus, "bad-blk-weight");
}

/// Core's main_tests.cpp.
#[test]
fn subsidies_halve_and_end() {
    for network in [bitcoin::Network::Bitcoin, bitcoin::Network::Regtest] {
        let params = Params::new(network).expect("supported");
        let interval = params.subsidy_halving_interval;
        let mut expected = 50 * 100_000_000;
        for halving in 0..64 {
            assert_eq!(block_subsidy(halving * interval, &params).to_sat(), expected);
            assert_eq!(block_subsidy(halving * interval + interval - 1, &params).to_sat(), expected);
            expected /= 2;
        }
        assert_eq!(block_subsidy(64 * interval, &params), Amount::ZERO);
    }
    let params = Params::new(bitcoin::Network::Bitcoin).expect("supported");
    let total: u64 = (0..14_000_000).step_by(1_000).map(|h| block_subsidy(h, &params).to_sat() * 1_000).sum();
    assert_eq!(total, 2_099_999_997_690_000);
}
