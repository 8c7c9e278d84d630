//! A process of the HTTP API without a chain: it serves from a database that others share.

use super::listeners::Listener;
use super::services::{self, Shared};
use super::signals::{serve_until, signal};
use crate::error::CliError;
use crate::settings::Resolved;
use cairn_api::{ApiConfig, Services};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// A running process.
pub(crate) struct StatelessServer {
    shared: Shared,
    config: ApiConfig,
    http: Listener,
}

impl StatelessServer {
    /// Starts it at `address`; it answers when this returns.
    pub(crate) async fn start(resolved: &Resolved, address: SocketAddr) -> Result<StatelessServer, CliError> {
        let http = Listener::bind(address, "--http").await?;
        let shared = Shared::open(resolved, http.address).await?;
        let config = services::api_config(resolved, ApiConfig::default())?;
        Ok(StatelessServer { shared, config, http })
    }

    /// Where HTTP is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address
    }

    /// Serves until a signal, then stops in order.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        let signalled = signal();
        let Shared { store, calendar, hashes } = &self.shared;
        let services = Services::new(store.clone(), calendar.clone(), hashes.clone(), self.config);
        let server = cairn_api::serve_services(self.http.socket, services, serving.clone());
        let served = serve_until(signalled, server, async { serving.cancel() }).await;
        self.shared.close().await;
        served.map_err(CliError::failed)
    }
}
