//! The RPC methods that look at all coins at once.

mod common;

use cairn_api::rpc::{Context, execute};
use cairn_node::{Node, NodeConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn call(context: &Context, method: &str, params: Value) -> Result<Value, (i32, String)> {
    execute(context, method, params).map_err(|error| (error.code, error.message))
}

#[tokio::test]
async fn the_coins_are_counted_hashed_and_dumped() {
    let (node, _dir) = common::node();
    let context = Context::new(node, CancellationToken::new(), CancellationToken::new());
    let call = |method: &str, params: Value| call(&context, method, params);
    let hashes = call("generatetoaddress", json!([3, ADDRESS])).expect("mined");
    let info = call("gettxoutsetinfo", json!([])).expect("counted");
    assert_eq!(info["height"], 3);
    assert_eq!(info["bestblock"], hashes[2]);
    assert_eq!((&info["txouts"], &info["transactions"], &info["bogosize"]), (&json!(3), &json!(3), &json!(3 * 72)));
    assert_eq!(info["total_amount"].to_string(), "150.00000000");
    assert_eq!(info["hash_serialized_3"].as_str().map(str::len), Some(64));
    assert!(info["disk_size"].as_u64() > Some(0) && info.get("muhash").is_none());
    let muhash = call("gettxoutsetinfo", json!(["muhash"])).expect("counted");
    assert!(muhash.get("hash_serialized_3").is_none() && muhash["muhash"].is_string());
    assert!(call("gettxoutsetinfo", json!(["none"])).expect("counted").get("muhash").is_none());

    let by_height = call("gettxoutsetinfo", json!({"hash_or_height": 2})).expect("counted");
    assert_eq!((&by_height["txouts"], &by_height["bestblock"]), (&json!(2), &hashes[1]));
    assert_eq!(call("gettxoutsetinfo", json!(["hash_serialized_3", hashes[1]])).expect("counted"), by_height);

    for (params, code, text) in [
        (json!(["sha1"]), -8, "'sha1' is not a valid hash_type"),
        (json!(["none", 4]), -8, "Target block height 4 after current tip 3"),
        (json!(["none", -1]), -8, "Target block height -1 is negative"),
        (json!(["none", "00".repeat(32)]), -5, "Block not found"),
    ] {
        assert_eq!(call("gettxoutsetinfo", params), Err((code, text.to_owned())));
    }

    let dump = call("dumptxoutset", json!(["coins.dat", "latest"])).expect("written");
    assert_eq!(dump["txoutset_hash"], info["hash_serialized_3"]);
    assert_eq!((&dump["coins_written"], &dump["base_height"], &dump["nchaintx"]), (&json!(3), &json!(3), &json!(4)));
    let path = dump["path"].as_str().expect("a path");
    assert!(std::path::Path::new(path).starts_with(context.node.chain.dir()));
    let again = call("dumptxoutset", json!(["coins.dat", "latest"])).expect_err("it is there");
    assert_eq!(again.0, -8);
    assert!(again.1.starts_with(&format!("{path} already exists")), "{}", again.1);
    let earlier = call("dumptxoutset", json!({"path": "earlier.dat", "rollback": 2})).expect("written");
    assert_eq!(earlier["txoutset_hash"], by_height["hash_serialized_3"]);
    for (params, text) in [
        (json!(["x"]), "Invalid snapshot type \"\" specified. Please specify \"rollback\" or \"latest\""),
        (
            json!({"path": "x", "type": "latest", "rollback": 1}),
            "Invalid snapshot type \"latest\" specified with rollback option",
        ),
        (json!(["x", "rollback"]), "Target block height 299 after current tip 3"),
    ] {
        assert_eq!(call("dumptxoutset", params), Err((-8, text.to_owned())));
    }
}

#[tokio::test]
async fn a_node_starts_from_the_snapshot_of_another() {
    let (node, dir) = common::node();
    let first = Context::new(node, CancellationToken::new(), CancellationToken::new());
    let hashes = call(&first, "generatetoaddress", json!([5, ADDRESS])).expect("mined");
    let dump = call(&first, "dumptxoutset", json!({"path": "three.dat", "rollback": 3})).expect("written");
    let text = |name: &str| dump[name].to_string().replace('"', "");
    let named = ["base_height", "base_hash", "txoutset_hash", "nchaintx"].map(text).join(":");

    let other = tempfile::tempdir().expect("a directory");
    let mut config = NodeConfig::new(other.path().to_owned(), bitcoin::Network::Regtest);
    config.assume_utxo = vec![named.parse().expect("a name")];
    let node = Node::open(config).expect("opens");
    let second = Context::new(node, CancellationToken::new(), CancellationToken::new());
    let load = |path: &Value| call(&second, "loadtxoutset", json!([path]));
    assert_eq!(load(&json!("nowhere")).expect_err("not there").0, -8);
    let early = load(&dump["path"]).expect_err("no header yet");
    assert_eq!(early.0, -32603);
    assert!(early.1.starts_with("Unable to load UTXO snapshot: the header of its block"), "{}", early.1);
    for hash in hashes.as_array().expect("hashes") {
        let header = call(&first, "getblockheader", json!([hash, false])).expect("known");
        call(&second, "submitheader", json!([header])).expect("taken");
    }
    let loaded = load(&dump["path"]).expect("loaded");
    assert_eq!((&loaded["coins_loaded"], &loaded["base_height"]), (&json!(3), &json!(3)));
    assert_eq!(loaded["tip_hash"], hashes[2]);
    let states = call(&second, "getchainstates", json!([])).expect("told");
    assert_eq!(states["headers"], 5);
    assert_eq!(
        (&states["chainstates"][0]["blocks"], &states["chainstates"][0]["validated"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(
        (&states["chainstates"][1]["blocks"], &states["chainstates"][1]["validated"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(states["chainstates"][1]["snapshot_blockhash"], hashes[2]);
    // Blocks above, then below: then it is as if there had been none.
    for n in [3, 4, 0, 1, 2] {
        let block = call(&first, "getblock", json!([hashes[n], 0])).expect("here");
        call(&second, "submitblock", json!([block])).expect("taken");
    }
    let states = call(&second, "getchainstates", json!([])).expect("told");
    assert_eq!(states["chainstates"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&states["chainstates"][0]["blocks"], &states["chainstates"][0]["validated"]),
        (&json!(5), &json!(true))
    );
    let info = |context: &Context| call(context, "gettxoutsetinfo", json!(["muhash"])).expect("counted");
    assert_eq!(info(&second), info(&first));
    drop(dir);
}
