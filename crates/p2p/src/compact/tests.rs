//! Core's blockencodings_tests, and what a hostile peer may send.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, Network, OutPoint, Sequence, TxIn, TxMerkleNode, TxOut, Txid, Witness};
use cairn_consensus::block::{add_witness_reserved_value, witness_commitment_output};
use proptest::prelude::*;

const NONCE: u64 = 42;

/// Transactions that differ by their number, without witnesses.
pub(super) fn transaction(n: u64) -> Transaction {
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([7; 32]), 0),
            sequence: Sequence::MAX,
            ..TxIn::default()
        }],
        output: vec![TxOut { value: Amount::from_sat(n), script_pubkey: vec![0x51].into() }],
    }
}

/// The same with a witness.
fn witness_transaction(n: u64) -> Transaction {
    let mut tx = transaction(n);
    tx.input[0].witness = Witness::from_slice(&[n.to_le_bytes()]);
    tx
}

fn regtest() -> Params {
    Params::new(Network::Regtest).expect("supported")
}

fn header() -> Header {
    Header {
        version: Version::from_consensus(42),
        prev_blockhash: BlockHash::from_byte_array([3; 32]),
        merkle_root: TxMerkleNode::from_byte_array([4; 32]),
        time: 5,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    }
}

/// A block of these transactions behind a coinbase. That nobody mined it is another's to say.
fn block(transactions: Vec<Transaction>) -> Block {
    let mut coinbase = transaction(50);
    coinbase.input[0].previous_output = OutPoint::null();
    let mut block = Block { header: header(), txdata: vec![coinbase] };
    block.txdata.extend(transactions);
    let commitment = witness_commitment_output(&block);
    block.txdata[0].output.push(commitment);
    add_witness_reserved_value(&mut block, 1, &regtest());
    block.header.merkle_root = block.compute_merkle_root().expect("transactions");
    block
}

type Pool = Vec<(Wtxid, Arc<Transaction>)>;

fn pool(transactions: &[Transaction]) -> Pool {
    transactions.iter().map(|tx| (tx.compute_wtxid(), Arc::new(tx.clone()))).collect()
}

fn extra(transactions: &[Transaction]) -> ExtraPool {
    let mut extra = ExtraPool::default();
    transactions.iter().for_each(|tx| extra.add(Arc::new(tx.clone())));
    extra
}

/// What a peer makes of a compact block that came over the wire.
fn receive(
    compact: &HeaderAndShortIds,
    mempool: &Pool,
    extra: &ExtraPool,
) -> Result<PartiallyDownloadedBlock, CompactBlockError> {
    let compact = deserialize(&serialize(compact)).expect("as it was sent");
    PartiallyDownloadedBlock::new(compact, mempool.iter().map(|(wtxid, tx)| (wtxid, tx)), extra)
}

fn fill(partial: &PartiallyDownloadedBlock, missing: &[Transaction]) -> Result<Block, CompactBlockError> {
    partial.clone().fill(missing.to_vec(), 1, &regtest())
}

fn available(partial: &PartiallyDownloadedBlock, count: usize) -> Vec<bool> {
    (0..count).map(|index| partial.is_tx_available(index)).collect()
}

fn three() -> Block {
    block(vec![witness_transaction(1), witness_transaction(2)])
}

#[test]
fn simple_round_trip() {
    let block = three();
    let partial =
        receive(&compact_block(&block, NONCE), &pool(&block.txdata[2..]), &ExtraPool::default()).expect("good");
    assert_eq!(available(&partial, 4), [true, false, true, false]);
    assert_eq!(partial.header(), &block.header);
    assert_eq!(partial.missing(), BlockTransactionsRequest { block_hash: block.block_hash(), indexes: vec![1] });

    assert!(matches!(fill(&partial, &[]), Err(Invalid(_))), "too few");
    assert!(matches!(fill(&partial, &block.txdata[1..]), Err(Invalid(_))), "too many");
    assert!(matches!(fill(&partial, &block.txdata[2..]), Err(Failed(_))), "another");
    let mut stripped = block.txdata[1].clone();
    stripped.input[0].witness.clear();
    assert!(matches!(fill(&partial, &[stripped]), Err(Failed(_))), "without its witness");
    assert_eq!(fill(&partial, &block.txdata[1..2]), Ok(block));
}

#[test]
fn a_transaction_other_than_the_coinbase_is_prefilled() {
    let block = three();
    let mut compact = compact_block(&block, NONCE);
    let keys = ShortId::calculate_siphash_keys(&block.header, NONCE);
    let short_id = |index: usize| ShortId::with_siphash_keys(&block.txdata[index].compute_wtxid(), keys);
    compact.prefilled_txs = vec![PrefilledTransaction { idx: 1, tx: block.txdata[1].clone() }];
    compact.short_ids = vec![short_id(0), short_id(2)];
    let partial = receive(&compact, &pool(&block.txdata[2..]), &ExtraPool::default()).expect("good");
    assert_eq!(available(&partial, 3), [false, true, true]);
    assert!(matches!(fill(&partial, &[]), Err(Invalid(_))));
    assert!(matches!(fill(&partial, &block.txdata[1..2]), Err(Failed(_))));
    assert_eq!(fill(&partial, &block.txdata[..1]), Ok(block));
}

#[test]
fn enough_is_prefilled() {
    let block = three();
    let mut compact = compact_block(&block, NONCE);
    // Its index is 1 after the first one's.
    compact.prefilled_txs.push(PrefilledTransaction { idx: 1, tx: block.txdata[2].clone() });
    compact.short_ids.pop();
    let partial = receive(&compact, &pool(&block.txdata[1..2]), &ExtraPool::default()).expect("good");
    assert_eq!(available(&partial, 3), [true; 3]);
    assert_eq!(fill(&partial, &[]), Ok(block));
}

#[test]
fn empty_block_round_trip() {
    let block = block(Vec::new());
    let partial = receive(&compact_block(&block, NONCE), &Pool::new(), &ExtraPool::default()).expect("good");
    assert!(partial.missing().indexes.is_empty());
    assert_eq!(fill(&partial, &[]), Ok(block));
}

#[test]
fn extra_transactions_are_used() {
    let block = three();
    let compact = compact_block(&block, NONCE);
    let mempool = pool(&block.txdata[2..]);
    let without = receive(&compact, &mempool, &extra(&[transaction(9)])).expect("good");
    assert_eq!(available(&without, 3), [true, false, true]);
    // One that the mempool has too stands in nobody's way.
    let with = [transaction(9), block.txdata[2].clone(), block.txdata[1].clone()];
    let with = receive(&compact, &mempool, &extra(&with)).expect("good");
    assert_eq!(available(&with, 3), [true; 3]);
    assert_eq!(fill(&with, &[]), Ok(block));
}

/// Numbers of transactions with the same short id beside [`header`] and [`NONCE`], found by searching.
const COLLISION: (u64, u64) = (683_786, 2_419_318);

#[test]
fn two_transactions_here_with_the_same_short_id_are_both_left_out() {
    let (a, b) = (transaction(COLLISION.0), transaction(COLLISION.1));
    let block = Block { header: header(), txdata: vec![transaction(50), a.clone(), transaction(3)] };
    let compact = compact_block(&block, NONCE);
    let others = [b.clone(), transaction(3)];
    for (mempool, extras, found) in [
        (vec![], vec![], false),
        (vec![a.clone()], vec![], true),
        (vec![b.clone()], vec![], true),
        (vec![a.clone(), b.clone()], vec![], false),
        (vec![a.clone()], vec![b.clone()], false),
        (vec![], vec![a.clone(), b.clone()], false),
        // A third time is once too often as well.
        (vec![a.clone(), b.clone()], vec![a.clone()], false),
        // Once all are found nobody looks further.
        (vec![transaction(3), a.clone()], others.to_vec(), true),
    ] {
        let partial = receive(&compact, &pool(&mempool), &extra(&extras)).expect("good");
        assert_eq!(partial.is_tx_available(1), found, "{mempool:?} {extras:?}");
    }
}

#[test]
fn two_transactions_of_a_block_with_the_same_short_id_need_the_block() {
    let (a, b) = (transaction(COLLISION.0), transaction(COLLISION.1));
    let block = Block { header: header(), txdata: vec![transaction(50), a, b] };
    let refused = receive(&compact_block(&block, NONCE), &Pool::new(), &ExtraPool::default());
    assert!(matches!(refused, Err(Failed(_))));
}

#[test]
fn a_transaction_here_with_the_short_id_of_another_needs_the_block() {
    let block = three();
    // As if its wtxid had that short id.
    let mempool = vec![(block.txdata[1].compute_wtxid(), Arc::new(transaction(8)))];
    let partial = receive(&compact_block(&block, NONCE), &mempool, &ExtraPool::default()).expect("good");
    assert_eq!(partial.missing().indexes, [2]);
    assert!(matches!(fill(&partial, &block.txdata[2..]), Err(Failed(_))));
}

fn refused(change: impl Fn(&mut HeaderAndShortIds)) {
    let mut compact = compact_block(&three(), NONCE);
    receive(&compact, &Pool::new(), &ExtraPool::default()).expect("good");
    change(&mut compact);
    let result = receive(&compact, &Pool::new(), &ExtraPool::default());
    assert!(matches!(result, Err(Invalid(_))), "{result:?}");
}

#[test]
fn what_no_honest_peer_sends_is_invalid() {
    refused(|compact| compact.header.bits = CompactTarget::from_consensus(0));
    refused(|compact| {
        compact.short_ids.clear();
        compact.prefilled_txs.clear();
    });
    refused(|compact| {
        let tx = &mut compact.prefilled_txs[0].tx;
        tx.input.clear();
        tx.output.clear();
    });
    // Beyond the transactions, at once, by the sum, and by more than 16 bits.
    refused(|compact| compact.prefilled_txs[0].idx = 3);
    refused(|compact| compact.prefilled_txs.push(PrefilledTransaction { idx: 3, tx: transaction(1) }));
    refused(|compact| {
        let far = PrefilledTransaction { idx: u16::MAX, tx: transaction(1) };
        compact.prefilled_txs = vec![far.clone(), far];
    });
}

#[test]
fn a_compact_block_has_no_more_transactions_than_indexes() {
    let ids = |count: u32| {
        let id = |n: u32| ShortId::from([n.to_le_bytes().as_slice(), &[0, 0]].concat().try_into().unwrap_or([0; 6]));
        (0..count).map(id).collect::<Vec<_>>()
    };
    let mut compact = compact_block(&three(), NONCE);
    let most = MAX_COMPACT_BLOCK_TRANSACTIONS as u32;
    compact.short_ids = ids(most - 1);
    let partial = PartiallyDownloadedBlock::new(compact.clone(), [], &ExtraPool::default()).expect("as many as can be");
    assert_eq!(partial.missing().indexes.len(), MAX_COMPACT_BLOCK_TRANSACTIONS - 1);
    compact.short_ids = ids(most);
    let refused = PartiallyDownloadedBlock::new(compact, [], &ExtraPool::default());
    assert!(matches!(refused, Err(Invalid(_))));
}

#[test]
fn getblocktxn_is_answered_within_the_block() {
    let block = three();
    let request =
        |indexes: &[u64]| BlockTransactionsRequest { block_hash: block.block_hash(), indexes: indexes.to_vec() };
    let answer = block_transactions(&block, &request(&[0, 2])).expect("within");
    assert_eq!(answer.block_hash, block.block_hash());
    assert_eq!(answer.transactions, [block.txdata[0].clone(), block.txdata[2].clone()]);
    assert_eq!(block_transactions(&block, &request(&[])).expect("nothing").transactions, []);
    for beyond in [3, u64::from(u16::MAX), u64::MAX] {
        assert!(matches!(block_transactions(&block, &request(&[0, beyond])), Err(Invalid(_))));
    }
}

/// Core's TransactionsRequest*Test.
#[test]
fn indexes_are_told_by_their_differences() {
    let read = |deltas: &[u64]| {
        let mut bytes = [3; 32].to_vec();
        for number in std::iter::once(deltas.len() as u64).chain(deltas.iter().copied()) {
            bytes.extend(serialize(&bitcoin::VarInt(number)));
        }
        deserialize::<BlockTransactionsRequest>(&bytes)
    };
    assert_eq!(read(&[0, 0, 1, 0]).expect("good").indexes, [0, 1, 3, 4]);
    assert_eq!(read(&[0xffff]).expect("good").indexes, [0xffff]);
    // They only ever grow: a sum that wraps is none.
    assert_eq!(read(&[0x7000, 0x1_0000 - 0x7000 - 2, 0]).expect("good").indexes, [0x7000, 0xffff, 0x1_0000]);
    assert!(read(&[u64::MAX]).is_err());
    assert!(read(&[1, u64::MAX - 2, 0]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_here_a_block_arrives_whole(
        count in 0u64..80, here in proptest::collection::vec(any::<bool>(), 80), others in 0u64..50, extras in 0usize..20,
        nonce: u64, rotate in 0usize..100,
    ) {
        let transactions: Vec<_> = (0..count).map(|n| if n % 3 == 0 { transaction(n) } else { witness_transaction(n) }).collect();
        let block = block(transactions.clone());
        let known: Vec<_> = transactions.iter().zip(&here).filter(|(_, here)| **here).map(|(tx, _)| tx.clone()).collect();
        let (in_extra, in_mempool) = known.split_at(extras.min(known.len()));
        let mut mempool = pool(in_mempool);
        mempool.extend(pool(&(0..others).map(|n| witness_transaction(1_000 + n)).collect::<Vec<_>>()));
        let middle = rotate % mempool.len().max(1);
        mempool.rotate_left(middle);
        let partial = receive(&compact_block(&block, nonce), &mempool, &extra(in_extra)).expect("good");
        let request = partial.missing();
        let expected = here.iter().take(transactions.len()).enumerate().filter(|(_, here)| !**here);
        prop_assert_eq!(&request.indexes, &expected.map(|(n, _)| n as u64 + 1).collect::<Vec<_>>());
        let request = deserialize(&serialize(&request)).expect("as it was sent");
        let answer = block_transactions(&block, &request).expect("within the block");
        prop_assert_eq!(fill(&partial, &answer.transactions), Ok(block));
    }

    /// Nothing that decodes makes it panic, and what comes out is what the header commits to.
    #[test]
    fn hostile_compact_blocks_do_no_harm(
        ids in proptest::collection::vec(0u8..20, 0..20), prefilled in proptest::collection::vec((0u16..6, 0u64..9), 0..6),
        known in 0u64..9, given in proptest::collection::vec(0u64..9, 0..20),
    ) {
        let compact = HeaderAndShortIds {
            header: header(),
            nonce: NONCE,
            short_ids: ids.iter().map(|id| {
                let keys = ShortId::calculate_siphash_keys(&header(), NONCE);
                ShortId::with_siphash_keys(&transaction(u64::from(*id)).compute_wtxid(), keys)
            }).collect(),
            prefilled_txs: prefilled.iter().map(|&(idx, n)| PrefilledTransaction { idx, tx: transaction(n) }).collect(),
        };
        let mempool = pool(&(0..known).map(transaction).collect::<Vec<_>>());
        if let Ok(partial) = receive(&compact, &mempool, &ExtraPool::default()) {
            let missing = partial.missing().indexes.len();
            prop_assert!(missing <= ids.len());
            let given: Vec<_> = given.into_iter().map(transaction).collect();
            let filled = fill(&partial, &given);
            prop_assert_eq!(matches!(filled, Err(Invalid(_))), given.len() != missing);
            prop_assert!(filled.is_err());
        }
    }
}
