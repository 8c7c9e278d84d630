//! Errors as RFC 9457 problem documents.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A problem that the gateway itself has with a request.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem that its status describes.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into(), members: Map::new() }
    }

    /// Adds a member.
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// The document.
    pub(crate) fn body(&self) -> Bytes {
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(document) = &mut document {
            document.extend(self.members.clone());
        }
        Bytes::from(document.to_string())
    }

    /// A whole answer that ends the connection.
    pub(crate) fn to_http1(&self) -> Vec<u8> {
        let (status, body) = (self.status, self.body());
        let title = status.canonical_reason().unwrap_or("Error");
        let mut answer = format!(
            "HTTP/1.1 {} {title}\r\nContent-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            status.as_u16(),
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        answer
    }
}
