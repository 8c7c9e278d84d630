//! `cairn node`: one node, with or without a block producer and the HTTP API.
//!
//! What runs: the chain, the mempool and JSON-RPC; with `--miner` the block producer; with `--web` what `cairn up` has
//! besides: the store, the wallet, the calendar and its stamper, and the HTTP API. Without `--web` HTTP has health and
//! metrics only, and nothing of the others is opened.

use super::serving::{self, ServerArgs};
use crate::cli::Global;
use crate::error::CliError;
use crate::server::Role;
use clap::builder::BoolishValueParser;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Arguments of `cairn node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "NODE_IS_MINER and NODE_IS_WEB_SERVER (yes or no) stand for --miner and --web, NODE_MINING_ADDRESS for \
    --mining-address.\nA miner without --web needs --mining-address: it has no wallet."
)]
pub(crate) struct Args {
    /// Make blocks on schedule
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        value_parser = BoolishValueParser::new())]
    miner: Option<bool>,
    /// Serve the HTTP API, with a database, a wallet and stamping
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        value_parser = BoolishValueParser::new())]
    web: Option<bool>,
    /// Where metrics and health listen without --web [default: 127.0.0.1:9101]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Keep an index of all transactions, as Bitcoin Core's -txindex; --web always does
    #[arg(long)]
    txindex: bool,
    /// Keep the filters of blocks that light clients ask for, as Bitcoin Core's -blockfilterindex
    #[arg(long)]
    blockfilterindex: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, CliError> {
    let mut resolved = args.server.resolve(global)?;
    let settings = &mut resolved.settings;
    settings.chain.txindex |= args.txindex;
    settings.chain.blockfilterindex |= args.blockfilterindex;
    settings.metrics.listen = args.metrics.or(settings.metrics.listen);
    let role = Role {
        miner: args.miner.unwrap_or(settings.node.miner),
        web: args.web.unwrap_or(settings.node.web),
        first_blocks: false,
    };
    serving::serve(&resolved, role, serving::ready)
}
