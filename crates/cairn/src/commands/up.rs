//! `cairn up`: everything in one process on embedded defaults.
//!
//! What runs: the node (chain, mempool, block producer), the store, the wallet, the calendar and its stamper, HTTP and
//! JSON-RPC. They start from the bottom up and stop from the top down.

use super::serving::{self, ServerArgs};
use crate::cli::Global;
use crate::error::CliError;
use crate::server::{Role, Server};
use crate::settings;
use std::process::ExitCode;

/// Arguments of `cairn up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let resolved = args.server.resolve(global)?;
    serving::serve(&resolved, Role { miner: true, web: true, first_blocks: true }, greeting)
}

/// What is printed once everything answers.
fn greeting(server: &Server) -> String {
    let command = settings::command();
    let http = server.http();
    let flag = if http.port() == 8080 { String::new() } else { format!(" --server http://{http}") };
    format!(
        "{}\nTry next:\n  {command} stamp --wait README.md{flag}\n  {command} verify README.md{flag}\n  \
         curl http://{http}/api/v1/blockchain\n\nCtrl-C stops it.",
        serving::ready(server)
    )
}
