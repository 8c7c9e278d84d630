//! Chain parameters of the four networks, as Core's `kernel/chainparams.cpp` has them.

use crate::pow::target_from_compact;
use crate::script::ScriptFlags;
use crate::versionbits::Deployment;
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash, Network, ScriptBuf, Target, Work};
use std::str::FromStr;

/// Challenge of the default signet (BIP 325).
const SIGNET_CHALLENGE: &str = "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be430210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae";

/// A snapshot of the coins that the parameters vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeUtxo {
    /// Height of its block.
    pub height: u32,
    /// Hash of its block.
    pub block_hash: BlockHash,
    /// Core's `hash_serialized_3` of the coins, in the byte order that Core prints.
    pub hash_serialized: [u8; 32],
    /// Transactions up to and including its block.
    pub chain_tx_count: u64,
}

/// Text that names no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is named HEIGHT:BLOCKHASH:COINSHASH:TRANSACTIONS, as `dumptxoutset` answers them")]
pub struct InvalidAssumeUtxo;

impl FromStr for AssumeUtxo {
    type Err = InvalidAssumeUtxo;

    /// Reads height, block hash, `hash_serialized_3` and number of transactions, with colons between.
    fn from_str(text: &str) -> Result<Self, InvalidAssumeUtxo> {
        let fields: Vec<&str> = text.split(':').collect();
        let [height, block_hash, hash_serialized, chain_tx_count] = fields.as_slice() else {
            return Err(InvalidAssumeUtxo);
        };
        Ok(AssumeUtxo {
            height: height.parse().map_err(|_| InvalidAssumeUtxo)?,
            block_hash: block_hash.parse().map_err(|_| InvalidAssumeUtxo)?,
            hash_serialized: FromHex::from_hex(hash_serialized).map_err(|_| InvalidAssumeUtxo)?,
            chain_tx_count: chain_tx_count.parse().map_err(|_| InvalidAssumeUtxo)?,
        })
    }
}

/// A block time for which no signet is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block time of {0} seconds is not possible: choose one from 1 second to two weeks")]
pub struct InvalidBlockTime(pub u32);

/// Everything that differs between networks and that a rule reads.
#[derive(Debug, Clone)]
pub struct Params {
    /// Which network.
    pub network: Network,
    /// Its genesis block.
    pub genesis: Block,
    /// Hash of the genesis block.
    pub genesis_hash: BlockHash,
    /// Message start of the network, which also separates records in block files.
    pub magic: [u8; 4],
    /// Default port of the peer-to-peer protocol.
    pub p2p_port: u16,
    /// Default port of JSON-RPC.
    pub rpc_port: u16,
    /// Blocks between halvings of the subsidy.
    pub subsidy_halving_interval: u32,
    /// Easiest target allowed.
    pub pow_limit: Target,
    /// Seconds that a difficulty period should take.
    pub pow_target_timespan: u32,
    /// Seconds between blocks.
    pub pow_target_spacing: u32,
    /// A block twenty minutes late may have the easiest target (test networks).
    pub allow_min_difficulty_blocks: bool,
    /// The difficulty never changes (regtest).
    pub no_retargeting: bool,
    /// BIP 94: no time warp, and retargets from the first block of a period (testnet4).
    pub enforce_bip94: bool,
    /// Height from which coinbases carry their height (BIP 34).
    pub bip34_height: u32,
    /// Block at `bip34_height` on the chain that makes BIP 30 superfluous.
    pub bip34_hash: Option<BlockHash>,
    /// Height from which OP_CHECKLOCKTIMEVERIFY applies (BIP 65).
    pub bip65_height: u32,
    /// Height from which signatures are strict DER (BIP 66).
    pub bip66_height: u32,
    /// Height from which relative lock times and median time past apply (BIP 68, 112 and 113).
    pub csv_height: u32,
    /// Height from which witness commitments and NULLDUMMY apply (BIP 141, 143 and 147).
    pub segwit_height: u32,
    /// Deployments that miners may signal for (BIP 9).
    pub deployments: Vec<Deployment>,
    /// Blocks whose scripts are checked with other flags than all others.
    pub script_flag_exceptions: Vec<(BlockHash, ScriptFlags)>,
    /// Challenge that blocks must solve (BIP 325), on signet.
    pub signet_challenge: Option<ScriptBuf>,
    /// Work that the best chain has at least.
    pub minimum_chain_work: Work,
    /// A block known to be valid with all its ancestors.
    pub assume_valid: Option<BlockHash>,
    /// Snapshots that may be loaded.
    pub assume_utxo: Vec<AssumeUtxo>,
}

impl Params {
    /// Parameters of regtest, signet (default challenge), testnet4 or mainnet; `None` for other networks.
    pub fn new(network: Network) -> Option<Params> {
        match network {
            Network::Bitcoin => Some(Self::mainnet()),
            Network::Testnet4 => Some(Self::testnet4()),
            Network::Signet => {
                let mut params = Self::any_signet(script(SIGNET_CHALLENGE));
                params.minimum_chain_work = work("0b463ea0a4b8");
                params.assume_valid = Some(hash("00000008414aab61092ef93f1aacc54cf9e9f16af29ddad493b908a01ff5c329"));
                params.assume_utxo = vec![
                    snapshot(
                        160_000,
                        "0000003ca3c99aff040f2563c2ad8f8ec88bd0fd6b8f0895cfaf1ef90353a62c",
                        "fe0a44309b74d6b5883d246cb419c6221bcccf0b308c9b59b7d70783dbdf928a",
                        2_289_496,
                    ),
                    snapshot(
                        290_000,
                        "0000000577f2741bb30cd9d39d6d71b023afbeb9764f6260786a97969d5c9ac0",
                        "97267e000b4b876800167e71b9123f1529d13b14308abec2888bbd2160d14545",
                        28_547_497,
                    ),
                ];
                Some(params)
            }
            Network::Regtest => Some(Self::regtest()),
            _ => None,
        }
    }

    fn mainnet() -> Params {
        Params {
            magic: [0xf9, 0xbe, 0xb4, 0xd9],
            p2p_port: 8333,
            rpc_port: 8332,
            bip34_height: 227_931,
            bip34_hash: Some(hash("000000000000024b89b42a942fe0d9fea3bb44ab7bd1b19115dd6a759c0808b8")),
            bip65_height: 388_381,
            bip66_height: 363_725,
            csv_height: 419_328,
            segwit_height: 481_824,
            script_flag_exceptions: vec![
                // Block 170,060 breaks BIP 16, block 692,261 breaks Taproot.
                (hash("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22"), ScriptFlags::NONE),
                (
                    hash("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad"),
                    ScriptFlags::P2SH | ScriptFlags::WITNESS,
                ),
            ],
            minimum_chain_work: work("01128750f82f4c366153a3a030"),
            assume_valid: Some(hash("00000000000000000000ccebd6d74d9194d8dcdc1d177c478e094bfad51ba5ac")),
            assume_utxo: vec![
                snapshot(
                    840_000,
                    "0000000000000000000320283a032748cef8227873ff4872689bf23f1cda83a5",
                    "a2a5521b1b5ab65f67818e5e8eccabb7171a517f9e2382208f77687310768f96",
                    991_032_194,
                ),
                snapshot(
                    880_000,
                    "000000000000000000010b17283c3c400507969a9c2afd1dcf2082ec5cca2880",
                    "dbd190983eaf433ef7c15f78a278ae42c00ef52e0fd2a54953782175fbadcea9",
                    1_145_604_538,
                ),
                snapshot(
                    910_000,
                    "0000000000000000000108970acb9522ffd516eae17acddcb1bd16469194a821",
                    "4daf8a17b4902498c5787966a2b51c613acdab5df5db73f196fa59a4da2f1568",
                    1_226_586_151,
                ),
                snapshot(
                    935_000,
                    "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee",
                    "e4b90ef9eae834f56c4b64d2d50143cee10ad87994c614d7d04125e2a6025050",
                    1_305_397_408,
                ),
            ],
            ..Self::base(Network::Bitcoin)
        }
    }

    fn testnet4() -> Params {
        Params {
            magic: [0x1c, 0x16, 0x3f, 0x28],
            p2p_port: 48333,
            rpc_port: 48332,
            allow_min_difficulty_blocks: true,
            enforce_bip94: true,
            deployments: vec![test_dummy(Deployment::NEVER_ACTIVE, 1_512, 2_016)],
            minimum_chain_work: work("09a0fe15d0177d086304"),
            assume_valid: Some(hash("0000000002368b1e4ee27e2e85676ae6f9f9e69579b29093e9a82c170bf7cf8a")),
            assume_utxo: vec![
                snapshot(
                    90_000,
                    "0000000002ebe8bcda020e0dd6ccfbdfac531d2f6a81457191b99fc2df2dbe3b",
                    "784fb5e98241de66fdd429f4392155c9e7db5c017148e66e8fdbc95746f8b9b5",
                    11_347_043,
                ),
                snapshot(
                    120_000,
                    "000000000bd2317e51b3c5794981c35ba894ce27d3e772d5c39ecd9cbce01dc8",
                    "10b05d05ad468d0971162e1b222a4aa66caca89da2bb2a93f8f37fb29c4794b0",
                    14_141_057,
                ),
            ],
            ..Self::base(Network::Testnet4)
        }
    }

    /// A signet with its own challenge (BIP 325): only holders of its keys can make blocks. The genesis block is that of
    /// every signet; the magic is derived from the challenge. `block_time` is the seconds between blocks that retargets
    /// aim at, 600 unless given; a difficulty period remains two weeks.
    ///
    /// # Errors
    /// A block time of 0, or longer than a difficulty period.
    pub fn signet(challenge: ScriptBuf, block_time: Option<u32>) -> Result<Params, InvalidBlockTime> {
        let params = Self::any_signet(challenge);
        let spacing = block_time.unwrap_or(params.pow_target_spacing);
        if !(1..=params.pow_target_timespan).contains(&spacing) {
            return Err(InvalidBlockTime(spacing));
        }
        Ok(Params { pow_target_spacing: spacing, ..params })
    }

    fn any_signet(challenge: ScriptBuf) -> Params {
        let serialized = bitcoin::consensus::serialize(&challenge);
        let digest = bitcoin::hashes::sha256d::Hash::hash(&serialized).to_byte_array();
        Params {
            magic: [digest[0], digest[1], digest[2], digest[3]],
            p2p_port: 38333,
            rpc_port: 38332,
            pow_limit: target_from_compact(0x1e03_77ae).expect("a constant that is a target"),
            signet_challenge: Some(challenge),
            ..Self::base(Network::Signet)
        }
    }

    fn regtest() -> Params {
        Params {
            magic: [0xfa, 0xbf, 0xb5, 0xda],
            p2p_port: 18444,
            rpc_port: 18443,
            subsidy_halving_interval: 150,
            pow_limit: Target::from_be_bytes({
                let mut limit = [0xff; 32];
                limit[0] = 0x7f;
                limit
            }),
            pow_target_timespan: 24 * 60 * 60,
            allow_min_difficulty_blocks: true,
            no_retargeting: true,
            segwit_height: 0,
            deployments: vec![test_dummy(0, 108, 144)],
            assume_utxo: vec![
                snapshot(
                    110,
                    "135eec25a6fb277884e5824e7aa7d052c4868161c99a5122170b5266f86c273d",
                    "86e9a1205b418b16dde3a18a78c730e30137e28466bda5dbf6b33ab8fc05447c",
                    111,
                ),
                snapshot(
                    200,
                    "385901ccbd69dff6bbd00065d01fb8a9e464dede7cfe0372443884f9b1dcf6b9",
                    "17dcc016d188d16068907cdeb38b75691a118d43053b8cd6a25969419381d13a",
                    201,
                ),
                snapshot(
                    299,
                    "0c552ced4721c249a389eb9b08cb8da261cd46f0e7b5f9d064d48f3113406853",
                    "106b2c56233e378a824cf0d5ff2be42ed32c72f1605c9be288d00942908a40ac",
                    334,
                ),
            ],
            ..Self::base(Network::Regtest)
        }
    }

    /// What most networks share; the rest overrides it.
    fn base(network: Network) -> Params {
        let genesis = genesis_block(network);
        Params {
            network,
            genesis_hash: genesis.block_hash(),
            genesis,
            magic: [0; 4],
            p2p_port: 0,
            rpc_port: 0,
            subsidy_halving_interval: 210_000,
            pow_limit: Target::from_be_bytes({
                let mut limit = [0xff; 32];
                limit[..4].fill(0);
                limit
            }),
            pow_target_timespan: 14 * 24 * 60 * 60,
            pow_target_spacing: 10 * 60,
            allow_min_difficulty_blocks: false,
            no_retargeting: false,
            enforce_bip94: false,
            bip34_height: 1,
            bip34_hash: None,
            bip65_height: 1,
            bip66_height: 1,
            csv_height: 1,
            segwit_height: 1,
            deployments: vec![test_dummy(Deployment::NEVER_ACTIVE, 1_815, 2_016)],
            script_flag_exceptions: Vec::new(),
            signet_challenge: None,
            minimum_chain_work: Work::from_be_bytes([0; 32]),
            assume_valid: None,
            assume_utxo: Vec::new(),
        }
    }

    /// Blocks in a difficulty period.
    pub fn difficulty_adjustment_interval(&self) -> u32 {
        self.pow_target_timespan / self.pow_target_spacing
    }

    /// The flags that scripts of a block are checked with (Core's `GetBlockScriptFlags`).
    pub fn block_script_flags(&self, height: u32, hash: &BlockHash) -> ScriptFlags {
        // P2SH, WITNESS and TAPROOT hold since the first block, but for two blocks that break them.
        let mut flags = self
            .script_flag_exceptions
            .iter()
            .find(|(exception, _)| exception == hash)
            .map_or(ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT, |(_, flags)| *flags);
        if height >= self.bip66_height {
            flags |= ScriptFlags::DERSIG;
        }
        if height >= self.bip65_height {
            flags |= ScriptFlags::CHECKLOCKTIMEVERIFY;
        }
        if height >= self.csv_height {
            flags |= ScriptFlags::CHECKSEQUENCEVERIFY;
        }
        if height >= self.segwit_height {
            flags |= ScriptFlags::NULLDUMMY;
        }
        flags
    }
}

/// The deployment that Core keeps for tests.
fn test_dummy(start_time: i64, threshold: u32, period: u32) -> Deployment {
    Deployment {
        name: "testdummy",
        bit: 28,
        start_time,
        timeout: Deployment::NO_TIMEOUT,
        min_activation_height: 0,
        threshold,
        period,
        gbt_optional_rule: true,
    }
}

fn hash(hex: &str) -> BlockHash {
    BlockHash::from_str(hex).expect("a constant of 64 hex digits")
}

fn script(hex: &str) -> ScriptBuf {
    ScriptBuf::from_hex(hex).expect("a constant of hex digits")
}

fn work(hex: &str) -> Work {
    Work::from_be_bytes(<[u8; 32]>::from_hex(&format!("{hex:0>64}")).expect("a constant of at most 64 hex digits"))
}

fn snapshot(height: u32, block: &str, serialized: &str, chain_tx_count: u64) -> AssumeUtxo {
    AssumeUtxo {
        height,
        block_hash: hash(block),
        hash_serialized: <[u8; 32]>::from_hex(serialized).expect("a constant of 64 hex digits"),
        chain_tx_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genesis_blocks_are_those_that_core_asserts() {
        for (network, expected) in [
            (Network::Bitcoin, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (Network::Testnet4, "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
            (Network::Signet, "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
            (Network::Regtest, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ] {
            let params = Params::new(network).expect("supported");
            assert_eq!(params.genesis_hash.to_string(), expected);
            assert_eq!(params.genesis_hash, params.genesis.block_hash());
            assert!(params.genesis.check_merkle_root());
            crate::pow::check_proof_of_work(&params.genesis_hash, params.genesis.header.bits, &params)
                .expect("the genesis block has its proof of work");
        }
        assert!(Params::new(Network::Testnet).is_none());
    }

    #[test]
    fn the_default_signet_has_its_published_magic() {
        assert_eq!(Params::new(Network::Signet).expect("supported").magic, [0x0a, 0x03, 0xcf, 0x40]);
        for network in [Network::Bitcoin, Network::Testnet4, Network::Regtest] {
            assert_eq!(Params::new(network).expect("supported").magic, network.magic().to_bytes());
        }
    }

    #[test]
    fn a_snapshot_is_named_by_four_fields() {
        let known = Params::new(Network::Regtest).expect("supported").assume_utxo[0].clone();
        let hash = bitcoin::hex::DisplayHex::to_lower_hex_string(&known.hash_serialized);
        let text = format!("{}:{}:{hash}:{}", known.height, known.block_hash, known.chain_tx_count);
        let read: AssumeUtxo = text.parse().expect("well formed");
        assert_eq!((read.height, read.block_hash), (known.height, known.block_hash));
        assert_eq!((read.hash_serialized, read.chain_tx_count), (known.hash_serialized, known.chain_tx_count));
        for bad in ["", "1:2:3:4", &text[1..text.len() - 5], &format!("{text}:"), &text.replace(':', " ")] {
            assert_eq!(bad.parse::<AssumeUtxo>().err(), Some(InvalidAssumeUtxo), "{bad}");
        }
    }

    #[test]
    fn flags_follow_the_heights_and_the_exceptions() {
        let params = Params::new(Network::Bitcoin).expect("supported");
        let other = params.genesis_hash;
        let always = ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT;
        assert_eq!(params.block_script_flags(1, &other), always);
        assert_eq!(params.block_script_flags(363_724, &other), always);
        assert_eq!(params.block_script_flags(363_725, &other), always | ScriptFlags::DERSIG);
        assert_eq!(params.block_script_flags(481_824, &other), ScriptFlags::MANDATORY);
        let (bip16, _) = params.script_flag_exceptions[0];
        assert_eq!(params.block_script_flags(170_060, &bip16), ScriptFlags::NONE);
        let (taproot, _) = params.script_flag_exceptions[1];
        assert!(!params.block_script_flags(692_261, &taproot).contains(ScriptFlags::TAPROOT));
    }

    #[test]
    fn a_signet_of_ones_own_has_its_own_magic_and_block_time() {
        let challenge = ScriptBuf::from_bytes(vec![0x51]);
        let ours = Params::signet(challenge.clone(), Some(30)).expect("possible");
        let default = Params::new(Network::Signet).expect("supported");
        assert_eq!(ours.genesis_hash, default.genesis_hash);
        assert_ne!(ours.magic, default.magic);
        assert_eq!((ours.pow_target_spacing, ours.difficulty_adjustment_interval()), (30, 40_320));
        let again = Params::signet(script(SIGNET_CHALLENGE), None).expect("possible");
        assert_eq!((again.magic, again.pow_target_spacing), (default.magic, 600));
        for seconds in [0, 14 * 24 * 60 * 60 + 1] {
            assert_eq!(Params::signet(challenge.clone(), Some(seconds)).err(), Some(InvalidBlockTime(seconds)));
        }
    }
}
