//! `cairn info`: a proof as a tree that people can read.

use crate::client::files;
use crate::error::CliError;
use crate::terminal;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use cairn_stamp::ots::{Attestation, DetachedTimestampFile, NodeId, Op, Timestamp};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints what a proof says: its operations, attestations and transactions.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proof; `-` is standard input
    #[arg(value_name = "FILE.ots")]
    proof: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, CliError> {
    let proof = files::read_proof(&args.proof)?;
    terminal::print(&if args.json { format!("{:#}\n", as_json(&proof)) } else { as_text(&proof) })?;
    Ok(ExitCode::SUCCESS)
}

/// The txid of a message that is a transaction.
fn txid(message: &[u8]) -> Option<String> {
    // Anything shorter cannot have an input and an output.
    if message.len() < 60 {
        return None;
    }
    let transaction: bitcoin::Transaction = bitcoin::consensus::deserialize(message).ok()?;
    let plausible = !transaction.input.is_empty() && !transaction.output.is_empty();
    plausible.then(|| transaction.compute_txid().to_string())
}

/// A Merkle root as nodes print it: the bytes in reverse.
fn shown_root(message: &[u8]) -> String {
    match <[u8; 32]>::try_from(message) {
        Ok(bytes) => bitcoin::TxMerkleNode::from_byte_array(bytes).to_string(),
        Err(_) => format!("{} (not 32 bytes: cannot be one)", message.to_lower_hex_string()),
    }
}

fn attestation_line(attestation: &Attestation) -> String {
    match attestation {
        Attestation::Bitcoin { height } => format!("BitcoinBlockHeaderAttestation({height})"),
        Attestation::Litecoin { height } => format!("LitecoinBlockHeaderAttestation({height})"),
        Attestation::Ethereum { height } => format!("EthereumBlockHeaderAttestation({height})"),
        Attestation::Pending { uri } => format!("PendingAttestation('{uri}')"),
        Attestation::Unknown { tag, payload } => {
            format!("UnknownAttestation({} {})", tag.as_hex(), payload.as_hex())
        }
    }
}

/// Indentation stops growing here: a proof that forks at every step must not print a square of its size.
const MAX_INDENT: usize = 64;

fn as_text(proof: &DetachedTimestampFile) -> String {
    let mut text = format!("File {} hash: {}\nTimestamp:\n", proof.file_hash().name(), proof.file_digest().as_hex());
    let timestamp = proof.timestamp();
    let mut edges: Vec<(usize, &Op, NodeId, Vec<u8>, bool)> = Vec::new();
    let mut next = Some((0, timestamp.root(), timestamp.message().to_vec()));
    loop {
        let (indent, node, message) = match next.take() {
            Some(place) => place,
            None => {
                let Some((indent, op, child, message, forks)) = edges.pop() else { break };
                let arrow = if forks { " -> " } else { "" };
                let _ = writeln!(text, "{:indent$}{arrow}{op}", "");
                let Ok(result) = op.apply(&message) else { continue };
                (if forks { (indent + 4).min(MAX_INDENT) } else { indent }, child, result)
            }
        };
        for attestation in timestamp.attestations_at(node) {
            let _ = writeln!(text, "{:indent$}verify {}", "", attestation_line(attestation));
            let chain = match attestation {
                Attestation::Bitcoin { .. } => "Bitcoin",
                Attestation::Litecoin { .. } => "Litecoin",
                _ => continue,
            };
            let _ = writeln!(text, "{:indent$}# {chain} block merkle root {}", "", shown_root(&message));
        }
        let ops = timestamp.ops_at(node);
        if !ops.is_empty()
            && let Some(txid) = txid(&message)
        {
            let _ = writeln!(text, "{:indent$}# Transaction id {txid}", "");
        }
        let forks = ops.len() > 1;
        edges.extend(ops.iter().rev().map(|(op, child)| (indent, op, *child, message.clone(), forks)));
    }
    text
}

fn as_json(proof: &DetachedTimestampFile) -> Value {
    json!({
        "file_hash": proof.file_hash().name(),
        "file_digest": proof.file_digest().to_lower_hex_string(),
        "complete": proof.timestamp().is_complete(),
        "nodes": nodes_json(proof.timestamp()),
    })
}

/// Every place of the proof, parents first; `parent` and `op` say how it is reached.
fn nodes_json(timestamp: &Timestamp) -> Vec<Value> {
    let mut parents = std::collections::HashMap::new();
    timestamp
        .walk()
        .enumerate()
        .map(|(index, step)| {
            for (op, child) in timestamp.ops_at(step.node) {
                parents.insert(*child, (index, op));
            }
            let mut node = json!({"message": step.message.to_lower_hex_string()});
            if let Some((parent, op)) = parents.remove(&step.node) {
                node["parent"] = json!(parent);
                node["op"] = json!(op.name());
                if let Some(argument) = op.argument() {
                    node["argument"] = json!(argument.to_lower_hex_string());
                }
            }
            if let Some(txid) = txid(&step.message) {
                node["txid"] = json!(txid);
            }
            let attestations: Vec<Value> = timestamp.attestations_at(step.node).iter().map(attestation_json).collect();
            if !attestations.is_empty() {
                node["attestations"] = json!(attestations);
            }
            node
        })
        .collect()
}

/// An attestation for programs.
pub(crate) fn attestation_json(attestation: &Attestation) -> Value {
    match attestation {
        Attestation::Bitcoin { height } => json!({"type": "bitcoin", "height": height}),
        Attestation::Litecoin { height } => json!({"type": "litecoin", "height": height}),
        Attestation::Ethereum { height } => json!({"type": "ethereum", "height": height}),
        Attestation::Pending { uri } => json!({"type": "pending", "uri": uri}),
        Attestation::Unknown { tag, payload } => {
            json!({"type": "unknown", "tag": tag.to_lower_hex_string(), "payload": payload.to_lower_hex_string()})
        }
    }
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
