//! What the tests share: a node on a directory of its own, an API on it, and Core's vendored source.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_api::stamping::{
    Answer, Digests, Lookup, StampEvent, StampState, StampStats, StampStatus, Stamping, StampingError,
};
use cairn_api::{ApiConfig, AppState};
use cairn_mempool::MempoolConfig;
use cairn_node::{Node, NodeConfig};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::{ChainSource, Wallet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// A regtest node with nothing but its genesis block.
pub fn node() -> (Arc<Node>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let config = NodeConfig {
        dir: dir.path().to_owned(),
        network: Network::Regtest,
        mempool: MempoolConfig::default(),
        coin_cache_bytes: 8 << 20,
    };
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
        .current_dir(env!("CARGO_MANIFEST_DIR"))
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

/// A whole API on a node, a database and a wallet of its own; stamps go to a [`Recorder`].
pub struct Api {
    /// Its HTTP interface.
    pub router: axum::Router,
    /// Its state.
    pub state: AppState,
    /// What was stamped.
    pub stamps: Arc<Recorder>,
    _dir: tempfile::TempDir,
}

impl Api {
    /// Brings the wallet to the tip.
    pub async fn sync_wallet(&self) {
        let source: Arc<dyn ChainSource> = self.state.node.clone();
        self.state.wallet.sync(&source, |_, _| {}).await.expect("the wallet follows its node");
    }
}

/// A fresh API.
pub async fn api() -> Api {
    let (node, dir) = node();
    let url = format!("sqlite://{}?mode=rwc", dir.path().join("cairn.db").display());
    let store = Store::open(&url, &StoreOptions::default()).await.expect("a fresh database opens");
    let (wallet, _) =
        Wallet::open_or_create(&store, "default", Network::Regtest, None).await.expect("a fresh wallet is made");
    let stamps = Arc::new(Recorder::default());
    let config = ApiConfig {
        admin_key: Some(ADMIN_KEY.into()),
        wallet_key: Some(WALLET_KEY.into()),
        max_bulk_digests: 100,
        ..ApiConfig::default()
    };
    let state = AppState::new(node, store, Arc::new(wallet), stamps.clone(), config, CancellationToken::new());
    Api { router: cairn_api::http::router(state.clone()), state, stamps, _dir: dir }
}

/// Stands for the calendar, so that the routes' own work is what is tested: remembers digests, answers what it is told to.
pub struct Recorder {
    /// Digests that were submitted.
    pub digests: Mutex<Vec<Vec<u8>>>,
    /// Answer to every look-up of a commitment.
    pub lookup: Mutex<Lookup>,
    /// Answer to every question for the tip.
    pub tip: Mutex<Option<[u8; 32]>>,
    /// What fails everything.
    pub error: Mutex<Option<StampingError>>,
    events: broadcast::Sender<StampEvent>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder {
            digests: Mutex::default(),
            lookup: Mutex::new(Lookup::NotFound("Not found".into())),
            tip: Mutex::default(),
            error: Mutex::default(),
            events: broadcast::channel(16).0,
        }
    }
}

impl Recorder {
    fn answer<T: Send + 'static>(&self, value: T) -> Answer<'static, T> {
        let error = self.error.lock().unwrap().clone();
        Box::pin(async move { error.map_or(Ok(value), Err) })
    }

    /// How many digests were submitted.
    pub fn count(&self) -> usize {
        self.digests.lock().unwrap().len()
    }

    fn knows(&self, digest: &[u8]) -> bool {
        self.digests.lock().unwrap().iter().any(|known| known == digest)
    }
}

impl Stamping for Recorder {
    fn submit<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Vec<u8>> {
        self.digests.lock().unwrap().push(digest.to_vec());
        self.answer([b"stamped ", digest].concat())
    }
    fn submit_bulk(&self, digests: Digests) -> Answer<'_, ()> {
        self.digests.lock().unwrap().extend(digests.iter().map(<[u8]>::to_vec));
        self.answer(())
    }
    fn timestamp<'a>(&'a self, _: &'a [u8]) -> Answer<'a, Lookup> {
        self.answer(self.lookup.lock().unwrap().clone())
    }
    fn tip(&self) -> Answer<'_, Option<[u8; 32]>> {
        self.answer(*self.tip.lock().unwrap())
    }
    fn status<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<StampStatus>> {
        self.answer(self.knows(digest).then(|| StampStatus {
            state: StampState::Journaled,
            commitment: [7; 44],
            batch: 1,
            leaf: 0,
            submitted_at: 1,
            complete: false,
        }))
    }
    fn proof<'a>(&'a self, digest: &'a [u8]) -> Answer<'a, Option<Vec<u8>>> {
        self.answer(self.knows(digest).then(|| b"proof".to_vec()))
    }
    fn stats(&self) -> Answer<'_, StampStats> {
        self.answer(StampStats { pending: self.count() as u64, ..StampStats::default() })
    }
    fn subscribe(&self) -> broadcast::Receiver<StampEvent> {
        self.events.subscribe()
    }
}
