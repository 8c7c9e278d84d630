//! What is refused of a request's head, so that no backend reads it otherwise than we do (RFC 9112, 11.2: request
//! smuggling), and because it is too large. Pingora refuses the rest: bad lengths, folded lines, a bad or missing host's form.

use crate::config::Config;
use crate::proxy::fail;
use http::{HeaderMap, StatusCode, Version, header};
use pingora_core::{Error, Result};
use pingora_proxy::Session;

/// Refuses what must not reach a backend.
pub(crate) fn check(session: &Session, config: &Config) -> Result<()> {
    let raw = session.as_ref().as_http1().map(|session| session.get_headers_raw_bytes()).unwrap_or_default();
    if raw.len() > config.max_header_bytes {
        let detail = format!("the head of the request is longer than {} bytes", config.max_header_bytes);
        return Err(fail(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail));
    }
    let request = session.req_header();
    if let Some(detail) = ambiguity(&request.headers, request.version, &raw) {
        return Err(fail(StatusCode::BAD_REQUEST, detail));
    }
    let length =
        request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > config.max_body_bytes) {
        return Err(too_large(config));
    }
    Ok(())
}

/// The body is too long.
pub(crate) fn too_large(config: &Config) -> Box<Error> {
    fail(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body of the request is longer than {} bytes", config.max_body_bytes),
    )
}

/// Why two servers might disagree about a request, if they might. `raw` is its head as it came.
fn ambiguity(headers: &HeaderMap, version: Version, raw: &[u8]) -> Option<&'static str> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        // Pingora has removed the length that stood beside it.
        if has_field(raw, b"content-length") {
            return Some("a request has a Content-Length or a Transfer-Encoding, not both");
        }
        if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Some("the only Transfer-Encoding that is understood is chunked");
        }
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Some("a request has one Content-Length");
    }
    if headers.get(header::CONTENT_LENGTH).is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Some("a Content-Length is a number");
    }
    match headers.get_all(header::HOST).iter().count() {
        0 if version >= Version::HTTP_11 => return Some("a request has a Host"),
        0 | 1 => {}
        _ => return Some("a request has one Host"),
    }
    // A lone line feed or carriage return ends a line for some and not for others.
    let mut before = 0;
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if (byte == b'\n' && before != b'\r') || (byte == b'\r' && bytes.peek().is_some_and(|next| *next != b'\n')) {
            return Some("lines of a request end with CR LF");
        }
        before = byte;
    }
    None
}

fn has_field(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        let field = line.split(|byte| *byte == b':').next().unwrap_or_default();
        field.trim_ascii().eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn judged(raw: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for line in raw.lines().skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a field");
            let name = HeaderName::from_bytes(name.trim().as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value.trim()).expect("a value"));
        }
        ambiguity(&headers, Version::HTTP_11, raw.as_bytes())
    }

    #[test]
    fn two_readings_of_one_request_are_refused() {
        assert_eq!(judged("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(judged("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), None);
        for fields in [
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "content-LENGTH: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Host: b\r\n",
            "X: y\n",
        ] {
            assert!(judged(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).is_some(), "{fields:?}");
        }
        assert!(judged("GET / HTTP/1.1\r\n\r\n").is_some(), "no host");
    }
}
