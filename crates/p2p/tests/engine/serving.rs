//! What peers are given, and how much of it they may leave unread.

use crate::sim::Sim;
use crate::stranger::headers;
use bitcoin::bip152::BlockTransactionsRequest;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::GetBlockTxn;
use bitcoin::p2p::message_filter::GetCFilters;
use bitcoin::{Amount, Block, BlockHash, ScriptBuf, TxOut};
use cairn_chain::testing;
use cairn_p2p::engine::Event;
use cairn_p2p::limits::*;
use cairn_p2p::types::{ConnectionKind, PeerId};
use std::sync::Arc;

/// The block so far below the tip.
fn hash_at_depth(sim: &Sim, depth: u32) -> BlockHash {
    let chain = &sim.nodes[0].host.chain;
    chain.entry_at(chain.tip().height - depth).unwrap().hash
}

fn get(sim: &mut Sim, peer: PeerId, items: Vec<Inventory>) {
    sim.say(0, peer, NetworkMessage::GetData(items));
}

/// What it hears of blocks, by command.
fn hear_blocks(sim: &mut Sim, peer: PeerId) -> Vec<String> {
    let commands = sim.read(0, peer).into_iter().map(|frame| frame.command().to_string());
    commands.filter(|command| ["block", "cmpctblock", "blocktxn"].contains(&command.as_str())).collect()
}

/// A block on the tip whose coinbase has more outputs: as large as they are.
fn mine_with(sim: &mut Sim, outputs: Vec<TxOut>) -> BlockHash {
    let chain = sim.nodes[0].host.chain.clone();
    let tip = chain.tip();
    let mut block = testing::block_after(&tip.header, tip.height + 1, 1, Vec::new());
    block.txdata[0].output.splice(1..1, outputs);
    testing::seal(&mut block);
    let hash = block.block_hash();
    chain.process_block(Arc::new(block), u32::try_from(sim.now().as_secs()).unwrap(), false).unwrap();
    let now = sim.now();
    sim.nodes[0].settle(now);
    hash
}

#[test]
fn a_block_is_served_as_a_compact_one_down_to_depth_five() {
    let mut sim = Sim::new(1, 1);
    sim.mine(0, 20);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    for (depth, command) in
        [(0, "cmpctblock"), (MAX_CMPCTBLOCK_DEPTH, "cmpctblock"), (MAX_CMPCTBLOCK_DEPTH + 1, "block")]
    {
        let hash = hash_at_depth(&sim, depth);
        get(&mut sim, peer, vec![Inventory::CompactBlock(hash)]);
        assert_eq!(hear_blocks(&mut sim, peer), [command], "depth {depth}");
    }
}

#[test]
fn transactions_of_a_block_are_picked_down_to_depth_ten() {
    let mut sim = Sim::new(1, 2);
    sim.mine(0, 20);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    for (depth, command) in [(0, "blocktxn"), (MAX_BLOCKTXN_DEPTH, "blocktxn"), (MAX_BLOCKTXN_DEPTH + 1, "block")] {
        let txs_request = BlockTransactionsRequest { block_hash: hash_at_depth(&sim, depth), indexes: vec![0] };
        sim.say(0, peer, NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request }));
        assert_eq!(hear_blocks(&mut sim, peer), [command], "depth {depth}");
    }
}

#[test]
fn a_pruned_node_serves_290_blocks() {
    let mut sim = Sim::new(0, 3);
    sim.add_node_offering(ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS);
    sim.mine(0, 300);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    // Two more than it says, for blocks that come meanwhile.
    let last = hash_at_depth(&sim, NODE_NETWORK_LIMITED_MIN_BLOCKS + 2);
    get(&mut sim, peer, vec![Inventory::WitnessBlock(last)]);
    assert_eq!(hear_blocks(&mut sim, peer), ["block"]);
    assert!(!sim.is_gone(0, peer));
    let beyond = hash_at_depth(&sim, NODE_NETWORK_LIMITED_MIN_BLOCKS + 3);
    get(&mut sim, peer, vec![Inventory::WitnessBlock(beyond)]);
    assert_eq!(hear_blocks(&mut sim, peer), [""; 0]);
    assert!(sim.is_gone(0, peer));
}

#[test]
fn a_megabyte_unread_stops_the_answers_until_it_is_read() {
    let mut sim = Sim::new(1, 4);
    sim.mine(0, 20);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    sim.read(0, peer);
    let hash = hash_at_depth(&sim, 15);
    let size = sim.nodes[0].host.chain.block_bytes(&hash).unwrap().unwrap().len();
    get(&mut sim, peer, vec![Inventory::WitnessBlock(hash); MAX_INV_SIZE]);
    sim.say(0, peer, NetworkMessage::Ping(7));
    let mut served = 0;
    loop {
        let unread = sim.unread(0, peer);
        assert!(unread < MAX_SEND_BUFFER + 16 * size, "{unread} bytes: no more than one batch above the bound");
        let frames = sim.read(0, peer);
        served += frames.iter().filter(|frame| frame.command().as_str() == "block").count();
        if frames.iter().any(|frame| frame.command().as_str() == "pong") {
            break;
        }
        assert!(unread >= MAX_SEND_BUFFER, "{unread} bytes, and {served} blocks of {MAX_INV_SIZE}");
    }
    assert_eq!(served, MAX_INV_SIZE, "all are served, before what was said after them");
}

#[test]
fn large_blocks_are_read_as_the_peer_reads_them() {
    let mut sim = Sim::new(1, 5);
    let size = 900_000;
    let fat = || vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a; size]) }];
    let hashes: Vec<BlockHash> = (0..8).map(|_| mine_with(&mut sim, fat())).collect();
    // The last is at hand without reading.
    sim.mine(0, 1);
    let peer = sim.meet(0, ConnectionKind::Inbound);
    sim.read(0, peer);
    get(&mut sim, peer, hashes.iter().map(|&hash| Inventory::WitnessBlock(hash)).collect());
    let mut served = Vec::new();
    while served.len() < hashes.len() {
        let unread = sim.unread(0, peer);
        assert!(unread < 2 * MAX_SEND_BUFFER, "{unread} bytes unread, of {} served", served.len());
        let blocks = sim.hear(0, peer).into_iter().filter_map(|message| match message {
            NetworkMessage::Block(block) => Some(block.block_hash()),
            _ => None,
        });
        let before = served.len();
        served.extend(blocks);
        assert!(served.len() > before, "it goes on when they are read");
    }
    assert_eq!(served, hashes);
}

#[test]
fn filters_are_made_as_the_peer_reads_them() {
    let mut sim = Sim::new(0, 6);
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS | ServiceFlags::COMPACT_FILTERS;
    sim.add_node_offering(services);
    // A filter has 2.6 bytes for each script.
    let outputs = |round: u32| {
        let script = |n: u32| ScriptBuf::from_bytes([&[4][..], &(round * 100_000 + n).to_le_bytes()].concat());
        (0..52_000).map(|n| TxOut { value: Amount::ZERO, script_pubkey: script(n) }).collect()
    };
    let hashes: Vec<BlockHash> = (0..8).map(|round| mine_with(&mut sim, outputs(round))).collect();
    let peer = sim.meet(0, ConnectionKind::Inbound);
    sim.read(0, peer);
    let stop_hash = hashes[7];
    sim.say(0, peer, NetworkMessage::GetCFilters(GetCFilters { filter_type: 0, start_height: 1, stop_hash }));
    sim.say(0, peer, NetworkMessage::Ping(7));
    let mut filters = Vec::new();
    let mut steps = 0;
    loop {
        let unread = sim.unread(0, peer);
        assert!(unread < MAX_SEND_BUFFER + 200_000, "{unread} bytes: no more than one filter above the bound");
        let heard = sim.hear(0, peer);
        filters.extend(heard.iter().filter_map(|message| match message {
            NetworkMessage::CFilter(filter) => Some(filter.block_hash),
            _ => None,
        }));
        steps += 1;
        if heard.iter().any(|message| matches!(message, NetworkMessage::Pong(_))) {
            break;
        }
        assert!(!heard.is_empty(), "{} filters came", filters.len());
    }
    assert_eq!(filters, hashes);
    assert!(steps > 1, "at once it would be too much");
}

#[test]
fn eight_blocks_are_announced_one_by_one_and_more_by_the_last() {
    for (count, one_by_one) in [(MAX_BLOCKS_TO_ANNOUNCE, true), (MAX_BLOCKS_TO_ANNOUNCE + 1, false)] {
        let mut sim = Sim::new(1, 7);
        sim.mine(0, 1);
        let peer = sim.meet(0, ConnectionKind::Inbound);
        sim.say(0, peer, NetworkMessage::SendHeaders);
        let chain = sim.nodes[0].host.chain.clone();
        let tip = chain.tip();
        sim.say(0, peer, headers(&[chain.block(&tip.hash).unwrap().unwrap()]));
        sim.read(0, peer);
        let blocks: Vec<Arc<Block>> = testing::branch(&tip.header, tip.height, count as u32, 1);
        for block in &blocks {
            chain.process_block(block.clone(), u32::try_from(sim.now().as_secs()).unwrap(), false).unwrap();
        }
        sim.handle(0, Event::TipChanged);
        let told: Vec<usize> = sim
            .hear(0, peer)
            .into_iter()
            .filter_map(|message| match message {
                NetworkMessage::Headers(headers) => Some(headers.len()),
                NetworkMessage::Inv(items) => {
                    assert_eq!(items, [Inventory::Block(blocks[count - 1].block_hash())]);
                    Some(0)
                }
                _ => None,
            })
            .collect();
        assert_eq!(told, [if one_by_one { count } else { 0 }]);
    }
}
