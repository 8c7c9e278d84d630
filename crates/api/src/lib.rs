//! Every HTTP surface: REST, the OpenTimestamps calendar, events, metrics, and Bitcoin Core's JSON-RPC.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what an operator may set |
//! | [`keys`] | keys: made, kept and compared |
//! | [`state`] | what the handlers share |
//! | [`http`] | the HTTP routes |
//! | [`rpc`] | JSON-RPC |
//!
//! The binary boots it with [`serve_http`] and [`serve_rpc`]; a node without services has [`serve_monitoring`] instead of
//! the former, and a process without a chain [`serve_services`] alone. It has no logic: it authenticates, validates, calls a room and renders. It may not know SQL, and it may not
//! block the event loop: what reads disks or validates goes to blocking threads.

pub mod config;
pub mod http;
pub mod keys;
pub mod rpc;
mod serve;
pub mod state;

pub use config::ApiConfig;
pub use keys::{KeyError, load_or_create_key};
pub use rpc::auth::Cookie;

pub use state::{AppState, Monitored, Services};

use axum::Router;
use cairn_node::Node;
use rpc::auth::Credentials;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why a server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A key that must not be used here.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Serves HTTP until `shutdown`, then lets open requests end.
pub async fn serve_http(listener: TcpListener, state: AppState, shutdown: CancellationToken) -> Result<(), ApiError> {
    let services = state.services.clone();
    let events = tokio::spawn(state.clone().publish_events());
    let served = serve_router(listener, http::router(state), &services, shutdown).await;
    events.abort();
    served
}

/// Serves HTTP of a process without a chain until `shutdown`, then lets open requests end.
pub async fn serve_services(
    listener: TcpListener,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    serve_router(listener, http::services(services.clone()), &services, shutdown).await
}

async fn serve_router(
    listener: TcpListener,
    router: Router,
    services: &Services,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    let config = &services.config;
    config.check_exposure(listener.local_addr()?)?;
    let close = async {
        shutdown.cancelled().await;
        services.closing.cancel();
    };
    let served = serve::serve(listener, router, shutdown.clone(), config.drain());
    let (served, (), ()) = tokio::join!(served, close, http::metrics::upkeep(&shutdown));
    Ok(served?)
}

/// Serves health and metrics of a process without an HTTP API until `shutdown`, then lets open requests end, at most for `drain`.
pub async fn serve_monitoring(
    listener: TcpListener,
    watched: Monitored,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    let router = http::monitoring(watched, shutdown.clone());
    let served = serve::serve(listener, router, shutdown.clone(), drain);
    let (served, ()) = tokio::join!(served, http::metrics::upkeep(&shutdown));
    Ok(served?)
}

/// Serves JSON-RPC until `shutdown`. The holder of `cookie` may call, and so may the configured user. Its `stop` cancels
/// `stop`; the binary waits for it.
pub async fn serve_rpc(
    listener: TcpListener,
    node: Arc<Node>,
    config: &ApiConfig,
    cookie: &Cookie,
    stop: CancellationToken,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    let mut credentials = Credentials::default();
    credentials.allow_cookie(cookie);
    if let (Some(user), Some(password)) = (&config.rpc_user, &config.rpc_password) {
        credentials.allow(user, password);
    }
    let context = rpc::Context::new(node, stop, shutdown.clone());
    let server = rpc::server::Server::new(context, credentials, config.rpc_threads.max(1), config.rpc_work_queue);
    Ok(serve::serve(listener, server.router(), shutdown, config.drain()).await?)
}
