//! What the handlers share.

use crate::config::ApiConfig;
use crate::http::events::{EventHub, describe};
use crate::keys::Key;
use axum::extract::FromRef;
use cairn_hashing::Hashes;
use cairn_node::Node;
use cairn_stamp::Calendar;
use cairn_store::{Cache, Store};
use cairn_wallet::Wallet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Requests that read the chain from disk at once.
const READERS: usize = 256;

/// What needs no chain of its own: all that a stateless API process has. Cheap to clone.
#[derive(Clone)]
pub struct Services(Arc<Shared>);

/// What a [`Services`] points to.
pub struct Shared {
    /// The database.
    pub store: Store,
    /// The calendar.
    pub calendar: Calendar,
    /// Hashes.
    pub hashes: Hashes,
    /// Settings.
    pub config: ApiConfig,
    /// Cancelled when the servers close, so that streams end.
    pub(crate) closing: CancellationToken,
    pub(crate) admin_key: Option<Key>,
    pub(crate) wallet_key: Option<Key>,
}

impl Deref for Services {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Services {
    /// Services over a database.
    pub fn new(store: Store, calendar: Calendar, hashes: Hashes, config: ApiConfig) -> Services {
        Services(Arc::new(Shared {
            admin_key: config.admin_key.as_deref().map(Key::new),
            wallet_key: config.wallet_key.as_deref().map(Key::new),
            closing: CancellationToken::new(),
            store,
            calendar,
            hashes,
            config,
        }))
    }
}

/// All rooms, and what the API keeps of its own. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// What an [`AppState`] points to.
pub struct Inner {
    /// What needs no node.
    pub services: Services,
    /// The node.
    pub node: Arc<Node>,
    /// The wallet.
    pub wallet: Arc<Wallet>,
    pub(crate) events: EventHub,
    pub(crate) readers: Arc<Semaphore>,
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl AppState {
    /// State over the rooms.
    pub fn new(services: Services, node: Arc<Node>, wallet: Arc<Wallet>) -> AppState {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first_id = u64::try_from(now.as_micros()).unwrap_or(0);
        AppState(Arc::new(Inner {
            events: EventHub::new(services.config.max_event_clients, first_id),
            readers: Arc::new(Semaphore::new(READERS)),
            services,
            node,
            wallet,
        }))
    }

    /// Follows the rooms and publishes what happens, until the servers close.
    pub(crate) async fn publish_events(self) {
        let mut node = self.node.subscribe();
        let mut stamps = self.services.calendar.subscribe();
        loop {
            tokio::select! {
                () = self.services.closing.cancelled() => return,
                event = node.recv() => match event {
                    Ok(event) => {
                        let (name, data) = describe(&event);
                        self.events.publish(name, data);
                    }
                    Err(RecvError::Lagged(missed)) => self.events.publish("lagged", serde_json::json!({"missed": missed})),
                    Err(RecvError::Closed) => return,
                },
                event = stamps.recv() => match event {
                    Ok(event) => self.events.publish("stamp", crate::http::stamps::describe(&event)),
                    Err(RecvError::Lagged(missed)) => {
                        self.events.publish("lagged", serde_json::json!({"missed": missed}));
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// What a process without an HTTP API is watched by.
pub enum Monitored {
    /// Its node.
    Node(Arc<Node>),
    /// Its database, where it works for others.
    Worker(Store),
}

/// What health and metrics are read from: all that a process has of these.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) store: Option<Store>,
    pub(crate) calendar: Option<Calendar>,
    pub(crate) cache: Option<Cache>,
    /// Cancelled when the servers close.
    pub(crate) closing: CancellationToken,
}

impl Watched {
    /// Of a process without an HTTP API.
    pub(crate) fn new(monitored: Monitored, closing: CancellationToken) -> Watched {
        let (node, store) = match monitored {
            Monitored::Node(node) => (Some(node), None),
            Monitored::Worker(store) => (None, Some(store)),
        };
        Watched { node, store, calendar: None, cache: None, closing }
    }
}

impl FromRef<AppState> for Services {
    fn from_ref(state: &AppState) -> Services {
        state.services.clone()
    }
}

impl FromRef<AppState> for Watched {
    fn from_ref(state: &AppState) -> Watched {
        Watched { node: Some(state.node.clone()), ..Watched::from_ref(&state.services) }
    }
}

impl FromRef<Services> for Watched {
    fn from_ref(services: &Services) -> Watched {
        Watched {
            node: None,
            store: Some(services.store.clone()),
            calendar: Some(services.calendar.clone()),
            cache: Some(services.hashes.cache().clone()),
            closing: services.closing.clone(),
        }
    }
}
