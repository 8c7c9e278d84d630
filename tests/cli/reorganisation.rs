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
