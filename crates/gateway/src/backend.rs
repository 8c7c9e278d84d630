//! One backend: what it is, how it does, and whether it may be asked.

use crate::config::Config;
use crate::histogram::Histogram;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A weight of one, in the parts that a slow start divides it into.
const WHOLE: u32 = 100;
/// The parts that a backend begins a slow start with.
const FIRST_PARTS: u32 = 10;

/// What the active checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// No check has ended yet.
    Unknown,
    /// The last checks went well, or none are made.
    Healthy,
    /// The last checks failed.
    Unhealthy,
}

/// What becomes of a backend's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It gets its share.
    Up,
    /// It gets a share that grows: it came back a moment ago.
    SlowStart,
    /// No check has ended yet: it is asked only where no other is up.
    Checking,
    /// Its checks fail.
    Down,
    /// Its requests failed: it is left alone for a while.
    Ejected,
    /// It was removed and ends what it has.
    Draining,
}

/// Details of its health, for people.
#[derive(Debug, Clone)]
struct Report {
    /// Why it is not healthy.
    reason: Option<String>,
    /// Why the last request failed.
    last_error: Option<String>,
    /// Checks in a row that went as the last one.
    passed: u32,
    failed: u32,
    /// When the present health began.
    since: SystemTime,
    /// When it was ejected last, for how long, and how many times in a row.
    ejected: Option<(Instant, Duration)>,
    ejections: u32,
    /// When it was removed.
    draining: Option<Instant>,
}

/// A backend at one address. It outlives changes of the configuration, and so do its counters.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// What it was found under, where that is a name.
    pub(crate) name: Mutex<Option<String>>,
    weight: AtomicU32,
    /// Credit of the round robin, in parts of weights.
    pub(crate) credit: AtomicI64,
    active: AtomicU32,
    health: AtomicU8,
    draining: AtomicBool,
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Times below are milliseconds since this.
    epoch: Instant,
    /// Until when it is ejected; 0 is not at all.
    ejected_until: AtomicU64,
    /// When a slow start began, and how long it lasts; 0 is none.
    slow_since: AtomicU64,
    slow_millis: AtomicU64,
    report: Mutex<Report>,
    pub(crate) counters: Counters,
}

/// What a backend did since the gateway found it first.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Requests that were sent to it, repetitions included.
    pub(crate) requests: AtomicU64,
    /// Those that it did not answer properly.
    pub(crate) errors: AtomicU64,
    /// Those that were repeated elsewhere.
    pub(crate) retries: AtomicU64,
    /// Answers by the first digit of their status.
    pub(crate) responses: [AtomicU64; 5],
    /// New connections to it.
    pub(crate) connections: AtomicU64,
    /// Checks that failed.
    pub(crate) failed_checks: AtomicU64,
    /// Times that it was ejected.
    pub(crate) ejections: AtomicU64,
    /// Time from a request to the head of its answer.
    pub(crate) latency: Histogram,
}

impl Backend {
    pub(crate) fn new(address: SocketAddr, weight: u32) -> Self {
        Backend {
            address,
            name: Mutex::default(),
            weight: AtomicU32::new(weight),
            credit: AtomicI64::new(0),
            active: AtomicU32::new(0),
            health: AtomicU8::new(Health::Unknown as u8),
            draining: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            epoch: Instant::now(),
            ejected_until: AtomicU64::new(0),
            slow_since: AtomicU64::new(0),
            slow_millis: AtomicU64::new(0),
            report: Mutex::new(Report {
                reason: None,
                last_error: None,
                passed: 0,
                failed: 0,
                since: SystemTime::now(),
                ejected: None,
                ejections: 0,
                draining: None,
            }),
            counters: Counters {
                requests: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                retries: AtomicU64::new(0),
                responses: std::array::from_fn(|_| AtomicU64::new(0)),
                connections: AtomicU64::new(0),
                failed_checks: AtomicU64::new(0),
                ejections: AtomicU64::new(0),
                latency: Histogram::new(),
            },
        }
    }

    /// One that passed its checks.
    #[cfg(test)]
    pub(crate) fn ready(address: SocketAddr, weight: u32) -> Self {
        let backend = Backend::new(address, weight);
        backend.health.store(Health::Healthy as u8, Ordering::Relaxed);
        backend
    }

    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        // From 1, since 0 says «not at all».
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Open requests.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// The weight in hundredths, less while it starts slowly; never 0.
    pub(crate) fn effective_weight(&self, now: Instant) -> u32 {
        let weight = self.weight();
        let since = self.slow_since.load(Ordering::Relaxed);
        if since == 0 {
            return weight * WHOLE;
        }
        let lasts = self.slow_millis.load(Ordering::Relaxed).max(1);
        let elapsed = self.millis(now).saturating_sub(since);
        if elapsed >= lasts {
            self.slow_since.store(0, Ordering::Relaxed);
            return weight * WHOLE;
        }
        let parts = u32::try_from(u64::from(WHOLE) * elapsed / lasts).unwrap_or(WHOLE);
        weight * parts.max(FIRST_PARTS)
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unknown,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && self.millis(now) < until
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it may get requests without question.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        !self.is_draining() && self.health() == Health::Healthy && !self.is_ejected(now)
    }

    pub(crate) fn state(&self, now: Instant) -> State {
        match self.health() {
            _ if self.is_draining() => State::Draining,
            Health::Unhealthy => State::Down,
            _ if self.is_ejected(now) => State::Ejected,
            Health::Unknown => State::Checking,
            Health::Healthy if self.effective_weight(now) < self.weight() * WHOLE => State::SlowStart,
            Health::Healthy => State::Up,
        }
    }

    /// Why it is not up, or what was last amiss with it.
    pub(crate) fn reason(&self, now: Instant) -> Option<String> {
        let report = self.report();
        match self.state(now) {
            State::Down | State::Checking => report.reason.clone(),
            State::Ejected => {
                let error = report.last_error.as_deref().unwrap_or("its requests failed");
                let left = self.ejected_until.load(Ordering::Relaxed).saturating_sub(self.millis(now));
                Some(format!("{error}; ejected for {} s more", left.div_ceil(1000)))
            }
            State::Draining => Some(format!("it was removed, and {} requests are open", self.active())),
            State::Up | State::SlowStart => None,
        }
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.report().last_error.clone()
    }

    /// When its health changed last.
    pub(crate) fn since(&self) -> SystemTime {
        self.report().since
    }

    fn start_slowly(&self, config: &Config, now: Instant) {
        let lasts = u64::try_from(config.slow_start.as_millis()).unwrap_or(u64::MAX);
        self.slow_millis.store(lasts, Ordering::Relaxed);
        self.slow_since.store(if lasts == 0 { 0 } else { self.millis(now) }, Ordering::Relaxed);
    }

    /// A check went well. `late` says that others have been serving before, so that this one starts slowly. Returns
    /// whether that brought it up.
    pub(crate) fn check_passed(&self, config: &Config, late: bool, now: Instant) -> bool {
        let mut report = self.report();
        report.failed = 0;
        report.passed = report.passed.saturating_add(1);
        let before = self.health();
        // The first check of all decides alone: there is no past that speaks against it.
        let up = before == Health::Unknown || (before == Health::Unhealthy && report.passed >= config.health_rise);
        if up {
            report.reason = None;
            report.since = SystemTime::now();
            if before == Health::Unhealthy || late {
                self.start_slowly(config, now);
            }
            self.failures.store(0, Ordering::Relaxed);
            self.health.store(Health::Healthy as u8, Ordering::Relaxed);
        }
        up
    }

    /// A check failed. Returns whether that took it down.
    pub(crate) fn check_failed(&self, config: &Config, reason: String) -> bool {
        self.counters.failed_checks.fetch_add(1, Ordering::Relaxed);
        let mut report = self.report();
        report.passed = 0;
        report.failed = report.failed.saturating_add(1);
        let before = self.health();
        let down = before == Health::Unknown || (before == Health::Healthy && report.failed >= config.health_fall);
        if down {
            report.since = SystemTime::now();
            self.health.store(Health::Unhealthy as u8, Ordering::Relaxed);
        }
        if down || before == Health::Unhealthy {
            report.reason = Some(reason);
        }
        down
    }

    /// No checks are made: it is taken for healthy.
    pub(crate) fn unchecked(&self) {
        if self.health() != Health::Healthy {
            let mut report = self.report();
            report.reason = None;
            report.since = SystemTime::now();
            self.health.store(Health::Healthy as u8, Ordering::Relaxed);
        }
    }

    /// A request was answered properly.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed, and `others` says whether another backend is up, without which none is ejected. Returns for how
    /// long it was ejected.
    pub(crate) fn failed(&self, config: &Config, reason: &str, others: bool, now: Instant) -> Option<Duration> {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut report = self.report();
        report.last_error = Some(reason.to_owned());
        if config.eject_failures == 0 || failures < config.eject_failures || !others || self.is_ejected(now) {
            return None;
        }
        // Who stayed as long as it had been left alone for begins anew.
        let again = report.ejected.is_some_and(|(at, lasted)| now.saturating_duration_since(at) < lasted * 2);
        report.ejections = if again { report.ejections.saturating_add(1) } else { 1 };
        let doubled = config.eject_time.saturating_mul(1 << (report.ejections - 1).min(16));
        let lasts = doubled.min(config.eject_max_time.max(config.eject_time));
        report.ejected = Some((now, lasts));
        self.failures.store(0, Ordering::Relaxed);
        self.counters.ejections.fetch_add(1, Ordering::Relaxed);
        self.ejected_until.store(self.millis(now + lasts), Ordering::Relaxed);
        Some(lasts)
    }

    /// Ends an ejection that is over, with a slow start. Called now and then.
    pub(crate) fn end_ejection(&self, config: &Config, now: Instant) {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until != 0 && self.millis(now) >= until {
            self.ejected_until.store(0, Ordering::Relaxed);
            self.start_slowly(config, now);
        }
    }

    /// It was removed: it gets nothing new.
    pub(crate) fn drain(&self, now: Instant) {
        self.report().draining.get_or_insert(now);
        self.draining.store(true, Ordering::Relaxed);
    }

    /// It is back before it had ended everything.
    pub(crate) fn undrain(&self) {
        self.report().draining = None;
        self.draining.store(false, Ordering::Relaxed);
    }

    /// Whether a removed backend may be forgotten.
    pub(crate) fn is_drained(&self, config: &Config, now: Instant) -> bool {
        let overdue = |since: Instant| now.saturating_duration_since(since) >= config.drain;
        self.is_draining() && (self.active() == 0 || self.report().draining.is_some_and(overdue))
    }
}

/// An open request of a backend, counted while this lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Backend>);

impl InFlight {
    pub(crate) fn begin(backend: &Arc<Backend>) -> Self {
        backend.active.fetch_add(1, Ordering::Relaxed);
        InFlight(backend.clone())
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { eject_failures: 2, health_rise: 2, health_fall: 2, ..Config::default() }
    }

    fn backend() -> Backend {
        Backend::ready("127.0.0.1:8200".parse().expect("an address"), 2)
    }

    #[test]
    fn checks_take_it_down_and_bring_it_back_slowly() {
        let backend = Backend::new("127.0.0.1:8200".parse().expect("an address"), 2);
        let (config, now) = (config(), Instant::now());
        assert_eq!(backend.state(now), State::Checking);
        assert!(backend.check_passed(&config, false, now), "the first check decides alone");
        assert_eq!((backend.state(now), backend.effective_weight(now)), (State::Up, 200));
        assert!(!backend.check_failed(&config, "refused".into()));
        assert_eq!((backend.state(now), backend.reason(now)), (State::Up, None));
        assert!(backend.check_failed(&config, "refused".into()));
        assert_eq!((backend.state(now), backend.reason(now)), (State::Down, Some("refused".into())));
        assert!(!backend.check_passed(&config, false, now));
        assert_eq!(backend.state(now), State::Down);
        assert!(backend.check_passed(&config, false, now));
        assert_eq!((backend.state(now), backend.effective_weight(now)), (State::SlowStart, 20));
        assert_eq!(backend.effective_weight(now + config.slow_start / 2), 100);
        assert_eq!(backend.effective_weight(now + config.slow_start), 200);
        assert_eq!(backend.state(now + config.slow_start), State::Up);
    }

    #[test]
    fn failures_in_a_row_eject_it_for_twice_as_long_each_time() {
        let (config, backend, mut now) = (config(), backend(), Instant::now());
        assert_eq!(backend.failed(&config, "reset", true, now), None);
        backend.succeeded();
        assert_eq!(backend.failed(&config, "reset", true, now), None, "they were not in a row");
        for round in 0..7 {
            let lasts = (config.eject_time * (1 << round)).min(config.eject_max_time);
            let mut ejected = None;
            while ejected.is_none() {
                ejected = backend.failed(&config, "reset", true, now);
            }
            assert_eq!(ejected, Some(lasts));
            assert_eq!(backend.state(now), State::Ejected);
            assert!(backend.reason(now).is_some_and(|reason| reason.starts_with("reset; ejected for ")));
            now += lasts;
            assert!(!backend.is_ejected(now));
            backend.end_ejection(&config, now);
            assert_eq!(backend.state(now), State::SlowStart);
        }
        now += config.eject_max_time;
        assert_eq!(backend.failed(&config, "reset", true, now), None);
        assert_eq!(backend.failed(&config, "reset", true, now), Some(config.eject_time), "it had been good for long");
    }

    #[test]
    fn the_last_one_is_never_ejected() {
        let (config, backend, now) = (config(), backend(), Instant::now());
        for _ in 0..10 {
            assert_eq!(backend.failed(&config, "reset", false, now), None);
        }
        assert_eq!(backend.state(now), State::Up);
        assert_eq!(backend.last_error().as_deref(), Some("reset"));
    }

    #[test]
    fn a_removed_backend_ends_what_it_has() {
        let (config, backend, now) = (config(), Arc::new(backend()), Instant::now());
        let open = InFlight::begin(&backend);
        backend.drain(now);
        assert_eq!(backend.state(now), State::Draining);
        assert!(!backend.is_drained(&config, now));
        assert!(backend.is_drained(&config, now + config.drain), "but not for ever");
        drop(open);
        assert!(backend.is_drained(&config, now));
        backend.undrain();
        assert!(backend.is_up(now) && !backend.is_drained(&config, now));
    }
}
