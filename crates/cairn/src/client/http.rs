//! Requests with every limit set: time, size, no redirects (an address that was allowed must not lead to one that was
//! not), and no proxy on the way to this machine.

use std::fmt;
use std::io::Read;
use std::time::Duration;

/// What a request came to without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HttpError {
    /// The address cannot be used.
    BadUrl(String),
    /// Nobody could be reached.
    Unreachable(String),
    /// No answer in time.
    TimedOut,
    /// The answer is longer than allowed, in bytes.
    TooLong(usize),
    /// What came is no HTTP, or broke off.
    Broken(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl(reason) => write!(f, "the address cannot be used ({reason})"),
            Self::Unreachable(reason) => write!(f, "it cannot be reached ({reason})"),
            Self::TimedOut => f.write_str("it did not answer in time"),
            Self::TooLong(limit) => write!(f, "its answer is longer than {limit} bytes"),
            Self::Broken(reason) => write!(f, "its answer broke off ({reason})"),
        }
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first line of the body that fits a terminal, with nothing in it that could steer one.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(160)]).into_owned();
        let shown: String = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '_' }).collect();
        if shown.trim().is_empty() { format!("status {}", self.status) } else { shown.trim().to_owned() }
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// Posted if there is one.
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// For everything, from the look-up of the name to the last byte.
    pub(crate) timeout: Duration,
    /// Longest answer, in bytes.
    pub(crate) limit: usize,
}

/// Does a request.
pub(crate) fn request(request: &Request<'_>) -> Result<Answer, HttpError> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(request.timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")));
    if is_loopback(request.url) {
        config = config.proxy(None);
    }
    let agent = ureq::Agent::new_with_config(config.build());
    let failed = |error: ureq::Error| describe(error, request.limit);
    let mut response = match request.body {
        None => {
            let builder =
                request.headers.iter().fold(agent.get(request.url), |b, (name, value)| b.header(*name, *value));
            builder.call()
        }
        Some(body) => {
            let builder =
                request.headers.iter().fold(agent.post(request.url), |b, (name, value)| b.header(*name, *value));
            builder.send(body)
        }
    }
    .map_err(failed)?;
    let status = response.status().as_u16();
    // One byte more than allowed tells a long answer from one that just fits.
    let mut body = Vec::new();
    let reader = response.body_mut().as_reader();
    reader
        .take(request.limit as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|error| describe(ureq::Error::from(error), request.limit))?;
    if body.len() > request.limit {
        return Err(HttpError::TooLong(request.limit));
    }
    Ok(Answer { status, body })
}

fn describe(error: ureq::Error, limit: usize) -> HttpError {
    match error {
        ureq::Error::Timeout(_) => HttpError::TimedOut,
        ureq::Error::BodyExceedsLimit(_) => HttpError::TooLong(limit),
        ureq::Error::BadUri(reason) => HttpError::BadUrl(reason),
        ureq::Error::Http(error) => HttpError::BadUrl(error.to_string()),
        ureq::Error::HostNotFound => HttpError::Unreachable("there is no such host".into()),
        ureq::Error::ConnectionFailed => HttpError::Unreachable("connection failed".into()),
        ureq::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => HttpError::TimedOut,
            std::io::ErrorKind::ConnectionRefused => HttpError::Unreachable("connection refused".into()),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                HttpError::Broken(error.to_string())
            }
            _ => HttpError::Unreachable(error.to_string()),
        },
        other => HttpError::Broken(other.to_string()),
    }
}

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host == "localhost" || host.starts_with("localhost:") || host.starts_with("127.") || host.starts_with("[::1]")
}
