//! `POST /hash/{algorithm}`, `GET /task/{id}`, `GET /hashes`: hashes as tasks.

use super::Page;
use super::problem::{ApiPath, ApiQuery, Problem};
use super::stamps::{StampView, database, view};
use super::upload::{read_file, read_limited};
use crate::state::Services;
use axum::Json;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cairn_hashing::service::{HashFilter, HashResult, HashTask, Options, ServiceError, Submitted};
use cairn_hashing::{Algorithm, Argon2id, HashError, Request as HashRequest};
use cairn_jobs::JobsError;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Longest that a request waits for a task, seconds.
const MAX_WAIT: u64 = 60;
/// Tasks on a page unless asked otherwise, and at most.
const PAGE: u32 = 20;
const MAX_PAGE: u32 = 100;

/// What to hash: exactly one of `string` and `data`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HashBody {
    /// A text; its UTF-8 is hashed.
    string: Option<String>,
    /// Bytes in base64 (RFC 4648, either alphabet, padded or not).
    data: Option<String>,
    /// Parameters of argon2id; no other algorithm has any.
    parameters: Option<Argon2idBody>,
    /// Also stamp the result's bytes.
    #[serde(default)]
    stamp: bool,
    /// Keep the input with the task; otherwise only its SHA-256 is kept once the task has ended.
    #[serde(default)]
    keep_input: bool,
}

/// Parameters of argon2id; what is left out has OWASP's defaults.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Argon2idBody {
    /// KiB of memory, 8 to 65,536; 19,456 when left out.
    memory_kib: Option<u32>,
    /// Passes over the memory, 1 to 10; 2 when left out.
    iterations: Option<u32>,
    /// Lanes, 1 to 4; 1 when left out.
    parallelism: Option<u32>,
    /// Bytes of the result, 16 to 64; 32 when left out.
    length: Option<u32>,
    /// The salt in base64, 8 to 64 bytes; random when left out, and then no two requests are the same.
    salt: Option<String>,
}

/// Flags of a request whose body is the input itself.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// For a body that is no JSON: also stamp the result's bytes.
    #[serde(default)]
    stamp: bool,
    /// For a body that is no JSON: keep the input with the task.
    #[serde(default)]
    keep_input: bool,
}

/// A hash that was computed.
#[derive(Debug, Serialize, ToSchema)]
pub struct HashResultView {
    /// Hex; for argon2id a PHC string.
    hash: String,
    /// How long it took to compute.
    execution_time_seconds: f64,
}

/// A task, or the answer from the cache.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hashed {
    /// Where to ask for it, at `/task/{id}`; none when the answer came from the cache and no task is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    /// The algorithm.
    #[serde(rename = "type")]
    algorithm: &'static str,
    /// `queued`, `running` or `completed`.
    status: &'static str,
    /// The result, if it is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<HashResultView>,
    /// `cache` for a result that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

/// A hash's task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskView {
    /// Its id.
    task_id: String,
    /// The algorithm.
    #[serde(rename = "type")]
    algorithm: &'static str,
    /// `queued`, `running`, `completed`, `failed` (it is tried again) or `discarded` (it is not).
    status: &'static str,
    /// Seconds since 1970.
    created_at: f64,
    /// Seconds since 1970; none while it has not ended.
    finished_at: Option<f64>,
    /// How often it was tried.
    attempts: u32,
    /// SHA-256 of the input, hex.
    input_sha256: String,
    /// Bytes of the input.
    input_bytes: u64,
    /// The input in base64, where it was to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    /// What came out.
    result: Option<HashResultView>,
    /// Why the last try failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How far the result's stamp is, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    stamp: Option<StampView>,
}

impl From<HashResult> for HashResultView {
    fn from(result: HashResult) -> HashResultView {
        HashResultView { hash: result.hash, execution_time_seconds: result.execution_time_seconds }
    }
}

impl TaskView {
    fn new(task: HashTask, stamp: Option<StampView>) -> TaskView {
        let seconds = |milliseconds: i64| Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).as_secs_f64();
        TaskView {
            task_id: task.id.to_string(),
            algorithm: task.algorithm.name(),
            status: task.status.as_str(),
            created_at: seconds(task.created_at),
            finished_at: task.finished_at.map(seconds),
            attempts: task.attempts,
            input_sha256: task.input_sha256,
            input_bytes: task.input_bytes,
            input: task.input.map(|input| base64::prelude::BASE64_STANDARD.encode(&input)),
            result: task.result.map(HashResultView::from),
            error: task.error,
            stamp,
        }
    }
}

impl From<HashError> for Problem {
    fn from(error: HashError) -> Problem {
        match &error {
            HashError::UnknownAlgorithm(_) => {
                Problem::not_found(error.to_string()).of_kind("unknown-algorithm", "Unknown algorithm")
            }
            HashError::OutOfBounds { name, .. } => {
                let name = *name;
                Problem::unprocessable(error.to_string()).of_kind("out-of-bounds", "Out of bounds").with("name", name)
            }
            _ => Problem::unprocessable(error.to_string()),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Problem {
        match error {
            ServiceError::Hash(error) => error.into(),
            ServiceError::Cursor => Problem::bad_request(error.to_string()),
            ServiceError::Stamp(error) => error.into(),
            ServiceError::Jobs(JobsError::Store(error)) => database(&error, error.to_string()),
            ServiceError::Jobs(error) => Problem::unavailable(error.to_string()),
            _ => Problem::internal(&error),
        }
    }
}

/// Bytes of base64 in either alphabet, padded or not.
fn from_base64(text: &str, name: &str) -> Result<Vec<u8>, Problem> {
    let alphabet = match text.contains(['-', '_']) {
        true => &base64::alphabet::URL_SAFE,
        false => &base64::alphabet::STANDARD,
    };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config).decode(text).map_err(|error| {
        Problem::unprocessable(format!("{name} is not base64 ({error})")).of_kind("bad-base64", "Bad base64")
    })
}

impl Argon2idBody {
    fn parameters(self) -> Result<Argon2id, Problem> {
        let default = Argon2id::with_random_salt();
        Ok(Argon2id {
            memory_kib: self.memory_kib.unwrap_or(default.memory_kib),
            iterations: self.iterations.unwrap_or(default.iterations),
            parallelism: self.parallelism.unwrap_or(default.parallelism),
            length: self.length.unwrap_or(default.length),
            salt: self.salt.map_or(Ok(default.salt), |salt| from_base64(&salt, "salt"))?,
        })
    }
}

/// What is to be hashed, from a request of any of the content types.
async fn read(
    algorithm: Algorithm,
    services: &Services,
    query: UploadQuery,
    request: Request,
) -> Result<(HashRequest, Options), Problem> {
    let (limit, idle) = (services.config.max_hash_input_bytes, services.config.upload_idle());
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let flags = Options { stamp: query.stamp, keep_input: query.keep_input };
    match essence.as_str() {
        "application/json" => {
            // Base64 takes a third more, and JSON may write a character in six.
            let body = read_limited(request.into_body(), limit.saturating_mul(6).saturating_add(4096), idle).await?;
            let body: HashBody =
                serde_json::from_slice(&body).map_err(|error| Problem::unprocessable(format!("the body: {error}")))?;
            let input = match (body.string, body.data) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(data)) => from_base64(&data, "data")?,
                _ => return Err(Problem::unprocessable("give either string or data")),
            };
            if input.len() > limit {
                return Err(too_long(limit));
            }
            let parameters = body.parameters.map(Argon2idBody::parameters).transpose()?;
            let request = HashRequest::new(algorithm, parameters, input)?;
            Ok((request, Options { stamp: body.stamp, keep_input: body.keep_input }))
        }
        "application/octet-stream" => {
            let input = read_limited(request.into_body(), limit, idle).await?;
            Ok((HashRequest::new(algorithm, None, input)?, flags))
        }
        "multipart/form-data" => {
            let form = Multipart::from_request(request, services)
                .await
                .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
            let input = read_file(form, limit, idle).await?;
            Ok((HashRequest::new(algorithm, None, input)?, flags))
        }
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send application/json, application/octet-stream or multipart/form-data, not {content_type:?}"),
        )),
    }
}

fn too_long(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the input is longer than {limit} bytes: hash it where it is, or stamp it, which takes any length"),
    )
}

/// Hash a text, bytes or a file.
///
/// `application/json`: `string` or `data`. `application/octet-stream`: the input itself. `multipart/form-data`: one file.
/// 202 with a task; 200 with the result where an equal request was answered before. Equal are requests of the same
/// algorithm, parameters and input; they are computed once.
#[utoipa::path(
    post, path = "/hash/{algorithm}", tag = "hash",
    params(("algorithm" = String, Path, description = "`md5`, `sha1`, `sha256`, `sha512`, `blake3` or `argon2id`"), UploadQuery),
    request_body(content(
        (HashBody = "application/json"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The result was known", body = Hashed),
        (status = 202, description = "A task; `Location` is where to ask for it", body = Hashed),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such algorithm", body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn hash(
    State(services): State<Services>,
    ApiPath(algorithm): ApiPath<String>,
    ApiQuery(query): ApiQuery<UploadQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let algorithm: Algorithm = algorithm.parse()?;
    let (request, options) = read(algorithm, &services, query, request).await?;
    match services.hashes.submit(request, options).await? {
        Submitted::Known { id, result } => Ok(Json(Hashed {
            task_id: id.map(|id| id.to_string()),
            algorithm: algorithm.name(),
            status: "completed",
            result: Some(result.into()),
            source: Some("cache"),
        })
        .into_response()),
        Submitted::Task { id, status } => {
            let query = if options.stamp { "?stamp=true" } else { "" };
            let location = HeaderValue::try_from(format!("/task/{id}{query}"));
            let location = location.map_err(|error| Problem::internal(&error))?;
            let body = Hashed {
                task_id: Some(id.to_string()),
                algorithm: algorithm.name(),
                status: status.as_str(),
                result: None,
                source: None,
            };
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(body)).into_response())
        }
    }
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Answer once the task has ended, but after so many seconds at the latest; 60 at most.
    #[serde(default)]
    #[param(minimum = 0, maximum = 60)]
    wait: u64,
    /// Tell how far the result's stamp is, though another request than the one that made the task asked for it.
    #[serde(default)]
    stamp: bool,
}

/// A task and what came of it.
#[utoipa::path(
    get, path = "/task/{id}", tag = "hash", params(("id" = String, Path, description = "As `POST /hash` gave it"), WaitQuery),
    responses(
        (status = 200, body = TaskView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn task(
    State(services): State<Services>,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<WaitQuery>,
) -> Result<Json<TaskView>, Problem> {
    if query.wait > MAX_WAIT {
        return Err(Problem::unprocessable(format!("wait is {}: 0 to {MAX_WAIT} seconds are allowed", query.wait)));
    }
    let unknown = || Problem::not_found("no task has this id: tasks that ended long ago are not kept");
    let id = id.parse().map_err(|_| unknown())?;
    let closing = services.closing.cancelled();
    let found = tokio::select! {
        found = services.hashes.wait(id, Duration::from_secs(query.wait)) => found?,
        // Who waits learns what is known now, and asks another process.
        () = closing => services.hashes.wait(id, Duration::ZERO).await?,
    };
    let task = found.ok_or_else(unknown)?;
    let stamp = match &task.result {
        Some(result) if task.stamp || query.stamp => {
            let digest = result.bytes()?;
            services.calendar.status(&digest).await?.map(|status| view(&digest, &status))
        }
        _ => None,
    };
    Ok(Json(TaskView::new(task, stamp)))
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HashesQuery {
    /// Only of this algorithm.
    #[serde(rename = "type")]
    algorithm: Option<String>,
    /// Only in this state: `queued`, `running`, `completed`, `failed` or `discarded`.
    status: Option<String>,
    /// `next_cursor` of the page before; the newest when left out.
    cursor: Option<String>,
    /// Tasks on a page, 1 to 100; 20 when left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Tasks, the newest first.
#[utoipa::path(
    get, path = "/hashes", tag = "hash", params(HashesQuery),
    responses(
        (status = 200, body = Page<TaskView>),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn hashes(
    State(services): State<Services>,
    ApiQuery(query): ApiQuery<HashesQuery>,
) -> Result<Json<Page<TaskView>>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::unprocessable(format!("limit is {limit}: 1 to {MAX_PAGE} are allowed")));
    }
    let algorithm = query.algorithm.map(|name| name.parse::<Algorithm>()).transpose();
    let algorithm = algorithm.map_err(|error| Problem::unprocessable(error.to_string()))?;
    let status = query.status.map(|name| name.parse()).transpose();
    let status = status.map_err(|_| {
        Problem::unprocessable("status is none of queued, running, completed, failed and discarded".to_owned())
    })?;
    let filter = HashFilter { algorithm, status };
    let (tasks, next_cursor) = services.hashes.list(filter, query.cursor.as_deref(), limit).await?;
    Ok(Json(Page { items: tasks.into_iter().map(|task| TaskView::new(task, None)).collect(), next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_may_have_either_alphabet_and_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(from_base64(text, "data").unwrap(), [0xfb, 0xff]);
        }
        assert_eq!(from_base64("", "data").unwrap(), b"");
        for text in ["+_8=", "a", "====", "YWJj\n", "é"] {
            let problem = from_base64(text, "data").unwrap_err();
            assert!(problem.detail.starts_with("data is not base64"), "{text:?}: {}", problem.detail);
        }
    }
}
