//! Proofs made at random, and ways to spoil them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use cairn_stamp::ots::{Attestation, DetachedTimestampFile, FileHash, NodeId, Op, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::{Path, PathBuf};

/// Where this crate is now: a test built in one clone may run in another that shares its target directory.
fn manifest_dir() -> String {
    std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is")
}

/// The folder of the OpenTimestamps client's example proofs.
pub(crate) fn vectors() -> PathBuf {
    Path::new(&manifest_dir()).join("../../tests/vectors/opentimestamps")
}

/// Every example proof, valid or not, in the order of their names.
pub(crate) fn examples() -> Vec<(String, Vec<u8>)> {
    let mut examples = Vec::new();
    for folder in ["", "sha1", "invalid"] {
        for entry in std::fs::read_dir(vectors().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "ots") {
                examples.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    examples.sort();
    assert_eq!(examples.len(), 17);
    examples
}

/// An operation. Arguments are mostly short and few, so that proofs have operations in common.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let argument = || {
        prop_oneof![
            6 => vec(0..3u8, 1..3),
            3 => vec(any::<u8>(), 1..40),
            1 => vec(any::<u8>(), 1..1500),
        ]
    };
    prop_oneof![
        1 => Just(Op::Sha1),
        1 => Just(Op::Ripemd160),
        3 => Just(Op::Sha256),
        1 => Just(Op::Keccak256),
        1 => Just(Op::Reverse),
        1 => Just(Op::Hexlify),
        3 => argument().prop_map(Op::Append),
        3 => argument().prop_map(Op::Prepend),
    ]
}

/// An attestation of any kind.
pub(crate) fn attestation() -> impl Strategy<Value = Attestation> {
    let height = || prop_oneof![0..4u64, any::<u64>(), Just(u64::MAX)];
    prop_oneof![
        3 => height().prop_map(|height| Attestation::Bitcoin { height }),
        1 => height().prop_map(|height| Attestation::Litecoin { height }),
        1 => height().prop_map(|height| Attestation::Ethereum { height }),
        3 => "[A-Za-z0-9._/:-]{0,40}".prop_map(|uri| Attestation::pending(uri).unwrap()),
        1 => "[a-c]{990,1000}".prop_map(|uri| Attestation::pending(uri).unwrap()),
        // No known tag begins with 7.
        2 => (any::<[u8; 7]>(), vec(any::<u8>(), 0..60)).prop_map(|(rest, payload)| {
            let mut tag = [7; 8];
            tag[1..].copy_from_slice(&rest);
            Attestation::Unknown { tag, payload }
        }),
        1 => vec(any::<u8>(), 8100..=8192).prop_map(|payload| Attestation::Unknown { tag: [7; 8], payload }),
    ]
}

/// How a proof is put together: operations and attestations, each at a place that is there already.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    ops: Vec<(Index, Op)>,
    attestations: Vec<(Index, Attestation)>,
    ending: Attestation,
}

/// A plan of up to `ops` operations.
pub(crate) fn plan(ops: usize) -> impl Strategy<Value = Plan> {
    let attestations = vec((any::<Index>(), attestation()), 0..6);
    (vec((any::<Index>(), op()), 0..=ops), attestations, attestation()).prop_map(|(ops, attestations, ending)| Plan {
        ops,
        attestations,
        ending,
    })
}

impl Plan {
    /// The timestamp that the plan makes for a message. Operations that cannot be applied are left out.
    pub(crate) fn timestamp(&self, message: &[u8]) -> Timestamp {
        let mut timestamp = Timestamp::new(message).unwrap();
        let mut places = vec![timestamp.root()];
        for (place, op) in &self.ops {
            if let Ok(child) = timestamp.push(*place.get(&places), op.clone()) {
                places.push(child);
            }
        }
        for (place, attestation) in &self.attestations {
            timestamp.attest(*place.get(&places), attestation.clone()).unwrap();
        }
        for place in places {
            if timestamp.ops_at(place).is_empty() && timestamp.attestations_at(place).is_empty() {
                timestamp.attest(place, self.ending.clone()).unwrap();
            }
        }
        timestamp
    }
}

/// A timestamp for a message of any length that has one.
pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    let message = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 4000..=4096)];
    (message, plan(40)).prop_map(|(message, plan)| plan.timestamp(&message))
}

/// An `.ots` file.
pub(crate) fn file() -> impl Strategy<Value = DetachedTimestampFile> {
    let hash = select(vec![FileHash::Sha1, FileHash::Ripemd160, FileHash::Sha256, FileHash::Keccak256]);
    (hash, any::<[u8; 32]>(), plan(40)).prop_map(|(hash, message, plan)| {
        DetachedTimestampFile::new(hash, plan.timestamp(&message[..hash.digest_length()])).unwrap()
    })
}

/// Every attestation of a timestamp with the operations that lead to it.
pub(crate) fn branches(timestamp: &Timestamp) -> Vec<(Vec<Op>, Attestation)> {
    let branch = |attestation: &Attestation, node: NodeId| {
        (timestamp.path(node).into_iter().cloned().collect(), attestation.clone())
    };
    timestamp.attestations().map(|(_, attestation, node)| branch(attestation, node)).collect()
}

/// A change to some bytes.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// Another byte in the place of one.
    Set(Index, u8),
    /// One bit is turned.
    Flip(Index, u8),
    /// Bytes come in between.
    Insert(Index, Vec<u8>),
    /// Bytes are lost.
    Remove(Index, usize),
    /// A part comes again somewhere else.
    Copy(Index, Index, usize),
    /// The rest is lost.
    Truncate(Index),
}

/// A few changes. Many of them use bytes that mean something in a proof.
pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte = || {
        let telling = vec![0x00, 0x01, 0x02, 0x03, 0x08, 0x20, 0x67, 0x7f, 0x80, 0x81, 0xf0, 0xf1, 0xf2, 0xf3, 0xff];
        prop_oneof![3 => select(telling), 1 => any::<u8>()]
    };
    let one = prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => (any::<Index>(), vec(byte(), 1..5)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (any::<Index>(), 1..4usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        2 => (any::<Index>(), any::<Index>(), 1..60usize).prop_map(|(from, to, count)| Damage::Copy(from, to, count)),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ];
    vec(one, 1..4)
}

/// The bytes after the changes; the first `keep` of them stay what they are.
pub(crate) fn damaged(bytes: &[u8], keep: usize, damage: &[Damage]) -> Vec<u8> {
    let (head, tail) = bytes.split_at(keep.min(bytes.len()));
    let mut tail = tail.to_vec();
    for change in damage {
        if tail.is_empty() {
            break;
        }
        let length = tail.len();
        match change {
            Damage::Set(at, byte) => tail[at.index(length)] = *byte,
            Damage::Flip(at, bit) => tail[at.index(length)] ^= 1 << bit,
            Damage::Insert(at, bytes) => {
                let at = at.index(length);
                tail.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = at.index(length);
                tail.drain(at..length.min(at + count));
            }
            Damage::Copy(from, to, count) => {
                let from = from.index(length);
                let part = tail[from..length.min(from + count)].to_vec();
                let to = to.index(length);
                tail.splice(to..to, part);
            }
            Damage::Truncate(at) => tail.truncate(at.index(length)),
        }
    }
    [head, &tail].concat()
}
