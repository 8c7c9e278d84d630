//! The mempool's methods on a node of our own: packages, priorities, relatives, and the file.

mod common;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Network, Transaction};
use cairn_api::rpc::{Context, execute};
use cairn_node::{Node, NodeConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const SCRIPT: &str = "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260";
const REWARD: u64 = 5_000_000_000;

struct Rpc {
    context: Context,
    /// Coinbases that can be spent.
    coins: Vec<String>,
    dir: tempfile::TempDir,
}

impl Rpc {
    fn new() -> Rpc {
        let (node, dir) = common::node();
        let context = Context::new(node, CancellationToken::new(), CancellationToken::new());
        let mut rpc = Rpc { context, coins: Vec::new(), dir };
        let hashes = rpc.call("generatetodescriptor", json!([110, format!("raw({SCRIPT})")])).unwrap();
        let coinbase =
            |hash: &Value| rpc.call("getblock", json!([hash, 1])).unwrap()["tx"][0].as_str().unwrap().to_owned();
        rpc.coins = hashes.as_array().unwrap()[..10].iter().map(coinbase).collect();
        rpc
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, (i32, String)> {
        execute(&self.context, method, params).map_err(|error| (error.code, error.message))
    }

    fn ok(&self, method: &str, params: Value) -> Value {
        self.call(method, params).unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }
}

fn ids(raw: &str) -> (String, String) {
    let tx: Transaction = deserialize_hex(raw).unwrap();
    (tx.compute_txid().to_string(), tx.compute_wtxid().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_tested_submitted_and_shown() {
    let rpc = Rpc::new();
    let parent = common::spend_op_true(&rpc.coins[0], 0, REWARD, SCRIPT);
    let (parent_txid, parent_wtxid) = ids(&parent);
    let child = common::spend_op_true(&parent_txid, 0, REWARD - 20_000, SCRIPT);
    let (child_txid, child_wtxid) = ids(&child);

    let tested = rpc.ok("testmempoolaccept", json!([[parent, child]]));
    assert_eq!(tested[0]["reject-reason"], "min relay fee not met");
    assert_eq!(tested[1].get("allowed"), None, "not looked at");
    let unsorted = rpc.ok("testmempoolaccept", json!([[child, parent]]));
    assert_eq!([&unsorted[0]["package-error"], &unsorted[1]["package-error"]], ["package-not-sorted"; 2]);
    assert_eq!(
        rpc.call("submitpackage", json!([[child, parent]])).unwrap_err(),
        (-25, "package topology disallowed. not child-with-parents or parents depend on each other.".into())
    );

    let answer = rpc.ok("submitpackage", json!([[parent, child]]));
    assert_eq!(answer["package_msg"], "success");
    let results = &answer["tx-results"];
    assert_eq!(results[&parent_wtxid]["txid"], parent_txid);
    assert_eq!(results[&parent_wtxid]["fees"]["base"].to_string(), "0.00000000");
    assert_eq!(results[&child_wtxid]["fees"]["effective-includes"], json!([parent_wtxid, child_wtxid]));
    assert_eq!(answer["replaced-transactions"], json!([]));
    let again = rpc.ok("submitpackage", json!([[parent, child]]));
    assert_eq!(again["tx-results"][&child_wtxid]["fees"], json!({"base": results[&child_wtxid]["fees"]["base"]}));

    assert_eq!(rpc.ok("getmempoolancestors", json!([child_txid])), json!([parent_txid]));
    assert_eq!(rpc.ok("getmempooldescendants", json!([parent_txid])), json!([child_txid]));
    let related = rpc.ok("getmempooldescendants", json!([parent_txid, true]));
    assert_eq!(related[&child_txid], rpc.ok("getmempoolentry", json!([child_txid])));
    let cluster = rpc.ok("getmempoolcluster", json!([child_txid]));
    assert_eq!((&cluster["txcount"], &cluster["chunks"][0]["txs"]), (&json!(2), &json!([parent_txid, child_txid])));
    let diagram = rpc.ok("getmempoolfeeratediagram", json!([]));
    assert_eq!(diagram[1]["weight"], cluster["clusterweight"]);
    let spending =
        rpc.ok("gettxspendingprevout", json!([[{"txid": parent_txid, "vout": 0}], {"return_spending_tx": true}]));
    assert_eq!((&spending[0]["spendingtxid"], &spending[0]["spendingtx"]), (&json!(child_txid), &json!(child)));
    let listed = rpc.ok("getrawmempool", json!([false, true]));
    assert_eq!(listed, json!({"txids": [parent_txid, child_txid], "mempool_sequence": 3}));
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_change_the_order_and_are_listed() {
    let rpc = Rpc::new();
    let [poor, rich] = [(0, 200), (1, 9000)].map(|(coin, fee)| {
        let raw = common::spend_op_true(&rpc.coins[coin], 0, REWARD - fee, SCRIPT);
        rpc.ok("sendrawtransaction", json!([raw])).as_str().unwrap().to_owned()
    });
    assert_eq!(rpc.ok("getrawmempool", json!([])), json!([rich, poor]));
    let template = || rpc.ok("getblocktemplate", json!([{"rules": ["segwit"]}]));
    let longpoll = template()["longpollid"].clone();
    assert_eq!(rpc.ok("prioritisetransaction", json!([poor, 0, 10_000])), json!(true));
    assert_eq!(rpc.ok("getrawmempool", json!([])), json!([poor, rich]));
    assert_ne!(rpc.context.node.mempool.transactions_updated().to_string(), longpoll.as_str().unwrap()[64..]);
    let absent = "cd".repeat(32);
    rpc.ok("prioritisetransaction", json!({"txid": absent, "fee_delta": -7}));
    let listed = rpc.ok("getprioritisedtransactions", json!([]));
    assert_eq!(listed[&poor], json!({"fee_delta": 10_000, "in_mempool": true, "modified_fee": 10_200}));
    assert_eq!(listed[&absent], json!({"fee_delta": -7, "in_mempool": false}));
    rpc.ok("prioritisetransaction", json!([poor, 0, -20_000]));
    let entry = rpc.ok("getmempoolentry", json!([poor]));
    assert_eq!(entry["fees"]["modified"].to_string(), "-0.00009800");
    assert_eq!(entry["fees"]["base"].to_string(), "0.00000200");
    rpc.ok("generatetodescriptor", json!([1, "raw(51)"]));
    assert_eq!(rpc.ok("getrawmempool", json!([])), json!([poor]), "nobody mines what pays less than nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mempool_is_saved_and_imported() {
    let rpc = Rpc::new();
    let raw = common::spend_op_true(&rpc.coins[0], 0, REWARD - 1000, SCRIPT);
    let txid = rpc.ok("sendrawtransaction", json!([raw]));
    let info = rpc.ok("getmempoolinfo", json!([]));
    assert_eq!((&info["loaded"], &info["unbroadcastcount"]), (&json!(true), &json!(1)));
    let saved = rpc.ok("savemempool", json!([]))["filename"].as_str().unwrap().to_owned();
    assert!(saved.ends_with("mempool.dat") && std::path::Path::new(&saved).is_file());
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("foreign.dat");
    std::fs::copy(&saved, &copy).unwrap();

    // The same chain without that file: nothing is there until it is imported.
    let Rpc { context, dir, .. } = rpc;
    context.node.stop().unwrap();
    drop(context);
    std::fs::remove_file(saved).unwrap();
    let node = Node::open(NodeConfig::new(dir.path().to_owned(), Network::Regtest)).unwrap();
    let rpc =
        Rpc { context: Context::new(node, CancellationToken::new(), CancellationToken::new()), coins: Vec::new(), dir };
    assert_eq!(rpc.ok("getrawmempool", json!([])), json!([]));
    assert_eq!(
        rpc.call("importmempool", json!(["/nowhere/mempool.dat"])).unwrap_err(),
        (-1, "Unable to import mempool file, see debug log for details.".into())
    );
    assert_eq!(rpc.ok("importmempool", json!([copy, {"apply_unbroadcast_set": true}])), json!({}));
    assert_eq!(rpc.ok("getrawmempool", json!([])), json!([txid]));
    assert_eq!(rpc.ok("getmempoolentry", json!([txid]))["unbroadcast"], true);
}
