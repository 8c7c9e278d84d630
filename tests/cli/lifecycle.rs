//! Locks, ports, signals, and data directories that are not ours to use.

use crate::harness::{Server, get, refused, signal};
use serde_json::json;

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
fn secrets_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let _running = server.up("0");
    for (path, mode) in [
        ("", 0o700),
        ("keys/admin", 0o600),
        ("keys/wallet", 0o600),
        ("regtest", 0o700),
        ("regtest/.cookie", 0o600),
        ("regtest/cairn.sqlite", 0o600),
        ("regtest/cairn.sqlite-wal", 0o600),
    ] {
        let found = std::fs::metadata(server.data.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path:?} has mode {found:o}");
    }
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

#[test]
fn directories_of_newer_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    assert_eq!(server.up("0").terminate(), Some(0));
    let format = server.data.join("regtest/FORMAT");
    let ours = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, ours.replace("cairn-chain 1", "cairn-chain 2")).unwrap();
    let (code, said) = refused(server.spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("newer"), "{said}");
    std::fs::write(&format, ours).unwrap();

    let database = server.data.join("regtest/cairn.sqlite");
    let sql = |text: &str| {
        let status = std::process::Command::new("python3")
            .args([
                "-c",
                "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])",
            ])
            .arg(&database)
            .arg(text)
            .status()
            .unwrap();
        assert!(status.success(), "{text}");
    };
    sql("INSERT INTO migrations SELECT 9999, '9999_future' FROM migrations LIMIT 1");
    let (code, said) = refused(server.spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("newer"), "{said}");
    sql("DELETE FROM migrations WHERE name LIKE '9999%'");
    assert_eq!(server.up("0").terminate(), Some(0), "and nothing was changed");
}

/// A file system of its own, gone at the end. Needs root, as CI has.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(path: &std::path::Path, options: &str) -> Option<Mount> {
        std::fs::create_dir(path).unwrap();
        let done = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        match done {
            Ok(output) if output.status.success() => Some(Mount(path.to_owned())),
            _ => {
                assert!(std::env::var_os("CI").is_none(), "CI can mount");
                eprintln!("SKIPPED: mounting a file system needs root");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let done = std::process::Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_read_only_directory_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=64m") else { return };
    let server = Server::new(&mount.0.join("data"));
    assert_eq!(server.up("0").terminate(), Some(0));
    mount.remount("remount,ro");
    let (code, said) = refused(server.spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ead-only") || said.contains("writable") || said.contains("written"), "{said}");
    mount.remount("remount,rw");
    assert_eq!(server.up("0").terminate(), Some(0));
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=48m") else { return };
    let server = Server::new(&mount.0.join("data"));
    let running = server.up("0");
    let post = |byte: u8| crate::harness::post(&server.url("/digest"), "application/octet-stream", &[byte; 32]);
    assert_eq!(post(1).0, 200);

    let ballast = mount.0.join("ballast");
    let filled = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&ballast).unwrap());
    assert!(filled.is_err(), "the disk is full");
    // What fits into pages that are allocated already is still taken; after that the answer says why not.
    let refused = (2..200).find_map(|byte| {
        let (status, text) = post(byte);
        (status != 200).then(|| (status, String::from_utf8_lossy(&text).into_owned()))
    });
    let (status, said) = refused.expect("a full disk is noticed");
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("full") && said.contains("free space"), "{said}");
    assert_eq!(get(&server.url("/api/health/live")).0, 200, "and it lives on");

    std::fs::remove_file(&ballast).unwrap();
    crate::harness::eventually("stamping again", || (post(201).0 == 200).then_some(()));
    server.rpc("generatetodescriptor", json!([1, "raw(51)"]));
    drop(running);
    // What was acknowledged before is still there after a kill.
    let _running = server.up("0");
    let digest = "01".repeat(32);
    let state = crate::harness::get_json(&server.url(&format!("/api/v1/stamps/{digest}")));
    assert!(state["state"].is_string(), "{state}");
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
