//! What stands on a node that serves the HTTP API: database, wallet, calendar and stamper.

use super::chain::create_private_dir;
use crate::error::CliError;
use crate::settings::{NetworkName, Resolved};
use crate::terminal;
use bitcoin::ScriptBuf;
use cairn_api::{ApiConfig, AppState};
use cairn_hashing::Hashes;
use cairn_jobs::{Jobs, RunningWorker, Worker};
use cairn_node::{Node, NodeEvent};
use cairn_stamp::{Calendar, CalendarConfig, Stamper, StamperConfig};
use cairn_store::cache::{Cache, CacheOptions};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::{ChainSource, Passphrase, RecoveryPhrase, Wallet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// The wallet that earns the rewards and pays for stamps.
const WALLET: &str = "default";
/// How long after a failure the wallet tries to follow the chain again.
const SYNC_RETRY: Duration = Duration::from_secs(1);
/// How long tasks have to end when the process stops.
const DRAIN: Duration = Duration::from_secs(10);
/// A wallet that falls behind by this many blocks shows its progress.
const SHOW_PROGRESS_FROM: u32 = 1_000;

/// The database and the wallet in it, opened; nothing runs yet.
pub(crate) struct Accounts {
    store: Store,
    wallet: Arc<Wallet>,
}

impl Accounts {
    pub(crate) async fn open(resolved: &Resolved) -> Result<Accounts, CliError> {
        let settings = &resolved.settings;
        let store = open_store(resolved).await?;
        let passphrase = settings.wallet.passphrase.clone().map(Passphrase::new).transpose();
        let passphrase = passphrase.map_err(CliError::failed)?;
        let (wallet, words) = Wallet::open_or_create(&store, WALLET, settings.network.network(), passphrase)
            .await
            .map_err(CliError::failed)?;
        if let Some(words) = words {
            show_words(&words, settings.wallet.passphrase.is_some());
        }
        Ok(Accounts { store, wallet: Arc::new(wallet) })
    }

    /// Where rewards go that nobody directs elsewhere.
    pub(crate) fn reward(&self) -> Result<ScriptBuf, CliError> {
        self.wallet.reward_address().map(|address| address.script_pubkey()).map_err(CliError::failed)
    }
}

/// Services that run.
pub(crate) struct Services {
    /// What the HTTP API is made from.
    pub(crate) state: AppState,
    /// Does tasks, unless there are processes of their own for that.
    worker: Option<RunningWorker>,
    stamper: JoinHandle<()>,
    follower: JoinHandle<()>,
    /// True ends the stamper.
    closing: watch::Sender<bool>,
}

impl Services {
    /// Brings the wallet to the tip and starts the calendar and its stamper; HTTP is at `http`.
    pub(crate) async fn start(
        Accounts { store, wallet }: Accounts,
        node: &Arc<Node>,
        resolved: &Resolved,
        http: SocketAddr,
        api: ApiConfig,
        block_time: Duration,
    ) -> Result<Services, CliError> {
        let settings = &resolved.settings;
        let source: Arc<dyn ChainSource> = node.clone();
        sync_wallet(&wallet, &source).await?;

        // Who holds the directory's lock is the only one with its name.
        let instance = resolved.network_dir().join("instance");
        let name = cairn_api::load_or_create_key(&instance).map_err(CliError::failed)?;
        let calendar =
            Calendar::start_as(store.clone(), calendar_config(resolved, http), name).await.map_err(CliError::failed)?;
        let mut stamper_config = StamperConfig::new(block_time);
        if let Some(seconds) = settings.stamp.gather {
            stamper_config.gather = gather_time(seconds)?;
        }
        let stamper = Stamper::new(calendar.clone(), source.clone(), wallet.clone(), stamper_config);
        let (closing, closed) = watch::channel(false);
        let follower = tokio::spawn(follow(node.clone(), wallet.clone(), source, stamper.waker()));
        let stamper = tokio::spawn(stamper.run(closed));
        let hashes = hashes(resolved, &store, &calendar)?;
        let worker = match settings.worker.concurrency.unwrap_or_else(cores) {
            0 => None,
            concurrency => Some(hashes.worker(Worker::new(hashes.jobs().clone()), concurrency).start()),
        };
        Ok(Services {
            worker,
            state: AppState::new(cairn_api::Services::new(store, calendar, hashes, api), node.clone(), wallet),
            stamper,
            follower,
            closing,
        })
    }

    /// Stops what writes to the database; the node may still be read.
    pub(crate) async fn stop(&mut self) {
        self.follower.abort();
        if let Some(worker) = &self.worker {
            worker.stop(DRAIN).await;
        }
        self.closing.send_replace(true);
        // A stamper that panicked has been reported by its own stack trace; its state is in the database.
        let _ = (&mut self.stamper).await;
        self.state.services.calendar.stop().await;
    }

    /// Closes the database.
    pub(crate) async fn close(self) {
        self.state.services.hashes.cache().flush().await;
        self.state.services.store.close().await;
    }
}

/// What processes without a chain stand on: the database that they share, and what is kept in it.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) calendar: Calendar,
    pub(super) hashes: Hashes,
}

impl Shared {
    /// Opens it; clients reach the calendar at `http`.
    pub(super) async fn open(resolved: &Resolved, http: SocketAddr) -> Result<Shared, CliError> {
        create_private_dir(&resolved.data_dir)?;
        create_private_dir(&resolved.network_dir())?;
        let store = open_store(resolved).await?;
        let calendar = Calendar::start(store.clone(), calendar_config(resolved, http)).await;
        let calendar = calendar.map_err(CliError::failed)?;
        let hashes = hashes(resolved, &store, &calendar)?;
        Ok(Shared { store, calendar, hashes })
    }

    /// Writes what waits to be written, and closes the database.
    pub(super) async fn close(self) {
        self.calendar.stop().await;
        self.hashes.cache().flush().await;
        self.store.close().await;
    }
}

/// Hashes over the queues of a database, their results cached.
fn hashes(resolved: &Resolved, store: &Store, calendar: &Calendar) -> Result<Hashes, CliError> {
    // On Redis, or where none is named in the database.
    let cache = Cache::new(&CacheOptions::default(), resolved.redis()?, Some(store.clone()));
    Ok(Hashes::new(Jobs::new(store.clone()), calendar.clone()).with_cache(cache))
}

/// The database that the settings name.
async fn open_store(resolved: &Resolved) -> Result<Store, CliError> {
    Store::open(&resolved.database_url(), &store_options(resolved)?).await.map_err(CliError::failed)
}

/// The calendar of an HTTP API at `http`.
fn calendar_config(resolved: &Resolved, http: SocketAddr) -> CalendarConfig {
    let settings = &resolved.settings;
    let confirmations = match settings.network {
        NetworkName::Regtest => 1,
        _ => 6,
    };
    CalendarConfig {
        uri: resolved.public_url(http),
        confirmations: settings.stamp.confirmations.unwrap_or(confirmations),
    }
}

/// The API's settings with its keys, which are made at the first start.
pub(crate) fn api_config(resolved: &Resolved, base: ApiConfig) -> Result<ApiConfig, CliError> {
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
        ..base
    })
}

/// How the database is opened. In SQLite each connection is a thread of this process: more than there are cores would only cost
/// memory.
pub(super) fn store_options(resolved: &Resolved) -> Result<StoreOptions, CliError> {
    let options = resolved.store_options()?;
    if resolved.settings.database.readers.is_some() || !resolved.database_url().starts_with("sqlite:") {
        return Ok(options);
    }
    Ok(StoreOptions { readers: options.readers.min(u32::try_from(cores()).unwrap_or(u32::MAX)), ..options })
}

/// Tasks that compute at once, unless it is set.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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
