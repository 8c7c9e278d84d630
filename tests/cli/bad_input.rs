//! Each bad input has its clear error and loses nothing.

use crate::harness::{Server, agent, assert_exit, get, get_json, post, printed, send};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// `cairn ARGS…` fails with this code, and says this on stderr in one line.
#[track_caller]
fn fails(server: &Server, args: &[&str], code: i32, says: &str) {
    let output = server.cairn(args);
    assert_exit(&output, code);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.to_lowercase().contains(&says.to_lowercase()), "{args:?} should say {says:?}: {}", printed(&output));
    assert!(!said.contains("panicked"), "{}", printed(&output));
}

#[test]
fn proofs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("1");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    std::fs::write(&a, b"a").unwrap();
    std::fs::write(&b, b"b").unwrap();
    assert_exit(&server.cairn(&["stamp", "--wait", &a, &b]), 0);
    let good = std::fs::read(format!("{a}.ots")).unwrap();

    // Every truncation is malformed.
    let bad = path("bad.ots");
    for length in 0..good.len() {
        std::fs::write(&bad, &good[..length]).unwrap();
        let code = server.cairn(&["info", &bad]).status.code();
        assert_eq!(code, Some(1), "truncated to {length}");
    }
    std::fs::write(&bad, vec![0; 10_000_001]).unwrap();
    fails(&server, &["verify", &a, &bad], 1, "proof");
    std::fs::write(&bad, [&good[..], &vec![0xff; 10_000_000][..]].concat()).unwrap();
    fails(&server, &["verify", &a, &bad], 1, "proof");
    // Recursion: operations nested without end.
    let mut deep = good[..31 + 1 + 1 + 32].to_vec();
    deep.extend(std::iter::repeat_n(0x08, 100_000));
    std::fs::write(&bad, &deep).unwrap();
    fails(&server, &["verify", &a, &bad], 1, "deep");

    // A proof of another file says no.
    fails(&server, &["verify", &b, &format!("{a}.ots")], 3, "is not what");
    // What is not there.
    fails(&server, &["verify", &path("absent")], 1, "absent");
    fails(&server, &["stamp", &path("absent")], 1, "absent");
    fails(&server, &["stamp", &a], 1, "already there");
    fails(&server, &["stamp"], 2, "usage");
    // No node to ask: neither yes nor no.
    drop(running);
    fails(&server, &["verify", &a], 4, "127.0.0.1");
    fails(&server, &["verify", "--bitcoin-node", "http://u:p@127.0.0.1:1", &a], 4, "127.0.0.1:1");
    fails(&server, &["stamp", &path("b"), "--force"], 1, "127.0.0.1");
}

/// Sends raw bytes and reads the answer's status line and body.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn calendar_and_bulk() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    let digest = server.url("/digest");
    let form = "application/x-www-form-urlencoded";
    for length in [0, 1, 20, 32, 64] {
        assert_eq!(post(&digest, form, &vec![7; length]).0, 200, "{length} bytes");
    }
    for length in [65, 10_000] {
        assert_eq!(post(&digest, form, &vec![7; length]), (400, b"digest too long".to_vec()));
    }
    let answer = raw(server.http, b"POST /digest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("invalid Content-Length"), "{answer}");
    assert_eq!(get(&server.url("/timestamp/zz")), (400, b"commitment must be hex-encoded bytes".to_vec()));
    assert_eq!(get(&server.url("/timestamp/00")), (404, b"Not found".to_vec()));

    let stamps = server.url("/api/v1/stamps");
    let good = "11".repeat(32);
    for bad in ["zz".repeat(32), "22".repeat(65), "2".repeat(63)] {
        let body = json!({ "digests": [good, bad] }).to_string();
        let (status, problem) = post(&stamps, "application/json", body.as_bytes());
        let problem: Value = serde_json::from_slice(&problem).expect("a problem document");
        assert!(status == 400 || status == 422, "{status}: {problem}");
        assert!(problem.to_string().contains('1'), "names the index: {problem}");
    }
    assert_eq!(get(&server.url(&format!("/api/v1/stamps/{good}"))).0, 404, "nothing of a bad bulk is journaled");
    for body in ["", "{", "[]", "{\"digests\": 5}", "null", "{\"digests\": [5]}"] {
        let (status, problem) = post(&stamps, "application/json", body.as_bytes());
        assert!((400..500).contains(&status), "{body}: {status}");
        let problem: Value = serde_json::from_slice(&problem).unwrap_or_else(|_| panic!("{body}: a problem document"));
        assert_eq!(problem["status"], status, "RFC 9457: {problem}");
    }
    assert_eq!(get(&server.url("/api/v1/nothing")).0, 404);
    assert_eq!(get(&server.url("/api/v1/blocks/999999")).0, 404);
    assert_eq!(get(&server.url("/api/v1/blocks/xyz")).0, 400);
    assert_eq!(get_json(&server.url("/api/v1/blockchain"))["height"], 101);
}

#[test]
fn rpc() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    let rpc = format!("http://127.0.0.1:{}/", server.rpc);
    assert_eq!(send(agent().post(&rpc).send("{}")).0, 401, "no credentials");
    assert_eq!(send(agent().post(&rpc).header("Authorization", "Basic eDp5").send("{}")).0, 401, "wrong credentials");

    let error = |method: &str, params: Value| {
        let answer = server.rpc_object(method, params);
        assert!(answer["result"].is_null(), "{answer}");
        (answer["error"]["code"].as_i64().unwrap_or(0), answer["error"]["message"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(error("nosuchmethod", json!([])), (-32601, "Method not found".into()));
    assert_eq!(error("getblockhash", json!([1_000_000])), (-8, "Block height out of range".into()));
    assert_eq!(error("getblock", json!(["00".repeat(32)])), (-5, "Block not found".into()));
    assert_eq!(error("getblock", json!(["zz"])).0, -8);
    assert_eq!(error("sendrawtransaction", json!(["00"])).0, -22);
    assert_eq!(error("submitblock", json!(["00"])), (-22, "Block decode failed".into()));
    assert_eq!(error("submitheader", json!(["00"])), (-22, "Block header decode failed".into()));
    assert_eq!(error("getblockhash", json!(["one"])).0, -3);
    // A block whose proof of work is wrong is refused by Core's reason.
    let hash = server.rpc("getbestblockhash", json!([]));
    let block = server.rpc("getblock", json!([hash, 0]));
    let mut bytes = block.as_str().unwrap().to_owned();
    bytes.replace_range(8..10, if &bytes[8..10] == "00" { "01" } else { "00" });
    let answer = server.rpc("submitblock", json!([bytes]));
    assert!(answer == "high-hash" || answer == "prev-blk-not-found" || answer == "inconclusive", "{answer}");
    assert_eq!(server.rpc("submitblock", json!([block])), "duplicate");
    assert_eq!(server.rpc("getblockcount", json!([])), 101, "nothing changed");
}
