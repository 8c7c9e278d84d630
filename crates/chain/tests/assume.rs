//! Starting from a snapshot of the coins, and validating it behind.

mod common;
#[path = "common/power.rs"]
mod power;

use bitcoin::{Amount, Block, OutPoint};
use cairn_chain::testing::{MATURITY, NOW, block_after, branch, coins, faults, grow, open, regtest, reward, spend};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError, CoinHash};
use cairn_consensus::params::AssumeUtxo;
use common::{assert_filtered, scratch};
use power::{Disk, Random, Survives};
use std::path::Path;
use std::sync::Arc;

const BASE: u32 = MATURITY + 20;
const TIP: u32 = BASE + 15;

/// A chain with spends, a snapshot of it at `BASE`, and what is known of that.
struct Source {
    blocks: Vec<Arc<Block>>,
    snapshot: Vec<u8>,
    known: AssumeUtxo,
    coins: Vec<([u8; 36], Vec<u8>)>,
    _dir: tempfile::TempDir,
}

fn source() -> Source {
    let dir = scratch();
    let chain = open(&dir.path().join("source")).expect("opens");
    let mut blocks = grow(&chain, MATURITY).expect("grown");
    while chain.tip().height < TIP {
        let tip = chain.tip();
        let from = reward(&blocks[(tip.height - MATURITY) as usize]);
        let fan = spend(&[from], &[Amount::from_sat(5_000), Amount::from_sat(7_000)]);
        let inner = spend(&[OutPoint { txid: fan.compute_txid(), vout: 0 }], &[Amount::from_sat(4_000)]);
        let block = Arc::new(block_after(&tip.header, tip.height + 1, 0, vec![fan, inner]));
        chain.process_block(block.clone(), NOW, false).expect("taken");
        blocks.push(block);
    }
    let base = chain.entry_at(BASE).expect("there");
    let path = dir.path().join("utxo.dat");
    let set = chain.coin_set(Some(&base.hash), &|| true).expect("coins");
    let stats = set.write_snapshot(&path, regtest().magic, &|| true).expect("written");
    let mut hash_serialized = stats.hash.expect("a hash");
    hash_serialized.reverse();
    let known =
        AssumeUtxo { height: BASE, block_hash: base.hash, hash_serialized, chain_tx_count: base.chain_tx_count };
    let snapshot = std::fs::read(&path).expect("read");
    let coins = coins(&chain).expect("coins");
    drop(chain);
    Source { blocks, snapshot, known, coins, _dir: dir }
}

fn open_knowing(dir: &Path, known: &[AssumeUtxo]) -> Result<Chain, ChainError> {
    let mut config = ChainConfig { blockfilterindex: true, ..ChainConfig::new(dir.to_owned(), regtest()) };
    config.params.assume_utxo = known.to_vec();
    Chain::open(config, Box::new(|_| {}))
}

impl Source {
    fn knowing(&self, dir: &Path) -> Chain {
        open_knowing(dir, std::slice::from_ref(&self.known)).expect("opens")
    }
    fn headers(&self, chain: &Chain) {
        let headers: Vec<_> = self.blocks.iter().map(|block| block.header).collect();
        chain.process_headers(&headers, NOW).expect("taken");
    }
    fn give(&self, chain: &Chain, heights: impl Iterator<Item = u32>) {
        for height in heights {
            let block = self.blocks[height as usize - 1].clone();
            assert_eq!(chain.process_block(block, NOW, false).expect("taken"), BlockAccepted::New, "{height}");
        }
    }
}

fn load(chain: &Chain, snapshot: &[u8]) -> Result<(cairn_chain::BlockEntry, u64), ChainError> {
    chain.load_snapshot(snapshot, &|| true)
}

fn refusal(result: Result<(cairn_chain::BlockEntry, u64), ChainError>) -> String {
    match result {
        Err(ChainError::Snapshot { what }) => what,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_chain_goes_on_from_a_snapshot_and_validates_it_behind() {
    let source = source();
    let dir = scratch();
    let dir = dir.path().join("chain");
    let chain = source.knowing(&dir);
    // Some blocks are here already, and some of those above.
    source.give(&chain, 1..=10);
    source.headers(&chain);
    source.give(&chain, BASE + 1..=BASE + 2);
    let (base, _) = load(&chain, &source.snapshot).expect("loaded");
    assert_eq!((base.height, base.chain_tx_count), (BASE, source.known.chain_tx_count));
    assert_eq!(chain.tip().height, BASE + 2, "blocks above it that were here are connected");
    assert_eq!(chain.snapshot_state().expect("not validated").validated.height, 10);
    assert_eq!(refusal(load(&chain, &source.snapshot)), "one is loaded already and is not validated yet");
    let below = chain.entry_at(5).expect("active").hash;
    assert!(matches!(chain.invalidate_block(&below), Err(ChainError::Snapshot { .. })), "nothing leads back below it");
    assert_eq!(chain.tip().height, BASE + 2);

    // It goes on after a start, with blocks above and below in any order.
    drop(chain);
    let chain = source.knowing(&dir);
    assert_eq!((chain.tip().height, chain.snapshot_state().expect("not validated").validated.height), (BASE + 2, 10));
    source.give(&chain, BASE + 3..=TIP);
    assert_eq!(chain.tip().height, TIP);
    assert_eq!(chain.filter_index_height().expect("read"), Some(10), "filters follow what is validated");
    assert_eq!(chain.filter(&chain.tip().hash).expect("read"), None);
    source.give(&chain, (11..=40).rev());
    assert_eq!(chain.snapshot_state().expect("not validated").validated.height, 40);
    drop(chain);
    let chain = source.knowing(&dir);
    source.give(&chain, 41..=BASE);
    assert!(chain.snapshot_state().is_none(), "it is validated");
    assert_eq!((chain.tip().height, chain.tip().chain_tx_count), (TIP, source.known.chain_tx_count + 15 * 3));
    assert_filtered(&chain);
    assert_eq!(coins(&chain).expect("coins"), source.coins);
    drop(chain);

    // Nothing tells it from a chain that had no snapshot: it needs to be named no more, and can be undone to its start.
    let chain = open(&dir).expect("opens");
    assert_eq!(coins(&chain).expect("coins"), source.coins);
    chain.invalidate_block(&below).expect("invalidated");
    assert_eq!(chain.tip().height, 4);
    chain.reconsider_block(&below).expect("reconsidered");
    assert_eq!(coins(&chain).expect("coins"), source.coins);
}

#[test]
fn what_is_not_the_snapshot_that_is_known_is_refused_and_the_chain_stays_as_it_was() {
    let source = source();
    let dir = scratch();
    let chain = source.knowing(&dir.path().join("chain"));
    source.give(&chain, 1..=3);
    let before = coins(&chain).expect("coins");
    let header = 5 + 2 + 4 + 32 + 8;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = source.snapshot.clone();
        change(&mut bytes);
        bytes
    };
    assert!(refusal(load(&chain, &source.snapshot)).contains("the header of its block"));
    source.headers(&chain);
    for (bytes, text) in [
        (with(&|bytes| bytes[0] ^= 1), "does not begin as one does"),
        (with(&|bytes| bytes[5] = 1), "has version 1"),
        (with(&|bytes| bytes[7..11].copy_from_slice(&[0xf9, 0xbe, 0xb4, 0xd9])), "it is of main, this node of regtest"),
        (with(&|bytes| bytes[7] ^= 1), "it is of a network of its own"),
        (with(&|bytes| bytes[11] ^= 1), "is not one that may be loaded (those are at 120)"),
        (with(&|bytes| bytes[43] += 1), "truncated or damaged"),
        (with(&|bytes| bytes[43] -= 1), "bytes follow the last coin"),
        (with(&|bytes| bytes.push(0)), "bytes follow the last coin"),
        (with(&|bytes| bytes.truncate(header - 1)), "too short"),
        (with(&|bytes| bytes.truncate(bytes.len() - 1)), "truncated or damaged"),
        // A coin's txid, and the last byte of a script.
        (with(&|bytes| bytes[header + 31] ^= 1), "do not have the hash"),
        (with(&|bytes| *bytes.last_mut().expect("bytes") ^= 1), "do not have the hash"),
    ] {
        let refused = refusal(load(&chain, &bytes));
        assert!(refused.contains(text), "{refused}");
    }
    for at in (header..source.snapshot.len()).step_by(97) {
        refusal(load(&chain, &with(&|bytes| bytes[at] ^= 0x10)));
        refusal(load(&chain, &source.snapshot[..at]));
    }
    assert!(matches!(chain.load_snapshot(&*source.snapshot, &|| false), Err(ChainError::Interrupted)));
    assert_eq!(coins(&chain).expect("coins"), before);
    let stale = source.blocks[0].header;
    let longer = branch(&stale, 1, TIP + 5, 7);
    let headers: Vec<_> = longer.iter().map(|block| block.header).collect();
    chain.process_headers(&headers, NOW).expect("taken");
    assert!(refusal(load(&chain, &source.snapshot)).contains("headers with more work fork off"));
    chain.invalidate_block(&longer[0].block_hash()).expect("invalidated");
    load(&chain, &source.snapshot).expect("loaded");
}

#[test]
fn a_snapshot_of_other_coins_is_found_out_and_given_up() {
    let source = source();
    // Somebody had a snapshot accepted that the chain does not lead to: one coin is worth more.
    let dir = scratch();
    let forger = open(&dir.path().join("forger")).expect("opens");
    for block in &source.blocks[..BASE as usize] {
        forger.process_block(block.clone(), NOW, false).expect("taken");
    }
    let key = coins(&forger).expect("coins")[3].0;
    cairn_chain::testing::drop_coin(&forger, &key).expect("lost");
    let path = dir.path().join("forged.dat");
    let set = forger.coin_set(None, &|| true).expect("coins");
    let stats = set.write_snapshot(&path, regtest().magic, &|| true).expect("written");
    assert_eq!(stats.coins + 1, set_size(&source));
    let mut known = source.known.clone();
    known.hash_serialized = stats.hash.expect("a hash");
    known.hash_serialized.reverse();

    let dir = dir.path().join("chain");
    let chain = open_knowing(&dir, std::slice::from_ref(&known)).expect("opens");
    source.headers(&chain);
    load(&chain, &std::fs::read(&path).expect("read")).expect("loaded");
    source.give(&chain, BASE + 1..=TIP);
    source.give(&chain, 1..=BASE - 1);
    let last = source.blocks[BASE as usize - 1].clone();
    match chain.process_block(last, NOW, false) {
        Err(ChainError::Snapshot { what }) => assert!(what.contains("lead to other coins"), "{what}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(matches!(chain.flush(), Err(ChainError::Poisoned { .. })), "nothing goes on");
    drop(chain);
    let chain = open_knowing(&dir, std::slice::from_ref(&known)).expect("opens");
    assert!(chain.snapshot_state().is_none());
    assert_eq!(chain.tip().height, TIP, "the blocks lead there without it");
    assert_eq!(coins(&chain).expect("coins"), source.coins);
}

fn set_size(source: &Source) -> u64 {
    u64::from_le_bytes(source.snapshot[43..51].try_into().expect("eight bytes"))
}

#[test]
fn a_snapshot_that_is_named_no_more_is_said_to_be_and_kept() {
    let source = source();
    let dir = scratch();
    let dir = dir.path().join("chain");
    let chain = source.knowing(&dir);
    source.headers(&chain);
    load(&chain, &source.snapshot).expect("loaded");
    let hash = |chain: &Chain| {
        let set = chain.coin_set(None, &|| true).expect("coins");
        set.stats(CoinHash::MuHash, &|| true).expect("counted").hash
    };
    let loaded = hash(&chain);
    drop(chain);
    match open_knowing(&dir, &[]) {
        Err(ChainError::Snapshot { what }) => assert!(what.contains("name it again"), "{what}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(hash(&source.knowing(&dir)), loaded);
}

#[test]
fn a_power_failure_leaves_a_snapshot_loaded_or_not_and_loses_no_block() {
    let source = source();
    let home = scratch();
    let dir = home.path().join("chain");
    faults::record(&dir);
    let chain = source.knowing(&dir);
    source.give(&chain, 1..=10);
    source.headers(&chain);
    let (base, _) = load(&chain, &source.snapshot).expect("loaded");
    let loaded = faults::recorded(&dir);
    for height in BASE + 1..=TIP {
        chain.process_block(source.blocks[height as usize - 1].clone(), NOW, true).expect("taken");
    }
    let given = faults::recorded(&dir);
    source.give(&chain, (11..=60).rev());
    chain.flush().expect("flushed");
    source.give(&chain, 61..=BASE);
    assert!(chain.snapshot_state().is_none(), "it is validated");
    drop(chain);
    let made = faults::take(&dir);

    let mut random = Random(3);
    let mut disk = Disk::default();
    let mut failures = 0;
    for (count, change) in made.iter().enumerate() {
        for survives in [Survives::Nothing, Survives::All, Survives::Earlier, Survives::Any] {
            if random.below(6) != 0 {
                continue;
            }
            failures += 1;
            let target = scratch();
            disk.fail(survives, &mut random, home.path(), target.path());
            let place = format!("{survives:?} before change {count} ({change})");
            let chain = match open_knowing(&target.path().join("chain"), std::slice::from_ref(&source.known)) {
                Ok(chain) => chain,
                Err(error) => panic!("{place}: {error}"),
            };
            assert!(count < loaded || chain.tip().height >= BASE, "{place}: the snapshot is lost");
            assert!(count < given || chain.tip().height == TIP, "{place}: a block is lost");
            assert!(count < loaded || chain.is_active(&base.hash), "{place}");
            // Whatever is left, the blocks lead to the coins of a chain that never saw a snapshot.
            for block in &source.blocks {
                chain.process_block(block.clone(), NOW, false).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            assert!(chain.snapshot_state().is_none(), "{place}: it is not validated");
            assert_eq!(chain.tip().height, TIP, "{place}");
            assert_eq!(coins(&chain).expect("coins"), source.coins, "{place}");
            assert_filtered(&chain);
        }
        disk.make(change);
    }
    println!("{failures} failures of the power in {} changes", made.len());
    assert!(failures > 100, "{failures}");
}
