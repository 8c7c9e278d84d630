//! Which block is the tip: connecting, reorganising, refusing, invalidating, in whatever order blocks come.

use bitcoin::{Amount, Block, BlockHash};
use cairn_chain::testing::{self, MATURITY, NOW, block_after, branch, grow, regtest, reward, seal, spend};
use cairn_chain::{BlockAccepted, Chain, ChainConfig, ChainError, ChainEvent, TipStatus};
use cairn_consensus::error::BlockRejectKind;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A chain in a directory of its own, and what its observer heard: `+` or `-` and the height.
struct Setup {
    chain: Chain,
    heard: Arc<Mutex<Vec<(char, u32, BlockHash)>>>,
    _dir: tempfile::TempDir,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().expect("temporary directory");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    let config = ChainConfig { coin_cache_bytes: 1 << 20, ..ChainConfig::new(dir.path().to_owned(), regtest()) };
    let observer = move |event: &ChainEvent| {
        let (sign, block, entry) = match event {
            ChainEvent::Connected { block, entry } => ('+', block, entry),
            ChainEvent::Disconnected { block, entry } => ('-', block, entry),
            ChainEvent::Stopped { cause } => panic!("{cause}"),
        };
        assert_eq!(block.block_hash(), entry.hash);
        log.lock().expect("nobody panics holding it").push((sign, entry.height, entry.hash));
    };
    Setup { chain: Chain::open(config, Box::new(observer)).expect("opens"), heard, _dir: dir }
}

impl Setup {
    fn give(&self, block: &Arc<Block>) -> Result<BlockAccepted, ChainError> {
        self.chain.process_block(block.clone(), NOW, false)
    }
    fn give_all(&self, blocks: &[Arc<Block>]) {
        for block in blocks {
            self.give(block).expect("a valid block is taken");
        }
    }
    fn heard(&self) -> Vec<(char, u32)> {
        self.heard.lock().expect("nobody panics holding it").drain(..).map(|(sign, height, _)| (sign, height)).collect()
    }
    fn genesis(&self) -> bitcoin::block::Header {
        self.chain.entry_at(0).expect("genesis").header
    }
}

fn reason(result: Result<BlockAccepted, ChainError>) -> String {
    match result {
        Err(ChainError::Rejected(reject)) => reject.reason.into_owned(),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

#[test]
fn blocks_connect_and_everything_of_them_can_be_read() {
    let setup = setup();
    let chain = &setup.chain;
    let blocks = grow(chain, MATURITY + 1).expect("grown");
    let tip = chain.tip();
    assert_eq!((tip.height, tip.hash), (MATURITY + 1, blocks.last().expect("blocks").block_hash()));
    let payment = spend(&[reward(&blocks[0])], &[Amount::from_sat(1_000), Amount::from_sat(2_000)]);
    let block = Arc::new(block_after(&tip.header, tip.height + 1, 0, vec![payment.clone()]));
    chain.test_block(&block, NOW, true, true).expect("it would connect");
    assert_eq!(chain.tip().hash, tip.hash);
    assert_eq!(setup.give(&block).expect("taken"), BlockAccepted::New);
    assert_eq!(setup.give(&block).expect("known"), BlockAccepted::Duplicate);

    let entry = chain.tip();
    assert_eq!((entry.tx_count, entry.chain_tx_count), (2, u64::from(MATURITY) + 4));
    assert!(entry.status.has_data && entry.status.valid_scripts && !entry.status.failed);
    assert_eq!(chain.entry(&entry.hash).expect("known").height, entry.height);
    assert_eq!(chain.entry_at(entry.height + 1).map(|e| e.hash), None);
    assert_eq!(chain.block(&entry.hash).expect("read").as_deref(), Some(&*block));
    let undo = chain.undo(&entry.hash).expect("read").expect("there");
    assert_eq!(undo.0.len(), 1);
    assert_eq!((undo.0[0].0[0].height, undo.0[0].0[0].coinbase), (1, true));
    assert_eq!(chain.undo(&setup.genesis().block_hash()).expect("read"), None);
    assert_eq!(chain.block(&testing::unknown_hash()).expect("read"), None);

    assert_eq!(chain.coin(&payment.input[0].previous_output).expect("read"), None);
    let outpoint = bitcoin::OutPoint { txid: payment.compute_txid(), vout: 1 };
    let coin = chain.coin(&outpoint).expect("read").expect("unspent");
    assert_eq!((coin.output.value.to_sat(), coin.height, coin.coinbase), (2_000, entry.height, false));
    for _ in 0..2 {
        let (tx, at) = chain.transaction(&payment.compute_txid()).expect("read").expect("indexed");
        assert_eq!((tx, at.hash), (payment.clone(), entry.hash));
        let first = chain.transaction(&blocks[0].txdata[0].compute_txid()).expect("read").expect("indexed");
        assert_eq!(first.1.height, 1);
        chain.flush().expect("flushed");
    }
    let expected: Vec<_> = (1..=MATURITY + 2).map(|height| ('+', height)).collect();
    assert_eq!(setup.heard(), expected);
}

#[test]
fn more_work_wins_and_of_equal_work_the_first() {
    let setup = setup();
    let genesis = setup.genesis();
    let ours = branch(&genesis, 0, 2, 1);
    let theirs = branch(&genesis, 0, 3, 2);
    setup.give_all(&ours);
    setup.give_all(&theirs[..2]);
    assert_eq!(setup.chain.tip().hash, ours[1].block_hash());
    assert_eq!(setup.heard(), [('+', 1), ('+', 2)]);
    let fork = setup.chain.tips();
    assert_eq!(
        fork.iter().map(|(_, status, length)| (*status, *length)).collect::<Vec<_>>(),
        [(TipStatus::Active, 0), (TipStatus::ValidHeaders, 2)]
    );
    setup.give(&theirs[2]).expect("taken");
    assert_eq!(setup.chain.tip().hash, theirs[2].block_hash());
    assert_eq!(setup.heard(), [('-', 2), ('-', 1), ('+', 1), ('+', 2), ('+', 3)]);
    assert!(setup.chain.is_active(&theirs[0].block_hash()) && !setup.chain.is_active(&ours[0].block_hash()));
    let lost = setup.chain.transaction(&ours[0].txdata[0].compute_txid()).expect("read");
    assert!(lost.is_none(), "a transaction of a branch that lost is not in the active chain");
    let statuses: Vec<_> =
        setup.chain.tips().into_iter().map(|(entry, status, length)| (entry.height, status, length)).collect();
    assert_eq!(statuses, [(3, TipStatus::Active, 0), (2, TipStatus::ValidFork, 2)]);
}

#[test]
fn a_reorganisation_of_300_blocks_leaves_the_coins_of_the_branch_alone() {
    let setup = setup();
    let genesis = setup.genesis();
    let ours = branch(&genesis, 0, 300, 1);
    setup.give_all(&ours);
    let payment = spend(&[reward(&ours[0])], &[Amount::from_sat(7)]);
    let paying = Arc::new(block_after(&ours[299].header, 301, 1, vec![payment]));
    setup.give(&paying).expect("taken");
    setup.chain.flush().expect("flushed");
    let theirs = branch(&genesis, 0, 302, 2);
    for block in theirs.iter().rev() {
        // Last first: nothing can be connected until the first has come, so headers come before.
        let headers: Vec<_> = theirs.iter().map(|block| block.header).collect();
        setup.chain.process_headers(&headers, NOW).expect("headers");
        setup.give(block).expect("taken");
    }
    assert_eq!(setup.chain.tip().hash, theirs[301].block_hash());

    let fresh = tempfile::tempdir().expect("temporary directory");
    let straight = testing::open(fresh.path()).expect("opens");
    for block in &theirs {
        straight.process_block(block.clone(), NOW, false).expect("taken");
    }
    assert_eq!(testing::coins(&setup.chain).expect("coins"), testing::coins(&straight).expect("coins"));
}

/// A block whose coinbase pays itself one satoshi too much: found out only when it is connected.
fn greedy(parent: &bitcoin::block::Header, height: u32) -> Arc<Block> {
    let mut block = block_after(parent, height, 9, Vec::new());
    block.txdata[0].output[0].value += Amount::from_sat(1);
    seal(&mut block);
    Arc::new(block)
}

#[test]
fn a_better_branch_with_an_invalid_block_in_its_middle_goes_back() {
    let setup = setup();
    let genesis = setup.genesis();
    let ours = branch(&genesis, 0, 3, 1);
    setup.give_all(&ours);
    let mut theirs = branch(&genesis, 0, 2, 2);
    theirs.push(greedy(&theirs[1].header, 3));
    theirs.extend(branch(&theirs[2].header, 3, 2, 2));
    let before = testing::coins(&setup.chain).expect("coins");
    setup.heard();
    setup.give_all(&theirs[..3]);
    assert_eq!(reason(setup.give(&theirs[3])), "bad-prevblk");
    assert_eq!(setup.chain.tip().hash, ours[2].block_hash());
    assert_eq!(
        setup.heard(),
        [('-', 3), ('-', 2), ('-', 1), ('+', 1), ('+', 2), ('-', 2), ('-', 1), ('+', 1), ('+', 2), ('+', 3)]
    );
    assert_eq!(testing::coins(&setup.chain).expect("coins"), before);
    assert_eq!(setup.chain.best_header().hash, ours[2].block_hash());
    assert_eq!(reason(setup.give(&theirs[2])), "duplicate-invalid");
    assert_eq!(reason(setup.give(&theirs[4])), "bad-prevblk");
    assert!(setup.chain.entry(&theirs[3].block_hash()).expect("known").status.failed);
    let invalid = setup.chain.tips().into_iter().find(|(_, status, _)| *status == TipStatus::Invalid);
    assert_eq!(invalid.map(|(entry, _, length)| (entry.hash, length)), Some((theirs[3].block_hash(), 4)));
    setup.give_all(&branch(&ours[2].header, 3, 1, 1));
}

#[test]
fn an_invalid_block_is_refused_with_its_reason_and_the_tip_stays() {
    let setup = setup();
    let ours = grow(&setup.chain, 2).expect("grown");
    let tip = setup.chain.tip();
    let bad = greedy(&tip.header, 3);
    assert!(
        matches!(setup.chain.test_block(&bad, NOW, true, true), Err(ChainError::Rejected(r)) if r.reason == "bad-cb-amount")
    );
    assert!(setup.chain.entry(&bad.block_hash()).is_none(), "testing a block leaves nothing behind");
    assert_eq!(reason(setup.give(&bad)), "bad-cb-amount");
    assert_eq!(reason(setup.give(&bad)), "duplicate-invalid");
    assert_eq!(setup.chain.tip().hash, tip.hash);

    let stale = block_after(&ours[0].header, 2, 5, Vec::new());
    let refused = setup.chain.test_block(&stale, NOW, true, true);
    assert!(matches!(refused, Err(ChainError::Rejected(r)) if r.reason == "inconclusive-not-best-prevblk"));
    let early = spend(&[reward(&ours[0])], &[Amount::from_sat(1)]);
    let early = Arc::new(block_after(&tip.header, 3, 6, vec![early]));
    assert_eq!(reason(setup.give(&early)), "bad-txns-premature-spend-of-coinbase");
    let orphan = Arc::new(block_after(&block_after(&tip.header, 3, 7, Vec::new()).header, 4, 7, Vec::new()));
    assert_eq!(reason(setup.give(&orphan)), "prev-blk-not-found");
}

#[test]
fn what_is_transient_or_malleated_condemns_nothing() {
    let setup = setup();
    let block = Arc::new(block_after(&setup.genesis(), 1, 0, Vec::new()));
    let too_new = setup.chain.process_block(block.clone(), block.header.time - 7201, false);
    assert!(matches!(&too_new, Err(ChainError::Rejected(r)) if r.kind == BlockRejectKind::TimeFuture), "{too_new:?}");
    let mut malleated = (*block).clone();
    malleated.txdata[0].output[0].value += Amount::from_sat(1);
    let refused = setup.give(&Arc::new(malleated));
    assert!(matches!(&refused, Err(ChainError::Rejected(r)) if r.kind == BlockRejectKind::Mutated), "{refused:?}");
    let mut stripped = (*block).clone();
    stripped.txdata[0].input[0].witness.clear();
    let refused = setup.give(&Arc::new(stripped));
    assert!(matches!(&refused, Err(ChainError::Rejected(r)) if r.kind == BlockRejectKind::Mutated), "{refused:?}");
    assert_eq!(setup.give(&block).expect("taken"), BlockAccepted::New);
    assert_eq!(setup.chain.tip().height, 1);
}

#[test]
fn invalidating_leaves_a_block_and_reconsidering_comes_back() {
    let setup = setup();
    let genesis = setup.genesis();
    let ours = branch(&genesis, 0, 5, 1);
    let theirs = branch(&ours[0].header, 1, 2, 2);
    setup.give_all(&ours);
    setup.give_all(&theirs);
    setup.chain.invalidate_block(&ours[1].block_hash()).expect("invalidated");
    assert_eq!(setup.chain.tip().hash, theirs[1].block_hash());
    assert_eq!(setup.chain.best_header().hash, theirs[1].block_hash());
    assert!(setup.chain.entry(&ours[4].block_hash()).expect("known").status.failed);
    assert_eq!(reason(setup.give(&branch(&ours[4].header, 5, 1, 1)[0])), "bad-prevblk");
    setup.chain.invalidate_block(&ours[0].block_hash()).expect("invalidated");
    assert_eq!(setup.chain.tip().height, 0);
    setup.chain.reconsider_block(&ours[3].block_hash()).expect("reconsidered");
    assert_eq!(setup.chain.tip().hash, ours[4].block_hash());
    assert_eq!(setup.chain.best_header().hash, ours[4].block_hash());
    assert!(matches!(setup.chain.invalidate_block(&genesis.block_hash()), Err(ChainError::Genesis)));
    let unknown = testing::unknown_hash();
    assert!(matches!(setup.chain.invalidate_block(&unknown), Err(ChainError::UnknownBlock(h)) if h == unknown));
}

#[test]
fn headers_come_first_and_their_data_in_any_order() {
    let setup = setup();
    let blocks = branch(&setup.genesis(), 0, 4, 1);
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    let last = setup.chain.process_headers(&headers, NOW).expect("headers");
    assert_eq!((last.height, last.tx_count, last.status.has_data), (4, 0, false));
    assert_eq!(setup.chain.best_header().hash, headers[3].block_hash());
    assert_eq!(setup.chain.tip().height, 0);
    assert_eq!(setup.chain.tips()[0].1, TipStatus::HeadersOnly);
    for n in [2, 1, 3] {
        setup.give(&blocks[n]).expect("taken");
        assert_eq!(setup.chain.tip().height, 0);
    }
    setup.give(&blocks[0]).expect("taken");
    assert_eq!(setup.chain.tip().height, 4);
    assert_eq!(setup.heard(), [('+', 1), ('+', 2), ('+', 3), ('+', 4)]);
    let orphan = branch(&block_after(&headers[3], 5, 8, Vec::new()).header, 5, 1, 8)[0].header;
    let refused = setup.chain.process_headers(&[orphan], NOW);
    assert!(matches!(refused, Err(ChainError::Rejected(r)) if r.reason == "prev-blk-not-found"));
}

#[test]
fn scripts_of_a_large_block_are_checked_whoever_checks_them() {
    let setup = setup();
    let blocks = grow(&setup.chain, MATURITY + 40).expect("grown");
    let tip = setup.chain.tip();
    let spends = |bad: Option<usize>| -> Vec<_> {
        (0..40)
            .map(|n| {
                let mut tx = spend(&[reward(&blocks[n])], &[Amount::from_sat(n as u64 + 1)]);
                if bad == Some(n) {
                    // A witness script that is not the one paid to.
                    tx.input[0].witness = bitcoin::Witness::from_slice(&[vec![0x52]]);
                }
                tx
            })
            .collect()
    };
    for bad in [0, 17, 39] {
        let block = Arc::new(block_after(&tip.header, tip.height + 1, bad as u32, spends(Some(bad))));
        assert!(reason(setup.give(&block)).starts_with("block-script-verify-flag-failed"));
    }
    let block = Arc::new(block_after(&tip.header, tip.height + 1, 99, spends(None)));
    setup.give(&block).expect("taken");
    assert_eq!(setup.chain.tip().hash, block.block_hash());
}

#[test]
fn observers_and_other_threads_read_a_committed_tip_while_blocks_connect() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let slot: Arc<OnceLock<Arc<Chain>>> = Arc::default();
    let seen = slot.clone();
    let config = ChainConfig { coin_cache_bytes: 1 << 20, ..ChainConfig::new(dir.path().to_owned(), regtest()) };
    let observer = move |event: &ChainEvent| {
        let chain = seen.get().expect("set before the first block");
        let (expected, reward, there) = match event {
            ChainEvent::Connected { block, entry } => (entry.hash, reward(block), true),
            ChainEvent::Disconnected { block, entry } => (entry.header.prev_blockhash, reward(block), false),
            ChainEvent::Stopped { cause } => panic!("{cause}"),
        };
        assert_eq!(chain.tip().hash, expected);
        assert_eq!(chain.coin(&reward).expect("read").is_some(), there);
    };
    let chain = Arc::new(Chain::open(config, Box::new(observer)).expect("opens"));
    assert!(slot.set(chain.clone()).is_ok());
    let genesis = chain.tip().header;
    let (ours, theirs) = (branch(&genesis, 0, 60, 1), branch(&genesis, 0, 61, 2));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let tip = chain.tip();
                    assert!(tip.status.has_data && tip.status.valid_scripts);
                    assert!(chain.block(&tip.hash).expect("read").is_some());
                    let tips = chain.tips();
                    assert_eq!(tips.iter().filter(|(_, status, _)| *status == TipStatus::Active).count(), 1);
                }
            });
        }
        for block in ours.iter().chain(&theirs) {
            chain.process_block(block.clone(), NOW, false).expect("taken");
        }
        chain.flush().expect("flushed");
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(chain.tip().hash, theirs[60].block_hash());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A random tree, some of its blocks invalid, given in a random order in which only headers come parents first:
    /// the tip has the most valid work, and the coins are those of that branch alone.
    #[test]
    fn any_order_leads_to_a_tip_of_most_work(
        picks in prop::collection::vec((any::<u32>(), 0u8..12), 1..25),
        order in any::<u64>(),
    ) {
        let setup = setup();
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let mut known: Vec<(bitcoin::block::Header, u32, bool)> = vec![(setup.genesis(), 0, true)];
        for (salt, (pick, kind)) in (0..).zip(picks) {
            // Mostly from the newest, so that branches grow.
            let parent = known[known.len() - 1 - (pick as usize % known.len().min(4))];
            let block = if kind == 0 {
                greedy_salted(&parent.0, parent.1 + 1, salt)
            } else {
                Arc::new(block_after(&parent.0, parent.1 + 1, salt, Vec::new()))
            };
            known.push((block.header, parent.1 + 1, parent.2 && kind != 0));
            blocks.push(block);
        }
        let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
        setup.chain.process_headers(&headers, NOW).expect("headers are valid");
        let mut shuffled = blocks.clone();
        let mut state = order;
        for n in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(n, (state >> 33) as usize % (n + 1));
        }
        for block in &shuffled {
            match setup.give(block) {
                Ok(_) | Err(ChainError::Rejected(_)) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        let best = known.iter().filter(|(.., valid)| *valid).map(|(_, height, _)| *height).max();
        prop_assert_eq!(Some(setup.chain.tip().height), best);

        let by_hash: HashMap<_, _> = blocks.iter().map(|block| (block.block_hash(), block)).collect();
        let mut path = Vec::new();
        let mut at = setup.chain.tip().hash;
        while let Some(block) = by_hash.get(&at) {
            path.push(*block);
            at = block.header.prev_blockhash;
        }
        let fresh = tempfile::tempdir().expect("temporary directory");
        let straight = testing::open(fresh.path()).expect("opens");
        for block in path.into_iter().rev() {
            straight.process_block(block.clone(), NOW, false).expect("taken");
        }
        prop_assert_eq!(straight.tip().hash, setup.chain.tip().hash);
        prop_assert_eq!(testing::coins(&straight).expect("coins"), testing::coins(&setup.chain).expect("coins"));

        // What the observer heard leads, step by step, to the tip.
        let mut stack = vec![setup.genesis().block_hash()];
        for (sign, height, hash) in setup.heard.lock().expect("nobody panics holding it").iter() {
            if *sign == '+' {
                stack.push(*hash);
                prop_assert_eq!(stack.len() as u32, height + 1);
            } else {
                prop_assert_eq!(stack.pop(), Some(*hash));
            }
        }
        prop_assert_eq!(stack.pop(), Some(setup.chain.tip().hash));
    }
}

fn greedy_salted(parent: &bitcoin::block::Header, height: u32, salt: u32) -> Arc<Block> {
    let mut block = block_after(parent, height, salt, Vec::new());
    block.txdata[0].output[0].value += Amount::from_sat(1);
    seal(&mut block);
    Arc::new(block)
}
