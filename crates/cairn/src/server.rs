//! The rooms of one process, started from the bottom up and stopped from the top down.

use crate::error::CliError;
use crate::settings::{NetworkName, Resolved};
use crate::terminal;
use bitcoin::{Address, ScriptBuf};
use cairn_api::{ApiConfig, AppState, Cookie};
use cairn_chain::{Progress, ProgressFn, Prune};
use cairn_mempool::MempoolConfig;
use cairn_node::{Node, NodeConfig, NodeEvent};
use cairn_stamp::{Calendar, CalendarConfig, Stamper, StamperConfig};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::{ChainSource, Passphrase, RecoveryPhrase, Wallet};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Seconds between blocks unless told otherwise.
pub(crate) const DEFAULT_BLOCK_TIME: f64 = 10.0;
/// Longest time between blocks that makes sense: a day.
pub(crate) const MAX_BLOCK_TIME: Duration = Duration::from_secs(86_400);
/// Blocks that make the first reward spendable: it, and a hundred on top.
const FIRST_BLOCKS: u32 = 101;
/// The wallet that earns the rewards and pays for stamps.
const WALLET: &str = "default";
/// How long after a failure the wallet tries to follow the chain again.
const SYNC_RETRY: Duration = Duration::from_secs(1);
/// A wallet that falls behind by this many blocks shows its progress.
const SHOW_PROGRESS_FROM: u32 = 1_000;

/// A running process.
pub(crate) struct Server {
    node: Arc<Node>,
    events: broadcast::Receiver<NodeEvent>,
    store: Store,
    wallet: Arc<Wallet>,
    state: AppState,
    cookie: Cookie,
    listeners: Listeners,
    calendar: Calendar,
    stamper: JoinHandle<()>,
    follower: JoinHandle<()>,
    /// True ends the stamper.
    closing: watch::Sender<bool>,
    /// Asks the process to stop.
    stop: CancellationToken,
    network: NetworkName,
    data_dir: PathBuf,
    block_time: Duration,
}

/// Bound before anything is created, so that a port in use costs nothing.
struct Listeners {
    http: TcpListener,
    rpc: TcpListener,
    http_address: SocketAddr,
    rpc_address: SocketAddr,
}

impl Listeners {
    async fn bind(resolved: &Resolved) -> Result<Self, CliError> {
        let http = bind(resolved.http(), "--http").await?;
        let rpc = bind(resolved.rpc(), "--rpc").await?;
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| CliError::failed(format!("a listener has no address: {error}")))
        };
        Ok(Self { http_address: address(&http)?, rpc_address: address(&rpc)?, http, rpc })
    }
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => CliError::failed(format!("{address} is in use by another process"))
            .remedy(format!("stop it, or choose another address with {flag}")),
        _ => CliError::failed(format!("cannot listen on {address} ({error})"))
            .remedy(format!("choose another address with {flag}")),
    })
}

impl Server {
    /// Starts everything; the process answers when this returns.
    pub(crate) async fn start(resolved: &Resolved, block_time: Duration) -> Result<Server, CliError> {
        let listeners = Listeners::bind(resolved).await?;
        let settings = &resolved.settings;
        let network = settings.network;
        let dir = resolved.network_dir();
        create_private_dir(&resolved.data_dir)?;
        create_private_dir(&dir)?;

        let node = open_node(resolved).await?;
        let events = node.subscribe();
        let url = resolved.database_url();
        let store = Store::open(&url, &store_options(&url)).await.map_err(CliError::failed)?;
        let passphrase = settings.wallet.passphrase.clone().map(Passphrase::new).transpose();
        let passphrase = passphrase.map_err(CliError::failed)?;
        let (wallet, words) =
            Wallet::open_or_create(&store, WALLET, network.network(), passphrase).await.map_err(CliError::failed)?;
        let wallet = Arc::new(wallet);
        if let Some(words) = words {
            show_words(&words, settings.wallet.passphrase.is_some());
        }

        let reward = reward_script(resolved, &wallet)?;
        if network == NetworkName::Regtest {
            mine_first_blocks(&node, &reward).await?;
        }
        let source: Arc<dyn ChainSource> = node.clone();
        sync_wallet(&wallet, &source).await?;

        let stop = CancellationToken::new();
        let confirmations = match network {
            NetworkName::Regtest => 1,
            _ => 6,
        };
        let calendar_config = CalendarConfig {
            uri: resolved.public_url(listeners.http_address),
            confirmations: settings.stamp.confirmations.unwrap_or(confirmations),
        };
        // Who holds the directory's lock is the only one with its name.
        let name = cairn_api::load_or_create_key(&dir.join("instance")).map_err(CliError::failed)?;
        let calendar = Calendar::start_as(store.clone(), calendar_config, name).await.map_err(CliError::failed)?;
        let mut stamper_config = StamperConfig::new(block_time);
        if let Some(seconds) = settings.stamp.gather {
            stamper_config.gather = gather_time(seconds)?;
        }
        let stamper = Stamper::new(calendar.clone(), source.clone(), wallet.clone(), stamper_config);
        let (closing, closed) = watch::channel(false);
        let follower = tokio::spawn(follow(node.clone(), wallet.clone(), source, stamper.waker()));
        let stamper = tokio::spawn(stamper.run(closed));

        let state = AppState::new(
            node.clone(),
            store.clone(),
            wallet.clone(),
            calendar.clone(),
            api_config(resolved)?,
            stop.clone(),
        );
        let cookie = Cookie::create(&dir).map_err(|error| {
            CliError::failed(format!("{}: {error}", dir.join(".cookie").display()))
                .remedy("make the directory writable")
        })?;
        node.start_mining(block_time, reward);
        Ok(Server {
            node,
            events,
            store,
            wallet,
            state,
            cookie,
            listeners,
            calendar,
            stamper,
            follower,
            closing,
            stop,
            network,
            data_dir: resolved.data_dir.clone(),
            block_time,
        })
    }

    /// Serves until a signal, JSON-RPC's `stop` or a failing disk, then stops everything in order.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        // Before anybody is answered: who sees that it runs may stop it at once.
        let signalled = signal();
        let failed = {
            let Listeners { http, rpc, .. } = self.listeners;
            let http = cairn_api::serve_http(http, self.state.clone(), serving.clone());
            let rpc = cairn_api::serve_rpc(rpc, self.state.clone(), &self.cookie, serving.clone());
            let servers = async { tokio::try_join!(http, rpc).map(|_| ()) };
            tokio::pin!(servers);
            let failed = tokio::select! {
                result = &mut servers => result.err(),
                () = self.stop.cancelled() => None,
                () = signalled => None,
                // What is then said is why writing out failed.
                () = chain_stopped(self.events) => None,
            };
            eprintln!("stopping…");
            serving.cancel();
            match failed {
                Some(error) => Some(error),
                None => servers.await.err(),
            }
        };
        self.follower.abort();
        self.closing.send_replace(true);
        // A stamper that panicked has been reported by its own stack trace; its state is in the database.
        let _ = self.stamper.await;
        self.calendar.stop().await;
        let node = self.node.clone();
        let stopped = blocking(move || node.stop()).await?;
        drop(self.wallet);
        self.store.close().await;
        drop(self.cookie);
        stopped.map_err(CliError::failed)?;
        failed.map_or(Ok(()), |error| Err(CliError::failed(error)))
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.listeners.http_address
    }

    pub(crate) fn rpc(&self) -> SocketAddr {
        self.listeners.rpc_address
    }

    pub(crate) fn network(&self) -> &'static str {
        self.network.directory()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn cookie(&self) -> &Path {
        self.cookie.path()
    }

    /// When blocks come, in words.
    pub(crate) fn schedule(&self) -> String {
        let height = self.node.chain.tip().height;
        match self.block_time {
            Duration::ZERO => format!("{height}; more on demand, by generatetoaddress"),
            time => format!("{height}; another every {} s", time.as_secs_f64()),
        }
    }
}

async fn open_node(resolved: &Resolved) -> Result<Arc<Node>, CliError> {
    let settings = &resolved.settings;
    let defaults = MempoolConfig::default();
    let mempool = MempoolConfig {
        max_bytes: settings.mempool.max_mib.map_or(defaults.max_bytes, |mib| mib << 20),
        min_relay_fee_rate: settings.mempool.min_relay_fee_rate.unwrap_or(defaults.min_relay_fee_rate),
        require_standard: !settings.mempool.accept_non_standard,
        ..defaults
    };
    let config = NodeConfig {
        dir: resolved.network_dir(),
        network: settings.network.network(),
        mempool,
        coin_cache_bytes: settings.chain.coin_cache_mib << 20,
        // The wallet tells by it whether a transaction that it sends again was confirmed.
        txindex: true,
        reindex: resolved.reindex,
        prune: Prune::from_mib(settings.chain.prune)
            .map_err(|error| CliError::usage(error).remedy("correct --prune or chain.prune"))?,
        assume_utxo: (settings.chain.assume_utxo.iter().map(|named| named.parse()).collect::<Result<_, _>>())
            .map_err(|error| CliError::usage(error).remedy("correct --assume-utxo or chain.assume_utxo"))?,
    };
    blocking(move || Node::open_with_progress(config, opening_bars())).await?.map_err(CliError::failed)
}

/// Shows how far a node is that makes its index anew, or catches up with its block files.
fn opening_bars() -> ProgressFn {
    let (reading, indexing, connecting) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
    Box::new(move |progress| match progress {
        Progress::Reading { done, total } => {
            reading.get_or_init(|| terminal::bytes_bar("reading block files", total)).set_position(done);
        }
        Progress::Indexing { done, of } => {
            let bar = indexing.get_or_init(|| terminal::blocks_bar("indexing transactions", u64::from(of)));
            bar.set_position(u64::from(done));
        }
        Progress::Connecting { height, of } => {
            let bar = connecting.get_or_init(|| terminal::blocks_bar("connecting blocks", u64::from(of)));
            bar.set_position(u64::from(height));
        }
    })
}

/// In SQLite each connection is a thread of this process: more than there are cores would only cost memory.
fn store_options(url: &str) -> StoreOptions {
    let options = StoreOptions::default();
    if !url.starts_with("sqlite:") {
        return options;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    StoreOptions { readers: options.readers.min(u32::try_from(cores).unwrap_or(u32::MAX)), ..options }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CliError::failed(format!("internal: {error}")))
}

/// Where the rewards go: the configured address, or the wallet's own.
fn reward_script(resolved: &Resolved, wallet: &Wallet) -> Result<ScriptBuf, CliError> {
    let Some(text) = &resolved.settings.mining.address else {
        return wallet.reward_address().map(|address| address.script_pubkey()).map_err(CliError::failed);
    };
    let network = resolved.settings.network;
    Address::from_str(text)
        .ok()
        .and_then(|address| address.require_network(network.network()).ok())
        .map(|address| address.script_pubkey())
        .ok_or_else(|| {
            CliError::usage(format!("{text:?} is no address of {}", network.directory()))
                .remedy("correct mining.address or NODE_MINING_ADDRESS")
        })
}

/// Mines what makes the first reward spendable, going on where an earlier start was cut off.
async fn mine_first_blocks(node: &Arc<Node>, reward: &ScriptBuf) -> Result<(), CliError> {
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

async fn sync_wallet(wallet: &Wallet, source: &Arc<dyn ChainSource>) -> Result<(), CliError> {
    let bar = OnceLock::new();
    let start = wallet.height().await.map_err(CliError::failed)?;
    wallet
        .sync(source, |height, tip| {
            if tip.saturating_sub(start) >= SHOW_PROGRESS_FROM {
                let bar = bar.get_or_init(|| terminal::blocks_bar("reading blocks", u64::from(tip - start)));
                bar.set_position(u64::from(height.saturating_sub(start)));
            }
        })
        .await
        .map_err(CliError::failed)?;
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    Ok(())
}

/// How long digests are gathered before a transaction is built.
fn gather_time(seconds: f64) -> Result<Duration, CliError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| CliError::usage(format!("{seconds} is no time")).remedy("give stamp.gather in seconds, 0 or more"))
}

fn api_config(resolved: &Resolved) -> Result<ApiConfig, CliError> {
    let settings = &resolved.settings;
    let key = |given: &Option<String>, name: &str| match given {
        Some(key) => Ok(Some(key.clone())),
        None => {
            let dir = resolved.data_dir.join("keys");
            create_private_dir(&dir)?;
            cairn_api::load_or_create_key(&dir.join(name)).map(Some).map_err(CliError::failed)
        }
    };
    Ok(ApiConfig {
        admin_key: key(&settings.http.admin_key, "admin")?,
        wallet_key: key(&settings.http.wallet_key, "wallet")?,
        rpc_user: settings.rpc.user.clone(),
        rpc_password: settings.rpc.password.clone(),
        ..ApiConfig::default()
    })
}

/// Wakes the wallet and the stamper at every event. They read the chain from their own checkpoints, so that an event
/// that was missed costs nothing but time.
async fn follow(node: Arc<Node>, wallet: Arc<Wallet>, source: Arc<dyn ChainSource>, stamper: Arc<Notify>) {
    let mut events = node.subscribe();
    // At the start, and whenever the chain changed.
    let mut resend = true;
    loop {
        let mut synced = wallet.sync(&source, |_, _| {}).await.map(drop);
        if synced.is_ok() && resend {
            synced = wallet.resend(&source).await;
        }
        if let Err(error) = &synced {
            tracing::warn!(%error, "the wallet does not follow the chain");
        }
        resend = synced.is_err();
        stamper.notify_one();
        tokio::select! {
            event = events.recv() => match event {
                Ok(NodeEvent::TransactionAccepted { .. }) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => resend = true,
                Err(RecvError::Closed) => return,
            },
            // What failed is tried again, whether or not another block comes.
            () = tokio::time::sleep(SYNC_RETRY), if synced.is_err() => {}
        }
    }
}

/// Ends when the chain writes nothing any more.
async fn chain_stopped(mut events: broadcast::Receiver<NodeEvent>) {
    loop {
        match events.recv().await {
            Ok(NodeEvent::ChainStopped { .. }) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Ctrl-C or SIGTERM, from the call on; a second one ends the process at once.
fn signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // Without handlers the default applies: the signal ends the process, and the next start recovers.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            interrupt.recv().await;
            eprintln!("stopped at once; the next start recovers");
            std::process::exit(130);
        });
    }
}

fn create_private_dir(dir: &Path) -> Result<(), CliError> {
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

/// The seed, shown this once.
fn show_words(words: &RecoveryPhrase, encrypted: bool) {
    let text = words.words();
    eprintln!("A wallet was made. Its recovery phrase is shown only this once; write it down:\n");
    eprintln!("    {}\n", text.as_str());
    if !encrypted {
        eprintln!(
            "It is kept unencrypted in the data directory. CAIRN_WALLET__PASSPHRASE encrypts it at its creation.\n"
        );
    }
}
