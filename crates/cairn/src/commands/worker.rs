//! `cairn worker`: does tasks that others enqueue, as many processes of it as are needed, over one database.
//!
//! What runs: the store, the worker with its lease, health and metrics.

use super::serving;
use crate::cli::Global;
use crate::error::CliError;
use crate::server::WorkerProcess;
use crate::{settings, terminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Where metrics and health are unless it is told otherwise.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9201);
/// Seconds that tasks have to end.
const DRAIN: u64 = 30;

/// Arguments of `cairn worker`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "DATABASE_URL names the database that all processes share; without it they share the file of the \
    data directory."
)]
pub(crate) struct Args {
    /// Tasks that compute at once [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Where metrics and health listen [default: 127.0.0.1:9201]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Seconds that tasks have to end when it stops; what does not end by then is given back [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let resolved = settings::load(global)?;
    let set = &resolved.settings.worker;
    let concurrency = args.concurrency.map(usize::from).or(set.concurrency);
    if concurrency == Some(0) {
        return Err(
            CliError::usage("a worker without concurrency does nothing").remedy("set worker.concurrency to 1 or more")
        );
    }
    let metrics = args.metrics.or(set.metrics).unwrap_or(METRICS);
    let drain = Duration::from_secs(args.drain.or(set.drain).unwrap_or(DRAIN));
    serving::run(&resolved, serving::Threads::OneACore, async {
        let process = WorkerProcess::start(&resolved, metrics, concurrency, drain).await?;
        let addresses = terminal::aligned(&[
            ("network", resolved.settings.network.directory().to_owned()),
            ("metrics", format!("http://{}/metrics  (health at /api/health)", process.metrics())),
            ("data", resolved.data_dir.display().to_string()),
        ]);
        println!("\ncairn {} is ready\n\n{addresses}\n", env!("CARGO_PKG_VERSION"));
        process.run().await
    })
}
