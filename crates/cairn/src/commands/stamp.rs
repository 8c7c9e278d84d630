//! `cairn stamp`: files to proofs.

use crate::client::calendar::{self, Allowed, Upgrader};
use crate::client::files::{self, Existing, STDIN};
use crate::error::{CliError, exit};
use crate::terminal;
use bitcoin::hex::DisplayHex;
use cairn_stamp::ots::{DetachedTimestampFile, FileHash, MerkleTree, OtsError, Timestamp, nonced};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Proves from now on that files existed: writes FILE.ots beside each.
#[derive(Debug, clap::Args)]
#[command(after_help = "The proof of standard input (`-`) goes to standard output, or where --output says.\n\
    Several files share one request; each proof stands alone and tells nothing about the others.")]
pub(crate) struct Args {
    /// Files to stamp; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the proof is written, for one file; `-` is standard output
    #[arg(short, long, value_name = "FILE.ots")]
    output: Option<PathBuf>,
    /// Replace proofs that are already there
    #[arg(long)]
    force: bool,
    /// Wait until the proofs are complete
    #[arg(short, long)]
    wait: bool,
    /// Give up waiting after this long (the incomplete proof is kept)
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u64>,
    /// The server that stamps
    #[arg(long, env = "CAIRN_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
    /// Stamp with this calendar instead of the server; may be given several times
    #[arg(short, long = "calendar", value_name = "URL")]
    calendars: Vec<String>,
    /// How long a calendar may take to answer
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    timeout: u64,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// A file, its proof as far as it goes, and where the proof goes.
struct Stamped {
    file: PathBuf,
    output: PathBuf,
    proof: DetachedTimestampFile,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let outputs = outputs(&args)?;
    let calendars = if args.calendars.is_empty() { vec![args.server.clone()] } else { args.calendars.clone() };
    let timeout = Duration::from_secs(args.timeout.max(1));

    let mut proofs = Vec::with_capacity(outputs.len());
    let mut leaves = Vec::with_capacity(outputs.len());
    for file in &args.files {
        let digest = files::hash(file, FileHash::Sha256)?;
        // Two files' proofs may part ways: without a nonce, one would tell the other's digest to those who guess.
        let nonce: [u8; 16] = rand::random();
        let (leaf, ops) = nonced(&digest, nonce);
        leaves.push(leaf);
        proofs.push((digest, ops));
    }
    let internal = |error: OtsError| CliError::failed(format!("the proof cannot be built: {error}"));
    let tree = MerkleTree::new(leaves).map_err(internal)?;
    let mut tip = submit(&calendars, &tree.tip(), timeout)?;

    let mut stamped = Vec::with_capacity(outputs.len());
    for (index, ((digest, ops), (file, output))) in proofs.into_iter().zip(args.files.iter().zip(outputs)).enumerate() {
        let mut timestamp = Timestamp::new(digest).map_err(internal)?;
        let path = tree.path(index).map_err(internal)?;
        timestamp.extend(timestamp.root(), ops.into_iter().chain(path)).map_err(internal)?;
        timestamp.merge_anywhere(&tip).map_err(internal)?;
        let proof = DetachedTimestampFile::new(FileHash::Sha256, timestamp).map_err(internal)?;
        stamped.push(Stamped { file: file.clone(), output, proof });
    }
    // The incomplete proofs are written before any waiting: whatever ends the wait, they can be upgraded later.
    let to_stdout = |one: &Stamped| one.output == Path::new(STDIN);
    for one in stamped.iter().filter(|one| !(args.wait && to_stdout(one))) {
        write(one, if args.force { Existing::Replace } else { Existing::Keep })?;
    }
    if args.wait {
        let deadline = args.wait_timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        wait(&mut tip, &args.server, &calendars, timeout, deadline)?;
        for one in &mut stamped {
            one.proof.merge_anywhere(&tip).map_err(internal)?;
            write(one, Existing::Replace)?;
        }
    }
    let complete = stamped.iter().all(|one| one.proof.timestamp().is_complete());
    report(&args, &stamped)?;
    let code = if args.wait && !complete { exit::CANNOT_SAY } else { exit::DONE };
    Ok(ExitCode::from(code))
}

/// Where each proof goes; everything that can be refused is refused before anything is done.
fn outputs(args: &Args) -> Result<Vec<PathBuf>, CliError> {
    if args.output.is_some() && args.files.len() > 1 {
        return Err(CliError::usage("--output is for one file").remedy("stamp the files one by one, or without it"));
    }
    let mut seen = BTreeSet::new();
    let mut outputs = Vec::with_capacity(args.files.len());
    for file in &args.files {
        if !seen.insert(file) {
            return Err(CliError::usage(format!("{} is given twice", file.display())).remedy("name each file once"));
        }
        let output = match &args.output {
            Some(output) => output.clone(),
            None if file == Path::new(STDIN) => PathBuf::from(STDIN),
            None => files::proof_path(file),
        };
        if output == Path::new(STDIN) {
            if args.output.is_none() && std::io::stdout().is_terminal() {
                return Err(CliError::usage("the proof would be written to the terminal")
                    .remedy("name a file with --output, or send standard output to one"));
            }
            if args.json {
                return Err(CliError::usage("the proof and --json cannot both go to standard output")
                    .remedy("name a file for the proof with --output"));
            }
        } else if !args.force && output.exists() {
            return Err(files::already_there(&output));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Gives the tip to every calendar at once; one that takes it is enough.
fn submit(calendars: &[String], tip: &[u8; 32], timeout: Duration) -> Result<Timestamp, CliError> {
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            calendars.iter().map(|url| scope.spawn(move || calendar::submit(url, tip, timeout))).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut merged: Option<Timestamp> = None;
    let mut failures = Vec::new();
    for (url, answer) in calendars.iter().zip(answers) {
        match answer {
            Ok(Ok(timestamp)) => match &mut merged {
                None => merged = Some(timestamp),
                Some(merged) => {
                    if let Err(error) = merged.merge(&timestamp) {
                        failures.push(format!("{url} gave a timestamp that cannot be used: {error}"));
                    }
                }
            },
            Ok(Err(error)) => failures.push(format!("{url} did not stamp: {error}")),
            Err(_) => failures.push(format!("{url} could not be asked")),
        }
    }
    let Some(timestamp) = merged else {
        return Err(CliError::failed(failures.join("; "))
            .remedy("start a server with `cairn up`, or name another with --server or --calendar"));
    };
    for failure in failures {
        eprintln!("cairn: warning: {failure}");
    }
    Ok(timestamp)
}

/// In the calendar, in a transaction, in a block, deep enough.
const WAIT_STEPS: u64 = 4;

/// Asks until a block has it. A second between questions to this machine, half a minute to others.
fn wait(
    tip: &mut Timestamp,
    server: &str,
    calendars: &[String],
    timeout: Duration,
    deadline: Option<Instant>,
) -> Result<(), CliError> {
    let allowed = Allowed::new(server, calendars);
    let upgrader = Upgrader { allowed: &allowed, instead: calendars, timeout };
    let near = calendars.iter().all(|url| url.contains("//127.") || url.contains("//localhost") || url == server);
    let interval = Duration::from_secs(if near { 1 } else { 30 });
    let bar = terminal::steps_bar("in the calendar", WAIT_STEPS);
    bar.set_position(1);
    while !tip.is_complete() {
        let asked = tip.clone();
        let upgrade = upgrader.upgrade(&asked, |more| tip.merge_anywhere(more));
        if tip.is_complete() {
            break;
        }
        if let Some((_, text)) = upgrade.said.first() {
            // The reference server's words for a transaction that is in a block, but not deep enough.
            let confirming = text.contains("waiting for") && text.contains("confirmation");
            bar.set_position(if confirming { 3 } else { 2 });
            bar.set_message(text.clone());
        }
        if upgrade.changed {
            continue;
        }
        if deadline.is_some_and(|deadline| Instant::now() + interval > deadline) {
            break;
        }
        std::thread::sleep(interval);
    }
    bar.finish_and_clear();
    Ok(())
}

fn write(one: &Stamped, existing: Existing) -> Result<(), CliError> {
    if one.output != Path::new(STDIN) {
        return files::write_proof(&one.output, &one.proof, existing);
    }
    let failed = |error: &dyn std::fmt::Display| CliError::failed(format!("the proof cannot be written: {error}"));
    let bytes = one.proof.to_bytes().map_err(|error| failed(&error))?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&bytes).and_then(|()| stdout.flush()).map_err(|error| failed(&error))
}

fn report(args: &Args, stamped: &[Stamped]) -> Result<(), CliError> {
    if args.json {
        let list: Vec<_> = stamped
            .iter()
            .map(|one| {
                json!({
                    "file": one.file.to_string_lossy(),
                    "proof": one.output.to_string_lossy(),
                    "digest": one.proof.file_digest().to_lower_hex_string(),
                    "complete": one.proof.timestamp().is_complete(),
                })
            })
            .collect();
        return terminal::print(&format!("{:#}\n", json!(list)));
    }
    for one in stamped.iter().filter(|one| one.output != Path::new(STDIN)) {
        let state = if one.proof.timestamp().is_complete() {
            "complete"
        } else {
            "pending: `cairn upgrade` completes it once a block has it"
        };
        terminal::print(&format!("{}  {state}\n", one.output.display()))?;
    }
    Ok(())
}
