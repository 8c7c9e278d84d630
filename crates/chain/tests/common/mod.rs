//! What the tests of a directory's fate share.

#![allow(dead_code, reason = "every test binary uses its own part")]

use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::hashes::Hash;
use cairn_chain::Chain;
use cairn_chain::testing::{self, NOW, open};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("typed").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A directory for tests that sync often and do not ask the disk whether it can: in memory where there is such a place.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("temporary directory")
}

/// The coins of a chain that was given the blocks of `chain`'s branch and nothing else.
pub(crate) fn fresh_coins(chain: &Chain) -> Vec<testing::RawCoin> {
    let dir = scratch();
    let straight = open(dir.path()).expect("opens");
    for height in 1..=chain.tip().height {
        let hash = chain.entry_at(height).expect("active").hash;
        let block = chain.block(&hash).expect("read").expect("there");
        straight.process_block(block, NOW, false).expect("taken");
    }
    testing::coins(&straight).expect("coins")
}

pub(crate) fn assert_sound(chain: &Chain) {
    for height in 1..=chain.tip().height {
        let entry = chain.entry_at(height).expect("active");
        assert!(chain.block(&entry.hash).expect("read").is_some());
        assert!(chain.undo(&entry.hash).expect("read").is_some());
        let coinbase = chain.block(&entry.hash).expect("read").expect("there").txdata[0].compute_txid();
        assert_eq!(chain.transaction(&coinbase).expect("read").expect("indexed").1.hash, entry.hash);
    }
    assert_eq!(testing::coins(chain).expect("coins"), fresh_coins(chain));
    if chain.has_filter_index() {
        assert_filtered(chain);
    }
}

/// Every block of the active chain has the filter and the filter header that its transactions and those that it spends of
/// lead to.
pub(crate) fn assert_filtered(chain: &Chain) {
    assert_eq!(chain.filter_index_height().expect("read"), Some(chain.tip().height));
    let mut scripts = HashMap::new();
    let mut previous = FilterHeader::all_zeros();
    for height in 0..=chain.tip().height {
        let hash = chain.entry_at(height).expect("active").hash;
        let block = match height {
            0 => Arc::new(chain.params().genesis.clone()),
            _ => chain.block(&hash).expect("read").expect("there"),
        };
        for tx in &block.txdata {
            let outputs = (0..).zip(&tx.output);
            scripts.extend(outputs.map(|(vout, output)| ((tx.compute_txid(), vout), output.script_pubkey.clone())));
        }
        let expected =
            BlockFilter::new_script_filter(&block, |spent| Ok(scripts[&(spent.txid, spent.vout)].as_script()))
                .expect("all is known");
        previous = expected.filter_header(&previous);
        assert_eq!(chain.filter(&hash).expect("read"), Some(expected), "{height}");
        assert_eq!(chain.filter_header(&hash).expect("read"), Some(previous), "{height}");
    }
}
