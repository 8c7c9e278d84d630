//! The OpenTimestamps client's own examples, whole: read, written back byte for byte, the invalid ones refused.
#![allow(missing_docs, reason = "a test binary has no interface")]

use cairn_stamp::ots::{Attestation, DetachedTimestampFile, FileHash, Op, OtsError};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Where this crate is now: a test built in one clone may run in another that shares its target directory.
fn manifest_dir() -> String {
    std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is")
}

fn vectors() -> PathBuf {
    Path::new(&manifest_dir()).join("../../tests/vectors/opentimestamps")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn parse(name: &str) -> DetachedTimestampFile {
    DetachedTimestampFile::from_bytes(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn proofs_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(vectors().join(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|name| name.ends_with(".ots"))
        .collect();
    names.sort();
    names
}

#[test]
fn every_valid_example_is_read_and_written_back_unchanged() {
    let names = [proofs_in("."), proofs_in("sha1")].concat();
    assert_eq!(names.len(), 14, "{names:?}");
    for name in names {
        let bytes = read(&name);
        let proof = parse(&name);
        assert_eq!(proof.to_bytes().unwrap(), bytes, "{name}");
        assert!(proof.timestamp().attestations().next().is_some(), "{name}");
    }
}

#[test]
fn every_example_is_for_its_file() {
    for name in [proofs_in("."), proofs_in("sha1")].concat() {
        let proof = parse(&name);
        let files = match name.as_str() {
            "sha1/a-or-b.ots" => vec!["sha1/a".to_owned(), "sha1/b".to_owned()],
            // Their files are not part of the examples.
            "./bitcoin.pdf.ots" | "./gdp2q25-2nd.pdf.ots" => continue,
            other => vec![other.trim_end_matches(".ots").to_owned()],
        };
        for file in files {
            let digest = match proof.file_hash() {
                FileHash::Sha256 => Sha256::digest(read(&file)).to_vec(),
                FileHash::Sha1 => Sha1::digest(read(&file)).to_vec(),
                FileHash::Ripemd160 | FileHash::Keccak256 => unreachable!("no example uses them"),
            };
            assert_eq!(proof.file_digest(), digest, "{name}");
        }
    }
}

#[test]
fn hello_world_leads_to_the_merkle_root_of_block_358391() {
    let proof = parse("hello-world.txt.ots");
    let found: Vec<_> = proof.timestamp().attestations().collect();
    let [(message, attestation, place)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(**attestation, Attestation::Bitcoin { height: 358_391 });
    // What block explorers show for block 358391: the header's bytes in reverse.
    let shown: String = message.iter().rev().map(|b| format!("{b:02x}")).collect();
    assert_eq!(shown, "8a1b66ecb7cbd07d8139a7e7d7f2c41aab1f5009b8364aaf61d03ad245e47e00");
    assert_eq!(proof.timestamp().path(*place)[0], &Op::Ripemd160);
    assert_eq!(proof.timestamp().message_at(*place), message.to_vec());
}

#[test]
fn attestations_of_every_kind_are_found() {
    let of = |name: &str| -> Vec<String> {
        let proof = parse(name);
        proof.timestamp().attestations().map(|(_, attestation, _)| attestation.to_string()).collect()
    };
    let alice = "pending at https://alice.btc.calendar.opentimestamps.org";
    let bob = "pending at https://bob.btc.calendar.opentimestamps.org";
    assert_eq!(of("incomplete.txt.ots"), [alice]);
    assert_eq!(of("two-calendars.txt.ots"), [alice, bob]);
    assert_eq!(of("unknown-notary.txt.ots").len(), 1);
    assert!(of("unknown-notary.txt.ots")[0].starts_with("unknown attestation "));
    let mixed = of("known-and-unknown-notary.txt.ots");
    assert!(mixed.iter().any(|a| a.starts_with("pending")) && mixed.iter().any(|a| a.starts_with("unknown")));
    let chains = of("different-blockchains.txt.ots");
    assert!(chains.contains(&"Ethereum block 3283713".to_owned()), "{chains:?}");
    assert!(chains.contains(&"Bitcoin block 455605".to_owned()), "{chains:?}");
}

#[test]
fn merging_the_parts_of_a_tree_needs_the_same_message() {
    let (mut one, two) = (parse("merkle1.txt.ots"), parse("merkle2.txt.ots"));
    assert_eq!(one.merge(&two), Err(OtsError::DifferentMessages));
    let copy = one.clone();
    assert_eq!(one.merge(&copy), Ok(false));
}

#[test]
fn every_invalid_example_is_refused_for_its_reason() {
    assert_eq!(proofs_in("invalid").len(), 3);
    let error = |name: &str| DetachedTimestampFile::from_bytes(&read(name)).unwrap_err();
    assert!(matches!(error("invalid/bad-major-version.ots").error, OtsError::UnsupportedVersion(_)));
    assert_eq!(error("invalid/bad-major-version.ots").offset, 31);
    assert!(matches!(error("invalid/exceeds-max-msg-length.ots").error, OtsError::MessageTooLong(_)));
    assert!(matches!(error("invalid/invalid-file-digest-type.ots").error, OtsError::UnknownFileHash(0xf3)));
    assert_eq!(error("invalid/invalid-file-digest-type.ots").offset, 32);
}

#[test]
fn every_prefix_of_an_example_is_truncated() {
    let bytes = read("different-blockchains.txt.ots");
    for length in 31..bytes.len() {
        let error = DetachedTimestampFile::from_bytes(&bytes[..length]).unwrap_err();
        assert!(matches!(error.error, OtsError::Truncated { .. }), "{length}: {error}");
        assert!(error.offset <= length);
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    let error = DetachedTimestampFile::from_bytes(&longer).unwrap_err();
    assert_eq!((error.offset, error.error), (bytes.len(), OtsError::TrailingBytes(1)));
}
