//! `cairn up`: everything in one process on embedded defaults.
//!
//! What runs: the node (chain, mempool, block producer), the store, the wallet, the calendar and its stamper, HTTP and
//! JSON-RPC. They start from the bottom up and stop from the top down.

use crate::cli::Global;
use crate::error::CliError;
use crate::server::{self, Server};
use crate::settings;
use crate::terminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Make the block index and the coins anew from the block files
    #[arg(long)]
    reindex: bool,
    /// MiB of block files to keep: 0 keeps all, 1 prunes only when `pruneblockchain` says so, 550 or more by itself
    /// [default: 0]
    #[arg(long, value_name = "MIB")]
    prune: Option<u64>,
    /// A snapshot of the coins that `loadtxoutset` may load, besides those that the network's parameters name; may be
    /// given several times
    #[arg(long, value_name = "HEIGHT:BLOCKHASH:COINSHASH:TRANSACTIONS")]
    assume_utxo: Vec<String>,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let mut resolved = settings::load(global)?;
    let settings = &mut resolved.settings;
    settings.mining.block_time = args.block_time.or(settings.mining.block_time);
    settings.http.listen = args.http.or(settings.http.listen);
    settings.rpc.listen = args.rpc.or(settings.rpc.listen);
    settings.chain.prune = args.prune.unwrap_or(settings.chain.prune);
    settings.chain.assume_utxo.extend(args.assume_utxo);
    resolved.reindex = args.reindex;
    let settings = &resolved.settings;
    let block_time = block_time(settings.mining.block_time)?;
    crate::logging::start(&resolved.settings.log)?;
    // Memory that a load leaves unused goes back to the system though nobody allocates any more.
    let background = || {
        tikv_jemalloc_ctl::max_background_threads::write(1)?;
        tikv_jemalloc_ctl::background_thread::write(true)
    };
    if let Err(error) = background() {
        tracing::warn!(%error, "the allocator keeps the memory of a load until the next one");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // A blocking thread that is not used goes after this, and its stack with it.
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .map_err(|error| CliError::failed(format!("the runtime did not start: {error}")))?;
    let result = runtime.block_on(async {
        let server = Server::start(&resolved, block_time).await?;
        println!("{}", banner(&server));
        server.run().await
    });
    // Whatever still blocks has nothing to say any more: the rooms are closed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

/// The time between blocks: a decimal number of seconds that a clock can count.
fn block_time(seconds: Option<f64>) -> Result<Duration, CliError> {
    let seconds = seconds.unwrap_or(server::DEFAULT_BLOCK_TIME);
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= server::MAX_BLOCK_TIME => Ok(time),
        _ => Err(CliError::usage(format!("{seconds} is no time between blocks"))
            .remedy("give seconds from 0 (only on demand) to 86400")),
    }
}

/// What is printed once everything answers.
fn banner(server: &Server) -> String {
    let (http, rpc) = (server.http(), server.rpc());
    let addresses = terminal::aligned(&[
        ("network", server.network().to_string()),
        ("HTTP API", format!("http://{http}  (documentation at /api/docs)")),
        ("JSON-RPC", format!("http://{rpc}  (cookie in {})", server.cookie().display())),
        ("data", server.data_dir().display().to_string()),
        ("blocks", server.schedule()),
    ]);
    // `./run` says how it was called, since a program that it built is on nobody's path.
    let command = std::env::var(settings::COMMAND_VARIABLE).unwrap_or_else(|_| "cairn".into());
    let flag = if http.port() == 8080 { String::new() } else { format!(" --server http://{http}") };
    format!(
        "\ncairn {} is ready\n\n{addresses}\n\nTry next:\n  {command} stamp --wait README.md{flag}\n  {command} verify README.md{flag}\n  \
         curl http://{http}/api/v1/blockchain\n\nCtrl-C stops it.",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_times_are_seconds() {
        assert_eq!(block_time(None).expect("the default"), Duration::from_secs(10));
        assert_eq!(block_time(Some(0.0)).expect("on demand"), Duration::ZERO);
        assert_eq!(block_time(Some(0.25)).expect("a quarter"), Duration::from_millis(250));
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 86_400.1] {
            assert!(block_time(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
