//! `cairn upgrade`: asks calendars for what proofs still lack.

use crate::client::calendar::{Allowed, Upgrader};
use crate::client::files::{self, Existing};
use crate::error::{CliError, exit};
use crate::terminal;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Completes proofs: asks the calendars that they name, and keeps the old proof as FILE.ots.bak.
#[derive(Debug, clap::Args)]
#[command(after_help = "Only the server, the public calendars and those given with --calendar are asked: a proof may \
    come from anybody and name any address.\n\
    Exit code 0: all are complete; 4: at least one is still pending; 1: at least one cannot be read or written.")]
pub(crate) struct Args {
    /// Proofs to complete
    #[arg(required = true, value_name = "FILE.ots")]
    proofs: Vec<PathBuf>,
    /// Also ask this calendar where a proof names it (`*` in the host stands for anything); may be given several times
    #[arg(short = 'l', long = "calendar", value_name = "URL")]
    calendars: Vec<String>,
    /// The server, which may always be asked
    #[arg(long, env = "CAIRN_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
    /// Ask even for complete proofs: the chain may have been reorganised since
    #[arg(long)]
    again: bool,
    /// Ask, but write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How long a calendar may take to answer
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    timeout: u64,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let allowed = Allowed::new(&args.server, &args.calendars);
    let upgrader = Upgrader { allowed: &allowed, instead: &[], timeout: Duration::from_secs(args.timeout.max(1)) };
    let (mut failed, mut pending) = (false, false);
    let mut list = Vec::new();
    for path in &args.proofs {
        match upgrade(&args, &upgrader, path) {
            Ok((complete, entry)) => {
                pending |= !complete;
                list.push(entry);
            }
            Err(error) => {
                // The others are still worth the while.
                failed = true;
                eprintln!("cairn: {error}");
                list.push(json!({"proof": path.to_string_lossy(), "error": error.message}));
            }
        }
    }
    if args.json {
        terminal::print(&format!("{:#}\n", json!(list)))?;
    }
    Ok(ExitCode::from(match (failed, pending) {
        (true, _) => exit::FAILED,
        (false, true) => exit::CANNOT_SAY,
        (false, false) => exit::DONE,
    }))
}

fn upgrade(args: &Args, upgrader: &Upgrader<'_>, path: &Path) -> Result<(bool, serde_json::Value), CliError> {
    let mut proof = files::read_proof(path)?;
    let name = path.display();
    let mut changed = false;
    if args.again || !proof.timestamp().is_complete() {
        let asked = proof.timestamp().clone();
        let upgrade = upgrader.upgrade(&asked, |more| proof.merge_anywhere(more));
        changed = upgrade.changed;
        for (uri, text) in &upgrade.said {
            eprintln!("cairn: {name}: {uri}: {text}");
        }
        for uri in &upgrade.refused {
            eprintln!("cairn: {name}: the calendar {uri} is not asked: if you trust it, add `-l {uri}`");
        }
        if changed && !args.dry_run {
            files::write_proof(path, &proof, Existing::Backup)?;
        }
    }
    let complete = proof.timestamp().is_complete();
    if !args.json {
        let state = match (complete, changed) {
            (true, true) => "complete now",
            (true, false) => "complete",
            (false, true) => "pending, but with more than before",
            (false, false) => "pending",
        };
        terminal::print(&format!("{name}  {state}\n"))?;
    }
    Ok((complete, json!({"proof": path.to_string_lossy(), "complete": complete, "changed": changed})))
}
