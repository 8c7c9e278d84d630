//! Locks, ports, signals, and data directories that are not ours to use.

use crate::harness::{Server, get, signal};
use serde_json::json;
use std::io::Read;
use std::process::Child;

/// Waits for a program that must refuse to start; returns its exit code and what it said.
fn refused(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_second_process_is_told_which_process_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("0");
    let second = Server::new(&server.data);
    let (code, said) = refused(second.spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&running.pid().to_string()), "names the holder {}: {said}", running.pid());
    // The first goes on undisturbed, cookie included.
    assert_eq!(server.rpc("getblockcount", json!([])), 101);
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    for port in [server.http, server.rpc] {
        let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (code, said) = refused(server.spawn("0", &[]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&port.to_string()) && said.contains("in use"), "{said}");
        drop(holder);
    }
    assert!(!server.data.join("regtest/blocks").exists());
}

#[test]
fn it_stops_cleanly_and_starts_again_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("0");
    server.rpc("generatetodescriptor", json!([3, "raw(51)"]));
    let best = server.rpc("getbestblockhash", json!([]));
    assert_eq!(running.terminate(), Some(0));
    assert!(!server.data.join("regtest/.cookie").exists(), "the cookie goes with the process");

    let running = server.up("0");
    assert_eq!(server.rpc("getbestblockhash", json!([])), best);
    signal(running.pid(), "INT");
    crate::harness::eventually("Ctrl-C stops it", || (get(&server.url("/api/health/live")).0 == 0).then_some(()));
    drop(running);

    // `stop` over RPC is a clean stop too.
    let running = server.up("0");
    server.rpc("stop", json!([]));
    crate::harness::eventually("stop stops it", || (get(&server.url("/api/health/live")).0 == 0).then_some(()));
    drop(running);
    assert_eq!(server.up("0").terminate(), Some(0));
}

#[test]
fn blocks_come_on_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0.2");
    crate::harness::eventually("three more blocks", || {
        (server.rpc("getblockcount", json!([])).as_u64() >= Some(104)).then_some(())
    });
}

#[test]
fn directories_of_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    assert_eq!(server.up("0").terminate(), Some(0));

    // Of another network: mainnet's directory holds regtest's chain.
    let data = dir.path().join("other");
    std::fs::create_dir(&data).unwrap();
    copy(&server.data.join("regtest"), &data.join("signet"));
    let (code, said) = refused(Server::new(&data).spawn("0", &["--network", "signet"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("regtest"), "{said}");

    // A file where the directory should be.
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let (code, said) = refused(Server::new(&file).spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
