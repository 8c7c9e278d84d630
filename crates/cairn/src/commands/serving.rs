//! What the serving commands share: the flags of those that keep a chain, the process around a server, and what it prints
//! when it is ready.

use crate::cli::Global;
use crate::error::CliError;
use crate::server::{self, Role, Server};
use crate::settings::{self, Resolved};
use crate::terminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;

/// Flags of every command that keeps a chain.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Seconds between the network's blocks; 0 mines only on demand [default: 10; on a signet of one's own what
    /// --signet-block-time says]
    #[arg(long, value_name = "SECONDS")]
    block_time: Option<f64>,
    /// Share of the network's blocks that this miner makes, above 0 and at most 1: those of all miners should sum to 1
    /// [default: 1]
    #[arg(long, value_name = "FRACTION")]
    share: Option<f64>,
    /// How the times between blocks are spread: as a Poisson process, as in life, or all alike [default: poisson]
    #[arg(long, value_name = "PACING", value_parser = ["poisson", "fixed"])]
    pacing: Option<String>,
    /// Where the rewards go [default: the wallet]
    #[arg(long, value_name = "ADDRESS")]
    mining_address: Option<String>,
    /// Where HTTP listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where JSON-RPC listens [default: 127.0.0.1 and Bitcoin Core's port for the network, 18443 on regtest]
    #[arg(long, value_name = "ADDR")]
    rpc: Option<SocketAddr>,
    /// Where peers are listened for [default: 127.0.0.1 and 2001, 2101 for a webserver that does not mine, on regtest;
    /// Bitcoin Core's port elsewhere]
    #[arg(long, value_name = "ADDR")]
    p2p: Option<SocketAddr>,
    /// A peer to be connected with, by address or name; may be given several times
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    connect: Vec<String>,
    /// Begin with a snapshot of the coins, a file or an http(s) URL; taken only if its block and the hash of its coins are known
    #[arg(long, value_name = "FILE|URL")]
    snapshot: Option<String>,
    /// Challenge of a signet of one's own, in hex, as Bitcoin Core's -signetchallenge; with --network signet
    #[arg(long, value_name = "HEX")]
    signet_challenge: Option<String>,
    /// Seconds between blocks that a signet of one's own aims at, as Bitcoin Knots' -signetblocktime [default: 600]
    #[arg(long, value_name = "SECONDS")]
    signet_block_time: Option<u32>,
    /// File with a key that blocks of a signet are signed with, as `cairn signet new` makes it; may be given several times,
    /// where several keys must sign
    #[arg(long, value_name = "FILE")]
    signet_key: Vec<PathBuf>,
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

impl ServerArgs {
    /// The configuration with these flags on top.
    pub(crate) fn resolve(self, global: &Global) -> Result<Resolved, CliError> {
        let mut resolved = settings::load(global)?;
        let settings = &mut resolved.settings;
        settings.mining.block_time = self.block_time.or(settings.mining.block_time);
        settings.mining.share = self.share.or(settings.mining.share);
        settings.mining.pacing = self.pacing.or(settings.mining.pacing.take());
        settings.mining.address = self.mining_address.or(settings.mining.address.take());
        settings.http.listen = self.http.or(settings.http.listen);
        settings.rpc.listen = self.rpc.or(settings.rpc.listen);
        settings.p2p.listen = self.p2p.or(settings.p2p.listen);
        if !self.connect.is_empty() {
            settings.p2p.connect = self.connect;
        }
        settings.signet.challenge = self.signet_challenge.or(settings.signet.challenge.take());
        settings.signet.block_time = self.signet_block_time.or(settings.signet.block_time);
        if !self.signet_key.is_empty() {
            settings.signet.key = self.signet_key;
        }
        settings.chain.prune = self.prune.unwrap_or(settings.chain.prune);
        settings.chain.assume_utxo.extend(self.assume_utxo);
        resolved.reindex = self.reindex;
        resolved.snapshot = self.snapshot;
        Ok(resolved)
    }
}

/// Runs a server until it is told to stop; prints what `greeting` makes of it once everything answers.
pub(crate) fn serve(
    resolved: &Resolved,
    role: Role,
    greeting: impl FnOnce(&Server) -> String,
) -> Result<ExitCode, CliError> {
    let pace = server::pace(&resolved.settings)?;
    // A server of many clients has a thread a core. A node has few, and its calls run on blocking threads: one thread,
    // which is there anyway, moves their bytes.
    let threads = if role.web { Threads::OneACore } else { Threads::One };
    run(resolved, threads, async {
        let server = Server::start(resolved, role, pace).await?;
        println!("{}", greeting(&server));
        server.run().await
    })
}

/// Threads of a process's event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The main thread.
    One,
    /// As many as there are cores.
    OneACore,
}

/// Runs a process that serves: its log, its allocator and its event loop.
pub(crate) fn run(
    resolved: &Resolved,
    threads: Threads,
    process: impl Future<Output = Result<(), CliError>>,
) -> Result<ExitCode, CliError> {
    crate::logging::start(&resolved.settings.log)?;
    // Memory that a load leaves unused goes back to the system though nobody allocates any more.
    let background = || {
        tikv_jemalloc_ctl::max_background_threads::write(1)?;
        tikv_jemalloc_ctl::background_thread::write(true)
    };
    if let Err(error) = background() {
        tracing::warn!(%error, "the allocator keeps the memory of a load until the next one");
    }
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::OneACore => Builder::new_multi_thread(),
    };
    // A blocking thread that is not used goes after this, and its stack with it.
    let runtime = builder.enable_all().thread_keep_alive(Duration::from_secs(2)).build();
    let runtime = runtime.map_err(|error| CliError::failed(format!("the runtime did not start: {error}")))?;
    let result = runtime.block_on(process);
    // Whatever still blocks has nothing to say any more: the rooms are closed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

/// Where a server is and what it does.
pub(crate) fn ready(server: &Server) -> String {
    let http = server.http();
    let front = match server.serves_api() {
        true => ("HTTP API", format!("http://{http}  (documentation at /api/docs)")),
        false => ("metrics", format!("http://{http}/metrics  (health at /api/health)")),
    };
    let addresses = terminal::aligned(&[
        ("network", server.network().to_string()),
        front,
        ("JSON-RPC", format!("http://{}  (cookie in {})", server.rpc(), server.cookie().display())),
        ("peers", server.p2p().to_string()),
        ("data", server.data_dir().display().to_string()),
        ("blocks", server.schedule()),
    ]);
    format!("\ncairn {} is ready\n\n{addresses}\n", env!("CARGO_PKG_VERSION"))
}
