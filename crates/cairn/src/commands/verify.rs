//! `cairn verify`: does a file exist since when its proof says?

use super::info::attestation_json;
use crate::client::calendar::{Allowed, Upgrader};
use crate::client::headers::Source;
use crate::client::{files, time};
use crate::error::{CliError, exit};
use crate::terminal;
use bitcoin::hex::{DisplayHex, FromHex};
use cairn_stamp::ots::DetachedTimestampFile;
use cairn_stamp::verify::{Finding, Verdict, verdict, verify};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Checks a proof against a node, and says since when the file exists.
#[derive(Debug, clap::Args)]
#[command(after_help = "The proof is FILE.ots unless it is named; `cairn verify FILE.ots` finds the file by itself.\n\
    A proof names a block by its height only, not the network: the answer is about the network of the node that is asked.\n\
    Exit code 0: proven; 1: the proof is malformed; 3: no, the file or the block is another; 4: cannot be said yet.")]
pub(crate) struct Args {
    /// The file, `-` for standard input; with --digest, the proof
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its proof
    #[arg(value_name = "FILE.ots")]
    proof: Option<PathBuf>,
    /// Verify a digest instead of a file
    #[arg(long, value_name = "HEX", conflicts_with = "proof")]
    digest: Option<String>,
    /// Ask this Bitcoin node: http://USER:PASSWORD@HOST:PORT
    #[arg(long, value_name = "URL")]
    bitcoin_node: Option<String>,
    /// The node's cookie file, instead of user and password
    #[arg(long, value_name = "FILE", requires = "bitcoin_node")]
    bitcoin_cookie: Option<PathBuf>,
    /// The Cairn server that is asked where no node is given
    #[arg(long, env = "CAIRN_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
    /// Also ask this calendar where an incomplete proof names it; may be given several times
    #[arg(short = 'l', long = "calendar", value_name = "URL")]
    calendars: Vec<String>,
    /// How long a node or a calendar may take to answer
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    timeout: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let timeout = Duration::from_secs(args.timeout.max(1));
    let mut source = match &args.bitcoin_node {
        None => Source::server(&args.server, timeout),
        Some(url) => Source::node(url, args.bitcoin_cookie.as_deref(), timeout)
            .map_err(|reason| CliError::usage(reason).remedy("give --bitcoin-node http://USER:PASSWORD@HOST:PORT"))?,
    };
    let (file, proof_path) = places(&args);
    let mut proof = files::read_proof(&proof_path)?;
    let digest = digest(&args, file.as_deref(), &proof)?;
    if digest != proof.file_digest() {
        let what = file.as_deref().map_or("the digest".to_owned(), |file| file.display().to_string());
        let message = format!(
            "NO: {what} is not what {} is a proof of ({} {}, not {})",
            proof_path.display(),
            proof.file_hash().name(),
            proof.file_digest().as_hex(),
            digest.as_hex(),
        );
        let value = json!({"verdict": "mismatch", "reason": "digest", "digest": digest.to_lower_hex_string()});
        return answer(&args, exit::SAYS_NO, &message, "get the file that was stamped, or its own proof", value);
    }

    let mut said = Vec::new();
    if !proof.timestamp().is_complete() {
        let allowed = Allowed::new(&args.server, &args.calendars);
        let asked = proof.timestamp().clone();
        let upgrader = Upgrader { allowed: &allowed, instead: &[], timeout };
        let upgrade = upgrader.upgrade(&asked, |more| proof.merge_anywhere(more));
        said.extend(upgrade.said.into_iter().map(|(uri, text)| format!("{uri}: {text}")));
        said.extend(upgrade.refused.into_iter().map(|uri| format!("{uri} is not asked without `-l {uri}`")));
    }
    let findings = verify(proof.timestamp(), &mut source);
    conclude(&args, &source, &proof_path, &findings, &said)
}

/// The file, if there is to be one, and its proof.
fn places(args: &Args) -> (Option<PathBuf>, PathBuf) {
    if args.digest.is_some() {
        return (None, args.file.clone());
    }
    if let Some(proof) = &args.proof {
        return (Some(args.file.clone()), proof.clone());
    }
    // As `ots verify` is used: with the proof's name.
    let is_proof = args.file.extension().is_some_and(|ending| ending == "ots");
    if is_proof && !files::proof_path(&args.file).exists() {
        return (Some(args.file.with_extension("")), args.file.clone());
    }
    (Some(args.file.clone()), files::proof_path(&args.file))
}

fn digest(args: &Args, file: Option<&Path>, proof: &DetachedTimestampFile) -> Result<Vec<u8>, CliError> {
    match (&args.digest, file) {
        (Some(hex), _) => Vec::from_hex(hex.trim())
            .map_err(|_| CliError::usage("the digest is not hexadecimal").remedy("give it as sha256sum prints it")),
        (None, Some(file)) => files::hash(file, proof.file_hash()),
        (None, None) => Err(CliError::usage("there is neither a file nor a digest").remedy("name a file")),
    }
}

fn conclude(
    args: &Args,
    source: &Source,
    proof: &Path,
    findings: &[Finding],
    said: &[String],
) -> Result<ExitCode, CliError> {
    let what = args.digest.as_deref().map_or_else(|| args.file.display().to_string(), |digest| digest.to_owned());
    let network = || source.network().unwrap_or_else(|| "unknown network".to_owned());
    let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) };
    let proof = proof.display();
    let mut value =
        json!({"source": source.url(), "attestations": findings.iter().map(finding_json).collect::<Vec<_>>()});
    let verdict = verdict(findings);
    value["verdict"] = json!(verdict.name());
    let (code, message, remedy) = match verdict {
        Verdict::Verified { height, hash, time } => {
            let (network, since) = (network(), time::utc(time));
            value["height"] = json!(height);
            value["block_hash"] = json!(hash.to_string());
            value["time"] = json!(time);
            value["time_utc"] = json!(since);
            value["network"] = json!(network);
            let url = source.url();
            let message =
                format!("YES: {what} exists since {since}\nblock {height} {hash} ({network}, according to {url})");
            (exit::DONE, message, String::new())
        }
        Verdict::Mismatch { height } => {
            let network = network();
            value["height"] = json!(height);
            value["network"] = json!(network);
            (
                exit::SAYS_NO,
                format!("NO: block {height} of {network} at {} does not contain what {proof} says", source.url()),
                format!(
                    "if the chain was reorganised, run `cairn upgrade --again {proof}`; else ask a node of the proof's network"
                ),
            )
        }
        Verdict::NoSuchBlock { height } => {
            value["height"] = json!(height);
            (
                exit::CANNOT_SAY,
                format!(
                    "cannot say: the chain at {} ({}) was not found to have block {height} yet",
                    source.url(),
                    network()
                ),
                "ask a node of the proof's network, fully synchronised, with --bitcoin-node".to_owned(),
            )
        }
        Verdict::NoNode(reason) => (
            exit::CANNOT_SAY,
            format!("cannot say: {} gave no block: {reason}", source.url()),
            "start one with `cairn up`, or name one with --server or --bitcoin-node".to_owned(),
        ),
        Verdict::Pending { uris } => {
            value["calendars"] = json!(uris);
            (
                exit::CANNOT_SAY,
                format!("cannot say yet: only {} has it, no block{said}", uris.join(", ")),
                "try again after the next blocks".to_owned(),
            )
        }
        Verdict::OtherChain(chains) => (
            exit::CANNOT_SAY,
            format!("cannot say: the proof needs a node of {}, which cannot be asked here", chains.join(" or ")),
            "use a client for that network".to_owned(),
        ),
        Verdict::Unknown => (
            exit::CANNOT_SAY,
            "cannot say: the proof rests on attestations of a kind that is not known here".to_owned(),
            "use the program that made it".to_owned(),
        ),
    };
    answer(args, code, &message, &remedy, value)
}

/// Yes goes to stdout; no and don't know are errors with an exit code of their own.
fn answer(args: &Args, code: u8, message: &str, remedy: &str, mut value: Value) -> Result<ExitCode, CliError> {
    if args.json {
        value["message"] = json!(message);
        terminal::print(&format!("{value:#}\n"))?;
        return Ok(ExitCode::from(code));
    }
    if code == exit::DONE {
        terminal::print(&format!("{message}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError { code, message: message.to_owned(), remedy: Some(remedy.to_owned()) })
}

fn finding_json(finding: &Finding) -> Value {
    let mut value = attestation_json(&finding.attestation);
    value["message"] = json!(finding.message.to_lower_hex_string());
    value["outcome"] = json!(finding.outcome.name());
    value
}
