//! A chain's directory, damaged: bytes of its small files, its block and undo files, rows of its database. It opens, or
//! says why not; what is then read of it is there or is refused. Damage to files alone never leads to wrong coins.
#![no_main]

use bitcoin::{Amount, Block, Txid};
use cairn_chain::testing::records::{RowDamage, damage_rows};
use cairn_chain::testing::{MATURITY, NOW, block_after, coins, grow, limit_files, regtest, reward, spend};
use cairn_chain::{Chain, ChainConfig, ChainError, CoinHash, Prune};
use cairn_fuzz::{Input, chain_dir, copy_dir, pick};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// Blocks after the first coinbase can be spent.
const SPENDING_BLOCKS: u32 = 8;
/// Bytes of a block file.
const FILE_BYTES: u32 = 8 << 10;

/// The directory before it is damaged.
struct Template {
    dir: TempDir,
    /// Paths in the directory.
    files: Vec<PathBuf>,
    /// The coins at every height.
    coins: Vec<[u8; 32]>,
    txids: Vec<Txid>,
    blocks: Vec<Arc<Block>>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let chain = open(dir.path(), false, Prune::Off).expect("a new directory opens");
    limit_files(&chain, FILE_BYTES).expect("the chain is open");
    let mut blocks = grow(&chain, MATURITY).expect("grown");
    for n in 0..SPENDING_BLOCKS {
        let tip = chain.tip();
        let first = spend(&[reward(&blocks[n as usize])], &[Amount::from_sat(5_000), Amount::from_sat(7_000)]);
        let block = Arc::new(block_after(&tip.header, tip.height + 1, 0, vec![first]));
        chain.process_block(block.clone(), NOW, false).expect("it is valid");
        blocks.push(block);
    }
    let heights = 0..=chain.tip().height;
    let coins = heights.map(|height| coins_at(&chain, height).expect("they can be read")).collect();
    let txids = blocks.iter().flat_map(|block| &block.txdata).map(|tx| tx.compute_txid()).collect();
    drop(chain);
    let mut files: Vec<PathBuf> = ["FORMAT", "LOCK"].map(PathBuf::from).to_vec();
    for entry in fs::read_dir(dir.path().join("blocks")).expect("it is there") {
        files.push(Path::new("blocks").join(entry.expect("it is there").file_name()));
    }
    files.sort();
    Template { dir, files, coins, txids, blocks }
});

fn open(dir: &Path, reindex: bool, prune: Prune) -> Result<Chain, ChainError> {
    let config = ChainConfig { reindex, prune, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {}))
}

fn coins_at(chain: &Chain, height: u32) -> Result<[u8; 32], ChainError> {
    let entry = chain.entry_at(height).expect("it is in the active chain");
    let stats = chain.coin_set(Some(&entry.hash), &|| true)?.stats(CoinHash::HashSerialized3, &|| true)?;
    Ok(stats.hash.expect("it was asked for"))
}

/// Damages a file.
fn damage_file(dir: &Path, input: &mut Input<'_>, kind: u8) {
    let path = dir.join(&TEMPLATE.files[pick(input.u8(), TEMPLATE.files.len())]);
    // It may have been deleted before.
    let mut bytes = fs::read(&path).unwrap_or_default();
    let at = pick(input.u16(), bytes.len() + 1);
    match kind {
        0 => bytes.iter_mut().skip(at).zip(input.chunk()).for_each(|(byte, change)| *byte ^= change),
        1 => bytes.truncate(at),
        2 => bytes.extend(input.chunk()),
        3 => bytes = input.chunk().to_vec(),
        4 => drop(bytes.splice(at..at, input.chunk().iter().copied())),
        _ => return drop(fs::remove_file(&path)),
    }
    fs::write(&path, bytes).expect("written");
}

/// Uses a chain whose directory was damaged. Everything may fail.
fn use_damaged(chain: &Chain) -> Result<(), ChainError> {
    for height in 0..=chain.tip().height {
        let entry = chain.entry_at(height).expect("it is not above the tip");
        chain.block(&entry.hash)?;
        chain.undo(&entry.hash)?;
    }
    for txid in &TEMPLATE.txids {
        chain.transaction(txid)?;
    }
    chain.verify(4, 0)?;
    coins(chain)?;
    chain.invalidate_block(&chain.tip().hash)?;
    for block in &TEMPLATE.blocks {
        chain.process_block(block.clone(), NOW, false)?;
    }
    grow(chain, 2)?;
    chain.flush()
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (reindex, prune) = match input.u8() % 8 {
        0 => (true, Prune::Off),
        1 => (false, Prune::Manual),
        2 => (false, Prune::from_mib(550).expect("it is enough")),
        _ => (false, Prune::Off),
    };
    let dir = chain_dir();
    copy_dir(TEMPLATE.dir.path(), &dir);
    let mut rows = Vec::new();
    while !input.is_empty() {
        match input.u8() % 8 {
            kind @ 0..=5 => damage_file(&dir, &mut input, kind),
            _ => rows.push(RowDamage { table: input.u8(), row: input.u8().into(), change: input.chunk().to_vec() }),
        }
    }
    if !rows.is_empty() {
        damage_rows(&dir, &rows).expect("the database itself is whole");
    }

    let Ok(chain) = open(&dir, reindex, prune) else { return };
    let tip = chain.tip();
    for height in 1..=tip.height {
        let entry = chain.entry_at(height).expect("it is not above the tip");
        assert_eq!(entry.header.block_hash(), entry.hash);
        assert_eq!(entry.header.prev_blockhash, chain.entry_at(height - 1).expect("it is below the tip").hash);
    }
    if rows.is_empty() {
        assert_eq!(coins_at(&chain, tip.height).ok(), TEMPLATE.coins.get(tip.height as usize).copied());
    }
    let used = use_damaged(&chain);
    let tip = chain.tip();
    drop(chain);
    if used.is_ok() {
        let again = open(&dir, false, prune).expect("a chain that works opens again");
        assert_eq!(again.tip().hash, tip.hash);
    }
});
