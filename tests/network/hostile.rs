//! Peers that mean no good. Each case is named; each must be contained as Bitcoin Core does, at a bounded cost, while the
//! node goes on serving an honest peer.

mod blocks;
mod compact;
mod connections;
mod framing;
mod handshake;
mod headers;
mod inventory;
mod transactions;

use crate::harness::eventually;
use crate::nodes::{Node, has_tip};
use serde_json::Value;

/// MiB by which the node's memory may grow at its highest, unless a case says otherwise: some messages of the largest size
/// that the protocol has, and what the node answers.
const USUAL: u64 = 24;

/// A node under attack, and its honest peer.
struct Arena {
    node: Node,
    honest: Node,
}

impl Arena {
    /// Both at this height, connected, and announcing to each other by compact block.
    fn new(height: u64) -> Arena {
        Arena::with(Node::start(&[]), height)
    }

    fn with(node: Node, height: u64) -> Arena {
        let honest = Node::connected(&[&node]);
        node.mine(height);
        has_tip(&honest, &node.tip());
        let arena = Arena { node, honest };
        arena.assert_serving();
        arena
    }

    /// One case: what is done, and by how many MiB at most the node's memory grows meanwhile.
    fn case(&self, name: &str, mib: u64, attack: impl FnOnce(&Arena)) {
        eprintln!("case: {name}");
        let start = std::time::Instant::now();
        let (connection, before) = (self.honest_connection(), self.resident());
        self.forget_peak();
        attack(self);
        assert_eq!(self.honest_connection(), connection, "{name}: the honest peer stays connected");
        self.assert_serving();
        let peak = self.peak();
        assert!(peak < before + (mib << 10), "{name}: from {before} to {peak} KiB, {mib} MiB more are allowed");
        let grown = peak.saturating_sub(before);
        eprintln!("      {:.1} s; its memory grew by {grown} KiB of {}", start.elapsed().as_secs_f64(), mib << 10);
    }

    /// The node answers, and new blocks go both ways between it and its honest peer.
    fn assert_serving(&self) {
        for (from, to) in [(&self.honest, &self.node), (&self.node, &self.honest)] {
            has_tip(to, &from.mine(1)[0]);
        }
    }

    /// Number of the node's connection with its honest peer.
    fn honest_connection(&self) -> Value {
        let find = || self.node.peers().into_iter().find(|peer| peer["subver"].as_str() != Some("/test:1/"));
        eventually("the honest peer", find)["id"].take()
    }

    /// The node's peers that are ours.
    fn attackers(&self) -> usize {
        self.node.peers().iter().filter(|peer| peer["subver"] == "/test:1/").count()
    }

    fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The peak is counted from now on (Linux's `clear_refs`).
    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.node.pid()), "5").expect("our own process");
    }

    /// KiB, from the kernel.
    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}
