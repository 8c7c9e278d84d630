//! Transactions that are not valid, lack their parents, or are announced and not given.

use super::{Arena, USUAL};
use crate::harness::{Server, eventually};
use crate::peer::Peer;
use crate::spends::{Spend, spend};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Amount, Transaction, Txid};
use serde_json::json;

fn holds(node: &Server, spend: &Spend) -> bool {
    node.mempool().contains(&spend.txid())
}

impl Arena {
    /// The honest peer sends a transaction: the node takes it.
    #[track_caller]
    fn assert_taken_from_honest_peer(&self, spend: &Spend) {
        self.honest.rpc("sendrawtransaction", json!([spend.hex()]));
        eventually("the transaction", || holds(&self.node, spend).then_some(()));
    }

    /// A peer announces a transaction, and is asked for it.
    fn asked_for(&self, spend: &Spend) -> Peer {
        let mut peer = Peer::shake(&self.node);
        let item = Inventory::WTx(spend.0.compute_wtxid());
        peer.send(NetworkMessage::Inv(vec![item]));
        peer.until(|said| match said {
            NetworkMessage::GetData(items) => items.contains(&item).then_some(()),
            _ => None,
        });
        peer
    }
}

/// Changed in a way that leaves its id as it is.
fn with_witness(spend: &Spend, change: impl FnOnce(&mut bitcoin::Witness)) -> Transaction {
    let mut tx = spend.0.clone();
    change(&mut tx.input[0].witness);
    assert_eq!(tx.compute_txid(), spend.0.compute_txid());
    tx
}

#[test]
fn transactions() {
    let arena = Arena::new(120);
    arena.case("a transaction without its witness", USUAL, |arena| {
        let spend = arena.spend_reward(1);
        let mut peer = arena.asked_for(&spend);
        peer.send(NetworkMessage::Tx(with_witness(&spend, bitcoin::Witness::clear)));
        peer.synced();
        assert!(!holds(&arena.node, &spend));
        // What it was asked for is still waited for, as long as it is there.
        drop(peer);
        arena.assert_taken_from_honest_peer(&spend);
    });
    arena.case("a transaction with another witness", USUAL, |arena| {
        let spend = arena.spend_reward(2);
        let mut peer = arena.asked_for(&spend);
        peer.send(NetworkMessage::Tx(with_witness(&spend, |witness| witness.push([1; 80]))));
        peer.synced();
        assert!(!holds(&arena.node, &spend));
        // What it was asked for is still waited for, as long as it is there.
        drop(peer);
        arena.assert_taken_from_honest_peer(&spend);
    });
    arena.case("a thousand transactions that pay more than they have", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let spend = arena.spend_reward(3);
        for more in 1..=1000 {
            let mut tx = spend.0.clone();
            tx.output[0].value += Amount::from_sat(1_0000_0000 + more);
            peer.send(NetworkMessage::Tx(tx));
        }
        peer.synced();
        arena.assert_taken_from_honest_peer(&spend);
    });
    arena.case("ten thousand transactions whose parents nobody has", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for number in 0..10_000u32 {
            let mut parent = [0xbb; 32];
            parent[..4].copy_from_slice(&number.to_le_bytes());
            let parent = Txid::from_byte_array(parent).to_string();
            peer.send(NetworkMessage::Tx(spend(&[(&parent, 0)], &[1000; 20]).0));
        }
        peer.synced();
        arena.assert_taken_from_honest_peer(&arena.spend_reward(4));
    });
    arena.case("a transaction announced and withheld, until its peer hangs up", USUAL, |arena| {
        let spend = arena.spend_reward(5);
        let peer = arena.asked_for(&spend);
        arena.honest.rpc("sendrawtransaction", json!([spend.hex()]));
        drop(peer);
        eventually("the transaction, from another peer", || holds(&arena.node, &spend).then_some(()));
    });
    arena.case("a transaction of the largest size that a message has", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut large = arena.spend_reward(6).0;
        large.output = vec![large.output[0].clone(); 40_000];
        peer.send(NetworkMessage::Tx(large));
        peer.synced();
    });
    arena.case("coinbases as transactions", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let coinbase = arena.block_with(&[]).txdata[0].clone();
        for _ in 0..100 {
            peer.send(NetworkMessage::Tx(coinbase.clone()));
        }
        peer.synced();
    });
}
