//! `verifychain`, `pruneblockchain`, and what is said of pruned blocks.

mod common;

use cairn_api::rpc::{Context, execute};
use cairn_chain::{Prune, testing};
use cairn_node::{Node, NodeConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn context(prune: Prune) -> (Context, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config = NodeConfig { prune, ..NodeConfig::new(dir.path().to_owned(), bitcoin::Network::Regtest) };
    let node = Node::open(config).expect("a fresh directory opens");
    (Context::new(node, CancellationToken::new(), CancellationToken::new()), dir)
}

fn call(context: &Context, method: &str, params: Value) -> Result<Value, (i32, String)> {
    execute(context, method, params).map_err(|error| (error.code, error.message))
}

#[tokio::test(flavor = "multi_thread")]
async fn verifychain_answers_as_cores_does() {
    let (context, dir) = context(Prune::Off);
    testing::grow(&context.node.chain, 20).unwrap();
    for params in [json!([]), json!([4, 0]), json!([0]), json!([9, 3]), json!([-1, -1])] {
        assert_eq!(call(&context, "verifychain", params.clone()), Ok(json!(true)), "{params}");
    }
    assert_eq!(call(&context, "verifychain", json!(["3"])).unwrap_err().0, -3);
    let path = dir.path().join("blocks/blk00000.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(call(&context, "verifychain", json!([0])), Ok(json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_answers_as_cores_does() {
    let off = "Cannot prune blocks because node is not in prune mode.".to_owned();
    let (kept, _dir) = context(Prune::Off);
    assert_eq!(call(&kept, "pruneblockchain", json!([1])), Err((-1, off)));
    assert_eq!(call(&kept, "getblockchaininfo", json!([])).unwrap()["pruned"], json!(false));

    let (context, _dir) = context(Prune::Manual);
    let chain = &context.node.chain;
    testing::limit_files(chain, 64 << 10).unwrap();
    testing::grow(chain, 10).unwrap();
    let short = "Blockchain is too short for pruning.".to_owned();
    assert_eq!(call(&context, "pruneblockchain", json!([5])), Err((-1, short)));
    testing::grow(chain, 1_290).unwrap();
    let info = call(&context, "getblockchaininfo", json!([])).unwrap();
    assert_eq!((&info["pruned"], &info["pruneheight"]), (&json!(true), &json!(0)));
    assert_eq!((&info["automatic_pruning"], info.get("prune_target_size")), (&json!(false), None));

    let error = |params| call(&context, "pruneblockchain", params).unwrap_err();
    assert_eq!(error(json!([-1])), (-8, "Negative block height.".into()));
    assert_eq!(error(json!([1301])), (-8, "Blockchain is shorter than the attempted prune height.".into()));
    assert_eq!(
        error(json!([2_000_000_000])),
        (-8, "Could not find block with at least the specified timestamp.".into())
    );
    assert_eq!(call(&context, "pruneblockchain", json!([10])), Ok(json!(-1)), "no file is that old alone");
    // By time: the block of height 500, and two hours before it.
    let time = chain.entry_at(500).unwrap().header.time + 7200;
    let pruned = call(&context, "pruneblockchain", json!([time])).unwrap().as_u64().unwrap();
    assert!((200..=500).contains(&pruned), "{pruned}");
    let info = call(&context, "getblockchaininfo", json!([])).unwrap();
    assert_eq!(info["pruneheight"], json!(pruned + 1));
    let hash = call(&context, "getblockhash", json!([pruned])).unwrap();
    let gone = "Block not available (pruned data)".to_owned();
    assert_eq!(call(&context, "getblock", json!([hash])), Err((-1, gone)));
    assert_eq!(call(&context, "getblockheader", json!([hash])).unwrap()["nTx"], json!(1));
    assert_eq!(call(&context, "verifychain", json!([3, 0])), Ok(json!(false)));

    let (automatic, _dir) = self::context(Prune::Target(550 << 20));
    let info = call(&automatic, "getblockchaininfo", json!([])).unwrap();
    assert_eq!((&info["automatic_pruning"], &info["prune_target_size"]), (&json!(true), &json!(550 << 20)));
}
