//! What users see of the network: two nodes and their peers by JSON-RPC and HTTP, readiness, bans, names that lead nowhere.

use crate::harness::{Server, agent, eventually, get, get_json, refused, send, spawn};
use serde_json::{Value, json};
use std::ops::Deref;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A data directory that goes with it.
struct Place {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Deref for Place {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    Place { server: Server::new(&dir.path().join("data")), _dir: dir }
}

fn peers(server: &Server) -> Vec<Value> {
    server.rpc("getpeerinfo", json!([])).as_array().unwrap().clone()
}

/// The only peer, once its handshake is done.
fn only_peer(server: &Server) -> Value {
    eventually("one peer", || match &peers(server)[..] {
        [peer] if peer["version"] != 0 => Some(peer.clone()),
        _ => None,
    })
}

fn no_peer(server: &Server) {
    eventually("no peer", || (server.rpc("getconnectioncount", json!([])) == 0).then_some(()));
}

/// Code and text of the error that a call must end with.
fn error(server: &Server, method: &str, params: Value) -> (i64, String) {
    let error = server.rpc_object(method, params.clone())["error"].take();
    let code = error["code"].as_i64().unwrap_or_else(|| panic!("{method} {params} must fail: {error}"));
    (code, error["message"].as_str().unwrap().to_owned())
}

/// Status and document of a request with the admin key.
fn admin(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let key = std::fs::read_to_string(server.data.join("keys/admin")).unwrap();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(server.url(path))
        .header("X-API-Key", key.trim())
        .header("Content-Type", "application/json");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let (status, body) = send(agent().run(request.body(body).unwrap()));
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn two_nodes_see_each_other() {
    let (a, b) = (place(), place());
    let _a = a.node(&[]);
    a.rpc("generatetoaddress", json!([5, ADDRESS]));
    let _b = b.node(&["--web", "--connect", &a.p2p.to_string()]);

    assert_eq!(b.rpc("getblockcount", json!([])), 5, "ready is caught up");
    let (ours, theirs) = (only_peer(&b), only_peer(&a));
    assert_eq!((&ours["addr"], &ours["connection_type"]), (&json!(a.p2p.to_string()), &json!("manual")));
    assert_eq!((&ours["inbound"], &theirs["inbound"]), (&json!(false), &json!(true)));
    assert_eq!((&ours["version"], &ours["transport_protocol_type"]), (&json!(70016), &json!("v2")));
    assert_eq!(ours["session_id"], theirs["session_id"]);
    assert_eq!(ours["session_id"].as_str().unwrap().len(), 64);
    assert_eq!(ours["servicesnames"], json!(["NETWORK", "WITNESS", "NETWORK_LIMITED", "P2P_V2"]));
    assert_eq!((&ours["synced_headers"], &ours["synced_blocks"]), (&json!(5), &json!(5)));
    assert_eq!(theirs["addr"], ours["addrbind"]);
    for (server, inbound, outbound) in [(&a, 1, 0), (&b, 0, 1)] {
        let info = server.rpc("getnetworkinfo", json!([]));
        assert_eq!((&info["connections_in"], &info["connections_out"]), (&json!(inbound), &json!(outbound)));
        assert_eq!((&info["connections"], &info["networkactive"]), (&json!(1), &json!(true)));
        assert_eq!((&info["localservices"], &info["protocolversion"]), (&ours["services"], &json!(70016)));
        assert_eq!(info["subversion"], ours["subver"]);
    }
    let totals = b.rpc("getnettotals", json!([]));
    for (total, of_peer) in [("totalbytesrecv", "bytesrecv"), ("totalbytessent", "bytessent")] {
        assert!(totals[total].as_u64() >= ours[of_peer].as_u64(), "{totals} {ours}");
    }

    let shown = get_json(&b.url("/api/v1/peers"))["items"].take();
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
    assert_eq!((&shown[0]["address"], &shown[0]["direction"]), (&json!(a.p2p.to_string()), &json!("outbound")));
    assert_eq!((&shown[0]["id"], &shown[0]["user_agent"]), (&ours["id"], &ours["subver"]));
    let chain = get_json(&b.url("/api/v1/blockchain"));
    assert_eq!((&chain["height"], &chain["headers"], &chain["peers"]), (&json!(5), &json!(5), &json!(1)));
    assert_eq!(chain["synchronisation"], Value::Null);
    let metrics = String::from_utf8(get(&b.url("/metrics")).1).unwrap();
    for line in
        ["cairn_peers{direction=\"outbound\"} 1\n", "cairn_peers{direction=\"inbound\"} 0\n", "cairn_chain_headers 5\n"]
    {
        assert!(metrics.contains(line), "{line}");
    }
    for counter in ["cairn_peer_received_bytes_total ", "cairn_peer_sent_bytes_total "] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(counter)).expect(counter);
        assert!(value.parse::<u64>().unwrap() > 0, "{counter}{value}");
    }
}

#[test]
fn nodes_are_added_tried_and_let_go_by_json_rpc() {
    let (a, b) = (place(), place());
    let (_a, _b) = (a.node(&[]), b.node(&[]));
    let there = a.p2p.to_string();
    assert_eq!(b.rpc("getaddednodeinfo", json!([])), json!([]));

    assert_eq!(b.rpc("addnode", json!([there, "add"])), Value::Null);
    let first = only_peer(&b);
    let connected = json!([{"addednode": there, "connected": true,
        "addresses": [{"address": there, "connected": "outbound"}]}]);
    assert_eq!(b.rpc("getaddednodeinfo", json!([there])), connected);
    assert_eq!(error(&b, "addnode", json!([there, "add"])), (-23, "Error: Node already added".into()));

    assert_eq!(b.rpc("disconnectnode", json!([there])), Value::Null);
    let second = eventually("another connection", || peers(&b).pop().filter(|peer| peer["id"] != first["id"]));
    assert_eq!(second["addr"], there.as_str(), "what was added is connected to again");
    assert_eq!(b.rpc("addnode", json!([there, "remove"])), Value::Null);
    assert_eq!(only_peer(&b)["id"], second["id"], "its connection stays");
    assert_eq!(b.rpc("disconnectnode", json!({"nodeid": second["id"]})), Value::Null);
    no_peer(&b);

    assert_eq!(b.rpc("addnode", json!([there, "onetry", false])), Value::Null);
    let tried = only_peer(&b);
    assert_eq!((&tried["transport_protocol_type"], &tried["session_id"]), (&json!("v1"), &json!("")));
    assert_eq!(b.rpc("getaddednodeinfo", json!([])), json!([]), "it is not added");

    assert_eq!(b.rpc("setnetworkactive", json!([false])), json!(false));
    no_peer(&b);
    assert_eq!(b.rpc("getnetworkinfo", json!([]))["networkactive"], false);
    assert_eq!(b.rpc("setnetworkactive", json!([true])), json!(true));
}

#[test]
fn a_thousand_nodes_may_be_added() {
    let node = place();
    let _running = node.node(&[]);
    node.rpc("setnetworkactive", json!([false]));
    for number in 0..1000 {
        assert_eq!(node.rpc("addnode", json!([format!("127.0.1.1:{}", 1 + number), "add"])), Value::Null);
    }
    let one_more = || json!(["127.0.1.1:1001", "add"]);
    let full = "Error: Already at capacity for specified connection type.";
    assert_eq!(error(&node, "addnode", one_more()), (-34, full.into()));
    assert_eq!(node.rpc("getaddednodeinfo", json!([])).as_array().map(Vec::len), Some(1000));
    node.rpc("addnode", json!(["127.0.1.1:1", "remove"]));
    assert_eq!(node.rpc("addnode", one_more()), Value::Null, "there is room again");
}

#[test]
fn wrong_arguments_have_cores_codes_and_texts() {
    let a = place();
    let _a = a.node(&[]);
    let only_one = "Only one of address and nodeid should be provided.";
    for (method, params, code, text) in [
        ("disconnectnode", json!([]), -32602, only_one),
        ("disconnectnode", json!(["1.2.3.4:8333", 1]), -32602, only_one),
        ("disconnectnode", json!(["1.2.3.4:8333"]), -29, "Node not found in connected nodes"),
        ("disconnectnode", json!(["", 7]), -29, "Node not found in connected nodes"),
        ("addnode", json!(["x", "remove"]), -24, "Error: Node could not be removed. It has not been added previously."),
        ("getaddednodeinfo", json!(["x"]), -24, "Error: Node has not been added."),
        ("setban", json!(["x", "add"]), -30, "Error: Invalid IP/Subnet"),
        ("setban", json!(["1.2.3.4", "add", 1, true]), -8, "Error: Absolute timestamp is in the past"),
        (
            "setban",
            json!(["1.2.3.4", "remove"]),
            -30,
            "Error: Unban failed. Requested address/subnet was not previously manually banned.",
        ),
        ("getnodeaddresses", json!([-1]), -8, "Address count out of range"),
        ("getnodeaddresses", json!([1, "lan"]), -8, "Network not recognized: lan"),
        ("addpeeraddress", json!(["x", 8333]), -30, "Invalid IP address"),
        ("addpeeraddress", json!(["1.2.3.4", 65536]), -1, "JSON integer out of range"),
    ] {
        assert_eq!(error(&a, method, params.clone()), (code, text.to_owned()), "{method} {params}");
    }
    for (method, params) in [("addnode", json!(["x", "try"])), ("setban", json!(["1.2.3.4", "lift"]))] {
        let (code, text) = error(&a, method, params);
        assert!(code == -1 && text.starts_with(method), "{text}");
    }
}

#[test]
fn encrypted_connections_can_be_off() {
    let (a, b) = (place(), place());
    let _a = a.node(&[]);
    let mut command = b.node_command(&["--connect", &a.p2p.to_string()]);
    command.env("CAIRN_P2P__NO_V2", "yes");
    let _b = b.ready(spawn(command));
    assert_eq!(only_peer(&b)["transport_protocol_type"], "v1");
    assert_eq!(
        b.rpc("getnetworkinfo", json!([]))["localservicesnames"],
        json!(["NETWORK", "WITNESS", "NETWORK_LIMITED"])
    );
    let refused = error(&b, "addnode", json!(["x", "add", true]));
    assert_eq!(refused, (-8, "Error: v2transport requested but not enabled (see -v2transport)".into()));
}

#[test]
fn a_node_that_was_given_peers_is_ready_once_it_has_one_and_its_chain() {
    let (a, b) = (place(), place());
    let running = a.node(&[]);
    a.rpc("generatetoaddress", json!([20, ADDRESS]));
    assert_eq!(running.terminate(), Some(0));

    let mut command = b.node_command(&[]);
    command.env("NODE_CONNECT_NODES", format!("local, {}", a.p2p));
    let _b = b.answering(spawn(command), "/api/health/live");
    let (status, problem) = get(&b.url("/api/health/ready"));
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(status, 503);
    assert_eq!(problem["detail"], "peers: none of the peers that it was given is connected", "{problem}");
    assert_eq!(get_json(&b.url("/api/health"))["status"], "not_ready");

    let running = a.node(&[]);
    let ready = eventually("ready", || {
        let (status, body) = get(&b.url("/api/health/ready"));
        (status == 200).then(|| serde_json::from_slice::<Value>(&body).unwrap())
    });
    assert_eq!(b.rpc("getblockcount", json!([])), 20, "never ready before it is at its peers' best header");
    assert_eq!(ready["checks"][0], json!({"name": "peers", "ok": true, "detail": "1 connected"}));
    assert_eq!(running.terminate(), Some(0));
    eventually("not ready", || (get(&b.url("/api/health/ready")).0 == 503).then_some(()));
}

#[test]
fn a_seed_node_waits_for_nobody() {
    let a = place();
    let mut command = a.node_command(&[]);
    command.env("NODE_CONNECT_NODES", "local");
    let _a = a.ready(spawn(command));
    assert_eq!(a.rpc("getaddednodeinfo", json!([])), json!([]));
}

#[test]
fn what_names_no_peer_is_refused_with_a_remedy() {
    let a = place();
    for (name, why) in [
        ("", "it is empty"),
        ("http://miner:2001", "it is a URL"),
        ("miner 1", "it has blanks"),
        ("miner:65536", "its port is not from 1 to 65535"),
        ("miner:0", "its port is not from 1 to 65535"),
        ("127.0.0.1.5:2001", "neither an IP address nor a host's name"),
        ("127.0.0.1:2001,", "it is empty"),
    ] {
        let (code, said) = refused(spawn(a.node_command(&["--connect", name])));
        assert_eq!(code, Some(2), "{name:?}: {said}");
        assert!(said.contains(why) && said.contains("HOST:PORT"), "{name:?}: {said}");
    }
    let mut command = a.node_command(&[]);
    command.env("NODE_CONNECT_NODES", "miner:99999");
    let (code, said) = refused(spawn(command));
    assert!(code == Some(2) && said.contains("NODE_CONNECT_NODES"), "{said}");
    assert!(!a.data.exists(), "nothing was created");
}

#[test]
fn the_admin_adds_peers_and_lets_them_go_over_http() {
    let (a, b) = (place(), place());
    let (_a, _b) = (a.node(&[]), b.node(&["--web"]));
    let there = a.p2p.to_string();
    let body = json!({"address": there});
    let (status, _) = send(agent().post(b.url("/api/v1/peers")).send_json(&body));
    assert_eq!(status, 401, "without the key");
    let (status, problem) = admin(&b, "POST", "/api/v1/peers", Some(json!({"address": "http://x"})));
    assert_eq!(status, 422, "{problem}");
    assert_eq!(admin(&b, "POST", "/api/v1/peers", Some(body.clone())), (202, body.clone()));
    only_peer(&b);
    assert_eq!(admin(&b, "POST", "/api/v1/peers", Some(body.clone())).0, 409);
    let by_id = format!("/api/v1/peers/{}", only_peer(&b)["id"]);
    let (status, _) = send(agent().delete(b.url(&by_id)).call());
    assert_eq!(status, 401, "without the key");
    assert_eq!(admin(&b, "DELETE", &by_id, None).0, 204);
    no_peer(&b);
    assert_eq!(b.rpc("getaddednodeinfo", json!([])), json!([]), "nor is it connected to again");
    assert_eq!(admin(&b, "DELETE", &by_id, None).0, 404);

    assert_eq!(admin(&b, "POST", "/api/v1/peers", Some(body)).0, 202);
    only_peer(&b);
    assert_eq!(admin(&b, "DELETE", &format!("/api/v1/peers/{there}"), None).0, 204);
    no_peer(&b);
}

#[test]
fn bans_keep_peers_out_and_outlast_the_process() {
    let (a, b) = (place(), place());
    let running = a.node(&[]);
    let _b = b.node(&["--connect", &a.p2p.to_string()]);
    only_peer(&a);
    assert_eq!(a.rpc("setban", json!(["127.0.0.0/8", "add", 1000])), Value::Null);
    no_peer(&a);
    let listed = a.rpc("listbanned", json!([]));
    assert_eq!((&listed[0]["address"], &listed[0]["ban_duration"]), (&json!("127.0.0.0/8"), &json!(1000)));
    assert_eq!(error(&a, "setban", json!(["127.0.0.1", "add"])), (-23, "Error: IP/Subnet already banned".into()));
    assert_eq!(running.terminate(), Some(0));

    let _a = a.node(&[]);
    assert_eq!(a.rpc("listbanned", json!([]))[0]["banned_until"], listed[0]["banned_until"]);
    assert_eq!(a.rpc("setban", json!(["127.0.0.0/8", "remove"])), Value::Null);
    only_peer(&a);
    assert_eq!(a.rpc("setban", json!(["1.2.3.4", "add"])), Value::Null);
    assert_eq!(a.rpc("clearbanned", json!([])), Value::Null);
    assert_eq!(a.rpc("listbanned", json!([])), json!([]));
}

#[test]
fn addresses_of_nodes_are_counted_and_drawn() {
    let a = place();
    let _a = a.node(&[]);
    assert_eq!(a.rpc("addpeeraddress", json!(["1.2.3.4", 8333])), json!({"success": true}));
    assert_eq!(a.rpc("addpeeraddress", json!(["5.6.7.8", 8333, true])), json!({"success": true}));
    let again = json!({"success": false, "error": "failed-adding-to-new"});
    assert_eq!(a.rpc("addpeeraddress", json!(["1.2.3.4", 8333])), again);
    let info = a.rpc("getaddrmaninfo", json!([]));
    assert_eq!(info["ipv4"], json!({"new": 1, "tried": 1, "total": 2}));
    assert_eq!((&info["onion"]["total"], &info["all_networks"]), (&json!(0), &info["ipv4"]));
    let drawn = a.rpc("getnodeaddresses", json!([0, "ipv4"]));
    let mut drawn: Vec<_> = drawn.as_array().unwrap().iter().map(|node| node["address"].as_str().unwrap()).collect();
    drawn.sort_unstable();
    assert_eq!(drawn, ["1.2.3.4", "5.6.7.8"]);
    assert_eq!(a.rpc("getnodeaddresses", json!([])).as_array().unwrap().len(), 1);
    assert_eq!(a.rpc("getnodeaddresses", json!([0, "ipv6"])), json!([]));
}
