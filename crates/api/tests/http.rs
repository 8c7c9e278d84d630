//! The HTTP interface: errors, keys, chain reads, mining, the wallet, health, events and the document.

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use cairn_api::state::Shared;
use cairn_api::{ApiConfig, ApiError, AppState, Monitored, Services};
use common::{ADMIN_KEY, Api, WALLET_KEY, api};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

struct Answer {
    status: StatusCode,
    content_type: String,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that it is a problem document of a status, and returns it.
    fn problem(&self, status: u16) -> Value {
        let problem = self.json();
        assert_eq!(
            (self.status.as_u16(), self.content_type.as_str()),
            (status, "application/problem+json"),
            "{problem}"
        );
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }
}

async fn send(api: &Api, request: Request<Body>) -> Answer {
    ask(&api.router, request).await
}

async fn ask(router: &axum::Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Answer { status, content_type, headers, body }
}

async fn get(api: &Api, path: &str) -> Answer {
    send(api, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn get_with(api: &Api, path: &str, key: &str) -> Answer {
    send(api, Request::get(path).header("x-api-key", key).body(Body::empty()).unwrap()).await
}

async fn post(api: &Api, path: &str, key: &str, body: Value) -> Answer {
    let request = Request::post(path).header("x-api-key", key).header("content-type", "application/json");
    send(api, request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_document() {
    let api = api().await;
    get(&api, "/nowhere").await.problem(404);
    get(&api, "/api/v1/blocks/7").await.problem(404);
    get(&api, "/api/v1/blocks/x").await.problem(400);
    get(&api, &format!("/api/v1/blocks/{}", "zz".repeat(32))).await.problem(400);
    get(&api, "/api/v1/blocks?limit=0").await.problem(400);
    get(&api, "/api/v1/blocks?limit=x").await.problem(400);
    get(&api, "/api/v1/blocks?nope=1").await.problem(400);
    get(&api, "/api/v1/transactions/aa").await.problem(400);
    get(&api, &format!("/api/v1/transactions/{}", "00".repeat(32))).await.problem(404);
    let wrong_method = send(&api, Request::delete("/api/v1/blocks").body(Body::empty()).unwrap()).await;
    wrong_method.problem(405);
    assert!(wrong_method.headers.contains_key("allow"));
    let request = Request::post("/api/v1/mining/generate").header("x-api-key", ADMIN_KEY);
    send(&api, request.body(Body::from("{}")).unwrap()).await.problem(415);
    let request = Request::post("/api/v1/mining/generate")
        .header("x-api-key", ADMIN_KEY)
        .header("content-type", "application/json");
    send(&api, request.body(Body::from("{")).unwrap()).await.problem(400);
    post(&api, "/api/v1/mining/generate", ADMIN_KEY, json!({"blocks": "many"})).await.problem(422);
    let answer = get(&api, "/api/health/live").await;
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_their_own_doors_only() {
    let api = api().await;
    get(&api, "/api/v1/mining").await.problem(401);
    get_with(&api, "/api/v1/mining", WALLET_KEY).await.problem(401);
    assert_eq!(get_with(&api, "/api/v1/mining", ADMIN_KEY).await.status, StatusCode::OK);
    post(&api, "/api/v1/mining/share", WALLET_KEY, json!({"share": 0.5})).await.problem(401);
    let mining = post(&api, "/api/v1/mining/share", ADMIN_KEY, json!({"share": 0.25})).await.json();
    assert_eq!((&mining["share"], &mining["pacing"]), (&json!(0.25), &json!("poisson")));
    assert_eq!(get_with(&api, "/api/v1/mining", ADMIN_KEY).await.json()["share"], 0.25);
    for wrong in [0.0, -1.0, 1.01] {
        post(&api, "/api/v1/mining/share", ADMIN_KEY, json!({"share": wrong})).await.problem(422);
    }
    get(&api, "/api/v1/wallets").await.problem(401);
    get_with(&api, "/api/v1/wallets", ADMIN_KEY).await.problem(401);
    assert_eq!(get_with(&api, "/api/v1/wallets", WALLET_KEY).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_transactions_are_shown() {
    let api = api().await;
    let mined = post(&api, "/api/v1/mining/generate", ADMIN_KEY, json!({"blocks": 3, "address": ADDRESS})).await.json();
    let hashes = mined["block_hashes"].as_array().unwrap();
    assert_eq!((hashes.len(), &mined["height"]), (3, &json!(3)));
    let chain = get(&api, "/api/v1/blockchain").await.json();
    assert_eq!((&chain["network"], &chain["height"]), (&json!("regtest"), &json!(3)));
    assert_eq!(chain["best_block_hash"], hashes[2]);

    let page = get(&api, "/api/v1/blocks?limit=3").await.json();
    assert_eq!(page["items"][0]["hash"], hashes[2]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let last = get(&api, &format!("/api/v1/blocks?limit=3&cursor={cursor}")).await.json();
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next_cursor"]), (1, &Value::Null));
    assert_eq!(last["items"][0]["previous_hash"], Value::Null);

    let block = get(&api, "/api/v1/blocks/2").await.json();
    assert_eq!(block, get(&api, &format!("/api/v1/blocks/{}", hashes[1].as_str().unwrap())).await.json());
    assert_eq!((&block["hash"], &block["confirmations"]), (&hashes[1], &json!(2)));
    assert_eq!((&block["previous_hash"], &block["next_hash"]), (&hashes[0], &hashes[2]));
    assert_eq!((block["header"].as_str().unwrap().len(), &block["tx_count"]), (160, &json!(1)));
    let txid = block["transactions"][0].as_str().unwrap();
    let tx = get(&api, &format!("/api/v1/transactions/{txid}")).await.json();
    assert_eq!((&tx["block_height"], &tx["confirmations"], &tx["fee_sat"]), (&json!(2), &json!(2), &Value::Null));
    assert_eq!(tx["outputs"][0]["value_sat"], 5_000_000_000_u64);
    assert_eq!(tx["outputs"][0]["address"], ADDRESS);

    for (query, kind) in [("2", "block"), (hashes[1].as_str().unwrap(), "block"), (txid, "transaction")] {
        let found = get(&api, &format!("/api/v1/search?q={query}")).await.json();
        assert_eq!(found["results"][0]["kind"], kind, "{query}");
    }
    assert_eq!(get(&api, "/api/v1/search?q=nothing").await.json()["results"], json!([]));
    assert_eq!(get(&api, "/api/v1/mempool").await.json()["transactions"], 0);
    assert_eq!(get(&api, "/api/v1/peers").await.json()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_earns_and_pays() {
    let api = api().await;
    assert_eq!(post(&api, "/api/v1/mining/generate", ADMIN_KEY, json!({"blocks": 101})).await.status, StatusCode::OK);
    api.sync_wallet().await;
    let wallets = get_with(&api, "/api/v1/wallets", WALLET_KEY).await.json();
    let name = wallets["items"][0]["name"].as_str().unwrap().to_owned();
    let path = |rest: &str| format!("/api/v1/wallets/{name}/{rest}");
    let balance = get_with(&api, &path("balance"), WALLET_KEY).await.json();
    assert_eq!(balance["confirmed_sat"], 5_000_000_000_u64 * 2, "{balance}");
    let made = post(&api, &path("addresses"), WALLET_KEY, json!({})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let too_much = json!({"recipients": [{"address": ADDRESS, "amount_sat": 99_000_000_000_u64}]});
    let problem = post(&api, &path("send"), WALLET_KEY, too_much).await.problem(422);
    assert_eq!(problem["type"], "urn:cairn:problem:insufficient-funds");
    let elsewhere =
        json!({"recipients": [{"address": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "amount_sat": 1000}]});
    post(&api, &path("send"), WALLET_KEY, elsewhere).await.problem(422);
    let payment = json!({"recipients": [{"address": ADDRESS, "amount_sat": 1_000_000}]});
    let sent = post(&api, &path("send"), WALLET_KEY, payment).await.json();
    let txid = sent["txid"].as_str().unwrap_or_else(|| panic!("{sent}"));
    assert_eq!(get(&api, "/api/v1/mempool").await.json()["txids"], json!([txid]));
    let tx = get(&api, &format!("/api/v1/transactions/{txid}")).await.json();
    assert_eq!(tx["fee_sat"], sent["fee_sat"]);
    let history = get_with(&api, &path("transactions?limit=1"), WALLET_KEY).await.json();
    assert_eq!((&history["items"][0]["txid"], &history["items"][0]["state"]), (&json!(txid), &json!("pending")));
    get_with(&api, "/api/v1/wallets/nobody/balance", WALLET_KEY).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_the_document_answer() {
    let api = api().await;
    assert_eq!(get(&api, "/api/health/live").await.json(), json!({"status": "ok"}));
    let ready = get(&api, "/api/health/ready").await;
    assert_eq!((ready.status, &ready.json()["status"]), (StatusCode::OK, &json!("ready")));
    assert_eq!(get(&api, "/health").await.json()["network"], "regtest");
    api.mine(1).await;
    let metrics = String::from_utf8(get(&api, "/metrics").await.body).unwrap();
    for name in [
        "cairn_chain_height 1\n",
        "cairn_block_connect_seconds_count ",
        "cairn_mempool_transactions 0\n",
        "cairn_http_requests_total{",
        "cairn_stamps_pending 0\n",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    let document = get(&api, "/api/openapi.json").await.json();
    for path in ["/api/v1/blocks/{id}", "/api/v1/stamps", "/digest", "/api/v1/events", "/api/v1/wallets/{name}/send"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let page = get(&api, "/api/docs/").await;
    assert!(page.status.is_success() && page.content_type.starts_with("text/html"));
    // The page must work offline.
    let html = String::from_utf8(page.body).unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    assert!(get(&api, "/api/docs/swagger-ui-bundle.js").await.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_services_has_health_and_metrics_and_no_more() {
    let (node, _dir) = common::node();
    let closing = CancellationToken::new();
    let router = cairn_api::http::monitoring(Monitored::Node(node.clone()), closing.clone());
    let get = async |path: &str| ask(&router, Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(get("/api/health/live").await.status, StatusCode::OK);
    let names = |health: &Value| -> Vec<String> {
        health["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap().into()).collect()
    };
    let ready = get("/api/health/ready").await;
    assert_eq!((ready.status, names(&ready.json())), (StatusCode::OK, vec!["chain".into(), "tip_age".into()]));
    for path in ["/health", "/api/health"] {
        let health = get(path).await.json();
        assert_eq!((health["status"].as_str(), health["height"].as_u64()), (Some("ready"), Some(0)), "{path}");
    }
    let metrics = String::from_utf8(get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ncairn_chain_height 0"), "{metrics}");
    for path in ["/", "/api/v1/blockchain", "/tip", "/api/openapi.json"] {
        get(path).await.problem(404);
    }
    closing.cancel();
    get("/api/health/ready").await.problem(503);
}

/// Over a socket: events arrive while they happen, and a stop ends the stream and the server.
#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen_and_end_with_the_server() {
    let api = api().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(cairn_api::serve_http(listener, api.state.clone(), shutdown.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut text = String::new();
    read_until(&mut client, &mut text, "text/event-stream").await;
    post(&api, "/api/v1/mining/generate", ADMIN_KEY, json!({"blocks": 1, "address": ADDRESS})).await;
    read_until(&mut client, &mut text, "event: block_connected").await;
    assert!(text.contains("\nid: "), "{text}");
    shutdown.cancel();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    server.await.unwrap().unwrap();
}

async fn read_until(client: &mut TcpStream, text: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let count = client.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "the connection closed before {wanted:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test]
async fn keys_that_documents_print_stay_on_loopback() {
    let mut api = api().await;
    let config = ApiConfig { admin_key: Some("admin-secret".into()), ..ApiConfig::default() };
    let state = &api.state;
    let Shared { store, calendar, hashes, .. } = &*state.services;
    let services = Services::new(store.clone(), calendar.clone(), hashes.clone(), config);
    let state = AppState::new(services, state.node.clone(), state.wallet.clone());
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = cairn_api::serve_http(listener, state.clone(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(ApiError::Key(_))));
    api.state = state;
}
