//! An index of block filters may be asked for and given up at any start, and serves whatever was connected once.

mod common;

use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use cairn_chain::testing::{
    MATURITY, NOW, block_after, branch, faults, grow, limit_files, regtest, reward, spend, unknown_hash,
};
use cairn_chain::{CFCHECKPT_INTERVAL, Chain, ChainConfig, ChainError, Progress, Prune};
use common::{assert_filtered, assert_sound, scratch};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn config(dir: &Path, blockfilterindex: bool) -> ChainConfig {
    ChainConfig { blockfilterindex, ..ChainConfig::new(dir.to_owned(), regtest()) }
}

fn open(dir: &Path, blockfilterindex: bool) -> Chain {
    Chain::open(config(dir, blockfilterindex), Box::new(|_| {})).expect("opens")
}

/// Mines blocks, the last of which spends rewards, one output within itself, and pays to scripts that are in no filter.
fn pay(chain: &Chain) {
    let blocks = grow(chain, MATURITY + 1).expect("grown");
    let mut first = spend(&[reward(&blocks[0]), reward(&blocks[1])], &[Amount::from_sat(9)]);
    first.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() });
    first
        .output
        .push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::builder().push_opcode(OP_RETURN).into_script() });
    first.output.push(TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(vec![0x51, 0x52]) });
    let second = spend(&[bitcoin::OutPoint { txid: first.compute_txid(), vout: 0 }], &[Amount::from_sat(7)]);
    let tip = chain.tip();
    let block = block_after(&tip.header, tip.height + 1, 0, vec![first, second]);
    chain.process_block(Arc::new(block), NOW, true).expect("valid");
}

#[test]
fn every_block_has_its_filter_before_and_after_it_is_written() {
    let dir = scratch();
    let chain = open(dir.path(), true);
    assert!(chain.has_filter_index());
    assert_filtered(&chain);
    pay(&chain);
    assert_filtered(&chain);
    chain.flush().expect("flushed");
    assert_filtered(&chain);
    pay(&chain);
    assert_sound(&chain);
    assert_eq!(chain.filter(&unknown_hash()).expect("asked"), None);
    assert_eq!(chain.filter_header(&unknown_hash()).expect("asked"), None);
    drop(chain);
    assert_sound(&open(dir.path(), true));
}

#[test]
fn without_an_index_there_is_no_filter() {
    let dir = scratch();
    let chain = open(dir.path(), false);
    pay(&chain);
    let tip = chain.tip().hash;
    assert!(!chain.has_filter_index());
    assert_eq!(chain.filter_index_height().expect("asked"), None);
    assert_eq!(chain.filter(&tip).expect("asked"), None);
    assert_eq!(chain.filter_header(&tip).expect("asked"), None);
    assert!(chain.filters(0, &tip).expect("asked").is_none());
    assert_eq!(chain.filter_hashes(0, &tip).expect("asked"), None);
}

#[test]
fn an_index_that_is_asked_for_later_is_made_from_the_blocks() {
    let dir = scratch();
    let chain = open(dir.path(), false);
    pay(&chain);
    let tip = chain.tip();
    drop(chain);
    let seen = Arc::new(AtomicU32::new(0));
    let progress = {
        let seen = seen.clone();
        Box::new(move |progress| {
            if let Progress::Filtering { done, of } = progress {
                assert_eq!(of, tip.height + 1, "the genesis block has one too");
                seen.store(done, Ordering::Relaxed);
            }
        })
    };
    let chain = Chain::open_with_progress(config(dir.path(), true), Box::new(|_| {}), progress).expect("opens");
    assert_eq!(seen.load(Ordering::Relaxed), tip.height + 1);
    assert_sound(&chain);
    grow(&chain, 3).expect("grown");
    drop(chain);
    assert_sound(&open(dir.path(), true));
}

#[test]
fn an_index_that_is_given_up_is_forgotten_and_made_anew_when_asked_for_again() {
    let dir = scratch();
    let chain = open(dir.path(), true);
    pay(&chain);
    drop(chain);
    let chain = open(dir.path(), false);
    assert_eq!(chain.filter(&chain.tip().hash).expect("asked"), None);
    grow(&chain, 3).expect("grown");
    drop(chain);
    assert_sound(&open(dir.path(), true));
}

#[test]
fn blocks_that_were_left_keep_their_filters() {
    let dir = scratch();
    let chain = open(dir.path(), true);
    pay(&chain);
    let of =
        |chain: &Chain, hash: &BlockHash| (chain.filter(hash).expect("read"), chain.filter_header(hash).expect("read"));
    for flushed in [false, true] {
        let fork = chain.entry_at(chain.tip().height - 3).expect("active");
        let left: Vec<_> = (1..=3).map(|n| chain.entry_at(fork.height + n).expect("active").hash).collect();
        let before: Vec<_> = left.iter().map(|hash| of(&chain, hash)).collect();
        if flushed {
            chain.flush().expect("flushed");
        }
        let salt = 5 + u32::from(flushed);
        let better = branch(&fork.header, fork.height, 4, salt);
        // As long a branch is not taken, and what was never connected has no filter.
        for block in &better[..3] {
            chain.process_block(block.clone(), NOW, true).expect("taken");
            assert_eq!(of(&chain, &block.block_hash()), (None, None));
        }
        chain.process_block(better[3].clone(), NOW, true).expect("taken");
        assert_eq!(chain.tip().hash, better[3].block_hash());
        assert_sound(&chain);
        assert_eq!(left.iter().map(|hash| of(&chain, hash)).collect::<Vec<_>>(), before);
        // Ranges follow the branch that they stop at.
        let hashes = chain.filter_hashes(fork.height, &left[2]).expect("read").expect("there").1;
        let expected: Vec<_> = before.iter().map(|(filter, _)| hash_of(filter.as_ref().expect("there"))).collect();
        assert_eq!(hashes[1..], expected);
        // And they may come back.
        chain.invalidate_block(&better[0].block_hash()).expect("invalidated");
        assert!(chain.is_active(&left[2]));
        assert_sound(&chain);
        chain.reconsider_block(&better[0].block_hash()).expect("reconsidered");
        assert_sound(&chain);
    }
    let tips: Vec<_> = chain.tips().into_iter().map(|(entry, ..)| (entry.hash, of(&chain, &entry.hash))).collect();
    drop(chain);
    let chain = open(dir.path(), true);
    for (hash, expected) in tips {
        assert!(expected.0.is_some());
        assert_eq!(of(&chain, &hash), expected);
    }
}

fn hash_of(filter: &BlockFilter) -> FilterHash {
    FilterHash::hash(&filter.content)
}

#[test]
fn a_kill_between_the_writes_loses_no_filter() {
    let dir = scratch();
    let dir = dir.path().join("chain");
    let mut blocks = 0;
    for flush in [true, false, true] {
        faults::record(&dir);
        let chain = open(&dir, true);
        assert_eq!(chain.tip().height, blocks);
        pay(&chain);
        if flush {
            chain.flush().expect("flushed");
            grow(&chain, 2).expect("grown");
        }
        // The last blocks are durable, what they did to the coins is not.
        let tip = chain.tip();
        let block = block_after(&tip.header, tip.height + 1, 9, Vec::new());
        chain.process_block(Arc::new(block), NOW, true).expect("valid");
        blocks = chain.tip().height;
        faults::kill(chain, &dir);
    }
    assert_sound(&open(&dir, true));
}

#[test]
fn ranges_are_those_of_bip_157() {
    let dir = scratch();
    let chain = open(dir.path(), true);
    grow(&chain, 2 * CFCHECKPT_INTERVAL + 5).expect("grown");
    let at = |height: u32| chain.entry_at(height).expect("active").hash;
    let header = |height: u32| chain.filter_header(&at(height)).expect("read").expect("there");

    for (start, stop) in [(0, 0), (0, 5), (7, 7), (1_990, 2_005)] {
        let filters: Vec<_> = chain.filters(start, &at(stop)).expect("read").expect("there").collect();
        let filters: Vec<_> = filters.into_iter().map(|filter| filter.expect("read")).collect();
        assert_eq!(
            filters.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(),
            (start..=stop).map(at).collect::<Vec<_>>()
        );
        for (hash, filter) in &filters {
            assert_eq!(chain.filter(hash).expect("read").as_ref(), Some(filter));
        }
        let (previous, hashes) = chain.filter_hashes(start, &at(stop)).expect("read").expect("there");
        assert_eq!(previous, if start == 0 { FilterHeader::all_zeros() } else { header(start - 1) });
        assert_eq!(hashes, filters.iter().map(|(_, filter)| hash_of(filter)).collect::<Vec<_>>());
        let last = hashes.iter().fold(previous, |previous, hash| hash.filter_header(&previous));
        assert_eq!(last, header(stop));
    }
    for (start, stop) in [(6, at(5)), (u32::MAX, at(5)), (0, unknown_hash())] {
        assert!(chain.filters(start, &stop).expect("asked").is_none());
        assert_eq!(chain.filter_hashes(start, &stop).expect("asked"), None);
    }

    for (stop, expected) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (2_005, 2)] {
        let expected: Vec<_> = (1..=expected).map(|n| header(n * CFCHECKPT_INTERVAL)).collect();
        assert_eq!(chain.filter_checkpoints(&at(stop)).expect("read"), Some(expected));
    }
    assert_eq!(chain.filter_checkpoints(&unknown_hash()).expect("asked"), None);
}

#[test]
fn filters_outlive_the_blocks_that_are_pruned_but_cannot_be_made_without_them() {
    let dir = scratch();
    let open = |blockfilterindex| {
        let config = ChainConfig { prune: Prune::Manual, ..config(dir.path(), blockfilterindex) };
        Chain::open(config, Box::new(|_| {}))
    };
    let chain = open(true).expect("opens");
    limit_files(&chain, 64 << 10).expect("limited");
    grow(&chain, 700).expect("grown");
    let header = chain.filter_header(&chain.tip().hash).expect("read");
    chain.prune_to(u32::MAX).expect("pruned");
    assert!(chain.pruned_height().is_some_and(|height| height > 100));
    let served = |chain: &Chain| {
        let filters = chain.filters(0, &chain.tip().hash).expect("read").expect("all are there");
        filters.filter(Result::is_ok).count()
    };
    assert_eq!(served(&chain), 701);
    drop(chain);
    let chain = open(true).expect("opens");
    assert_eq!(served(&chain), 701);
    assert_eq!(chain.filter_header(&chain.tip().hash).expect("read"), header);
    grow(&chain, 1).expect("goes on");
    assert_eq!(served(&chain), 702);
    drop(chain);

    let chain = open(false).expect("opens");
    let tip = chain.tip().hash;
    drop(chain);
    match open(true) {
        Err(ChainError::FilterPruned { .. }) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(open(false).expect("opens as before").tip().hash, tip);
}

#[test]
fn damaged_blocks_end_the_index_and_are_not_pruned_away_from_it() {
    let dir = scratch();
    let chain = open(dir.path(), false);
    limit_files(&chain, 64 << 10).expect("limited");
    grow(&chain, 700).expect("grown");
    drop(chain);
    // A byte of an early block rots.
    let path = dir.path().join("blocks/blk00001.dat");
    let whole = std::fs::read(&path).expect("read");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).expect("written");

    let with_prune = ChainConfig { prune: Prune::Manual, ..config(dir.path(), true) };
    let chain = Chain::open(with_prune.clone(), Box::new(|_| {})).expect("opens");
    let reached = chain.filter_index_height().expect("asked").expect("the first");
    assert!((50..600).contains(&reached), "{reached}");
    assert_eq!(chain.filter(&chain.tip().hash).expect("asked"), None);
    grow(&chain, 1).expect("goes on");
    assert_eq!(chain.filter_index_height().expect("asked"), Some(reached));
    chain.prune_to(u32::MAX).expect("pruned");
    assert!(chain.pruned_height().is_none_or(|height| height <= reached));
    drop(chain);

    // Mended, it goes on from there.
    std::fs::write(&path, &whole).expect("written");
    let chain = Chain::open(with_prune, Box::new(|_| {})).expect("opens");
    assert_eq!(chain.filter_index_height().expect("asked"), Some(701));
}
