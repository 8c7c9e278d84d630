//! A request's way: from the client's head to a backend, again where that is safe, and back.

use crate::access_log::Entry;
use crate::backend::InFlight;
use crate::config::Config;
use crate::connection::{Client, Connection};
use crate::core::Core;
use crate::forwarded::{self, X_REQUEST_ID};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::{admin, guard};
use async_trait::async_trait;
use bytes::Bytes;
use cairn_store::Decision;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Stream;
use pingora_core::protocols::tls::TlsStream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// The status that nginx gave to clients that went before their answer; only in logs.
const CLIENT_CLOSED: u16 = 499;

/// Pingora's view of a gateway. Each worker has one, with connections to backends of its own.
pub(crate) struct Proxy(pub(crate) Arc<Core>);

/// One request.
pub(crate) struct Exchange {
    config: Arc<Config>,
    started: Instant,
    connection: Option<Arc<Client>>,
    client: IpAddr,
    request_id: Option<HeaderValue>,
    limit: Option<Decision>,
    /// Backends that it was tried on, and the one that has it now.
    tried: Vec<SocketAddr>,
    flight: Option<InFlight>,
    attempts: usize,
    sent: Instant,
    /// Time to the head of the answer.
    latency: Option<Duration>,
    /// Bytes of the body so far.
    body: u64,
    /// What went wrong, for the log.
    error: Option<String>,
    /// The status of an answer of our own.
    answered: Option<u16>,
}

/// An error of ours that is answered with this status.
pub(crate) fn fail(status: StatusCode, detail: impl Into<String>) -> Box<Error> {
    Error::create(ErrorType::HTTPStatus(status.as_u16()), ErrorSource::Internal, Some(detail.into().into()), None)
}

/// Answers with a document of our own.
pub(crate) async fn answer(
    session: &mut Session,
    exchange: &mut Exchange,
    status: StatusCode,
    media_type: &'static str,
    body: Bytes,
) -> Result<()> {
    let mut head = ResponseHeader::build(status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, media_type)?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    if let Some(id) = &exchange.request_id {
        head.insert_header(X_REQUEST_ID, id.clone())?;
    }
    if let Some(decision) = &exchange.limit {
        limit_fields(&mut head, decision, &exchange.config)?;
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let next_check = exchange.config.health_interval.as_secs().max(1);
        head.insert_header(header::RETRY_AFTER, next_check)?;
    }
    exchange.answered = Some(status.as_u16());
    // A body that nobody will read ends the connection, since its end cannot be told from a next request.
    if !session.is_body_done() {
        session.set_keepalive(None);
        if let Some(connection) = &exchange.connection {
            connection.linger();
        }
    }
    let no_body = session.req_header().method == Method::HEAD || body.is_empty();
    session.write_response_header(Box::new(head), no_body).await?;
    if !no_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Answers with a problem document.
pub(crate) async fn answer_problem(session: &mut Session, exchange: &mut Exchange, problem: &Problem) -> Result<()> {
    answer(session, exchange, problem.status, PROBLEM_JSON, problem.body()).await
}

/// The fields of draft-ietf-httpapi-ratelimit-headers, and `Retry-After` for who was refused.
fn limit_fields(head: &mut ResponseHeader, decision: &Decision, config: &Config) -> Result<()> {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let (limit, window) = (decision.limit, seconds(config.rate_limit_window));
    head.insert_header("RateLimit-Policy", format!("\"default\";q={limit};w={window}"))?;
    head.insert_header("RateLimit", format!("\"default\";r={};t={}", decision.remaining, seconds(decision.reset)))?;
    if !decision.allowed {
        head.insert_header(header::RETRY_AFTER, seconds(decision.retry_after).max(1))?;
    }
    Ok(())
}

/// The connection that a session is on.
fn connection(session: &Session) -> Option<Arc<Client>> {
    let stream: &Stream = session.as_ref().stream()?;
    let any = stream.as_ref().as_any();
    let plain = any.downcast_ref::<Connection<TcpStream>>().map(|connection| &connection.client);
    let tls = || any.downcast_ref::<Connection<TlsStream<pingora_core::protocols::l4::stream::Stream>>>();
    plain.or_else(|| tls().map(|connection| &connection.client)).cloned()
}

/// Whether doing a request twice is as good as once (RFC 9110, 9.2.2), or its sender says so.
fn is_repeatable(request: &RequestHeader, config: &Config) -> bool {
    let path = request.raw_path();
    request.method.is_idempotent()
        || request.headers.contains_key("idempotency-key")
        || (request.method == Method::POST
            && config.idempotent_paths.iter().any(|beginning| path.starts_with(beginning.as_bytes())))
}

/// Whether a request asks for a stream that may be silent for long.
fn is_stream(request: &RequestHeader) -> bool {
    request.headers.contains_key(header::UPGRADE)
        || request.headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"))
}

impl Proxy {
    /// Notes that the backend failed this request.
    fn blame(&self, exchange: &Exchange, reason: &str) {
        let Some(flight) = &exchange.flight else { return };
        let (backend, now) = (flight.backend(), Instant::now());
        let others = self.0.pool.another_is_up(backend, now);
        if let Some(time) = backend.failed(&exchange.config, reason, others, now) {
            tracing::warn!(backend = %backend.address, reason, seconds = time.as_secs_f64(), "a backend was ejected");
        }
    }

    /// Decides whether the request goes to a backend once more.
    fn again(&self, exchange: &mut Exchange, error: &mut Error) {
        let again = exchange.attempts < exchange.config.attempts;
        error.set_retry(again);
        if again {
            self.0.totals.retries.fetch_add(1, Ordering::Relaxed);
            if let Some(flight) = exchange.flight.take() {
                flight.backend().counters.retries.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What went wrong with a backend, in a few words.
fn in_words(error: &Error) -> String {
    let what = match error.root_etype() {
        ErrorType::ConnectTimedout => "the connection timed out",
        ErrorType::ConnectRefused => "the connection was refused",
        ErrorType::ConnectNoRoute => "there is no route to it",
        ErrorType::ConnectError | ErrorType::SocketError => "the connection failed",
        ErrorType::ReadTimedout => "it did not answer in time",
        ErrorType::WriteTimedout => "it did not take the request in time",
        ErrorType::ConnectionClosed => "it closed the connection before its answer was complete",
        ErrorType::ReadError | ErrorType::WriteError => "the connection broke",
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => "its answer was no HTTP",
        other => other.as_str(),
    };
    what.to_owned()
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        let now = Instant::now();
        Exchange {
            config: self.0.config(),
            started: now,
            connection: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            request_id: None,
            limit: None,
            tried: Vec::new(),
            flight: None,
            attempts: 0,
            sent: now,
            latency: None,
            body: 0,
            error: None,
            answered: None,
        }
    }

    /// None: answers pass as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        self.0.totals.requests.fetch_add(1, Ordering::Relaxed);
        let client =
            connection(session).ok_or_else(|| fail(StatusCode::INTERNAL_SERVER_ERROR, "the client is unknown"))?;
        client.serve();
        exchange.client = client.ip();
        exchange.connection = Some(client);
        let config = &exchange.config;
        session.set_read_timeout(Some(config.body_timeout));
        session.set_write_timeout(Some(config.send_timeout));
        let keepalive = session.get_keepalive().filter(|_| !self.0.is_stopping());
        session.set_keepalive(keepalive.map(|_| config.idle_timeout.as_secs().max(1)));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let config = exchange.config.clone();
        exchange.request_id = Some(forwarded::request_id(&session.req_header().headers));
        guard::check(session, &config)?;
        exchange.client = forwarded::client_ip(exchange.client, &session.req_header().headers, &config.trusted_proxies);
        if admin::serve(&self.0, session, exchange).await? {
            return Ok(true);
        }
        exchange.limit = self.0.limit(&config, exchange.client, &session.req_header().headers).await;
        if exchange.limit.is_some_and(|decision| !decision.allowed) {
            let (requests, seconds) = (config.rate_limit_requests, config.rate_limit_window.as_secs_f64());
            let detail = format!("this client may make {requests} requests in {seconds} s");
            answer_problem(session, exchange, &Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(body) = body else { return Ok(()) };
        if session.was_upgraded() {
            return Ok(());
        }
        exchange.body += body.len() as u64;
        let config = &exchange.config;
        if exchange.body > config.max_body_bytes {
            return Err(guard::too_large(config));
        }
        let late = exchange.started.elapsed().saturating_sub(config.body_timeout);
        if late.as_secs() * config.body_min_rate > exchange.body {
            let detail = format!("the body came at less than {} bytes a second", config.body_min_rate);
            return Err(fail(StatusCode::REQUEST_TIMEOUT, detail));
        }
        Ok(())
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let now = Instant::now();
        let Some(backend) = self.0.pool.choose(&exchange.tried, now) else {
            self.0.totals.unavailable.fetch_add(1, Ordering::Relaxed);
            return Err(fail(StatusCode::SERVICE_UNAVAILABLE, self.0.pool.complaint(now)));
        };
        let config = &exchange.config;
        let mut peer = HttpPeer::new(backend.address, false, String::new());
        let options = &mut peer.options;
        options.connection_timeout = Some(config.connect_timeout);
        options.total_connection_timeout = Some(config.connect_timeout);
        options.read_timeout =
            Some(if is_stream(session.req_header()) { config.stream_timeout } else { config.response_timeout });
        options.write_timeout = Some(config.write_timeout);
        options.idle_timeout = Some(config.upstream_idle);
        backend.counters.requests.fetch_add(1, Ordering::Relaxed);
        exchange.attempts += 1;
        exchange.sent = now;
        exchange.latency = None;
        exchange.flight = Some(InFlight::begin(&backend));
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&pingora_core::protocols::Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let (false, Some(flight)) = (reused, &exchange.flight) {
            flight.backend().counters.connections.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(client) = &exchange.connection {
            forwarded::rewrite(request, client, &exchange.config.trusted_proxies)?;
        }
        if let Some(id) = &exchange.request_id {
            request.insert_header(X_REQUEST_ID, id.clone())?;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let informational = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
        let Some(flight) = &exchange.flight else { return Ok(()) };
        if informational {
            return Ok(());
        }
        let latency = exchange.sent.elapsed();
        let counters = &flight.backend().counters;
        counters.latency.record(latency);
        let class = usize::from(response.status.as_u16() / 100).saturating_sub(1).min(4);
        counters.responses[class].fetch_add(1, Ordering::Relaxed);
        exchange.latency = Some(latency);
        if matches!(response.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
            self.blame(exchange, &format!("it answered {}", response.status));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(id) = &exchange.request_id
            && !response.headers.contains_key(X_REQUEST_ID)
        {
            response.insert_header(X_REQUEST_ID, id.clone())?;
        }
        if let Some(decision) = &exchange.limit {
            limit_fields(response, decision, &exchange.config)?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.blame(exchange, &in_words(&error));
        if let Some(address) = peer._address.as_inet() {
            exchange.tried.push(*address);
        }
        // Nothing was sent: any request may go elsewhere.
        self.again(exchange, &mut error);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(false);
        if error.esource() != &ErrorSource::Upstream || matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            return error;
        }
        let broken =
            matches!(error.root_etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError);
        let silent = exchange.latency.is_none() && broken;
        // A backend may close a connection that it finds idle just when we use it: that says nothing about the backend.
        if !(reused && silent) {
            self.blame(exchange, &in_words(&error));
            if let Some(address) = peer._address.as_inet() {
                exchange.tried.push(*address);
            }
        }
        let begun = session.response_written().is_some_and(|response| !response.status.is_informational());
        // A request that took all of its time would take as much again elsewhere.
        let slow = matches!(error.root_etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        let repeatable = is_repeatable(session.req_header(), &exchange.config);
        if !begun && !slow && repeatable && !session.as_ref().retry_buffer_truncated() {
            self.again(exchange, &mut error);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy
    where
        Exchange: Send + Sync,
    {
        let explained = |status: StatusCode, detail: String| Some(Problem::new(status, detail));
        let backend = exchange.flight.as_ref().map(|flight| flight.backend().address);
        let problem = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let detail = error.context.as_ref().map(|context| context.as_str().to_owned()).unwrap_or_default();
                explained(status, detail)
            }
            (etype, ErrorSource::Upstream) => {
                let slow =
                    matches!(etype, ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout);
                let status = if slow { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
                let problem = Problem::new(status, format!("the backend failed: {}", in_words(error)));
                Some(match backend {
                    Some(backend) => problem.with("backend", backend.to_string()).with("attempts", exchange.attempts),
                    None => problem,
                })
            }
            (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
                let seconds = exchange.config.body_timeout.as_secs_f64();
                explained(StatusCode::REQUEST_TIMEOUT, format!("nothing of the body came for {seconds} s"))
            }
            (
                ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout | ErrorType::ConnectionClosed,
                ErrorSource::Downstream,
            ) => None,
            (_, ErrorSource::Downstream) => explained(StatusCode::BAD_REQUEST, "the request is malformed".into()),
            (_, ErrorSource::Internal | ErrorSource::Unset) => {
                tracing::warn!(%error, "a request failed inside the gateway");
                explained(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed".into())
            }
        };
        exchange.error = Some(error.to_string());
        let begun = session.response_written().is_some_and(|response| !response.status.is_informational());
        if let (Some(problem), false) = (&problem, begun) {
            session.set_keepalive(None);
            if let Some(connection) = &exchange.connection {
                connection.linger();
            }
            if let Err(error) = answer_problem(session, exchange, problem).await {
                tracing::debug!(%error, "a client did not take its answer");
            }
        }
        FailToProxy {
            error_code: problem.map_or(CLIENT_CLOSED, |problem| problem.status.as_u16()),
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        if error.is_none()
            && let (Some(_), Some(flight)) = (exchange.latency, &exchange.flight)
        {
            flight.backend().succeeded();
        }
        let written = session.response_written().map(|response| response.status.as_u16());
        let status = exchange.answered.or(written).unwrap_or(CLIENT_CLOSED);
        if status == CLIENT_CLOSED {
            self.0.totals.aborted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.totals.answered(status);
        }
        if let Some(log) = self.0.log.load_full() {
            let request = session.req_header();
            let field = |name: header::HeaderName| {
                request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
            };
            log.write(&Entry {
                client: exchange.client,
                method: request.method.as_str(),
                path: &String::from_utf8_lossy(request.raw_path()),
                version: if request.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
                host: field(header::HOST),
                status,
                bytes: session.body_bytes_sent() as u64,
                referer: field(header::REFERER),
                user_agent: field(header::USER_AGENT),
                request_id: exchange.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or(""),
                duration: exchange.started.elapsed(),
                upstream: exchange.latency,
                backend: exchange.flight.as_ref().map(|flight| flight.backend().address.to_string()),
                attempts: exchange.attempts,
                error: exchange.error.take(),
            });
        }
        exchange.flight = None;
        if let Some(connection) = &exchange.connection
            && session.is_body_done()
        {
            connection.rest();
        }
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Exchange, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_repeated() {
        let config = Config::default();
        let repeatable = |method: &str, path: &[u8], key: bool| {
            let mut request = RequestHeader::build(method, path, None).expect("a request");
            if key {
                request.insert_header("Idempotency-Key", "1").expect("a field");
            }
            is_repeatable(&request, &config)
        };
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            assert!(repeatable(method, b"/x", false), "{method}");
        }
        assert!(!repeatable("POST", b"/digest", false));
        assert!(!repeatable("PATCH", b"/x", false));
        assert!(repeatable("POST", b"/digest", true), "the sender says so");
        assert!(repeatable("POST", b"/hash/sha256", false), "equal requests are one task");
    }
}
