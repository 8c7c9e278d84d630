//! The `ots` client from PyPI, unmodified, against our calendar and node, and our proofs in its hands.

use crate::harness::{Server, assert_exit, eventually, printed};
use std::path::Path;
use std::process::{Command, Output};

/// Runs `ots ARGS…`; `./test` installs it.
fn ots(dir: &Path, args: &[&str]) -> Output {
    Command::new("ots")
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .output()
        .expect("the ots client is on the PATH: ./test installs opentimestamps-client from PyPI")
}

#[test]
fn the_ots_client_stamps_upgrades_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("1");
    std::fs::write(dir.path().join("f"), b"stamped by somebody else's program").unwrap();
    let calendar = server.url("");

    let output = ots(dir.path(), &["stamp", "-m", "1", "-c", &calendar, "f"]);
    assert_exit(&output, 0);
    eventually("ots upgrade succeeds", || {
        let output = ots(dir.path(), &["--no-cache", "-l", &calendar, "upgrade", "f.ots"]);
        // It refuses to go over a backup of its own.
        let _ = std::fs::remove_file(dir.path().join("f.ots.bak"));
        output.status.success().then_some(())
    });
    let cookie = std::fs::read_to_string(server.data.join("regtest/.cookie")).unwrap();
    let node = format!("http://{}@127.0.0.1:{}", cookie.trim(), server.rpc);
    let verify =
        |proof: &str| ots(dir.path(), &["--no-cache", "--btc-regtest", "--bitcoin-node", &node, "verify", proof]);
    let output = verify("f.ots");
    assert_exit(&output, 0);
    assert!(printed(&output).contains("Success!"), "{}", printed(&output));
    // Ours accepts its proof, through our API and through any Bitcoin node's RPC.
    let file = dir.path().join("f");
    let file = file.to_str().unwrap();
    assert_exit(&server.cairn(&["verify", file]), 0);
    assert_exit(&server.cairn(&["verify", "--bitcoin-node", &node, file]), 0);

    // Its accepts ours.
    std::fs::write(dir.path().join("g"), b"stamped by ours").unwrap();
    let ours = dir.path().join("g");
    assert_exit(&server.cairn(&["stamp", "--wait", ours.to_str().unwrap()]), 0);
    let output = verify("g.ots");
    assert_exit(&output, 0);
    assert!(printed(&output).contains("Success!"), "{}", printed(&output));
    assert_exit(&ots(dir.path(), &["info", "g.ots"]), 0);
    // And a flipped byte is noticed by both.
    std::fs::write(dir.path().join("g"), b"stamped by Ours").unwrap();
    assert_ne!(verify("g.ots").status.code(), Some(0));
    assert_exit(&server.cairn(&["verify", ours.to_str().unwrap()]), 3);
}
