//! A payment of the wallet outlives the process that sent it.

use crate::harness::{Server, agent, eventually, send};
use serde_json::{Value, json};

#[test]
fn a_payment_is_sent_again_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("0");
    let key = std::fs::read_to_string(server.data.join("keys/wallet")).unwrap();
    let wallet = |path: &str, body: Option<Value>| -> Value {
        let url = server.url(&format!("/api/v1/wallets{path}"));
        let (status, answer) = match body {
            None => send(agent().get(&url).header("X-API-Key", key.trim()).call()),
            Some(body) => {
                let request = agent().post(&url).header("X-API-Key", key.trim()).content_type("application/json");
                send(request.send(body.to_string().as_bytes()))
            }
        };
        assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("JSON")
    };
    let names = wallet("", None);
    let name = names["items"][0]["name"].as_str().unwrap_or_else(|| panic!("{names}"));
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let payment = json!({ "recipients": [{ "address": address, "amount_sat": 150_000_000 }] });
    let sent = wallet(&format!("/{name}/send"), Some(payment));
    let mempool = || server.rpc("getrawmempool", json!([]));
    assert_eq!(mempool(), json!([sent["txid"]]));
    running.kill();

    let _running = server.up("0");
    eventually("it is sent again", || (mempool() == json!([sent["txid"]])).then_some(()));
    let block = server.rpc("generatetodescriptor", json!([1, "raw(51)"]))[0].clone();
    assert_eq!(server.rpc("getblock", json!([block]))["tx"][1], sent["txid"]);
}
