//! Active checks: every backend is asked, all at a time, whether it is ready.

use crate::backend::Backend;
use crate::config::Config;
use crate::core::Core;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest reason that is kept, characters.
const MAX_REASON: usize = 300;

/// Asks all backends once.
pub(crate) async fn check_all(core: &Arc<Core>) {
    let config = core.config();
    let backends = core.pool.all();
    if config.health_interval.is_zero() {
        backends.iter().for_each(|backend| backend.unchecked());
        return;
    }
    let mut checks = JoinSet::new();
    for backend in backends.iter().filter(|backend| !backend.is_draining()) {
        checks.spawn(check(core.clone(), config.clone(), backend.clone()));
    }
    while checks.join_next().await.is_some() {}
}

async fn check(core: Arc<Core>, config: Arc<Config>, backend: Arc<Backend>) {
    let asked = tokio::time::timeout(config.health_timeout, ask(&backend, &config.health_path)).await;
    let verdict = asked.unwrap_or_else(|_| {
        Err(format!("it did not answer the health check within {} s", config.health_timeout.as_secs_f64()))
    });
    let now = Instant::now();
    let (address, was_up) = (backend.address, backend.is_up(now));
    match verdict {
        Ok(()) => {
            // With the gateway itself everything starts at once, and nobody has to be spared.
            let late = now.saturating_duration_since(core.started) > config.health_timeout + Duration::from_secs(1);
            if backend.check_passed(&config, late, now) {
                tracing::info!(backend = %address, "a backend is healthy");
            }
        }
        Err(reason) => {
            if backend.check_failed(&config, reason.clone()) {
                tracing::warn!(backend = %address, reason, was_up, "a backend is not healthy");
            }
        }
    }
}

/// `Ok` where it answers that it is ready; why it is not otherwise.
async fn ask(backend: &Backend, path: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(backend.address).await.map_err(|error| in_words(&error))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: cairn-gateway\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
        backend.address
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| in_words(&error))?;
    let mut answer = Vec::new();
    loop {
        let more = stream.read_buf(&mut answer).await.map_err(|error| in_words(&error))?;
        if let Some((status, body)) = parse(&answer, more == 0)? {
            return match status {
                200..=299 => Ok(()),
                _ => Err(refusal(status, body)),
            };
        }
        if more == 0 {
            return Err("it closed the connection before it had answered the health check".into());
        }
        if answer.len() > MAX_ANSWER {
            return Err(format!("its answer to the health check is longer than {MAX_ANSWER} bytes"));
        }
    }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        std::io::ErrorKind::ConnectionReset => "the connection was reset".into(),
        _ => format!("the connection failed: {error}"),
    }
}

/// Status and body, once they are there: of a good answer the head is enough.
fn parse(answer: &[u8], ended: bool) -> Result<Option<(u16, &[u8])>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).map_err(|_| "its answer to the health check was no HTTP".to_owned())?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let body = answer.get(head..).unwrap_or_default();
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let complete = ended || length.is_some_and(|length| body.len() >= length);
    Ok(((200..300).contains(&status) || complete).then_some((status, body)))
}

/// What an answer other than 200 says: the `detail` of a problem document, or what else names the cause.
fn refusal(status: u16, body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let named = document.as_ref().and_then(|document| {
        ["detail", "reason", "problems", "error", "title"].iter().find_map(|member| match document.get(member)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Array(list) if !list.is_empty() => Some(
                list.iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            _ => None,
        })
    });
    let text = named.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let text: String = text.chars().filter(|char| !char.is_control()).take(MAX_REASON).collect();
    if text.is_empty() { status.to_string() } else { format!("{status}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_given_by_name() {
        assert_eq!(
            refusal(503, br#"{"title": "Service Unavailable", "detail": "the database does not answer"}"#),
            "503: the database does not answer"
        );
        assert_eq!(refusal(503, br#"{"problems": ["a", "b"]}"#), "503: a; b");
        assert_eq!(refusal(500, b"oops\r\n"), "500: oops");
        assert_eq!(refusal(404, b""), "404");
    }

    #[test]
    fn an_answer_is_read_as_far_as_it_is_needed() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n", false), Ok(None));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n", false), Ok(Some((200, &b""[..]))));
        let refused = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(parse(&refused[..refused.len() - 1], false), Ok(None));
        assert_eq!(parse(refused, false), Ok(Some((503, &b"ab"[..]))));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n", false).is_err());
    }
}
