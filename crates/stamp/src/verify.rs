//! Replaying a proof against block headers: what does it prove, and since when?
//!
//! Pure: the headers come from a [`BlockHeaders`], so that a node, an API and a test ask the same questions. Says yes only
//! where a header that the source vouches for has the very Merkle root that the proof's operations lead to.

use crate::ots::{Attestation, NodeId, Timestamp};
use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many blocks are looked up for one proof; real proofs need a handful.
pub const MAX_LOOKUPS: usize = 64;

/// Where block headers of one chain come from.
pub trait BlockHeaders {
    /// The header of the active chain's block at `height`.
    fn header(&mut self, height: u64) -> HeaderAnswer;
}

/// What a source of headers knows of a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderAnswer {
    /// The block's header.
    Found(Header),
    /// The chain is not that long.
    NoSuchBlock,
    /// Nobody could be asked, and why.
    NoNode(String),
}

/// What came of one attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The block commits to the message.
    Verified {
        /// Hash of the block.
        hash: BlockHash,
        /// Time in its header, seconds since 1970.
        time: u32,
    },
    /// The block at that height has another Merkle root.
    Mismatch {
        /// Hash of the block that is there.
        hash: BlockHash,
    },
    /// The chain has no block at that height.
    NoSuchBlock,
    /// Nobody could be asked for the block.
    NoNode(String),
    /// A calendar has it, no block yet.
    Pending,
    /// Needs a chain other than Bitcoin's.
    OtherChain(&'static str),
    /// Nobody here knows what it means.
    Unknown,
    /// An earlier block already proves it, or the proof names too many blocks.
    NotAsked,
}

impl Outcome {
    /// Its name in answers for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Verified { .. } => "verified",
            Outcome::Mismatch { .. } => "mismatch",
            Outcome::NoSuchBlock => "no_such_block",
            Outcome::NoNode(_) => "no_node",
            Outcome::Pending => "pending",
            Outcome::OtherChain(_) => "other_chain",
            Outcome::Unknown => "unknown",
            Outcome::NotAsked => "not_asked",
        }
    }
}

/// One attestation and what came of it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The attestation.
    pub attestation: Attestation,
    /// The message that it attests.
    pub message: Arc<[u8]>,
    /// Its place in the proof; [`Timestamp::path`] tells the way.
    pub node: NodeId,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a proof comes to, all attestations considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Proven: the message existed when this block was made.
    Verified {
        /// Height of the earliest block that proves it.
        height: u64,
        /// Its hash.
        hash: BlockHash,
        /// Time in its header, seconds since 1970.
        time: u32,
    },
    /// The proof names a block that does not commit to the message, and none that does.
    Mismatch {
        /// Height of the block.
        height: u64,
    },
    /// The chain that was asked is not as long as the proof needs.
    NoSuchBlock {
        /// Height that the proof needs.
        height: u64,
    },
    /// Nobody could be asked, and why.
    NoNode(String),
    /// Only calendars have it yet.
    Pending {
        /// Their addresses, each once.
        uris: Vec<String>,
    },
    /// Needs chains that are not at hand; their names.
    OtherChain(Vec<&'static str>),
    /// Rests on attestations that nobody here knows.
    Unknown,
}

impl Verdict {
    /// Its name in answers for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Verified { .. } => "verified",
            Verdict::Mismatch { .. } => "mismatch",
            Verdict::NoSuchBlock { .. } => "no_such_block",
            Verdict::NoNode(_) => "no_node",
            Verdict::Pending { .. } => "pending",
            Verdict::OtherChain(_) => "other_chain",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Checks every attestation of a proof, the earliest block first, until one proves it.
pub fn verify(timestamp: &Timestamp, headers: &mut dyn BlockHeaders) -> Vec<Finding> {
    let mut findings: Vec<Finding> = timestamp
        .attestations()
        .map(|(message, attestation, node)| {
            let outcome = match attestation {
                Attestation::Bitcoin { .. } => Outcome::NotAsked,
                Attestation::Pending { .. } => Outcome::Pending,
                Attestation::Litecoin { .. } => Outcome::OtherChain("litecoin"),
                Attestation::Ethereum { .. } => Outcome::OtherChain("ethereum"),
                Attestation::Unknown { .. } => Outcome::Unknown,
            };
            Finding { attestation: attestation.clone(), message, node, outcome }
        })
        .collect();

    let mut by_height: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, finding) in findings.iter().enumerate() {
        if let Attestation::Bitcoin { height } = finding.attestation {
            by_height.entry(height).or_default().push(index);
        }
    }
    for (height, indices) in by_height.into_iter().take(MAX_LOOKUPS) {
        let answer = headers.header(height);
        let mut proven = false;
        for index in indices {
            let outcome = judge(&findings[index].message, &answer);
            proven |= matches!(outcome, Outcome::Verified { .. });
            findings[index].outcome = outcome;
        }
        // The earliest proof is the one that counts; and whoever cannot be reached is not asked again.
        if proven || matches!(answer, HeaderAnswer::NoNode(_)) {
            break;
        }
    }
    findings
}

fn judge(message: &[u8], answer: &HeaderAnswer) -> Outcome {
    match answer {
        HeaderAnswer::NoNode(reason) => Outcome::NoNode(reason.clone()),
        HeaderAnswer::NoSuchBlock => Outcome::NoSuchBlock,
        HeaderAnswer::Found(header) => {
            let hash = header.block_hash();
            // Both in the header's own byte order; a message of another length cannot be equal.
            if *message == header.merkle_root.to_byte_array()[..] {
                Outcome::Verified { hash, time: header.time }
            } else {
                Outcome::Mismatch { hash }
            }
        }
    }
}

/// What the findings come to: a proof beats a contradiction, which beats everything that cannot be said yet.
pub fn verdict(findings: &[Finding]) -> Verdict {
    let bitcoin = |wanted: fn(&Outcome) -> bool| {
        findings
            .iter()
            .filter(|finding| wanted(&finding.outcome))
            .filter_map(|finding| match finding.attestation {
                Attestation::Bitcoin { height } => Some((height, &finding.outcome)),
                _ => None,
            })
            .min_by_key(|(height, _)| *height)
    };
    if let Some((height, Outcome::Verified { hash, time })) = bitcoin(|o| matches!(o, Outcome::Verified { .. })) {
        return Verdict::Verified { height, hash: *hash, time: *time };
    }
    if let Some((_, Outcome::NoNode(reason))) = bitcoin(|o| matches!(o, Outcome::NoNode(_))) {
        return Verdict::NoNode(reason.clone());
    }
    // A block that is not there yet, or was not asked for, may still prove it: a contradiction is final without such.
    if let Some((height, _)) = bitcoin(|o| matches!(o, Outcome::NoSuchBlock | Outcome::NotAsked)) {
        return Verdict::NoSuchBlock { height };
    }
    if let Some((height, _)) = bitcoin(|o| matches!(o, Outcome::Mismatch { .. })) {
        return Verdict::Mismatch { height };
    }
    let mut uris: Vec<String> = findings
        .iter()
        .filter_map(|finding| match &finding.attestation {
            Attestation::Pending { uri } => Some(uri.clone()),
            _ => None,
        })
        .collect();
    uris.sort();
    uris.dedup();
    if !uris.is_empty() {
        return Verdict::Pending { uris };
    }
    let mut chains: Vec<&'static str> = findings
        .iter()
        .filter_map(|finding| match finding.outcome {
            Outcome::OtherChain(chain) => Some(chain),
            _ => None,
        })
        .collect();
    chains.sort_unstable();
    chains.dedup();
    if chains.is_empty() { Verdict::Unknown } else { Verdict::OtherChain(chains) }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
