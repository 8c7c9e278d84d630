//! The JSON-RPC server: HTTP as Core's `httprpc.cpp`, the dialects of JSON-RPC as its `request.cpp`.

use super::auth::Credentials;
use super::error::{RpcError, code};
use super::{Context, execute};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Core's `MAX_BODY_SIZE`.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// How long a client with wrong credentials waits, as with Core.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);

/// What the server needs besides the methods' context.
pub struct Server {
    context: Arc<Context>,
    credentials: Credentials,
    /// Calls that run or wait; beyond it a call is refused.
    queue: Arc<Semaphore>,
    /// Calls that run.
    workers: Arc<Semaphore>,
}

impl Server {
    /// A server that runs `threads` calls at once and lets `queue` more wait.
    pub fn new(context: Context, credentials: Credentials, threads: usize, queue: usize) -> Server {
        Server {
            context: Arc::new(context),
            credentials,
            queue: Arc::new(Semaphore::new(threads + queue)),
            workers: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Its routes: everything is posted to `/`.
    pub fn router(self) -> Router {
        let server = Arc::new(self);
        Router::new().route("/", axum::routing::any(handle)).with_state(server)
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests").into_response();
    }
    let authorized = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().is_ok_and(|value| server.credentials.check(value)));
    if authorized != Some(true) {
        if authorized == Some(false) {
            tracing::warn!("incorrect RPC password attempt");
            tokio::time::sleep(REFUSAL_DELAY).await;
        }
        let challenge = HeaderValue::from_static("Basic realm=\"jsonrpc\"");
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    if server.context.closing.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Request rejected during server shutdown").into_response();
    }
    let Ok(place) = server.queue.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Work queue depth exceeded").into_response();
    };
    let body = match axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(_) => return (StatusCode::PAYLOAD_TOO_LARGE, "Max body size exceeded").into_response(),
    };
    // The semaphore is never closed.
    let worker = server.workers.clone().acquire_owned().await;
    let context = server.context.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let _held = (place, worker);
        answer(&context, &body)
    })
    .await;
    match answer {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            tracing::error!("an RPC call failed unexpectedly: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "unknown error").into_response()
        }
    }
}

/// An HTTP status with a JSON body, or none.
#[derive(Debug, PartialEq, Eq)]
struct Answer(StatusCode, Option<Value>);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Answer(status, body) = self;
        let Some(body) = body else { return status.into_response() };
        let json = HeaderValue::from_static("application/json");
        (status, [(header::CONTENT_TYPE, json)], Body::from(format!("{body}\n"))).into_response()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// 1.0 and 1.1.
    Legacy,
    V2,
}

/// Core's `JSONRPCRequest`: what is known of a call so far.
struct Call {
    /// `None` when it was left out.
    id: Option<Value>,
    version: Version,
    method: String,
    params: Value,
}

impl Call {
    fn new() -> Call {
        Call { id: Some(Value::Null), version: Version::Legacy, method: String::new(), params: Value::Null }
    }

    /// Core's `parse`. On an error, what was parsed so far stays, so that the reply carries the id.
    fn parse(&mut self, request: Value) -> Result<(), RpcError> {
        let invalid = |text: &str| Err(RpcError::new(code::INVALID_REQUEST, text));
        let Value::Object(mut request) = request else { return invalid("Invalid Request object") };
        self.id = request.remove("id");
        self.version = match request.get("jsonrpc") {
            None | Some(Value::Null) => Version::Legacy,
            Some(Value::String(version)) => match version.as_str() {
                "1.0" => Version::Legacy,
                "2.0" => Version::V2,
                _ => {
                    self.version = Version::Legacy;
                    return invalid("JSON-RPC version not supported");
                }
            },
            Some(_) => {
                self.version = Version::Legacy;
                return invalid("jsonrpc field must be a string");
            }
        };
        self.method = match request.remove("method") {
            None | Some(Value::Null) => return invalid("Missing method"),
            Some(Value::String(method)) => method,
            Some(_) => return invalid("Method must be a string"),
        };
        self.params = match request.remove("params") {
            None | Some(Value::Null) => Value::Array(Vec::new()),
            Some(params @ (Value::Array(_) | Value::Object(_))) => params,
            Some(_) => return invalid("Params must be an array or object"),
        };
        Ok(())
    }

    fn is_notification(&self) -> bool {
        self.id.is_none() && self.version == Version::V2
    }

    /// Core's `JSONRPCReplyObj`.
    fn reply(&self, result: Result<Value, RpcError>) -> Value {
        let mut out = Map::new();
        let v2 = self.version == Version::V2;
        if v2 {
            out.insert("jsonrpc".into(), "2.0".into());
        }
        match result {
            Ok(result) => {
                out.insert("result".into(), result);
                if !v2 {
                    out.insert("error".into(), Value::Null);
                }
            }
            Err(error) => {
                if !v2 {
                    out.insert("result".into(), Value::Null);
                }
                out.insert("error".into(), error.to_value());
            }
        }
        if let Some(id) = &self.id {
            out.insert("id".into(), id.clone());
        }
        Value::Object(out)
    }

    /// Core's `JSONErrorReply`: the error's code decides the HTTP status.
    fn error(&self, error: RpcError) -> Answer {
        let status = match error.code {
            code::INVALID_REQUEST => StatusCode::BAD_REQUEST,
            code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Answer(status, Some(self.reply(Err(error))))
    }

    fn run(&mut self, context: &Context) -> Result<Value, RpcError> {
        tracing::debug!(method = %self.method.escape_debug(), "RPC call");
        execute(context, &self.method, std::mem::take(&mut self.params))
    }
}

/// Core's `ExecuteHTTPRPC`.
fn answer(context: &Context, body: &Bytes) -> Answer {
    let mut call = Call::new();
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return call.error(RpcError::new(code::PARSE_ERROR, "Parse error"));
    };
    match request {
        request @ Value::Object(_) => {
            if let Err(error) = call.parse(request) {
                return call.error(error);
            }
            let result = call.run(context);
            match (call.version, result) {
                _ if call.is_notification() => Answer(StatusCode::NO_CONTENT, None),
                (Version::Legacy, Err(error)) => call.error(error),
                (_, result) => Answer(StatusCode::OK, Some(call.reply(result))),
            }
        }
        Value::Array(requests) => {
            let empty = requests.is_empty();
            let mut replies = Vec::new();
            for request in requests {
                let result = call.parse(request).and_then(|()| call.run(context));
                let reply = call.reply(result);
                if !call.is_notification() {
                    replies.push(reply);
                }
            }
            if replies.is_empty() && !empty {
                Answer(StatusCode::NO_CONTENT, None)
            } else {
                Answer(StatusCode::OK, Some(Value::Array(replies)))
            }
        }
        _ => call.error(RpcError::new(code::PARSE_ERROR, "Top-level object parse error")),
    }
}
