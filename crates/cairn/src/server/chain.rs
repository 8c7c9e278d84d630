//! The chain of a process: its directory, its node and its first blocks.

use super::signals::signal;
use super::{blocking, mining};
use crate::error::CliError;
use crate::settings::{NetworkName, Resolved, Settings, SignetSection};
use crate::terminal;
use bitcoin::{Address, ScriptBuf};
use cairn_chain::{Progress, ProgressFn, Prune};
use cairn_mempool::MempoolConfig;
use cairn_node::{Node, NodeConfig, NodeError, NodeEvent, PeersConfig, Signet};
use cairn_p2p::net::check_name;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Blocks that make the first reward spendable: it, and a hundred on top.
const FIRST_BLOCKS: u32 = 101;

/// A directory for its owner alone.
pub(crate) fn create_private_dir(dir: &Path) -> Result<(), CliError> {
    let error = match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let remedy = match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => "it is no directory: choose another with --data-dir",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make it writable, or choose another with --data-dir"
        }
        ErrorKind::StorageFull => "free space on its disk, or choose another with --data-dir",
        _ => "choose another with --data-dir",
    };
    Err(CliError::failed(format!("data directory {}: {error}", dir.display())).remedy(remedy))
}

/// Opens the chain, showing how far that is where it takes long.
pub(crate) async fn open_node(config: NodeConfig) -> Result<Arc<Node>, CliError> {
    blocking(move || Node::open_with_progress(config, opening_bars())).await?.map_err(|error| match error {
        NodeError::BlockTime(_) => CliError::usage(error).remedy("correct --signet-block-time or signet.block_time"),
        error => CliError::failed(error),
    })
}

/// What the settings say of the node.
///
/// With a wallet there is a transaction index: the wallet tells by it whether what it sends again was confirmed.
pub(crate) fn node_config(resolved: &Resolved, wallet: bool) -> Result<NodeConfig, CliError> {
    let bytes = |mib: usize| mib.saturating_mul(1 << 20);
    let settings = &resolved.settings;
    let defaults = MempoolConfig::default();
    let mempool = MempoolConfig {
        max_bytes: settings.mempool.max_mib.map_or(defaults.max_bytes, bytes),
        min_relay_fee_rate: settings.mempool.min_relay_fee_rate.unwrap_or(defaults.min_relay_fee_rate),
        require_standard: !settings.mempool.accept_non_standard,
        expiry_seconds: settings
            .mempool
            .expiry_hours
            .map_or(defaults.expiry_seconds, |hours| hours.saturating_mul(3600)),
        persist: settings.mempool.persist.unwrap_or(defaults.persist),
        ..defaults
    };
    let signet = signet(settings)?;
    let signet_key = mining::signet_key(settings, signet.as_ref().map(|signet| &*signet.challenge))?;
    Ok(NodeConfig {
        dir: resolved.network_dir(),
        network: settings.network.network(),
        signet,
        signet_key,
        mempool,
        coin_cache_bytes: bytes(settings.chain.coin_cache_mib),
        txindex: wallet || settings.chain.txindex,
        blockfilterindex: settings.chain.blockfilterindex,
        reindex: resolved.reindex,
        prune: Prune::from_mib(settings.chain.prune)
            .map_err(|error| CliError::usage(error).remedy("correct --prune or chain.prune"))?,
        assume_utxo: (settings.chain.assume_utxo.iter().map(|named| named.parse()).collect::<Result<_, _>>())
            .map_err(|error| CliError::usage(error).remedy("correct --assume-utxo or chain.assume_utxo"))?,
    })
}

/// In `NODE_CONNECT_NODES`: the node is the one that others begin with.
const SEED: &str = "local";

/// What the settings say of the network.
pub(crate) fn peers_config(resolved: &Resolved) -> Result<PeersConfig, CliError> {
    let settings = &resolved.settings;
    let connect: Vec<String> = settings.p2p.connect.iter().filter(|name| *name != SEED).cloned().collect();
    for name in &connect {
        check_name(name).map_err(|why| {
            CliError::usage(format!("{name:?} names no peer: {why}")).remedy(
                "give --connect (NODE_CONNECT_NODES, p2p.connect) HOST or HOST:PORT, an IPv6 address with a port in brackets",
            )
        })?;
    }
    Ok(PeersConfig {
        agent: format!("Cairn:{}", env!("CARGO_PKG_VERSION")),
        connect,
        v2: !settings.p2p.no_v2,
        filters: settings.chain.blockfilterindex,
        all_blocks: settings.chain.prune == 0,
    })
}

/// The signet of one's own that is configured.
fn signet(settings: &Settings) -> Result<Option<Signet>, CliError> {
    let SignetSection { challenge, block_time, .. } = &settings.signet;
    let Some(text) = challenge else {
        return match block_time {
            None => Ok(None),
            Some(_) => Err(CliError::usage("the public signet's block time is not ours to choose")
                .remedy("give --signet-challenge (signet.challenge) too, or no --signet-block-time")),
        };
    };
    if settings.network != NetworkName::Signet {
        return Err(CliError::usage(format!("{} has no challenge", settings.network.directory()))
            .remedy("give --network signet, or no --signet-challenge (signet.challenge)"));
    }
    let challenge = ScriptBuf::from_hex(text).ok().filter(|script| !script.is_empty()).ok_or_else(|| {
        CliError::usage(format!("{text:?} is no challenge"))
            .remedy("give --signet-challenge (signet.challenge) the script's bytes in hex")
    })?;
    Ok(Some(Signet { challenge, block_time: *block_time }))
}

/// Shows how far a node is that makes its index anew, or catches up with its block files.
fn opening_bars() -> ProgressFn {
    let (reading, indexing, filtering) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
    let connecting = OnceLock::new();
    Box::new(move |progress| match progress {
        Progress::Reading { done, total } => {
            reading.get_or_init(|| terminal::bytes_bar("reading block files", total)).set_position(done);
        }
        Progress::Indexing { done, of } => {
            let bar = indexing.get_or_init(|| terminal::blocks_bar("indexing transactions", u64::from(of)));
            bar.set_position(u64::from(done));
        }
        Progress::Filtering { done, of } => {
            let bar = filtering.get_or_init(|| terminal::blocks_bar("making block filters", u64::from(of)));
            bar.set_position(u64::from(done));
        }
        Progress::Connecting { height, of } => {
            let bar = connecting.get_or_init(|| terminal::blocks_bar("connecting blocks", u64::from(of)));
            bar.set_position(u64::from(height));
        }
    })
}

/// Where the rewards go, if that is configured.
pub(crate) fn configured_reward(resolved: &Resolved) -> Result<Option<ScriptBuf>, CliError> {
    let Some(text) = &resolved.settings.mining.address else { return Ok(None) };
    let network = resolved.settings.network;
    Address::from_str(text)
        .ok()
        .and_then(|address| address.require_network(network.network()).ok())
        .map(|address| Some(address.script_pubkey()))
        .ok_or_else(|| {
            CliError::usage(format!("{text:?} is no address of {}", network.directory()))
                .remedy("correct --mining-address, NODE_MINING_ADDRESS or mining.address")
        })
}

/// Mines what makes the first reward spendable, going on where an earlier start was cut off.
pub(crate) async fn mine_first_blocks(node: &Arc<Node>, reward: &ScriptBuf) -> Result<(), CliError> {
    let missing = FIRST_BLOCKS.saturating_sub(node.chain.tip().height);
    if missing == 0 {
        return Ok(());
    }
    let bar = terminal::blocks_bar("mining the first blocks", u64::from(missing));
    let mining = {
        let (node, reward, bar) = (node.clone(), reward.clone(), bar.clone());
        blocking(move || node.generate(missing, &reward, &mut |done| bar.set_position(u64::from(done))))
    };
    let result = tokio::select! {
        result = mining => result?,
        () = signal() => {
            let node = node.clone();
            blocking(move || node.stop()).await?.map_err(CliError::failed)?;
            return Err(CliError::failed("stopped while mining the first blocks").remedy("the next start goes on from here"));
        }
    };
    bar.finish_and_clear();
    result.map(|_| ()).map_err(CliError::failed)
}

/// Ends when the chain writes nothing any more.
pub(crate) async fn chain_stopped(mut events: broadcast::Receiver<NodeEvent>) {
    loop {
        match events.recv().await {
            Ok(NodeEvent::ChainStopped { .. }) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
