//! A snapshot of the coins of any bytes: it is refused, and the chain keeps what it had; or its coins have the hash that is
//! known, and the blocks below decide about it.
#![no_main]

use bitcoin::{Amount, Block, OutPoint};
use cairn_chain::testing::records::hash_of_snapshot;
use cairn_chain::testing::{MATURITY, NOW, block_after, coins, grow, open, regtest, reward, spend};
use cairn_chain::{Chain, ChainConfig, CoinHash};
use cairn_consensus::params::AssumeUtxo;
use cairn_fuzz::{Input, chain_dir, copy_dir, pick};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tempfile::TempDir;

/// Height of the snapshot's block.
const BASE: u32 = MATURITY + 6;
/// Height that the chain has that is given the snapshot.
const BELOW: u32 = BASE - 3;

/// A chain with spends, and what a right snapshot of it is.
struct Source {
    blocks: Vec<Arc<Block>>,
    snapshot: Vec<u8>,
    known: AssumeUtxo,
    /// The coins at `BELOW`.
    below: Vec<([u8; 36], Vec<u8>)>,
    /// A directory of a chain at `BELOW` that knows all headers.
    template: TempDir,
}

static SOURCE: LazyLock<Source> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let chain = open(&dir.path().join("source")).expect("a new directory opens");
    let mut blocks = grow(&chain, MATURITY).expect("grown");
    while chain.tip().height < BASE {
        let tip = chain.tip();
        let from = reward(&blocks[(tip.height - MATURITY) as usize]);
        let fan = spend(&[from], &[Amount::from_sat(5_000), Amount::from_sat(7_000)]);
        let inner = spend(&[OutPoint { txid: fan.compute_txid(), vout: 0 }], &[Amount::from_sat(4_000)]);
        let block = Arc::new(block_after(&tip.header, tip.height + 1, 0, vec![fan, inner]));
        chain.process_block(block.clone(), NOW, false).expect("it is valid");
        blocks.push(block);
    }
    let base = chain.tip();
    let path = dir.path().join("utxo.dat");
    let set = chain.coin_set(None, &|| true).expect("the coins can be read");
    let stats = set.write_snapshot(&path, regtest().magic, &|| true).expect("written");
    let mut hash_serialized = stats.hash.expect("a snapshot has one");
    hash_serialized.reverse();
    let known =
        AssumeUtxo { height: BASE, block_hash: base.hash, hash_serialized, chain_tx_count: base.chain_tx_count };

    let template = tempfile::tempdir().expect("a temporary directory can be made");
    let chain = open(template.path()).expect("a new directory opens");
    for block in &blocks[..BELOW as usize] {
        chain.process_block(block.clone(), NOW, false).expect("it is valid");
    }
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    chain.process_headers(&headers, NOW).expect("they are valid");
    let below = coins(&chain).expect("they can be read");
    drop(chain);
    Source { blocks, snapshot: fs::read(&path).expect("it was written"), known, below, template }
});

impl Source {
    /// A chain at `BELOW` that knows a snapshot.
    fn chain(&self, dir: &Path, known: AssumeUtxo) -> Chain {
        copy_dir(self.template.path(), dir);
        let mut config = ChainConfig::new(dir.to_owned(), regtest());
        config.params.assume_utxo = vec![known];
        Chain::open(config, Box::new(|_| {})).expect("the directory is sound")
    }

    /// The right snapshot with changes.
    fn read(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut snapshot = self.snapshot.clone();
        while !input.is_empty() {
            let at = pick(input.u16(), snapshot.len() + 1);
            match input.u8() % 6 {
                0 => snapshot.iter_mut().skip(at).zip(input.chunk()).for_each(|(byte, change)| *byte ^= change),
                1 => drop(snapshot.splice(at..at, input.chunk().iter().copied())),
                2 => drop(snapshot.splice(at..(at + usize::from(input.u8())).min(snapshot.len()), [])),
                // The number of coins.
                3 => snapshot.iter_mut().skip(43).zip(input.u64().to_le_bytes()).for_each(|(byte, new)| *byte = new),
                4 => snapshot.truncate(at),
                _ => snapshot.splice(51.min(snapshot.len()).., input.chunk().iter().copied()).for_each(drop),
            }
        }
        snapshot
    }
}

/// The chain that is given one snapshot after the other, as long as it refuses them.
static CHAIN: Mutex<Option<(TempDir, Chain)>> = Mutex::new(None);

/// A snapshot whose hash only the blocks below it can tell to be wrong or right.
fn assume(snapshot: &[u8]) {
    let dir = chain_dir();
    let mut known = SOURCE.known.clone();
    let chain = SOURCE.chain(&dir, known.clone());
    let Some(hash) = hash_of_snapshot(&chain, snapshot) else { return };
    drop(chain);
    let is_right = hash == known.hash_serialized;
    known.hash_serialized = hash;
    let chain = SOURCE.chain(&chain_dir(), known);
    if chain.load_snapshot(snapshot, &|| true).is_err() {
        assert!(*snapshot != *SOURCE.snapshot, "the right snapshot was refused");
        return assert_unchanged(&chain);
    }
    let given = SOURCE.blocks[BELOW as usize..]
        .iter()
        .try_for_each(|block| chain.process_block(block.clone(), NOW, false).map(drop));
    assert_eq!(given.is_ok(), is_right, "the blocks below a snapshot decide about it");
    if is_right {
        assert!(chain.snapshot_state().is_none(), "it is validated");
        assert_eq!(chain.tip().hash, SOURCE.known.block_hash);
    }
}

fn assert_unchanged(chain: &Chain) {
    assert_eq!(chain.tip().height, BELOW);
    assert!(chain.snapshot_state().is_none());
    assert_eq!(coins(chain).expect("they can be read"), SOURCE.below);
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let shape = input.u8();
    let snapshot = if shape & 1 == 0 { SOURCE.read(&mut input) } else { input.rest().to_vec() };
    if shape & 6 == 6 {
        return assume(&snapshot);
    }
    let mut open = CHAIN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, chain) = open.get_or_insert_with(|| {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let chain = SOURCE.chain(dir.path(), SOURCE.known.clone());
        (dir, chain)
    });
    match chain.load_snapshot(&*snapshot, &|| true) {
        Err(_) => assert_unchanged(chain),
        Ok((entry, count)) => {
            assert_eq!((entry.hash, entry.height), (SOURCE.known.block_hash, BASE));
            let stats = chain.coin_set(None, &|| true).and_then(|set| set.stats(CoinHash::HashSerialized3, &|| true));
            let stats = stats.expect("they can be read");
            let mut hash = stats.hash.expect("it was asked for");
            hash.reverse();
            assert_eq!((hash, stats.coins), (SOURCE.known.hash_serialized, count));
            *open = None;
        }
    }
});
