//! `cairn signet new`: a signet of one's own, its challenge and its keys.

use crate::error::CliError;
use crate::server::SIGNET_BLOCK_TIME;
use crate::settings::command;
use crate::terminal;
use bitcoin::hex::DisplayHex;
use cairn_consensus::params::Params;
use cairn_mining::signet::{NewKey, NewSignet, new_signet};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// A signet of one's own: a network whose blocks only holders of its keys can make (BIP 325).
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
}

/// Make a challenge and its keys, and say how to join the network and how to mine it.
#[derive(Debug, ClapArgs)]
struct New {
    /// Seconds between blocks that retargets aim at; another than 600 is known to Bitcoin Knots and Inquisition and not to
    /// Bitcoin Core
    #[arg(long, value_name = "SECONDS", default_value_t = SIGNET_BLOCK_TIME)]
    block_time: u32,
    /// Keys to make, one for each holder, at most 15
    #[arg(long, value_name = "N", default_value_t = 1)]
    keys: usize,
    /// How many of the keys must sign a block; a miner must have them all
    #[arg(long, value_name = "M", default_value_t = 1)]
    required: usize,
    /// Directory for the key files [default: signet- and the network's magic]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let Command::New(new) = args.command;
    let signet = new_signet(new.keys, new.required)
        .map_err(|error| CliError::usage(error).remedy("correct --keys or --required"))?;
    let params = Params::signet(signet.challenge.clone(), Some(new.block_time))
        .map_err(|error| CliError::usage(error).remedy("correct --block-time"))?;
    let magic = params.magic.to_lower_hex_string();
    let dir = new.out.clone().unwrap_or_else(|| format!("signet-{magic}").into());
    let network =
        Network { new: &new, signet: &signet, params: &params, magic, files: write_keys(&dir, &new, &signet)? };
    let description = format!("{:#}\n", network.as_json());
    let described = dir.join("signet.json");
    write_new(&described, 0o644, &description).map_err(|error| cannot_write(&described, &error))?;
    terminal::print(&if new.json { description } else { network.as_text() })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes each key into a file of its own, for its owner alone.
fn write_keys(dir: &Path, new: &New, signet: &NewSignet) -> Result<Vec<PathBuf>, CliError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| cannot_write(dir, &error))?;
    let mut files = Vec::new();
    for (n, NewKey { private, descriptor, .. }) in signet.keys.iter().enumerate() {
        let file = dir.join(format!("key-{}.txt", n + 1));
        let (n, keys, required) = (n + 1, new.keys, new.required);
        let text = Zeroizing::new(format!(
            "# Key {n} of {keys} of a signet; {required} must sign a block. Who has it can make blocks: keep it private.\n\
             # Challenge: {}\n# WIF: {}\n{descriptor}\n",
            signet.challenge.to_hex_string(),
            Zeroizing::new(private.to_wif()).as_str(),
        ));
        write_new(&file, 0o600, &text).map_err(|error| cannot_write(&file, &error))?;
        files.push(file);
    }
    Ok(files)
}

/// Writes a file that must not be there yet, and sees it on the disk.
fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    let failed = CliError::failed(format!("{}: {error}", path.display()));
    failed.remedy(match error.kind() {
        ErrorKind::AlreadyExists => "what is there is not written over: choose another directory with --out",
        _ => "choose a directory that can be written with --out",
    })
}

/// What is said of a new network.
struct Network<'a> {
    new: &'a New,
    signet: &'a NewSignet,
    params: &'a Params,
    magic: String,
    files: Vec<PathBuf>,
}

impl Network<'_> {
    /// Flags that say which network it is, for Cairn.
    fn flags(&self) -> String {
        let block_time = match self.new.block_time {
            SIGNET_BLOCK_TIME => String::new(),
            seconds => format!(" --signet-block-time {seconds}"),
        };
        format!("--network signet --signet-challenge {}{block_time}", self.signet.challenge.to_hex_string())
    }

    /// How a Cairn node joins.
    fn cairn(&self) -> String {
        format!("{} node {} --connect HOST:{}", command(), self.flags(), self.params.p2p_port)
    }

    /// How a `bitcoind` joins.
    fn bitcoind(&self) -> String {
        let block_time = match self.new.block_time {
            SIGNET_BLOCK_TIME => String::new(),
            seconds => format!(" -signetblocktime={seconds}"),
        };
        let challenge = self.signet.challenge.to_hex_string();
        format!("bitcoind -signet -signetchallenge={challenge}{block_time} -addnode=HOST:{}", self.params.p2p_port)
    }

    /// How its holders mine.
    fn mine(&self) -> String {
        let keys = self.files.iter().take(self.new.required);
        let keys: String = keys.map(|file| format!(" --signet-key {}", file.display())).collect();
        let port = self.params.p2p_port;
        format!("{} node --miner {}{keys} --mining-address tb1… --p2p 0.0.0.0:{port}", command(), self.flags())
    }

    fn as_json(&self) -> serde_json::Value {
        let keys = self.signet.keys.iter().zip(&self.files);
        json!({
            "challenge": self.signet.challenge.to_hex_string(),
            "magic": self.magic,
            "block_time": self.new.block_time,
            "required": self.new.required,
            "keys": keys.map(|(key, file)| json!({"public_key": key.public, "file": file})).collect::<Vec<_>>(),
            "p2p_port": self.params.p2p_port,
            "rpc_port": self.params.rpc_port,
            "cairn": self.cairn(),
            "bitcoind": self.bitcoind(),
            "mine": self.mine(),
        })
    }

    fn as_text(&self) -> String {
        let New { block_time, keys, required, .. } = self.new;
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        let facts = terminal::aligned(&[
            ("challenge", self.signet.challenge.to_hex_string()),
            ("magic", self.magic.clone()),
            ("block time", format!("{block_time} s")),
            ("signed by", format!("{required} of {keys}")),
            ("keys", files.join(" ")),
            ("ports", format!("{} for peers, {} for JSON-RPC", self.params.p2p_port, self.params.rpc_port)),
        ]);
        let bitcoind = match *block_time {
            SIGNET_BLOCK_TIME => "Bitcoin Core, Knots, Inquisition",
            _ => "Bitcoin Knots or Inquisition; Core knows no other block time than 600",
        };
        format!(
            "{facts}\n\nTo join, with HOST any node of the network:\n  {}\n  {}\n  ({bitcoind})\n\n\
             To mine, as a holder of {}:\n  {}\n\nWho has the keys can make blocks: give each holder its file, and keep them \
             private.\n",
            self.cairn(),
            self.bitcoind(),
            if *required == 1 { "a key".into() } else { format!("{required} keys") },
            self.mine(),
        )
    }
}
