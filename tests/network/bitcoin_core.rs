//! Bitcoin Core beside us: asked things as our own nodes are.

use crate::bitcoind::{self, Bitcoind};
use crate::harness::Server;
use serde_json::{Value, json};
use std::ops::Deref;

/// A running `bitcoind` on regtest, killed when it goes out of scope.
pub(crate) struct Core {
    server: Server,
    process: Bitcoind,
}

impl Core {
    /// Running, with more arguments; `None`, told loudly, where `BITCOIND` names no program.
    pub(crate) fn start(arguments: &[&str]) -> Option<Core> {
        // It would check its whole index after each block.
        let usual = ["-checkblockindex=0", "-persistmempool=0", "-debug=cmpctblock", "-debug=mempool"];
        let process = Bitcoind::start(&bitcoind::program()?, &[&usual, arguments].concat());
        let mut server = Server::new(process.data.path());
        (server.rpc, server.p2p) = (process.rpc, process.p2p_address());
        Some(Core { server, process })
    }

    /// Tells it to connect with a node, and to go on trying.
    pub(crate) fn add_node(&self, node: &Server) {
        self.rpc("addnode", json!([node.p2p.to_string(), "add"]));
    }

    /// Its peer, where it has one and the handshake is done.
    pub(crate) fn only_peer(&self) -> Option<Value> {
        let peers = self.peers();
        match &peers[..] {
            [peer] if peer["version"] != 0 => Some(peer.clone()),
            _ => None,
        }
    }
}

impl Deref for Core {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.process.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("bitcoind's log ends with:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}
