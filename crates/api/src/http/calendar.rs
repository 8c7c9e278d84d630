//! The OpenTimestamps calendar protocol, as the reference server's `otsserver/rpc.py` speaks it: the same status codes,
//! texts, content types and cache lifetimes.
//!
//! These are the hot routes: nothing stands in front of them but the router, and they count through handles made once.

use super::metrics::HotRoute;
use super::problem::Problem;
use crate::state::Services;
use axum::body::Body;
use axum::extract::{FromRef, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitcoin::hex::FromHex;
use cairn_stamp::Lookup;
use cairn_stamp::digests::MAX_DIGEST;
use std::sync::LazyLock;
use std::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TEXT: &str = "text/plain";
const OCTETS: &str = "application/octet-stream";
/// Cache lifetimes of the reference.
const FOR_EVER: &str = "public, max-age=31536000";
const A_MINUTE: &str = "public, max-age=60";
const TEN_SECONDS: &str = "public, max-age=10";

static DIGEST: LazyLock<HotRoute> = LazyLock::new(|| HotRoute::new("POST", "/digest"));
static TIMESTAMP: LazyLock<HotRoute> = LazyLock::new(|| HotRoute::new("GET", "/timestamp/{commitment}"));
static TIP: LazyLock<HotRoute> = LazyLock::new(|| HotRoute::new("GET", "/tip"));

/// The protocol's routes.
pub(super) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Services: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(digest))
        .routes(routes!(timestamp))
        .route("/timestamp/", axum::routing::get(empty_timestamp))
        .route("/timestamp/{commitment}/{*rest}", axum::routing::get(not_hex))
        .routes(routes!(tip))
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    cache: Option<&'static str>,
    body: impl Into<Body>,
) -> Response {
    let mut response = (status, body.into()).into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, content_type);
    if let Some(cache) = cache {
        set(header::CACHE_CONTROL, cache);
    }
    response
}

/// Stamp a digest.
///
/// The body is the digest itself, 0 to 64 bytes, whatever its content type. The answer is a serialised timestamp of it
/// that ends in a pending attestation of this calendar; the digest is durable by then.
#[utoipa::path(
    post, path = "/digest", tag = "calendar",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "A serialised timestamp", content_type = "application/octet-stream"),
        (status = 400, description = "`invalid Content-Length` or `digest too long`", content_type = "text/plain"),
    )
)]
async fn digest(State(services): State<Services>, request: Request) -> Response {
    let since = Instant::now();
    let response = stamp(&services, request).await;
    DIGEST.note(since, response.status());
    response
}

async fn stamp(services: &Services, request: Request) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let Some(length) = length.and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok()) else {
        return answer(StatusCode::BAD_REQUEST, TEXT, None, "invalid Content-Length");
    };
    if length > MAX_DIGEST as u64 {
        return answer(StatusCode::BAD_REQUEST, TEXT, None, "digest too long");
    }
    let Ok(digest) = axum::body::to_bytes(request.into_body(), MAX_DIGEST).await else {
        // The client broke off; nobody reads this.
        return answer(StatusCode::BAD_REQUEST, TEXT, None, "invalid Content-Length");
    };
    match services.calendar.submit(&digest).await {
        Ok(timestamp) => answer(StatusCode::OK, OCTETS, None, timestamp),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The timestamp of a commitment.
///
/// 200 with the serialised rest of the proof once the commitment is confirmed for good; 404 with the reason until then.
#[utoipa::path(
    get, path = "/timestamp/{commitment}", tag = "calendar",
    params(("commitment" = String, Path, description = "Hex, from a pending attestation's message")),
    responses(
        (status = 200, description = "A serialised timestamp", content_type = "application/octet-stream"),
        (status = 400, description = "`commitment must be hex-encoded bytes`", content_type = "text/plain"),
        (status = 404, description = "Pending, with the reason, or `Not found`", content_type = "text/plain"),
    )
)]
async fn timestamp(State(services): State<Services>, Path(commitment): Path<String>) -> Response {
    let since = Instant::now();
    let response = match Vec::from_hex(&commitment) {
        Ok(commitment) => look_up(&services, &commitment).await,
        Err(_) => not_hex().await,
    };
    TIMESTAMP.note(since, response.status());
    response
}

async fn empty_timestamp(State(services): State<Services>) -> Response {
    look_up(&services, &[]).await
}

async fn not_hex() -> Response {
    // This will never not be an error.
    answer(StatusCode::BAD_REQUEST, TEXT, Some(FOR_EVER), "commitment must be hex-encoded bytes")
}

async fn look_up(services: &Services, commitment: &[u8]) -> Response {
    match services.calendar.timestamp(commitment).await {
        Ok(Lookup::Complete(timestamp)) => answer(StatusCode::OK, OCTETS, Some(FOR_EVER), timestamp),
        Ok(Lookup::Pending(reason)) => answer(StatusCode::NOT_FOUND, TEXT, Some(A_MINUTE), reason),
        Ok(Lookup::NotFound(reason)) => answer(StatusCode::NOT_FOUND, TEXT, Some(A_MINUTE), reason),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The tip of the tree that the latest unconfirmed transaction commits to.
#[utoipa::path(
    get, path = "/tip", tag = "calendar",
    responses(
        (status = 200, description = "32 bytes", content_type = "application/octet-stream"),
        (status = 404, description = "No transaction waits to be confirmed"),
    )
)]
async fn tip(State(services): State<Services>) -> Response {
    let since = Instant::now();
    let response = match services.calendar.tip().await {
        Ok(Some(tip)) => answer(StatusCode::OK, OCTETS, Some(TEN_SECONDS), tip.to_vec()),
        Ok(None) => answer(StatusCode::NOT_FOUND, TEXT, None, ""),
        Err(error) => Problem::from(error).into_response(),
    };
    TIP.note(since, response.status());
    response
}
