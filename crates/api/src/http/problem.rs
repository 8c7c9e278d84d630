//! Errors as RFC 9457 problem documents, and the fallbacks that make every error one.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::any::Any;
use std::time::Duration;
use utoipa::ToSchema;

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: `about:blank` where the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// Members of this kind of problem alone, such as `index`.
    #[serde(flatten)]
    pub members: Box<Map<String, Value>>,
}

impl Problem {
    /// A problem that its status describes.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            members: Box::default(),
        }
    }

    /// Gives it a type of its own: `urn:cairn:problem:<name>`.
    pub fn of_kind(mut self, name: &str, title: &str) -> Problem {
        self.kind = format!("urn:cairn:problem:{name}");
        self.title = title.into();
        self
    }

    /// Adds a member.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(member.into(), value.into());
        self
    }

    /// The thing that was asked for is not here.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// The request makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The request makes sense but cannot be done with these values.
    pub fn unprocessable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// It cannot be done now; trying again later can help.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Something of ours failed. The cause goes to the log and, as it carries no secret, to the caller.
    pub fn internal(error: &dyn std::fmt::Display) -> Problem {
        tracing::error!("a request failed: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/problem+json");
        let mut response =
            (status, [(header::CONTENT_TYPE, json)], Json(&self).into_response().into_body()).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Problem {
                Problem::new(rejection.status(), rejection.body_text())
            }
        }
    )*};
}
from_rejection!(JsonRejection, PathRejection, QueryRejection, BytesRejection);

/// A JSON body; what is wrong with it becomes a problem document.
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(ApiJson(Json::<T>::from_request(request, state).await?.0))
    }
}

/// Parameters of the path; what is wrong with them becomes a problem document.
pub struct ApiPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(ApiPath(axum::extract::Path::<T>::from_request_parts(parts, state).await?.0))
    }
}

/// Parameters of the query; what is wrong with them becomes a problem document.
pub struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(ApiQuery(axum::extract::Query::<T>::from_request_parts(parts, state).await?.0))
    }
}

/// No route has this path.
pub(crate) async fn not_found(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}: /api/docs lists what there is", request.uri().path()))
}

/// The route has other methods.
pub(crate) async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {}: the Allow header says what it takes", request.uri().path(), request.method()),
    )
}

/// A handler panicked: that is ours to mend, and the connection lives on.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response<Body> {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!("a request handler panicked: {text}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed unexpectedly; its log says where")
        .into_response()
}

/// Gives an ordinary request up after a while.
pub(crate) async fn time_out(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable(format!("the request took longer than {} s and was given up", limit.as_secs()))
            .of_kind("timeout", "Timed out")
            .into_response(),
    }
}
