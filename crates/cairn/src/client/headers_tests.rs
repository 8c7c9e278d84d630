use super::*;
use crate::client::test_server::{TestServer, http};

const TIMEOUT: Duration = Duration::from_secs(5);

fn genesis() -> (String, String) {
    let header = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
    (header.block_hash().to_string(), bitcoin::consensus::encode::serialize_hex(&header))
}

#[test]
fn a_node_is_asked_by_height_with_its_password() {
    let (hash, hex) = genesis();
    let server = TestServer::start(move |request| {
        let result = if request.contains("getblockhash") { json!(hash) } else { json!(hex) };
        http("200 OK", json!({"result": result, "error": null, "id": "cairn"}).to_string().as_bytes())
    });
    let url = server.url.replace("http://", "http://us%40er:pa:ss@");
    let mut node = Source::node(&url, None, TIMEOUT).unwrap();
    assert!(matches!(node.header(0), HeaderAnswer::Found(header) if header.time == 1_296_688_602));
    assert!(!node.url().contains("pa:ss"));
    let expected = format!("authorization: basic {}", STANDARD.encode("us@er:pa:ss").to_ascii_lowercase());
    assert!(server.requests().iter().all(|request| request.to_ascii_lowercase().contains(&expected)));
    assert_eq!(node.header(u64::MAX), HeaderAnswer::NoSuchBlock);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_node_without_the_block_is_no_node_that_is_missing() {
    let ask = |status: &'static str, body: String| {
        let server = TestServer::start(move |_| http(status, body.as_bytes()));
        Source::node(&server.url, None, TIMEOUT).unwrap().header(7)
    };
    let error = |code: i32| json!({"result": null, "error": {"code": code, "message": "m"}}).to_string();
    assert_eq!(ask("500 Internal Server Error", error(-8)), HeaderAnswer::NoSuchBlock);
    assert_eq!(ask("500 Internal Server Error", error(-28)), HeaderAnswer::NoNode("it answered: m".into()));
    assert!(matches!(ask("401 Unauthorized", String::new()), HeaderAnswer::NoNode(reason) if reason.contains("401")));
    assert!(matches!(ask("200 OK", "<html>".into()), HeaderAnswer::NoNode(_)));
    let nobody = Source::node("http://127.0.0.1:1", None, TIMEOUT).unwrap().header(7);
    assert!(matches!(nobody, HeaderAnswer::NoNode(_)));
    assert!(Source::node("ftp://x", None, TIMEOUT).is_err() && Source::node("x", None, TIMEOUT).is_err());
}

#[test]
fn a_servers_header_must_be_that_of_its_block() {
    let (hash, hex) = genesis();
    let ask = |height: u64, hash: String, hex: String| {
        let body = json!({"hash": hash, "height": height, "header": hex}).to_string();
        let server = TestServer::start(move |_| http("200 OK", body.as_bytes()));
        Source::server(&server.url, TIMEOUT).header(0)
    };
    assert!(matches!(ask(0, hash.clone(), hex.clone()), HeaderAnswer::Found(_)));
    assert!(matches!(ask(1, hash.clone(), hex.clone()), HeaderAnswer::NoNode(_)));
    let other = hex.replacen("01", "02", 1);
    assert!(matches!(ask(0, hash.clone(), other), HeaderAnswer::NoNode(reason) if reason.contains("not that of")));
    assert!(matches!(ask(0, hash, hex[2..].into()), HeaderAnswer::NoNode(_)));
}

#[test]
fn a_404_counts_only_from_a_cairn_server() {
    let ask = |body: &'static str| {
        let server = TestServer::start(move |_| http("404 Not Found", body.as_bytes()));
        Source::server(&server.url, TIMEOUT).header(0)
    };
    assert_eq!(ask(r#"{"type":"about:blank","status":404}"#), HeaderAnswer::NoSuchBlock);
    assert_eq!(ask("not found"), HeaderAnswer::NoNode("it is no Cairn server".into()));
}
