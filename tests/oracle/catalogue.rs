//! One mutation for each rule of blocks and transactions, with Core's reason.

use crate::coins::{Kind, VALUE, World};
use crate::engines::now;
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_RETURN};
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxMerkleNode, TxOut, Txid,
    Witness,
};
use cairn_chain::testing::{anyone_can_spend, mine, seal, spend};

/// What is left to make good after a mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mend {
    /// Witness commitment, merkle root and proof of work.
    All,
    /// Merkle root and proof of work.
    Root,
    /// Proof of work.
    Work,
    /// Nothing.
    Nothing,
}

/// A block to be mutated: a coinbase, a transaction with two inputs and two outputs, and one that spends an output of it.
struct Draft<'a> {
    block: Block,
    world: &'a World,
}

impl Draft<'_> {
    fn coinbase(&mut self) -> &mut Transaction {
        &mut self.block.txdata[0]
    }
    fn first(&mut self) -> &mut Transaction {
        &mut self.block.txdata[1]
    }
    fn reward(&self, n: usize) -> OutPoint {
        self.world.rewards[n]
    }
    /// Adds a transaction that spends a reward to these outputs.
    fn add(&mut self, outputs: Vec<TxOut>) {
        let mut tx = spend(&[self.reward(2)], &[]);
        tx.output = outputs;
        self.block.txdata.push(tx);
    }
    fn add_script(&mut self, script: Vec<u8>, value: u64) {
        self.add(vec![TxOut { value: Amount::from_sat(value), script_pubkey: script.into() }]);
    }
}

type Mutation = (&'static str, &'static str, Mend, fn(&mut Draft<'_>));

fn push_to_coinbase(block: &mut Block, bytes: usize) {
    let script = block.txdata[0].input[0].script_sig.to_bytes();
    block.txdata[0].input[0].script_sig = [script, vec![0; bytes]].concat().into();
}

/// Every mutation: its name, Core's reason, what is made good after it, and what it does.
const CATALOGUE: &[Mutation] = &[
    ("header-version-0", "bad-version(0x00000000)", Mend::Work, |d| {
        d.block.header.version = Version::from_consensus(0)
    }),
    ("header-version-1", "bad-version(0x00000001)", Mend::Work, |d| d.block.header.version = Version::ONE),
    ("header-version-2", "bad-version(0x00000002)", Mend::Work, |d| d.block.header.version = Version::TWO),
    ("header-version-3", "bad-version(0x00000003)", Mend::Work, |d| {
        d.block.header.version = Version::from_consensus(3);
    }),
    ("header-version-negative", "bad-version(0xffffffff)", Mend::Work, |d| {
        d.block.header.version = Version::from_consensus(-1);
    }),
    // Of several faults the first that is looked for is told.
    ("header-bits-and-time", "bad-diffbits", Mend::Work, |d| {
        d.block.header.bits = CompactTarget::from_consensus(0x207f_fffe);
        d.block.header.time = 0;
    }),
    ("header-time-and-version", "time-too-old", Mend::Work, |d| {
        d.block.header.time = 0;
        d.block.header.version = Version::ONE;
    }),
    ("header-future-and-version", "time-too-new", Mend::Work, |d| {
        d.block.header.time = now() + 7_200 + 60;
        d.block.header.version = Version::ONE;
    }),
    ("header-time-median", "time-too-old", Mend::Work, |d| {
        d.block.header.time = d.world.pair.ours.tip().median_time_past;
    }),
    ("header-time-0", "time-too-old", Mend::Work, |d| d.block.header.time = 0),
    ("header-time-future", "time-too-new", Mend::Work, |d| d.block.header.time = now() + 7_200 + 60),
    ("header-bits-harder", "bad-diffbits", Mend::Work, |d| {
        d.block.header.bits = CompactTarget::from_consensus(0x207f_fffe);
    }),
    ("header-bits-easier", "high-hash", Mend::Nothing, |d| {
        d.block.header.bits = CompactTarget::from_consensus(0x2100_ffff);
    }),
    ("header-bits-zero", "high-hash", Mend::Nothing, |d| d.block.header.bits = CompactTarget::from_consensus(0)),
    ("header-bits-negative", "high-hash", Mend::Nothing, |d| {
        d.block.header.bits = CompactTarget::from_consensus(0x2080_0001);
    }),
    ("header-work", "high-hash", Mend::Nothing, |d| {
        while d.block.header.target().is_met_by(d.block.block_hash()) {
            d.block.header.nonce = d.block.header.nonce.wrapping_add(1);
        }
    }),
    ("header-prev-unknown", "prev-blk-not-found", Mend::Work, |d| {
        d.block.header.prev_blockhash = BlockHash::from_byte_array([7; 32]);
    }),
    ("merkle-root", "bad-txnmrklroot", Mend::Work, |d| {
        d.block.header.merkle_root = TxMerkleNode::from_byte_array([7; 32]);
    }),
    ("merkle-order", "bad-txnmrklroot", Mend::Work, |d| d.block.txdata.swap(1, 2)),
    ("merkle-duplicate", "bad-txns-duplicate", Mend::Work, |d| {
        // CVE-2012-2459: three leaves and four, the last one twice, have the same root.
        let last = d.block.txdata.last().expect("transactions").clone();
        d.block.txdata.push(last);
    }),
    ("block-empty", "bad-blk-length", Mend::Work, |d| {
        d.block.txdata.clear();
        d.block.header.merkle_root = TxMerkleNode::all_zeros();
    }),
    ("block-length", "bad-blk-length", Mend::All, |d| d.add_script(vec![0x6a; 999_900], 0)),
    ("block-weight", "bad-blk-weight", Mend::All, |d| {
        d.block.txdata[1].input[0].witness = Witness::from_slice(&[vec![0; 3_999_000]]);
    }),
    ("coinbase-missing", "bad-cb-missing", Mend::Root, |d| drop(d.block.txdata.remove(0))),
    ("coinbase-second", "bad-cb-missing", Mend::Root, |d| d.block.txdata.swap(0, 1)),
    ("coinbase-two", "bad-cb-multiple", Mend::All, |d| {
        let again = d.block.txdata[0].clone();
        d.block.txdata.push(again);
    }),
    ("coinbase-script-short", "bad-cb-length", Mend::All, |d| {
        d.coinbase().input[0].script_sig = ScriptBuf::from_bytes(vec![1]);
    }),
    ("coinbase-script-empty", "bad-cb-length", Mend::All, |d| d.coinbase().input[0].script_sig = ScriptBuf::new()),
    ("coinbase-script-long", "bad-cb-length", Mend::All, |d| push_to_coinbase(&mut d.block, 100)),
    ("coinbase-height-other", "bad-cb-height", Mend::All, |d| {
        d.coinbase().input[0].script_sig = Builder::new().push_int(5_000).push_int(1).into_script();
    }),
    ("coinbase-height-padded", "bad-cb-height", Mend::All, |d| {
        let height = d.world.pair.ours.tip().height + 1;
        d.coinbase().input[0].script_sig = vec![4, height as u8, (height >> 8) as u8, 0, 0].into();
    }),
    ("coinbase-amount", "bad-cb-amount", Mend::All, |d| {
        d.coinbase().output[0].value += Amount::from_sat(20_000_000_000)
    }),
    ("coinbase-amount-by-one", "bad-cb-amount", Mend::All, |d| {
        let fees = 2 * 5_000_000_000 - 3_000 + 1_000 - 500;
        d.coinbase().output[0].value += Amount::from_sat(fees + 1);
    }),
    ("coinbase-output-large", "bad-txns-vout-toolarge", Mend::All, |d| {
        d.coinbase().output[0].value = Amount::from_sat(2_100_000_000_000_001);
    }),
    ("coinbase-no-outputs", "bad-txns-vout-empty", Mend::Root, |d| d.coinbase().output.clear()),
    ("tx-empty", "bad-txns-vin-empty", Mend::All, |d| {
        d.block.txdata[2].input.clear();
        d.block.txdata[2].output.clear();
    }),
    ("tx-no-outputs", "bad-txns-vout-empty", Mend::All, |d| d.block.txdata[2].output.clear()),
    ("tx-output-negative", "bad-txns-vout-negative", Mend::All, |d| {
        d.block.txdata[2].output[0].value = Amount::from_sat(u64::MAX);
    }),
    ("tx-output-large", "bad-txns-vout-toolarge", Mend::All, |d| {
        d.block.txdata[2].output[0].value = Amount::from_sat(2_100_000_000_000_001);
    }),
    ("tx-outputs-total", "bad-txns-txouttotal-toolarge", Mend::All, |d| {
        let all = TxOut { value: Amount::MAX_MONEY, script_pubkey: anyone_can_spend() };
        d.block.txdata[2].output = vec![all.clone(), all];
    }),
    ("tx-oversize", "bad-blk-length", Mend::All, |d| d.first().input[0].script_sig = vec![0; 1_000_000].into()),
    ("tx-duplicate-input", "bad-txns-inputs-duplicate", Mend::All, |d| {
        let again = d.first().input[0].clone();
        d.first().input.push(again);
    }),
    ("tx-null-prevout", "bad-txns-prevout-null", Mend::All, |d| {
        d.first().input[1].previous_output = OutPoint::null();
    }),
    ("tx-missing-input", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        d.first().input[0].previous_output.txid = Txid::from_byte_array([9; 32]);
    }),
    ("tx-missing-output-number", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        d.first().input[0].previous_output.vout = 77;
    }),
    ("tx-spent-in-block", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        let again = spend(&[d.reward(0)], &[Amount::from_sat(1)]);
        d.block.txdata.push(again);
    }),
    ("tx-child-before-parent", "bad-txns-inputs-missingorspent", Mend::All, |d| d.block.txdata.swap(1, 2)),
    ("tx-spends-itself-later", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        let later = spend(&[d.reward(3)], &[Amount::from_sat(1_000)]);
        let from = OutPoint { txid: later.compute_txid(), vout: 0 };
        d.block.txdata.push(spend(&[from], &[Amount::from_sat(1)]));
        d.block.txdata.push(later);
    }),
    ("tx-spends-op-return", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        d.add_script(vec![OP_RETURN.to_u8()], 10);
        let txid = d.block.txdata[3].compute_txid();
        d.block.txdata.push(spend(&[OutPoint { txid, vout: 0 }], &[Amount::from_sat(1)]));
    }),
    ("tx-spends-long-script", "bad-txns-inputs-missingorspent", Mend::All, |d| {
        d.add_script(vec![0x51; 10_001], 10);
        let txid = d.block.txdata[3].compute_txid();
        d.block.txdata.push(spend(&[OutPoint { txid, vout: 0 }], &[Amount::from_sat(1)]));
    }),
    ("tx-premature", "bad-txns-premature-spend-of-coinbase", Mend::All, |d| {
        let tip = d.world.pair.ours.tip().hash;
        let block = d.world.pair.ours.block(&tip).expect("read").expect("here");
        let reward = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
        d.block.txdata.push(spend(&[reward], &[Amount::from_sat(1)]));
    }),
    ("tx-spends-own-coinbase", "bad-txns-premature-spend-of-coinbase", Mend::Nothing, |d| {
        // Nothing in the block has a witness, so that nothing needs a commitment.
        d.block.txdata.truncate(1);
        d.block.txdata[0].output.pop();
        let reward = OutPoint { txid: d.block.txdata[0].compute_txid(), vout: 0 };
        let mut tx = spend(&[reward], &[Amount::from_sat(1)]);
        tx.input[0].witness = Witness::new();
        d.block.txdata.push(tx);
        d.block.txdata[0].input[0].witness = Witness::new();
        d.block.header.merkle_root = d.block.compute_merkle_root().expect("transactions");
        mine(&mut d.block.header);
    }),
    ("tx-outputs-above-inputs", "bad-txns-in-belowout", Mend::All, |d| {
        d.block.txdata[2].output[0].value = Amount::from_sat(2_000);
    }),
    ("tx-lock-height", "bad-txns-nonfinal", Mend::All, |d| {
        d.first().lock_time = LockTime::from_consensus(d.world.pair.ours.tip().height + 1);
        d.first().input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    }),
    ("tx-lock-time", "bad-txns-nonfinal", Mend::All, |d| {
        d.first().lock_time = LockTime::from_consensus(d.world.pair.ours.tip().median_time_past);
        d.first().input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    }),
    ("tx-relative-height", "bad-txns-nonfinal", Mend::All, |d| {
        d.block.txdata[2].input[0].sequence = Sequence::from_height(1);
    }),
    ("tx-relative-time", "bad-txns-nonfinal", Mend::All, |d| {
        d.block.txdata[2].input[0].sequence = Sequence::from_512_second_intervals(1);
    }),
    ("sigops-outputs", "bad-blk-sigops", Mend::All, |d| d.add_script(vec![OP_CHECKSIG.to_u8(); 20_001], 0)),
    ("sigops-multisig", "bad-blk-sigops", Mend::All, |d| d.add_script(vec![OP_CHECKMULTISIG.to_u8(); 1_001], 0)),
    ("sigops-coinbase", "bad-blk-sigops", Mend::All, |d| {
        d.coinbase()
            .output
            .insert(0, TxOut { value: Amount::ZERO, script_pubkey: vec![OP_CHECKSIG.to_u8(); 20_001].into() });
    }),
    ("sigops-p2sh", "bad-blk-sigops", Mend::All, |d| {
        d.add_script(vec![OP_CHECKSIG.to_u8(); 19_900], 0);
        let redeem = ScriptBuf::from_bytes(vec![OP_CHECKMULTISIG.to_u8(); 10]);
        d.add(vec![TxOut { value: Amount::from_sat(10), script_pubkey: redeem.to_p2sh() }]);
        d.block.txdata[4].input[0].previous_output = d.world.rewards[3];
        let txid = d.block.txdata[4].compute_txid();
        let mut tx = spend(&[OutPoint { txid, vout: 0 }], &[Amount::from_sat(1)]);
        tx.input[0].witness = Witness::new();
        tx.input[0].script_sig = Builder::new().push_slice([OP_CHECKMULTISIG.to_u8(); 10]).into_script();
        d.block.txdata.push(tx);
    }),
    ("sigops-witness", "bad-blk-sigops", Mend::All, |d| {
        d.add_script(vec![OP_CHECKSIG.to_u8(); 19_999], 0);
        let script = ScriptBuf::from_bytes(vec![OP_CHECKSIG.to_u8(); 10]);
        d.add(vec![TxOut { value: Amount::from_sat(10), script_pubkey: script.to_p2wsh() }]);
        d.block.txdata[4].input[0].previous_output = d.world.rewards[3];
        let txid = d.block.txdata[4].compute_txid();
        let mut tx = spend(&[OutPoint { txid, vout: 0 }], &[Amount::from_sat(1)]);
        tx.input[0].witness = Witness::from_slice(&[script.to_bytes()]);
        d.block.txdata.push(tx);
    }),
    ("witness-nonce-long", "bad-witness-nonce-size", Mend::Nothing, |d| {
        d.coinbase().input[0].witness = Witness::from_slice(&[[0u8; 33]]);
    }),
    ("witness-nonce-missing", "bad-witness-nonce-size", Mend::Nothing, |d| {
        d.coinbase().input[0].witness = Witness::new()
    }),
    ("witness-nonce-two", "bad-witness-nonce-size", Mend::Nothing, |d| {
        d.coinbase().input[0].witness = Witness::from_slice(&[[0u8; 32], [0u8; 32]]);
    }),
    ("witness-commitment-other", "bad-witness-merkle-match", Mend::Root, |d| {
        let last = d.coinbase().output.last_mut().expect("outputs");
        let mut script = last.script_pubkey.to_bytes();
        script[20] ^= 1;
        last.script_pubkey = script.into();
    }),
    ("witness-commitment-tag", "unexpected-witness", Mend::Root, |d| {
        let last = d.coinbase().output.last_mut().expect("outputs");
        let mut script = last.script_pubkey.to_bytes();
        script[5] ^= 1;
        last.script_pubkey = script.into();
    }),
    ("witness-changed", "bad-witness-merkle-match", Mend::Nothing, |d| {
        d.first().input[0].witness = Witness::from_slice(&[vec![1], vec![0x51]]);
    }),
    ("witness-uncommitted", "unexpected-witness", Mend::Root, |d| drop(d.coinbase().output.pop())),
    ("script-witness-program", "block-script-verify-flag-failed (Witness program hash mismatch)", Mend::All, |d| {
        d.first().input[0].witness = Witness::from_slice(&[[0x52]]);
    }),
    (
        "script-no-witness",
        "block-script-verify-flag-failed (Witness program was passed an empty witness)",
        Mend::All,
        |d| {
            d.first().input[0].witness = Witness::new();
        },
    ),
    ("script-sig-with-witness", "block-script-verify-flag-failed (Witness requires empty scriptSig)", Mend::All, |d| {
        d.block.txdata[2].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    }),
];

/// Names of all mutations.
pub(crate) fn names() -> Vec<&'static str> {
    CATALOGUE.iter().map(|(name, ..)| *name).collect()
}

fn draft(world: &mut World) -> Block {
    let first = spend(&[world.rewards[0], world.rewards[1]], &[Amount::from_sat(1_000), Amount::from_sat(2_000)]);
    let from = OutPoint { txid: first.compute_txid(), vout: 0 };
    let second = spend(&[from], &[Amount::from_sat(500)]);
    world.block(vec![first, second])
}

/// The reason of each mutation.
pub(crate) fn reasons() -> Vec<&'static str> {
    CATALOGUE.iter().map(|(_, reason, ..)| *reason).collect()
}

/// A block with the mutation at a place of the catalogue.
pub(crate) fn mutant(world: &mut World, at: usize) -> Block {
    let (_, _, mend, mutate) = CATALOGUE[at];
    let mut draft = Draft { block: draft(world), world };
    mutate(&mut draft);
    let mut block = draft.block;
    match mend {
        Mend::All => seal(&mut block),
        Mend::Root => {
            block.header.merkle_root = block.compute_merkle_root().expect("transactions");
            mine(&mut block.header);
        }
        Mend::Work => mine(&mut block.header),
        Mend::Nothing => {}
    }
    block
}

#[test]
fn every_mutation_is_refused_by_both_for_its_reason() {
    let mut world = World::new();
    let mut wrong = Vec::new();
    for (at, (name, reason, ..)) in CATALOGUE.iter().enumerate() {
        println!("{name}");
        let block = mutant(&mut world, at);
        let found = world.pair.give(&block);
        if found.as_deref() != Some(*reason) {
            wrong.push(format!("{name}: {reason} expected, {found:?} found"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} mutations refused", CATALOGUE.len());
    // What they were made from is valid.
    let block = draft(&mut world);
    assert_eq!(world.pair.give(&block), None);
}

/// Each kind of coin with a signature that is not its own.
#[test]
fn a_signature_for_something_else_is_refused_for_every_kind() {
    let mut world = World::new();
    for kind in crate::coins::KINDS {
        let coin = world.take(kind);
        let output = |value| vec![TxOut { value: Amount::from_sat(value), script_pubkey: anyone_can_spend() }];
        let mut tx = world.purse.pay(std::slice::from_ref(&coin), output(VALUE));
        tx.output = output(VALUE - 1);
        let block = world.block(vec![tx]);
        let reason = world.pair.give(&block).unwrap_or_else(|| panic!("{kind:?}"));
        let expected = match kind {
            Kind::TrKey | Kind::TrChecksig | Kind::TrChecksigadd => "Invalid Schnorr signature",
            _ => "Script evaluated without error but finished with a false/empty top stack element",
        };
        assert_eq!(reason, format!("block-script-verify-flag-failed ({expected})"), "{kind:?}");
    }
}
