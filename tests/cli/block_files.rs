//! An index that is lost or does not match its files, and pruning, as flags of `cairn up`.

use crate::harness::{Server, refused};
use serde_json::json;

#[test]
fn an_index_is_made_anew_when_it_is_lost_or_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let running = server.up("0");
    server.rpc("generatetodescriptor", json!([5, "raw(51)"]));
    let best = server.rpc("getbestblockhash", json!([]));
    let coins = server.rpc("gettxoutsetinfo", json!([]))["hash_serialized_3"].take();
    assert_eq!(running.terminate(), Some(0));

    std::fs::remove_dir_all(server.data.join("regtest/chainstate")).unwrap();
    for flags in [&[][..], &["--reindex"]] {
        let running = server.up_with("0", flags);
        assert_eq!(server.rpc("getbestblockhash", json!([])), best);
        assert_eq!(server.rpc("gettxoutsetinfo", json!([]))["hash_serialized_3"], coins);
        assert_eq!(server.rpc("verifychain", json!([4, 0])), true);
        assert_eq!(running.terminate(), Some(0));
    }

    // One bit of the last block.
    let file = server.data.join("regtest/blocks/blk00000.dat");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, said) = refused(server.spawn("0", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("blk00000.dat is damaged") && said.contains("--reindex"), "{said}");
    let running = server.up_with("0", &["--reindex"]);
    assert_eq!(server.rpc("getblockcount", json!([])), 105, "all but the block that is damaged");
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn pruning_is_asked_for_as_cores_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let (code, said) = refused(server.spawn("0", &["--prune", "100"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("Prune configured below the minimum of 550 MiB.") && said.contains("--prune"), "{said}");
    let running = server.up_with("0", &["--prune", "550"]);
    let info = server.rpc("getblockchaininfo", json!([]));
    assert_eq!((&info["pruned"], &info["prune_target_size"]), (&json!(true), &json!(550 << 20)));
    assert_eq!(running.terminate(), Some(0));
}
