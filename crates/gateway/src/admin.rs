//! What the gateway answers itself: `/lb/…` and `/metrics`. Everything else is the backends', `/api/health/…` included.

use crate::backend::{Backend, Health, State};
use crate::core::{Core, Sharing};
use crate::metrics;
use crate::problem::Problem;
use crate::proxy::{Exchange, answer, answer_problem};
use crate::strategy::Strategy;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use pingora_core::Result;
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

const JSON: &str = "application/json";
/// Longest body that is read, bytes.
const MAX_BODY: usize = 4096;
/// How long the database has to take a new strategy before the answer says that it has not.
const SHARE: Duration = Duration::from_secs(2);

/// Answers what is the gateway's own; says whether it was.
pub(crate) async fn serve(core: &Core, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
    let path = session.req_header().uri.path();
    if !path.starts_with("/lb/") && path != "/metrics" {
        return Ok(false);
    }
    let (method, now) = (session.req_header().method.clone(), Instant::now());
    let reads = method == Method::GET || method == Method::HEAD;
    match path {
        "/lb/health" | "/lb/health/ready" if reads => {
            let (status, body) = health(core, now);
            match status {
                StatusCode::OK => answer(session, exchange, status, JSON, text(&body)).await?,
                _ => {
                    let detail = body["reason"].as_str().unwrap_or_default().to_owned();
                    let problem = Problem::new(status, detail)
                        .with("status", status.as_u16())
                        .with("backends", body["backends"].clone());
                    answer_problem(session, exchange, &problem).await?;
                }
            }
        }
        "/lb/health/live" if reads => {
            answer(session, exchange, StatusCode::OK, JSON, text(&json!({"status": "ok"}))).await?
        }
        "/lb/stats" if reads => answer(session, exchange, StatusCode::OK, JSON, text(&stats(core, now))).await?,
        "/lb/rate-limits" if reads => answer(session, exchange, StatusCode::OK, JSON, text(&rate_limits(core))).await?,
        "/metrics" if reads => {
            let body = Bytes::from(metrics::render(core, now));
            answer(session, exchange, StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body).await?;
        }
        "/lb/strategy" if reads => {
            answer(session, exchange, StatusCode::OK, JSON, text(&strategy(core))).await?;
        }
        "/lb/strategy" if method == Method::POST => switch(core, session, exchange).await?,
        "/lb/health" | "/lb/health/ready" | "/lb/health/live" | "/lb/stats" | "/lb/rate-limits" | "/lb/strategy"
        | "/metrics" => {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not served here"));
            answer_problem(session, exchange, &problem).await?;
        }
        _ => {
            let problem = Problem::new(StatusCode::NOT_FOUND, "the gateway has nothing of that name");
            answer_problem(session, exchange, &problem).await?;
        }
    }
    Ok(true)
}

fn text(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// Whether requests can be served, by how many backends.
fn health(core: &Core, now: Instant) -> (StatusCode, Value) {
    let backends = core.pool.all();
    let listed = backends.iter().filter(|backend| !backend.is_draining());
    let (total, up) = (listed.clone().count(), core.pool.up(now));
    let each: Vec<_> = listed
        .map(|backend| json!({"address": backend.address, "state": backend.state(now), "reason": backend.reason(now)}))
        .collect();
    if core.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, json!({"reason": "the gateway is stopping", "backends": each}));
    }
    if up == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, json!({"reason": core.pool.complaint(now), "backends": each}));
    }
    let status = if up == total { "ok" } else { "degraded" };
    (StatusCode::OK, json!({"status": status, "healthy": up, "total": total, "backends": each}))
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn by_class(counters: &[AtomicU64; 5]) -> Value {
    let [informational, success, redirection, client, server] = counters.each_ref().map(load);
    json!({"1xx": informational, "2xx": success, "3xx": redirection, "4xx": client, "5xx": server})
}

fn backend_stats(backend: &Backend, now: Instant) -> Value {
    let counters = &backend.counters;
    let latency = counters.latency.cumulative();
    let buckets: Vec<_> = latency.buckets.iter().map(|(bound, count)| json!({"le": bound, "count": count})).collect();
    let since = backend.since().duration_since(UNIX_EPOCH).unwrap_or_default();
    let state = backend.state(now);
    json!({
        "address": backend.address,
        "name": *backend.name.lock().unwrap_or_else(PoisonError::into_inner),
        "state": state,
        "healthy": matches!(state, State::Up | State::SlowStart),
        "health": backend.health(),
        "reason": backend.reason(now),
        "since": crate::access_log::rfc3339(since),
        "last_error": backend.last_error(),
        "weight": backend.weight(),
        "effective_weight": f64::from(backend.effective_weight(now)) / 100.0,
        "active": backend.active(),
        "requests": load(&counters.requests),
        "errors": load(&counters.errors),
        "retries": load(&counters.retries),
        "responses": by_class(&counters.responses),
        "connections": load(&counters.connections),
        "failed_checks": load(&counters.failed_checks),
        "ejections": load(&counters.ejections),
        "latency_seconds": {
            "recent": counters.latency.quantiles(),
            "count": latency.count,
            "sum": latency.sum,
            "buckets": buckets,
        },
    })
}

fn strategy(core: &Core) -> Value {
    let (shared, reason) = match core.sharing() {
        Sharing::Alone => (false, Some("no database is shared: the strategy is this gateway's own".to_owned())),
        Sharing::Shared => (true, None),
        Sharing::Unreachable(reason) => (false, Some(format!("the database is out of reach: {reason}"))),
    };
    json!({"strategy": core.pool.chooser.strategy(), "shared": shared, "reason": reason})
}

/// What `/lb/stats` says.
fn stats(core: &Core, now: Instant) -> Value {
    let (totals, backends) = (&core.totals, core.pool.all());
    let strategy = strategy(core);
    json!({
        "strategy": strategy["strategy"],
        "strategy_shared": strategy["shared"],
        "strategy_reason": strategy["reason"],
        "uptime_seconds": now.saturating_duration_since(core.started).as_secs(),
        "stopping": core.is_stopping(),
        "healthy_backends": core.pool.up(now),
        "total_backends": backends.iter().filter(|backend| !backend.is_draining()).count(),
        "requests": load(&totals.requests),
        "responses": by_class(&totals.responses),
        "aborted": load(&totals.aborted),
        "refused": load(&totals.refused),
        "retries": load(&totals.retries),
        "unavailable": load(&totals.unavailable),
        "rate_limited": load(&totals.limited),
        "connections": {"open": load(&core.open), "accepted": load(&totals.connections), "shed": load(&totals.shed)},
        "access_log_dropped": core.log.load().as_ref().map_or(0, |log| log.dropped()),
        "backends": backends.iter().map(|backend| backend_stats(backend, now)).collect::<Vec<_>>(),
    })
}

fn rate_limits(core: &Core) -> Value {
    let (config, totals) = (core.config(), &core.totals);
    json!({
        "enabled": config.rate_limit_requests > 0,
        "requests": config.rate_limit_requests,
        "window_seconds": config.rate_limit_window.as_secs_f64(),
        "algorithm": "gcra",
        "shared": false,
        "allowed": load(&totals.allowed),
        "limited": load(&totals.limited),
        "exempt": load(&totals.exempt),
        "trusted_proxies": config.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    strategy: Strategy,
}

/// `POST /lb/strategy` with `{"strategy": NAME}`.
async fn switch(core: &Core, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    if !core.is_admin(&session.req_header().headers) {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "give the admin's key in X-API-Key");
        return answer_problem(session, exchange, &problem).await;
    }
    let mut body = BytesMut::new();
    while let Some(part) = session.read_request_body().await? {
        body.extend_from_slice(&part);
        if body.len() > MAX_BODY {
            let problem =
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {MAX_BODY} bytes"));
            return answer_problem(session, exchange, &problem).await;
        }
    }
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(_) => {
            let names = Strategy::ALL.map(Strategy::name);
            let problem = Problem::new(StatusCode::BAD_REQUEST, r#"give {"strategy": NAME}"#)
                .with("strategies", names.as_slice());
            return answer_problem(session, exchange, &problem).await;
        }
    };
    tracing::info!(strategy = %wish.strategy, "the strategy was switched");
    core.pool.chooser.switch(wish.strategy);
    core.switched.send_replace(Some(wish.strategy));
    if core.sharing() != Sharing::Alone {
        // The task that shares it takes it away.
        let mut taken = core.switched.subscribe();
        let _ = tokio::time::timeout(SHARE, taken.wait_for(Option::is_none)).await;
    }
    answer(session, exchange, StatusCode::OK, JSON, text(&strategy(core))).await
}

/// Whether a backend's health is a number for Prometheus.
pub(crate) fn is_healthy(backend: &Backend) -> bool {
    backend.health() == Health::Healthy
}
