//! `/metrics`: Prometheus' text format.
//!
//! Rooms count through the `metrics` facade; gauges of the chain, the mempool, the stamps and the database are read when
//! Prometheus asks. The calendar's routes count through handles made once, without a look-up a request.

use super::problem::Problem;
use crate::state::Watched;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cairn_chain::BLOCK_CONNECT_SECONDS;
use cairn_node::Node;
use cairn_store::Store;
use cairn_store::tasks::Status;
use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const REQUESTS: &str = "cairn_http_requests_total";
const JOB_DURATION: &str = "cairn_job_duration_seconds";
const DURATION: &str = "cairn_http_request_duration_seconds";
/// Upper bounds of the duration's buckets, seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// How often recorded durations are folded into their buckets, so that they use no memory between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's recorder, installed at the first use. `None` when something else installed one before.
pub(crate) fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Full(DURATION.into()), &BUCKETS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(JOB_DURATION.into()), &BUCKETS))
                .and_then(|builder| {
                    builder.set_buckets_for_metric(Matcher::Full(BLOCK_CONNECT_SECONDS.into()), &BUCKETS)
                })
                .ok()?
                .build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).ok()?;
            describe();
            Some(handle)
        })
        .as_ref()
}

/// Does so until the servers close.
pub(crate) async fn upkeep(closing: &CancellationToken) {
    let mut due = tokio::time::interval(UPKEEP);
    while closing.run_until_cancelled(due.tick()).await.is_some() {
        if let Some(recorder) = recorder() {
            recorder.run_upkeep();
        }
    }
}

fn describe() {
    describe_counter!(REQUESTS, "HTTP requests by method, route and status");
    describe_histogram!(DURATION, "Time from a request's head to its answer's head, seconds");
    describe_histogram!(BLOCK_CONNECT_SECONDS, "Time to connect a block, seconds");
    describe_gauge!("cairn_chain_height", "Height of the active chain's tip");
    describe_gauge!("cairn_chain_tip_age_seconds", "Time since the tip's own time, seconds");
    describe_gauge!("cairn_chain_headers", "Height of the best header known");
    describe_gauge!("cairn_chain_synchronised", "1 at the best header known, 0 while blocks are missing");
    describe_gauge!("cairn_peers", "Connections with peers by direction");
    describe_gauge!("cairn_peer_addresses", "Addresses of other nodes that are known");
    describe_gauge!("cairn_peer_bans", "Addresses and ranges that are banned");
    describe_counter!("cairn_peer_received_bytes_total", "Bytes received from peers");
    describe_counter!("cairn_peer_sent_bytes_total", "Bytes sent to peers");
    describe_gauge!("cairn_mempool_bytes", "Memory that the mempool takes, bytes");
    describe_gauge!("cairn_mempool_transactions", "Transactions in the mempool");
    describe_gauge!(
        "cairn_db_pool_connections",
        "Connections to the database by what they are for and state; waiting: callers without one"
    );
    describe_counter!("cairn_cache_hits_total", "Values that the cache had, by layer");
    describe_gauge!(
        "cairn_jobs",
        "Tasks by queue and status; those to be tried again are queued, completed ones not counted"
    );
    describe_counter!("cairn_jobs_ended_total", "Tries of tasks that ended in this process, by type and outcome");
    describe_histogram!(JOB_DURATION, "Time that a try took, seconds");
    describe_gauge!("cairn_stamps_pending", "Digests that no block has yet");
    describe_gauge!("cairn_stamp_oldest_pending_seconds", "Age of the oldest of them, seconds");
}

/// Counters of one hot route, made once.
pub(crate) struct HotRoute {
    ok: Counter,
    refused: Counter,
    failed: Counter,
    duration: Histogram,
}

impl HotRoute {
    /// Handles of a route.
    pub(crate) fn new(method: &'static str, path: &'static str) -> HotRoute {
        // Handles made before the recorder is installed would count into nothing.
        let _ = recorder();
        let count = |status: &'static str| counter!(REQUESTS, "method" => method, "path" => path, "status" => status);
        HotRoute {
            ok: count("200"),
            refused: count("400"),
            failed: count("503"),
            duration: histogram!(DURATION, "method" => method, "path" => path),
        }
    }

    /// Notes an answer.
    pub(crate) fn note(&self, since: Instant, status: StatusCode) {
        let counter = match status.as_u16() {
            200 => &self.ok,
            400..=499 => &self.refused,
            _ => &self.failed,
        };
        counter.increment(1);
        self.duration.record(since.elapsed());
    }
}

/// Counts and times every other request.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let since = Instant::now();
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = method_name(request.method());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    counter!(REQUESTS, "method" => method, "path" => path.clone(), "status" => status).increment(1);
    histogram!(DURATION, "method" => method, "path" => path).record(since.elapsed());
    response
}

/// A method as a label: clients may send any word, and a label must not take any value.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// The metrics. For Prometheus; not a part of the documented API.
pub(crate) async fn metrics(State(watched): State<Watched>) -> Response {
    let Some(recorder) = recorder() else {
        return Problem::unavailable("another part of this process collects the metrics").into_response();
    };
    if let Some(node) = &watched.node {
        set_chain_gauges(node).await;
    }
    if let Some(store) = &watched.store {
        for pool in store.pool_statistics() {
            let role = pool.role.as_str();
            gauge!("cairn_db_pool_connections", "role" => role, "state" => "idle").set(pool.idle);
            gauge!("cairn_db_pool_connections", "role" => role, "state" => "used").set(pool.in_use);
            gauge!("cairn_db_pool_connections", "role" => role, "state" => "waiting").set(pool.waiting);
        }
        set_queue_gauges(store).await;
    }
    if let Some(cache) = &watched.cache {
        for (layer, hits) in cache.hits() {
            counter!("cairn_cache_hits_total", "layer" => layer.as_str()).absolute(hits);
        }
    }
    if let Some(calendar) = &watched.calendar {
        super::stamps::set_gauges(calendar).await;
    }
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], recorder.render()).into_response()
}

/// Gauges of the queues.
async fn set_queue_gauges(store: &Store) {
    let Ok(counts) = store.queue_counts().await else { return };
    // A queue that has become empty is not among them.
    static QUEUES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    queues.extend(counts.iter().map(|counts| counts.queue.clone()));
    for queue in queues.iter() {
        for status in [Status::Queued, Status::Running, Status::Discarded] {
            let found = counts.iter().find(|counts| counts.queue == *queue && counts.status == status);
            let value = found.map_or(0, |counts| usize::try_from(counts.count).unwrap_or(0));
            gauge!("cairn_jobs", "queue" => queue.clone(), "status" => status.as_str()).set(count(value));
        }
    }
}

/// Gauges of a node.
async fn set_chain_gauges(node: &Node) {
    let tip = node.chain.tip();
    gauge!("cairn_chain_height").set(tip.height);
    gauge!("cairn_chain_tip_age_seconds").set(node.now().saturating_sub(tip.header.time));
    gauge!("cairn_chain_headers").set(node.chain.best_header().height.max(tip.height));
    let network = node.network_summary().await.unwrap_or_default();
    let synchronised = node.synchronisation(Some(&network)).is_none();
    gauge!("cairn_chain_synchronised").set(f64::from(u8::from(synchronised)));
    gauge!("cairn_peers", "direction" => "inbound").set(count(network.inbound));
    gauge!("cairn_peers", "direction" => "outbound").set(count(network.outbound));
    gauge!("cairn_peer_addresses").set(count(network.addresses));
    gauge!("cairn_peer_bans").set(count(network.bans));
    counter!("cairn_peer_received_bytes_total").absolute(network.received);
    counter!("cairn_peer_sent_bytes_total").absolute(network.sent);
    let mempool = node.mempool.info();
    gauge!("cairn_mempool_bytes").set(count(mempool.usage));
    gauge!("cairn_mempool_transactions").set(count(mempool.size));
}

/// A count as a gauge's value; exact up to 2^32, which no count here reaches.
pub(crate) fn count(value: usize) -> f64 {
    u32::try_from(value).map_or(f64::INFINITY, f64::from)
}
