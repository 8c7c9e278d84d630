//! JSON-RPC against a node: HTTP statuses and dialects, methods and errors, and Core's own list of fields.

mod common;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block};
use cairn_api::rpc::auth::Credentials;
use cairn_api::rpc::{Context, execute, server::Server};
use cairn_node::{Node, NodeConfig};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn context() -> (Context, tempfile::TempDir) {
    let (node, dir) = common::node();
    (Context::new(node, CancellationToken::new(), CancellationToken::new()), dir)
}

fn call(context: &Context, method: &str, params: Value) -> Result<Value, (i32, String)> {
    execute(context, method, params).map_err(|error| (error.code, error.message))
}

struct Client {
    router: Router,
    _dir: tempfile::TempDir,
}

impl Client {
    fn new() -> Client {
        let (context, dir) = context();
        let mut credentials = Credentials::default();
        credentials.allow("user", "pass");
        Client { router: Server::new(context, credentials, 4, 4).router(), _dir: dir }
    }

    async fn post(&self, body: &str) -> (StatusCode, Value) {
        let request = Request::post("/")
            .header("authorization", format!("Basic {}", STANDARD.encode("user:pass")))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        (status, value)
    }
}

#[tokio::test]
async fn only_posts_of_known_users_are_served() {
    let client = Client::new();
    let get = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(client.router.clone().oneshot(get).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    for header in [None, Some("user:wrong")] {
        let mut post = Request::post("/");
        if let Some(pair) = header {
            post = post.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
        }
        let response = client.router.clone().oneshot(post.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"jsonrpc\"");
    }
}

/// Core's `interface_rpc.py`: what each dialect's errors look like.
#[tokio::test]
async fn dialects_differ_as_cores_do() {
    let client = Client::new();
    let cases = [
        // Version 1: errors are HTTP errors, both members are there.
        (json!({"method": "getblockcount", "id": 1}), 200, json!({"result": 0, "error": null, "id": 1})),
        (json!({"method": "getblockcount"}), 200, json!({"result": 0, "error": null})),
        (
            json!({"method": "nope", "id": "a"}),
            404,
            json!({"result": null, "error": {"code": -32601, "message": "Method not found"}, "id": "a"}),
        ),
        (
            json!({"method": "getblockhash", "params": [9], "id": 1}),
            500,
            json!({"result": null, "error": {"code": -8, "message": "Block height out of range"}, "id": 1}),
        ),
        (
            json!({"id": 7}),
            400,
            json!({"result": null, "error": {"code": -32600, "message": "Missing method"}, "id": 7}),
        ),
        (
            json!({"jsonrpc": "3.0", "method": "getblockcount", "id": 7}),
            400,
            json!({"result": null, "error": {"code": -32600, "message": "JSON-RPC version not supported"}, "id": 7}),
        ),
        (
            json!("text"),
            500,
            json!({"result": null, "error": {"code": -32700, "message": "Top-level object parse error"}, "id": null}),
        ),
        // Version 2: errors are answers, and one member only.
        (
            json!({"jsonrpc": "2.0", "method": "getblockcount", "id": 1}),
            200,
            json!({"jsonrpc": "2.0", "result": 0, "id": 1}),
        ),
        (
            json!({"jsonrpc": "2.0", "method": "nope", "id": 1}),
            200,
            json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 1}),
        ),
        (json!({"jsonrpc": "2.0", "method": "getblockcount"}), 204, Value::Null),
        // Batches.
        (json!([]), 200, json!([])),
        (
            json!([{"method": "getblockcount", "id": 1}, {"jsonrpc": "2.0", "method": "nope", "id": 2}, 3]),
            200,
            json!([
                {"result": 0, "error": null, "id": 1},
                {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 2},
                {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request object"}, "id": 2},
            ]),
        ),
        (json!([{"jsonrpc": "2.0", "method": "getblockcount"}]), 204, Value::Null),
    ];
    for (request, status, answer) in cases {
        let (found_status, found) = client.post(&request.to_string()).await;
        assert_eq!((found_status.as_u16(), &found), (status, &answer), "{request}");
    }
    let (status, answer) = client.post("{").await;
    assert_eq!((status.as_u16(), answer["error"]["code"].as_i64()), (500, Some(-32700)));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_made_shown_undone_and_reconsidered() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    let hashes = call("generatetoaddress", json!([3, ADDRESS])).unwrap();
    let tip = hashes[2].as_str().unwrap().to_owned();
    assert_eq!(call("getblockcount", json!([])), Ok(json!(3)));
    assert_eq!(call("getbestblockhash", json!([])), Ok(json!(tip)));
    assert_eq!(call("getblockhash", json!([3])), Ok(json!(tip)));
    assert_eq!(call("getblockhash", json!({"height": 3})), Ok(json!(tip)));

    let header = call("getblockheader", json!([tip])).unwrap();
    assert_eq!(header["height"], 3);
    assert_eq!(header["previousblockhash"], hashes[1]);
    assert_eq!(header["bits"], "207fffff");
    assert_eq!(header["difficulty"].to_string(), "4.656542373906925e-10");
    let raw = call("getblockheader", json!([tip, false])).unwrap();
    assert_eq!(raw.as_str().unwrap().len(), 160);

    let block = call("getblock", json!([tip, 2])).unwrap();
    let coinbase = &block["tx"][0];
    assert_eq!(coinbase["vout"][0]["value"].to_string(), "50.00000000");
    assert_eq!(coinbase["vout"][0]["scriptPubKey"]["address"], ADDRESS);
    assert_eq!(coinbase["vout"][0]["scriptPubKey"]["type"], "witness_v0_keyhash");
    let hex = call("getblock", json!([tip, 0])).unwrap();
    assert_eq!(call("submitblock", json!([hex])), Ok(json!("duplicate")));
    assert_eq!(call("getblocktemplate", json!([{"mode": "proposal", "data": hex}])), Ok(json!("duplicate")));

    let txid = coinbase["txid"].clone();
    let found = call("getrawtransaction", json!([txid, 1])).unwrap();
    assert_eq!((&found["blockhash"], &found["confirmations"]), (&json!(tip), &json!(1)));
    let named = call("getrawtransaction", json!([txid, 1, hashes[1]])).unwrap_err();
    assert_eq!(
        named,
        (-5, "No such transaction found in the provided block. Use gettransaction for wallet transactions.".into())
    );
    let coin = call("gettxout", json!([txid, 0])).unwrap();
    assert_eq!((&coin["coinbase"], &coin["confirmations"]), (&json!(true), &json!(1)));
    assert_eq!(call("gettxout", json!([txid, 7])), Ok(Value::Null));

    assert_eq!(call("invalidateblock", json!([tip])), Ok(Value::Null));
    assert_eq!(call("getblockcount", json!([])), Ok(json!(2)));
    assert_eq!(call("submitblock", json!([hex])), Ok(json!("duplicate-invalid")));
    let tips = call("getchaintips", json!([])).unwrap();
    assert_eq!((&tips[0]["status"], &tips[0]["branchlen"]), (&json!("invalid"), &json!(1)));
    assert_eq!(call("reconsiderblock", json!([tip])), Ok(Value::Null));
    assert_eq!(call("getblockcount", json!([])), Ok(json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_on_invalid_ones_are_answered_as_core_does() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    // A block for the tip that is not submitted, changed and with a proof of work of its own.
    let changed = |change: &dyn Fn(&mut Block)| {
        let made = call("generateblock", json!([ADDRESS, [], false])).unwrap();
        let mut block: Block = deserialize_hex(made["hex"].as_str().unwrap()).unwrap();
        change(&mut block);
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        (serialize_hex(&block), block.block_hash())
    };
    let (greedy, greedy_hash) = changed(&|block| block.txdata[0].output[0].value += Amount::ONE_SAT);
    call("generatetoaddress", json!([1, ADDRESS])).unwrap();
    let (second, second_hash) = changed(&|block| block.header.prev_blockhash = greedy_hash);
    call("generatetoaddress", json!([1, ADDRESS])).unwrap();
    let (third, _) = changed(&|block| block.header.prev_blockhash = second_hash);
    let (unknown, _) = changed(&|block| block.header.time += 1);
    call("invalidateblock", json!([call("getbestblockhash", json!([])).unwrap()])).unwrap();

    assert_eq!(call("submitblock", json!([greedy])), Ok(json!("inconclusive")), "on a losing branch");
    assert_eq!(
        call("submitblock", json!([second])),
        Ok(json!("inconclusive")),
        "it was the block below that was checked"
    );
    assert_eq!(call("submitblock", json!([third])), Ok(json!("bad-prevblk")));
    assert_eq!(call("submitblock", json!([unknown])), Ok(json!("bad-prevblk")));
    assert_eq!(call("submitblock", json!([second])), Ok(json!("duplicate-invalid")));
    assert_eq!(call("submitblock", json!([greedy])), Ok(json!("duplicate-invalid")));
    assert_eq!(call("getblockcount", json!([])), Ok(json!(1)));

    // Core leaves the genesis block alone, and says nothing.
    let genesis = call("getblockhash", json!([0])).unwrap();
    assert_eq!(call("invalidateblock", json!([genesis])), Ok(Value::Null));
    assert_eq!(call("getblockcount", json!([])), Ok(json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn mining_info_follows_the_parameters() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    call("generatetoaddress", json!([150, ADDRESS])).unwrap();
    // Regtest's difficulty period is a day of ten minutes: 144 blocks, and 150 is the seventh of the second.
    assert_eq!(call("getnetworkhashps", json!([-1])), call("getnetworkhashps", json!([7])));
    assert_eq!(call("getmininginfo", json!([])).unwrap()["blockmintxfee"].to_string(), "0.00000001");
    let template = call("getblocktemplate", json!([{"rules": ["segwit"]}])).unwrap();
    assert_eq!(
        (&template["sigoplimit"], &template["sizelimit"], &template["weightlimit"]),
        (&json!(80_000), &json!(4_000_000), &json!(4_000_000))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_signal_version_bits() {
    let (context, _dir) = context();
    let mut height = 0;
    for (upto, version, available, rules) in [
        (142, 0x2000_0000, json!({}), json!(["csv", "!segwit", "taproot"])),
        (143, 0x3000_0000, json!({"testdummy": 28}), json!(["csv", "!segwit", "taproot"])),
        (430, 0x3000_0000, json!({"testdummy": 28}), json!(["csv", "!segwit", "taproot"])),
        (431, 0x2000_0000, json!({}), json!(["csv", "!segwit", "taproot", "testdummy"])),
    ] {
        call(&context, "generatetoaddress", json!([upto - height, ADDRESS])).unwrap();
        height = upto;
        let template = call(&context, "getblocktemplate", json!([{"rules": ["segwit"]}])).unwrap();
        assert_eq!((&template["version"], &template["vbavailable"]), (&json!(version), &available), "{upto}");
        assert_eq!(template["rules"], rules, "{upto}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_become_blocks() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    assert_eq!(
        call("getblocktemplate", json!([{}])).unwrap_err(),
        (-8, "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})".into())
    );
    let template = call("getblocktemplate", json!([{"rules": ["segwit"]}])).unwrap();
    assert_eq!(template["height"], 1);
    assert_eq!(template["coinbasevalue"], 5_000_000_000_u64);
    assert_eq!(template["bits"], "207fffff");
    assert_eq!((&template["version"], &template["vbavailable"]), (&json!(0x2000_0000), &json!({})));
    let made = call("generateblock", json!([ADDRESS, [], false])).unwrap();
    assert_eq!(call("getblockcount", json!([])), Ok(json!(0)), "not submitted");
    let hex = made["hex"].clone();
    assert_eq!(call("getblocktemplate", json!([{"mode": "proposal", "data": hex}])), Ok(Value::Null));
    assert_eq!(call("submitblock", json!([hex])), Ok(Value::Null));
    assert_eq!(call("getbestblockhash", json!([])), Ok(made["hash"].clone()));
    // A block whose parent is unknown, with a proof of work of its own.
    let mut orphan: Block = deserialize_hex(hex.as_str().unwrap()).unwrap();
    orphan.header.prev_blockhash = "11".repeat(32).parse().unwrap();
    while orphan.header.validate_pow(orphan.header.target()).is_err() {
        orphan.header.nonce += 1;
    }
    let orphan = serialize_hex(&orphan);
    assert_eq!(call("submitblock", json!([orphan])), Ok(json!("prev-blk-not-found")));
    assert_eq!(call("submitblock", json!(["00"])).unwrap_err(), (-22, "Block decode failed".into()));
    assert_eq!(call("submitheader", json!(["00"])).unwrap_err(), (-22, "Block header decode failed".into()));
    let second = call("generatetodescriptor", json!([1, "raw(51)"])).unwrap();
    assert_eq!(call("getbestblockhash", json!([])), Ok(second[0].clone()));
    let ranged = call(
        "generatetodescriptor",
        json!([
            1,
            "wpkh(tpubD6NzVbkrYhZ4XJDrzRvuxHEyQaPd1mwwdDofEJwekX18tAdsqeKfxss79AJzg1431FybXg5rfpTrJF4iAhyR7RubberdzEQXiRmXGADH2eA/*)"
        ]),
    );
    assert_eq!(
        ranged.unwrap_err(),
        (-8, "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?".into())
    );
    assert_eq!(call("generatetoaddress", json!([1, "nonsense"])).unwrap_err(), (-5, "Error: Invalid address".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_tested_sent_and_mined() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    // OP_TRUE behind P2WSH: anyone can spend it, and it is standard.
    let script = "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260";
    let hashes = call("generatetodescriptor", json!([101, format!("raw({script})")])).unwrap();
    let coinbase = call("getblock", json!([hashes[0], 1])).unwrap()["tx"][0].as_str().unwrap().to_owned();
    let spend = common::spend_op_true(&coinbase, 0, 5_000_000_000 - 1_000, script);
    let tested = call("testmempoolaccept", json!([[spend]])).unwrap();
    assert_eq!(tested[0]["allowed"], true, "{tested}");
    assert_eq!(tested[0]["fees"]["base"].to_string(), "0.00001000");
    let txid = call("sendrawtransaction", json!([spend])).unwrap();
    assert_eq!(call("getrawmempool", json!([])), Ok(json!([txid])));
    let entry = call("getmempoolentry", json!([txid])).unwrap();
    assert_eq!(entry["ancestorcount"], 1);
    assert_eq!(call("sendrawtransaction", json!([spend])), Ok(txid.clone()), "again is no error");
    assert_eq!(call("gettxout", json!([coinbase, 0])), Ok(Value::Null), "spent in the mempool");
    assert_ne!(call("gettxout", json!([coinbase, 0, false])), Ok(Value::Null));
    let conflict = common::spend_op_true(&coinbase, 0, 5_000_000_000 - 900, script);
    let refused = call("sendrawtransaction", json!([conflict])).unwrap_err();
    assert_eq!(refused.0, -26, "{refused:?}");
    let too_much = common::spend_op_true(&coinbase, 0, 1_000_000_000, script);
    assert_eq!(
        call("sendrawtransaction", json!([too_much])).unwrap_err(),
        (-25, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)".into())
    );
    let missing = common::spend_op_true(&"11".repeat(32), 0, 1_000, script);
    assert_eq!(
        call("sendrawtransaction", json!([missing])).unwrap_err(),
        (-25, "bad-txns-inputs-missingorspent".into())
    );
    assert_eq!(call("testmempoolaccept", json!([[missing]])).unwrap()[0]["reject-reason"], "missing-inputs");
    assert_eq!(
        call("sendrawtransaction", json!(["00"])).unwrap_err(),
        (-22, "TX decode failed. Make sure the tx has at least one input.".into())
    );
    let template = call("getblocktemplate", json!([{"rules": ["segwit"]}])).unwrap();
    assert_eq!(template["transactions"][0]["txid"], txid);
    assert_eq!(template["transactions"][0]["fee"], 1000);
    let block = call("generatetodescriptor", json!([1, "raw(51)"])).unwrap();
    let shown = call("getblock", json!([block[0], 3])).unwrap();
    assert_eq!(shown["tx"][1]["fee"].to_string(), "0.00001000");
    assert_eq!(shown["tx"][1]["vin"][0]["prevout"]["generated"], true);
    let raw = call("getrawtransaction", json!([txid, 2])).unwrap();
    assert_eq!(raw["vin"][0]["prevout"]["value"].to_string(), "50.00000000");
    assert_eq!(
        call("sendrawtransaction", json!([spend])).unwrap_err(),
        (-27, "Transaction outputs already in utxo set".into())
    );
}

#[tokio::test]
async fn wrong_arguments_get_cores_errors() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params).unwrap_err();
    let (code, text) = call("getblockhash", json!([]));
    assert_eq!(code, -1);
    assert!(text.starts_with("getblockhash height\n\n"));
    assert_eq!(call("getblockhash", json!(["1"])).0, -3);
    assert_eq!(call("getblockhash", json!([1.5])), (-1, "JSON integer out of range".into()));
    assert_eq!(call("getblockhash", json!([-1])), (-8, "Block height out of range".into()));
    let unknown = "00".repeat(32);
    assert_eq!(call("getblock", json!([unknown])), (-5, "Block not found".into()));
    assert_eq!(call("getblock", json!(["00"])), (-8, "blockhash must be of length 64 (not 2, for '00')".into()));
    assert_eq!(
        call("getrawmempool", json!([true, true])),
        (-8, "Verbose results cannot contain mempool sequence values.".into())
    );
}

#[tokio::test]
async fn a_miners_share_can_be_set_while_it_runs() {
    let (context, _dir) = context();
    let call = |params: Value| call(&context, "setminingshare", params);
    assert_eq!(call(json!([0.25])), Ok(Value::Null));
    assert_eq!(context.node.mining().pace.share.get(), 0.25);
    for wrong in [json!(0), json!(1.5), json!(-1)] {
        assert_eq!(call(json!([wrong])).unwrap_err().0, -8, "{wrong}");
    }
    assert_eq!(call(json!(["0.5"])).unwrap_err().0, -3);
    assert_eq!(context.node.mining().pace.share.get(), 0.25);
}

/// Core's errors of `setmocktime`, and what the time is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_stands_where_setmocktime_puts_it() {
    let (context, _dir) = context();
    let call = |method: &str, params: Value| call(&context, method, params);
    let mine = || call("generatetoaddress", json!([1, ADDRESS])).unwrap()[0].take();
    let time_of = |hash: Value| call("getblockheader", json!([hash])).unwrap()["time"].take();
    for (wrong, code, said) in [
        (json!(-1), -8, "Mocktime must be in the range [0, 4294967295], not -1."),
        (json!(4_294_967_296u64), -8, "Mocktime must be in the range [0, 4294967295], not 4294967296."),
        (json!(0.5), -1, "JSON integer out of range"),
    ] {
        assert_eq!(call("setmocktime", json!([wrong])), Err((code, said.into())));
    }
    assert_eq!(call("setmocktime", json!(["1"])).unwrap_err().0, -3);

    const THEN: u32 = 1_600_000_000;
    assert_eq!(call("setmocktime", json!([THEN])), Ok(Value::Null));
    assert_eq!(time_of(mine()), THEN);
    assert!(call("uptime", json!([])).unwrap().as_u64() < Some(1_000_000), "is of another clock");
    call("setmocktime", json!([THEN + 100])).unwrap();
    assert_eq!(call("getblocktemplate", json!([{"rules": ["segwit"]}])).unwrap()["curtime"], THEN + 100);

    // A block two hours ahead of the clock is from the future, until the clock is set on.
    call("setmocktime", json!([THEN + 7201])).unwrap();
    let block = call("generateblock", json!([ADDRESS, [], false])).unwrap()["hex"].take();
    call("setmocktime", json!([THEN])).unwrap();
    assert_eq!(call("submitblock", json!([block])), Ok(json!("time-too-new")));
    call("setmocktime", json!([THEN + 1])).unwrap();
    assert_eq!(call("submitblock", json!([block])), Ok(Value::Null));

    call("setmocktime", json!([0])).unwrap();
    assert!(time_of(mine()).as_u64() > Some(1_750_000_000), "the system's time again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_set_on_regtest_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(NodeConfig::new(dir.path().to_owned(), bitcoin::Network::Signet)).unwrap();
    let context = Context::new(node, CancellationToken::new(), CancellationToken::new());
    let said = "setmocktime is for regression testing (-regtest mode) only".to_owned();
    assert_eq!(call(&context, "setmocktime", json!([1_600_000_000])), Err((-1, said)));
}

/// Field names of an object and of everything in it.
fn keys(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.insert(key.clone());
                keys(value, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, out)),
        _ => {}
    }
}

/// The field names that Core's source documents for a method: those that are always there, and all.
fn documented(file: &str, method: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let path = common::core_source().join("src/rpc").join(file);
    let source = std::fs::read_to_string(&path).expect("the vendored source is readable");
    let start = source.find(&format!("RPCMethod {method}()")).expect("the method is in the file");
    let text = &source[start..];
    let text = &text[..text.find("[](const RPCMethod& self").expect("a method has a body")];
    let (mut always, mut all) = (BTreeSet::new(), BTreeSet::new());
    for part in text.split("RPCResult::Type::").skip(1) {
        let mut strings = part.split('"');
        let (Some(before), Some(name)) = (strings.next(), strings.next()) else { continue };
        let follows = strings.next().unwrap_or_default();
        // `NUM, "name", …`: anything else is no field.
        if name.is_empty() || !before.trim_end().ends_with(',') || name.contains(['<', ' ']) {
            continue;
        }
        all.insert(name.to_owned());
        if !follows.contains("/*optional=*/true") {
            always.insert(name.to_owned());
        }
    }
    (always, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_those_that_core_documents() {
    let (context, _dir) = context();
    call(&context, "generatetoaddress", json!([2, ADDRESS])).unwrap();
    let tip = call(&context, "getblockhash", json!([1])).unwrap();
    let cases: [(&str, &str, Value, &[&str]); 6] = [
        // Only while a snapshot is validated in the background.
        ("blockchain.cpp", "getblockchaininfo", json!([]), &["snapshotheight"]),
        ("blockchain.cpp", "getblockheader", json!([tip]), &[]),
        ("mining.cpp", "getmininginfo", json!([]), &[]),
        (
            "mempool.cpp",
            "getmempoolinfo",
            json!([]),
            // Deprecated.
            &["fullrbf"],
        ),
        (
            "net.cpp",
            "getnetworkinfo",
            json!([]),
            // What each local address would have.
            &["address", "port", "score", "SERVICE_NAME"],
        ),
        (
            "mining.cpp",
            "getblocktemplate",
            json!([{"rules": ["segwit"]}]),
            // Names of map entries, and what each transaction would have.
            &["rulename", "value", "key", "data", "txid", "hash", "depends", "fee", "sigops", "weight"],
        ),
    ];
    for (file, method, params, absent) in cases {
        let (mut always, all) = documented(file, method);
        always.retain(|name| !absent.contains(&name.as_str()));
        let mut found = BTreeSet::new();
        keys(&call(&context, method, params).unwrap(), &mut found);
        let missing: Vec<_> = always.difference(&found).collect();
        let unknown: Vec<_> = found.difference(&all).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{method}: missing {missing:?}, unknown to Core {unknown:?}");
        assert!(always.len() > 5, "{method}: the source was read");
    }
}
