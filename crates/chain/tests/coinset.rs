//! All coins at once: counted, hashed, and written to a snapshot.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, OutPoint, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness, transaction};
use cairn_chain::testing::{MATURITY, NOW, anyone_can_spend, block_after, grow, mine, open, reward, spend, subsidy};
use cairn_chain::{Chain, ChainError, CoinHash};
use std::sync::Arc;

const HASHES: [CoinHash; 2] = [CoinHash::HashSerialized3, CoinHash::MuHash];

fn hash_now(chain: &Chain, hash: CoinHash) -> [u8; 32] {
    let coins = chain.coin_set(None, &|| true).expect("coins");
    coins.stats(hash, &|| true).expect("counted").hash.expect("a hash")
}

/// The chain that Core's `CreateBlockChain` (src/test/util/mining.cpp) makes.
fn chain_of_core(chain: &Chain, length: u32) {
    let genesis = chain.tip().header;
    let mut parent = genesis;
    for height in 1..=length {
        let script_sig = Builder::new().push_int(i64::from(height)).push_int(0).into_script();
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::from_consensus(height - 1),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig,
                sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
                witness: Witness::new(),
            }],
            output: vec![TxOut { value: subsidy(height), script_pubkey: anyone_can_spend() }],
        };
        let header = Header {
            version: Version::from_consensus(4),
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
            time: genesis.time + height,
            bits: genesis.bits,
            nonce: 0,
        };
        let mut block = Block { header, txdata: vec![coinbase] };
        mine(&mut block.header);
        parent = block.header;
        chain.process_block(Arc::new(block), NOW, false).expect("taken");
    }
}

#[test]
fn the_hash_is_what_cores_parameters_say_of_the_chain_that_core_tests_with() {
    let dir = tempfile::tempdir().expect("directory");
    let chain = open(dir.path()).expect("opens");
    chain_of_core(&chain, 210);
    let known = chain.params().assume_utxo.iter().find(|known| known.height == 200).expect("200").clone();
    let block = chain.entry_at(200).expect("there");
    assert_eq!(block.hash, known.block_hash);
    let coins = chain.coin_set(Some(&block.hash), &|| true).expect("coins");
    let stats = coins.stats(CoinHash::HashSerialized3, &|| true).expect("counted");
    let mut printed = stats.hash.expect("a hash");
    printed.reverse();
    assert_eq!(printed, known.hash_serialized);
    assert_eq!((stats.coins, stats.transactions, stats.block.height), (200, 200, 200));
    assert_eq!(stats.bogo_size, 200 * (50 + 34));
    assert_eq!(stats.block.chain_tx_count, known.chain_tx_count);
}

#[test]
fn coins_of_an_earlier_block_are_those_that_were_there_then() {
    let dir = tempfile::tempdir().expect("directory");
    let chain = open(dir.path()).expect("opens");
    let blocks = grow(&chain, MATURITY + 6).expect("grown");
    let mut then = Vec::new();
    for block in &blocks[..5] {
        // A coin that is made and spent within one block, one that lives on, and one spent by a later block.
        let first = spend(&[reward(block)], &[Amount::from_sat(1_000), Amount::from_sat(2_000)]);
        let inner = OutPoint { txid: first.compute_txid(), vout: 1 };
        let second = spend(&[inner], &[Amount::from_sat(700)]);
        let tip = chain.tip();
        let block = block_after(&tip.header, tip.height + 1, 0, vec![first, second]);
        chain.process_block(Arc::new(block), NOW, false).expect("taken");
        then.push((chain.tip().hash, HASHES.map(|hash| hash_now(&chain, hash))));
    }
    let held = chain.coin_set(None, &|| true).expect("coins");
    grow(&chain, 3).expect("grown");
    for (block, hashes) in &then {
        let coins = chain.coin_set(Some(block), &|| true).expect("coins");
        assert_eq!(coins.block().hash, *block);
        let again = HASHES.map(|hash| coins.stats(hash, &|| true).expect("counted").hash.expect("a hash"));
        assert_eq!(again, *hashes);
    }
    // What was taken before the chain grew stays as it was.
    assert_eq!(held.stats(CoinHash::MuHash, &|| true).expect("counted").hash.expect("a hash"), then[4].1[1]);
    assert_ne!(hash_now(&chain, CoinHash::MuHash), then[4].1[1]);

    let stale = chain.tip().hash;
    chain.invalidate_block(&stale).expect("invalidated");
    assert!(matches!(chain.coin_set(Some(&stale), &|| true), Err(ChainError::UnknownBlock(_))));
    assert!(matches!(chain.coin_set(Some(&then[0].0), &|| false), Err(ChainError::Interrupted)));
    let coins = chain.coin_set(None, &|| true).expect("coins");
    assert!(matches!(coins.stats(CoinHash::None, &|| false), Err(ChainError::Interrupted)));
}

#[test]
fn a_snapshot_has_cores_format_and_is_whole_or_not_there() {
    let dir = tempfile::tempdir().expect("directory");
    let chain = open(dir.path()).expect("opens");
    chain_of_core(&chain, 2);
    let path = dir.path().join("utxo.dat");
    let coins = chain.coin_set(None, &|| true).expect("coins");
    let magic = chain.params().magic;
    assert!(matches!(coins.write_snapshot(&path, magic, &|| false), Err(ChainError::Interrupted)));
    assert_eq!(
        std::fs::read_dir(dir.path())
            .expect("listed")
            .filter(|entry| { entry.as_ref().expect("entry").file_name().to_string_lossy().starts_with("utxo") })
            .count(),
        0
    );

    let stats = coins.write_snapshot(&path, magic, &|| true).expect("written");
    assert_eq!(stats.hash, coins.stats(CoinHash::HashSerialized3, &|| true).expect("counted").hash);
    assert!(matches!(coins.write_snapshot(&path, magic, &|| true), Err(ChainError::Exists { .. })));
    let bytes = std::fs::read(&path).expect("read");
    let mut expected = b"utxo\xff\x02\x00\xfa\xbf\xb5\xda".to_vec();
    expected.extend(chain.tip().hash.as_raw_hash().as_byte_array());
    expected.extend(2u64.to_le_bytes());
    let mut rewards: Vec<_> = [1, 2]
        .map(|height| {
            let block = chain.block(&chain.entry_at(height).expect("there").hash).expect("read").expect("here");
            (block.txdata[0].compute_txid(), height)
        })
        .to_vec();
    rewards.sort_by_key(|(txid, _)| sha256d::Hash::to_byte_array(txid.to_raw_hash()));
    for (txid, height) in rewards {
        expected.extend(txid.as_byte_array());
        // One output, number 0; height doubled plus one for a coinbase; 50 BTC compressed; the script's length plus six.
        expected.extend([1, 0, (height * 2 + 1) as u8, 0x32, 34 + 6]);
        expected.extend(anyone_can_spend().as_bytes());
    }
    assert_eq!(bytes, expected);
}
