//! Chain parameters are those that Core's sources assign, line by line.

use crate::core_data;
use bitcoin::{Network, hex::DisplayHex};
use cairn_consensus::params::{AssumeUtxo, Params};
use cairn_consensus::versionbits::Deployment;
use std::collections::HashMap;

/// What a class of Core's `kernel/chainparams.cpp` assigns, by name; where it does twice, the last value.
struct Class(String, HashMap<String, String>);

impl Class {
    fn new(name: &str) -> Self {
        let source = core_data::source("kernel/chainparams.cpp");
        let (_, rest) = source.split_once(&format!("class {name} ")).expect("the class is there");
        let (text, _) = rest.split_once("\n};").expect("it ends");
        let mut values = HashMap::new();
        // Signet's second branch is that of a challenge of one's own.
        let text = match text.split_once("} else {") {
            Some((default, rest)) => [default, rest.split_once("m_chain_type").expect("it goes on").1].concat(),
            None => text.to_owned(),
        };
        for line in text.lines() {
            let code = line.split("//").next().unwrap_or_default().trim();
            if let Some((name, value)) = code.strip_suffix(';').and_then(|code| code.split_once(" = ")) {
                let name = name.rsplit(['.', ' ']).next().unwrap_or_default();
                let value = value.trim_start_matches("Consensus::BIP9Deployment::");
                values.insert(name.to_owned(), value.replace("uint256{\"", "").replace("\"}", ""));
            }
        }
        Self(text, values)
    }

    #[track_caller]
    fn assigns(&self, name: &str, value: impl ToString) {
        assert_eq!(self.1.get(name).unwrap_or_else(|| panic!("{name} is assigned")), &value.to_string(), "{name}");
    }

    /// Products of numbers, such as `14 * 24 * 60 * 60`.
    #[track_caller]
    fn multiplies(&self, name: &str, value: u32) {
        let product = self.1[name].split(" * ").map(|factor| factor.parse::<u32>().expect("a number")).product::<u32>();
        assert_eq!(product, value, "{name}");
    }

    /// Snapshots, one field a line.
    fn snapshots(&self) -> Vec<AssumeUtxo> {
        let list = self.0.split_once("m_assumeutxo_data = {").expect("a list").1;
        let list = list.split_once("};").expect("it ends").0;
        let fields = |name: &str| {
            let lines = list.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = "));
            let digits = |line: &str| line.chars().filter(char::is_ascii_hexdigit).collect::<String>();
            let quoted = |line: &str| line.split('"').nth(1).map_or_else(|| digits(line), str::to_owned);
            lines.map(quoted).collect::<Vec<_>>()
        };
        let (heights, blocks) = (fields(".height"), fields(".blockhash"));
        let (coins, counts) = (fields(".hash_serialized"), fields(".m_chain_tx_count"));
        assert_eq!([heights.len(); 3], [blocks.len(), coins.len(), counts.len()]);
        (0..heights.len())
            .map(|i| format!("{}:{}:{}:{}", heights[i], blocks[i], coins[i], counts[i]).parse().expect("four fields"))
            .collect()
    }
}

/// Zero stands for what is not set.
fn or_zero(hash: Option<bitcoin::BlockHash>, zero: &str) -> String {
    hash.map_or(zero.to_owned(), |hash| hash.to_string())
}

#[test]
fn every_network_has_cores_parameters() {
    for (network, class, option, zero) in [
        (Network::Bitcoin, "CMainParams", "MAIN", ""),
        (Network::Testnet4, "CTestNet4Params", "TESTNET4", "uint256{}"),
        (Network::Signet, "SigNetParams", "SIGNET", "uint256{}"),
        (Network::Regtest, "CRegTestParams", "REGTEST", "uint256()"),
    ] {
        let params = Params::new(network).expect("supported");
        let core = Class::new(class);
        assert_eq!(params.network, network);
        core.assigns("nSubsidyHalvingInterval", params.subsidy_halving_interval);
        core.assigns("BIP34Height", params.bip34_height);
        core.assigns("BIP34Hash", or_zero(params.bip34_hash, zero));
        core.assigns("BIP65Height", params.bip65_height);
        core.assigns("BIP66Height", params.bip66_height);
        core.assigns("CSVHeight", params.csv_height);
        core.assigns("SegwitHeight", params.segwit_height);
        core.assigns("powLimit", params.pow_limit.to_be_bytes().to_lower_hex_string());
        core.multiplies("nPowTargetTimespan", params.pow_target_timespan);
        core.multiplies("nPowTargetSpacing", params.pow_target_spacing);
        core.assigns("fPowAllowMinDifficultyBlocks", params.allow_min_difficulty_blocks);
        core.assigns("fPowNoRetargeting", params.no_retargeting);
        // Regtest takes it from the command line.
        let bip94 = if network == Network::Regtest { "opts.enforce_bip94" } else { &params.enforce_bip94.to_string() };
        core.assigns("enforce_BIP94", bip94);
        assert!(network != Network::Regtest || !params.enforce_bip94);

        let zero = if network == Network::Regtest { "uint256{}" } else { zero };
        let work = params.minimum_chain_work.to_be_bytes().to_lower_hex_string();
        core.assigns("nMinimumChainWork", if work == "0".repeat(64) { zero } else { &work });
        core.assigns("defaultAssumeValid", or_zero(params.assume_valid, zero));
        assert_eq!(params.assume_utxo, core.snapshots());

        if let Some(challenge) = &params.signet_challenge {
            core.assigns("bin", format!("\"{}\"_hex_v_u8", challenge.as_bytes().to_lower_hex_string()));
        } else {
            for (position, byte) in params.magic.iter().enumerate() {
                core.assigns(&format!("pchMessageStart[{position}]"), format!("{byte:#04x}"));
            }
        }
        core.assigns("signet_blocks", params.signet_challenge.is_some());
        core.assigns("nDefaultPort", params.p2p_port);
        let base = core_data::source("chainparamsbase.cpp");
        let (_, base) = base.split_once(&format!("case ChainType::{option}:")).expect("the network is there");
        let (base, _) = base.split_once(");").expect("the call ends");
        assert!(base.ends_with(&format!(", {}", params.rpc_port)), "{base}");

        let [deployment] = params.deployments.as_slice() else { panic!("Core's only deployment is for tests") };
        assert_eq!((deployment.name, deployment.gbt_optional_rule), ("testdummy", true));
        core.assigns("bit", deployment.bit);
        let start = match deployment.start_time {
            Deployment::NEVER_ACTIVE => "NEVER_ACTIVE".to_owned(),
            time => time.to_string(),
        };
        core.assigns("nStartTime", start);
        assert_eq!(deployment.timeout, Deployment::NO_TIMEOUT);
        core.assigns("nTimeout", "NO_TIMEOUT");
        core.assigns("min_activation_height", deployment.min_activation_height);
        core.assigns("threshold", deployment.threshold);
        core.assigns("period", deployment.period);
    }
}

/// Two blocks of mainnet break rules that otherwise hold from the first block on.
#[test]
fn script_flag_exceptions_are_cores() {
    let Class(text, _) = Class::new("CMainParams");
    let exceptions = Params::new(Network::Bitcoin).expect("supported").script_flag_exceptions;
    assert_eq!(text.matches("script_flag_exceptions.emplace").count(), exceptions.len());
    for (hash, flags) in exceptions {
        let names = flags.to_string().split(',').map(|name| format!("SCRIPT_VERIFY_{name}")).collect::<Vec<_>>();
        assert!(text.contains(&format!("uint256{{\"{hash}\"}}, {});", names.join(" | "))), "{hash} {flags}");
    }
    for network in [Network::Testnet4, Network::Signet, Network::Regtest] {
        assert!(Params::new(network).expect("supported").script_flag_exceptions.is_empty());
    }
}
