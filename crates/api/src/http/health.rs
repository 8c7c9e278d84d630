//! Health: does the event loop answer, and may traffic come?

use super::problem::Problem;
use crate::state::Watched;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cairn_node::Node;
use cairn_p2p::net::Summary;
use cairn_store::Store;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Blocks without a new one after which a mining network counts as stuck.
const MISSED_BLOCKS: u32 = 10;
/// How long the database has to answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// That it lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// Always `ok`.
    status: &'static str,
}

/// The event loop answers.
#[utoipa::path(get, path = "/api/health/live", tag = "health", responses((status = 200, body = Live)))]
pub(crate) async fn live() -> Json<Live> {
    Json(Live { status: "ok" })
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// Which one.
    name: &'static str,
    /// Whether it is so.
    ok: bool,
    /// What is known of it.
    detail: String,
}

/// That it works.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`.
    status: &'static str,
    /// What was looked at.
    checks: Vec<Check>,
}

/// Health with what it was made from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Version of the program.
    version: &'static str,
    /// `main`, `test4`, `signet` or `regtest`; none for a process without a chain, like what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'static str>,
    /// Height of the tip.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// Hash of the tip.
    #[serde(skip_serializing_if = "Option::is_none")]
    tip: Option<String>,
    /// Seconds since the node was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    /// What was looked at.
    checks: Vec<Check>,
}

async fn checks(watched: &Watched) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(node) = &watched.node {
        let network = node.network_summary().await;
        if node.networking().is_some_and(|networking| networking.given_peers) {
            checks.push(peers_check(network.as_ref()));
        }
        checks.push(best_header(node, network.as_ref()));
        checks.push(tip_age(node));
    }
    if let Some(store) = &watched.store {
        checks.insert(0, database(store).await);
    }
    if let Some(calendar) = &watched.calendar {
        checks.push(super::stamps::readiness(calendar).await);
    }
    checks
}

async fn database(store: &Store) -> Check {
    match tokio::time::timeout(DATABASE_TIMEOUT, store.ping()).await {
        Ok(Ok(())) => Check { name: "database", ok: true, detail: "the database answers".into() },
        Ok(Err(error)) => Check { name: "database", ok: false, detail: error.to_string() },
        Err(_) => {
            let detail = format!("the database did not answer in {} s", DATABASE_TIMEOUT.as_secs());
            Check { name: "database", ok: false, detail }
        }
    }
}

/// The node is at the best header that its peers know: what they tell of is in its own tree, or is being proven.
fn best_header(node: &Node, network: Option<&Summary>) -> Check {
    let (ok, detail) = match node.synchronisation(network) {
        None => (true, format!("at the best header, height {}", node.chain.tip().height)),
        Some(far) => (false, format!("at height {}, the best header is at {}", far.height, far.headers)),
    };
    Check { name: "chain", ok, detail }
}

/// A node that was given peers has one, and has heard which chain that one is on.
fn peers_check(network: Option<&Summary>) -> Check {
    let (connected, heard) = network.map_or((0, 0), |network| (network.inbound + network.outbound, network.heard));
    let detail = match (connected, heard) {
        (0, _) => "none of the peers that it was given is connected".to_owned(),
        (connected, 0) => format!("{connected} connected, none of which has told its headers yet"),
        (connected, _) => format!("{connected} connected"),
    };
    Check { name: "peers", ok: heard > 0, detail }
}

/// With a block time, blocks come.
fn tip_age(node: &Node) -> Check {
    let block_time = node.mining().pace.block_time;
    let age = u64::from(node.now().saturating_sub(node.chain.tip().header.time));
    let uptime = node.uptime().as_secs();
    tip_age_check(block_time, age, uptime)
}

fn tip_age_check(block_time: Duration, age: u64, uptime: u64) -> Check {
    // In whole seconds, as header times are.
    let limit = (block_time * MISSED_BLOCKS).as_secs().max(1);
    let ok = block_time.is_zero() || uptime <= limit || age <= limit;
    let detail = if block_time.is_zero() {
        format!("blocks are made on demand only; the tip is {age} s old")
    } else {
        format!("the tip is {age} s old; {limit} s are allowed")
    };
    Check { name: "tip_age", ok, detail }
}

fn not_ready(checks: &[Check]) -> Problem {
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    let why: Vec<String> = failed.iter().map(|check| format!("{}: {}", check.name, check.detail)).collect();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.join("; "))
        .of_kind("not-ready", "Not ready")
        .with("checks", serde_json::to_value(checks).unwrap_or_default())
}

/// Whether traffic may come: the node is at the best header that its peers know, it has a peer if it was given any, and
/// blocks come if they are to; where there are services, the database answers and stamping is not stalled.
#[utoipa::path(
    get, path = "/api/health/ready", tag = "health",
    responses((status = 200, body = Ready), (status = 503, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn ready(State(watched): State<Watched>) -> Result<Json<Ready>, Problem> {
    let checks = checks(&watched).await;
    if watched.closing.is_cancelled() {
        return Err(Problem::unavailable("the server is stopping").of_kind("not-ready", "Not ready"));
    }
    if checks.iter().all(|check| check.ok) {
        Ok(Json(Ready { status: "ready", checks }))
    } else {
        Err(not_ready(&checks))
    }
}

/// Everything of interest at once.
///
/// Always 200 while the process lives; `/api/health/ready` decides over traffic.
#[utoipa::path(get, path = "/api/health", tag = "health", responses((status = 200, body = Health)))]
pub(crate) async fn health(State(watched): State<Watched>) -> Json<Health> {
    let checks = checks(&watched).await;
    let node = watched.node.as_deref();
    let tip = node.map(|node| node.chain.tip());
    Json(Health {
        status: if checks.iter().all(|check| check.ok) { "ready" } else { "not_ready" },
        version: env!("CARGO_PKG_VERSION"),
        network: node.map(|node| crate::rpc::chain_name(node.chain.params().network)),
        height: tip.as_ref().map(|tip| tip.height),
        tip: tip.map(|tip| tip.hash.to_string()),
        uptime_seconds: node.map(|node| node.uptime().as_secs()),
        checks,
    })
}

impl Check {
    /// A check with its outcome.
    pub(crate) fn new(name: &'static str, ok: bool, detail: String) -> Check {
        Check { name, ok, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_is_too_old_after_ten_block_times() {
        let ten = Duration::from_secs(10);
        assert!(tip_age_check(ten, 100, 1000).ok);
        assert!(!tip_age_check(ten, 101, 101).ok);
        assert!(tip_age_check(ten, 5000, 100).ok, "just started");
        assert!(tip_age_check(Duration::ZERO, 5000, 5000).ok, "on demand");
    }

    #[test]
    fn a_peer_counts_once_its_headers_are_known() {
        let connected = Summary { outbound: 1, ..Summary::default() };
        assert!(!peers_check(None).ok);
        assert!(!peers_check(Some(&Summary::default())).ok);
        assert!(!peers_check(Some(&connected)).ok);
        assert!(peers_check(Some(&Summary { heard: 1, ..connected })).ok);
    }

    #[test]
    fn not_ready_names_what_is_not_so() {
        let checks = [Check::new("database", true, "fine".into()), Check::new("tip_age", false, "old".into())];
        let problem = not_ready(&checks);
        assert_eq!((problem.status, problem.detail.as_str()), (503, "tip_age: old"));
    }
}
