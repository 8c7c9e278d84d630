//! JSON-RPC of any bytes, and calls with any arguments, given to a server on a small chain. Every answer is JSON-RPC in the
//! dialect that was asked in, with the request's id and one of Core's codes.
#![no_main]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::Network;
use cairn_api::rpc::auth::Credentials;
use cairn_api::rpc::error::code;
use cairn_api::rpc::{Context, methods, server::Server};
use cairn_chain::testing::{MATURITY, grow, open};
use cairn_fuzz::{Input, copy_dir, pick};
use cairn_node::{Node, NodeConfig};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const USER: &str = "user:password";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
});
static TEMPLATE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let chain = open(dir.path()).expect("a new directory opens");
    grow(&chain, MATURITY + 3).expect("grown");
    dir
});

/// A server on a node of its own.
struct Running {
    router: Router,
    node: Arc<Node>,
    /// What may be asked again while it is so: another call did not change the node.
    state: String,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        copy_dir(TEMPLATE.path(), dir.path());
        let node = Node::open(NodeConfig::new(dir.path().to_owned(), Network::Regtest)).expect("it opens");
        let stop = CancellationToken::new();
        let context = Context::new(node.clone(), stop.clone(), CancellationToken::new());
        let mut credentials = Credentials::default();
        let (user, password) = USER.split_once(':').expect("it has a colon");
        credentials.allow(user, password);
        let state = state(&node);
        Running { router: Server::new(context, credentials, 1, 1).router(), node, state, stop, _dir: dir }
    }
}

fn state(node: &Node) -> String {
    let tips: Vec<_> = node.chain.tips().into_iter().map(|(entry, status, _)| (entry.hash, status)).collect();
    format!("{tips:?} {}", node.mempool.info().size)
}

static SERVER: Mutex<Option<Running>> = Mutex::new(None);

/// Whether a call neither waits, nor works for long, nor touches files that are not the node's.
fn is_harmless(call: &Value) -> bool {
    fn any(value: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
        is(value)
            || match value {
                Value::Array(values) => values.iter().any(|value| any(value, is)),
                Value::Object(map) => map.values().any(|value| any(value, is)),
                _ => false,
            }
    }
    let params = call.get("params").unwrap_or(&Value::Null);
    match call.get("method").and_then(Value::as_str).unwrap_or_default() {
        "dumptxoutset" => false,
        // What follows would be judged by another time.
        "setmocktime" => !any(params, &Value::is_number),
        "stop" => !any(params, &Value::is_number),
        "loadtxoutset" | "importmempool" => !any(params, &|value| value.as_str().is_some_and(|text| text.contains('/'))),
        "getblocktemplate" => !any(params, &|value| value.get("longpollid").is_some()),
        "generatetoaddress" | "generatetodescriptor" => !any(params, &|value| match value {
            Value::Number(number) => number.as_f64().is_none_or(|number| number > 2.0),
            _ => false,
        }),
        _ => true,
    }
}

/// One reply to one request.
fn check_reply(request: &Value, reply: &Value, stopping: bool) {
    let reply = reply.as_object().expect("a reply is an object");
    let is_v2 = reply.contains_key("jsonrpc");
    if is_v2 {
        assert_eq!((&reply["jsonrpc"], request.get("jsonrpc")), (&"2.0".into(), Some(&"2.0".into())));
        assert_ne!(reply.contains_key("result"), reply.contains_key("error"));
    } else {
        assert!(reply.contains_key("result") && reply.contains_key("error"));
        assert!(reply["result"].is_null() || reply["error"].is_null());
    }
    if request.is_object() {
        assert_eq!(reply.get("id"), request.get("id"));
    }
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        assert!(error["message"].is_string());
        let found = error["code"].as_i64().and_then(|code| i32::try_from(code).ok()).expect("a code is a number");
        let known = [
            code::INVALID_REQUEST,
            code::METHOD_NOT_FOUND,
            code::PARSE_ERROR,
            code::MISC_ERROR,
            code::TYPE_ERROR,
            code::INVALID_ADDRESS_OR_KEY,
            code::INVALID_PARAMETER,
            code::CLIENT_NOT_CONNECTED,
            code::CLIENT_IN_INITIAL_DOWNLOAD,
            code::DATABASE_ERROR,
            code::DESERIALIZATION_ERROR,
            code::VERIFY_ERROR,
            code::VERIFY_REJECTED,
            code::VERIFY_ALREADY_IN_UTXO_SET,
            // The network does not run here.
            code::CLIENT_INVALID_IP_OR_SUBNET,
            code::CLIENT_P2P_DISABLED,
        ];
        // What is asked while the node stops may be broken off, as in Core.
        assert!(known.contains(&found) || (stopping && found == code::INTERNAL_ERROR), "{error}");
    }
}

fn is_notification(request: &Value) -> bool {
    request.get("jsonrpc") == Some(&"2.0".into()) && request.get("id").is_none()
}

fn check_answer(body: &[u8], status: StatusCode, answer: &[u8], stopping: bool) {
    let request: Option<Value> = serde_json::from_slice(body).ok();
    if status == StatusCode::NO_CONTENT {
        assert!(answer.is_empty());
        return;
    }
    let answer: Value = serde_json::from_slice(answer).expect("an answer is JSON");
    match &request {
        Some(Value::Array(requests)) => {
            assert_eq!(status, StatusCode::OK);
            let replies = answer.as_array().expect("a batch is answered by a batch");
            let expected: Vec<_> = requests.iter().filter(|request| !is_notification(request)).collect();
            assert!(replies.len() >= expected.len() && replies.len() <= requests.len());
            if replies.len() == requests.len() {
                requests.iter().zip(replies).for_each(|(request, reply)| check_reply(request, reply, stopping));
            }
        }
        request => {
            let error = &answer["error"]["code"];
            let expected = match error.as_i64().and_then(|code| i32::try_from(code).ok()) {
                Some(_) if answer.get("jsonrpc").is_some() && *error != code::INVALID_REQUEST => StatusCode::OK,
                None => StatusCode::OK,
                Some(code::INVALID_REQUEST) => StatusCode::BAD_REQUEST,
                Some(code::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
                Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            assert_eq!(status, expected, "{answer}");
            check_reply(request.as_ref().unwrap_or(&Value::Null), &answer, stopping);
        }
    }
}

/// The body of a call whose arguments are the fuzzer's.
fn call(input: &mut Input<'_>) -> Vec<u8> {
    let all: Vec<_> = methods().collect();
    let method = all[pick(input.u8(), all.len())].name;
    let head = match input.u8() % 4 {
        0 => "\"jsonrpc\":\"2.0\",\"id\":1,",
        1 => "\"jsonrpc\":\"2.0\",",
        2 => "\"id\":\"a\",",
        _ => "",
    };
    let params = match input.rest() {
        [] => b"[]",
        params => params,
    };
    [format!("{{{head}\"method\":\"{method}\",\"params\":").as_bytes(), params, b"}"].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let body = match input.u8() % 4 {
        0 => input.rest().to_vec(),
        1 => {
            let mut credentials = Credentials::default();
            credentials.allow("user", "password");
            if let Ok(header) = std::str::from_utf8(input.rest()) {
                let pair = header.strip_prefix("Basic ").and_then(|encoded| STANDARD.decode(encoded.trim()).ok());
                assert_eq!(credentials.check(header), pair.as_deref() == Some(USER.as_bytes()));
            }
            return;
        }
        _ => call(&mut input),
    };
    if let Ok(request) = serde_json::from_slice::<Value>(&body) {
        let calls = request.as_array().map_or(std::slice::from_ref(&request), Vec::as_slice);
        if !calls.iter().all(is_harmless) {
            return;
        }
    }
    RUNTIME.block_on(async {
        let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let running = server.get_or_insert_with(Running::new);
        let request = Request::post("/")
            .header("authorization", format!("Basic {}", STANDARD.encode(USER)))
            .body(Body::from(body.clone()))
            .expect("its parts are right");
        let response = running.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        let answer = to_bytes(response.into_body(), usize::MAX).await.expect("the body is in memory");
        check_answer(&body, status, &answer, running.stop.is_cancelled());
        if running.stop.is_cancelled() || state(&running.node) != running.state {
            *server = None;
        }
    });
});
