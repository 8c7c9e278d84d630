//! One strict configuration: defaults, then `cairn.toml`, then the environment, then flags.
//!
//! Unknown keys in the file are errors, and so are unknown variables under `CAIRN_`; other variables are
//! ignored, because orchestrators inject their own. `CAIRN_SECTION__KEY` sets `key` of `[section]`.

use crate::cli::Global;
use crate::error::CliError;
use bitcoin::Network;
use cairn_store::{Redis, StoreOptions};
use serde::Deserialize;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the program was called, as its hints should say it.
const COMMAND_VARIABLE: &str = "CAIRN_COMMAND";

/// Variables under `CAIRN_` that are of the command line, not keys of the file.
const FLAG_VARIABLES: [&str; 4] = ["CAIRN_DATA_DIR", "CAIRN_CONFIG", "CAIRN_SERVER", COMMAND_VARIABLE];

/// Variables of the deployment documents, and the key that each sets.
const DOCUMENT_VARIABLES: [(&str, &str); 15] = [
    ("BITCOIN_API_ADMIN_KEY", "http.admin_key"),
    ("BITCOIN_API_WALLET_KEY", "http.wallet_key"),
    ("DATABASE_URL", "database.url"),
    ("DATABASE_DIRECT_URL", "database.direct_url"),
    ("DB_REPLICA_URL", "database.replica_url"),
    ("DB_REPLICA_HOST", "database.replica_host"),
    ("REDIS_URL", "redis.url"),
    ("QUEUE_REDIS_URL", "redis.queue_url"),
    ("LB_STRATEGY", "gateway.strategy"),
    ("RATE_LIMIT_REQUESTS", "gateway.rate_limit_requests"),
    ("RATE_LIMIT_WINDOW", "gateway.rate_limit_window"),
    ("NODE_IS_MINER", "node.miner"),
    ("NODE_IS_WEB_SERVER", "node.web"),
    ("NODE_CONNECT_NODES", "p2p.connect"),
    ("NODE_MINING_ADDRESS", "mining.address"),
];

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// `regtest`, `signet`, `testnet4` or `mainnet`.
    pub(crate) network: NetworkName,
    pub(crate) signet: SignetSection,
    pub(crate) log: Log,
    pub(crate) node: NodeSection,
    pub(crate) http: Http,
    pub(crate) metrics: Metrics,
    pub(crate) rpc: Rpc,
    pub(crate) p2p: P2p,
    pub(crate) chain: ChainSection,
    pub(crate) mempool: MempoolSection,
    pub(crate) mining: Mining,
    pub(crate) wallet: WalletSection,
    pub(crate) stamp: Stamp,
    pub(crate) database: Database,
    pub(crate) redis: RedisSection,
    pub(crate) worker: WorkerSection,
    pub(crate) gateway: cairn_gateway::Config,
}

/// A network by the name that the command line uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkName {
    /// Blocks on demand, no proof of work to speak of.
    #[default]
    Regtest,
    /// The public signet.
    Signet,
    /// Testnet 4 (BIP 94).
    Testnet4,
    /// Bitcoin.
    Mainnet,
}

impl NetworkName {
    /// The `bitcoin` crate's name for it.
    pub(crate) fn network(self) -> Network {
        match self {
            NetworkName::Regtest => Network::Regtest,
            NetworkName::Signet => Network::Signet,
            NetworkName::Testnet4 => Network::Testnet4,
            NetworkName::Mainnet => Network::Bitcoin,
        }
    }

    /// The network's directory below the data directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            NetworkName::Regtest => "regtest",
            NetworkName::Signet => "signet",
            NetworkName::Testnet4 => "testnet4",
            NetworkName::Mainnet => "mainnet",
        }
    }

    /// Where the JSON-RPC listens unless told otherwise: Core's port for the network.
    fn rpc_port(self) -> u16 {
        match self {
            NetworkName::Regtest => 18443,
            NetworkName::Signet => 38332,
            NetworkName::Testnet4 => 48332,
            NetworkName::Mainnet => 8332,
        }
    }
}

/// `[signet]`: a signet of one's own (BIP 325).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SignetSection {
    /// The script that blocks must satisfy, in hex; the public signet's by default.
    pub(crate) challenge: Option<String>,
    /// Seconds between blocks that retargets aim at.
    pub(crate) block_time: Option<u32>,
    /// Files with the keys that blocks are signed with.
    pub(crate) key: Vec<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Level or filter; `warn` by default.
    pub(crate) level: Option<String>,
    /// One JSON object a line instead of text.
    pub(crate) json: bool,
}

/// `[node]`: what `cairn node` does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Make blocks on schedule.
    pub(crate) miner: bool,
    /// Serve the HTTP API, with a database, a wallet and stamping.
    pub(crate) web: bool,
}

/// `[metrics]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Address of metrics and health where there is no HTTP API; `127.0.0.1:9101` by default.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[http]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// Address to listen on; `127.0.0.1:8080` by default.
    pub(crate) listen: Option<SocketAddr>,
    /// How clients reach it: written into proofs as the calendar's address. `http://<listen>` by default.
    pub(crate) public_url: Option<String>,
    /// Key of the admin routes; generated at the first start when it is not given.
    pub(crate) admin_key: Option<String>,
    /// Key of the wallet routes; generated at the first start when it is not given.
    pub(crate) wallet_key: Option<String>,
}

/// `[rpc]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rpc {
    /// Address to listen on; `127.0.0.1` and Core's port for the network by default.
    pub(crate) listen: Option<SocketAddr>,
    /// User for Basic authentication; the cookie always works.
    pub(crate) user: Option<String>,
    /// Password for Basic authentication.
    pub(crate) password: Option<String>,
}

/// `[p2p]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct P2p {
    /// Address to listen on for peers.
    pub(crate) listen: Option<SocketAddr>,
    /// Peers to be connected with, `host` or `host:port`; `local` stands for none.
    pub(crate) connect: Vec<String>,
    /// No encrypted connections (BIP 324).
    pub(crate) no_v2: bool,
}

/// `[chain]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ChainSection {
    /// MiB of coins kept in memory before they are written out.
    pub(crate) coin_cache_mib: usize,
    /// MiB of block files kept; 0 keeps all, 1 those that `pruneblockchain` leaves.
    pub(crate) prune: u64,
    /// Keep a transaction index also where no wallet needs it.
    pub(crate) txindex: bool,
    /// Keep the filters of blocks.
    pub(crate) blockfilterindex: bool,
    /// Snapshots of the coins that may be loaded, each `HEIGHT:BLOCKHASH:COINSHASH:TRANSACTIONS`.
    pub(crate) assume_utxo: Vec<String>,
}

impl Default for ChainSection {
    fn default() -> Self {
        Self { coin_cache_mib: 64, prune: 0, txindex: false, blockfilterindex: false, assume_utxo: Vec::new() }
    }
}

/// `[mempool]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MempoolSection {
    /// MiB of transactions kept; 300 MB, as Core, by default.
    pub(crate) max_mib: Option<usize>,
    /// Satoshi for 1,000 virtual bytes; 100, as Core, by default.
    pub(crate) min_relay_fee_rate: Option<u64>,
    /// Accept transactions that are valid but not standard (regtest only).
    pub(crate) accept_non_standard: bool,
    /// Hours after which a transaction is dropped; 336, as Core, by default.
    pub(crate) expiry_hours: Option<u64>,
    /// Keep the mempool in a file while the node is not running; true by default.
    pub(crate) persist: Option<bool>,
}

/// `[mining]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mining {
    /// Seconds between the network's blocks; 0 mines only on demand. 10 by default, on a signet of one's own what its
    /// retargets aim at.
    pub(crate) block_time: Option<f64>,
    /// This miner's share of the network's blocks; 1 by default.
    pub(crate) share: Option<f64>,
    /// How the times between them are spread: `poisson`, the default, or `fixed`.
    pub(crate) pacing: Option<String>,
    /// Address that the rewards go to; the wallet's own by default.
    pub(crate) address: Option<String>,
}

/// `[wallet]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WalletSection {
    /// Encrypts the seed at rest. Best given by `CAIRN_WALLET__PASSPHRASE`.
    pub(crate) passphrase: Option<String>,
}

/// `[stamp]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Stamp {
    /// Confirmations after which a proof is final; 1 on regtest, 6 elsewhere, by default.
    pub(crate) confirmations: Option<u32>,
    /// Seconds that digests are gathered before a transaction is built; at most 1 by default.
    pub(crate) gather: Option<f64>,
}

/// `[database]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Database {
    /// `sqlite://PATH` or `postgres://…`; a file in the data directory by default.
    pub(crate) url: Option<String>,
    /// The server past a pooler, for migrations and notifications.
    pub(crate) direct_url: Option<String>,
    /// A streaming replica, by its URL.
    pub(crate) replica_url: Option<String>,
    /// Or by its host, with or without a port, if all else is as in `url`.
    pub(crate) replica_host: Option<String>,
    /// Seconds that the replica may be behind; 5 by default, at least 2.
    pub(crate) replica_lag: Option<u64>,
    /// Most connections that write at a time; 8 by default. SQLite has one.
    pub(crate) writers: Option<u32>,
    /// Most connections that read at a time; 4 by default.
    pub(crate) readers: Option<u32>,
}

/// `[redis]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RedisSection {
    /// Where the cache is, and the limits if they are not apart.
    pub(crate) url: Option<String>,
    /// Where the limits are.
    pub(crate) queue_url: Option<String>,
}

/// `[worker]`: who does tasks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkerSection {
    /// Tasks that compute at once; as many as there are cores by default. 0 in a process that also serves: it does none.
    pub(crate) concurrency: Option<usize>,
    /// Address of a worker's metrics and health; `127.0.0.1:9201` by default.
    pub(crate) metrics: Option<SocketAddr>,
    /// Seconds that tasks have to end when a worker stops; 30 by default.
    pub(crate) drain: Option<u64>,
}

/// Settings with the paths that they resolve to.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// Make the index and the coins anew, this once.
    pub(crate) reindex: bool,
    /// A snapshot to begin with: a file or a URL.
    pub(crate) snapshot: Option<String>,
}

impl Resolved {
    /// The network's own directory.
    pub(crate) fn network_dir(&self) -> PathBuf {
        self.data_dir.join(self.settings.network.directory())
    }

    /// Where HTTP listens.
    pub(crate) fn http(&self) -> SocketAddr {
        self.settings.http.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    /// Where metrics and health listen that have no HTTP API beside them.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.settings.metrics.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9101)))
    }

    /// Where JSON-RPC listens.
    pub(crate) fn rpc(&self) -> SocketAddr {
        self.settings.rpc.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], self.settings.network.rpc_port())))
    }

    /// Where peers are listened for. On regtest the contract's ports; elsewhere that of Bitcoin Core.
    pub(crate) fn p2p(&self, web_only: bool) -> SocketAddr {
        let port = match self.settings.network {
            NetworkName::Regtest if web_only => 2101,
            NetworkName::Regtest => 2001,
            NetworkName::Signet => 38333,
            NetworkName::Testnet4 => 48333,
            NetworkName::Mainnet => 8333,
        };
        self.settings.p2p.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// How clients reach HTTP, without a slash at the end.
    pub(crate) fn public_url(&self, listening: SocketAddr) -> String {
        match &self.settings.http.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{listening}"),
        }
    }

    /// The database's URL.
    pub(crate) fn database_url(&self) -> String {
        match &self.settings.database.url {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", self.network_dir().join("cairn.sqlite").display()),
        }
    }

    /// How the database is opened.
    pub(crate) fn store_options(&self) -> Result<StoreOptions, CliError> {
        let database = &self.settings.database;
        let usage = |key: &str, error: &dyn fmt::Display| {
            CliError::usage(format!("{key}: {error}")).remedy("docs/configuration.md lists every key")
        };
        let url = self.database_url();
        let replica = match (&database.replica_url, &database.replica_host) {
            (Some(_), Some(_)) => return Err(usage("database.replica_host", &"there is database.replica_url as well")),
            (Some(url), None) => Some(("database.replica_url", url.clone())),
            (None, Some(host)) => {
                let key = "database.replica_host";
                Some((key, cairn_store::options::with_host(&url, host).map_err(|error| usage(key, &error))?))
            }
            (None, None) => None,
        };
        let direct = database.direct_url.clone().map(|url| ("database.direct_url", url));
        for (key, other) in [&direct, &replica].into_iter().flatten() {
            if url.starts_with("sqlite:") {
                return Err(usage(key, &"the database is a file of SQLite, which has none"));
            }
            cairn_store::options::check_postgres_url(other).map_err(|error| usage(key, &error))?;
        }
        for (key, size) in [("database.writers", database.writers), ("database.readers", database.readers)] {
            if size.is_some_and(|size| !(1..=1000).contains(&size)) {
                return Err(usage(key, &"1 to 1000 connections"));
            }
        }
        if database.replica_lag.is_some_and(|seconds| !(2..=86400).contains(&seconds)) {
            return Err(usage("database.replica_lag", &"2 to 86400 seconds"));
        }
        let default = StoreOptions::default();
        Ok(StoreOptions {
            direct_url: direct.map(|(_, url)| url),
            replica_url: replica.map(|(_, url)| url),
            replica_lag: database.replica_lag.map_or(default.replica_lag, Duration::from_secs),
            writers: database.writers.unwrap_or(default.writers),
            readers: database.readers.unwrap_or(default.readers),
            ..default
        })
    }

    /// The Redis of the cache, if there is one.
    pub(crate) fn redis(&self) -> Result<Option<Redis>, CliError> {
        open_redis("redis.url", self.settings.redis.url.as_deref())
    }

    /// The Redis of the limits, if there is one.
    pub(crate) fn limits_redis(&self) -> Result<Option<Redis>, CliError> {
        match self.settings.redis.queue_url.as_deref() {
            Some(url) => open_redis("redis.queue_url", Some(url)),
            None => self.redis(),
        }
    }
}

fn open_redis(key: &str, url: Option<&str>) -> Result<Option<Redis>, CliError> {
    url.map(Redis::open).transpose().map_err(|error| {
        CliError::usage(format!("{key}: {error}"))
            .remedy("write redis://USER:PASSWORD@HOST:PORT/DATABASE; docs/configuration.md has the other forms")
    })
}

/// How the program was called: `./run` says so, since a program that it built is on nobody's path.
pub(crate) fn command() -> String {
    std::env::var(COMMAND_VARIABLE).unwrap_or_else(|_| "cairn".into())
}

/// Reads everything that was said, in order of precedence. Flags that a command has of its own are applied by it.
pub(crate) fn load(global: &Global) -> Result<Resolved, CliError> {
    read(global, std::env::vars_os())
}

/// [`load`] in an environment of these variables.
fn read(global: &Global, variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Resolved, CliError> {
    let data_dir = match &global.data_dir {
        Some(dir) => dir.clone(),
        None => default_data_dir()?,
    };
    let mut builder = config::Config::builder();
    let file = global.config.clone().unwrap_or_else(|| data_dir.join("cairn.toml"));
    if global.config.is_some() || file.exists() {
        builder = builder.add_source(config::File::from(file.as_path()).format(config::FileFormat::Toml));
    }
    let Environment { cairn, documents } = environment(variables)?;
    builder = builder.add_source(
        config::Environment::with_prefix("CAIRN")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("chain.assume_utxo")
            .with_list_parse_key("gateway.backends")
            .with_list_parse_key("gateway.idempotent_paths")
            .with_list_parse_key("gateway.trusted_proxies")
            .with_list_parse_key("p2p.connect")
            .with_list_parse_key("signet.key")
            .ignore_empty(true)
            .source(Some(cairn)),
    );
    for (key, value) in documents {
        let value = match key {
            "p2p.connect" => {
                config::Value::from(value.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>())
            }
            _ => value.into(),
        };
        builder = builder
            .set_override(key, value)
            .map_err(|error| CliError::usage(format!("configuration key {key}: {error}")))?;
    }
    if let Some(network) = &global.network {
        builder = builder
            .set_override("network", network.as_str())
            .map_err(|error| CliError::usage(format!("--network: {error}")))?;
    }
    let mut settings: Settings =
        builder.build().and_then(config::Config::try_deserialize).map_err(|error| describe(&error, &file))?;
    if let Some(level) = &global.log_level {
        settings.log.level = Some(level.clone());
    }
    Ok(Resolved { settings, data_dir, reindex: false, snapshot: None })
}

/// The environment's part of the configuration.
#[derive(Default)]
struct Environment {
    /// Variables under `CAIRN_`.
    cairn: HashMap<String, String>,
    /// Values of the documents' variables, by the keys that they set.
    documents: Vec<(&'static str, String)>,
}

/// The environment's part: variables under `CAIRN_` and the documents' variables, as keys.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Environment, CliError> {
    let mut environment = Environment::default();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let document = DOCUMENT_VARIABLES.iter().find(|(variable, _)| *variable == name);
        let ours = name.starts_with("CAIRN_") && !FLAG_VARIABLES.contains(&name);
        if document.is_none() && !ours {
            continue;
        }
        let value = value.into_string().map_err(|_| {
            CliError::usage(format!("environment variable {name} is not UTF-8")).remedy("set it to plain text")
        })?;
        match document {
            Some((_, key)) if !value.is_empty() => environment.documents.push((*key, value)),
            Some(_) => {}
            None => {
                environment.cairn.insert(name.to_owned(), value);
            }
        }
    }
    Ok(environment)
}

/// The XDG data home's `cairn`.
fn default_data_dir() -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("cairn"))
        .ok_or_else(|| CliError::usage("no home directory is known").remedy("give --data-dir DIR"))
}

fn describe(error: &config::ConfigError, file: &Path) -> CliError {
    CliError::usage(format!("configuration: {error}")).remedy(format!(
        "correct {} or the CAIRN_ variable that says so; docs/configuration.md lists every key",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, config::ConfigError> {
        config::Config::builder()
            .add_source(config::File::from_str(text, config::FileFormat::Toml))
            .build()?
            .try_deserialize()
    }

    #[test]
    fn defaults_are_regtest_on_loopback() {
        let settings = parse("").expect("an empty file is valid");
        let resolved = Resolved { settings, data_dir: PathBuf::from("/d"), reindex: false, snapshot: None };
        assert_eq!(resolved.http().to_string(), "127.0.0.1:8080");
        assert_eq!(resolved.metrics().to_string(), "127.0.0.1:9101");
        assert_eq!(resolved.rpc().to_string(), "127.0.0.1:18443");
        assert_eq!(resolved.network_dir(), PathBuf::from("/d/regtest"));
        assert_eq!(resolved.database_url(), "sqlite:///d/regtest/cairn.sqlite");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("[http]\nlisten_on = \"127.0.0.1:1\"").expect_err("unknown key").to_string();
        assert!(error.contains("listen_on"), "{error}");
        let error = parse("[htp]").expect_err("unknown section").to_string();
        assert!(error.contains("htp"), "{error}");
    }

    #[test]
    fn every_network_has_its_rpc_port() {
        for (name, port) in [("regtest", 18443), ("signet", 38332), ("testnet4", 48332), ("mainnet", 8332)] {
            let settings = parse(&format!("network = \"{name}\"")).expect("known network");
            assert_eq!(
                Resolved { settings, data_dir: PathBuf::new(), reindex: false, snapshot: None }.rpc().port(),
                port
            );
        }
        assert!(parse("network = \"testnet3\"").is_err());
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod any_text;
