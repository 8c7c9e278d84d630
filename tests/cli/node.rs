//! `cairn node`: alone, as a miner, with the HTTP API.

use crate::harness::{Cairn, Server, agent, eventually, get, get_json, refused, send, spawn};
use serde_json::{Value, json};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn server(dir: &tempfile::TempDir) -> Server {
    Server::new(&dir.path().join("data"))
}

/// Who the reward of a block went to.
fn rewarded(server: &Server, hash: &Value) -> Value {
    server.rpc("getblock", json!([hash, 2]))["tx"][0]["vout"][0]["scriptPubKey"]["address"].take()
}

/// GET with one of the keys that the server made.
fn keyed(server: &Server, key: &str, path: &str) -> Value {
    let key = std::fs::read_to_string(server.data.join("keys").join(key)).unwrap();
    let (status, body) = send(agent().get(server.url(path)).header("X-API-Key", key.trim()).call());
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// Waits until the schedule has made two blocks, and returns the second one's hash.
fn second_block(server: &Server) -> Value {
    eventually("two blocks", || (server.rpc("getblockcount", json!([])).as_u64() >= Some(2)).then_some(()));
    server.rpc("getblockhash", json!([2]))
}

#[test]
fn alone_it_is_a_chain_with_json_rpc_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let running = server.node(&[]);
    let info = server.rpc("getblockchaininfo", json!([]));
    assert_eq!((&info["chain"], &info["blocks"]), (&json!("regtest"), &json!(0)), "nothing is mined unasked");
    let mined = server.rpc("generatetoaddress", json!([3, ADDRESS]));
    assert_eq!(rewarded(&server, &mined[2]), ADDRESS);
    assert_eq!(server.rpc_object("getnewaddress", json!([]))["error"]["code"], -32601, "there is no wallet");

    assert_eq!(get_json(&server.url("/api/health"))["height"], 3);
    let (status, metrics) = get(&server.url("/metrics"));
    assert!(status == 200 && String::from_utf8(metrics).unwrap().contains("\ncairn_chain_height 3"));
    for path in ["/", "/api/v1/blockchain", "/tip", "/api/docs"] {
        assert_eq!(get(&server.url(path)).0, 404, "{path}");
    }
    for absent in ["keys", "regtest/cairn.sqlite", "regtest/instance"] {
        assert!(!server.data.join(absent).exists(), "{absent}");
    }

    assert_eq!(running.terminate(), Some(0));
    assert!(!server.data.join("regtest/.cookie").exists(), "the cookie goes with the process");
    let _running = server.node(&[]);
    assert_eq!(server.rpc("getbestblockhash", json!([])), mined[2]);
}

#[test]
fn a_miner_makes_blocks_on_schedule_for_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let running = server.node(&["--miner", "--mining-address", ADDRESS, "--block-time", "0.1"]);
    assert_eq!(rewarded(&server, &second_block(&server)), ADDRESS);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn the_environment_makes_a_miner_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let start = |flags: &[&str]| -> Cairn {
        let mut command = server.node_command(flags);
        command.envs([("NODE_IS_MINER", "yes"), ("NODE_IS_WEB_SERVER", "no"), ("NODE_MINING_ADDRESS", ADDRESS)]);
        command.env("CAIRN_MINING__BLOCK_TIME", "0.1");
        server.ready(spawn(command))
    };
    let running = start(&[]);
    assert_eq!(rewarded(&server, &second_block(&server)), ADDRESS);
    assert_eq!(running.terminate(), Some(0));
    let _running = start(&["--miner=no", "--web"]);
    assert_eq!(keyed(&server, "admin", "/api/v1/mining")["running"], false);
}

#[test]
fn a_miner_that_nobody_pays_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let refuse = |flags: &[&str]| refused(spawn(server.node_command(flags)));
    let (code, said) = refuse(&["--miner"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--mining-address") && said.contains("NODE_MINING_ADDRESS"), "{said}");
    let (code, said) = refuse(&["--miner", "--mining-address", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no address of regtest"), "{said}");
    assert!(!server.data.exists(), "nothing was created");
}

#[test]
fn with_web_it_serves_the_whole_api_and_its_wallet_earns() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let _running = server.node(&["--web", "--miner", "--block-time", "0.1"]);
    let paid = rewarded(&server, &second_block(&server));
    let checks = get_json(&server.url("/api/health/ready"));
    assert_eq!(checks["checks"].as_array().unwrap().len(), 4, "{checks}");
    let addresses = keyed(&server, "wallet", "/api/v1/wallets/default/addresses").to_string();
    assert!(addresses.contains(paid.as_str().unwrap()), "{paid} is of {addresses}");
}

#[test]
fn ports_in_use_and_directories_in_use_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    for port in [server.http, server.rpc] {
        let _holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (code, said) = refused(spawn(server.node_command(&[])));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&port.to_string()) && said.contains("in use"), "{said}");
    }
    assert!(!server.data.exists(), "nothing was created");

    let running = server.node(&[]);
    let (code, said) = refused(spawn(Server::new(&server.data).node_command(&[])));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&running.pid().to_string()), "names the holder {}: {said}", running.pid());
    assert_eq!(server.rpc("getblockcount", json!([])), 0, "the first goes on, cookie included");
}

#[test]
fn a_signet_of_ones_own_has_its_challenge_and_refuses_another_ones_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    // OP_TRUE: a block needs no solution.
    let signet = ["--network", "signet", "--signet-challenge", "51", "--signet-block-time", "30"];
    let running = server.node(&signet);
    let info = server.rpc("getblockchaininfo", json!([]));
    assert_eq!((&info["chain"], &info["signet_challenge"]), (&json!("signet"), &json!("51")));
    let address = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    let mined = server.rpc("generatetoaddress", json!([1, address]));
    assert_eq!(rewarded(&server, &mined[0]), address);
    assert_eq!(running.terminate(), Some(0));

    let refuse = |flags: &[&str]| refused(spawn(server.node_command(flags)));
    let (code, said) = refuse(&["--network", "signet"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("signet"), "{said}");
    for (flags, named) in [
        (&["--network", "signet", "--signet-challenge", "5x"][..], "in hex"),
        (&["--network", "signet", "--signet-block-time", "30"], "--signet-challenge"),
        (&["--network", "signet", "--signet-challenge", "51", "--signet-block-time", "0"], "--signet-block-time"),
        (&["--signet-challenge", "51"], "--network signet"),
    ] {
        let (code, said) = refuse(flags);
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(named), "{flags:?}: {said}");
    }
}

#[test]
fn transactions_are_found_in_blocks_with_an_index_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let running = server.node(&[]);
    let mined = server.rpc("generatetoaddress", json!([1, ADDRESS]));
    let id = server.rpc("getblock", json!([mined[0], 1]))["tx"][0].take();
    let error = server.rpc_object("getrawtransaction", json!([id]))["error"].take();
    assert!(error["message"].as_str().unwrap().contains("-txindex"), "{error}");
    assert!(server.rpc("getrawtransaction", json!([id, 0, mined[0]])).is_string(), "its block is named");
    assert_eq!(running.terminate(), Some(0));
    let _running = server.node(&["--txindex"]);
    assert_eq!(server.rpc("getrawtransaction", json!([id, 1]))["blockhash"], mined[0]);
}

#[test]
fn filters_of_blocks_are_answered_with_their_index_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let running = server.node(&[]);
    let mined = server.rpc("generatetoaddress", json!([1, ADDRESS]));
    let error = server.rpc_object("getblockfilter", json!([mined[0]]))["error"].take();
    assert_eq!(error["message"], "Index is not enabled for filtertype basic");
    assert_eq!(running.terminate(), Some(0));
    let _running = server.node(&["--blockfilterindex"]);
    assert!(server.rpc("getblockfilter", json!([mined[0]]))["filter"].is_string());
    assert_eq!(server.rpc("getindexinfo", json!([]))["basic block filter index"]["best_block_height"], 1);
}
