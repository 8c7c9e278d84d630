//! What a network of honest nodes comes to.

use crate::sim::Sim;
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn a_new_node_follows_a_chain() {
    let mut sim = Sim::new(2, 1);
    sim.mine(0, 300);
    sim.connect(1, 0);
    sim.run();
    assert_eq!(sim.tips()[1], sim.tips()[0]);
    assert_eq!(sim.tips()[1].0, 300);
    assert!(sim.sent["getdata"] < 300 / 3, "several blocks a question: {:?}", sim.sent);
}

#[test]
fn a_chain_longer_than_one_message_of_headers_is_followed_from_either_end() {
    for outbound in [true, false] {
        let mut sim = Sim::new(2, 2);
        sim.mine(0, 4100);
        if outbound {
            sim.connect(1, 0)
        } else {
            sim.connect(0, 1)
        };
        sim.run();
        assert_eq!(sim.tips()[1], sim.tips()[0]);
    }
}

#[test]
fn blocks_come_from_all_peers_that_have_them() {
    let mut sim = Sim::new(5, 3);
    sim.mine(0, 500);
    for node in 1..4 {
        sim.connect(node, 0);
    }
    sim.run();
    assert!(sim.tips()[..4].windows(2).all(|pair| pair[0] == pair[1]));
    for node in 0..4 {
        sim.connect(4, node);
    }
    // Its headers come from one; the others are known to have them by the block that follows.
    sim.run();
    assert!(sim.agree());
}

/// Its first peer has nothing to tell, and no block will come that tells of the second one's.
#[test]
fn a_node_far_behind_asks_the_next_peer_where_the_first_is_at_genesis_too() {
    let mut sim = Sim::new(4, 7);
    sim.mine(2, 300);
    sim.pass(Duration::from_secs(3 * 24 * 3600));
    for peer in 1..4 {
        sim.connect(0, peer);
        sim.run();
    }
    assert_eq!(sim.tips()[0], sim.tips()[2]);
    assert_eq!(sim.tips()[0].0, 300);
}

#[test]
fn a_new_block_crosses_a_line_as_a_compact_block() {
    let mut sim = Sim::new(10, 4);
    for node in 1..10 {
        sim.connect(node, node - 1);
    }
    sim.mine(0, 1);
    sim.run();
    sim.mine(0, 1);
    sim.run();
    assert!(sim.agree());
    sim.sent.clear();
    sim.mine(0, 1);
    sim.run();
    assert!(sim.agree());
    assert_eq!(sim.tips()[9].0, 3);
    assert_eq!(sim.sent.get("cmpctblock"), Some(&9), "one a hop, unasked: {:?}", sim.sent);
    assert_eq!(sim.sent.get("block"), None, "{:?}", sim.sent);
}

#[test]
fn the_longer_of_two_branches_wins_everywhere() {
    for depth in [1, 20, 200] {
        let mut sim = Sim::new(4, 5);
        sim.connect(1, 0);
        sim.connect(3, 2);
        sim.mine(0, 10);
        sim.run();
        let common = sim.tips()[0];
        sim.connect(2, 0);
        sim.run();
        assert!(sim.agree());
        assert_eq!(sim.tips()[2], common);
        sim.cut(2, 0);
        sim.mine(0, depth);
        sim.mine(2, depth + 1);
        sim.run();
        assert_ne!(sim.tips()[0].1, sim.tips()[2].1);
        sim.connect(0, 2);
        sim.run();
        assert!(sim.agree(), "depth {depth}: {:?}", sim.tips());
        assert_eq!(sim.tips()[0].0, 10 + depth + 1);
    }
}

#[test]
fn equal_branches_stay_until_the_first_block_after_the_partition() {
    let mut sim = Sim::new(6, 6);
    for node in [1, 2] {
        sim.connect(node, node - 1);
    }
    for node in [4, 5] {
        sim.connect(node, node - 1);
    }
    sim.mine(0, 5);
    sim.mine(3, 5);
    sim.run();
    sim.connect(3, 2);
    sim.run();
    assert_ne!(sim.tips()[0].1, sim.tips()[5].1, "neither has more work");
    sim.mine(4, 1);
    sim.run();
    assert!(sim.agree());
    assert_eq!(sim.tips()[0].0, 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whoever mines, whatever order messages come in, however the nodes are connected: once all are connected and one block
    /// is made on top, all agree.
    #[test]
    fn any_connected_network_comes_to_agree(
        seed in any::<u64>(),
        size in 2usize..7,
        events in prop::collection::vec((any::<u16>(), any::<u16>(), 0u8..6, 0u16..200), 1..30),
    ) {
        let mut sim = Sim::new(size, seed);
        for (a, b, what, steps) in events {
            let (a, b) = (a as usize % size, b as usize % size);
            match what {
                0 | 1 => sim.mine(a, 1 + u32::from(steps) % 3),
                2 | 3 if a != b => { sim.cut(a, b); sim.connect(a, b) }
                4 if a != b => sim.cut(a, b),
                _ => sim.pass(Duration::from_secs(u64::from(steps) % 7)),
            }
            for _ in 0..steps {
                sim.step();
            }
        }
        for node in 1..size {
            sim.cut(node, node - 1);
            sim.connect(node, node - 1);
        }
        sim.run();
        sim.pass(Duration::from_secs(1));
        sim.run();
        let best = (0..size).max_by_key(|&node| sim.tips()[node].0).unwrap();
        sim.mine(best, 1);
        sim.run();
        // Who was asked for headers a moment ago is asked again when its answer is overdue.
        for _ in 0..4 {
            sim.pass(Duration::from_secs(121));
            sim.run();
        }
        prop_assert!(sim.agree(), "{:?}", sim.tips());
        prop_assert!((0..size).all(|node| sim.nodes[node].peers() > 0), "nobody was let go");
    }
}
