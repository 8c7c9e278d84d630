//! Transactions beside Bitcoin Core: told both ways, replaced, in packages; and encrypted connections.

use crate::bitcoin_core::Core;
use crate::harness::{Server, eventually};
use crate::nodes::{Node, has_tip, one_tip, text};
use crate::spends::{Spend, spend, truc};
use serde_json::{Value, json};

/// Coins that are spendable: rewards of the first blocks.
const COINS: u64 = 20;
/// A reward (satoshi).
const REWARD: u64 = 50_0000_0000;

/// Core and a node of ours that is connected with it, at the same tip, both done with catching up.
fn together() -> Option<(Core, Node)> {
    let core = Core::start(&[])?;
    core.mine(100 + COINS);
    let ours = Node::connected(&[&core]);
    one_tip("a common beginning", &[&core, &ours]);
    Some((core, ours))
}

/// The reward of the block at a height.
fn coin(node: &Server, height: u64) -> String {
    text(&node.rpc("getblock", json!([node.hash_at(height), 1]))["tx"][0])
}

fn send(node: &Server, spend: &Spend) {
    assert_eq!(node.rpc("sendrawtransaction", json!([spend.hex()])), json!(spend.txid()));
}

/// Waits until a mempool holds exactly these.
#[track_caller]
fn has_exactly(node: &Server, who: &str, spends: &[&Spend]) {
    let mut expected: Vec<String> = spends.iter().map(|spend| spend.txid()).collect();
    expected.sort();
    eventually(&format!("{who} has {} transactions", spends.len()), || (node.mempool() == expected).then_some(()));
}

#[test]
fn transactions_are_told_both_ways_replaced_and_mined() {
    let Some((core, ours)) = together() else { return };
    let from_us = spend(&[(&coin(&core, 1), 0)], &[REWARD - 1_0000]);
    send(&ours, &from_us);
    has_exactly(&core, "Core", &[&from_us]);
    let from_core = spend(&[(&coin(&core, 2), 0)], &[REWARD - 1_0000]);
    send(&core, &from_core);
    has_exactly(&ours, "we", &[&from_us, &from_core]);

    // Each replaces what the other sent first (BIP 125).
    let instead = spend(&[(&coin(&core, 1), 0)], &[REWARD - 3_0000]);
    send(&core, &instead);
    has_exactly(&ours, "we", &[&instead, &from_core]);
    let instead_of_cores = spend(&[(&coin(&core, 2), 0)], &[REWARD - 3_0000]);
    send(&ours, &instead_of_cores);
    has_exactly(&core, "Core", &[&instead, &instead_of_cores]);

    // A chain of children follows its parent.
    let child = spend(&[(&instead.txid(), 0)], &[REWARD - 5_0000]);
    let grandchild = spend(&[(&child.txid(), 0)], &[REWARD - 8_0000]);
    send(&ours, &child);
    send(&ours, &grandchild);
    let all = [&instead, &instead_of_cores, &child, &grandchild];
    has_exactly(&core, "Core", &all);
    core.mine(1);
    one_tip("their block", &[&core, &ours]);
    has_exactly(&ours, "we", &[]);
    assert_eq!(ours.coins_hash("muhash"), core.coins_hash("muhash"));
}

/// A package goes from one to the other, and into a block.
fn child_pays_for_parent(core: &Core, sender: &Server, receiver: &Server, who: &str) {
    let parent = truc(&[(&coin(core, 1), 0)], &[REWARD]);
    let child = truc(&[(&parent.txid(), 0)], &[REWARD - 2_0000]);
    let refused = receiver.rpc_object("sendrawtransaction", json!([parent.hex()]));
    assert!(!refused["error"].is_null(), "without its child it pays nothing: {refused}");
    let package = sender.rpc("submitpackage", json!([[parent.hex(), child.hex()]]));
    assert_eq!(package["package_msg"], "success", "{package}");
    has_exactly(receiver, who, &[&parent, &child]);
    let mined = sender.mine(1);
    has_tip(receiver, &mined[0]);
    has_exactly(receiver, who, &[]);
}

#[test]
fn a_child_pays_for_a_parent_of_core_that_we_do_not_take_alone() {
    let Some((core, ours)) = together() else { return };
    child_pays_for_parent(&core, &core, &ours, "we");
}

#[test]
fn a_child_pays_for_a_parent_of_ours_that_core_does_not_take_alone() {
    let Some((core, ours)) = together() else { return };
    child_pays_for_parent(&core, &ours, &core, "Core");
}

/// What Core says of the transport of its only connection, by which it has been told of a block.
fn transport(core: &Core, ours: &Node) -> Value {
    core.mine(1);
    one_tip("a block", &[core, ours]);
    eventually("one peer", || core.only_peer())["transport_protocol_type"].take()
}

#[test]
fn connections_are_encrypted_where_both_can() {
    for (arguments, expected) in [(&["-v2transport=1"][..], "v2"), (&["-v2transport=0"], "v1")] {
        let Some(core) = Core::start(arguments) else { return };
        let mut ours = Node::connected(&[&core]);
        assert_eq!(transport(&core, &ours), expected, "when we connect");
        ours.restart(&[]);
        core.add_node(&ours);
        assert_eq!(transport(&core, &ours), expected, "when Core connects");
        let seen = |peer: &Value| peer["transport_protocol_type"] == expected;
        assert!(ours.peers().iter().all(seen), "we see it so too: {:?}", ours.peers());
    }
}
