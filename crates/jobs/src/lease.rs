//! A worker's lease: taken when there is something to hold, renewed on a thread of its own, so that nothing that computes can
//! starve it, and given up when nothing was held for a while.

use crate::news::lock;
use cairn_store::leases::{LEASE_TIME, RENEW_EVERY, holder_token};
use cairn_store::{Store, StoreError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Renewals with nothing held, after which the lease is given up.
const IDLE_RENEWALS: u32 = 3;

/// The lease of one worker.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    host: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    /// Claims under way, and tasks that are held.
    held: usize,
    stopping: bool,
}

/// The lease from when it is taken until it is given up or lost.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The name that it is held under, which nobody had before.
    pub(crate) name: String,
    /// It is in the database.
    pub(crate) registered: bool,
    /// Cancelled when it is lost: what was held is others' from then on.
    pub(crate) lost: CancellationToken,
}

impl Lease {
    pub(crate) fn new(store: Store) -> Arc<Lease> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = format!("{}/{}", host.trim(), std::process::id());
        Arc::new(Lease { store, host, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Where the worker runs, for people: host and process id.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether there is one.
    pub(crate) fn is_held(&self) -> bool {
        lock(&self.state).session.is_some()
    }

    /// The session to claim under, which stays at least until [`Lease::release`].
    pub(crate) fn hold(self: &Arc<Self>) -> Session {
        let mut state = lock(&self.state);
        state.held += 1;
        state
            .session
            .get_or_insert_with(|| {
                let token = holder_token();
                let session = Session { name: token, registered: false, lost: CancellationToken::new() };
                let (lease, renewed) = (self.clone(), session.clone());
                let thread = std::thread::Builder::new().name("lease".into());
                if let Err(error) = thread.spawn(move || lease.renew(&renewed)) {
                    // Its tasks are others' when it runs out.
                    tracing::error!(%error, "no thread for the worker's lease");
                }
                session
            })
            .clone()
    }

    /// The session is in the database.
    pub(crate) fn registered(&self, name: &str) {
        if let Some(session) = lock(&self.state).session.as_mut().filter(|session| session.name == name) {
            session.registered = true;
        }
    }

    /// So many tasks more are held.
    pub(crate) fn add(&self, count: usize) {
        lock(&self.state).held += count;
    }

    /// So many fewer, claims among them.
    pub(crate) fn release(&self, count: usize) {
        let mut state = lock(&self.state);
        state.held = state.held.saturating_sub(count);
        self.changed.notify_all();
    }

    /// Tasks and claims that are held.
    pub(crate) fn held(&self) -> usize {
        lock(&self.state).held
    }

    /// Gives the lease up as soon as nothing is held.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
    }

    /// Renews until the session ends.
    fn renew(&self, session: &Session) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "no event loop for the worker's lease");
                return self.end(session, true);
            }
        };
        let _inside = runtime.enter();
        let store = match self.store.beside() {
            Ok(store) => store,
            Err(error) => {
                tracing::error!(%error, "no connection for the worker's lease");
                return self.end(session, true);
            }
        };
        let (mut renewed, mut idle) = (Instant::now(), 0);
        let lost = loop {
            let due = Instant::now() + RENEW_EVERY;
            let (registered, free) = {
                let mut state = lock(&self.state);
                loop {
                    let now = Instant::now();
                    if now >= due || (state.stopping && state.held == 0) {
                        break;
                    }
                    let waited = self.changed.wait_timeout(state, due - now);
                    state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
                idle = if state.held == 0 { idle + 1 } else { 0 };
                let free = state.held == 0 && (state.stopping || idle > IDLE_RENEWALS);
                let registered = state.session.as_ref().is_some_and(|session| session.registered);
                if free {
                    // Whoever claims next takes a new one.
                    state.session = None;
                }
                (registered, free)
            };
            if free {
                break false;
            }
            if !registered {
                renewed = Instant::now();
                continue;
            }
            match runtime.block_on(renew(&store, &session.name)) {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => break true,
                Err(error) => {
                    tracing::warn!(%error, "the worker's lease is not renewed: trying again");
                    if renewed.elapsed() > LEASE_TIME {
                        break true;
                    }
                }
            }
        };
        self.end(session, lost);
        if !lost && let Err(error) = runtime.block_on(end(&store, &session.name)) {
            tracing::debug!(%error, "the worker's lease runs out by itself");
        }
        runtime.block_on(store.close());
    }

    /// The session is no more.
    fn end(&self, session: &Session, lost: bool) {
        let mut state = lock(&self.state);
        if state.session.as_ref().is_some_and(|current| current.name == session.name) {
            state.session = None;
        }
        if lost {
            tracing::warn!("the worker's lease is lost: other workers do what it held");
            session.lost.cancel();
        }
    }
}

async fn renew(store: &Store, name: &str) -> Result<bool, StoreError> {
    let mut transaction = store.begin_forgettable().await?;
    let renewed = transaction.renew_worker(name, LEASE_TIME).await?;
    transaction.commit().await?;
    Ok(renewed)
}

async fn end(store: &Store, name: &str) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    transaction.end_worker(name).await?;
    transaction.commit().await
}
