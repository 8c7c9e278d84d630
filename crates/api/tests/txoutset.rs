//! The RPC methods that look at all coins at once.

mod common;

use cairn_api::rpc::{Context, execute};
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
