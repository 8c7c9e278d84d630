//! Verdicts, and that a damaged proof never says yes unless it still proves.

use super::*;
use crate::ots::{DetachedTimestampFile, FileHash, MerkleTree, Op, block_ops, nonced};
use bitcoin::{CompactTarget, TxMerkleNode, block::Version};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

struct Headers {
    by_height: BTreeMap<u64, Header>,
    node: bool,
    asked: Vec<u64>,
}

impl BlockHeaders for Headers {
    fn header(&mut self, height: u64) -> HeaderAnswer {
        self.asked.push(height);
        if !self.node {
            return HeaderAnswer::NoNode("connection refused".into());
        }
        self.by_height.get(&height).map_or(HeaderAnswer::NoSuchBlock, |header| HeaderAnswer::Found(*header))
    }
}

fn header(merkle_root: [u8; 32], time: u32) -> Header {
    Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::from_byte_array(merkle_root),
        time,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    }
}

fn headers(blocks: &[(u64, [u8; 32], u32)]) -> Headers {
    let by_height = blocks.iter().map(|(height, root, time)| (*height, header(*root, *time))).collect();
    Headers { by_height, node: true, asked: Vec::new() }
}

fn says(timestamp: &Timestamp, headers: &mut Headers) -> Verdict {
    verdict(&verify(timestamp, headers))
}

fn at(root: [u8; 32], attestations: &[Attestation]) -> Timestamp {
    let mut timestamp = Timestamp::new(root).unwrap();
    for attestation in attestations {
        timestamp.attest(timestamp.root(), attestation.clone()).unwrap();
    }
    timestamp
}

fn bitcoin_at(height: u64) -> Attestation {
    Attestation::Bitcoin { height }
}

#[test]
fn the_earliest_block_that_commits_counts() {
    let proof = at([7; 32], &[bitcoin_at(30), bitcoin_at(10), bitcoin_at(20)]);
    let mut chain = headers(&[(10, [0; 32], 1000), (20, [7; 32], 2000), (30, [7; 32], 3000)]);
    let hash = chain.by_height[&20].block_hash();
    assert_eq!(says(&proof, &mut chain), Verdict::Verified { height: 20, hash, time: 2000 });
    assert_eq!(chain.asked, [10, 20]);
}

#[test]
fn another_root_is_a_no_and_a_block_that_is_missing_is_not() {
    let proof = at([7; 32], &[bitcoin_at(10), Attestation::pending("http://a").unwrap()]);
    assert_eq!(says(&proof, &mut headers(&[(10, [8; 32], 1)])), Verdict::Mismatch { height: 10 });
    assert_eq!(says(&proof, &mut headers(&[])), Verdict::NoSuchBlock { height: 10 });
    let mut nobody = headers(&[]);
    nobody.node = false;
    assert_eq!(says(&proof, &mut nobody), Verdict::NoNode("connection refused".into()));
    let short = Timestamp::chain([7; 32], [Op::Sha1], bitcoin_at(10)).unwrap();
    assert_eq!(says(&short, &mut headers(&[(10, [7; 32], 1)])), Verdict::Mismatch { height: 10 });
}

#[test]
fn what_no_bitcoin_block_attests_is_not_decided() {
    let mut none = headers(&[]);
    let pending = |uri: &str| Attestation::pending(uri).unwrap();
    let proof = at([7; 32], &[pending("http://b"), pending("http://a"), Attestation::Litecoin { height: 3 }]);
    assert_eq!(says(&proof, &mut none), Verdict::Pending { uris: vec!["http://a".into(), "http://b".into()] });
    let proof = at([7; 32], &[Attestation::Litecoin { height: 3 }, Attestation::Ethereum { height: 3 }]);
    assert_eq!(says(&proof, &mut none), Verdict::OtherChain(vec!["ethereum", "litecoin"]));
    let proof = at([7; 32], &[Attestation::Unknown { tag: [1; 8], payload: vec![2] }]);
    assert_eq!(says(&proof, &mut none), Verdict::Unknown);
    assert!(none.asked.is_empty());
}

#[test]
fn a_proof_cannot_have_a_node_asked_without_end() {
    let many: Vec<Attestation> = (0..5_000).map(bitcoin_at).collect();
    let mut chain = headers(&[]);
    says(&at([7; 32], &many), &mut chain);
    assert_eq!(chain.asked.len(), MAX_LOOKUPS);
}

/// A proof as stamping makes it: nonce, tree, calendar, transaction, block.
fn complete_proof(random: &mut StdRng) -> (DetachedTimestampFile, Headers) {
    let digest: [u8; 32] = random.random();
    let (leaf, nonce_ops) = nonced(&digest, random.random());
    let mut leaves: Vec<[u8; 32]> = (0..37).map(|_| random.random()).collect();
    leaves[11] = leaf;
    let tree = MerkleTree::new(leaves).unwrap();
    let commitment = [&[1, 2, 3, 4], tree.tip().as_slice(), &[5; 8]].concat();
    let transaction = [&[9; 60], Sha256::digest(&commitment).as_slice(), &[0; 10]].concat();
    let mut txids: Vec<[u8; 32]> = (0..9).map(|_| random.random()).collect();
    txids[8] = Sha256::digest(Sha256::digest(&transaction)).into();
    let hashes = txids.iter().map(|id| bitcoin::hashes::sha256d::Hash::from_byte_array(*id));
    let root = bitcoin::merkle_tree::calculate_root(hashes).unwrap().to_byte_array();

    let mut timestamp = Timestamp::new(digest).unwrap();
    let ops = [nonce_ops.to_vec(), tree.path(11).unwrap()].concat();
    let place = timestamp.extend(timestamp.root(), ops).unwrap();
    let place = timestamp.extend(place, [Op::Prepend(vec![1, 2, 3, 4]), Op::Append(vec![5; 8])]).unwrap();
    timestamp.attest(place, Attestation::pending("http://127.0.0.1:8080").unwrap()).unwrap();
    let place = timestamp.push(place, Op::Sha256).unwrap();
    let message = timestamp.message_at(place);
    let place = timestamp.extend(place, block_ops(&message, &transaction, &txids, 8).unwrap()).unwrap();
    timestamp.attest(place, bitcoin_at(120)).unwrap();
    let chain = headers(&[(119, [1; 32], 5), (120, root, 6), (121, [2; 32], 7)]);
    (DetachedTimestampFile::new(FileHash::Sha256, timestamp).unwrap(), chain)
}

/// The definition, written a second time and differently: some path of operations ends in the root of its block.
fn really_proves(proof: &DetachedTimestampFile, chain: &Headers) -> bool {
    let timestamp = proof.timestamp();
    let mut places = vec![(timestamp.root(), timestamp.message().to_vec())];
    while let Some((place, message)) = places.pop() {
        for attestation in timestamp.attestations_at(place) {
            if let Attestation::Bitcoin { height } = attestation
                && chain.by_height.get(height).is_some_and(|h| h.merkle_root.to_byte_array().to_vec() == message)
            {
                return true;
            }
        }
        for (op, child) in timestamp.ops_at(place) {
            places.push((*child, op.apply(&message).unwrap()));
        }
    }
    false
}

#[test]
fn of_two_thousand_flips_none_says_yes_unless_it_still_proves() {
    let mut random = StdRng::seed_from_u64(2);
    let (proof, mut chain) = complete_proof(&mut random);
    assert!(matches!(says(proof.timestamp(), &mut chain), Verdict::Verified { height: 120, time: 6, .. }));
    let bytes = proof.to_bytes().unwrap();
    let (mut malformed, mut no) = (0, 0);
    for _ in 0..2_000 {
        let mut flipped = bytes.clone();
        let bit = random.random_range(0..bytes.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(flipped) = DetachedTimestampFile::from_bytes(&flipped) else {
            malformed += 1;
            continue;
        };
        // A proof of another digest is no proof of the file, whatever else it proves.
        if flipped.file_hash() != proof.file_hash() || flipped.file_digest() != proof.file_digest() {
            no += 1;
            continue;
        }
        let yes = matches!(says(flipped.timestamp(), &mut chain), Verdict::Verified { .. });
        assert_eq!(yes, really_proves(&flipped, &chain), "bit {bit}");
        no += usize::from(!yes);
    }
    assert!(malformed > 100 && no > 500, "{malformed} malformed, {no} not proven: the flips missed the proof");
}
