//! What holds for every proof, and for bytes that are none.
#![allow(missing_docs, reason = "a test binary has no interface")]

mod common;

use cairn_stamp::ots::{
    Attestation, DetachedTimestampFile, HEADER_MAGIC, MAX_MESSAGE_LENGTH, MerkleTree, NodeId, Op, Timestamp, cat_sha256,
};
use common::{attestation, branches, damage, damaged, examples, file, op, plan, timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Where the timestamp begins in an `.ots` file: magic, version, the hash's tag and the digest come first.
fn body(file: &DetachedTimestampFile) -> usize {
    HEADER_MAGIC.len() + 2 + file.file_digest().len()
}

fn varuint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that mean the same as the timestamp at `node` without being canonical: items in an order that `seeds` choose,
/// some of them twice.
fn write_shuffled(timestamp: &Timestamp, node: NodeId, seeds: &mut dyn Iterator<Item = u8>, out: &mut Vec<u8>) {
    enum Item<'a> {
        Attestation(&'a Attestation),
        Edge(&'a Op, NodeId),
    }
    let mut items: Vec<(u8, Item<'_>)> = Vec::new();
    for attestation in timestamp.attestations_at(node) {
        let seed = seeds.next().unwrap();
        items.push((seed, Item::Attestation(attestation)));
        if seed.is_multiple_of(4) {
            items.push((seeds.next().unwrap(), Item::Attestation(attestation)));
        }
    }
    for (op, child) in timestamp.ops_at(node) {
        items.push((seeds.next().unwrap(), Item::Edge(op, *child)));
    }
    items.sort_by_key(|(seed, _)| *seed);
    let last = items.len() - 1;
    for (index, (_, item)) in items.into_iter().enumerate() {
        if index < last {
            out.push(0xff);
        }
        match item {
            Item::Attestation(attestation) => {
                // The writer of attestations is not what is tested here.
                let alone = Timestamp::chain(vec![], [], attestation.clone()).unwrap();
                out.extend(alone.to_bytes().unwrap());
            }
            Item::Edge(op, child) => {
                out.push(op.tag());
                if let Some(argument) = op.argument() {
                    varuint(out, argument.len() as u64);
                    out.extend(argument);
                }
                write_shuffled(timestamp, child, seeds, out);
            }
        }
    }
}

/// A tree's tip by another rule than the one that builds it: the left part is the largest power of two, as in a Merkle
/// mountain range.
fn mountain_range(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            cat_sha256(&mountain_range(left), &mountain_range(right))
        }
    }
}

/// What must hold of whatever is read: it is no larger than its bytes, and its canonical form is stable.
fn check_read(bytes: &[u8]) -> Result<bool, TestCaseError> {
    match DetachedTimestampFile::from_bytes(bytes) {
        Err(error) => {
            prop_assert!(error.offset <= bytes.len(), "{error}");
            Ok(false)
        }
        Ok(file) => {
            let mut places = 0;
            for step in file.timestamp().walk() {
                places += 1;
                prop_assert!(step.message.len() <= MAX_MESSAGE_LENGTH);
            }
            prop_assert!(places <= bytes.len());
            let canonical = file.to_bytes().unwrap();
            prop_assert!(canonical.len() <= bytes.len());
            let again = DetachedTimestampFile::from_bytes(&canonical).unwrap();
            prop_assert_eq!(&again, &file);
            prop_assert_eq!(again.to_bytes().unwrap(), canonical);
            Ok(true)
        }
    }
}

proptest! {
    #[test]
    fn timestamps_survive_writing_and_reading(timestamp in timestamp()) {
        let bytes = timestamp.to_bytes().unwrap();
        let read = Timestamp::from_bytes(timestamp.message(), &bytes).unwrap();
        prop_assert_eq!(&read, &timestamp);
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        prop_assert_eq!(branches(&read), branches(&timestamp));
    }

    #[test]
    fn files_survive_writing_and_reading(file in file()) {
        let bytes = file.to_bytes().unwrap();
        let read = DetachedTimestampFile::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        prop_assert_eq!(read, file);
    }

    #[test]
    fn what_is_behind_a_proof_is_refused(file in file(), more in vec(any::<u8>(), 1..20)) {
        let bytes = [file.to_bytes().unwrap(), more].concat();
        prop_assert!(DetachedTimestampFile::from_bytes(&bytes).is_err());
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_how_a_proof_was_written(
        timestamp in timestamp(), seeds in vec(any::<u8>(), 1..60),
    ) {
        let mut bytes = Vec::new();
        write_shuffled(&timestamp, timestamp.root(), &mut seeds.into_iter().cycle(), &mut bytes);
        let read = Timestamp::from_bytes(timestamp.message(), &bytes).unwrap();
        prop_assert_eq!(&read, &timestamp);
        prop_assert_eq!(read.to_bytes().unwrap(), timestamp.to_bytes().unwrap());
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_how_a_proof_was_built(
        timestamp in timestamp(), order in vec(any::<Index>(), 60),
    ) {
        let mut left = branches(&timestamp);
        let mut built = Timestamp::new(timestamp.message()).unwrap();
        for index in order.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (ops, attestation) = left.swap_remove(index.index(left.len()));
            let place = built.extend(built.root(), ops).unwrap();
            prop_assert!(built.attest(place, attestation).unwrap());
        }
        prop_assert_eq!(&built, &timestamp);
        prop_assert_eq!(built.to_bytes().unwrap(), timestamp.to_bytes().unwrap());
    }

    #[test]
    fn every_place_has_the_message_that_its_path_leads_to(timestamp in timestamp()) {
        for step in timestamp.walk() {
            let path = timestamp.path(step.node);
            let message = path.iter().fold(timestamp.message().to_vec(), |message, op| op.apply(&message).unwrap());
            prop_assert_eq!(path.len(), step.depth);
            prop_assert_eq!(&message[..], &step.message[..]);
            prop_assert_eq!(timestamp.message_at(step.node), message);
        }
    }

    #[test]
    fn an_operation_gives_as_much_as_it_says(op in op(), message in vec(any::<u8>(), 0..=MAX_MESSAGE_LENGTH)) {
        let result = op.apply(&message);
        prop_assert_eq!(result.map(|result| result.len()), op.result_length(message.len()));
    }

    #[test]
    fn merging_is_a_union(message in vec(any::<u8>(), 0..40), plans in [plan(12), plan(12), plan(12)]) {
        let [a, b, c] = plans.map(|plan| plan.timestamp(&message));
        let merged = |one: &Timestamp, two: &Timestamp| {
            let mut merged = one.clone();
            let changed = merged.merge(two).unwrap();
            assert_eq!(changed, merged != *one);
            merged
        };
        let ab = merged(&a, &b);
        prop_assert_eq!(&ab, &merged(&b, &a));
        prop_assert_eq!(ab.to_bytes().unwrap(), merged(&b, &a).to_bytes().unwrap());
        prop_assert_eq!(merged(&ab, &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(&merged(&a, &a), &a);
        prop_assert_eq!(&merged(&ab, &b), &ab);
        prop_assert_eq!(&merged(&Timestamp::new(&message[..]).unwrap(), &a), &a);

        let mut both = [branches(&a), branches(&b)].concat();
        let mut union = branches(&ab);
        let order = |(ops, attestation): &(Vec<Op>, Attestation)| (ops.clone(), attestation.to_string());
        both.sort_by_key(order);
        both.dedup();
        union.sort_by_key(order);
        prop_assert_eq!(union, both);
    }

    #[test]
    fn an_answer_is_merged_wherever_its_message_comes_up(
        mut timestamp in timestamp(), place in any::<Index>(), plan in plan(12),
    ) {
        let steps: Vec<_> = timestamp.walk().collect();
        let step = &steps[place.index(steps.len())];
        let answer = plan.timestamp(&step.message);
        timestamp.merge_anywhere(&answer).unwrap();
        let (before, found) = (timestamp.path(step.node), branches(&timestamp));
        for (ops, attestation) in branches(&answer) {
            let whole: Vec<Op> = before.iter().map(|op| (*op).clone()).chain(ops).collect();
            prop_assert!(found.contains(&(whole, attestation)));
        }
        // An answer that leads back to its own message (two reversals do) makes new places for itself.
        let comes_up = |timestamp: &Timestamp| timestamp.walk().filter(|at| at.message == step.message).count();
        if comes_up(&answer) == 1 {
            prop_assert!(!timestamp.merge_anywhere(&answer).unwrap());
        }
    }

    #[test]
    fn a_calendars_answer_reads_back(message in any::<[u8; 32]>(), ops in vec(op(), 0..20), ending in attestation()) {
        if let Ok(answer) = Timestamp::chain(message, ops, ending) {
            prop_assert_eq!(Timestamp::from_bytes(message, &answer.to_bytes().unwrap()).unwrap(), answer);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(!check_read(&bytes)?);
        let _ = check_read(&[HEADER_MAGIC, &bytes[..]].concat())?;
        let header = [&HEADER_MAGIC[..], &[1, 8], &[5; 32]].concat();
        let _ = check_read(&[header, bytes].concat())?;
    }

    #[test]
    fn damaged_proofs_are_read_or_refused(file in file(), damage in damage()) {
        let bytes = file.to_bytes().unwrap();
        let _ = check_read(&damaged(&bytes, 0, &damage))?;
        let _ = check_read(&damaged(&bytes, body(&file), &damage))?;
    }

    #[test]
    fn damaged_examples_are_read_or_refused(example in any::<Index>(), damage in damage()) {
        let examples = examples();
        let (_, bytes) = &examples[example.index(examples.len())];
        let _ = check_read(&damaged(bytes, HEADER_MAGIC.len(), &damage))?;
    }

    #[test]
    fn every_leaf_of_a_tree_leads_to_its_tip(
        leaves in prop_oneof![vec(any::<[u8; 32]>(), 1..40), vec(any::<[u8; 32]>(), 200..300)],
    ) {
        let tree = MerkleTree::new(leaves.clone()).unwrap();
        prop_assert_eq!(tree.tip(), mountain_range(&leaves));
        prop_assert_eq!(tree.leaves(), &leaves[..]);
        for (index, leaf) in leaves.iter().enumerate() {
            let path = tree.path(index).unwrap();
            let tip = path.iter().fold(leaf.to_vec(), |message, op| op.apply(&message).unwrap());
            prop_assert_eq!(tip, tree.tip().to_vec());
            prop_assert!(path.len() <= 2 * leaves.len().next_power_of_two().ilog2() as usize);
        }
        prop_assert!(tree.path(leaves.len()).is_err());
    }
}
