//! HTTP requests of any path, query, headers and body, given to the whole interface. None is answered as a failure of ours;
//! what the API refuses, it refuses with a problem document of that status.
#![no_main]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, Uri};
use bitcoin::Network;
use bitcoin::hex::DisplayHex;
use cairn_api::http::router;
use cairn_api::{ApiConfig, AppState, Services};
use cairn_chain::testing::{MATURITY, grow, open};
use cairn_fuzz::{Input, pick};
use cairn_hashing::Hashes;
use cairn_jobs::Jobs;
use cairn_node::{Node, NodeConfig};
use cairn_stamp::{Calendar, CalendarConfig};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::Wallet;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const WALLET_KEY: &str = "k";
/// What is put before the fuzzer's part of the path.
const PATHS: [&str; 16] = [
    "/",
    "/timestamp/",
    "/api/v1/blocks/",
    "/api/v1/blocks?",
    "/api/v1/transactions/",
    "/api/v1/mempool?",
    "/api/v1/search?q=",
    "/api/v1/search?",
    "/api/v1/stamps/",
    "/api/v1/wallets/default/transactions?",
    "/api/v1/wallets/",
    "/api/v1/",
    "/api/",
    "/digest",
    "/api/v1/verify?",
    "/api/v1/stamps",
];
/// What the body says it is.
const TYPES: [&str; 6] = [
    "application/json",
    "application/octet-stream",
    "application/vnd.cairn.digests",
    "multipart/form-data; boundary=b",
    "application/vnd.opentimestamps.ots",
    "text/plain",
];

/// The interface of a node, a database, a wallet and a calendar of its own.
struct Running {
    runtime: Runtime,
    router: Router,
    _dir: TempDir,
}

static RUNNING: LazyLock<Running> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    grow(&open(dir.path()).expect("a new directory opens"), MATURITY + 3).expect("grown");
    let node = Node::open(NodeConfig::new(dir.path().to_owned(), Network::Regtest)).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let router = runtime.block_on(async {
        let url = format!("sqlite://{}?mode=rwc", dir.path().join("cairn.db").display());
        let store = Store::open(&url, &StoreOptions::default()).await.expect("a fresh database opens");
        let (wallet, _) =
            Wallet::open_or_create(&store, "default", Network::Regtest, None).await.expect("a fresh wallet is made");
        let calendar = CalendarConfig { uri: "http://127.0.0.1:8080".into(), confirmations: 1 };
        let calendar = Calendar::start(store.clone(), calendar).await.expect("a fresh calendar starts");
        let config = ApiConfig { wallet_key: Some(WALLET_KEY.into()), max_bulk_digests: 100, ..ApiConfig::default() };
        let wallet = Arc::new(wallet);
        let hashes = Hashes::new(Jobs::new(store.clone()), calendar.clone());
        router(AppState::new(Services::new(store, calendar, hashes, config), node, wallet))
    });
    Running { runtime, router, _dir: dir }
});

/// Printable ASCII as it is, all else escaped: what a client's URI can hold.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, &byte| match byte {
        b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#') => {
            text + char::from(byte).to_string().as_str()
        }
        _ => text + "%" + &[byte].to_upper_hex_string(),
    })
}

fn request(bytes: &[u8]) -> Option<(Request<Body>, bool)> {
    let mut input = Input::new(bytes);
    let (shape, path, content_type) = (input.u8(), input.u8(), input.u8());
    let prefix = PATHS[pick(path, PATHS.len())];
    let uri: Uri = format!("{prefix}{}", escaped(input.chunk())).parse().ok()?;
    let method = match shape & 7 {
        0..=2 => Method::GET,
        3..=5 => Method::POST,
        6 => Method::DELETE,
        _ => Method::HEAD,
    };
    let is_api = uri.path().starts_with("/api/v1/") && method != Method::HEAD;
    let mut request = Request::builder().method(method).uri(uri);
    request = match content_type {
        0xff => request.header("content-type", input.chunk()),
        n => request.header("content-type", TYPES[pick(n, TYPES.len())]),
    };
    request = match shape >> 3 & 3 {
        0 => request,
        1 => request.header("x-api-key", input.chunk()),
        _ => request.header("x-api-key", WALLET_KEY),
    };
    let body = match shape >> 5 & 3 {
        0 => vec![
            b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"",
            input.chunk(),
            b"\"\r\n\r\n",
            input.rest(),
            b"\r\n--b--\r\n",
        ]
        .concat(),
        _ => input.rest().to_vec(),
    };
    request = match shape >> 7 {
        0 => request.header("content-length", body.len()),
        _ => request.header("content-length", input.chunk()),
    };
    Some((request.body(Body::from(body)).ok()?, is_api))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((request, is_api)) = request(bytes) else { return };
    RUNNING.runtime.block_on(async {
        let response = RUNNING.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{response:?}");
        let content_type = response.headers().get("content-type").map(|value| value.as_bytes().to_vec());
        if content_type.as_deref().is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
            return;
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body ends");
        if is_api && status.is_client_error() {
            assert_eq!(content_type.as_deref(), Some(&b"application/problem+json"[..]));
            let problem: Value = serde_json::from_slice(&body).expect("a problem is JSON");
            assert_eq!(problem["status"], status.as_u16());
            assert!(problem["detail"].is_string() && problem["title"].is_string(), "{problem}");
        }
    });
});
