//! Whatever the file, the environment and the flags say: settings, or an error of usage with its remedy.

use super::*;
use crate::error::exit;
use crate::server::{node_config, pace};
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

/// Keys that the file may hold, as `section.key`.
const KEYS: [&str; 42] = [
    "network",
    "signet.challenge",
    "signet.block_time",
    "signet.key",
    "node.miner",
    "node.web",
    "metrics.listen",
    "chain.txindex",
    "chain.blockfilterindex",
    "log.level",
    "log.json",
    "http.listen",
    "http.public_url",
    "http.admin_key",
    "rpc.listen",
    "rpc.user",
    "rpc.password",
    "chain.coin_cache_mib",
    "chain.prune",
    "chain.assume_utxo",
    "mempool.max_mib",
    "mempool.min_relay_fee_rate",
    "mempool.accept_non_standard",
    "mempool.expiry_hours",
    "mempool.persist",
    "mining.block_time",
    "mining.address",
    "mining.share",
    "mining.pacing",
    "wallet.passphrase",
    "stamp.confirmations",
    "stamp.gather",
    "database.url",
    "database.direct_url",
    "database.replica_url",
    "database.replica_host",
    "database.replica_lag",
    "database.writers",
    "database.readers",
    "redis.url",
    "redis.queue_url",
    "gateway.strategy",
];

/// Values that some key takes, and others.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        prop::sample::select(vec![
            "inf",
            "nan",
            "true",
            "{}",
            "[]",
            "1979-05-27",
            "\"regtest\"",
            "\"mainnet\"",
            "\"[::1]:0\"",
            "\"127.0.0.1:80\"",
            "[\"1:2:3:4\"]",
            "550",
            "0.5",
            "18446744073709551615",
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ]
}

/// A file: any text, or keys with values.
fn file() -> impl Strategy<Value = String> {
    let line = (prop::sample::select(KEYS.to_vec()), value()).prop_map(|(key, value)| format!("{key} = {value}\n"));
    prop_oneof![any::<String>(), prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())]
}

/// Variables: of keys, of the documents, others; not all values are text.
fn variables() -> impl Strategy<Value = Vec<(OsString, OsString)>> {
    let key = prop::sample::select(KEYS.to_vec());
    let name = prop_oneof![
        key.prop_map(|key| format!("CAIRN_{}", key.replace('.', "__").to_uppercase())),
        prop::sample::select(DOCUMENT_VARIABLES.map(|(name, _)| name).to_vec()).prop_map(str::to_owned),
        "CAIRN_[A-Za-z_.\\[\\]0-9]{0,20}",
        any::<String>(),
    ];
    let value = prop_oneof![
        value().prop_map(|value| value.trim_matches('"').to_owned().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec((name.prop_map(OsString::from), value.prop_map(OsString::from_vec)), 0..4)
}

proptest! {
    #[test]
    fn any_text_is_settings_or_an_error_of_usage(file in file(), variables in variables(), network in prop::option::of(any::<String>())) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("cairn.toml");
        std::fs::write(&path, file).expect("written");
        let global =
            Global { data_dir: Some(dir.path().to_owned()), config: Some(path), network, log_level: None };
        let read = read(&global, variables.into_iter());
        if let Ok(resolved) = &read {
            prop_assert!(!resolved.public_url(resolved.rpc()).ends_with('/'));
            prop_assert!(resolved.settings.database.url.is_some() || resolved.database_url().starts_with("sqlite://"));
        }
        let config = read.and_then(|resolved| {
            pace(&resolved.settings)?;
            resolved.store_options()?;
            resolved.redis()?;
            resolved.limits_redis()?;
            node_config(&resolved, false).map(|config| (config, resolved))
        });
        match config {
            Ok((config, resolved)) => {
                prop_assert!(config.coin_cache_bytes >= resolved.settings.chain.coin_cache_mib);
                prop_assert!(config.mempool.max_bytes >= resolved.settings.mempool.max_mib.unwrap_or(0));
                prop_assert!(config.mempool.expiry_seconds >= resolved.settings.mempool.expiry_hours.unwrap_or(0));
                prop_assert_eq!(config.mempool.persist, resolved.settings.mempool.persist.unwrap_or(true));
            }
            Err(error) => {
                prop_assert_eq!(error.code, exit::USAGE);
                prop_assert!(!error.message.is_empty() && error.remedy.is_some(), "{}", error);
            }
        }
    }
}

/// What a file with this text means for the database and Redis, or why it is refused.
fn opened(text: &str) -> Result<(cairn_store::StoreOptions, Option<String>, Option<String>), String> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("cairn.toml");
    std::fs::write(&path, text).expect("written");
    let global = Global { data_dir: Some(dir.path().to_owned()), config: Some(path), network: None, log_level: None };
    let open = || {
        let resolved = read(&global, std::iter::empty())?;
        let name = |redis: Option<cairn_store::Redis>| redis.map(|redis| redis.to_string());
        Ok((resolved.store_options()?, name(resolved.redis()?), name(resolved.limits_redis()?)))
    };
    open().map_err(|error: CliError| error.to_string())
}

#[test]
fn servers_are_named_by_url() {
    let (options, redis, limits) = opened("").expect("nothing is needed");
    assert_eq!((options.direct_url, options.replica_url, redis, limits), (None, None, None, None));
    let text = "database.url = 'postgres://u:p@pooler:6432/d?sslmode=require'\ndatabase.direct_url = 'postgres://u:p@db/d'\n\
                database.replica_host = 'standby:5433'\ndatabase.replica_lag = 3\ndatabase.writers = 20\n\
                redis.url = 'redis://:p@cache'";
    let (options, redis, limits) = opened(text).expect("it is valid");
    assert_eq!(options.replica_url.as_deref(), Some("postgres://u:p@standby:5433/d?sslmode=require"));
    assert_eq!((options.replica_lag, options.writers, options.readers), (Duration::from_secs(3), 20, 4));
    assert_eq!((redis.as_deref(), limits.as_deref()), (Some("redis://cache:6379/0"), Some("redis://cache:6379/0")));
    let (_, redis, limits) = opened("redis.url = 'redis://cache'\nredis.queue_url = 'redis-cluster://a,b'").unwrap();
    assert_eq!(
        (redis.as_deref(), limits.as_deref()),
        (Some("redis://cache:6379/0"), Some("redis-cluster://a:6379,b:6379"))
    );
}

#[test]
fn a_wrong_url_is_named_by_its_key_and_without_its_password() {
    let postgres = "database.url = 'postgres://db/d'\n";
    for (text, key, wrong) in [
        ("redis.url = 'http://:secret@host'".into(), "redis.url", "no scheme of Redis"),
        ("redis.queue_url = 'redis://:secret@host:x'".into(), "redis.queue_url", "no port"),
        (
            format!("{postgres}database.replica_url = 'mysql://u:secret@host/d'"),
            "database.replica_url",
            "no database URL",
        ),
        (
            format!("{postgres}database.direct_url = 'postgres://u:secret@host:x/d'"),
            "database.direct_url",
            "invalid port",
        ),
        (format!("{postgres}database.replica_host = 'u:secret@host'"), "database.replica_host", "no host"),
        ("database.replica_url = 'postgres://u:secret@host/d'".into(), "database.replica_url", "SQLite"),
        (
            format!("{postgres}database.replica_host = 'a'\ndatabase.replica_url = 'b'"),
            "database.replica_host",
            "as well",
        ),
        ("database.writers = 0".into(), "database.writers", "1 to 1000"),
        ("database.replica_lag = 1".into(), "database.replica_lag", "2 to 86400"),
    ] {
        let error = opened(&text).unwrap_err();
        assert!(error.contains(key) && error.contains(wrong), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
