//! What all parts of one gateway share.

use crate::access_log::AccessLog;
use crate::config::{Config, LogFormat};
use crate::connection::Client;
use crate::pool::Pool;
use crate::strategy::{Chooser, Strategy};
use arc_swap::{ArcSwap, ArcSwapOption};
use cairn_store::{Decision, Quota, RateLimiter, Redis, client_key};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use subtle::ConstantTimeEq as _;

/// The keys whose holders no limit is for; the admin's also switches the strategy.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Key of the admin routes.
    pub admin: Option<String>,
    /// Key of the wallet routes.
    pub wallet: Option<String>,
}

/// A secret that callers show; only its digest is kept, and compared in constant time.
struct Secret([u8; 32]);

impl Secret {
    fn new(secret: &str) -> Self {
        Secret(Sha256::digest(secret).into())
    }

    fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

/// What became of the requests of all clients.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: AtomicU64,
    /// Answers by the first digit of their status; the gateway's own included.
    pub(crate) responses: [AtomicU64; 5],
    /// Clients that went before their answer.
    pub(crate) aborted: AtomicU64,
    /// Heads that were refused before they were a request.
    pub(crate) refused: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Requests for which there was no backend.
    pub(crate) unavailable: AtomicU64,
    pub(crate) allowed: AtomicU64,
    pub(crate) limited: AtomicU64,
    pub(crate) exempt: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Idle connections that had to make room.
    pub(crate) shed: AtomicU64,
}

impl Totals {
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1).min(4);
        self.responses[class].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the strategy is shared with other gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// No database was given.
    Alone,
    /// As the database says.
    Shared,
    /// The database does not answer, and why; the local one is in force.
    Unreachable(String),
}

pub(crate) struct Core {
    config: ArcSwap<Config>,
    admin: Option<Secret>,
    wallet: Option<Secret>,
    pub(crate) pool: Pool,
    pub(crate) limiter: RateLimiter,
    pub(crate) totals: Totals,
    pub(crate) started: Instant,
    pub(crate) log: ArcSwapOption<AccessLog>,
    pub(crate) sharing: Mutex<Sharing>,
    /// Strategies that somebody asked for here, on their way to the database.
    pub(crate) switched: tokio::sync::watch::Sender<Option<Strategy>>,
    /// Open connections of clients.
    pub(crate) open: AtomicU64,
    stopping: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config, keys: &Keys, redis: Option<Redis>) -> Self {
        let secret = |key: &Option<String>| key.as_deref().filter(|key| !key.is_empty()).map(Secret::new);
        Core {
            admin: secret(&keys.admin),
            wallet: secret(&keys.wallet),
            pool: Pool::new(Chooser::new(config.strategy)),
            limiter: match redis {
                Some(redis) => RateLimiter::shared(redis, config.rate_limit_clients),
                None => RateLimiter::in_memory(config.rate_limit_clients),
            },
            totals: Totals::default(),
            started: Instant::now(),
            log: ArcSwapOption::empty(),
            sharing: Mutex::new(Sharing::Alone),
            switched: tokio::sync::watch::Sender::new(None),
            open: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            config: ArcSwap::from_pointee(config),
        }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub(crate) fn set_config(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn sharing(&self) -> Sharing {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_sharing(&self, sharing: Sharing) {
        *self.sharing.lock().unwrap_or_else(PoisonError::into_inner) = sharing;
    }

    /// Whether the caller shows the admin's key.
    pub(crate) fn is_admin(&self, headers: &HeaderMap) -> bool {
        shows(&self.admin, headers)
    }

    /// Counts a request against the client's quota. `None` where no limit is for it: there is none, the client is on this
    /// machine, or it has a key.
    pub(crate) async fn limit(&self, config: &Config, client: IpAddr, headers: &HeaderMap) -> Option<Decision> {
        if config.rate_limit_requests == 0 {
            return None;
        }
        if client.is_loopback() || shows(&self.admin, headers) || shows(&self.wallet, headers) {
            self.totals.exempt.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let quota = Quota { requests: config.rate_limit_requests, window: config.rate_limit_window };
        let decision = self.limiter.check("http", &client_key(client), quota).await;
        let counter = if decision.allowed { &self.totals.allowed } else { &self.totals.limited };
        counter.fetch_add(1, Ordering::Relaxed);
        Some(decision)
    }

    /// A head was refused before it was a request.
    pub(crate) fn refused(&self, client: &Client, status: StatusCode) {
        self.totals.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = %client.peer, status = status.as_u16(), "the head of a request was refused");
    }

    /// Opens the access log that the settings name, or opens it anew.
    pub(crate) fn open_log(&self, path: Option<&Path>, format: LogFormat) -> io::Result<()> {
        let Some(path) = path else {
            self.log.store(None);
            return Ok(());
        };
        match self.log.load_full() {
            Some(log) if log.path == path && log.format == format => log.reopen(),
            _ => self.log.store(Some(Arc::new(AccessLog::open(path, format)?))),
        }
        Ok(())
    }
}

fn shows(secret: &Option<Secret>, headers: &HeaderMap) -> bool {
    match (secret, headers.get("x-api-key")) {
        (Some(secret), Some(given)) => secret.is(given.as_bytes()),
        _ => false,
    }
}
