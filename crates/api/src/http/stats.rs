//! `GET /cache/stats`, `POST /cache/clear`, `GET /db/pool/stats`: what operators look at.

use super::auth::Admin;
use super::problem::Problem;
use crate::state::Services;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cairn_store::cache::LayerStatistics;
use cairn_store::{PoolStatistics, RedisState};
use serde::Serialize;
use utoipa::ToSchema;

/// A layer of the cache. Hits and misses are of this process since its start.
#[derive(Debug, Serialize, ToSchema)]
pub struct LayerView {
    /// `memory` of this process; `redis` or `database`, which all processes share.
    layer: &'static str,
    /// Values that it had.
    hits: u64,
    /// Values that it had not, or no more.
    misses: u64,
    /// Entries, some of which may have expired; in Redis all keys of the database.
    entries: u64,
    /// Bytes of keys and values; in Redis all memory in use.
    bytes: u64,
    /// Entries that made room for others before they expired; in Redis since its start.
    evictions: u64,
}

/// Redis, where the cache is on it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedisView {
    /// `up`, `away`, or `unused` while nobody has asked it.
    state: &'static str,
    /// Why it is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The cache.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheView {
    /// Hits of all layers.
    hits: u64,
    /// Values that no layer had.
    misses: u64,
    /// `hits` of `hits` and `misses`, 0 to 1; none before the first.
    hit_rate: Option<f64>,
    /// The layers that answer: a value that one has not is looked for in the next.
    layers: Vec<LayerView>,
    /// Redis, where the cache is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisView>,
}

/// A pool of connections to the database.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolView {
    /// `writer`, `reader` or `replica`.
    role: &'static str,
    /// Most connections.
    max: u32,
    /// Connections that are open or being opened.
    size: u32,
    /// Those that nobody uses.
    idle: u32,
    /// Those that somebody uses.
    in_use: u32,
    /// Callers that wait for one.
    waiting: u32,
    /// How often one was got since the start.
    acquired: u64,
    /// How often none could be got in time.
    failed: u64,
    /// How long callers have waited for all those, in seconds; opening and testing connections included.
    acquire_wait_seconds: f64,
}

/// The replica of the database.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplicaView {
    /// Reads go there now.
    used: bool,
    /// How far behind it may be, in seconds, if that is known.
    lag_seconds: Option<f64>,
    /// Why reads go to the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The connections of this process to the database.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolsView {
    /// Connections of all pools that are open or being opened.
    size: u32,
    /// Those that nobody uses.
    idle: u32,
    /// Those that somebody uses.
    in_use: u32,
    /// Callers that wait for one.
    waiting: u32,
    /// Each pool.
    pools: Vec<PoolView>,
    /// The replica, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<ReplicaView>,
}

impl From<LayerStatistics> for LayerView {
    fn from(layer: LayerStatistics) -> Self {
        let LayerStatistics { layer, hits, misses, entries, bytes, evictions } = layer;
        LayerView { layer: layer.as_str(), hits, misses, entries, bytes, evictions }
    }
}

impl From<PoolStatistics> for PoolView {
    fn from(pool: PoolStatistics) -> Self {
        PoolView {
            role: pool.role.as_str(),
            max: pool.max,
            size: pool.size,
            idle: pool.idle,
            in_use: pool.in_use,
            waiting: pool.waiting,
            acquired: pool.acquired,
            failed: pool.failed,
            acquire_wait_seconds: pool.acquire_wait.as_secs_f64(),
        }
    }
}

/// The cache's numbers.
#[utoipa::path(get, path = "/cache/stats", tag = "hash", responses((status = 200, body = CacheView)))]
pub(crate) async fn cache(State(services): State<Services>) -> Json<CacheView> {
    let statistics = services.hashes.cache().statistics().await;
    let hits = statistics.layers.iter().map(|layer| layer.hits).sum();
    let misses = statistics.layers.last().map_or(0, |layer| layer.misses);
    let asked = hits + misses;
    let redis = statistics.redis.map(|state| match state {
        RedisState::Up => RedisView { state: "up", reason: None },
        RedisState::Unused => RedisView { state: "unused", reason: None },
        RedisState::Away(reason) => RedisView { state: "away", reason: Some(reason) },
    });
    Json(CacheView {
        hits,
        misses,
        #[allow(clippy::cast_precision_loss, reason = "a rate is shown with a few digits")]
        hit_rate: (asked > 0).then(|| hits as f64 / asked as f64),
        layers: statistics.layers.into_iter().map(LayerView::from).collect(),
        redis,
    })
}

/// Forget all that is cached, in all processes within a second.
#[utoipa::path(
    post, path = "/cache/clear", tag = "hash", security(("api_key" = [])),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "What all processes share does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn clear(_: Admin, State(services): State<Services>) -> Result<StatusCode, Problem> {
    let cleared = services.hashes.cache().clear().await;
    cleared.map_err(|error| Problem::unavailable(format!("only this process has forgotten: {error}")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The connections of this process to the database.
#[utoipa::path(get, path = "/db/pool/stats", tag = "hash", responses((status = 200, body = PoolsView)))]
pub(crate) async fn pools(State(services): State<Services>) -> Json<PoolsView> {
    let pools = services.store.pool_statistics();
    let sum = |of: fn(&PoolStatistics) -> u32| pools.iter().map(of).sum();
    let replica = services.store.replica_status().map(|status| ReplicaView {
        used: status.used,
        lag_seconds: status.lag.map(|lag| lag.as_secs_f64()),
        reason: status.reason,
    });
    Json(PoolsView {
        size: sum(|pool| pool.size),
        idle: sum(|pool| pool.idle),
        in_use: sum(|pool| pool.in_use),
        waiting: sum(|pool| pool.waiting),
        replica,
        pools: pools.iter().copied().map(PoolView::from).collect(),
    })
}
