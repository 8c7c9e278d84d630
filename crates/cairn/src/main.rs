//! The `cairn` binary: arguments, configuration, starting and stopping. No logic.
//!
//! | module | holds |
//! |---|---|
//! | `cli` | the command line |
//! | `settings` | one strict configuration from defaults, file, environment and flags |
//! | `server` | the rooms of one process, started and stopped in order |
//! | `commands` | one module a command |
//! | `client` | what the client commands share: HTTP, hashing, files |
//! | `terminal` | progress and tables |
//! | `logging` | the log |

mod cli;
mod client;
mod commands;
mod error;
mod logging;
mod server;
mod settings;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

/// Gives memory back after a load, which the system's allocator keeps; see `commands::serving`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let result = match cli.command {
        cli::Command::Up(args) => commands::up::run(&cli.global, args),
        cli::Command::Node(args) => commands::node::run(&cli.global, args),
        cli::Command::Api(args) => commands::api::run(&cli.global, args),
        cli::Command::Worker(args) => commands::worker::run(&cli.global, args),
        cli::Command::Gateway(args) => commands::gateway::run(&cli.global, args),
        cli::Command::Stamp(args) => commands::stamp::run(args),
        cli::Command::Upgrade(args) => commands::upgrade::run(args),
        cli::Command::Verify(args) => commands::verify::run(args),
        cli::Command::Info(args) => commands::info::run(args),
        cli::Command::Signet(args) => commands::signet::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cairn: {error}");
            ExitCode::from(error.code)
        }
    }
}
