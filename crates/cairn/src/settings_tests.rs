//! Whatever the file, the environment and the flags say: settings, or an error of usage with its remedy.

use super::*;
use crate::error::exit;
use crate::server::{node_config, pace};
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

/// Keys that the file may hold, as `section.key`.
const KEYS: [&str; 33] = [
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
