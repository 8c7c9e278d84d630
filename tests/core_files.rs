//! Bitcoin Core's own engine reads a copy of our block files with `-reindex`, and we read its.
//!
//! `cargo nextest run -p cairn --features oracle --test core_files`

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bitcoin::consensus::serialize;
use bitcoin::{Amount, Block};
use bitcoinkernel::{ChainType, ChainstateManager, Context, ContextBuilder};
use cairn_chain::testing::{self, MATURITY, NOW, block_after, branch, grow, limit_files, open, reward, spend};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn context() -> Context {
    ContextBuilder::new().chain_type(ChainType::Regtest).build().expect("a context")
}

/// Core's engine in `dir`; `reindex` makes its index and its coins anew from the block files.
fn kernel(context: &Context, dir: &Path, reindex: bool) -> ChainstateManager {
    let text = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_owned();
    let builder = ChainstateManager::builder(context, &text(""), &text("blocks")).expect("paths without zeros");
    let kernel = builder.wipe_db(reindex, reindex).expect("both or none").build().expect("opens");
    kernel.import_blocks().expect("imports");
    kernel
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blocks")).expect("created");
    for entry in fs::read_dir(from.join("blocks")).expect("listed") {
        let entry = entry.expect("listed");
        if entry.file_name().to_string_lossy().ends_with(".dat") {
            fs::copy(entry.path(), to.join("blocks").join(entry.file_name())).expect("copied");
        }
    }
}

/// A chain with spends and a fork, parents before children.
fn blocks() -> Vec<Arc<Block>> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chain = open(dir.path()).expect("opens");
    let mut blocks = grow(&chain, MATURITY + 10).expect("grown");
    for n in 0..5 {
        let tip = chain.tip();
        let payment = spend(&[reward(&blocks[n])], &[Amount::from_sat(n as u64 + 1), Amount::from_sat(9)]);
        let block = Arc::new(block_after(&tip.header, tip.height + 1, 0, vec![payment]));
        chain.process_block(block.clone(), NOW, false).expect("taken");
        blocks.push(block);
    }
    let fork = &blocks[50].header;
    blocks.extend(branch(fork, 51, 8, 3));
    blocks
}

/// The tip of those blocks: the last before the fork.
const TIP: usize = MATURITY as usize + 14;

#[test]
fn core_opens_a_copy_of_our_files() {
    let (ours, theirs) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let chain = open(ours.path()).expect("opens");
    limit_files(&chain, 8 << 10).expect("limited");
    let blocks = blocks();
    for block in &blocks {
        chain.process_block(block.clone(), NOW, false).expect("taken");
    }
    assert_eq!(chain.tip().hash, blocks[TIP].block_hash());
    drop(chain);
    copy_files(ours.path(), theirs.path());
    let context = context();
    let kernel = kernel(&context, theirs.path(), true);
    let tip = kernel.active_chain().tip();
    assert_eq!((tip.height() as usize, tip.block_hash().to_string()), (TIP + 1, blocks[TIP].block_hash().to_string()));
    for block in &blocks {
        let hash = bitcoinkernel::BlockHash::from(bitcoin::hashes::Hash::to_byte_array(block.block_hash()));
        let entry = kernel.get_block_tree_entry(&hash).expect("known, on the branch that lost too");
        assert_eq!(
            kernel.read_block_data(&entry).expect("read").consensus_encode().expect("encoded"),
            serialize(&**block)
        );
    }
}

#[test]
fn we_open_a_copy_of_cores_files() {
    let (ours, theirs) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let blocks = blocks();
    {
        let context = context();
        let kernel = kernel(&context, theirs.path(), false);
        for block in &blocks {
            let block = bitcoinkernel::Block::new(&serialize(&**block)).expect("a block");
            assert!(kernel.process_block(&block).is_new_block());
        }
    }
    copy_files(theirs.path(), ours.path());
    let chain = open(ours.path()).expect("opens by itself");
    assert_eq!(chain.tip().hash, blocks[TIP].block_hash());
    for block in &blocks {
        assert_eq!(chain.block(&block.block_hash()).expect("read").as_deref(), Some(&**block));
    }
    assert!(chain.verify(4, 0).expect("sound"));
    let straight = tempfile::tempdir().expect("temporary");
    let straight = open(straight.path()).expect("opens");
    for block in &blocks[..=TIP] {
        straight.process_block(block.clone(), NOW, false).expect("taken");
    }
    assert_eq!(testing::coins(&chain).expect("coins"), testing::coins(&straight).expect("coins"));
    // And goes on in the same files.
    grow(&chain, 3).expect("grown");
}
