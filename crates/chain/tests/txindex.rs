//! A transaction index may be asked for and given up at any start.

mod common;

use bitcoin::Txid;
use cairn_chain::testing::{self, MATURITY, NOW, block_after, grow, regtest, reward, spend};
use cairn_chain::{Chain, ChainConfig, Progress};
use common::{assert_sound, scratch};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn open(dir: &Path, txindex: bool) -> Chain {
    let config = ChainConfig { txindex, ..ChainConfig::new(dir.to_owned(), regtest()) };
    Chain::open(config, Box::new(|_| {})).expect("opens")
}

/// Mines a block that spends the first reward; the id of the spender.
fn pay(chain: &Chain) -> Txid {
    let blocks = grow(chain, MATURITY).expect("grown");
    let payment = spend(&[reward(&blocks[0])], &[testing::subsidy(1)]);
    let txid = payment.compute_txid();
    let tip = chain.tip();
    let block = block_after(&tip.header, tip.height + 1, 0, vec![payment]);
    chain.process_block(Arc::new(block), NOW, true).expect("valid");
    txid
}

#[test]
fn without_an_index_no_transaction_is_found_and_the_coins_are_the_same() {
    let dir = scratch();
    let chain = open(dir.path(), false);
    let paid = pay(&chain);
    assert!(!chain.has_transaction_index());
    assert!(chain.transaction(&paid).expect("asked").is_none());
    chain.flush().expect("flushed");
    assert!(chain.transaction(&paid).expect("asked").is_none());
    assert_eq!(testing::coins(&chain).expect("coins"), common::fresh_coins(&chain));
}

#[test]
fn an_index_that_is_asked_for_later_is_made_from_the_blocks() {
    let dir = scratch();
    let chain = open(dir.path(), false);
    let paid = pay(&chain);
    let tip = chain.tip();
    drop(chain);

    let seen = Arc::new(AtomicU32::new(0));
    let progress = {
        let seen = seen.clone();
        Box::new(move |progress| {
            if let Progress::Indexing { done, of } = progress {
                assert_eq!(of, tip.height);
                seen.store(done, Ordering::Relaxed);
            }
        })
    };
    let config = ChainConfig::new(dir.path().to_owned(), regtest());
    let chain = Chain::open_with_progress(config, Box::new(|_| {}), progress).expect("opens");
    assert_eq!(seen.load(Ordering::Relaxed), tip.height);
    assert_eq!(chain.transaction(&paid).expect("asked").expect("indexed").1.hash, tip.hash);
    assert_sound(&chain);
    // What comes later is in it too, and the next start finds it whole.
    let later = grow(&chain, 1).expect("grown")[0].txdata[0].compute_txid();
    drop(chain);
    let chain = open(dir.path(), true);
    assert!(chain.transaction(&later).expect("asked").is_some());
    assert_sound(&chain);
}

#[test]
fn an_index_that_is_given_up_is_forgotten_and_made_anew_when_asked_for_again() {
    let dir = scratch();
    let chain = open(dir.path(), true);
    let paid = pay(&chain);
    drop(chain);
    let chain = open(dir.path(), false);
    assert!(chain.transaction(&paid).expect("asked").is_none());
    let later = grow(&chain, 1).expect("grown")[0].txdata[0].compute_txid();
    drop(chain);
    let chain = open(dir.path(), true);
    assert!(chain.transaction(&paid).expect("asked").is_some());
    assert!(chain.transaction(&later).expect("asked").is_some(), "of the time without an index");
    assert_sound(&chain);
}
