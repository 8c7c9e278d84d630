//! Which blocks are asked of whom, and how much of them may come.

use crate::sim::Sim;
use crate::stranger::{block, chain_of, headers};
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, ScriptBuf};
use cairn_chain::ChainError;
use cairn_p2p::engine::Event;
use cairn_p2p::limits::*;
use cairn_p2p::types::{ConnectionKind, PeerId};
use cairn_p2p::work::{Done, Job};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// As long as makes a node at genesis one that is far behind.
const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);

/// A peer with which blocks are fetched that it tells of.
fn follow(sim: &mut Sim, blocks: &[Arc<Block>]) -> PeerId {
    let peer = sim.meet(0, ConnectionKind::Manual);
    sim.say(0, peer, headers(blocks));
    peer
}

/// It gives all blocks that it is asked for but these; returns those asked for, in order.
fn give(sim: &mut Sim, peer: PeerId, blocks: &[Arc<Block>], withheld: &[BlockHash]) -> Vec<BlockHash> {
    let by_hash: HashMap<BlockHash, &Arc<Block>> = blocks.iter().map(|block| (block.block_hash(), block)).collect();
    let mut all = Vec::new();
    loop {
        let asked = sim.asked(0, peer);
        if asked.is_empty() {
            return all;
        }
        for hash in asked.iter().filter(|hash| !withheld.contains(hash)) {
            sim.say(0, peer, block(by_hash[hash]));
        }
        all.extend(asked);
    }
}

#[test]
fn sixteen_blocks_are_asked_of_a_peer_at_once() {
    for behind in [true, false] {
        let mut sim = Sim::new(1, 1);
        if behind {
            sim.pass(DAYS);
        }
        let blocks = chain_of(60);
        let peer = follow(&mut sim, &blocks);
        let mut asked = sim.asked(0, peer);
        assert_eq!(asked.len(), MAX_BLOCKS_IN_TRANSIT_PER_PEER);
        for given in 0..blocks.len() {
            assert!(asked.len() - given <= MAX_BLOCKS_IN_TRANSIT_PER_PEER);
            assert_eq!(sim.info(0, peer).in_flight.len(), asked.len() - given);
            assert_eq!(asked[given], blocks[given].block_hash(), "in their order");
            sim.say(0, peer, block(&blocks[given]));
            asked.extend(sim.asked(0, peer));
        }
        assert_eq!((sim.tips()[0].0, asked.len()), (60, 60));
    }
}

#[test]
fn the_window_is_1024_blocks_and_who_holds_its_first_one_goes_after_ever_longer() {
    let mut sim = Sim::new(1, 2);
    sim.pass(DAYS);
    let blocks = chain_of(BLOCK_DOWNLOAD_WINDOW + 10);
    let first = blocks[0].block_hash();
    let mut holder = follow(&mut sim, &blocks);
    let asked = give(&mut sim, holder, &blocks, &[first]);
    assert_eq!(asked[0], first);
    let mut idle = follow(&mut sim, &blocks);
    let last = blocks[BLOCK_DOWNLOAD_WINDOW as usize - 1].block_hash();
    let also = give(&mut sim, idle, &blocks, &[first]);
    assert!(asked.iter().chain(&also).any(|hash| *hash == last), "up to the window's end");
    let beyond: Vec<BlockHash> =
        blocks[BLOCK_DOWNLOAD_WINDOW as usize..].iter().map(|block| block.block_hash()).collect();
    assert!(!asked.iter().chain(&also).any(|hash| beyond.contains(hash)), "and not beyond it");

    let mut patience = BLOCK_STALLING_TIMEOUT;
    for _ in 0..7 {
        // Whoever has nothing to do sees who it waits for.
        sim.pass(SECOND);
        sim.pass(patience - SECOND);
        assert!(!sim.is_gone(0, holder), "it has {patience:?}");
        sim.pass(SECOND);
        sim.pass(SECOND);
        assert!(sim.is_gone(0, holder), "its {patience:?} are over");
        sim.leave(0, holder);
        assert!(sim.asked(0, idle).contains(&first), "another is asked");
        (holder, idle) = (idle, follow(&mut sim, &blocks));
        patience = (patience * 2).min(BLOCK_STALLING_TIMEOUT_MAX);
    }
    assert_eq!(patience, BLOCK_STALLING_TIMEOUT_MAX);
    sim.say(0, holder, block(&blocks[0]));
    assert_eq!(sim.tips()[0].0, BLOCK_DOWNLOAD_WINDOW);
    give(&mut sim, holder, &blocks, &[]);
    give(&mut sim, idle, &blocks, &[]);
    assert_eq!(sim.tips()[0].0, BLOCK_DOWNLOAD_WINDOW + 10, "the window moves again");
}

#[test]
fn no_block_is_asked_for_while_32_mib_of_them_wait() {
    const SIZE: usize = 3_900_000;
    let mut sim = Sim::new(1, 3);
    sim.pass(DAYS);
    let blocks = chain_of(60);
    let peer = follow(&mut sim, &blocks);
    sim.nodes[0].held = Some(Vec::new());
    // Nobody has looked yet whether they are what their headers say.
    let fat = |hash: BlockHash| {
        let mut fat = Block::clone(blocks.iter().find(|block| block.block_hash() == hash).unwrap());
        fat.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0; SIZE]);
        fat
    };
    let mut asked = sim.asked(0, peer);
    let mut given = 0;
    while given < asked.len() {
        sim.say(0, peer, block(&fat(asked[given])));
        given += 1;
        let more = sim.asked(0, peer);
        assert!(more.is_empty() || given * SIZE <= MAX_UNVALIDATED_BLOCK_BYTES, "{given} blocks wait");
        asked.extend(more);
    }
    assert!(given * SIZE > MAX_UNVALIDATED_BLOCK_BYTES, "{given} blocks were all");
    sim.pass(Duration::from_secs(60));
    let other = follow(&mut sim, &blocks);
    assert_eq!(sim.asked(0, other), []);
    // They are looked at, and found wrong; there is room again.
    sim.release(0);
    assert!(!sim.asked(0, other).is_empty());
}

#[test]
fn a_peer_that_keeps_the_last_blocks_is_asked_for_no_older_ones() {
    let mut sim = Sim::new(1, 4);
    let blocks = chain_of(300);
    let limited = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
    let peer = sim.meet_offering(0, ConnectionKind::Manual, limited);
    sim.say(0, peer, headers(&blocks));
    let oldest = 300 - NODE_NETWORK_LIMITED_MIN_BLOCKS + 1;
    assert_eq!(sim.asked(0, peer)[0], blocks[oldest as usize - 1].block_hash());
    let whole = follow(&mut sim, &blocks);
    assert_eq!(sim.asked(0, whole)[0], blocks[0].block_hash());
}

#[test]
fn the_next_block_is_asked_of_another_peer_after_ten_seconds() {
    let mut sim = Sim::new(1, 5);
    let blocks = chain_of(1);
    let hash = blocks[0].block_hash();
    let silent = follow(&mut sim, &blocks);
    assert_eq!(sim.asked(0, silent), [hash]);
    let others = [follow(&mut sim, &blocks), follow(&mut sim, &blocks)];
    sim.pass(BLOCK_OVERDUE);
    assert!(others.iter().all(|&other| sim.asked(0, other).is_empty()), "it has ten seconds");
    sim.pass(SECOND);
    let asked = others.map(|other| sim.asked(0, other));
    assert_eq!(asked, [vec![hash], vec![]], "one more is asked");
    sim.pass(4 * BLOCK_OVERDUE);
    assert_eq!(sim.asked(0, others[1]), [], "and no third");
    sim.say(0, others[0], block(&blocks[0]));
    assert_eq!(sim.tips()[0].1, hash);
    assert!(!sim.is_gone(0, silent), "slow is not wrong");
}

#[test]
fn no_block_is_asked_for_for_ten_seconds_after_the_disk_failed() {
    let mut sim = Sim::new(1, 6);
    let blocks = chain_of(1);
    let peer = follow(&mut sim, &blocks);
    sim.nodes[0].held = Some(Vec::new());
    sim.say(0, peer, block(&blocks[0]));
    let Some(Job::Block { peer, hash, via_compact, size, .. }) = sim.nodes[0].held.take().unwrap().pop() else {
        panic!("a block to validate")
    };
    let result = Err(ChainError::Io { what: "no space".into(), source: std::io::ErrorKind::StorageFull.into() });
    sim.handle(0, Event::Done(Done::Block { peer, hash, result, via_compact, size }));
    sim.hear(0, peer);
    sim.pass(REST_AFTER_FAILURE - SECOND);
    assert_eq!(sim.asked(0, peer), []);
    sim.pass(SECOND);
    assert_eq!(sim.asked(0, peer), [hash]);
    assert!(!sim.is_gone(0, peer), "it is not the peer's fault");
}
