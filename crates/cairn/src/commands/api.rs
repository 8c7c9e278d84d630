//! `cairn api`: the HTTP API without a chain, over a database that several processes share.
//!
//! What runs: the store, the calendar's journal and HTTP. Stamps that it takes are anchored by whoever holds the stamper's
//! lease: a `cairn node --web` or a `cairn up` on the same database.

use super::serving;
use crate::cli::Global;
use crate::error::CliError;
use crate::server::StatelessServer;
use crate::{settings, terminal};
use std::net::SocketAddr;
use std::process::ExitCode;

/// Where it listens unless it is told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8200);

/// Arguments of `cairn api`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "DATABASE_URL names the database that all processes share; without it they share the file of the \
    data directory."
)]
pub(crate) struct Args {
    /// Where HTTP listens [default: 127.0.0.1:8200]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let resolved = settings::load(global)?;
    let address = args.http.or(resolved.settings.http.listen).unwrap_or(LISTEN);
    serving::run(&resolved, serving::Threads::OneACore, async {
        let server = StatelessServer::start(&resolved, address).await?;
        println!("{}", ready(&server, &resolved));
        server.run().await
    })
}

fn ready(server: &StatelessServer, resolved: &settings::Resolved) -> String {
    let addresses = terminal::aligned(&[
        ("network", resolved.settings.network.directory().to_owned()),
        ("HTTP API", format!("http://{}  (documentation at /api/docs)", server.http())),
        ("data", resolved.data_dir.display().to_string()),
    ]);
    format!("\ncairn {} is ready\n\n{addresses}\n", env!("CARGO_PKG_VERSION"))
}
