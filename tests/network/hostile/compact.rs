//! Compact blocks that cannot be put together, and questions about them.

use super::blocks::announce;
use super::{Arena, USUAL};
use crate::peer::{Peer, grind, raw_frame};
use bitcoin::Block;
use bitcoin::BlockHash;
use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, ShortId};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn};

/// Waits until the node gives a compact block up, and asks for the whole one.
#[track_caller]
fn asked_for_whole(peer: &mut Peer, hash: BlockHash) {
    peer.until(|said| match said {
        NetworkMessage::GetData(items) => items.contains(&Inventory::WitnessBlock(hash)).then_some(()),
        _ => None,
    });
}

/// Waits until the node asks for what is missing.
fn asked_for_missing(peer: &mut Peer) -> BlockTransactionsRequest {
    peer.until(|said| match said {
        NetworkMessage::GetBlockTxn(question) => Some(question.txs_request.clone()),
        _ => None,
    })
}

fn compact(block: &Block) -> HeaderAndShortIds {
    HeaderAndShortIds::from_block(block, 1, 2, &[]).expect("a block with a coinbase")
}

fn send_compact(peer: &mut Peer, compact_block: HeaderAndShortIds) {
    peer.send(NetworkMessage::CmpctBlock(CmpctBlock { compact_block }));
}

impl Arena {
    /// A block that a peer has announced, and that the node has asked it for as a compact block.
    fn asked_compact(&self, rewards: &[u64]) -> (Peer, Block) {
        let spends: Vec<_> = rewards.iter().map(|&height| self.spend_reward(height)).collect();
        let block = self.block_with(&spends);
        let mut peer = Peer::shake_compact(&self.node);
        let asked = announce(&mut peer, std::slice::from_ref(&block));
        assert_eq!(asked, Inventory::CompactBlock(block.block_hash()), "one block on the tip is asked for so");
        (peer, block)
    }
}

#[test]
fn compact_blocks() {
    let arena = Arena::new(130);
    arena.case("a compact block with an index out of range", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[1]);
        let mut payload = serialize(&block.header);
        payload.extend([0; 8]);
        // No short ids; one transaction, which claims the place 10,000.
        payload.extend([0, 1, 0xfd, 0x10, 0x27]);
        payload.extend(serialize(&block.txdata[0]));
        peer.send_bytes(&raw_frame(b"cmpctblock", &payload));
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a compact block of nothing", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[]);
        let mut empty = compact(&block);
        empty.prefilled_txs.clear();
        send_compact(&mut peer, empty);
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a compact block with a short id twice", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[2, 3]);
        let mut doubled = compact(&block);
        doubled.short_ids[1] = doubled.short_ids[0];
        send_compact(&mut peer, doubled);
        asked_for_whole(&mut peer, block.block_hash());
        drop(peer);
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a compact block of more transactions than a block has", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[]);
        let mut long = compact(&block);
        let id = |number: u32| {
            let bytes = number.to_le_bytes();
            ShortId::from([bytes[0], bytes[1], bytes[2], bytes[3], 7, 7])
        };
        long.short_ids = (0..200_000).map(id).collect();
        send_compact(&mut peer, long);
        peer.send(NetworkMessage::Ping(1));
        let _ = peer.receive();
        drop(peer);
        arena.assert_taken_from_honest(&block);
    });
    arena.case("wrong transactions for a compact block", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[4, 5]);
        send_compact(&mut peer, compact(&block));
        assert_eq!(asked_for_missing(&mut peer).indexes, [1, 2]);
        let transactions = vec![block.txdata[2].clone(), block.txdata[1].clone()];
        let answer = BlockTransactions { block_hash: block.block_hash(), transactions };
        peer.send(NetworkMessage::BlockTxn(BlockTxn { transactions: answer }));
        asked_for_whole(&mut peer, block.block_hash());
        drop(peer);
        arena.assert_taken_from_honest(&block);
    });
    arena.case("fewer transactions than are missing", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[6, 7]);
        send_compact(&mut peer, compact(&block));
        asked_for_missing(&mut peer);
        let answer = BlockTransactions { block_hash: block.block_hash(), transactions: vec![block.txdata[1].clone()] };
        peer.send(NetworkMessage::BlockTxn(BlockTxn { transactions: answer }));
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("missing transactions that never come", USUAL, |arena| {
        let (mut peer, block) = arena.asked_compact(&[8]);
        send_compact(&mut peer, compact(&block));
        asked_for_missing(&mut peer);
        arena.assert_taken_from_honest(&block);
    });
    arena.case("transactions that were not asked for", USUAL, |arena| {
        let block = arena.block_with(&[arena.spend_reward(9)]);
        let mut peer = Peer::shake_compact(&arena.node);
        for _ in 0..1000 {
            let transactions = block.txdata.clone();
            let answer = BlockTransactions { block_hash: block.block_hash(), transactions };
            peer.send(NetworkMessage::BlockTxn(BlockTxn { transactions: answer }));
        }
        peer.synced();
    });
    arena.case("a thousand compact blocks that nobody asked for", USUAL, |arena| {
        let mut peer = Peer::shake_compact(&arena.node);
        let mut block = arena.block_with(&[]);
        for number in 0..1000 {
            block.header.merkle_root = bitcoin::TxMerkleNode::hash(&u32::to_le_bytes(number));
            grind(&mut block.header, true);
            send_compact(&mut peer, compact(&block));
        }
        peer.synced();
    });
    arena.case("a compact block without its proof of work", USUAL, |arena| {
        let mut block = arena.block_with(&[]);
        grind(&mut block.header, false);
        let mut peer = Peer::shake_compact(&arena.node);
        send_compact(&mut peer, compact(&block));
        peer.hung_up();
    });
    arena.case("transactions asked for that a block has not", USUAL, |arena| {
        // Of the last block, which is at hand, and of one that is read from disk.
        for depth in [0, 5] {
            let hash = arena.node.hash_at(arena.node.height() - depth).parse().unwrap();
            let mut peer = Peer::shake(&arena.node);
            let txs_request = BlockTransactionsRequest { block_hash: hash, indexes: vec![0, 100] };
            peer.send(NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request }));
            peer.hung_up();
        }
    });
    arena.case("transactions of an old block, again and again", USUAL, |arena| {
        let hash: BlockHash = arena.node.hash_at(5).parse().unwrap();
        let mut peer = Peer::shake(&arena.node);
        for _ in 0..1000 {
            let txs_request = BlockTransactionsRequest { block_hash: hash, indexes: vec![0] };
            peer.send(NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request }));
        }
        let said = peer.synced();
        let whole = said.iter().filter(|said| matches!(said, NetworkMessage::Block(_))).count();
        assert_eq!(whole, 1000, "the whole block, by the way that has its limits");
    });
}
