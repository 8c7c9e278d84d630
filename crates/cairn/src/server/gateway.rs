//! A process of the load balancer.

use super::chain::create_private_dir;
use super::services;
use super::signals::{hangups, signal};
use crate::error::CliError;
use crate::settings::Resolved;
use cairn_api::ApiConfig;
use cairn_gateway::{Database, Gateway, GatewayError, Keys};

/// A running process.
pub(crate) struct GatewayServer {
    gateway: Gateway,
}

impl GatewayServer {
    /// Starts it; it answers when this returns.
    pub(crate) async fn start(resolved: &Resolved) -> Result<GatewayServer, CliError> {
        create_private_dir(&resolved.data_dir)?;
        let keys = services::api_config(resolved, ApiConfig::default())?;
        let config = resolved.settings.gateway.clone();
        for listen in [Some(config.listen), config.tls_listen].into_iter().flatten() {
            keys.check_exposure(listen).map_err(CliError::failed)?;
        }
        let (database, redis) = (database(resolved)?, resolved.limits_redis()?);
        let gateway = Gateway::start(config, &Keys { admin: keys.admin_key, wallet: keys.wallet_key }, database, redis)
            .await
            .map_err(failed)?;
        Ok(GatewayServer { gateway })
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Serves until a signal, then lets open requests end. At each SIGHUP `load` reads the configuration anew.
    pub(crate) async fn run(self, load: impl Fn() -> Result<Resolved, CliError>) -> Result<(), CliError> {
        let signalled = signal();
        tokio::pin!(signalled);
        let mut hangups = hangups();
        loop {
            tokio::select! {
                () = &mut signalled => break,
                () = hangups.next() => self.reload(&load).await,
            }
        }
        eprintln!("stopping…");
        self.gateway.stop().await;
        Ok(())
    }

    async fn reload(&self, load: impl Fn() -> Result<Resolved, CliError>) {
        let reloaded = match load() {
            Ok(resolved) => self.gateway.reload(resolved.settings.gateway).await.map_err(failed),
            Err(error) => Err(error),
        };
        // A mistake in a file must not end a process that serves.
        if let Err(error) = reloaded {
            eprintln!("cairn: the configuration stays as it was: {error}");
        }
    }
}

/// The database that gateways share, where there is one: it was named, or other processes have made it here.
fn database(resolved: &Resolved) -> Result<Option<Database>, CliError> {
    let made = resolved.network_dir().join("cairn.sqlite").exists();
    if resolved.settings.database.url.is_none() && !made {
        return Ok(None);
    }
    Ok(Some(Database { options: services::store_options(resolved)?, url: resolved.database_url() }))
}

fn failed(error: GatewayError) -> CliError {
    let remedy = match &error {
        GatewayError::Listen { .. } => Some("stop what listens there, or choose another address with --http"),
        GatewayError::Tls(_) => Some("check gateway.tls_certificate and gateway.tls_key"),
        GatewayError::AccessLog { .. } => Some("check gateway.access_log"),
        _ => None,
    };
    let failed = CliError::failed(error);
    match remedy {
        Some(remedy) => failed.remedy(remedy),
        None => failed,
    }
}
