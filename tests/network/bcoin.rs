//! Beside bcoin, a full node in JavaScript that shares no code with Bitcoin Core: chains, transactions, reorganisations.
//!
//! `BCOIND` names the program; without it the tests say that they are skipped. What bcoin 1.0 cannot do is tested as such:
//!
//! - It knows no encrypted connections (BIP 324), and bans who begins one instead of hanging up, so that neither Core nor we
//!   reach it again: a connection to it is asked for as unencrypted.
//! - It knows neither wtxid relay nor addrv2, and asks for blocks by inventory instead of headers first.
//! - It asks who came to it for nothing but what is announced from then on: it connects where it is to catch up.
//! - Its regtest activates segwit at height 432, where Core's has it from the start: it makes the first blocks of every chain.

use crate::harness::{PATIENCE, Server, eventually};
use crate::nodes::{Node, has_tip, one_tip, text};
use crate::spends::{Spend, anyone, spend};
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Blocks after which segwit is active on bcoin's regtest: three periods of 144.
const SEGWIT: u64 = 432;
/// Its password, with which the cookie file is made that it has not.
const API_KEY: &str = "bcoin";
/// Lines of its log that are shown where a test fails.
const LOG_SHOWN: usize = 60;

/// The program that `BCOIND` names. Says so if there is none: what needs it is then skipped.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("BCOIND").map(PathBuf::from);
    if program.is_none() {
        eprintln!("SKIPPED: BCOIND is not set");
    }
    program
}

/// A running bcoin on regtest, killed when it goes out of scope.
struct Bcoin {
    server: Server,
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bcoin {
    /// Running, without peers; `None`, told loudly, where `BCOIND` names no program.
    fn start() -> Option<Bcoin> {
        Some(Self::run(&program()?))
    }

    fn run(program: &Path) -> Bcoin {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Server::new(dir.path());
        let log = dir.path().join("log");
        let output = std::fs::File::create(&log).expect("a file in it");
        let child = Command::new(program)
            // Its modules in C++ need a compiler that is as old as they are.
            .env("NODE_BACKEND", "js")
            .args(["--network=regtest", "--memory", "--no-wallet", "--workers=false", "--log-file=false"])
            .arg(format!("--prefix={}", dir.path().display()))
            .args(["--listen", "--host=127.0.0.1", &format!("--port={}", server.p2p.port())])
            .args(["--http-host=127.0.0.1", &format!("--http-port={}", server.rpc), &format!("--api-key={API_KEY}")])
            // It looks for nobody: the only peer is where nobody listens, and who knows its own address asks no name server.
            .args(["--only=127.0.0.1:1", "--public-host=1.2.3.4", "--log-level=debug"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("an open file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        std::fs::create_dir_all(dir.path().join("regtest")).expect("its directory");
        std::fs::write(dir.path().join("regtest/.cookie"), format!("x:{API_KEY}")).expect("its directory is there");
        let mut bcoin = Bcoin { server, child, log, _dir: dir };
        let start = Instant::now();
        // Peers come last.
        while !bcoin.said().contains("Pool server listening") {
            let ended = bcoin.child.try_wait().expect("our child");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "bcoin did not start: {ended:?}\n{}", bcoin.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        bcoin
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Makes blocks that pay to anybody: its name for the address of [`ANYONE`](crate::nodes::ANYONE) has another prefix.
    fn mine(&self, count: u64) -> Vec<String> {
        let program =
            bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V0, &anyone().as_bytes()[2..]).expect("P2WSH");
        let prefix = bitcoin::bech32::Hrp::parse("rb").expect("a prefix");
        let address = bitcoin::bech32::segwit::encode_v0(prefix, program.program().as_bytes()).expect("an address");
        self.rpc("generatetoaddress", json!([count, address])).as_array().expect("hashes").iter().map(text).collect()
    }

    /// Tells it to connect with a node.
    fn add_node(&self, node: &Server) {
        self.rpc("addnode", json!([node.p2p.to_string(), "add"]));
    }
}

impl Deref for Bcoin {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Bcoin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let noise = ["(127.0.0.1:1)", "Connecting", "Refilling", "(rpc)"];
            let lines: Vec<&str> = said.lines().filter(|line| !noise.iter().any(|word| line.contains(word))).collect();
            eprintln!("bcoin's log ends with:\n{}", lines[lines.len().saturating_sub(LOG_SHOWN)..].join("\n"));
        }
    }
}

/// Connects as bcoin can: unencrypted.
fn connect(ours: &Node, bcoin: &Bcoin) {
    ours.rpc("addnode", json!([bcoin.p2p.to_string(), "add", false]));
}

/// Our only peer, when the handshake is done.
#[track_caller]
fn only_peer(ours: &Node) -> Value {
    eventually("bcoin as the only peer", || match &ours.peers()[..] {
        [peer] if peer["version"] == 70015 => Some(peer.clone()),
        _ => None,
    })
}

/// Each makes blocks on the other's tip.
#[track_caller]
fn both_ways_at_the_tip(ours: &Server, bcoin: &Bcoin) {
    for _ in 0..3 {
        let mined = bcoin.mine(1);
        has_tip(ours, &mined[0]);
        let mined = ours.mine(1);
        has_tip(bcoin, &mined[0]);
    }
}

/// bcoin with its first blocks, and a node of ours that follows it.
fn together() -> Option<(Bcoin, Node)> {
    let bcoin = Bcoin::start()?;
    bcoin.mine(SEGWIT);
    let ours = Node::start(&[]);
    connect(&ours, &bcoin);
    one_tip("bcoin's first blocks", &[&bcoin, &ours]);
    Some((bcoin, ours))
}

#[test]
fn handshakes_go_both_ways() {
    let Some(bcoin) = Bcoin::start() else { return };
    for we_connect in [true, false] {
        let ours = Node::start(&[]);
        if we_connect {
            connect(&ours, &bcoin)
        } else {
            bcoin.add_node(&ours)
        }
        let peer = only_peer(&ours);
        assert_eq!(peer["subver"], "/bcoin:v1.0.2/");
        assert_eq!((&peer["inbound"], &peer["transport_protocol_type"]), (&json!(!we_connect), &json!("v1")));
        let seen = eventually("us, as bcoin sees it", || {
            bcoin
                .peers()
                .into_iter()
                .find(|peer| peer["subver"].as_str().is_some_and(|name| name.starts_with("/Cairn:")))
        });
        assert_eq!((&seen["version"], &seen["inbound"]), (&json!(70016), &json!(we_connect)));
        drop(ours);
        eventually("the end of the connection", || {
            bcoin.peers().iter().all(|peer| peer["version"] != 70016).then_some(())
        });
    }
}

#[test]
fn an_encrypted_handshake_is_nonsense_to_it() {
    let Some(bcoin) = Bcoin::start() else { return };
    let ours = Node::connected(&[&bcoin]);
    let banned = || bcoin.rpc("listbanned", json!([])).as_array().is_some_and(|list| !list.is_empty()).then_some(());
    eventually("bcoin bans who begins with BIP 324", banned);
    // Nothing that it says makes us more than a node without this peer.
    ours.mine(1);
    assert_eq!((ours.height(), bcoin.height()), (1, 0));
}

#[test]
fn we_follow_bcoin_and_it_follows_us() {
    let Some((bcoin, ours)) = together() else { return };
    assert_eq!(ours.height(), SEGWIT);
    both_ways_at_the_tip(&ours, &bcoin);
    // What we make before it asks.
    let fresh = Bcoin::start().expect("the one before started");
    ours.mine(600);
    one_tip("600 blocks of ours", &[&bcoin, &ours]);
    fresh.add_node(&ours);
    one_tip("all blocks, from us", &[&fresh, &ours]);
    assert_eq!(fresh.height(), SEGWIT + 6 + 600);
    // And one of ours that has bcoin alone to ask.
    let late = Node::start(&[]);
    connect(&late, &fresh);
    one_tip("all blocks, from bcoin", &[&fresh, &late]);
    assert_eq!(late.coins_hash("muhash"), ours.coins_hash("muhash"));
    let peer = only_peer(&late);
    assert!(peer["bytesrecv_per_msg"]["headers"].as_u64() > Some(81 * SEGWIT), "headers came first: {peer}");
}

#[test]
fn transactions_are_told_both_ways_and_mined() {
    let Some((bcoin, ours)) = together() else { return };
    let coin = |height: u64| text(&ours.rpc("getblock", json!([ours.hash_at(height), 1]))["tx"][0]);
    let reward = 50_0000_0000;
    let spends: [Spend; 2] = [1, 2].map(|height| spend(&[(&coin(height), 0)], &[reward - 10_0000]));
    for ((from, to), spend) in [(&*ours, &*bcoin), (&*bcoin, &*ours)].into_iter().zip(&spends) {
        assert_eq!(from.rpc("sendrawtransaction", json!([spend.hex()])), json!(spend.txid()));
        eventually("the other has it", || to.mempool().contains(&spend.txid()).then_some(()));
    }
    let mined = bcoin.mine(1);
    has_tip(&ours, &mined[0]);
    let block = ours.rpc("getblock", json!([mined[0], 1]));
    assert_eq!(block["tx"].as_array().map(Vec::len), Some(3), "with both: {block}");
    assert!(ours.mempool().is_empty());
    // With witnesses, in a block of ours.
    let child = spend(&[(&spends[0].txid(), 0)], &[reward - 20_0000]);
    bcoin.rpc("sendrawtransaction", json!([child.hex()]));
    eventually("we have the child", || ours.mempool().contains(&child.txid()).then_some(()));
    let mined = ours.mine(1);
    has_tip(&bcoin, &mined[0]);
    assert!(bcoin.mempool().is_empty());
    both_ways_at_the_tip(&ours, &bcoin);
}

#[test]
fn the_longer_of_two_branches_wins_on_both_sides() {
    let Some((bcoin, mut ours)) = together() else { return };
    for (own, theirs) in [(2, 3), (3, 2), (20, 21), (21, 20)] {
        ours.restart(&[]);
        eventually("bcoin alone", || bcoin.peers().iter().all(|peer| peer["version"] != 70016).then_some(()));
        let own_blocks = ours.mine(own);
        let their_blocks = bcoin.mine(theirs);
        if own > theirs {
            bcoin.add_node(&ours)
        } else {
            connect(&ours, &bcoin)
        }
        let longer = if own > theirs { own_blocks.last() } else { their_blocks.last() };
        one_tip(&format!("{own} blocks of ours or {theirs} of bcoin's"), &[&bcoin, &ours]);
        assert_eq!(Some(&ours.tip()), longer);
        both_ways_at_the_tip(&ours, &bcoin);
    }
}

/// Bitcoin Core and bcoin, which hear of each other by us alone.
#[test]
fn three_kinds_of_nodes_have_one_tip() {
    let Some((bcoin, ours)) = together() else { return };
    let Some(core) = crate::bitcoin_core::Core::start(&[]) else { return };
    core.add_node(&ours);
    one_tip("bcoin's blocks, by us to Core", &[&core, &bcoin]);
    for _ in 0..3 {
        bcoin.mine(1);
        one_tip("a block of bcoin", &[&core, &ours, &bcoin]);
        core.mine(1);
        one_tip("a block of Core", &[&core, &ours, &bcoin]);
        ours.mine(1);
        one_tip("a block of ours", &[&core, &ours, &bcoin]);
    }
    assert_eq!(core.coins_hash("muhash"), ours.coins_hash("muhash"));
}
