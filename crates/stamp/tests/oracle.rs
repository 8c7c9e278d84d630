//! The Python implementation as the judge: it must read, write, merge and build what we do, and refuse what we refuse.
//!
//! Needs `python3` with the PyPI package `opentimestamps-client`, which `./test` installs. Where it is missing the tests
//! say so and do nothing, except under `CI=true`, where they fail.
//!
//! Known differences, each of which is checked for what it is: Python's release reads the major version as a number of any
//! length where its newest source reads one byte; and our own limits on heights, operations and size.
#![allow(missing_docs, reason = "a test binary has no interface")]

mod common;

use bitcoin::hashes::Hash;
use cairn_stamp::ots::{
    Attestation, DetachedTimestampFile, HEADER_MAGIC, MerkleTree, Op, OtsError, Timestamp, block_ops, cat_sha256,
};
use common::{damage, damaged, examples, file, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What Python says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes(Vec<Vec<u8>>),
    No(String),
}

/// One Python process that is asked line by line.
struct Python {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Starts it; nothing if there is none that has the package.
    fn start() -> Option<Self> {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is");
        let installed = std::env::home_dir().map(|home| home.join(".cache/cairn/python/bin/python3"));
        let found = [Some(PathBuf::from("python3")), installed].into_iter().flatten().find_map(|python| {
            let mut child = Command::new(python)
                .arg(Path::new(&here).join("tests/oracle.py"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let questions = child.stdin.take();
            let mut answers = BufReader::new(child.stdout.take()?);
            let mut line = String::new();
            let ready = answers.read_line(&mut line).is_ok() && line == "ready\n";
            let python = Self { child, questions, answers };
            ready.then_some(python)
        });
        if found.is_none() {
            let missing = "python3 with the package opentimestamps-client is missing: run `./test`, which installs it";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
            eprintln!("\n*** SKIPPED: NOTHING WAS COMPARED WITH THE PYTHON IMPLEMENTATION ***\n*** {missing} ***\n");
        }
        found
    }

    fn ask(&mut self, question: &str, words: &[&[u8]]) -> Answer {
        let mut line = question.to_owned();
        for word in words {
            line.push(' ');
            line.push_str(&hex(word));
        }
        line.push('\n');
        let questions = self.questions.as_mut().expect("it is taken only when the process is dropped");
        questions.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        match answer.trim_end().split_once(' ') {
            Some(("yes", words)) => Answer::Yes(words.split(' ').map(unhex).collect()),
            Some(("no", reason)) => Answer::No(reason.to_owned()),
            _ => panic!("Python is broken by {line}: {answer:?}"),
        }
    }

    fn yes(&mut self, question: &str, words: &[&[u8]]) -> Vec<Vec<u8>> {
        match self.ask(question, words) {
            Answer::Yes(words) => words,
            Answer::No(reason) => {
                let words: Vec<String> = words.iter().map(|word| hex(word)).collect();
                panic!("Python refuses {question} {words:?}: {reason}")
            }
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { bytes.iter().map(|b| format!("{b:02x}")).collect() }
}

fn unhex(word: &str) -> Vec<u8> {
    if word == "-" {
        return Vec::new();
    }
    (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()).collect()
}

/// As many samples as asked for, the same in every run.
fn samples<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Whether we may refuse what Python reads.
fn is_known_difference(error: &OtsError) -> bool {
    match error {
        OtsError::UnsupportedVersion(version) => version & 0x80 != 0,
        OtsError::NumberTooLarge | OtsError::TooManyOperations | OtsError::ProofTooLarge(_) => true,
        _ => false,
    }
}

/// How often there was which verdict.
#[derive(Debug, Default)]
struct Count {
    read: usize,
    refused: usize,
    differences: usize,
}

fn compare(python: &mut Python, bytes: &[u8], count: &mut Count) {
    let ours = DetachedTimestampFile::from_bytes(bytes);
    match (ours, python.ask("file", &[bytes])) {
        (Ok(ours), Answer::Yes(theirs)) => {
            assert_eq!(hex(&ours.to_bytes().unwrap()), hex(&theirs[0]), "{}", hex(bytes));
            count.read += 1;
        }
        (Err(_), Answer::No(_)) => count.refused += 1,
        (Err(error), Answer::Yes(_)) if is_known_difference(&error.error) => count.differences += 1,
        (ours, theirs) => panic!("we: {ours:?}\nPython: {theirs:?}\n{}", hex(bytes)),
    }
}

#[test]
fn the_examples_are_the_same_to_both() {
    let Some(mut python) = Python::start() else { return };
    let mut count = Count::default();
    for (_, bytes) in examples() {
        compare(&mut python, &bytes, &mut count);
    }
    assert_eq!((count.read, count.refused, count.differences), (14, 3, 0));
}

#[test]
fn made_and_damaged_proofs_are_the_same_to_both() {
    let Some(mut python) = Python::start() else { return };
    let mut count = Count::default();
    let files = samples(&file(), 400);
    let mut whole: Vec<Vec<u8>> = files.iter().map(|file| file.to_bytes().unwrap()).collect();
    for bytes in &whole {
        compare(&mut python, bytes, &mut count);
    }
    assert_eq!((count.read, count.refused), (files.len(), 0));

    whole.extend(examples().into_iter().map(|(_, bytes)| bytes));
    let mut count = Count::default();
    for (index, damage) in samples(&damage(), 4000).into_iter().enumerate() {
        let bytes = &whole[index % whole.len()];
        // Mostly behind the magic bytes, where it is not at once refused; often behind the file's digest too.
        let keep =
            [0, HEADER_MAGIC.len(), HEADER_MAGIC.len(), HEADER_MAGIC.len() + 34, HEADER_MAGIC.len() + 34][index % 5];
        compare(&mut python, &damaged(bytes, keep, &damage), &mut count);
    }
    // Neither verdict may be rare, or little was tested.
    assert!(count.read > 800 && count.refused > 800, "{count:?}");
    assert!(count.differences < 100, "{count:?}");
    println!("damaged proofs: {count:?}");
}

#[test]
fn the_known_differences_are_what_they_are_said_to_be() {
    let Some(mut python) = Python::start() else { return };
    let ending = [0x00, 7, 7, 7, 7, 7, 7, 7, 7, 0];
    let file = |version: &[u8], rest: &[u8]| [HEADER_MAGIC, version, &[0x08], &[1; 32], rest].concat();
    let mut compared = |bytes: Vec<u8>| {
        let mut count = Count::default();
        compare(&mut python, &bytes, &mut count);
        (count.read, count.refused, count.differences)
    };
    assert_eq!(compared(file(&[1], &ending)), (1, 0, 0));
    assert_eq!(compared(file(&[2], &ending)), (0, 1, 0));
    assert_eq!(compared(file(&[0x81, 0x00], &ending)), (0, 0, 1));

    let height = |payload: &[u8]| {
        let tag = [0x00, 0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
        file(&[1], &[&tag[..], &[payload.len() as u8], payload].concat())
    };
    assert_eq!(compared(height(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])), (1, 0, 0));
    assert_eq!(compared(height(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02])), (0, 0, 1));
    assert_eq!(compared(height(&[&[0x85][..], &[0x80; 20], &[0]].concat())), (1, 0, 0));

    // The depth is no difference.
    for (depth, expected) in [(255, (1, 0, 0)), (256, (0, 1, 0))] {
        assert_eq!(compared(file(&[1], &[&vec![0x08; depth][..], &ending].concat())), expected, "{depth}");
    }
    // The number of operations is.
    let many = |count: usize| {
        let one = |index: usize| {
            let fork: &[u8] = if index + 1 < count { &[0xff] } else { &[] };
            [fork, &[0xf1, 3, index as u8, (index >> 8) as u8, (index >> 16) as u8], &ending].concat()
        };
        file(&[1], &(0..count).flat_map(one).collect::<Vec<u8>>())
    };
    assert_eq!(compared(many(65_536)), (1, 0, 0));
    assert_eq!(compared(many(65_537)), (0, 0, 1));
}

#[test]
fn merging_gives_the_same() {
    let Some(mut python) = Python::start() else { return };
    for (message, one, two) in samples(&(any::<[u8; 32]>(), plan(12), plan(12)), 400) {
        let (mut one, two) = (one.timestamp(&message), two.timestamp(&message));
        let words = [one.to_bytes().unwrap(), two.to_bytes().unwrap()];
        one.merge(&two).unwrap();
        let theirs = python.yes("merge", &[&message, &words[0], &words[1]]);
        assert_eq!(hex(&one.to_bytes().unwrap()), hex(&theirs[0]), "{message:?} {words:?}");
    }
}

#[test]
fn calendars_answers_are_the_same_to_both() {
    let Some(mut python) = Python::start() else { return };
    let (mut read, mut refused) = (0, 0);
    for (message, plan, damage) in samples(&(any::<[u8; 32]>(), plan(20), damage()), 400) {
        let bytes = damaged(&plan.timestamp(&message).to_bytes().unwrap(), 0, &damage);
        match (Timestamp::from_bytes(message, &bytes), python.ask("timestamp", &[&message, &bytes])) {
            (Ok(ours), Answer::Yes(theirs)) => {
                assert_eq!(hex(&ours.to_bytes().unwrap()), hex(&theirs[0]), "{}", hex(&bytes));
                read += 1;
            }
            (Err(_), Answer::No(_)) => refused += 1,
            (Err(error), Answer::Yes(_)) if is_known_difference(&error.error) => {}
            (ours, theirs) => panic!("we: {ours:?}\nPython: {theirs:?}\n{}", hex(&bytes)),
        }
    }
    assert!(read > 80 && refused > 80, "{read} {refused}");
}

#[test]
fn trees_are_the_same() {
    let Some(mut python) = Python::start() else { return };
    for count in 1..=70u8 {
        let leaves: Vec<[u8; 32]> = (0..count).map(|index| cat_sha256(&[count], &[index])).collect();
        let tree = MerkleTree::new(leaves.clone()).unwrap();
        let words: Vec<&[u8]> = leaves.iter().map(|leaf| &leaf[..]).collect();
        let theirs = python.yes("tree", &words);
        assert_eq!(hex(&theirs[0]), hex(&tree.tip()), "{count} leaves");
        assert_eq!(theirs.len(), leaves.len() + 1);
        for (index, leaf) in leaves.iter().enumerate() {
            let attestation = Attestation::Bitcoin { height: 0 };
            let ours = Timestamp::chain(*leaf, tree.path(index).unwrap(), attestation).unwrap();
            assert_eq!(hex(&theirs[index + 1]), hex(&ours.to_bytes().unwrap()), "leaf {index} of {count}");
        }
        // Of every length but none: Python builds operations, and none of them adds nothing.
        let (left, right) = (vec![count; usize::from(count)], &leaves[0][..1 + usize::from(count) % 32]);
        assert_eq!(hex(&python.yes("cat", &[&left, right])[0]), hex(&cat_sha256(&left, right)), "{count}");
    }
}

/// A block whose transaction number `index` has the message in an output.
fn block(message: &[u8], count: usize, index: usize) -> bitcoin::Block {
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
    let transaction = |number: usize| Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([number as u8; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[&message[..1]]),
        }],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: if number == index {
                let data: &bitcoin::script::PushBytes = message.try_into().unwrap();
                ScriptBuf::new_op_return(data)
            } else {
                ScriptBuf::new()
            },
        }],
    };
    let txdata: Vec<Transaction> = (0..count).map(transaction).collect();
    let mut block = bitcoin::Block {
        header: bitcoin::block::Header {
            version: bitcoin::block::Version::TWO,
            prev_blockhash: bitcoin::BlockHash::all_zeros(),
            merkle_root: bitcoin::TxMerkleNode::all_zeros(),
            time: 1,
            bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata,
    };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

#[test]
fn ways_through_a_block_are_the_same() {
    let Some(mut python) = Python::start() else { return };
    let message = cat_sha256(b"message", b"");
    for count in 1..=17 {
        for index in 0..count {
            let block = block(&message, count, index);
            let txids: Vec<[u8; 32]> = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
            let mut stripped = block.txdata[index].clone();
            stripped.input[0].witness.clear();
            let transaction = bitcoin::consensus::serialize(&stripped);
            let ops: Vec<Op> = block_ops(&message, &transaction, &txids, index).unwrap();
            let ours = Timestamp::chain(message, ops, Attestation::Bitcoin { height: 4711 }).unwrap();
            let theirs =
                python.yes("block", &[&message, &bitcoin::consensus::serialize(&block), &4711u32.to_be_bytes()]);
            assert_eq!(hex(&theirs[0]), hex(&ours.to_bytes().unwrap()), "transaction {index} of {count}");
        }
    }
}
