//! Blocks exactly at a limit, which both take, and the nearest beyond it, which both refuse.

use crate::coins::{Coin, Kind, VALUE, World, push};
use crate::limits::of_length;
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_RETURN};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use cairn_chain::testing::{anyone_can_spend, block_after, mine, reward, seal, spend};
use cairn_consensus::block::coinbase_height;

/// A chain, and coins that anyone can spend.
struct Edge {
    world: World,
    coins: Vec<OutPoint>,
    /// Height of the block that made the coins.
    made: u32,
}

impl Edge {
    fn height(&self) -> u32 {
        self.world.pair.ours.tip().height + 1
    }

    fn median(&self) -> u32 {
        self.world.pair.ours.tip().median_time_past
    }

    /// Spends a coin to outputs.
    fn pay(&mut self, output: Vec<TxOut>) -> Transaction {
        let coin = self.coins.pop().expect("enough coins");
        Transaction { output, ..spend(&[coin], &[]) }
    }

    /// Spends a coin to an output, and that to one of one satoshi, by these.
    fn pay_and_spend(&mut self, script: ScriptBuf, script_sig: ScriptBuf, witness: &[Vec<u8>]) -> [Transaction; 2] {
        let parent = self.pay(vec![output(10, script)]);
        let mut child = spend(&[OutPoint { txid: parent.compute_txid(), vout: 0 }], &[Amount::ONE_SAT]);
        child.input[0].script_sig = script_sig;
        child.input[0].witness = Witness::from_slice(witness);
        [parent, child]
    }

    fn block(&mut self, transactions: impl Into<Vec<Transaction>>) -> Block {
        self.world.block(transactions.into())
    }

    /// A block with so many legacy signature operations and these transactions.
    fn with_sigops(&mut self, count: u64, mut transactions: Vec<Transaction>) -> Block {
        transactions.push(self.pay(vec![output(0, vec![OP_CHECKSIG.to_u8(); count as usize].into())]));
        self.block(transactions)
    }

    /// A transaction that spends so many coins of a kind.
    fn spend_kind(&mut self, kind: Kind, count: u64) -> Transaction {
        let coins: Vec<Coin> = (0..count).map(|_| self.world.take(kind)).collect();
        self.world.purse.pay(&coins, vec![output(1, anyone_can_spend())])
    }

    /// A block whose coinbase takes too much, refused by both.
    fn refused(&mut self) -> Block {
        let mut block = self.block([]);
        block.txdata[0].output[0].value += Amount::ONE_SAT;
        seal(&mut block);
        assert_eq!(self.world.pair.give(&block).as_deref(), Some("bad-cb-amount"));
        block
    }

    fn taken(&mut self) -> Block {
        let block = self.block([]);
        assert_eq!(self.world.pair.give(&block), None);
        block
    }
}

fn output(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}

/// A script with signature operations that are not run.
fn not_run(operations: &[u8]) -> Vec<u8> {
    [&[0x00, 0x63][..], operations, &[0x68, 0x51]].concat()
}

/// Makes root and proof of work good, but no commitment.
fn root(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().expect("transactions");
    mine(&mut block.header);
}

/// The script of the commitment, which is the coinbase's last output.
fn commitment(block: &mut Block) -> &mut ScriptBuf {
    &mut block.txdata[0].output.last_mut().expect("outputs").script_pubkey
}

/// Its name, the reason beyond it, and a block: `over` is 0 for the valid one and 1 for the other.
type Limit = (&'static str, &'static str, fn(&mut Edge, over: u64) -> Block);

const NONFINAL: &str = "bad-txns-nonfinal";
const SIGOPS: &str = "bad-blk-sigops";
const UNEXPECTED: &str = "unexpected-witness";
const MISMATCH: &str = "bad-witness-merkle-match";

const LIMITS: &[Limit] = &[
    ("limit-header-version", "bad-version(0x00000003)", |edge, over| {
        let mut block = edge.block([]);
        block.header.version = Version::from_consensus(4 - over as i32);
        mine(&mut block.header);
        block
    }),
    ("limit-header-time", "time-too-old", |edge, over| {
        let mut block = edge.block([]);
        block.header.time = edge.median() + 1 - over as u32;
        mine(&mut block.header);
        block
    }),
    ("limit-coinbase-amount", "bad-cb-amount", |edge, over| {
        let tx = edge.pay(vec![output(VALUE - 777, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        block.txdata[0].output[0].value += Amount::from_sat(777 + over);
        seal(&mut block);
        block
    }),
    ("limit-coinbase-script", "bad-cb-length", |edge, over| {
        let mut block = edge.block([]);
        let mut script = block.txdata[0].input[0].script_sig.to_bytes();
        script.resize(100 + over as usize, 0);
        block.txdata[0].input[0].script_sig = script.into();
        seal(&mut block);
        block
    }),
    ("limit-maturity", "bad-txns-premature-spend-of-coinbase", |edge, over| {
        let made = edge.world.pair.ours.entry_at(edge.height() - 100 + over as u32).expect("a block");
        let made = edge.world.pair.ours.block(&made.hash).expect("read").expect("here");
        edge.block([spend(&[reward(&made)], &[Amount::ONE_SAT])])
    }),
    ("limit-value-out", "bad-txns-in-belowout", |edge, over| {
        let tx = edge.pay(vec![output(VALUE + over, anyone_can_spend())]);
        edge.block([tx])
    }),
    ("limit-unspendable", "bad-txns-inputs-missingorspent", |edge, over| {
        let script = of_length(10_000 + over as usize).into();
        let transactions = edge.pay_and_spend(script, ScriptBuf::new(), &[]);
        edge.block(transactions)
    }),
    ("limit-weight", "bad-blk-weight", |edge, over| {
        let program = ScriptBuf::from_bytes([&[0x52, 32][..], &[1; 32]].concat());
        let mut transactions = edge.pay_and_spend(program, ScriptBuf::new(), &[vec![0; 3_900_000]]);
        let missing = 4_000_000 + over - edge.block(transactions.clone()).weight().to_wu();
        transactions[1].input[0].witness = Witness::from_slice(&[vec![0; 3_900_000 + missing as usize]]);
        let block = edge.block(transactions);
        assert_eq!(block.weight().to_wu(), 4_000_000 + over);
        block
    }),
    ("limit-length", "bad-blk-length", |edge, over| {
        let mut block = edge.block([]);
        block.txdata[0].input[0].witness = Witness::new();
        *commitment(&mut block) = ScriptBuf::from_bytes(vec![OP_RETURN.to_u8(); 999_000]);
        let missing = 1_000_000 + over as usize - block.total_size();
        *commitment(&mut block) = ScriptBuf::from_bytes(vec![OP_RETURN.to_u8(); 999_000 + missing]);
        assert_eq!(block.total_size(), 1_000_000 + over as usize);
        root(&mut block);
        block
    }),
    ("limit-sigops", SIGOPS, |edge, over| edge.with_sigops(20_000 + over, vec![])),
    ("limit-sigops-multisig", SIGOPS, |edge, over| {
        let tx = edge.pay(vec![output(0, vec![OP_CHECKMULTISIG.to_u8(); 999].into())]);
        edge.with_sigops(20 + over, vec![tx])
    }),
    ("limit-sigops-sh", SIGOPS, |edge, over| {
        let script = not_run(&vec![OP_CHECKSIG.to_u8(); 1 + over as usize]);
        let output = ScriptBuf::from_bytes(script.clone()).to_p2sh();
        let transactions = edge.pay_and_spend(output, push(&[script]), &[]);
        edge.with_sigops(19_999, transactions.into())
    }),
    ("limit-sigops-sh-multisig", SIGOPS, |edge, over| {
        // Three keys, told by the number before; without one it would be twenty.
        let script = not_run(&[0x53, OP_CHECKMULTISIG.to_u8()]);
        let output = ScriptBuf::from_bytes(script.clone()).to_p2sh();
        let transactions = edge.pay_and_spend(output, push(&[script]), &[]);
        edge.with_sigops(19_997 + over, transactions.into())
    }),
    ("limit-sigops-wsh", SIGOPS, |edge, over| {
        let script = not_run(&vec![OP_CHECKSIG.to_u8(); 4 + over as usize]);
        let output = ScriptBuf::from_bytes(script.clone()).to_p2wsh();
        let transactions = edge.pay_and_spend(output, ScriptBuf::new(), &[script]);
        edge.with_sigops(19_999, transactions.into())
    }),
    ("limit-sigops-sh-wsh", SIGOPS, |edge, over| {
        let script = not_run(&vec![OP_CHECKSIG.to_u8(); 4 + over as usize]);
        let program = ScriptBuf::from_bytes(script.clone()).to_p2wsh();
        let transactions = edge.pay_and_spend(program.to_p2sh(), push(&[program.into_bytes()]), &[script]);
        edge.with_sigops(19_999, transactions.into())
    }),
    ("limit-sigops-wpkh", SIGOPS, |edge, over| {
        let tx = edge.spend_kind(Kind::Wpkh, 4 + over);
        edge.with_sigops(19_999, vec![tx])
    }),
    ("limit-sigops-sh-wpkh", SIGOPS, |edge, over| {
        let tx = edge.spend_kind(Kind::ShWpkh, 4 + over);
        edge.with_sigops(19_999, vec![tx])
    }),
    ("limit-lock-height", NONFINAL, |edge, over| {
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.lock_time = LockTime::from_consensus(edge.height() - 1 + over as u32);
        tx.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
        edge.block([tx])
    }),
    ("limit-lock-time", NONFINAL, |edge, over| {
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.lock_time = LockTime::from_consensus(edge.median() - 1 + over as u32);
        tx.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
        edge.block([tx])
    }),
    ("limit-lock-final", NONFINAL, |edge, over| {
        // A lock time holds if any input is not final.
        let inputs = [edge.coins.pop().expect("enough coins"), edge.coins.pop().expect("enough coins")];
        let mut tx = spend(&inputs, &[Amount::ONE_SAT]);
        tx.lock_time = LockTime::from_consensus(u32::MAX);
        tx.input[1].sequence = Sequence(u32::MAX - over as u32);
        edge.block([tx])
    }),
    ("limit-relative-height", NONFINAL, |edge, over| {
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.input[0].sequence = Sequence(edge.height() - edge.made + over as u32);
        edge.block([tx])
    }),
    ("limit-relative-time", NONFINAL, |edge, over| {
        // One unit of 512 seconds after the median before the coin, or a second earlier.
        let coin = edge.world.pair.ours.entry_at(edge.made - 1).expect("a block").median_time_past;
        for _ in 0..6 {
            let mut block = edge.block([]);
            block.header.time = coin + 512 - over as u32;
            mine(&mut block.header);
            assert_eq!(edge.world.pair.give(&block), None);
        }
        assert_eq!(edge.median(), coin + 512 - over as u32);
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.input[0].sequence = Sequence(1 << 22 | 1);
        edge.block([tx])
    }),
    ("limit-relative-version", NONFINAL, |edge, over| {
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.version = TxVersion(1 + over as i32);
        tx.input[0].sequence = Sequence(0xffff);
        edge.block([tx])
    }),
    ("limit-relative-version-negative", NONFINAL, |edge, over| {
        // Versions are unsigned.
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.version = TxVersion(1 - 2 * over as i32);
        tx.input[0].sequence = Sequence(0xffff);
        edge.block([tx])
    }),
    ("limit-relative-disabled", NONFINAL, |edge, over| {
        let mut tx = edge.pay(vec![output(1, anyone_can_spend())]);
        tx.input[0].sequence = Sequence((1 - over as u32) << 31 | 0xffff);
        edge.block([tx])
    }),
    ("limit-commitment-length", UNEXPECTED, |edge, over| {
        let tx = edge.pay(vec![output(1, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        let script = commitment(&mut block).to_bytes();
        assert_eq!(script.len(), 38);
        *commitment(&mut block) = ScriptBuf::from_bytes(script[..38 - over as usize].to_vec());
        root(&mut block);
        block
    }),
    ("limit-commitment-with-more", UNEXPECTED, |edge, over| {
        // What follows the hash means nothing; before it there is only the tag.
        let tx = edge.pay(vec![output(1, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        let mut script = commitment(&mut block).to_bytes();
        script.insert(if over == 0 { 38 } else { 1 }, 0x61);
        *commitment(&mut block) = script.into();
        root(&mut block);
        block
    }),
    ("limit-commitment-last", MISMATCH, |edge, over| {
        let tx = edge.pay(vec![output(1, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        let mut other = block.txdata[0].output[1].clone();
        let mut script = other.script_pubkey.to_bytes();
        script[20] ^= 1;
        other.script_pubkey = script.into();
        block.txdata[0].output.insert(1 + over as usize, other);
        root(&mut block);
        block
    }),
    ("limit-commitment-place", UNEXPECTED, |edge, over| {
        let tx = edge.pay(vec![output(1, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        if over == 0 {
            block.txdata[0].output.swap(0, 1);
        } else {
            let last = block.txdata[0].output.pop().expect("outputs");
            block.txdata[1].output.push(last);
        }
        root(&mut block);
        block
    }),
    ("limit-commitment-reserved", MISMATCH, |edge, over| {
        let tx = edge.pay(vec![output(1, anyone_can_spend())]);
        let mut block = edge.block([tx]);
        let reserved = [7; 32];
        block.txdata[0].input[0].witness = Witness::from_slice(&[reserved]);
        if over == 0 {
            let witnesses = block.witness_root().expect("transactions");
            let hash = Block::compute_witness_commitment(&witnesses, &reserved);
            let script = [&commitment(&mut block).as_bytes()[..6], hash.as_byte_array()].concat();
            *commitment(&mut block) = script.into();
        }
        root(&mut block);
        block
    }),
    ("limit-commitment-none", UNEXPECTED, |edge, over| {
        let mut block = edge.block([]);
        block.txdata[0].output.pop();
        if over == 0 {
            block.txdata[0].input[0].witness = Witness::new();
        }
        root(&mut block);
        block
    }),
    ("limit-tx-of-64-bytes", "bad-txns-in-belowout", |edge, over| {
        // It could be taken for an inner node of the merkle tree, and yet is valid.
        let tx = edge.pay(vec![output(VALUE + over, ScriptBuf::from_bytes(vec![0x51; 4]))]);
        assert_eq!(tx.base_size(), 64);
        edge.block([tx])
    }),
    ("limit-repeated", "duplicate-invalid", |edge, over| if over == 0 { edge.taken() } else { edge.refused() }),
    ("limit-parent", "bad-prevblk", |edge, over| {
        let parent = if over == 0 { edge.taken() } else { edge.refused() };
        let height = edge.height() + over as u32;
        block_after(&parent.header, height, 0, Vec::new())
    }),
    ("limit-mutated", "bad-txnmrklroot", |edge, over| {
        // The same header with other transactions: what was refused so does not condemn it.
        let block = edge.block([]);
        let mut other = block.clone();
        other.txdata[0].lock_time = LockTime::from_consensus(1);
        assert_eq!(edge.world.pair.give(&other).as_deref(), Some("bad-txnmrklroot"));
        if over == 0 { block } else { other }
    }),
];

/// Names of all limits.
pub(crate) fn names() -> Vec<&'static str> {
    LIMITS.iter().map(|(name, ..)| *name).collect()
}

#[test]
fn at_the_limit_is_valid_and_beyond_is_not() {
    let count = 3 * LIMITS.len();
    let (world, coins) = World::with(vec![anyone_can_spend(); count]);
    let made = world.pair.ours.tip().height;
    let mut edge = Edge { world, coins, made };
    let mut wrong = Vec::new();
    for (name, reason, build) in LIMITS {
        println!("{name}");
        let beyond = build(&mut edge, 1);
        let beyond = edge.world.pair.give(&beyond);
        let at = build(&mut edge, 0);
        let at = edge.world.pair.give(&at);
        if beyond.as_deref() != Some(*reason) || at.is_some() {
            wrong.push(format!("{name}: {reason} expected, {beyond:?} found; at the limit {at:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} limits", LIMITS.len());
}

/// BIP 34: the shortest push of the height, which up to 16 is one opcode.
#[test]
fn heights_are_written_in_one_way() {
    let pair = crate::engines::Pair::new();
    for height in 1..=130u32 {
        let tip = pair.ours.tip();
        let block = block_after(&tip.header, height, 0, Vec::new());
        let right = coinbase_height(height).into_bytes();
        let bytes = height.to_le_bytes();
        let others = [
            vec![1, bytes[0]],
            vec![2, bytes[0], 0],
            vec![3, bytes[0], 0, 0],
            vec![0x4c, 1, bytes[0]],
            coinbase_height(height + 1).into_bytes(),
            coinbase_height(height - 1).into_bytes(),
        ];
        for other in others.into_iter().filter(|other| !other.starts_with(&right)) {
            let mut block = block.clone();
            block.txdata[0].input[0].script_sig = [other, vec![0; 4]].concat().into();
            seal(&mut block);
            assert_eq!(pair.give(&block).as_deref(), Some("bad-cb-height"), "{height}");
        }
        let mut block = block;
        let padding = usize::from(right.len() < 2);
        block.txdata[0].input[0].script_sig = [right, vec![0; padding]].concat().into();
        seal(&mut block);
        assert_eq!(pair.give(&block), None, "{height}");
    }
}
