//! The other networks: blocks that were mined once for all, and a signet whose blocks are mined here.

#[path = "../../crates/consensus/tests/vectors/core_data.rs"]
mod core_data;

use crate::coins::{Purse, push};
use crate::engines::{Net, Pair, now};
use bitcoin::consensus::encode::{deserialize_hex, serialize};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG};
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, BlockHash, CompactTarget, Network, ScriptBuf, Transaction, TxOut, Witness};
use cairn_chain::testing::block_after;
use cairn_consensus::block::{coinbase_height, txids};
use cairn_consensus::sighash::legacy_sighash;
use cairn_consensus::signet::signet_transactions;
use cairn_mining::signet::{SignetKey, new_signet};
use cairn_mining::{build_block_with, mine_sealed};
use std::sync::atomic::AtomicBool;

const NETWORKS: [Network; 4] = [Network::Bitcoin, Network::Testnet4, Network::Signet, Network::Regtest];

/// The first blocks of mainnet after the genesis block.
const MAINNET: [&str; 2] = [
    "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e362990101000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0104ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000",
    "010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5addedf24858b8bb665c9f36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd610101000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d010bffffffff0100f2052a010000004341047211a824f55b505228e4c3d5194c1fcfaa15a456abdf37f9b9d97a4040afc073dee6c89064984f03385237d92167c13e236446b417ab79a0fcae412ae3316b77ac00000000",
];

/// Ways to change a block's transactions, which its header does not commit to then.
fn with_other_transactions(block: &Block) -> Vec<Block> {
    let changes: [fn(&mut Vec<Transaction>); 4] = [
        |txdata| txdata[0].output[0].value += Amount::ONE_SAT,
        |txdata| txdata.push(txdata[0].clone()),
        Vec::clear,
        |txdata| txdata[0].input[0].script_sig = ScriptBuf::new(),
    ];
    let changed = |change: &fn(&mut Vec<Transaction>)| {
        let mut block = block.clone();
        change(&mut block.txdata);
        block
    };
    changes.iter().map(changed).collect()
}

#[test]
fn genesis_blocks_are_known_and_nothing_is_free() {
    for network in NETWORKS {
        let net = Net::Known(network);
        let (pair, params) = (Pair::on(&net), net.params());
        assert_eq!(pair.give(&params.genesis), None, "{network}");
        for block in with_other_transactions(&params.genesis) {
            assert_eq!(pair.give(&block).as_deref(), Some("bad-txnmrklroot"), "{network}");
        }
        // Targets that are none, that are above the limit, or that the hash does not meet.
        for bits in [0, 0x0100_0000, 0x2080_0001, 0xff12_3456, 0x2100_ffff, 0x0400_0001, 0x1b00_ffff] {
            let mut block = block_after(&params.genesis.header, 1, 0, Vec::new());
            block.header.bits = CompactTarget::from_consensus(bits);
            assert_eq!(pair.give(&block).as_deref(), Some("high-hash"), "{network} {bits:08x}");
            assert_eq!(pair.give_header(&block.header).as_deref(), Some("high-hash"), "{network} {bits:08x}");
        }
    }
}

#[test]
fn first_blocks_of_mainnet_are_taken() {
    let pair = Pair::on(&Net::Known(Network::Bitcoin));
    let blocks = MAINNET.map(|hex| deserialize_hex::<Block>(hex).expect("a block"));
    assert_eq!(pair.give(&blocks[1]).as_deref(), Some("prev-blk-not-found"));
    for block in &blocks {
        for other in with_other_transactions(block) {
            assert_eq!(pair.give(&other).as_deref(), Some("bad-txnmrklroot"));
        }
        assert_eq!(pair.give_header(&block.header), None);
        assert_eq!(pair.give(block), None);
        assert_eq!(pair.tip(), block.block_hash());
    }
    // They have the proof of work that testnet4 asks for, and no place there.
    let elsewhere = Pair::on(&Net::Known(Network::Testnet4));
    assert_eq!(elsewhere.give(&blocks[0]).as_deref(), Some("prev-blk-not-found"));
}

/// Blocks of another test network, whose work is real, fail for their place alone.
#[test]
fn blocks_of_testnet3_have_no_place() {
    let cases = core_data::load_cases("blockfilters.json");
    assert_eq!(cases.len(), 10);
    for network in NETWORKS {
        let pair = Pair::on(&Net::Known(network));
        for case in &cases {
            let block: Block = deserialize_hex(case[2].as_str().expect("hex")).expect("a block");
            let expected = match network {
                // Their solutions are asked for before their parents.
                Network::Signet => "bad-signet-blksig",
                _ => "prev-blk-not-found",
            };
            assert_eq!(pair.give(&block).as_deref(), Some(expected), "{network} {}", block.block_hash());
            for other in with_other_transactions(&block) {
                let expected = if network == Network::Signet { expected } else { "bad-txnmrklroot" };
                assert_eq!(pair.give(&other).as_deref(), Some(expected), "{network} {}", block.block_hash());
            }
        }
    }
}

/// A chain that Core's own wallet and miner made, which the tests of its library carry.
#[test]
fn a_chain_made_by_core_is_taken() {
    let path = core_data::package("bitcoinkernel").join("tests/block_data.txt");
    let text = std::fs::read_to_string(path).expect("read");
    let pair = Pair::new();
    let mut spends = 0;
    for line in text.lines() {
        let block: Block = deserialize_hex(line).expect("a block");
        assert_eq!(pair.give(&block), None);
        spends += block.txdata.len() - 1;
    }
    assert_eq!(pair.ours.tip().height as usize, text.lines().count());
    assert!(spends > 0);
    println!("{} blocks with {spends} payments", text.lines().count());
}

/// The alternate mainnet of Core's `mining_mainnet.py`: a whole difficulty period that was mined, and a block after it.
/// `CAIRN_ORACLE_MAINNET` is where its `mainnet_alt.json` is, which the packages of crates.io leave out.
#[test]
#[ignore = "needs test/functional/data/mainnet_alt.json of Core's sources"]
fn an_alternate_mainnet_retargets() {
    let path = std::env::var("CAIRN_ORACLE_MAINNET").expect("CAIRN_ORACLE_MAINNET names the file");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    let number = |name: &str, n: usize| file[name][n].as_u64().and_then(|n| u32::try_from(n).ok()).expect("a number");
    let script = ScriptBuf::from_hex("76a914eadbac7f36c37e39361168b7aaee3cb24a25312d88ac").expect("hex");
    let pair = Pair::on(&Net::Known(Network::Bitcoin));
    for height in 1..=2_016u32 {
        let n = height as usize - 1;
        let mut block = block_after(&pair.ours.tip().header, height, 0, Vec::new());
        let coinbase = &mut block.txdata[0];
        coinbase.output.truncate(1);
        coinbase.output[0] = TxOut { value: Amount::from_int_btc(50), script_pubkey: script.clone() };
        coinbase.input[0].witness = Witness::new();
        let padding: &[u8] = if height <= 16 { &[0] } else { &[] };
        coinbase.input[0].script_sig = [coinbase_height(height).as_bytes(), padding].concat().into();
        root(&mut block);
        block.header.time = number("timestamps", n);
        block.header.nonce = number("nonces", n);
        block.header.bits = CompactTarget::from_consensus(if height < 2_016 { 0x1d00_ffff } else { 0x1c3f_ffc0 });
        assert_eq!(pair.give_header(&block.header), None, "{height}");
        assert_eq!(pair.give(&block), None, "{height}");
    }
    assert_eq!(pair.ours.tip().height, 2_016);
}

/// Finds a proof of work, from where one is known to be.
fn mine(block: &mut Block, known: u32) {
    let (target, bytes) = (block.header.target(), serialize(&block.header));
    let mut start = sha256::Hash::engine();
    start.input(&bytes[..64]);
    block.header.nonce = known;
    loop {
        let mut engine = start.clone();
        engine.input(&bytes[64..76]);
        engine.input(&block.header.nonce.to_le_bytes());
        let hash = sha256::Hash::from_engine(engine).hash_again();
        if target.is_met_by(BlockHash::from_raw_hash(hash)) {
            break;
        }
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    if block.header.nonce != known {
        println!("a proof of work that is not known yet: {}", block.header.nonce);
    }
}

/// What a signet's block has in place of a right solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Solution {
    Right,
    None,
    OfAnotherKey,
    WithMore,
    Cut,
}

/// A signet of one key, and its blocks.
struct Signet {
    pair: Pair,
    purse: Purse,
    challenge: ScriptBuf,
}

impl Signet {
    fn new() -> Self {
        let purse = Purse::new();
        let key = purse.key(0);
        let challenge =
            Builder::new().push_int(1).push_key(&key).push_int(1).push_opcode(OP_CHECKMULTISIG).into_script();
        Self { pair: Pair::on(&Net::Signet(challenge.clone())), purse, challenge }
    }

    fn draft(&self) -> Block {
        let tip = self.pair.ours.tip();
        let mut block = block_after(&tip.header, tip.height + 1, 0, Vec::new());
        block.header.bits = CompactTarget::from_consensus(0x1e03_77ae);
        block
    }

    /// Appends a solution to the commitment, and makes the root good; the proof of work is still to be found.
    fn solve(&self, block: &mut Block, solution: Solution) {
        if solution == Solution::None {
            return root(block);
        }
        // What is signed has the header of the section and not yet the solution.
        const HEADER: [u8; 4] = [0xec, 0xc7, 0xda, 0xa2];
        let commitment = |block: &mut Block, section: Vec<u8>| {
            let script = &mut block.txdata[0].output.last_mut().expect("outputs").script_pubkey;
            *script = [&script.as_bytes()[..38], push(&[section]).as_bytes()].concat().into();
        };
        commitment(block, HEADER.to_vec());
        let (_, to_sign) = signet_transactions(block, &txids(block), &self.challenge).expect("a commitment");
        let hash = legacy_sighash(&to_sign, 0, self.challenge.as_bytes(), 1);
        let key = usize::from(solution == Solution::OfAnotherKey);
        let script_sig = push(&[vec![], self.purse.ecdsa(key, hash, 1)]);
        let mut section = [&HEADER[..], &serialize(&script_sig), &serialize(&Witness::new())].concat();
        match solution {
            Solution::WithMore => section.push(0),
            Solution::Cut => drop(section.pop()),
            _ => {}
        }
        commitment(block, section);
        root(block);
    }
}

fn root(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().expect("transactions");
}

/// Its name, a change of the block, what its solution is, why it is refused, and where its proof of work is found.
type SignetCase = (&'static str, fn(&mut Block), Solution, Option<&'static str>, u32);

const BAD: Option<&str> = Some("bad-signet-blksig");

const SIGNET: [SignetCase; 11] = [
    ("signet-unsolved", |_| {}, Solution::None, BAD, 2_463_665),
    ("signet-other-key", |_| {}, Solution::OfAnotherKey, BAD, 5_084_883),
    ("signet-solution-with-more", |_| {}, Solution::WithMore, BAD, 5_420_723),
    ("signet-solution-cut", |_| {}, Solution::Cut, BAD, 7_365_234),
    ("signet-no-commitment", |block| drop(block.txdata[0].output.pop()), Solution::None, BAD, 511_555),
    ("signet-old", |block| block.header.time = 0, Solution::Right, Some("time-too-old"), 600_952),
    (
        "signet-harder",
        |block| block.header.bits = CompactTarget::from_consensus(0x1e03_77ad),
        Solution::Right,
        Some("bad-diffbits"),
        4_228_013,
    ),
    (
        "signet-greedy",
        |block| block.txdata[0].output[0].value += Amount::ONE_SAT,
        Solution::Right,
        Some("bad-cb-amount"),
        253_425,
    ),
    (
        "signet-sigops",
        |block| block.txdata[0].output[0].script_pubkey = vec![OP_CHECKSIG.to_u8(); 20_001].into(),
        Solution::Right,
        Some("bad-blk-sigops"),
        3_108_774,
    ),
    (
        "signet-height",
        |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x53, 0]),
        Solution::Right,
        Some("bad-cb-height"),
        5_372_162,
    ),
    ("signet-solved", |_| {}, Solution::Right, None, 6_100_009),
];

/// Names of all cases.
pub(crate) fn names() -> Vec<&'static str> {
    SIGNET.iter().map(|(name, ..)| *name).collect()
}

#[test]
fn a_signet_asks_for_solutions() {
    let signet = Signet::new();
    for (name, change, solution, reason, nonce) in SIGNET {
        let mut block = signet.draft();
        change(&mut block);
        signet.solve(&mut block, solution);
        mine(&mut block, nonce);
        assert_eq!(signet.pair.give(&block).as_deref(), reason, "{name}");
        // The solution is of the transactions, not of the root in the header.
        block.txdata[0].lock_time = bitcoin::absolute::LockTime::from_consensus(1);
        assert_eq!(signet.pair.give(&block).as_deref(), BAD, "{name}");
    }
    assert_eq!(signet.pair.ours.tip().height, 1);
}

/// Blocks that our miner makes of a signet, of a key, of two of three and of three of five.
#[test]
fn blocks_that_our_miner_signs_are_taken() {
    for (keys, required) in [(1, 1), (3, 2), (5, 3)] {
        let signet = new_signet(keys, required).expect("so many keys");
        let descriptors = signet.keys[keys - required..].iter().map(|key| &*key.descriptor);
        let key = SignetKey::new(descriptors, &signet.challenge).expect("enough keys");
        let pair = Pair::on(&Net::Signet(signet.challenge.clone()));
        let stop = AtomicBool::new(false);
        let script = ScriptBuf::from_bytes(vec![0x51]);
        let mut block = build_block_with(&pair.ours, Vec::new(), &script, now()).expect("a block");
        let mut unsigned = block.clone();
        cairn_mining::mine(&mut unsigned, &stop).expect("mined");
        assert_eq!(pair.give(&unsigned).as_deref(), BAD, "{required} of {keys}");
        mine_sealed(&mut block, &stop, |block| key.solve(block)).expect("mined");
        assert_eq!(pair.give(&block), None, "{required} of {keys}");
        assert_eq!(pair.tip(), block.block_hash());
    }
}

/// A challenge that is always solved needs no solution, and takes none that cannot be read.
#[test]
fn a_signet_for_everybody() {
    let pair = Pair::on(&Net::Signet(ScriptBuf::from_bytes(vec![0x51])));
    for (section, reason, nonce) in [
        (&[1u8, 0x51][..], Some("bad-signet-blksig"), 89_900),
        (&[1, 0x51, 0, 0], Some("bad-signet-blksig"), 12_753_006),
        (&[1, 0x51, 0], None, 6_599_384),
        (&[], None, 641_614),
    ] {
        let tip = pair.ours.tip();
        let mut block = block_after(&tip.header, tip.height + 1, 0, Vec::new());
        block.header.bits = CompactTarget::from_consensus(0x1e03_77ae);
        let commitment = &mut block.txdata[0].output.last_mut().expect("outputs").script_pubkey;
        let section = push(&[[&[0xec, 0xc7, 0xda, 0xa2], section].concat()]);
        *commitment = [commitment.as_bytes(), section.as_bytes()].concat().into();
        root(&mut block);
        mine(&mut block, nonce);
        assert_eq!(pair.give(&block).as_deref(), reason);
    }
    assert_eq!(pair.ours.tip().height, 2);
}
