//! Compact blocks (BIP 152): who announces them, and how many are pieced together at once.

use crate::sim::Sim;
use crate::stranger::{block, headers};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::CmpctBlock;
use bitcoin::{Amount, Block, BlockHash, OutPoint, Txid, hashes::Hash};
use cairn_chain::testing;
use cairn_p2p::compact::compact_block;
use cairn_p2p::limits::*;
use cairn_p2p::types::{ConnectionKind, PeerId};
use std::sync::Arc;

/// A block on the tip with a transaction that nobody knows, or without.
fn next_block(sim: &Sim, salt: u32, with_unknown: bool) -> Block {
    let tip = sim.nodes[0].host.chain.tip();
    let spent = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
    let unknown = with_unknown.then(|| testing::spend(&[spent], &[Amount::from_sat(1)]));
    testing::block_after(&tip.header, tip.height + 1, salt, unknown.into_iter().collect())
}

/// The peer is the first with a block; what it hears of being asked for compact blocks unasked.
fn is_first(sim: &mut Sim, peer: PeerId, salt: u32) {
    let next = Arc::new(next_block(sim, salt, false));
    sim.say(0, peer, headers(std::slice::from_ref(&next)));
    sim.say(0, peer, block(&next));
    assert_eq!(sim.tips()[0].1, next.block_hash());
}

fn told(sim: &mut Sim, peer: PeerId) -> Vec<bool> {
    let told = |message| match message {
        NetworkMessage::SendCmpct(message) => Some(message.send_compact),
        _ => None,
    };
    sim.hear(0, peer).into_iter().filter_map(told).collect()
}

/// Peers that were each the first with a block.
fn chosen(sim: &mut Sim, kinds: &[ConnectionKind]) -> Vec<PeerId> {
    let peers: Vec<PeerId> = kinds.iter().map(|&kind| sim.meet(0, kind)).collect();
    for (&peer, salt) in peers.iter().zip(100..) {
        is_first(sim, peer, salt);
    }
    peers
}

fn send_compact(sim: &mut Sim, peer: PeerId, block: &Block) {
    let compact_block = compact_block(block, peer.0);
    sim.say(0, peer, NetworkMessage::CmpctBlock(CmpctBlock { compact_block }));
}

#[test]
fn three_peers_announce_by_compact_block_unasked() {
    let mut sim = Sim::new(1, 1);
    let peers: Vec<PeerId> = (0..MAX_HB_PEERS + 1).map(|_| sim.meet(0, ConnectionKind::Inbound)).collect();
    for &peer in &peers {
        told(&mut sim, peer);
    }
    for (&peer, salt) in peers.iter().zip(1..) {
        is_first(&mut sim, peer, salt);
        assert_eq!(told(&mut sim, peer), [true]);
        let asked = peers.iter().filter(|&&peer| sim.info(0, peer).hb_to).count();
        assert!(asked <= MAX_HB_PEERS, "{asked} peers");
    }
    assert_eq!(told(&mut sim, peers[0]), [false], "the fourth takes the place of the first");
    assert!(peers[1..].iter().all(|&peer| sim.info(0, peer).hb_to));
}

#[test]
fn a_compact_block_is_pieced_together_from_three_peers_one_of_them_outbound() {
    use ConnectionKind::{Inbound, Manual};
    for (kinds, expected) in
        [([Inbound; 3], MAX_CMPCTBLOCKS_IN_FLIGHT - 1), ([Inbound, Inbound, Manual], MAX_CMPCTBLOCKS_IN_FLIGHT)]
    {
        let mut sim = Sim::new(1, 2);
        let peers = chosen(&mut sim, &kinds);
        // One more that knows the block, but was not chosen to tell of it so.
        let fourth = sim.meet(0, Inbound);
        let next = next_block(&sim, 1, true);
        let mut asked = 0;
        for &peer in peers.iter().chain([&fourth]) {
            sim.hear(0, peer);
            send_compact(&mut sim, peer, &next);
            let heard = sim.hear(0, peer);
            asked += heard.iter().filter(|message| matches!(message, NetworkMessage::GetBlockTxn(_))).count();
        }
        assert_eq!(asked, expected);
    }
}

#[test]
fn three_blocks_that_were_announced_early_are_kept() {
    let mut sim = Sim::new(1, 3);
    let peer = chosen(&mut sim, &[ConnectionKind::Manual])[0];
    sim.nodes[0].held = Some(Vec::new());
    // Each has the work that a next block has; none was validated yet.
    let rivals: Vec<Block> = (0..MAX_EARLY_BLOCKS as u32 + 1).map(|salt| next_block(&sim, salt, false)).collect();
    let hashes: Vec<BlockHash> = rivals.iter().map(Block::block_hash).collect();
    for rival in &rivals {
        send_compact(&mut sim, peer, rival);
    }
    let other = sim.meet(0, ConnectionKind::Inbound);
    sim.hear(0, other);
    sim.say(0, other, NetworkMessage::GetData(hashes.iter().map(|&hash| Inventory::WitnessBlock(hash)).collect()));
    let served: Vec<BlockHash> = sim
        .hear(0, other)
        .into_iter()
        .filter_map(|message| match message {
            NetworkMessage::Block(block) => Some(block.block_hash()),
            _ => None,
        })
        .collect();
    assert_eq!(served, hashes[1..], "the first was let go");
}
