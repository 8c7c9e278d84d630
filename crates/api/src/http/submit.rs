//! `POST /api/v1/stamps`: files, texts and digests in bulk.

use super::problem::Problem;
use super::stamps::{SHA256_LENGTH, parse_digest, proof_of, state_of};
use super::upload::{Hashed, hash_body, hash_form, read_limited};
use crate::state::Services;
use axum::Json;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{StatusCode, header};
use bitcoin::hex::DisplayHex as _;
use cairn_stamp::Digests;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Raw bulk: SHA-256 digests, one after the other.
const RAW_DIGESTS: &str = "application/vnd.cairn.digests";
/// Most digests whose addresses an answer lists; a longer request gets the receipt alone.
const LISTED: usize = 1000;

/// What to stamp: exactly one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StampRequest {
    /// Digests in hex, up to 64 bytes each; 1 to 65,536 of them unless the server is set otherwise.
    digests: Option<Vec<String>>,
    /// A text, whose SHA-256 is stamped.
    text: Option<String>,
}

/// The receipt of what was stamped. All of it is durable.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stamped {
    /// How many digests.
    accepted: usize,
    /// The calendar commitments that they are under, hex: `GET /timestamp/{commitment}` completes proofs.
    commitments: Vec<String>,
    /// Every digest, in order, and where its state and proof are; empty for more than 1,000, whose addresses follow from
    /// the digests in the same way.
    stamps: Vec<StampedItem>,
}

/// One digest that was stamped.
#[derive(Debug, Serialize, ToSchema)]
pub struct StampedItem {
    /// Name of the file, if it was one with a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Bytes, if it was hashed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// The digest, hex.
    digest: String,
    /// Where its state is.
    href: String,
    /// Where its proof file is; none for digests that are no SHA-256.
    proof: Option<String>,
}

impl StampedItem {
    fn new(digest: &[u8], of: Option<(Option<String>, u64)>) -> StampedItem {
        let (name, size) = of.map_or((None, None), |(name, size)| (name, Some(size)));
        let hex = digest.to_lower_hex_string();
        let proof = (digest.len() == SHA256_LENGTH).then(|| proof_of(&hex));
        StampedItem { name, size, href: state_of(&hex), proof, digest: hex }
    }
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
    State(services): State<Services>,
    request: Request,
) -> Result<(StatusCode, Json<Stamped>), Problem> {
    let config = &services.config;
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
                    return bulk(&services, all).await;
                }
                (None, Some(text)) => {
                    vec![Hashed { name: None, digest: Sha256::digest(&text).into(), size: text.len() as u64 }]
                }
                _ => return Err(Problem::unprocessable("give either digests or text")),
            }
        }
        RAW_DIGESTS => {
            let limit = config.max_bulk_digests.saturating_mul(SHA256_LENGTH);
            let body = read_limited(request.into_body(), limit, idle).await?;
            if body.len() % SHA256_LENGTH != 0 {
                let index = body.len() / SHA256_LENGTH;
                return Err(Problem::unprocessable(format!(
                    "the last digest, {index}, has {} of {SHA256_LENGTH} bytes; nothing was stamped",
                    body.len() % SHA256_LENGTH
                ))
                .of_kind("bad-digest", "Bad digest")
                .with("index", index));
            }
            check_count(body.len() / SHA256_LENGTH, config.max_bulk_digests)?;
            return bulk(&services, body.chunks_exact(SHA256_LENGTH).collect()).await;
        }
        "application/octet-stream" => {
            vec![hash_body(request.into_body(), idle).await?]
        }
        "multipart/form-data" => {
            let form = Multipart::from_request(request, &services)
                .await
                .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
            let files = hash_form(form, idle).await?;
            if files.is_empty() {
                return Err(Problem::unprocessable("the form has no file: send at least one"));
            }
            files
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
    let digests = files.iter().map(|file| file.digest.as_slice()).collect();
    let stamps = files.into_iter().map(|file| StampedItem::new(&file.digest, Some((file.name, file.size)))).collect();
    submit(&services, digests, stamps).await
}

async fn submit(
    services: &Services,
    digests: Digests,
    stamps: Vec<StampedItem>,
) -> Result<(StatusCode, Json<Stamped>), Problem> {
    let receipt = services.calendar.submit_bulk(digests).await?;
    let commitments = receipt.commitments.iter().map(|commitment| commitment.to_lower_hex_string()).collect();
    Ok((StatusCode::CREATED, Json(Stamped { accepted: receipt.count, commitments, stamps })))
}

async fn bulk(services: &Services, digests: Digests) -> Result<(StatusCode, Json<Stamped>), Problem> {
    let listed = if digests.len() > LISTED { 0 } else { digests.len() };
    let stamps = digests.iter().take(listed).map(|digest| StampedItem::new(digest, None)).collect();
    submit(services, digests, stamps).await
}
