//! `cairn gateway`: the load balancer in front of API processes.
//!
//! What runs: the gateway, and a connection to the database where the gateways share one. SIGHUP reads the configuration
//! anew, with the certificate, and opens the access log anew.

use super::serving;
use crate::cli::Global;
use crate::error::CliError;
use crate::server::GatewayServer;
use crate::settings::{self, Resolved};
use crate::terminal;
use cairn_gateway::{BackendSpec, Config, Strategy};
use std::net::SocketAddr;
use std::process::ExitCode;

/// Arguments of `cairn gateway`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "SIGHUP reads the configuration anew without dropping a request.")]
pub(crate) struct Args {
    /// A process that requests go to, by address or by a name that stands for all of its addresses; may be given several
    /// times
    #[arg(long, value_name = "HOST:PORT[ weight=N]", value_delimiter = ',')]
    backend: Vec<BackendSpec>,
    /// Where HTTP listens [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// How a backend is chosen: round_robin, least_connections or power_of_two [default: round_robin]
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<Strategy>,
}

impl Args {
    /// The configuration with these flags on top.
    fn resolve(&self, global: &Global) -> Result<Resolved, CliError> {
        let mut resolved = settings::load(global)?;
        let config = &mut resolved.settings.gateway;
        config.listen = self.http.unwrap_or(config.listen);
        config.strategy = self.strategy.unwrap_or(config.strategy);
        if !self.backend.is_empty() {
            config.backends.clone_from(&self.backend);
        }
        config.validate().map_err(|error| {
            CliError::usage(format!("configuration: {error}")).remedy("docs/configuration.md lists every key")
        })?;
        Ok(resolved)
    }
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let resolved = args.resolve(global)?;
    if resolved.settings.gateway.backends.is_empty() {
        return Err(CliError::usage("the gateway has no backends")
            .remedy("give --backend HOST:PORT, or gateway.backends in the configuration"));
    }
    // Requests are moved by threads of the gateway's own.
    serving::run(&resolved, serving::Threads::One, async {
        let server = GatewayServer::start(&resolved).await?;
        println!("{}", ready(&server, &resolved.settings.gateway));
        server.run(|| args.resolve(global)).await
    })
}

fn ready(server: &GatewayServer, config: &Config) -> String {
    let (up, all) = server.gateway().backends();
    let mut rows = vec![("HTTP", format!("http://{}  (statistics at /lb/stats)", server.gateway().http()))];
    if let Some(https) = server.gateway().https() {
        rows.push(("HTTPS", format!("https://{https}")));
    }
    let names: Vec<_> = config.backends.iter().map(ToString::to_string).collect();
    rows.push(("backends", format!("{}  ({up} of {all} healthy)", names.join(", "))));
    rows.push(("strategy", server.gateway().strategy().to_string()));
    format!("\ncairn {} is ready\n\n{}\n", env!("CARGO_PKG_VERSION"), terminal::aligned(&rows))
}
