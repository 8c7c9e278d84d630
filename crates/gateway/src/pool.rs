//! The backends of the moment: which there are, and which one a request goes to.

use crate::backend::{Backend, Health};
use crate::config::Config;
use crate::strategy::Chooser;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A backend that there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    /// The name that it was resolved from.
    pub(crate) name: Option<String>,
}

/// The set of backends. Changing it keeps those that stay, with their counters and open requests.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) chooser: Chooser,
    backends: ArcSwap<Vec<Arc<Backend>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Pool {
    pub(crate) fn new(chooser: Chooser) -> Self {
        Pool { chooser, backends: ArcSwap::default(), changing: Mutex::default() }
    }

    /// All of them, those that drain included.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Backend>>> {
        self.backends.load_full()
    }

    /// Makes the set what is wanted. What goes drains first.
    pub(crate) fn apply(&self, wanted: &[Wanted], now: Instant) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.backends.load_full();
        let mut known: HashMap<SocketAddr, Arc<Backend>> =
            before.iter().map(|backend| (backend.address, backend.clone())).collect();
        let mut after = Vec::with_capacity(wanted.len());
        for Wanted { address, weight, name } in wanted {
            if after.iter().any(|backend: &Arc<Backend>| backend.address == *address) {
                continue;
            }
            let backend = known.remove(address).unwrap_or_else(|| Arc::new(Backend::new(*address, *weight)));
            backend.set_weight(*weight);
            backend.undrain();
            name.clone_into(&mut backend.name.lock().unwrap_or_else(PoisonError::into_inner));
            after.push(backend);
        }
        for gone in before.iter().filter(|backend| known.contains_key(&backend.address)) {
            if !gone.is_draining() {
                tracing::info!(backend = %gone.address, open = gone.active(), "a backend was removed and drains");
            }
            gone.drain(now);
            after.push(gone.clone());
        }
        self.backends.store(Arc::new(after));
    }

    /// Forgets backends that have drained.
    pub(crate) fn sweep(&self, config: &Config, now: Instant) {
        if !self.backends.load().iter().any(|backend| backend.is_drained(config, now)) {
            return;
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::clone(&self.backends.load());
        left.retain(|backend| !backend.is_drained(config, now));
        self.backends.store(Arc::new(left));
    }

    /// The backend for a request that was already tried on `tried`. Those that are up come first, then those that no check
    /// has judged yet, then those that were ejected: an ejection must not leave nobody. `None` where all are down or gone.
    pub(crate) fn choose(&self, tried: &[SocketAddr], now: Instant) -> Option<Arc<Backend>> {
        let backends = self.backends.load();
        let fresh = |backend: &&Arc<Backend>| !tried.contains(&backend.address);
        let mut up = Vec::with_capacity(backends.len());
        up.extend(backends.iter().filter(|backend| backend.is_up(now)).filter(fresh));
        if up.is_empty() {
            let asked = |backend: &&Arc<Backend>| !backend.is_draining() && backend.health() != Health::Unhealthy;
            up.extend(backends.iter().filter(asked).filter(fresh).filter(|backend| !backend.is_ejected(now)));
            if up.is_empty() {
                up.extend(backends.iter().filter(asked).filter(fresh));
            }
            if up.is_empty() {
                // Nobody else is left: the same one again, over a new connection.
                up.extend(backends.iter().filter(asked));
            }
        }
        self.chooser.choose(&up, now).cloned()
    }

    /// Whether a backend other than this one is up.
    pub(crate) fn another_is_up(&self, than: &Backend, now: Instant) -> bool {
        self.backends.load().iter().any(|backend| backend.address != than.address && backend.is_up(now))
    }

    /// How many may get requests.
    pub(crate) fn up(&self, now: Instant) -> usize {
        self.backends.load().iter().filter(|backend| backend.is_up(now)).count()
    }

    /// Why there is nobody to ask, in words.
    pub(crate) fn complaint(&self, now: Instant) -> String {
        let backends = self.backends.load();
        if backends.is_empty() {
            return "there are no backends".into();
        }
        let mut reasons: Vec<_> = backends
            .iter()
            .filter_map(|backend| backend.reason(now).map(|reason| format!("{}: {reason}", backend.address)))
            .take(9)
            .collect();
        if reasons.len() == 9 {
            reasons.truncate(8);
            reasons.push(format!("and {} more", backends.len() - 8));
        }
        format!("no backend is healthy: {}", reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{InFlight, State};
    use crate::strategy::Strategy;
    use std::sync::atomic::Ordering;

    fn wanted(ports: &[u16]) -> Vec<Wanted> {
        let address = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        ports.iter().map(|port| Wanted { address: address(port), weight: 1, name: None }).collect()
    }

    fn pool(ports: &[u16]) -> (Pool, Config, Instant) {
        let (pool, config, now) = (Pool::new(Chooser::new(Strategy::RoundRobin)), Config::default(), Instant::now());
        pool.apply(&wanted(ports), now);
        (pool, config, now)
    }

    fn chosen(pool: &Pool, tried: &[SocketAddr], now: Instant) -> Option<u16> {
        pool.choose(tried, now).map(|backend| backend.address.port())
    }

    #[test]
    fn counters_survive_changes_and_what_goes_drains() {
        let (pool, config, now) = pool(&[1, 2]);
        let first = pool.all()[0].clone();
        first.counters.requests.fetch_add(7, Ordering::Relaxed);
        first.check_passed(&config, false, now);
        let open = InFlight::begin(&first);
        pool.apply(&wanted(&[2, 3]), now);
        pool.sweep(&config, now);
        assert_eq!(pool.all().len(), 3, "one has an open request");
        assert_eq!(first.state(now), State::Draining);
        assert_ne!(chosen(&pool, &[], now), Some(1));
        pool.apply(&wanted(&[1, 2]), now);
        let back = pool.all()[0].clone();
        assert!(Arc::ptr_eq(&back, &first) && back.is_up(now));
        assert_eq!(back.counters.requests.load(Ordering::Relaxed), 7);
        pool.apply(&wanted(&[2]), now);
        drop(open);
        pool.sweep(&config, now);
        assert_eq!(pool.all().len(), 1);
    }

    #[test]
    fn those_that_are_up_come_first() {
        let (pool, config, now) = pool(&[1, 2, 3]);
        let backends = pool.all();
        assert!(chosen(&pool, &[], now).is_some(), "no check has ended: anybody");
        backends[2].check_passed(&config, false, now);
        assert_eq!(chosen(&pool, &[], now), Some(3));
        backends[0].check_failed(&config, "refused".into());
        assert_eq!(chosen(&pool, &[backends[2].address], now), Some(2), "nobody knows of the second");
        backends[1].check_failed(&config, "503: the database does not answer".into());
        assert_eq!(chosen(&pool, &[backends[2].address], now), Some(3), "again where nobody else is left");
        while backends[2].health() != Health::Unhealthy {
            backends[2].check_failed(&config, "timed out".into());
        }
        assert_eq!(chosen(&pool, &[], now), None);
        let complaint = pool.complaint(now);
        for part in ["127.0.0.1:1: refused", "127.0.0.1:2: 503: the database does not answer", "127.0.0.1:3: timed out"]
        {
            assert!(complaint.contains(part), "{complaint}");
        }
    }

    #[test]
    fn one_address_is_one_backend() {
        let (pool, ..) = pool(&[1, 1, 2]);
        assert_eq!(pool.all().len(), 2);
    }
}
