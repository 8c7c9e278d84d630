//! Ten nodes for as long as `CAIRN_SOAK_SECONDS` says (20 unless it does): blocks, spends, reorganisations, peers that come
//! and go, nodes killed. In the end one tip, and nothing has grown that should not.

use crate::harness::{Server, eventually};
use crate::links::Link;
use crate::nodes::{Node, one_tip, text};
use crate::peer::{Peer, version};
use crate::spends::spend;
use bitcoin::p2p::message::NetworkMessage;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::time::{Duration, Instant};

/// Nodes.
const NODES: usize = 10;
/// Blocks a second, at most: each takes a sixth of a second or more of the chain's time, which may not get two hours ahead.
const BLOCKS_A_SECOND: u64 = 20;
/// KiB by which a node's memory may grow after the beginning. What it keeps for each block in its index is well below.
const GROWTH: u64 = 16 << 10;

/// Nodes and the links between them: a ring, in which each knows the next one and the one after.
struct Network {
    nodes: Vec<Node>,
    links: Vec<[Link; 2]>,
    rng: StdRng,
    /// Rewards that are not spent yet, the oldest first.
    rewards: Vec<String>,
}

/// What a process uses, as the kernel tells it.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// KiB.
    memory: u64,
    files: usize,
    threads: usize,
}

fn usage(node: &Node) -> Use {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", node.pid())).expect("it runs").count();
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    let memory = memory.trim().trim_end_matches(" kB").parse().expect("a number");
    Use { memory, files: count("fd"), threads: count("task") }
}

impl Network {
    fn new(seed: u64) -> Network {
        let nodes: Vec<Node> = (0..NODES).map(|_| Node::stopped()).collect();
        let to = |number: usize| Link::new(&nodes[number % NODES]);
        let links = (0..NODES).map(|number| [to(number + 1), to(number + 2)]).collect();
        let mut network = Network { nodes, links, rng: StdRng::seed_from_u64(seed), rewards: Vec::new() };
        (0..NODES).for_each(|number| network.start(number));
        network
    }

    fn start(&mut self, number: usize) {
        let arguments: Vec<&str> = self.links[number].iter().flat_map(|link| ["--connect", &link.address]).collect();
        self.nodes[number].restart(&arguments);
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..NODES)
    }

    fn servers(&self) -> Vec<&Server> {
        self.nodes.iter().map(|node| &**node).collect()
    }

    /// Blocks from somewhere.
    fn mine(&mut self) {
        let number = self.any();
        let count = self.rng.random_range(1..4);
        let node = &self.nodes[number];
        for hash in node.mine(count) {
            self.rewards.push(text(&node.rpc("getblock", json!([hash, 1]))["tx"][0]));
        }
    }

    /// A reward that matured is spent, unless its branch lost.
    fn pay(&mut self) {
        let number = self.any();
        if self.rewards.len() > 130 {
            let reward = self.rewards.remove(0);
            let amount = self.rng.random_range(1000..50_000_000);
            let spend = spend(&[(&reward, 0)], &[amount]);
            // Its fee is none that anybody pays: that is asked for too.
            self.nodes[number].rpc_object("sendrawtransaction", json!([spend.hex(), 0]));
        }
    }

    /// The ring is cut into two, both parts go on, and are joined.
    fn split(&mut self) {
        let (from, length) = (self.any(), self.rng.random_range(2..=NODES / 2));
        let inside = |number: usize| (number % NODES + NODES - from) % NODES < length;
        let crossing: Vec<&Link> = (0..NODES)
            .flat_map(|number| {
                self.links[number].iter().zip([number + 1, number + 2]).map(move |(link, to)| (number, link, to))
            })
            .filter(|&(number, _, to)| inside(number) != inside(to))
            .map(|(_, link, _)| link)
            .collect();
        crossing.iter().for_each(|link| link.cut());
        let other = (0..NODES).find(|&number| !inside(number)).expect("both parts have nodes");
        let depth = self.rng.random_range(1..8);
        self.nodes[from].mine_branch(depth, 1);
        self.nodes[other].mine_branch(self.rng.random_range(1..8), 2);
        crossing.iter().for_each(|link| link.heal());
    }

    /// A node ends, well or not, and comes back.
    fn churn(&mut self) {
        let number = self.any();
        if self.rng.random() {
            self.nodes[number].stop();
        } else {
            self.nodes[number].kill();
        }
        self.start(number);
    }

    /// Strangers come and go, some in the middle of a word.
    fn strangers(&mut self) {
        let number = self.any();
        for stranger in 0..10 {
            let mut peer = Peer::connect(&self.nodes[number]);
            if stranger % 2 == 0 {
                peer.send(NetworkMessage::Version(version(stranger)));
            }
        }
    }

    /// The next block on the best branch comes to all: less would be a tie where a part lags behind.
    fn agree(&mut self) {
        let best = self.nodes.iter().max_by_key(|node| node.height()).expect("there are nodes");
        best.mine(1);
        one_tip("the next block", &self.servers());
    }
}

#[test]
fn soak() {
    let seconds = std::env::var("CAIRN_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let seed = rand::random();
    eprintln!("seed {seed}, {seconds} s");
    let mut network = Network::new(seed);
    while network.rewards.len() < 130 {
        network.mine();
    }
    network.agree();
    // What a node used first, of its present process.
    let mut first: Vec<(u32, Use)> = network.nodes.iter().map(|node| (node.pid(), usage(node))).collect();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..20 {
            match network.rng.random_range(0..20) {
                0 => network.split(),
                1 => network.churn(),
                2 => network.strangers(),
                3..12 => network.pay(),
                _ => network.mine(),
            }
        }
        network.agree();
        while network.nodes[0].height() > 1000 + start.elapsed().as_secs() * BLOCKS_A_SECOND {
            std::thread::sleep(Duration::from_millis(50));
        }
        for (node, (pid, used)) in network.nodes.iter().zip(&mut first) {
            if node.pid() != *pid {
                (*pid, *used) = (node.pid(), usage(node));
            }
        }
        rounds += 1;
    }
    network.agree();
    for (node, (_, first)) in network.nodes.iter().zip(&first) {
        let mut last = usage(node);
        // Connections that ended are let go of in their time, and threads that have nothing to do.
        eventually("what ended is let go of", || {
            last = usage(node);
            (last.files <= first.files + 8 && last.threads <= first.threads + 4 && last.memory <= first.memory + GROWTH)
                .then_some(())
        });
        eprintln!("{first:?} -> {last:?}");
    }
    let coins: Vec<_> = network.nodes.iter().map(|node| node.coins_hash("muhash")).collect();
    eprintln!("{rounds} rounds, height {}", network.nodes[0].height());
    assert!(coins.iter().all(|hash| *hash == coins[0]), "{coins:?}");
}
