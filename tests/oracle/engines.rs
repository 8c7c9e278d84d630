//! A pair of engines that is given the same blocks.

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::{Block, BlockHash, Network, ScriptBuf, VarInt};
use bitcoinkernel::notifications::types::{BlockValidationStateExt, ValidationMode};
use bitcoinkernel::{
    BlockValidationStateRef, ChainType, ChainstateManager, ContextBuilder, Log, LogCategory, LogLevel, Logger,
    ProcessBlockHeaderResult,
};
use cairn_chain::{Chain, ChainConfig, ChainError};
use cairn_consensus::params::Params;
use std::sync::{Arc, Mutex, OnceLock};

/// Core's clock is the real one; both engines use it.
pub(crate) fn now() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u32::try_from(since.as_secs()).expect("before 2106")
}

/// What Core logs, of all engines of this process: tests run one at a time in a process of their own.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collect;

impl Log for Collect {
    fn log(&self, message: &str) {
        LOG.lock().expect("nobody panics holding it").push(message.to_owned());
    }
}

fn start_logging() {
    static LOGGER: OnceLock<usize> = OnceLock::new();
    LOGGER.get_or_init(|| {
        let logger = Logger::new(Collect).expect("a logger");
        logger.set_level_category(LogCategory::Validation, LogLevel::Debug);
        logger.enable_category(LogCategory::Validation);
        // For as long as the process lives.
        Box::leak(Box::new(logger));
        0
    });
}

/// How the reason of every script failure begins.
const SCRIPT: &str = "block-script-verify-flag-failed";

/// Two engines on directories of their own.
pub(crate) struct Pair {
    pub(crate) ours: Chain,
    theirs: ChainstateManager,
    checked: Arc<Mutex<Option<bool>>>,
    _context: bitcoinkernel::Context,
    _dirs: [tempfile::TempDir; 2],
}

/// A network that both engines can make.
#[derive(Debug, Clone)]
pub(crate) enum Net {
    /// One that has parameters of its own.
    Known(Network),
    /// A signet with its own challenge.
    Signet(ScriptBuf),
}

impl Net {
    pub(crate) fn params(&self) -> Params {
        match self {
            Net::Known(network) => Params::new(*network).expect("supported"),
            Net::Signet(challenge) => Params::signet(challenge.clone(), None).expect("possible"),
        }
    }

    fn context(&self) -> ContextBuilder {
        let builder = ContextBuilder::new();
        match self {
            Net::Known(Network::Bitcoin) => builder.chain_type(ChainType::Mainnet),
            Net::Known(Network::Testnet4) => builder.chain_type(ChainType::Testnet4),
            Net::Known(Network::Signet) => builder.chain_type(ChainType::Signet),
            Net::Known(_) => builder.chain_type(ChainType::Regtest),
            Net::Signet(challenge) => builder.signet(challenge.as_bytes()),
        }
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::on(&Net::Known(Network::Regtest))
    }

    pub(crate) fn on(net: &Net) -> Self {
        start_logging();
        let dirs = [tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary")];
        let config = ChainConfig::new(dirs[0].path().to_owned(), net.params());
        let ours = Chain::open(ChainConfig { coin_cache_bytes: 8 << 20, ..config }, Box::new(|_| {})).expect("opens");
        let checked = Arc::new(Mutex::new(None));
        let sink = checked.clone();
        let context = net
            .context()
            .with_block_checked_validation(move |_: bitcoinkernel::Block, state: BlockValidationStateRef<'_>| {
                *sink.lock().expect("nobody panics holding it") = Some(state.mode() == ValidationMode::Valid);
            })
            .build()
            .expect("a context");
        let text = |name: &str| dirs[1].path().join(name).to_str().expect("UTF-8").to_owned();
        let theirs = ChainstateManager::builder(&context, &text(""), &text("blocks"))
            .expect("paths without zeros")
            // As bitcoind by default, scripts are checked beside all else: only then does a missing coin in a later
            // transaction come before a script of an earlier one.
            .worker_threads(1)
            .block_tree_db_in_memory(true)
            .chainstate_db_in_memory(true)
            .build()
            .expect("opens");
        Self { ours, theirs, checked, _context: context, _dirs: dirs }
    }

    pub(crate) fn tip(&self) -> BlockHash {
        self.ours.tip().hash
    }

    fn core_tip(&self) -> BlockHash {
        self.theirs.active_chain().tip().block_hash().to_string().parse().expect("a hash")
    }

    /// Gives a block to both; the reason if it was refused. Panics unless they agree on it, and on the tip.
    pub(crate) fn give(&self, block: &Block) -> Option<String> {
        let (ours, refused, log) = self.ask(block);
        assert_eq!(ours.is_some(), refused, "ours: {ours:?}, Core's log: {log}\n{block:?}");
        if let Some(reason) = &ours {
            assert!(says(&log, reason), "ours: {reason}, Core's log: {log}\n{block:?}");
        }
        ours
    }

    /// As [`Pair::give`], where several inputs may fail: which of them Core's threads come upon first is chance.
    pub(crate) fn give_with_several_faults(&self, block: &Block) -> Option<String> {
        let (ours, refused, log) = self.ask(block);
        assert_eq!(ours.is_some(), refused, "ours: {ours:?}, Core's log: {log}\n{block:?}");
        if let Some(reason) = &ours {
            let said = says(&log, reason) || (reason.starts_with(SCRIPT) && says(&log, SCRIPT));
            assert!(said, "ours: {reason}, Core's log: {log}\n{block:?}");
        }
        ours
    }

    /// Gives a block that may make others known as invalid: only the tip is compared.
    pub(crate) fn give_any(&self, block: &Block) -> Option<String> {
        self.ask(block).0
    }

    /// Gives a header to both; the reason if it was refused. Panics unless they agree on it.
    pub(crate) fn give_header(&self, header: &Header) -> Option<String> {
        LOG.lock().expect("nobody panics holding it").clear();
        let ours = refusal(self.ours.process_headers(&[*header], now()));
        let theirs = bitcoinkernel::BlockHeader::new(&serialize(header)).expect("80 bytes");
        let theirs = self.theirs.process_block_header(&theirs).expect("Core's engine works");
        let log = LOG.lock().expect("nobody panics holding it").join("");
        let refused = !matches!(theirs, ProcessBlockHeaderResult::Valid);
        assert_eq!(ours.is_some(), refused, "ours: {ours:?}, Core's log: {log}\n{header:?}");
        if let Some(reason) = &ours {
            assert!(says(&log, reason), "ours: {reason}, Core's log: {log}\n{header:?}");
        }
        ours
    }

    /// Our reason, whether Core refused, and what it logged.
    fn ask(&self, block: &Block) -> (Option<String>, bool, String) {
        LOG.lock().expect("nobody panics holding it").clear();
        *self.checked.lock().expect("nobody panics holding it") = None;
        let ours = refusal(self.ours.process_block(Arc::new(block.clone()), now(), false));
        let bytes = encode(block);
        let rejected = match bitcoinkernel::Block::new(&bytes) {
            Ok(block) => self.theirs.process_block(&block).is_rejected(),
            Err(error) => panic!("Core does not read what we read ({error}): {block:?}"),
        };
        let checked = *self.checked.lock().expect("nobody panics holding it");
        let refused = rejected || checked == Some(false);
        let log = LOG.lock().expect("nobody panics holding it").join("");
        assert_eq!(self.tip(), self.core_tip(), "after {ours:?}, Core's log: {log}");
        (ours, refused, log)
    }
}

/// Our reason, if what was given was refused.
fn refusal<T>(taken: Result<T, ChainError>) -> Option<String> {
    match taken {
        Ok(_) => None,
        Err(ChainError::Rejected(refused)) => Some(refused.reason.into_owned()),
        Err(error) => panic!("our engine failed: {error}"),
    }
}

/// A block as Core reads it. A transaction with neither inputs nor outputs has an encoding only without the witness marker.
fn encode(block: &Block) -> Vec<u8> {
    let mut bytes = serialize(&block.header);
    bytes.extend(serialize(&VarInt::from(block.txdata.len())));
    for tx in &block.txdata {
        if tx.input.is_empty() && tx.output.is_empty() {
            bytes.extend([&serialize(&tx.version)[..], &[0, 0], &serialize(&tx.lock_time)].concat());
        } else {
            bytes.extend(serialize(tx));
        }
    }
    bytes
}

/// Whether Core's log tells of exactly this reason: a state's text is the reason, then a comma and details, or nothing.
fn says(log: &str, reason: &str) -> bool {
    log.match_indices(reason).any(|(at, _)| {
        let before = log[..at].chars().next_back();
        let after = log[at + reason.len()..].chars().next();
        matches!(before, Some(' ' | '(')) && matches!(after, None | Some(',' | ')' | '\n' | ' '))
    })
}

#[test]
fn a_reason_is_found_only_as_a_whole() {
    assert!(says("AcceptBlock FAILED (bad-cb-height, block height mismatch)\n", "bad-cb-height"));
    assert!(says("ConnectBlock ab failed, bad-blk-sigops\n", "bad-blk-sigops"));
    assert!(!says("failed, bad-txns-inputs-missingorspent, x", "bad-txns-inputs"));
    assert!(!says("", "bad-cb-height"));
}
