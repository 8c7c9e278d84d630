//! A stamp confirmed on a branch that loses returns to pending and confirms again; its old proof no longer verifies
//! and the new one does.

use crate::harness::{Server, assert_exit, eventually, get, get_json, post};
use serde_json::json;

#[test]
fn a_stamp_on_a_losing_branch_confirms_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    let digest = "c0ffee".repeat(10) + "c0ff";
    let body = json!({ "digests": [digest] }).to_string();
    let (status, answer) = post(&server.url("/api/v1/stamps"), "application/json", body.as_bytes());
    assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(&answer));

    let state = || get_json(&server.url(&format!("/api/v1/stamps/{digest}")));
    let confirmed = || {
        let state = state();
        (state["state"] == "confirmed").then_some(state)
    };
    let save_proof = |name: &str| {
        let (status, bytes) = get(&server.url(&format!("/api/v1/stamps/{digest}/proof")));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
        let path = dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let verify = |proof: &str| server.cairn(&["verify", "--digest", &digest, proof]);
    let in_mempool = || (server.rpc("getmempoolinfo", json!([]))["size"] == 1).then_some(());

    eventually("the stamping transaction", in_mempool);
    let losing = server.rpc("generatetodescriptor", json!([1, "raw(51)"]))[0].clone();
    let first = eventually("confirmed", confirmed);
    assert_eq!(first["block_hash"], losing);
    let old = save_proof("old.ots");
    assert_exit(&verify(&old), 0);

    server.rpc("invalidateblock", json!([losing]));
    eventually("pending again", || (state()["state"] != "confirmed").then_some(()));
    eventually("sent again", in_mempool);
    // The winning branch starts with a block that leaves the stamp out, so it confirms at another height.
    server.rpc("generateblock", json!(["raw(52)", []]));
    server.rpc("generatetodescriptor", json!([1, "raw(51)"]));
    let second = eventually("confirmed again", confirmed);
    assert_ne!(second["block_hash"], losing);
    assert_exit(&verify(&old), 3);
    let new = save_proof("new.ots");
    assert_exit(&verify(&new), 0);
}

#[test]
fn a_stamp_confirms_below_the_block_that_it_was_built_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    // Whichever of the wallet's rewards pays, it is mature on the shorter chain too.
    let blocks = server.rpc("generatetodescriptor", json!([120, "raw(51)"]));
    let digest = "ba5e".repeat(16);
    let body = json!({ "digests": [digest] }).to_string();
    let (status, answer) = post(&server.url("/api/v1/stamps"), "application/json", body.as_bytes());
    assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(&answer));
    let state = || get_json(&server.url(&format!("/api/v1/stamps/{digest}")));
    let in_block = |block: &serde_json::Value| {
        let state = state();
        (state["state"] == "confirmed" && state["block_hash"] == *block).then_some(state)
    };
    let waiting = || server.rpc("getrawmempool", json!([]));
    let tx = eventually("the stamping transaction", || waiting()[0].as_str().map(str::to_owned));
    let first = server.rpc("generatetodescriptor", json!([1, "raw(51)"]))[0].clone();
    let first = eventually("confirmed", || in_block(&first));

    server.rpc("invalidateblock", json!([blocks[116]]));
    eventually("back in the mempool", || (waiting() == json!([tx])).then_some(()));
    let lower = server.rpc("generatetodescriptor", json!([1, "raw(52)"]))[0].clone();
    let second = eventually("confirmed below", || in_block(&lower));
    assert!(second["block_height"].as_u64() < first["block_height"].as_u64(), "{second} {first}");
    let (status, proof) = get(&server.url(&format!("/api/v1/stamps/{digest}/proof")));
    assert_eq!(status, 200);
    let path = dir.path().join("proof.ots");
    std::fs::write(&path, proof).unwrap();
    assert_exit(&server.cairn(&["verify", "--digest", &digest, path.to_str().unwrap()]), 0);
    // Nothing is paid a second time.
    server.rpc("generatetodescriptor", json!([2, "raw(53)"]));
    assert_eq!(waiting(), json!([]));
}
