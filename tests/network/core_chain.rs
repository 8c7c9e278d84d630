//! Chains beside Bitcoin Core: followed, served, reorganised.

use crate::bitcoin_core::Core;
use crate::harness::{Server, eventually};
use crate::links::Link;
use crate::nodes::{ANYONE, Node, has_tip, one_tip};
use serde_json::{Value, json};

/// Their coins are the same to the last byte.
#[track_caller]
fn same_coins(a: &Server, b: &Server) {
    for kind in ["hash_serialized_3", "muhash"] {
        let (ours, theirs) = (a.coins_hash(kind), b.coins_hash(kind));
        assert!(ours.is_string(), "{kind}: {ours}");
        assert_eq!(ours, theirs, "{kind}");
    }
}

/// Each makes blocks on the other's tip.
#[track_caller]
fn both_ways_at_the_tip(ours: &Server, core: &Server) {
    for _ in 0..3 {
        let mined = core.mine(1);
        has_tip(ours, &mined[0]);
        let mined = ours.mine(1);
        has_tip(core, &mined[0]);
    }
}

#[test]
fn it_follows_500_blocks_of_core_then_both_make_blocks() {
    let Some(core) = Core::start(&[]) else { return };
    core.mine(500);
    let ours = Node::connected(&[&core]);
    one_tip("500 blocks of Core", &[&core, &ours]);
    assert_eq!(ours.height(), 500);
    both_ways_at_the_tip(&ours, &core);
    same_coins(&ours, &core);
}

#[test]
fn core_follows_500_blocks_that_it_asks_for() {
    let Some(core) = Core::start(&[]) else { return };
    let ours = Node::start(&[]);
    ours.mine(500);
    core.add_node(&ours);
    one_tip("500 blocks for Core", &[&core, &ours]);
    assert_eq!(core.height(), 500);
    both_ways_at_the_tip(&ours, &core);
    same_coins(&ours, &core);
}

#[test]
fn core_follows_500_blocks_on_a_connection_that_we_made() {
    let Some(core) = Core::start(&[]) else { return };
    let mut ours = Node::start(&[]);
    ours.mine(500);
    ours.reconnect(&[&core]);
    one_tip("500 blocks for Core", &[&core, &ours]);
    assert_eq!(core.height(), 500);
    both_ways_at_the_tip(&ours, &core);
}

#[test]
fn the_longer_of_two_branches_wins_on_both_sides() {
    let Some(core) = Core::start(&[]) else { return };
    let mut ours = Node::connected(&[&core]);
    core.mine(30);
    one_tip("a common beginning", &[&core, &ours]);
    // How many blocks each makes alone: the deep ones undo 20 blocks at once, on our side and on Core's.
    for (round, (own, cores)) in (0..).zip([(2, 3), (3, 2), (20, 21), (21, 20)]) {
        ours.restart(&[]);
        let own_blocks = ours.mine(own);
        let cores_blocks = core.mine_branch(cores, round);
        ours.reconnect(&[&core]);
        let longer = if own > cores { own_blocks.last() } else { cores_blocks.last() };
        one_tip(&format!("{own} blocks of ours or {cores} of Core's"), &[&core, &ours]);
        assert_eq!(Some(&ours.tip()), longer);
        same_coins(&ours, &core);
        both_ways_at_the_tip(&ours, &core);
    }
}

#[test]
fn a_block_that_one_side_invalidates_and_reconsiders() {
    let Some(core) = Core::start(&[]) else { return };
    let ours = Node::connected(&[&core]);
    let blocks = core.mine(20);
    one_tip("a common beginning", &[&core, &ours]);

    // Core turns away from the last three blocks: we stay, until its other branch is the longer one.
    core.rpc("invalidateblock", json!([blocks[17]]));
    assert_eq!(core.height(), 17);
    let other = core.mine_branch(3, 1);
    assert_eq!(ours.tip(), blocks[19], "as long as ours, and later");
    let longer = core.mine_branch(1, 1);
    has_tip(&ours, &longer[0]);

    // We turn away from its branch and back to the first one, which it finds invalid.
    ours.rpc("invalidateblock", json!([other[0]]));
    assert_eq!(ours.tip(), blocks[19]);
    let refused = core.mine(2);
    ours.mine(5);
    assert_eq!(core.tip(), refused[1], "Core keeps to its branch");

    // Both take everything again, and hear of each other's blocks with the next one.
    core.rpc("reconsiderblock", json!([blocks[17]]));
    ours.rpc("reconsiderblock", json!([other[0]]));
    ours.mine(1);
    one_tip("one chain again", &[&core, &ours]);
    assert_eq!(ours.height(), 26);
    both_ways_at_the_tip(&ours, &core);
    same_coins(&ours, &core);
}

/// Bytes of a kind of message, as Core counts them for its only peer.
fn bytes(core: &Core, direction: &str, command: &str) -> u64 {
    let peer = core.only_peer().unwrap_or(Value::Null);
    peer[direction][command].as_u64().unwrap_or(0)
}

#[test]
fn blocks_at_the_tip_go_as_compact_blocks_both_ways() {
    let Some(core) = Core::start(&[]) else { return };
    let ours = Node::connected(&[&core]);
    let maturing = core.mine(102);
    one_tip("a common beginning", &[&core, &ours]);
    // The first block from each tells the other that it is worth asking.
    both_ways_at_the_tip(&ours, &core);
    let peer = eventually("high bandwidth both ways", || {
        core.only_peer().filter(|peer| peer["bip152_hb_to"] == true && peer["bip152_hb_from"] == true)
    });
    for (direction, who) in [("bytesrecv_per_msg", "we"), ("bytessent_per_msg", "Core")] {
        assert!(peer[direction]["sendcmpct"].as_u64() > Some(0), "{who} said so: {peer}");
    }
    let counted = |direction, command| bytes(&core, direction, command);
    let before = (counted("bytesrecv_per_msg", "cmpctblock"), counted("bytessent_per_msg", "cmpctblock"));
    both_ways_at_the_tip(&ours, &core);
    assert!(counted("bytesrecv_per_msg", "cmpctblock") > before.0, "ours came as compact blocks");
    assert!(counted("bytessent_per_msg", "cmpctblock") > before.1, "Core's went as compact blocks");
    let peer = ours.peers().remove(0);
    assert!(peer["bip152_hb_to"] == true && peer["bip152_hb_from"] == true, "as we see it: {peer}");
    for direction in ["bytesrecv_per_msg", "bytessent_per_msg"] {
        assert!(peer[direction]["cmpctblock"].as_u64() > Some(0), "{direction}: {peer}");
    }

    // A transaction that only the block's maker knew is asked for, in both directions.
    let coinbase = |node: &Server, hash: &str| node.rpc("getblock", json!([hash, 1]))["tx"][0].take();
    for (number, (maker, taker)) in [(&*core, &*ours), (&*ours, &*core)].into_iter().enumerate() {
        let spent = coinbase(&core, &maturing[number]);
        let spend = crate::spends::spend(&[(spent.as_str().unwrap(), 0)], &[49_9990_0000]);
        let block = maker.rpc("generateblock", json!([ANYONE, [spend.hex()]]));
        has_tip(taker, block["hash"].as_str().unwrap());
    }
    for (asks, answers) in [("bytesrecv_per_msg", "bytessent_per_msg"), ("bytessent_per_msg", "bytesrecv_per_msg")] {
        assert!(counted(asks, "getblocktxn") > 0, "asked for what is missing ({asks})");
        assert!(counted(answers, "blocktxn") > 0, "got what is missing ({answers})");
    }
    same_coins(&ours, &core);
}

#[test]
fn a_node_that_is_killed_in_the_middle_of_a_sync_goes_on() {
    let Some(core) = Core::start(&[]) else { return };
    core.mine(1500);
    let link = Link::new(&core);
    let mut ours = Node::stopped();
    let arguments = ["--connect", &link.address];
    let mut reached = 0;
    // Headers are 81 bytes each and these blocks some 250: each round ends in the middle of something.
    for round in [50_000, 150_000, 150_000, 200_000] {
        link.pass(round);
        ours.restart(&arguments);
        eventually("the link is used up", || link.is_used_up().then_some(()));
        reached = reached.max(ours.height());
        assert!(reached < 1500, "it is not done yet");
        ours.kill();
    }
    link.heal();
    ours.restart(&arguments);
    one_tip("1500 blocks", &[&core, &ours]);
    assert_eq!(ours.height(), 1500);
    both_ways_at_the_tip(&ours, &core);
    same_coins(&ours, &core);
}

#[test]
fn a_pruned_core_gives_its_last_blocks_and_is_asked_for_no_others() {
    let Some(core) = Core::start(&["-prune=1", "-fastprune"]) else { return };
    // A node that catches up from nothing would not ask a pruned one: it follows us first.
    let mut ours = Node::connected(&[&core]);
    ours.mine(600);
    one_tip("600 blocks", &[&core, &ours]);
    ours.stop();
    core.mine(250);
    core.rpc("pruneblockchain", json!([500]));
    assert_eq!(core.rpc("getblockchaininfo", json!([]))["pruned"], true);
    let gone = core.rpc_object("getblock", json!([core.hash_at(10)]));
    assert!(gone["error"]["message"].as_str().unwrap_or_default().contains("pruned"), "{gone}");

    ours.reconnect(&[&core]);
    one_tip("the last 250 blocks", &[&core, &ours]);
    both_ways_at_the_tip(&ours, &core);

    // Who begins anew cannot have them from it, and does not ask in vain; another peer has them.
    let fresh = Node::connected(&[&core]);
    let headers = || (fresh.rpc("getblockchaininfo", json!([]))["headers"].as_u64() >= Some(856)).then_some(());
    eventually("its headers", headers);
    assert_eq!(fresh.height(), 0);
    fresh.rpc("addnode", json!([ours.p2p.to_string(), "add"]));
    one_tip("all blocks from the other peer", &[&core, &ours, &fresh]);
    same_coins(&fresh, &core);
}
