//! Stamps: how far they are, and their proofs.

use super::health::Check;
use super::metrics::count;
use super::problem::{ApiPath, Problem};
use crate::state::Services;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use cairn_stamp::digests::MAX_DIGEST;
use cairn_stamp::ots::{DetachedTimestampFile, FileHash, Timestamp};
use cairn_stamp::{Calendar, CalendarError, StampEvent, StampState, StampStatus, SubmitError};
use cairn_store::StoreError;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// Bytes of a SHA-256, the only digest that a proof file is made for: 20 bytes may be a SHA-1 or a RIPEMD-160.
pub(super) const SHA256_LENGTH: usize = 32;
/// What a calendar's answer is called by the clients that ask for it.
const BARE_TIMESTAMP: &str = "application/vnd.opentimestamps.v1";

/// A digest of hex text; the problem names its place.
pub(super) fn parse_digest(text: &str, index: Option<usize>) -> Result<Vec<u8>, Problem> {
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
    if digest.len() > MAX_DIGEST {
        return Err(wrong(format!("it has {} bytes, {MAX_DIGEST} are allowed", digest.len())));
    }
    Ok(digest)
}

/// What came of the database: damage does not pass, a lock that is held and a full disk do.
pub(super) fn database(error: &StoreError, detail: String) -> Problem {
    match error {
        StoreError::Damaged(_) | StoreError::Row(_) => Problem::internal(&detail),
        _ => Problem::unavailable(detail),
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Problem {
        let detail = format!("{error}; nothing was stamped");
        match error {
            SubmitError::TooLong => Problem::unprocessable(detail),
            SubmitError::TooMany => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
            SubmitError::Busy | SubmitError::Stopping => Problem::unavailable(detail),
            SubmitError::Store(error) => database(&error, detail),
            _ => Problem::internal(&detail),
        }
    }
}

impl From<CalendarError> for Problem {
    fn from(error: CalendarError) -> Problem {
        let detail = error.to_string();
        match error {
            CalendarError::Store(error) => database(&error, detail),
            _ => Problem::internal(&detail),
        }
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

/// Where the state of a digest is.
pub(super) fn state_of(digest: &str) -> String {
    format!("/api/v1/stamps/{digest}")
}

/// Where the proof file of a SHA-256 is.
pub(super) fn proof_of(digest: &str) -> String {
    format!("{}/proof", state_of(digest))
}

pub(super) fn view(digest: &[u8], status: &StampStatus) -> StampView {
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
        proof: (digest.len() == SHA256_LENGTH).then(|| proof_of(&hex)),
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

/// How far a stamp is.
///
/// `journaled`: durable. `anchored`: in a transaction. `confirmed`: in a block.
#[utoipa::path(
    get, path = "/api/v1/stamps/{digest}", tag = "stamps", params(("digest" = String, Path, description = "Hex")),
    responses(
        (status = 200, body = StampView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(
    State(services): State<Services>,
    ApiPath(text): ApiPath<String>,
) -> Result<Json<StampView>, Problem> {
    let digest = parse_digest(&text, None)?;
    let status = services.calendar.status(&digest).await?.ok_or_else(|| not_stamped(&text))?;
    Ok(Json(view(&digest, &status)))
}

/// The proof of a digest, as complete as it can be now.
///
/// An `.ots` file for a digest of 32 bytes, a SHA-256. Asked for `application/vnd.opentimestamps.v1`, it is the bare
/// serialised timestamp instead, of a digest of any length: what the calendar's clients put into files of their own.
#[utoipa::path(
    get, path = "/api/v1/stamps/{digest}/proof", tag = "stamps", params(("digest" = String, Path, description = "Hex")),
    responses(
        (status = 200, description = "The proof", content(
            (Vec<u8> = "application/octet-stream"),
            (Vec<u8> = "application/vnd.opentimestamps.v1"),
        )),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn proof(
    State(services): State<Services>,
    ApiPath(text): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let digest = parse_digest(&text, None)?;
    let bare = headers.get(header::ACCEPT).is_some_and(|accept| accept == BARE_TIMESTAMP);
    if !bare && digest.len() != SHA256_LENGTH {
        return Err(Problem::unprocessable(format!(
            "a proof file is for a SHA-256, and this digest has {} of {SHA256_LENGTH} bytes: send \
             \"Accept: {BARE_TIMESTAMP}\" for its bare timestamp",
            digest.len()
        )));
    }
    let timestamp = services.calendar.proof(&digest).await?.ok_or_else(|| not_stamped(&text))?;
    let vary = (header::VARY, HeaderValue::from_static("Accept"));
    if bare {
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(BARE_TIMESTAMP));
        return Ok(([kind, vary], timestamp).into_response());
    }
    let name = format!("attachment; filename=\"{}.ots\"", digest.to_lower_hex_string());
    let timestamp = Timestamp::from_bytes(digest, &timestamp).map_err(|error| Problem::internal(&error))?;
    let file = DetachedTimestampFile::new(FileHash::Sha256, timestamp).and_then(|file| file.to_bytes());
    let file = file.map_err(|error| Problem::internal(&error))?;
    let name = HeaderValue::try_from(name).map_err(|error| Problem::internal(&error))?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(([kind, vary, (header::CONTENT_DISPOSITION, name)], file).into_response())
}

/// Whether a digest was stamped here.
pub(super) async fn is_known(services: &Services, digest: &[u8]) -> Result<bool, Problem> {
    let found = digest.len() <= MAX_DIGEST && !digest.is_empty();
    Ok(found && services.calendar.status(digest).await?.is_some())
}

/// Whether stamping goes on.
pub(super) async fn readiness(calendar: &Calendar) -> Check {
    match calendar.stats().await {
        Ok(stats) => match stats.stalled {
            Some(why) => Check::new("stamping", false, why),
            None => Check::new("stamping", true, format!("{} digests wait for a block", stats.pending)),
        },
        Err(error) => Check::new("stamping", false, error.to_string()),
    }
}

/// The stamps' gauges.
pub(super) async fn set_gauges(calendar: &Calendar) {
    if let Ok(stats) = calendar.stats().await {
        let pending = usize::try_from(stats.pending).unwrap_or(usize::MAX);
        let age = usize::try_from(stats.oldest_pending_seconds.unwrap_or(0)).unwrap_or(usize::MAX);
        metrics::gauge!("cairn_stamps_pending").set(count(pending));
        metrics::gauge!("cairn_stamp_oldest_pending_seconds").set(count(age));
    }
}
