//! The HTTP server: routes, and what every request passes through.
//!
//! | module | holds |
//! |---|---|
//! | [`problem`] | errors as RFC 9457 documents |
//! | `auth` | API keys |
//! | [`health`] | live and ready |
//! | [`chain`], [`transactions`], [`search`] | reading the chain |
//! | [`peers`] | the network |
//! | `events` | server-sent events |
//! | `calendar` | the OpenTimestamps calendar protocol: the hot routes, with nothing in front of them |
//! | [`submit`], `upload` | stamping over JSON, uploads and bulk |
//! | [`stamps`] | states and proofs |
//! | [`hashes`] | hashes as tasks |
//! | [`stats`] | the cache's and the database's numbers |
//! | [`verify`] | what a proof proves |
//! | `index` | the page at `/` |
//! | [`wallet`] | the wallet, for holders of its key |
//! | [`admin`] | mining, for holders of the admin key |
//! | `metrics` | Prometheus |
//! | `openapi` | the document and its page |

pub mod admin;
pub(crate) mod auth;
mod calendar;
pub mod chain;
pub(crate) mod events;
pub mod hashes;
pub mod health;
mod index;
pub(crate) mod metrics;
mod openapi;
pub mod peers;
pub mod problem;
pub mod search;
pub mod stamps;
pub mod stats;
pub mod submit;
pub mod transactions;
mod upload;
pub mod verify;
pub mod wallet;

use crate::config::ApiConfig;
use crate::state::{AppState, Monitored, Services, Watched};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use problem::Problem;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; none on the last one.
    pub next_cursor: Option<String>,
}

/// Runs what blocks on a blocking thread, of which only so many are used at once.
pub(crate) async fn blocking<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce(&AppState) -> T + Send + 'static,
) -> Result<T, Problem> {
    let Ok(place) = state.readers.clone().try_acquire_owned() else {
        return Err(Problem::unavailable("too many requests read the chain at once: try again shortly"));
    };
    let state = state.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _held = place;
        work(&state)
    });
    done.await.map_err(|error| Problem::internal(&error))
}

/// Request ids: a random prefix of this process and a counter.
#[derive(Clone)]
struct Ids(Arc<(u64, AtomicU64)>);

impl MakeRequestId for Ids {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        let id = format!("{:016x}-{:x}", self.0.0, self.0.1.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).ok().map(RequestId::new)
    }
}

/// Routes that need no chain, and the document that all are written into.
fn service_routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Services: FromRef<S>,
    Watched: FromRef<S>,
{
    OpenApiRouter::with_openapi(openapi::Frame::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(stamps::status))
        .routes(routes!(stamps::proof))
        .routes(routes!(hashes::hashes))
        .routes(routes!(stats::cache))
        .routes(routes!(stats::clear))
        .routes(routes!(stats::pools))
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
}

/// Those of them that may take longer than an ordinary request.
fn long_service_routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Services: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(submit::stamp)).routes(routes!(hashes::hash)).routes(routes!(hashes::task))
}

/// Routes that read or change the chain.
fn chain_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(chain::blockchain))
        .routes(routes!(chain::blocks))
        .routes(routes!(chain::block))
        .routes(routes!(transactions::transaction))
        .routes(routes!(transactions::mempool))
        .routes(routes!(peers::peers, peers::add))
        .routes(routes!(peers::remove))
        .routes(routes!(search::search))
        .routes(routes!(verify::verify))
        .routes(routes!(wallet::wallets))
        .routes(routes!(wallet::addresses, wallet::new_address))
        .routes(routes!(wallet::balance))
        .routes(routes!(wallet::transactions))
        .routes(routes!(wallet::send))
        .routes(routes!(admin::mining))
        .routes(routes!(admin::set_share))
        .routes(routes!(admin::stop))
        .route("/", get(index::index))
}

/// Those of them that may take longer: streams, mining.
fn long_chain_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events::events)).routes(routes!(admin::start)).routes(routes!(admin::generate))
}

/// The whole HTTP interface.
pub fn router(state: AppState) -> Router {
    let ordinary = service_routes().merge(chain_routes());
    let long = long_service_routes().merge(long_chain_routes());
    assembled(ordinary, long, &state.services.config).with_state(state)
}

/// The HTTP interface of a process without a chain.
pub fn services(services: Services) -> Router {
    assembled(service_routes(), long_service_routes(), &services.config).with_state(services)
}

/// Routes with their document and with what every request passes through.
fn assembled<S>(ordinary: OpenApiRouter<S>, long: OpenApiRouter<S>, config: &ApiConfig) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Services: FromRef<S>,
{
    // Counters that are made before the recorder count into nothing.
    let _ = metrics::recorder();
    let limit = config.request_timeout();
    let (ordinary, mut document) = ordinary.split_for_parts();
    let (long, more) = long.split_for_parts();
    document.merge(more);
    let (hot, more) = calendar::router().split_for_parts();
    document.merge(more);

    let ordinary = ordinary
        .merge(openapi::router(document))
        .layer(DefaultBodyLimit::max(config.max_body_bytes))
        .layer(from_fn(move |request: Request, next: Next| problem::time_out(limit, request, next)));
    wrapped(ordinary.merge(long)).merge(hot.method_not_allowed_fallback(problem::method_not_allowed))
}

/// Health and metrics of a process that serves nothing else.
pub fn monitoring(monitored: Monitored, closing: CancellationToken) -> Router {
    let _ = metrics::recorder();
    let routes = Router::new()
        .route("/health", get(health::health))
        .route("/api/health", get(health::health))
        .route("/api/health/live", get(health::live))
        .route("/api/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics));
    wrapped(routes).with_state(Watched::new(monitored, closing))
}

/// What every request passes through, those of the calendar excepted.
fn wrapped<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let id_header = HeaderName::from_static("x-request-id");
    let ids = Ids(Arc::new((rand::random(), AtomicU64::new(1))));
    routes
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(metrics::measure))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(PropagateRequestIdLayer::new(id_header.clone()))
        .layer(SetRequestIdLayer::new(id_header, ids))
}
