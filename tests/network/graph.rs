//! A random graph of thirty nodes over links that are slow and lose packets.

use crate::harness::Server;
use crate::links::{Link, Quality};
use crate::nodes::{Node, one_tip};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Nodes in the graph.
const NODES: usize = 30;
/// To how many that began before it each node connects.
const LINKS: usize = 2;

/// A link between two nodes, by their numbers.
struct Edge {
    ends: [usize; 2],
    link: Link,
}

#[test]
fn a_random_graph_over_slow_links_agrees_and_heals() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes: Vec<Node> = Vec::new();
    let mut edges: Vec<Edge> = Vec::new();
    for number in 0..NODES {
        let mut others: Vec<usize> = Vec::new();
        while others.len() < LINKS.min(number) {
            let other = rng.random_range(0..number);
            if !others.contains(&other) {
                others.push(other);
            }
        }
        for other in others {
            let quality = Quality { latency: Duration::from_millis(rng.random_range(5..40)), loss: 0.01 };
            let link = Link::with_quality(&nodes[other], quality, rng.random());
            edges.push(Edge { ends: [number, other], link });
        }
        let own = edges.iter().filter(|edge| edge.ends[0] == number);
        let arguments: Vec<&str> = own.flat_map(|edge| ["--connect", &edge.link.address]).collect();
        nodes.push(Node::start(&arguments));
    }
    let all: Vec<&Server> = nodes.iter().map(|node| &**node).collect();
    for _ in 0..5 {
        all[rng.random_range(0..NODES)].mine(2);
        one_tip("blocks from anywhere", &all);
    }

    // Two parts that hear nothing of each other, and each of which holds together: the first half of a growing graph does,
    // and of the others those that hang on it need not.
    let crosses = |edge: &&Edge| (edge.ends[0] < NODES / 2) != (edge.ends[1] < NODES / 2);
    edges.iter().filter(crosses).for_each(|edge| edge.link.cut());
    let ours = all[0].mine_branch(4, 1);
    one_tip("the first half", &all[..NODES / 2]);
    all[NODES - 1].mine_branch(6, 2);
    assert_eq!(all[0].tip(), ours[3]);
    edges.iter().filter(crosses).for_each(|edge| edge.link.heal());
    let next = all[NODES - 1].mine(1);
    one_tip("healed", &all);
    assert_eq!(all[0].tip(), next[0], "the longer branch");
}
