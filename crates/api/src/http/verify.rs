//! `POST /api/v1/verify`: what a proof proves, against this node's chain.

use super::blocking;
use super::problem::{ApiQuery, Problem};
use super::upload::read_limited;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use cairn_chain::Chain;
use cairn_stamp::ots::{Attestation, DetachedTimestampFile, MAX_PROOF_SIZE};
use cairn_stamp::verify::{BlockHeaders, Finding, HeaderAnswer, Verdict, verdict};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A proof to verify.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The `.ots` file in base64.
    proof: String,
    /// The digest of the data, hex, by the hash that the proof names; when left out, only the proof itself is checked.
    digest: Option<String>,
}

/// For a proof that is the body itself.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VerifyQuery {
    /// The digest of the data, hex.
    digest: Option<String>,
}

/// What a proof comes to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verification {
    /// `verified`, `wrong_digest`, `mismatch`, `no_such_block`, `no_node`, `pending`, `other_chain` or `unknown`.
    verdict: &'static str,
    /// The same in a sentence.
    detail: String,
    /// What the data was hashed with.
    file_hash: &'static str,
    /// The digest that the proof is for, hex.
    digest: String,
    /// Height of the block that proves it.
    height: Option<u64>,
    /// Hash of that block.
    block_hash: Option<String>,
    /// Time of that block, seconds since 1970: the data existed then.
    time: Option<u32>,
    /// Calendars that promise more.
    calendars: Vec<String>,
    /// Every attestation and what came of it.
    attestations: Vec<AttestationView>,
}

/// An attestation and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttestationView {
    /// `bitcoin`, `litecoin`, `ethereum`, `pending` or `unknown`.
    kind: &'static str,
    /// Height of the block, where there is one.
    height: Option<u64>,
    /// Address of the calendar, where there is one.
    uri: Option<String>,
    /// `verified`, `mismatch`, `no_such_block`, `no_node`, `pending`, `other_chain`, `unknown` or `not_asked`.
    outcome: &'static str,
}

impl From<&Finding> for AttestationView {
    fn from(finding: &Finding) -> Self {
        let (kind, height, uri) = match &finding.attestation {
            Attestation::Bitcoin { height } => ("bitcoin", Some(*height), None),
            Attestation::Litecoin { height } => ("litecoin", Some(*height), None),
            Attestation::Ethereum { height } => ("ethereum", Some(*height), None),
            Attestation::Pending { uri } => ("pending", None, Some(uri.clone())),
            Attestation::Unknown { .. } => ("unknown", None, None),
        };
        AttestationView { kind, height, uri, outcome: finding.outcome.name() }
    }
}

/// The active chain's headers.
struct Headers<'a>(&'a Chain);

impl BlockHeaders for Headers<'_> {
    fn header(&mut self, height: u64) -> HeaderAnswer {
        match u32::try_from(height).ok().and_then(|height| self.0.entry_at(height)) {
            Some(entry) => HeaderAnswer::Found(entry.header),
            None => HeaderAnswer::NoSuchBlock,
        }
    }
}

fn check(chain: &Chain, proof: &DetachedTimestampFile, digest: Option<&[u8]>) -> Verification {
    let findings = cairn_stamp::verify::verify(proof.timestamp(), &mut Headers(chain));
    let verdict = verdict(&findings);
    let mut out = Verification {
        verdict: verdict.name(),
        detail: String::new(),
        file_hash: proof.file_hash().name(),
        digest: proof.file_digest().to_lower_hex_string(),
        height: None,
        block_hash: None,
        time: None,
        calendars: Vec::new(),
        attestations: findings.iter().map(AttestationView::from).collect(),
    };
    if digest.is_some_and(|digest| digest != proof.file_digest()) {
        out.verdict = "wrong_digest";
        out.detail = "the proof is for other data than that with the given digest".into();
        return out;
    }
    out.detail = match verdict {
        Verdict::Verified { height, hash, time } => {
            (out.height, out.block_hash, out.time) = (Some(height), Some(hash.to_string()), Some(time));
            format!("the data existed when block {height} was made")
        }
        Verdict::Mismatch { height } => format!("block {height} of this chain does not commit to the data"),
        Verdict::NoSuchBlock { height } => format!("the proof needs block {height}, which this chain does not have"),
        Verdict::NoNode(why) => why,
        Verdict::Pending { uris } => {
            out.calendars = uris;
            "only calendars have it yet: upgrade the proof and verify it again".into()
        }
        Verdict::OtherChain(chains) => {
            format!("the proof needs a chain that is not at hand: {}", chains.join(", "))
        }
        Verdict::Unknown => "the proof rests on attestations that nobody here knows".into(),
    };
    out
}

/// What a proof proves, against this node's chain.
///
/// `application/json` with the proof in base64, or the `.ots` file itself as `application/octet-stream` with the digest in
/// the query.
#[utoipa::path(
    post, path = "/api/v1/verify", tag = "stamps", params(VerifyQuery),
    request_body(content((VerifyRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = Verification),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The proof is malformed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn verify(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<VerifyQuery>,
    request: Request,
) -> Result<Json<Verification>, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let idle = state.services.config.upload_idle();
    let (proof, digest) = match essence.as_str() {
        "application/json" => {
            // Base64 is a third longer.
            let body = read_limited(request.into_body(), MAX_PROOF_SIZE / 3 * 4 + 1024, idle).await?;
            let request: VerifyRequest =
                serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
            let proof = STANDARD
                .decode(&request.proof)
                .map_err(|error| Problem::unprocessable(format!("proof is not base64: {error}")))?;
            (proof, request.digest.or(query.digest))
        }
        "application/octet-stream" | "application/vnd.opentimestamps.ots" => {
            (read_limited(request.into_body(), MAX_PROOF_SIZE, idle).await?, query.digest)
        }
        _ => {
            let detail = "send application/json, or the .ots file as application/octet-stream";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    let digest = match digest {
        Some(text) => {
            let digest = Vec::from_hex(&text);
            Some(digest.map_err(|error| Problem::unprocessable(format!("digest is not hex: {error}")))?)
        }
        None => None,
    };
    blocking(&state, move |state| {
        let proof = DetachedTimestampFile::from_bytes(&proof).map_err(|error| {
            Problem::unprocessable(format!("the proof is malformed: {error}"))
                .of_kind("malformed-proof", "Malformed proof")
        })?;
        Ok(Json(check(&state.node.chain, &proof, digest.as_deref())))
    })
    .await?
}
