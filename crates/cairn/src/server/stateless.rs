//! A process of the HTTP API without a chain: it serves from a database that others share.

use super::chain::create_private_dir;
use super::listeners::Listener;
use super::services;
use super::signals::signal;
use crate::error::CliError;
use crate::settings::Resolved;
use cairn_api::{ApiConfig, Services};
use cairn_hashing::Hashes;
use cairn_jobs::Jobs;
use cairn_stamp::Calendar;
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// A running process.
pub(crate) struct StatelessServer {
    services: Services,
    http: Listener,
}

impl StatelessServer {
    /// Starts it at `address`; it answers when this returns.
    pub(crate) async fn start(resolved: &Resolved, address: SocketAddr) -> Result<StatelessServer, CliError> {
        let http = Listener::bind(address, "--http").await?;
        create_private_dir(&resolved.data_dir)?;
        create_private_dir(&resolved.network_dir())?;
        let config = services::api_config(resolved, ApiConfig::default())?;
        let store = services::open_store(resolved).await?;
        let calendar = services::calendar_config(resolved, http.address);
        let calendar = Calendar::start(store.clone(), calendar).await.map_err(CliError::failed)?;
        let cache = services::cache(resolved, &store)?;
        let hashes = Hashes::new(Jobs::new(store.clone()), calendar.clone()).with_cache(cache);
        Ok(StatelessServer { services: Services::new(store, calendar, hashes, config), http })
    }

    /// Where HTTP is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address
    }

    /// Serves until a signal, then stops in order.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        let signalled = signal();
        let served = {
            let server = cairn_api::serve_services(self.http.socket, self.services.clone(), serving.clone());
            tokio::pin!(server);
            tokio::select! {
                result = &mut server => result,
                () = signalled => {
                    eprintln!("stopping…");
                    serving.cancel();
                    server.await
                }
            }
        };
        self.services.calendar.stop().await;
        self.services.hashes.cache().flush().await;
        self.services.store.close().await;
        served.map_err(CliError::failed)
    }
}
