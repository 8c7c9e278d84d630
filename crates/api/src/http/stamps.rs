//! Stamping: files, texts and digests in; states and proofs out.

use super::calendar::MAX_DIGEST_LENGTH;
use super::health::Check;
use super::metrics::count;
use super::problem::{ApiPath, Problem};
use super::upload::{hash_body, hash_form, read_limited};
use crate::stamping::{Digests, StampEvent, StampState, StampStatus, StampingError};
use crate::state::AppState;
use axum::Json;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Raw bulk: digests of 32 bytes, one after the other.
const RAW_DIGESTS: &str = "application/vnd.cairn.digests";
/// Bytes of a digest in the raw bulk form.
const RAW_DIGEST_LENGTH: usize = 32;

/// What to stamp: exactly one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StampRequest {
    /// Digests in hex, up to 64 bytes each; 1 to 65,536 of them unless the server is set otherwise.
    digests: Option<Vec<String>>,
    /// A text, whose SHA-256 is stamped.
    text: Option<String>,
}

/// What was stamped. It is durable.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stamped {
    /// How many digests.
    accepted: usize,
    /// What was hashed here, in order; empty for digests that the client knows already.
    stamps: Vec<StampedItem>,
}

/// One thing that was hashed and stamped.
#[derive(Debug, Serialize, ToSchema)]
pub struct StampedItem {
    /// Name of the file, if it had one.
    name: Option<String>,
    /// SHA-256, hex.
    digest: String,
    /// Bytes.
    size: u64,
    /// Where its state is.
    href: String,
}

/// A digest of hex text; the problem names its place.
fn parse_digest(text: &str, index: Option<usize>) -> Result<Vec<u8>, Problem> {
    let wrong = |why: String| {
        let place = index.map(|index| format!("digest {index}: ")).unwrap_or_default();
        let problem =
            Problem::unprocessable(format!("{place}{why}; nothing was stamped")).of_kind("bad-digest", "Bad digest");
        match index {
            Some(index) => problem.with("index", index),
            None => problem,
        }
    };
    let digest = Vec::from_hex(text).map_err(|error| wrong(format!("it is not hex ({error})")))?;
    if digest.len() > MAX_DIGEST_LENGTH {
        return Err(wrong(format!("it has {} bytes, {MAX_DIGEST_LENGTH} are allowed", digest.len())));
    }
    Ok(digest)
}

fn check_count(count: usize, limit: usize) -> Result<(), Problem> {
    if count == 0 {
        return Err(Problem::unprocessable("there is no digest: send at least one"));
    }
    if count > limit {
        let detail = format!("{count} digests are too many: send at most {limit} in a request");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(())
}

/// Stamp a file, a text, or digests in bulk.
///
/// `application/json`: `digests` or `text`. `application/vnd.cairn.digests`: 32-byte digests one after the other, the
/// fastest form. `multipart/form-data`: files. `application/octet-stream`: one file. Files are hashed as they come and may
/// have any size. All is durable when the answer comes; one bad digest refuses the whole request.
#[utoipa::path(
    post, path = "/api/v1/stamps", tag = "stamps",
    request_body(content(
        (StampRequest = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "application/vnd.cairn.digests"),
        (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 201, body = Stamped),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A bad digest; `index` is its place", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stamp(
    State(state): State<AppState>,
    request: Request,
) -> Result<(StatusCode, Json<Stamped>), Problem> {
    let config = &state.config;
    let idle = config.upload_idle();
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let files = match essence.as_str() {
        "application/json" => {
            let body = read_limited(request.into_body(), config.max_body_bytes, idle).await?;
            let request: StampRequest =
                serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
            match (request.digests, request.text) {
                (Some(digests), None) => {
                    check_count(digests.len(), config.max_bulk_digests)?;
                    let mut all = Digests::new();
                    for (index, text) in digests.iter().enumerate() {
                        all.push(&parse_digest(text, Some(index))?);
                    }
                    return bulk(&state, all).await;
                }
                (None, Some(text)) => vec![(None, Sha256::digest(&text).into(), text.len() as u64)],
                _ => return Err(Problem::unprocessable("give either digests or text")),
            }
        }
        RAW_DIGESTS => {
            let limit = config.max_bulk_digests.saturating_mul(RAW_DIGEST_LENGTH);
            let body = read_limited(request.into_body(), limit, idle).await?;
            if body.len() % RAW_DIGEST_LENGTH != 0 {
                let index = body.len() / RAW_DIGEST_LENGTH;
                return Err(Problem::unprocessable(format!(
                    "the last digest, {index}, has {} of {RAW_DIGEST_LENGTH} bytes; nothing was stamped",
                    body.len() % RAW_DIGEST_LENGTH
                ))
                .of_kind("bad-digest", "Bad digest")
                .with("index", index));
            }
            check_count(body.len() / RAW_DIGEST_LENGTH, config.max_bulk_digests)?;
            let mut all = Digests::new();
            for digest in body.chunks_exact(RAW_DIGEST_LENGTH) {
                all.push(digest);
            }
            return bulk(&state, all).await;
        }
        "application/octet-stream" => {
            let hashed = hash_body(request.into_body(), idle).await?;
            vec![(hashed.name, hashed.digest, hashed.size)]
        }
        "multipart/form-data" => {
            let form = Multipart::from_request(request, &state)
                .await
                .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
            let files = hash_form(form, idle).await?;
            if files.is_empty() {
                return Err(Problem::unprocessable("the form has no file: send at least one"));
            }
            files.into_iter().map(|file| (file.name, file.digest, file.size)).collect()
        }
        _ => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "send application/json, application/octet-stream, multipart/form-data or {RAW_DIGESTS}, not {:?}",
                    content_type.unwrap_or("no Content-Type")
                ),
            ));
        }
    };
    let mut all = Digests::new();
    for (_, digest, _) in &files {
        all.push(digest);
    }
    state.calendar.submit_bulk(all).await.map_err(|e| problem(&e))?;
    let stamps: Vec<StampedItem> = files
        .into_iter()
        .map(|(name, digest, size): (Option<String>, [u8; 32], u64)| {
            let digest = digest.to_lower_hex_string();
            StampedItem { name, size, href: format!("/api/v1/stamps/{digest}"), digest }
        })
        .collect();
    Ok((StatusCode::CREATED, Json(Stamped { accepted: stamps.len(), stamps })))
}

async fn bulk(state: &AppState, digests: Digests) -> Result<(StatusCode, Json<Stamped>), Problem> {
    let accepted = digests.len();
    state.calendar.submit_bulk(digests).await.map_err(|error| problem(&error))?;
    Ok((StatusCode::CREATED, Json(Stamped { accepted, stamps: Vec::new() })))
}

/// Why stamping did not answer.
pub(super) fn problem(error: &StampingError) -> Problem {
    match error {
        StampingError::Unavailable(why) => Problem::unavailable(format!("{why}; nothing was stamped")),
        StampingError::Internal(_) => Problem::internal(error),
    }
}

/// How far a stamp is.
#[derive(Debug, Serialize, ToSchema)]
pub struct StampView {
    /// The digest, hex.
    digest: String,
    /// `journaled`, `anchored` or `confirmed`.
    state: &'static str,
    /// Whether its proof is complete and will not change.
    complete: bool,
    /// The calendar commitment that it is under, hex.
    commitment: String,
    /// When it was journaled, seconds since 1970.
    submitted_at: i64,
    /// The transaction that commits to it.
    txid: Option<String>,
    /// Blocks from the transaction's to the tip.
    confirmations: Option<u32>,
    /// Height of the block.
    block_height: Option<u32>,
    /// Hash of the block.
    block_hash: Option<String>,
    /// Time of the block, seconds since 1970.
    block_time: Option<u32>,
    /// Where its proof is; none for digests that are no SHA-256.
    proof: Option<String>,
}

fn view(digest: &[u8], status: &StampStatus) -> StampView {
    let hex = digest.to_lower_hex_string();
    let mut out = StampView {
        state: state_name(&status.state),
        complete: status.complete,
        commitment: status.commitment.to_lower_hex_string(),
        submitted_at: status.submitted_at / 1000,
        txid: None,
        confirmations: None,
        block_height: None,
        block_hash: None,
        block_time: None,
        proof: (digest.len() == RAW_DIGEST_LENGTH).then(|| format!("/api/v1/stamps/{hex}/proof")),
        digest: hex,
    };
    match &status.state {
        StampState::Journaled => {}
        StampState::Anchored { txid } => out.txid = Some(txid.to_string()),
        StampState::Confirmed { txid, height, block_hash, time, confirmations } => {
            out.txid = Some(txid.to_string());
            out.confirmations = Some(*confirmations);
            out.block_height = Some(*height);
            out.block_hash = Some(block_hash.to_string());
            out.block_time = Some(*time);
        }
    }
    out
}

fn state_name(state: &StampState) -> &'static str {
    match state {
        StampState::Journaled => "journaled",
        StampState::Anchored { .. } => "anchored",
        StampState::Confirmed { .. } => "confirmed",
    }
}

/// A change of stamps as an event's data.
pub(crate) fn describe(event: &StampEvent) -> serde_json::Value {
    match event {
        StampEvent::Journaled { commitment, digests } => {
            json!({"state": "journaled", "commitment": commitment.to_lower_hex_string(), "digests": digests})
        }
        StampEvent::Anchored { txid, commitments } => {
            json!({"state": "anchored", "txid": txid.to_string(), "commitments": commitments})
        }
        StampEvent::Confirmed { txid, height, block_hash } => json!({
            "state": "confirmed",
            "txid": txid.to_string(),
            "block_height": height,
            "block_hash": block_hash.to_string(),
        }),
        StampEvent::Reorganised { txid } => json!({"state": "reorganised", "txid": txid.to_string()}),
    }
}

fn not_stamped(digest: &str) -> Problem {
    Problem::not_found(format!("{digest} was never stamped here"))
}

/// How far a stamp is: `journaled` (durable), `anchored` (in a transaction), `confirmed` (in a block).
#[utoipa::path(
    get, path = "/api/v1/stamps/{digest}", tag = "stamps", params(("digest" = String, Path, description = "Hex")),
    responses(
        (status = 200, body = StampView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(
    State(state): State<AppState>,
    ApiPath(text): ApiPath<String>,
) -> Result<Json<StampView>, Problem> {
    let digest = parse_digest(&text, None)?;
    match state.calendar.status(&digest).await.map_err(|error| problem(&error))? {
        Some(status) => Ok(Json(view(&digest, &status))),
        None => Err(not_stamped(&text)),
    }
}

/// The proof of a stamped SHA-256 as an `.ots` file, as complete as it can be now.
#[utoipa::path(
    get, path = "/api/v1/stamps/{digest}/proof", tag = "stamps", params(("digest" = String, Path, description = "Hex")),
    responses(
        (status = 200, description = "An .ots file", content_type = "application/octet-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn proof(State(state): State<AppState>, ApiPath(text): ApiPath<String>) -> Result<Response, Problem> {
    let digest = parse_digest(&text, None)?;
    if digest.len() != RAW_DIGEST_LENGTH {
        return Err(Problem::unprocessable("proofs are files for a SHA-256: the digest must have 32 bytes"));
    }
    let Some(proof) = state.calendar.proof(&digest).await.map_err(|error| problem(&error))? else {
        return Err(not_stamped(&text));
    };
    let mut response = proof.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let name = format!("attachment; filename=\"{}.ots\"", digest.to_lower_hex_string());
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Whether a digest was stamped here.
pub(super) async fn is_known(state: &AppState, digest: &[u8]) -> Result<bool, Problem> {
    let found = digest.len() <= MAX_DIGEST_LENGTH && !digest.is_empty();
    Ok(found && state.calendar.status(digest).await.map_err(|error| problem(&error))?.is_some())
}

/// Whether stamping goes on.
pub(super) async fn readiness(state: &AppState) -> Check {
    match state.calendar.stats().await {
        Ok(stats) => match stats.stalled {
            Some(why) => Check::new("stamping", false, why),
            None => Check::new("stamping", true, format!("{} digests wait for a block", stats.pending)),
        },
        Err(error) => Check::new("stamping", false, error.to_string()),
    }
}

/// The stamps' gauges.
pub(super) async fn set_gauges(state: &AppState) {
    if let Ok(stats) = state.calendar.stats().await {
        let pending = usize::try_from(stats.pending).unwrap_or(usize::MAX);
        let age = usize::try_from(stats.oldest_pending_seconds.unwrap_or(0)).unwrap_or(usize::MAX);
        metrics::gauge!("cairn_stamps_pending").set(count(pending));
        metrics::gauge!("cairn_stamp_oldest_pending_seconds").set(count(age));
    }
}
