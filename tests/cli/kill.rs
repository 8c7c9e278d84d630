//! SIGKILL at random moments while 32 clients stamp: every acknowledged digest ends in a proof that verifies, by one
//! transaction of the active chain, and every start succeeds by itself.

use crate::harness::{Server, agent, eventually, get, get_json, send};
use cairn_stamp::ots::{Attestation, Timestamp};
use rand::RngExt;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLIENTS: usize = 32;
const DEFAULT_ROUNDS: usize = 20;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_paid_twice() {
    let rounds = match std::env::var("CAIRN_TEST_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("CAIRN_TEST_KILL_ROUNDS is a number"),
        Err(_) => DEFAULT_ROUNDS,
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let acknowledged = Mutex::new(Vec::new());

    for _ in 0..rounds {
        let running = server.up("0.3");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| stamp_until(&server, &stop, &acknowledged));
            }
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(20..900)));
            running.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }

    let running = server.up("0.3");
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > rounds * CLIENTS, "the clients were heard: {}", acknowledged.len());
    // Several digests share a commitment; each commitment's rest of the proof is fetched once.
    let mut by_commitment: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (digest, answer) in acknowledged {
        let stamp = Timestamp::from_bytes(digest, &answer).expect("an acknowledged answer is a timestamp");
        let (commitment, attestation, _) = stamp.attestations().next().expect("it ends in an attestation");
        assert!(matches!(attestation, Attestation::Pending { .. }), "it is pending");
        let commitment = commitment.to_vec();
        *by_commitment.entry(commitment).or_default() += 1;
    }
    let headers = |height: u64| {
        let block = get_json(&server.url(&format!("/api/v1/blocks/{height}")));
        let header = block["header"].as_str().expect("header").to_owned();
        (block["hash"].as_str().expect("hash").to_owned(), header)
    };
    let mut anchors = BTreeSet::new();
    for commitment in by_commitment.keys() {
        let hex: String = commitment.iter().map(|byte| format!("{byte:02x}")).collect();
        let rest = eventually("a complete proof", || {
            let (status, body) = get(&server.url(&format!("/timestamp/{hex}")));
            (status == 200).then_some(body)
        });
        let rest = Timestamp::from_bytes(commitment.clone(), &rest).expect("a timestamp");
        let attested: Vec<_> = rest
            .attestations()
            .filter_map(|(message, attestation, _)| match attestation {
                Attestation::Bitcoin { height } => Some((message, *height)),
                _ => None,
            })
            .collect();
        assert_eq!(attested.len(), 1, "one transaction of the active chain");
        let (message, height) = &attested[0];
        let (_, header) = headers(*height);
        let root: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&header[72..136], root, "the proof ends in the block's merkle root");
        anchors.insert(*height);
    }

    // Paid twice would be a transaction on the chain that no proof ends in: there is one a block at most, and every one
    // of them is somebody's anchor.
    let tip = server.rpc("getblockcount", json!([])).as_u64().expect("a height");
    let mut paid = BTreeSet::new();
    for height in 1..=tip {
        let hash = server.rpc("getblockhash", json!([height]));
        let block = server.rpc("getblock", json!([hash, 1]));
        let stamps = block["tx"].as_array().expect("txids").len() - 1;
        assert!(stamps <= 1, "block {height} has {stamps} stamping transactions");
        if stamps == 1 {
            paid.insert(height);
        }
    }
    assert_eq!(paid, anchors, "every transaction that was paid for is the anchor of a stamp, and the other way round");
    println!(
        "{} commitments in {} blocks; {} digests; tip {}",
        by_commitment.len(),
        anchors.len(),
        by_commitment.values().sum::<usize>(),
        tip
    );
    assert_eq!(running.terminate(), Some(0));
}

/// Stamps random digests until told to stop, keeping what was acknowledged.
fn stamp_until(server: &Server, stop: &AtomicBool, acknowledged: &Mutex<Vec<(Vec<u8>, Vec<u8>)>>) {
    let agent = agent();
    let url = server.url("/digest");
    while !stop.load(Ordering::Relaxed) {
        let digest: [u8; 32] = rand::rng().random();
        let (status, answer) =
            send(agent.post(&url).content_type("application/x-www-form-urlencoded").send(&digest[..]));
        if status == 200 {
            acknowledged.lock().unwrap().push((digest.to_vec(), answer));
        }
    }
}
