//! Stamp, wait, verify; a flipped byte in the file or the proof.

use crate::harness::{Server, assert_exit, get_json, printed};
use cairn_stamp::ots::DetachedTimestampFile;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Flips that the proof must survive without a false yes.
const FLIPS: usize = 2_000;

#[test]
fn a_file_is_stamped_proven_and_a_flip_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("1");
    let file = dir.path().join("letter.txt");
    let file_name = file.to_str().unwrap();
    std::fs::write(&file, b"Dear reader,\nthis existed.\n").unwrap();

    let output = server.cairn(&["stamp", "--wait", file_name]);
    assert_exit(&output, 0);
    let output = server.cairn(&["verify", file_name]);
    assert_exit(&output, 0);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("block") && said.contains("20"), "says which block and when: {said}");
    assert_exit(&server.cairn(&["info", &format!("{file_name}.ots")]), 0);
    // A complete proof has nothing to upgrade.
    assert_exit(&server.cairn(&["upgrade", &format!("{file_name}.ots")]), 0);

    let mut bytes = std::fs::read(&file).unwrap();
    bytes[3] ^= 1;
    let forged = dir.path().join("forged.txt");
    std::fs::write(&forged, &bytes).unwrap();
    let proof = format!("{file_name}.ots");
    let output = server.cairn(&["verify", forged.to_str().unwrap(), &proof]);
    assert_exit(&output, 3);

    flips_never_say_yes(&server, &std::fs::read(&proof).unwrap(), file_name, dir.path());
    assert_eq!(running.terminate(), Some(0));
}

/// Flips one bit at a time: a yes is right only where the flipped proof still proves.
fn flips_never_say_yes(server: &Server, proof: &[u8], file: &str, dir: &std::path::Path) {
    let next = AtomicUsize::new(0);
    let yes = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (next, yes) = (&next, &yes);
            scope.spawn(move || {
                let path = dir.join(format!("flip-{worker}.ots"));
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= FLIPS {
                        break;
                    }
                    let mut rng = StdRng::seed_from_u64(i as u64);
                    let mut flipped = proof.to_vec();
                    let at = rng.random_range(0..flipped.len());
                    flipped[at] ^= 1 << rng.random_range(0..8);
                    std::fs::write(&path, &flipped).unwrap();
                    let output = server.cairn(&["verify", file, path.to_str().unwrap()]);
                    match output.status.code() {
                        Some(1 | 3 | 4) => {}
                        Some(0) => yes.lock().unwrap().push((at, flipped)),
                        _ => panic!("flip at {at}: {}", printed(&output)),
                    }
                }
            });
        }
    });
    for (at, flipped) in yes.into_inner().unwrap() {
        assert!(still_proves(proof, &flipped), "flip at byte {at} was accepted");
    }
}

/// A flipped proof still proves if it leads from the same digest to a message that the original attests in the same way: a
/// flip of the calendar's address takes nothing from the path to the block, and a flip behind the calendar's commitment
/// leaves what the calendar can complete again.
fn still_proves(original: &[u8], flipped: &[u8]) -> bool {
    let attested = |bytes: &[u8]| {
        let file = DetachedTimestampFile::from_bytes(bytes).ok()?;
        let attestations: Vec<_> =
            file.timestamp().attestations().map(|(message, attestation, _)| (message, attestation.clone())).collect();
        Some((file.timestamp().message().to_vec(), attestations))
    };
    match (attested(original), attested(flipped)) {
        (Some((digest, ours)), Some((same, theirs))) => digest == same && theirs.iter().any(|one| ours.contains(one)),
        _ => false,
    }
}

#[test]
fn a_stamp_waits_until_somebody_mines_and_standard_input_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    let proof = dir.path().join("stdin.ots");
    let mut child = server
        .command(&["stamp", "--output", proof.to_str().unwrap(), "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"from a pipe").unwrap();
    assert_exit(&child.wait_with_output().unwrap(), 0);

    let text = dir.path().join("same.txt");
    std::fs::write(&text, b"from a pipe").unwrap();
    let verify = || server.cairn(&["verify", text.to_str().unwrap(), proof.to_str().unwrap()]);
    // Nothing is mined by itself here, so it cannot be known yet: neither yes nor no.
    assert_exit(&verify(), 4);
    assert_exit(&server.cairn(&["upgrade", proof.to_str().unwrap()]), 4);

    crate::harness::eventually("the stamping transaction", || {
        (server.rpc("getmempoolinfo", serde_json::json!([]))["size"] == 1).then_some(())
    });
    let address = server.rpc("getblockchaininfo", serde_json::json!([]));
    assert_eq!(address["chain"], "regtest");
    server.rpc("generatetodescriptor", serde_json::json!([1, "raw(51)"]));
    crate::harness::eventually("a complete proof", || {
        (server.cairn(&["upgrade", proof.to_str().unwrap()]).status.code() == Some(0)).then_some(())
    });
    assert_exit(&verify(), 0);
}

#[test]
fn many_digests_make_one_transaction_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    let digests: Vec<String> = (0..1_000u32).map(|i| format!("{i:064x}")).collect();
    let body = serde_json::json!({ "digests": digests }).to_string();
    let (status, answer) = crate::harness::post(&server.url("/api/v1/stamps"), "application/json", body.as_bytes());
    assert!(status == 200 || status == 201 || status == 202, "{status}: {}", String::from_utf8_lossy(&answer));
    crate::harness::eventually("the stamping transaction", || {
        (server.rpc("getmempoolinfo", serde_json::json!([]))["size"] == 1).then_some(())
    });
    let hash = server.rpc("generatetodescriptor", serde_json::json!([1, "raw(51)"]))[0].clone();
    let block = server.rpc("getblock", serde_json::json!([hash, 1]));
    assert_eq!(block["tx"].as_array().unwrap().len(), 2, "a coinbase and one stamp");
    for digest in [&digests[0], &digests[999]] {
        crate::harness::eventually("confirmed", || {
            let state = get_json(&server.url(&format!("/api/v1/stamps/{digest}")));
            (state["state"] == "confirmed").then_some(())
        });
        let (status, proof) = crate::harness::get(&server.url(&format!("/api/v1/stamps/{digest}/proof")));
        assert_eq!(status, 200);
        let path = dir.path().join(format!("{digest}.ots"));
        std::fs::write(&path, proof).unwrap();
        let output = server.cairn(&["verify", "--digest", digest, path.to_str().unwrap()]);
        assert_exit(&output, 0);
    }
}
