//! Blocks that are not wanted, not valid, or not given.

use super::{Arena, USUAL};
use crate::nodes::{ANYONE, Node, has_tip, text};
use crate::peer::{Peer, grind, headers_on};
use crate::spends::{Spend, spend};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Amount, Block, BlockHash};
use serde_json::json;

impl Arena {
    /// A block on the tip that nobody has yet, with these transactions.
    pub(super) fn block_with(&self, spends: &[Spend]) -> Block {
        let spends: Vec<String> = spends.iter().map(Spend::hex).collect();
        let made = self.node.rpc("generateblock", json!([ANYONE, spends, false]));
        deserialize_hex(&text(&made["hex"])).expect("a block")
    }

    /// Spends the reward of the block at a height, which must be mature.
    pub(super) fn spend_reward(&self, height: u64) -> Spend {
        let block = self.node.rpc("getblock", json!([self.node.hash_at(height), 1]));
        spend(&[(&text(&block["tx"][0]), 0)], &[49_9990_0000])
    }

    /// Blocks on the tip that neither the node nor its honest peer has: a third node makes them.
    fn make_apart(&self, count: u64) -> Vec<Block> {
        let mut maker = Node::connected(&[&self.node]);
        has_tip(&maker, &self.node.tip());
        maker.restart(&[]);
        let raw = |hash: &String| text(&maker.rpc("getblock", json!([hash, 0])));
        maker.mine(count).iter().map(|hash| deserialize_hex(&raw(hash)).expect("a block")).collect()
    }

    /// The honest peer finds a block: the node takes it.
    #[track_caller]
    pub(super) fn assert_taken_from_honest(&self, block: &Block) {
        let refused = self.honest.rpc("submitblock", json!([serialize_hex(block)]));
        assert!(refused.is_null(), "the block is valid: {refused}");
        has_tip(&self.node, &block.block_hash().to_string());
    }

    /// The node's status of a branch by its tip; `None` where it has not heard of it.
    fn status(&self, tip: BlockHash) -> Option<String> {
        let tips = self.node.rpc("getchaintips", json!([]));
        let tips = tips.as_array().expect("a list").iter();
        tips.clone().find(|known| known["hash"] == tip.to_string()).map(|known| text(&known["status"]))
    }
}

/// Sends headers, and waits until the node asks for the last block.
pub(super) fn announce(peer: &mut Peer, blocks: &[Block]) -> Inventory {
    peer.send(NetworkMessage::Headers(blocks.iter().map(|block| block.header).collect()));
    let last = blocks.last().expect("a block").block_hash();
    peer.until(|said| match said {
        NetworkMessage::GetData(items) => items.iter().copied().find(|item| {
            matches!(item, Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) | Inventory::Block(hash)
                if *hash == last)
        }),
        _ => None,
    })
}

/// With the Merkle root of its transactions and its proof of work.
fn sealed(mut block: Block) -> Block {
    block.header.merkle_root = block.compute_merkle_root().expect("it has transactions");
    grind(&mut block.header, true);
    block
}

#[test]
fn blocks() {
    let arena = Arena::new(120);
    arena.case("a valid block of an old branch that nobody asked for", USUAL, |arena| {
        let fork = arena.node.rpc("getblock", json!([arena.node.hash_at(100), 0]));
        let mut block: Block = deserialize_hex(&text(&fork)).expect("a block");
        block.header.time += 1;
        grind(&mut block.header, true);
        let hash = block.block_hash();
        let mut peer = Peer::shake(&arena.node);
        for _ in 0..100 {
            peer.send(NetworkMessage::Block(block.clone()));
        }
        peer.synced();
        let kept = arena.node.rpc_object("getblock", json!([hash.to_string(), 0]));
        assert!(kept["result"].is_null(), "it is not kept: {kept}");
    });
    arena.case("an invalid block that nobody asked for, and one on top of it", USUAL, |arena| {
        let mut block = arena.block_with(&[]);
        block.txdata[0].output[0].value += Amount::ONE_SAT;
        let block = sealed(block);
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Block(block.clone()));
        peer.hung_up();
        assert_eq!(arena.status(block.block_hash()).as_deref(), Some("invalid"));
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Headers(headers_on(&block.header, 1, 1)));
        peer.hung_up();
        // Who only repeats the invalid block's header may have heard it from others.
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Headers(vec![block.header]));
        peer.synced();
    });
    arena.case("a block whose transactions are twice in it (CVE-2012-2459)", USUAL, |arena| {
        let block = arena.block_with(&[arena.spend_reward(1), arena.spend_reward(2)]);
        let mut mutated = block.clone();
        mutated.txdata.push(block.txdata[2].clone());
        assert_eq!(mutated.compute_merkle_root(), block.compute_merkle_root());
        let mut peer = Peer::shake(&arena.node);
        announce(&mut peer, std::slice::from_ref(&block));
        peer.send(NetworkMessage::Block(mutated));
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a block without its witnesses", USUAL, |arena| {
        let block = arena.block_with(&[arena.spend_reward(3)]);
        let mut stripped = block.clone();
        for input in stripped.txdata.iter_mut().flat_map(|tx| &mut tx.input) {
            input.witness.clear();
        }
        let mut peer = Peer::shake(&arena.node);
        announce(&mut peer, std::slice::from_ref(&block));
        peer.send(NetworkMessage::Block(stripped));
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a block with another witness", USUAL, |arena| {
        let block = arena.block_with(&[arena.spend_reward(4)]);
        let mut altered = block.clone();
        altered.txdata[1].input[0].witness.push([1; 100]);
        let mut peer = Peer::shake(&arena.node);
        announce(&mut peer, std::slice::from_ref(&block));
        peer.send(NetworkMessage::Block(altered));
        peer.hung_up();
        arena.assert_taken_from_honest(&block);
    });
    arena.case("a block of no transactions", USUAL, |arena| {
        let mut block = arena.block_with(&[]);
        block.txdata.clear();
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Block(block));
        peer.hung_up();
    });
    arena.case("a block announced and withheld", USUAL, |arena| {
        let block = arena.block_with(&[]);
        let mut peer = Peer::shake_compact(&arena.node);
        announce(&mut peer, std::slice::from_ref(&block));
        arena.assert_taken_from_honest(&block);
    });
    arena.case("ten blocks announced by two peers and withheld, until they hang up", USUAL, |arena| {
        let blocks = arena.make_apart(10);
        let mut peers: Vec<Peer> = (0..2).map(|_| Peer::shake(&arena.node)).collect();
        announce(&mut peers[0], &blocks);
        peers[1].send(NetworkMessage::Headers(blocks.iter().map(|block| block.header).collect()));
        peers[1].synced();
        for block in &blocks {
            let refused = arena.honest.rpc("submitblock", json!([serialize_hex(block)]));
            assert!(refused.is_null(), "{refused}");
        }
        drop(peers);
        has_tip(&arena.node, &arena.honest.tip());
    });
}
