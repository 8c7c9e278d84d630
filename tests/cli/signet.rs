//! A signet made by `cairn signet new`: mined by who has its keys, followed by who has not, and judged by a `bitcoind`.

use crate::bitcoind::{self, Bitcoind};
use crate::harness::{Server, assert_exit, eventually, refused, spawn};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

/// A signet that was just made.
struct Signet {
    description: Value,
    dir: tempfile::TempDir,
}

impl Signet {
    fn new(args: &[&str]) -> Signet {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("keys").display().to_string();
        let args = [&["signet", "new", "--json", "--out", &out], args].concat();
        let output = Server::new(dir.path()).cairn(&args);
        assert_exit(&output, 0);
        Signet { description: serde_json::from_slice(&output.stdout).expect("JSON"), dir }
    }

    fn challenge(&self) -> &str {
        self.description["challenge"].as_str().unwrap()
    }

    fn key(&self, n: usize) -> String {
        self.description["keys"][n]["file"].as_str().unwrap().to_owned()
    }

    /// Flags of a node of it.
    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--network", "signet", "--signet-challenge", self.challenge()], more].concat()
    }

    fn server(&self, name: &str) -> Server {
        Server::new(&self.dir.path().join(name))
    }

    /// Blocks that a miner with these keys makes on schedule, in hex.
    fn mined(&self, count: u64, keys: &[&str]) -> Vec<Value> {
        let server = self.server("miner");
        let mut flags = self.flags(&["--miner", "--mining-address", ADDRESS, "--block-time", "0.1"]);
        flags.extend(keys.iter().flat_map(|key| ["--signet-key", *key]));
        let _running = server.node(&flags);
        eventually("blocks", || (server.rpc("getblockcount", json!([])).as_u64() >= Some(count)).then_some(()));
        let blocks = (1..=count).map(|height| {
            let hash = server.rpc("getblockhash", json!([height]));
            let block = server.rpc("getblock", json!([hash, 2]));
            assert_eq!(block["tx"][0]["vout"][0]["scriptPubKey"]["address"], ADDRESS);
            server.rpc("getblock", json!([hash, 0]))
        });
        blocks.collect()
    }
}

/// A file that only its owner reads.
fn is_private(file: &str) -> bool {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777 == 0o600
}

#[test]
fn holders_mine_it_and_others_follow() {
    let signet = Signet::new(&[]);
    assert!(is_private(&signet.key(0)));
    assert_eq!(signet.description["bitcoind"].as_str().unwrap().matches("signetblocktime").count(), 0);
    let blocks = signet.mined(2, &[&signet.key(0)]);

    let server = signet.server("follower");
    let _running = server.node(&signet.flags(&[]));
    assert_eq!(server.rpc("submitblock", json!([blocks[0]])), Value::Null);
    assert_eq!(server.rpc("getblockcount", json!([])), 1);
    let mut damaged = blocks[1].as_str().unwrap().to_owned();
    // A byte of the header's time, which the solution signs; then the proof of work is not there either.
    let byte = if &damaged[136..138] == "00" { "01" } else { "00" };
    damaged.replace_range(136..138, byte);
    assert_eq!(server.rpc("submitblock", json!([damaged])), "high-hash");
    assert_eq!(server.rpc("submitblock", json!([blocks[1]])), Value::Null);
    assert_eq!(server.rpc("getblockcount", json!([])), 2);

    let template = server.rpc("getblocktemplate", json!([{"rules": ["segwit", "signet"]}]));
    assert_eq!(template["signet_challenge"], signet.challenge());
    let error = server.rpc_object("generatetoaddress", json!([1, ADDRESS]))["error"].take();
    assert!(error["message"].as_str().unwrap().contains("--signet-key"), "{error}");
    assert_eq!(server.rpc("getblockcount", json!([])), 2, "who has no key makes nothing");
}

#[test]
fn as_many_holders_as_are_required_sign_together() {
    let signet = Signet::new(&["--keys", "3", "--required", "2", "--block-time", "30"]);
    let named = signet.description["bitcoind"].as_str().unwrap();
    assert!(named.contains(" -signetblocktime=30 "), "{named}");
    let keys = [signet.key(1), signet.key(2)];
    assert_eq!(signet.mined(1, &[&keys[0], &keys[1]]).len(), 1);
    let server = signet.server("other");
    let alone = signet.flags(&["--miner", "--mining-address", ADDRESS, "--signet-key", &keys[0]]);
    let (code, said) = refused(spawn(server.node_command(&alone)));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("1 of its 3 keys") && said.contains("--signet-key"), "{said}");
}

#[test]
fn a_miner_whose_blocks_nobody_would_take_does_not_start() {
    let (signet, other) = (Signet::new(&[]), Signet::new(&[]));
    let server = signet.server("miner");
    let mine = ["--miner", "--mining-address", ADDRESS];
    let other_key = other.key(0);
    let missing = signet.dir.path().join("missing").display().to_string();
    let wif = std::fs::read_to_string(signet.key(0)).unwrap();
    let wif = wif.lines().find_map(|line| line.strip_prefix("# WIF: ")).unwrap();
    let no_descriptor = signet.dir.path().join("wif").display().to_string();
    std::fs::write(&no_descriptor, wif).unwrap();
    let regtest = ["--signet-key", &other_key];
    for (flags, named) in [
        (signet.flags(&mine), "--signet-key FILE"),
        ([&["--network", "signet"], &mine[..]].concat(), "--signet-key FILE"),
        (signet.flags(&[&mine[..], &["--signet-key", &other_key]].concat()), other.challenge()),
        (signet.flags(&[&mine[..], &["--signet-key", &missing]].concat()), "missing"),
        (signet.flags(&[&mine[..], &["--signet-key", &no_descriptor]].concat()), "pk("),
        (regtest.to_vec(), "--network signet"),
    ] {
        let (code, said) = refused(spawn(server.node_command(&flags)));
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(named) && !said.contains(wif), "{flags:?}: {said}");
    }
    assert!(!server.data.exists(), "nothing was created");
}

#[test]
fn what_cannot_be_made_is_said_and_nothing_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(dir.path());
    let out = dir.path().join("keys").display().to_string();
    let new = |args: &[&str]| server.cairn(&[&["signet", "new", "--out", &out], args].concat());
    for (args, named) in [
        (["--keys", "16"], "--keys"),
        (["--required", "2"], "--required"),
        (["--keys", "0"], "--keys"),
        (["--block-time", "0"], "--block-time"),
    ] {
        let output = new(&args);
        assert_exit(&output, 2);
        assert!(String::from_utf8_lossy(&output.stderr).contains(named), "{args:?}");
    }
    assert!(!Path::new(&out).exists());

    let output = new(&[]);
    assert_exit(&output, 0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let key = std::fs::read_to_string(dir.path().join("keys/key-1.txt")).unwrap();
    let wif = key.lines().find_map(|line| line.strip_prefix("# WIF: ")).unwrap();
    assert!(said.contains("--signet-key") && said.contains("-signetchallenge=") && !said.contains(wif), "{said}");
    let again = new(&[]);
    assert_exit(&again, 1);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--out"));
    assert_eq!(std::fs::read_to_string(dir.path().join("keys/key-1.txt")).unwrap(), key);
}

/// A `bitcoind` of a signet; none where the environment does not name the program.
fn bitcoind_of(signet: &Signet) -> Option<Bitcoind> {
    let challenge = format!("-signetchallenge={}", signet.challenge());
    bitcoind::program().map(|program| Bitcoind::start_on(&program, "signet", &[&challenge]))
}

#[test]
fn a_bitcoind_takes_its_blocks() {
    for (keys, required) in [("1", "1"), ("3", "2"), ("5", "3")] {
        let signet = Signet::new(&["--keys", keys, "--required", required]);
        let Some(bitcoind) = bitcoind_of(&signet) else { return };
        let files: Vec<String> = (0..required.parse().unwrap()).map(|n| signet.key(n)).collect();
        let blocks = signet.mined(2, &files.iter().map(String::as_str).collect::<Vec<_>>());
        for block in &blocks {
            assert_eq!(bitcoind.rpc("submitblock", &[block.as_str().unwrap()]), "", "{required} of {keys}");
        }
        let info = bitcoind.rpc("getblockchaininfo", &[]);
        assert_eq!((&info["blocks"], &info["signet_challenge"]), (&json!(2), &json!(signet.challenge())));
    }
}

/// As the command says: the challenge is all that its peers must know.
#[test]
fn a_bitcoind_joins_it() {
    let signet = Signet::new(&[]);
    let Some(program) = bitcoind::program() else { return };
    let miner = signet.server("miner");
    let key = signet.key(0);
    let mine = ["--miner", "--mining-address", ADDRESS, "--block-time", "0.1", "--signet-key", &key];
    let _running = miner.node(&signet.flags(&mine));
    let challenge = format!("-signetchallenge={}", signet.challenge());
    let addnode = format!("-addnode={}", miner.p2p);
    let bitcoind = Bitcoind::start_on(&program, "signet", &[&challenge, &addnode]);
    eventually("blocks of a miner in a bitcoind", || {
        (bitcoind.rpc("getblockcount", &[]).as_u64() >= Some(2)).then_some(())
    });
    let hash = miner.rpc("getblockhash", json!([2]));
    assert_eq!(bitcoind.rpc("getblockhash", &["2"]), hash);
}

/// Descriptors of the key files are those of Bitcoin Core: it can sign with them.
#[test]
fn a_bitcoind_reads_its_keys() {
    for (keys, required) in [("1", "1"), ("3", "1"), ("15", "15")] {
        let signet = Signet::new(&["--keys", keys, "--required", required]);
        let Some(bitcoind) = bitcoind_of(&signet) else { return };
        let text = std::fs::read_to_string(signet.key(0)).unwrap();
        let descriptor = text.lines().find(|line| !line.starts_with('#')).unwrap();
        let read = bitcoind.rpc("getdescriptorinfo", &[descriptor]);
        for said in ["issolvable", "hasprivatekeys"] {
            assert_eq!(read[said], true, "{keys} keys: {read}");
        }
        let public = signet.description["keys"][0]["public_key"].as_str().unwrap();
        assert!(read["descriptor"].as_str().unwrap().contains(public), "{read}");
    }
}
