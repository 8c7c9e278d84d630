//! The command line: what `cairn --help` prints.

use crate::commands::{api, gateway, info, node, signet, stamp, up, upgrade, verify, worker};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A proof-of-work network, timestamps on it, and the tools that scale it.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where everything is kept [default: the XDG data home, `cairn`]
    #[arg(long, global = true, env = "CAIRN_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file [default: DIR/cairn.toml, if it is there]
    #[arg(long, global = true, env = "CAIRN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Network: regtest, signet, testnet4 or mainnet [default: regtest]
    #[arg(long, global = true, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// What is logged to stderr: off, error, warn, info, debug, trace, or a filter such as `cairn_stamp=debug`
    /// [default: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process: a mining chain, its API, stamping
    Up(up::Args),
    /// One node: a chain with its JSON-RPC; on request a miner, a web server, or both
    Node(node::Args),
    /// The HTTP API without a chain, as many processes of it as are needed, over one database
    Api(api::Args),
    /// Does tasks that others enqueue, as many processes of it as are needed, over one database
    Worker(worker::Args),
    /// The load balancer in front of API processes
    Gateway(gateway::Args),
    Stamp(stamp::Args),
    Upgrade(upgrade::Args),
    Verify(verify::Args),
    Info(info::Args),
    Signet(signet::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        let code = |args: &[&str]| Cli::try_parse_from(args).map(|_| ()).map_err(|error| error.exit_code());
        assert_eq!(code(&["cairn"]), Err(2));
        assert_eq!(code(&["cairn", "nonsense"]), Err(2));
        assert_eq!(code(&["cairn", "stamp"]), Err(2));
        assert_eq!(code(&["cairn", "stamp", "a", "--nonsense"]), Err(2));
        assert_eq!(code(&["cairn", "stamp", "a", "--wait-timeout", "5"]), Err(2));
        assert_eq!(code(&["cairn", "stamp", "a", "--timeout", "soon"]), Err(2));
        assert_eq!(code(&["cairn", "verify"]), Err(2));
        assert_eq!(code(&["cairn", "node", "--miner=perhaps"]), Err(2));
        assert_eq!(code(&["cairn", "node", "--miner", "--web=no"]), Ok(()));
        assert_eq!(code(&["cairn", "node", "--pacing", "random"]), Err(2));
        assert_eq!(code(&["cairn", "up", "--share", "0.5", "--pacing", "fixed"]), Ok(()));
        assert_eq!(code(&["cairn", "signet"]), Err(2));
        assert_eq!(code(&["cairn", "signet", "new", "--keys", "3"]), Ok(()));
        assert_eq!(code(&["cairn", "--help"]), Err(0));
        assert_eq!(code(&["cairn", "stamp", "-"]), Ok(()));
    }
}
