//! What the tests share: a node on a directory of its own, an API on it, and Core's vendored source.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_api::{ApiConfig, AppState, Services};
use cairn_hashing::Hashes;
use cairn_jobs::Jobs;
use cairn_node::{Node, NodeConfig};
use cairn_stamp::{Calendar, CalendarConfig, Stamper, StamperConfig};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::{ChainSource, Wallet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A regtest node with nothing but its genesis block.
pub fn node() -> (Arc<Node>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config = NodeConfig::new(dir.path().to_owned(), Network::Regtest);
    (Node::open(config).expect("a fresh directory opens"), dir)
}

/// A transaction, hex, that spends an output locked by P2WSH of OP_TRUE and pays to a script.
pub fn spend_op_true(txid: &str, vout: u32, satoshi: u64, script: &str) -> String {
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(txid.parse().expect("a transaction id"), vout),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[[0x51]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(satoshi),
            script_pubkey: ScriptBuf::from_hex(script).expect("hex"),
        }],
    };
    bitcoin::consensus::encode::serialize_hex(&tx)
}

/// The hash that P2WSH of OP_TRUE locks to.
pub fn op_true_hash() -> [u8; 32] {
    bitcoin::hashes::sha256::Hash::hash(&[0x51]).to_byte_array()
}

/// Bitcoin Core's source as `libbitcoinkernel-sys` vendors it.
pub fn core_source() -> PathBuf {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--all-features", "--format-version", "1", "--offline"])
        .current_dir(std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "libbitcoinkernel-sys")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("libbitcoinkernel-sys is a dependency of the workspace");
    PathBuf::from(manifest).parent().expect("a manifest is in a directory").join("bitcoin")
}

/// The admin key of [`Api`].
pub const ADMIN_KEY: &str = "the admin's key of this test";
/// The wallet key of [`Api`].
pub const WALLET_KEY: &str = "the wallet owner's key of this test";

/// The address of [`Api`]'s calendar.
pub const CALENDAR: &str = "http://127.0.0.1:8080";

/// A whole API on a node, a database, a wallet and a calendar of its own.
pub struct Api {
    /// Its HTTP interface.
    pub router: axum::Router,
    /// Its state.
    pub state: AppState,
    _dir: tempfile::TempDir,
}

impl Api {
    /// Brings the wallet to the tip.
    pub async fn sync_wallet(&self) {
        let source: Arc<dyn ChainSource> = self.state.node.clone();
        self.state.wallet.sync(&source, |_, _| {}).await.expect("the wallet follows its node");
    }

    /// Digests that no block has.
    pub async fn pending(&self) -> u64 {
        self.state.services.calendar.stats().await.expect("the database answers").pending
    }

    /// Mines blocks to the wallet, and brings it to the tip.
    pub async fn mine(&self, count: u32) {
        let script = self.state.wallet.reward_address().expect("the wallet has addresses").script_pubkey();
        self.state.node.generate(count, &script, &mut |_| {}).expect("blocks are mined");
        self.sync_wallet().await;
    }

    /// Something that stamps when it is told to.
    pub fn stamper(&self) -> Stamper {
        let config = StamperConfig { gather: Duration::ZERO, ..StamperConfig::new(Duration::ZERO) };
        Stamper::new(self.state.services.calendar.clone(), self.state.node.clone(), self.state.wallet.clone(), config)
    }
}

/// A fresh API.
pub async fn api() -> Api {
    let (node, dir) = node();
    let url = format!("sqlite://{}?mode=rwc", dir.path().join("cairn.db").display());
    let store = Store::open(&url, &StoreOptions::default()).await.expect("a fresh database opens");
    let (wallet, _) =
        Wallet::open_or_create(&store, "default", Network::Regtest, None).await.expect("a fresh wallet is made");
    let calendar = CalendarConfig { uri: CALENDAR.into(), confirmations: 1 };
    let calendar = Calendar::start(store.clone(), calendar).await.expect("a fresh calendar starts");
    let config = ApiConfig {
        admin_key: Some(ADMIN_KEY.into()),
        wallet_key: Some(WALLET_KEY.into()),
        max_bulk_digests: 100,
        ..ApiConfig::default()
    };
    let state = AppState::new(
        Services::new(store.clone(), calendar.clone(), Hashes::new(Jobs::new(store), calendar), config),
        node,
        Arc::new(wallet),
    );
    Api { router: cairn_api::http::router(state.clone()), state, _dir: dir }
}
