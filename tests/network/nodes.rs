//! Nodes, and what is asked of them by JSON-RPC, Cairn's or Bitcoin Core's.

use crate::harness::{Cairn, PATIENCE, Server, eventually, spawn};
use serde_json::{Value, json};
use std::ops::Deref;
use std::time::{Duration, Instant};

/// Pays to anybody by P2WSH of OP_TRUE, so that a test needs no key to spend. Core's own tests pay to it too.
pub(crate) const ANYONE: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";

impl Server {
    /// Hash of the tip.
    pub(crate) fn tip(&self) -> String {
        text(&self.rpc("getbestblockhash", json!([])))
    }

    /// Height of the tip.
    pub(crate) fn height(&self) -> u64 {
        self.rpc("getblockcount", json!([])).as_u64().expect("a height")
    }

    /// Hash of the block of the active chain at a height.
    pub(crate) fn hash_at(&self, height: u64) -> String {
        text(&self.rpc("getblockhash", json!([height])))
    }

    /// Makes blocks that pay to [`ANYONE`], and returns their hashes.
    pub(crate) fn mine(&self, count: u64) -> Vec<String> {
        self.mine_with("generatetoaddress", count, ANYONE)
    }

    /// Makes blocks that differ from all that [`Server::mine`] makes, and from those with another `branch`.
    pub(crate) fn mine_branch(&self, count: u64, branch: u8) -> Vec<String> {
        self.mine_with("generatetodescriptor", count, &format!("raw(01{branch:02x})"))
    }

    fn mine_with(&self, method: &str, count: u64, to: &str) -> Vec<String> {
        let mut hashes = Vec::new();
        // In steps, so that no answer is waited for longer than a client waits.
        while (hashes.len() as u64) < count {
            let step = (count - hashes.len() as u64).min(250);
            let mined = self.rpc(method, json!([step, to]));
            hashes.extend(mined.as_array().expect("hashes").iter().map(text));
        }
        hashes
    }

    /// What it tells of its peers.
    pub(crate) fn peers(&self) -> Vec<Value> {
        self.rpc("getpeerinfo", json!([])).as_array().expect("a list").clone()
    }

    /// The hash of all coins, of the kind named.
    pub(crate) fn coins_hash(&self, kind: &str) -> Value {
        self.rpc("gettxoutsetinfo", json!([kind]))[kind].take()
    }

    /// Ids of the transactions in the mempool, in order.
    pub(crate) fn mempool(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.rpc("getrawmempool", json!([])).as_array().expect("a list").iter().map(text).collect();
        ids.sort();
        ids
    }
}

/// The text of a JSON value that is one.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text: {value}")).to_owned()
}

/// Waits until all have the same tip.
#[track_caller]
pub(crate) fn one_tip(what: &str, nodes: &[&Server]) {
    let start = Instant::now();
    loop {
        let tips: Vec<String> = nodes.iter().map(|node| node.tip()).collect();
        if tips.iter().all(|tip| *tip == tips[0]) {
            return;
        }
        if start.elapsed() > PATIENCE {
            for (node, tip) in nodes.iter().zip(&tips) {
                eprintln!("{} {tip} {}\n{:?}", node.height(), node.rpc("getchaintips", json!([])), node.peers());
            }
            panic!("gave up waiting for one tip: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a node has a tip.
#[track_caller]
pub(crate) fn has_tip(node: &Server, tip: &str) {
    eventually(&format!("tip {tip}"), || (node.tip() == tip).then_some(()));
}

/// A `cairn node` with a directory of its own, stopped and removed when it goes out of scope.
pub(crate) struct Node {
    server: Server,
    running: Option<Cairn>,
    _dir: tempfile::TempDir,
}

impl Node {
    /// Running, with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Node {
        let mut node = Node::stopped();
        node.restart(arguments);
        node
    }

    /// Not started yet.
    pub(crate) fn stopped() -> Node {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Node { server: Server::new(&dir.path().join("data")), running: None, _dir: dir }
    }

    /// Running and told to connect with others.
    pub(crate) fn connected(peers: &[&Server]) -> Node {
        let mut node = Node::stopped();
        node.reconnect(peers);
        node
    }

    /// Stops it as an operator does, if it runs, and starts it with these arguments.
    pub(crate) fn restart(&mut self, arguments: &[&str]) {
        self.stop();
        // It is not ready before it has caught up with its peers.
        let child = spawn(self.server.node_command(arguments));
        self.running = Some(self.server.answering(child, "/api/health"));
    }

    /// [`Node::restart`], told to connect with others.
    pub(crate) fn reconnect(&mut self, peers: &[&Server]) {
        let addresses: Vec<String> = peers.iter().map(|peer| peer.p2p.to_string()).collect();
        let arguments: Vec<&str> = addresses.iter().flat_map(|address| ["--connect", address]).collect();
        self.restart(&arguments);
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            assert_eq!(running.terminate(), Some(0), "a clean end");
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("it runs").kill();
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").pid()
    }
}

impl Deref for Node {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
