//! The mempool's methods beside a real `bitcoind` of the same version: the same blocks, the same calls, the same answers.
//!
//! Runs where the environment names one: `BITCOIND=/path/to/bitcoind`.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{
    Address, Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness,
};
use cairn_api::rpc::{Context, execute};
use cairn_mempool::{ImportOptions, Mempool, MempoolConfig};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio_util::sync::CancellationToken;

type Answer = Result<Value, (i64, String)>;

/// A `bitcoind` on regtest without peers.
struct Core {
    program: String,
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Core {
    fn start(program: &str, dir: &Path) -> Core {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-rpcport={port}"))
            .args(["-regtest", "-listen=0", "-dnsseed=0", "-fixedseeds=0", "-networkactive=0"])
            .args(["-rpcuser=user", "-rpcpassword=pass", "-server=1", "-disablewallet=1", "-txindex=0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("BITCOIND names a program");
        let core = Core { program: program.into(), dir: dir.into(), port, child };
        // It says that it is warming up until it is ready.
        while core.send("getmempoolinfo", json!([])).ok().and_then(Result::ok).is_none_or(|info| info["loaded"] != true)
        {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        core
    }

    fn send(&self, method: &str, params: Value) -> std::io::Result<Answer> {
        let body = json!({"method": method, "params": params, "id": 1}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
            STANDARD.encode("user:pass"),
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let value: Value = serde_json::from_str(body).map_err(std::io::Error::other)?;
        Ok(match &value["error"] {
            Value::Null => Ok(value["result"].clone()),
            error => Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())),
        })
    }

    fn call(&self, method: &str, params: Value) -> Answer {
        self.send(method, params).expect("it answers")
    }

    fn stop(mut self) -> (String, PathBuf) {
        self.call("stop", json!([])).unwrap();
        self.child.wait().unwrap();
        (self.program.clone(), self.dir.clone())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An output that anyone can spend.
#[derive(Clone, Copy)]
struct Coin {
    outpoint: OutPoint,
    value: u64,
}

/// Both nodes, with the coins that nobody has spent yet.
struct Both {
    ours: Context,
    core: Core,
    coins: RefCell<Vec<Coin>>,
    differences: RefCell<Vec<String>>,
    _dirs: [tempfile::TempDir; 2],
}

fn script() -> ScriptBuf {
    use bitcoin::hashes::Hash as _;
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(common::op_true_hash()))
}

/// Takes out what the two cannot have in common: clocks, sizes in memory, and whether an order is known to be the best
/// (Core puts that off after a block, here it always is).
fn comparable(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["time", "usage", "optimal"] {
                fields.shift_remove(name);
            }
            fields.values_mut().for_each(comparable);
        }
        Value::Array(items) => items.iter_mut().for_each(comparable),
        _ => {}
    }
}

impl Both {
    fn start(program: &str) -> Both {
        let (node, dir) = common::node();
        let core_dir = tempfile::tempdir().unwrap();
        let ours = Context::new(node, CancellationToken::new(), CancellationToken::new());
        let core = Core::start(program, core_dir.path());
        let both =
            Both { ours, core, coins: RefCell::default(), differences: RefCell::default(), _dirs: [dir, core_dir] };
        let blocks = both.mine(160);
        for hash in &blocks[..60] {
            let block = both.ours.node.chain.block(&hash.parse().unwrap()).unwrap().unwrap();
            let coinbase = &block.txdata[0];
            let outpoint = OutPoint::new(coinbase.compute_txid(), 0);
            both.coins.borrow_mut().push(Coin { outpoint, value: coinbase.output[0].value.to_sat() });
        }
        both
    }

    fn ours(&self, method: &str, params: Value) -> Answer {
        execute(&self.ours, method, params).map_err(|error| (i64::from(error.code), error.message))
    }

    /// Calls both; notes where they differ. Gives our answer.
    fn same(&self, method: &str, params: Value) -> Answer {
        let (ours, core) = (self.ours(method, params.clone()), self.core.call(method, params.clone()));
        let mut shown = [ours.clone(), core];
        for answer in shown.iter_mut().flatten() {
            comparable(answer);
        }
        // Texts, so that numbers are compared as they are written, and fields in their order.
        let [left, right] = shown.each_ref().map(|answer| match answer {
            Ok(value) => value.to_string(),
            Err((code, text)) => format!("error {code}: {text}"),
        });
        if left != right {
            let params: String = params.to_string().chars().take(300).collect();
            self.differences.borrow_mut().push(format!("{method} {params}\n  ours: {left}\n  core: {right}"));
        }
        ours
    }

    /// Compares everything that can be read of the two mempools.
    fn look(&self) {
        self.same("getmempoolinfo", json!([])).unwrap();
        self.same("getrawmempool", json!([])).unwrap();
        self.same("getrawmempool", json!([false, true])).unwrap();
        self.same("getmempoolfeeratediagram", json!([])).unwrap();
        self.same("getprioritisedtransactions", json!([])).unwrap();
        let all = self.same("getrawmempool", json!([true])).unwrap();
        for txid in all.as_object().unwrap().keys() {
            self.same("getmempoolentry", json!([txid])).unwrap();
            self.same("getmempoolcluster", json!([txid])).unwrap();
            for verbose in [false, true] {
                self.same("getmempoolancestors", json!([txid, verbose])).unwrap();
                self.same("getmempooldescendants", json!([txid, verbose])).unwrap();
            }
        }
    }

    /// Mines with ours, and gives the blocks to the other.
    fn mine(&self, count: u32) -> Vec<String> {
        let address = Address::from_script(&script(), Network::Regtest).unwrap().to_string();
        let hashes = self.ours("generatetoaddress", json!([count, address])).unwrap();
        let hashes: Vec<String> = serde_json::from_value(hashes).unwrap();
        for hash in &hashes {
            let block = self.ours("getblock", json!([hash, 0])).unwrap();
            assert_eq!(self.core.call("submitblock", json!([block])), Ok(Value::Null));
        }
        hashes
    }

    fn coin(&self) -> Coin {
        self.coins.borrow_mut().pop().expect("there are coins enough")
    }

    fn send(&self, tx: &Transaction) {
        self.same("sendrawtransaction", json!([serialize_hex(tx), 0])).unwrap();
    }

    /// Offers transactions as a package, after a test of them, and looks at what is there then.
    fn package(&self, txs: &[&Transaction]) -> Value {
        let raw: Vec<String> = txs.iter().map(|tx| serialize_hex(*tx)).collect();
        let _ = self.same("testmempoolaccept", json!([raw, 0]));
        let answer = self.same("submitpackage", json!([raw, 0]));
        let _ = self.same("getrawmempool", json!([true]));
        answer.unwrap_or_default()
    }

    fn finish(&self) {
        let differences = self.differences.borrow();
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }
}

/// Spends coins to `count` outputs, less a fee in satoshi.
fn pay(coins: &[Coin], fee: u64, count: u64) -> Transaction {
    let sum: u64 = coins.iter().map(|coin| coin.value).sum();
    let each = (sum - fee) / count;
    let rest = sum - fee - each * count;
    let output =
        |n: u64| TxOut { value: Amount::from_sat(each + if n == 0 { rest } else { 0 }), script_pubkey: script() };
    let input = |coin: &Coin| TxIn {
        previous_output: coin.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0x51]]),
    };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: (0..count).map(output).collect(),
    }
}

fn outputs(tx: &Transaction) -> Vec<Coin> {
    let txid = tx.compute_txid();
    let coin =
        |(vout, output): (u32, &TxOut)| Coin { outpoint: OutPoint::new(txid, vout), value: output.value.to_sat() };
    (0..).zip(&tx.output).map(coin).collect()
}

fn version_3(mut tx: Transaction) -> Transaction {
    tx.version = bitcoin::transaction::Version(3);
    tx
}

/// With a second output that is dust, and no fee.
fn dusty(coin: Coin) -> Transaction {
    let mut tx = pay(&[coin], 0, 2);
    let rest = tx.output[1].value - Amount::from_sat(100);
    tx.output[0].value += rest;
    tx.output[1].value = Amount::from_sat(100);
    tx
}

fn txid(tx: &Transaction) -> String {
    tx.compute_txid().to_string()
}

fn both() -> Option<Both> {
    let Ok(program) = std::env::var("BITCOIND") else {
        eprintln!("SKIPPED: nothing is compared with Bitcoin Core: set BITCOIND to a bitcoind of version 31");
        return None;
    };
    Some(Both::start(&program))
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_judged_as_core_does() {
    let Some(both) = both() else { return };
    // A child pays for its parent.
    let parent = pay(&[both.coin()], 0, 1);
    both.package(&[&parent, &pay(&outputs(&parent), 10_000, 1)]);
    // One parent pays for itself, the other needs the child.
    let (rich, poor) = (pay(&[both.coin()], 5000, 1), pay(&[both.coin()], 0, 1));
    both.package(&[&rich, &poor, &pay(&[outputs(&rich)[0], outputs(&poor)[0]], 10_000, 1)]);
    let (rich, poor) = (pay(&[both.coin()], 5000, 1), pay(&[both.coin()], 0, 1));
    both.package(&[&rich, &poor, &pay(&[outputs(&rich)[0], outputs(&poor)[0]], 0, 1)]);
    // Known already, and known with another witness.
    let (known, poor) = (pay(&[both.coin()], 1000, 2), pay(&[both.coin()], 0, 1));
    both.send(&known);
    let mut other_witness = known.clone();
    other_witness.input[0].witness = Witness::from_slice(&[&[][..], &[0x51][..]]);
    let child = pay(&[outputs(&known)[0], outputs(&poor)[0]], 10_000, 1);
    both.package(&[&other_witness, &poor, &child]);
    both.package(&[&known, &poor, &child]);
    both.package(&[&known]);
    both.package(&[&pay(&[both.coin()], 1000, 1)]);
    both.package(&[&pay(&[both.coin()], 0, 1)]);
    // Shapes that are no package.
    let parent = pay(&[both.coin()], 1000, 2);
    let child = pay(&outputs(&parent)[..1], 1000, 1);
    let grandchild = pay(&[outputs(&parent)[1], outputs(&child)[0]], 1000, 1);
    let rival = pay(&[Coin { value: 5_000_000_000, outpoint: parent.input[0].previous_output }], 2000, 1);
    both.package(&[&child, &parent]);
    both.package(&[&parent, &parent]);
    both.package(&[&parent, &rival]);
    both.package(&[&parent, &child, &grandchild]);
    both.package(&[&parent, &pay(&[both.coin()], 1000, 1)]);
    // Replacement by a package.
    let coin = both.coin();
    both.send(&pay(&[coin], 1000, 1));
    for (parent_fee, child_fee) in [(500, 500), (900, 800), (0, 1000), (0, 1010), (500, 5000)] {
        let parent = pay(&[coin], parent_fee, 1);
        both.package(&[&parent, &pay(&outputs(&parent), child_fee, 1)]);
    }
    let coin = both.coin();
    both.send(&pay(&[coin], 1000, 1));
    let (parent, poor) = (pay(&[coin], 0, 1), pay(&[both.coin()], 0, 1));
    both.package(&[&parent, &poor, &pay(&[outputs(&parent)[0], outputs(&poor)[0]], 50_000, 1)]);
    let grandparent = pay(&[both.coin()], 1000, 1);
    both.send(&grandparent);
    both.package(&[&parent, &pay(&[outputs(&parent)[0], outputs(&grandparent)[0]], 50_000, 1)]);
    let (small, large) = (both.coin(), both.coin());
    both.send(&pay(&[small], 20_000, 1));
    let parent = pay(&[small, large], 0, 1);
    both.package(&[&parent, &pay(&outputs(&parent), 40_000, 300)]);
    // Dust.
    let tx = dusty(both.coin());
    both.package(&[&tx, &pay(&outputs(&tx)[..1], 10_000, 1)]);
    both.package(&[&tx, &pay(&outputs(&tx), 10_000, 1)]);
    let _ = both.same("prioritisetransaction", json!([txid(&tx), 0, 1000]));
    both.package(&[&pay(&outputs(&tx)[1..], 50, 1)]);
    // Version 3.
    let [a, b] = [both.coin(), both.coin()].map(|coin| version_3(pay(&[coin], 0, 2)));
    let child = version_3(pay(&outputs(&a)[..1], 5000, 1));
    both.package(&[&a, &b, &version_3(pay(&[outputs(&a)[0], outputs(&b)[0]], 5000, 1))]);
    both.package(&[&a, &pay(&outputs(&a)[..1], 5000, 1)]);
    both.package(&[&a, &version_3(pay(&outputs(&a)[..1], 50_000, 30))]);
    both.package(&[&a, &child]);
    both.package(&[&a, &version_3(pay(&outputs(&a)[1..], 5001, 1))]);
    both.package(&[&a, &version_3(pay(&outputs(&a)[1..], 9000, 1))]);
    let plain = pay(&[both.coin()], 0, 1);
    both.package(&[&plain, &version_3(pay(&outputs(&plain), 5000, 1))]);
    // Scripts that fail, values that do not fit, parents that nobody knows.
    let parent = pay(&[both.coin()], 0, 1);
    let mut bad = pay(&outputs(&parent), 10_000, 1);
    bad.input[0].witness = Witness::from_slice(&[[0x52]]);
    both.package(&[&parent, &bad]);
    bad.input[0].witness = Witness::new();
    both.package(&[&parent, &bad]);
    let mut more = pay(&outputs(&parent), 0, 1);
    more.output[0].value += Amount::ONE_SAT;
    both.package(&[&parent, &more]);
    let stranger = pay(&[both.coin()], 1000, 1);
    both.package(&[&parent, &pay(&[outputs(&parent)[0], outputs(&stranger)[0]], 10_000, 1)]);
    // Fees that the caller does not mean.
    let parent = pay(&[both.coin()], 0, 1);
    let child = pay(&outputs(&parent), 10_000_000, 1);
    let raw = json!([serialize_hex(&parent), serialize_hex(&child)]);
    for rate in [json!(0.1), json!("0.5"), json!(1), json!(0.99999999)] {
        let _ = both.same("submitpackage", json!([raw, rate]));
        let _ = both.same("testmempoolaccept", json!([[serialize_hex(&pay(&[both.coin()], 10_000_000, 1))], rate]));
    }
    // Fees that an operator adds.
    let parent = pay(&[both.coin()], 0, 1);
    let child = pay(&outputs(&parent), 0, 1);
    both.same("prioritisetransaction", json!([txid(&child), null, 10_000])).unwrap();
    both.package(&[&parent, &child]);
    both.look();
    both.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_refused_as_core_does() {
    let Some(both) = both() else { return };
    let tx = serialize_hex(&pay(&[both.coin()], 1000, 1));
    let mut burning = pay(&[both.coin()], 1000, 1);
    burning.output.push(TxOut { value: Amount::from_sat(500), script_pubkey: ScriptBuf::from(vec![0x6a]) });
    let burning = serialize_hex(&burning);
    for method in ["submitpackage", "testmempoolaccept"] {
        for params in [
            json!([[]]),
            json!([vec![&tx; 26]]),
            json!([["zz"]]),
            json!([[5]]),
            json!([[tx], "x"]),
            json!([[tx], -1]),
            json!(["x"]),
            json!([[burning]]),
        ] {
            let _ = both.same(method, params);
        }
    }
    let _ = both.same("submitpackage", json!([[burning], 0.1, 0.00000499]));
    let _ = both.same("submitpackage", json!([[burning], 0.1, 0.000005]));
    let absent = "ab".repeat(32);
    for params in [
        json!([[]]),
        json!([[{"txid": absent}]]),
        json!([[{"vout": 1}]]),
        json!([[{"txid": absent, "vout": "1"}]]),
        json!([[{"txid": absent, "vout": -1}]]),
        json!([[{"txid": absent, "vout": 1.5}]]),
        json!([[{"txid": absent, "vout": 1, "extra": 1}]]),
        json!([[{"txid": "ab", "vout": 1}]]),
        json!([[{"vout": 1, "txid": absent}, {"txid": absent, "vout": 0}]]),
        json!([[{"txid": absent, "vout": 0}], {"mempool_only": false}]),
        json!([[{"txid": absent, "vout": 0}], {"mempool_only": 1}]),
        json!([[{"txid": absent, "vout": 0}], {"other": true}]),
        json!({"outputs": [{"txid": absent, "vout": 0}], "return_spending_tx": true}),
    ] {
        let _ = both.same("gettxspendingprevout", params);
    }
    for method in ["getmempoolentry", "getmempoolancestors", "getmempooldescendants", "getmempoolcluster"] {
        for params in [json!([absent]), json!(["ab"]), json!([5])] {
            let _ = both.same(method, params);
        }
    }
    for params in [
        json!([absent, 0.0, 5]),
        json!([absent, 0, 9_223_372_036_854_775_807i64]),
        json!([absent, null, 1]),
        json!([absent, 1, 5]),
        json!([absent, 0, 1.5]),
        json!([absent, 0, 9_223_372_036_854_775_808u64]),
        json!(["ab", 0, 5]),
        json!({"txid": absent, "fee_delta": -7}),
    ] {
        let _ = both.same("prioritisetransaction", params);
        let _ = both.same("getprioritisedtransactions", json!([]));
    }
    let _ = both.same("getrawmempool", json!([true, true]));
    let _ = both.same("importmempool", json!(["/nowhere/mempool.dat"]));
    let _ = both.same("importmempool", json!(["/nowhere/mempool.dat", {"use_current_time": 1}]));
    both.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mempool_is_shown_mined_and_brought_back_as_core_does() {
    let Some(both) = both() else { return };
    // A tree with a merge, of which some pay for others.
    let root = pay(&[both.coin()], 200, 3);
    let branches: Vec<Transaction> =
        outputs(&root).iter().zip([100, 5000, 900]).map(|(coin, fee)| pay(&[*coin], fee, 2)).collect();
    let merge = pay(&[outputs(&branches[0])[0], outputs(&branches[1])[0]], 30_000, 1);
    for tx in std::iter::once(&root).chain(&branches).chain([&merge]) {
        both.send(tx);
    }
    both.look();
    both.send(&merge);
    // A long chain.
    let mut last = pay(&[both.coin()], 3000, 1);
    both.send(&last);
    for fee in [500, 7000, 100, 100, 4000] {
        last = pay(&outputs(&last), fee, 1);
        both.send(&last);
    }
    both.look();
    // Priorities, up and down, of what is here and what is not.
    both.same("prioritisetransaction", json!([txid(&branches[2]), 0, 50_000])).unwrap();
    both.same("prioritisetransaction", json!([txid(&root), 0, -5000])).unwrap();
    both.same("prioritisetransaction", json!(["cd".repeat(32), 0, -5])).unwrap();
    both.look();
    let template = json!([{"rules": ["segwit"]}]);
    let listed = |answer: Answer| -> Vec<Value> {
        answer.unwrap()["transactions"].as_array().unwrap().iter().map(|tx| tx["txid"].clone()).collect()
    };
    assert_eq!(
        listed(both.ours("getblocktemplate", template.clone())),
        listed(both.core.call("getblocktemplate", template))
    );
    // Replacement of a branch with what depends on it.
    let better = pay(&[outputs(&root)[0]], 60_000, 1);
    both.send(&better);
    let worse = pay(&[outputs(&root)[0]], 60_000, 1);
    both.send(&worse);
    let mut poor = pay(&[outputs(&root)[0]], 100, 2);
    let _ = both.same("sendrawtransaction", json!([serialize_hex(&poor)]));
    poor.input[0].witness = Witness::from_slice(&[[0x52]]);
    let _ = both.same("testmempoolaccept", json!([[serialize_hex(&poor)]]));
    both.look();
    let spent = |coin: Coin| json!({"txid": coin.outpoint.txid.to_string(), "vout": coin.outpoint.vout});
    let asked = json!([spent(outputs(&root)[0]), spent(outputs(&better)[0])]);
    both.same("gettxspendingprevout", json!([asked])).unwrap();
    both.same("gettxspendingprevout", json!([asked, {"return_spending_tx": true}])).unwrap();
    let _ = both.same("gettxspendingprevout", json!([asked, {"mempool_only": false}]));
    both.same("gettxspendingprevout", json!([[asked[0]], {"mempool_only": false}])).unwrap();

    // A block confirms some; undone, it gives them back.
    let young = pay(&outputs(&better), 1000, 1);
    let block =
        both.ours("generateblock", json!([format!("raw({})", script().to_hex_string()), [txid(&root), txid(&better)]]));
    let block = block.unwrap()["hash"].clone();
    let raw = both.ours("getblock", json!([block, 0])).unwrap();
    assert_eq!(both.core.call("submitblock", json!([raw])), Ok(Value::Null));
    both.look();
    both.send(&young);
    both.same("invalidateblock", json!([block])).unwrap();
    let entries = both.same("getrawmempool", json!([true])).unwrap();
    assert!(entries.as_object().unwrap().contains_key(&txid(&root)));
    both.same("getmempoolfeeratediagram", json!([])).unwrap();
    both.same("reconsiderblock", json!([block])).unwrap();
    both.same("getrawmempool", json!([true])).unwrap();
    both.mine(1);
    both.look();
    both.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn either_reads_the_others_file() {
    let Some(both) = both() else { return };
    let parent = pay(&[both.coin()], 1000, 1);
    let child = pay(&outputs(&parent), 9000, 1);
    let third = pay(&[both.coin()], 2000, 1);
    for tx in [&parent, &child, &third] {
        both.send(tx);
    }
    both.same("prioritisetransaction", json!([txid(&third), 0, 77])).unwrap();
    both.same("prioritisetransaction", json!(["cd".repeat(32), 0, -5])).unwrap();
    both.look();
    both.finish();

    let shown = both.core.call("getrawmempool", json!([true])).unwrap();
    let file = both.core.call("savemempool", json!([])).unwrap()["filename"].as_str().unwrap().to_owned();
    let node = &both.ours.node;
    let pool = Mempool::new(MempoolConfig::default(), node.chain.clone());
    let read = pool.load(Path::new(&file), ImportOptions::RESTART, u64::from(node.now()), &|| false).unwrap();
    assert_eq!((read.accepted, read.unbroadcast), (3, 3));
    assert_eq!(pool.prioritised(), node.mempool.prioritised());
    for (txid, entry) in shown.as_object().unwrap() {
        let ours = pool.get(&txid.parse().unwrap()).unwrap();
        assert_eq!((json!(ours.time), ours.unbroadcast), (entry["time"].clone(), true));
    }

    let ours = both.ours("getrawmempool", json!([true])).unwrap();
    let saved = both.ours("savemempool", json!([])).unwrap()["filename"].as_str().unwrap().to_owned();
    let prioritised = both.ours("getprioritisedtransactions", json!([])).unwrap();
    let Both { core, _dirs, .. } = both;
    let (program, dir) = core.stop();
    std::fs::copy(saved, dir.join("regtest/mempool.dat")).unwrap();
    let core = Core::start(&program, &dir);
    assert_eq!(core.call("getrawmempool", json!([true])).unwrap(), ours, "times too");
    assert_eq!(core.call("getprioritisedtransactions", json!([])).unwrap(), prioritised);
}
