//! `getblockfilter` and `getindexinfo`.

use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use cairn_api::rpc::{Context, execute};
use cairn_chain::testing;
use cairn_node::{Node, NodeConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn context(txindex: bool, blockfilterindex: bool) -> (Context, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config =
        NodeConfig { txindex, blockfilterindex, ..NodeConfig::new(dir.path().to_owned(), bitcoin::Network::Regtest) };
    let node = Node::open(config).expect("a fresh directory opens");
    (Context::new(node, CancellationToken::new(), CancellationToken::new()), dir)
}

fn call(context: &Context, method: &str, params: Value) -> Result<Value, (i32, String)> {
    execute(context, method, params).map_err(|error| (error.code, error.message))
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_answered_as_by_core() {
    let (context, _dir) = context(true, true);
    let chain = &context.node.chain;
    testing::grow(chain, 3).expect("grown");
    // The genesis block's, as a bitcoind answers it.
    let genesis = chain.entry_at(0).expect("active").hash.to_string();
    assert_eq!(
        call(&context, "getblockfilter", json!([genesis])),
        Ok(json!({
            "filter": "014756c0",
            "header": "485e301e4509d7f0d954bf5b529f3ecef68c5191fd0e635f775c1d0266dc5a2b",
        }))
    );
    let tip = chain.tip();
    let answer = call(&context, "getblockfilter", json!([tip.hash.to_string(), "basic"])).expect("answered");
    let filter = chain.filter(&tip.hash).expect("read").expect("there");
    assert_eq!(Vec::from_hex(answer["filter"].as_str().expect("hex")).expect("hex"), filter.content);
    assert_eq!(answer["header"], chain.filter_header(&tip.hash).expect("read").expect("there").to_string());

    let stale = testing::branch(&chain.params().genesis.header, 0, 1, 9)[0].clone();
    chain.process_block(stale.clone(), testing::NOW, false).expect("taken");
    let not_connected = "Filter not found. Block was not connected to active chain.";
    for (params, code, text) in [
        (json!([genesis, "extended"]), -5, "Unknown filtertype"),
        (json!([testing::unknown_hash().to_string()]), -5, "Block not found"),
        (json!([stale.block_hash().to_string()]), -5, not_connected),
    ] {
        assert_eq!(call(&context, "getblockfilter", params), Err((code, text.to_owned())));
    }
    assert_eq!(call(&context, "getblockfilter", json!(["00"])).expect_err("too short").0, -8);
    assert_eq!(call(&context, "getblockfilter", json!([genesis, 0])).expect_err("no text").0, -3);
    assert_eq!(
        bitcoin::bip158::FilterHash::hash(&filter.content)
            .filter_header(&chain.filter_header(&tip.header.prev_blockhash).expect("read").expect("there"))
            .to_string(),
        answer["header"].as_str().expect("hex")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_told_by_cores_names() {
    let synced = |height: u32| json!({ "synced": true, "best_block_height": height });
    let (all, _dir) = context(true, true);
    testing::grow(&all.node.chain, 7).expect("grown");
    let both = json!({ "txindex": synced(7), "basic block filter index": synced(7) });
    assert_eq!(call(&all, "getindexinfo", json!([])), Ok(both.clone()));
    assert_eq!(call(&all, "getindexinfo", json!([""])), Ok(both));
    assert_eq!(call(&all, "getindexinfo", json!(["txindex"])), Ok(json!({ "txindex": synced(7) })));
    let name = "basic block filter index";
    assert_eq!(call(&all, "getindexinfo", json!([name])), Ok(json!({ name: synced(7) })));
    assert_eq!(call(&all, "getindexinfo", json!(["foo"])), Ok(json!({})));

    let (none, _dir) = context(false, false);
    assert_eq!(call(&none, "getindexinfo", json!([])), Ok(json!({})));
    let genesis = none.node.chain.tip().hash.to_string();
    let disabled = "Index is not enabled for filtertype basic".to_owned();
    assert_eq!(call(&none, "getblockfilter", json!([genesis])), Err((-1, disabled)));
}
