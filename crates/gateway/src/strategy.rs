//! How a backend is chosen among those that may be asked.

use crate::backend::Backend;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each in its turn, as often as its weight says: nginx's smooth weighted round robin.
    #[default]
    RoundRobin,
    /// The one with the fewest open requests for its weight.
    LeastConnections,
    /// The better one of two that are drawn by lot: nearly as even as the above, without herds when many gateways decide
    /// on the same backends.
    PowerOfTwo,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 3] = [Strategy::RoundRobin, Strategy::LeastConnections, Strategy::PowerOfTwo];

    /// Its name in settings, requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastConnections => "least_connections",
            Strategy::PowerOfTwo => "power_of_two",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a strategy is one of round_robin, least_connections and power_of_two")]
pub struct UnknownStrategy;

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(word: &str) -> Result<Self, UnknownStrategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == word).ok_or(UnknownStrategy)
    }
}

/// The strategy in force and what it remembers.
#[derive(Debug)]
pub(crate) struct Chooser {
    strategy: AtomicU8,
    /// One turn at a time.
    turn: Mutex<()>,
}

impl Chooser {
    pub(crate) fn new(strategy: Strategy) -> Self {
        Chooser { strategy: AtomicU8::new(strategy as u8), turn: Mutex::default() }
    }

    pub(crate) fn strategy(&self) -> Strategy {
        let number = usize::from(self.strategy.load(Ordering::Relaxed));
        Strategy::ALL.get(number).copied().unwrap_or_default()
    }

    pub(crate) fn switch(&self, strategy: Strategy) {
        self.strategy.store(strategy as u8, Ordering::Relaxed);
    }

    /// One of `candidates`; `None` only where there are none.
    pub(crate) fn choose<'a>(&self, candidates: &[&'a Arc<Backend>], now: Instant) -> Option<&'a Arc<Backend>> {
        match candidates {
            [] => None,
            [only] => Some(only),
            _ => match self.strategy() {
                Strategy::RoundRobin => self.next(candidates, now),
                Strategy::LeastConnections => least(candidates, now),
                Strategy::PowerOfTwo => two(candidates, now),
            },
        }
    }

    /// Every candidate gains its weight; the one that has most is chosen and pays for all.
    fn next<'a>(&self, candidates: &[&'a Arc<Backend>], now: Instant) -> Option<&'a Arc<Backend>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut best: Option<(i64, &Arc<Backend>)> = None;
        for candidate in candidates.iter().copied() {
            let weight = i64::from(candidate.effective_weight(now));
            total += weight;
            let credit = candidate.credit.fetch_add(weight, Ordering::Relaxed) + weight;
            if best.is_none_or(|(most, _)| credit > most) {
                best = Some((credit, candidate));
            }
        }
        best.map(|(_, chosen)| {
            chosen.credit.fetch_sub(total, Ordering::Relaxed);
            chosen
        })
    }
}

/// Fewest open requests for its weight; equals take turns by lot.
fn least<'a>(candidates: &[&'a Arc<Backend>], now: Instant) -> Option<&'a Arc<Backend>> {
    let start = rand::random_range(0..candidates.len());
    let (before, after) = candidates.split_at(start);
    after.iter().chain(before).copied().reduce(|best, next| if less_loaded(next, best, now) { next } else { best })
}

fn two<'a>(candidates: &[&'a Arc<Backend>], now: Instant) -> Option<&'a Arc<Backend>> {
    let first = rand::random_range(0..candidates.len());
    let second = (first + rand::random_range(1..candidates.len())) % candidates.len();
    let (first, second) = (candidates.get(first)?, candidates.get(second)?);
    Some(if less_loaded(second, first, now) { second } else { first })
}

/// Whether `a` would have less to do for its weight than `b` after one request more.
fn less_loaded(a: &Backend, b: &Backend, now: Instant) -> bool {
    let load = |backend: &Backend| u64::from(backend.active()) + 1;
    load(a) * u64::from(b.effective_weight(now)) < load(b) * u64::from(a.effective_weight(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::InFlight;

    fn backends(weights: &[u32]) -> Vec<Arc<Backend>> {
        let backend = |(number, weight): (usize, &u32)| {
            let address = format!("127.0.0.1:{}", 8200 + number).parse().expect("an address");
            Arc::new(Backend::ready(address, *weight))
        };
        weights.iter().enumerate().map(backend).collect()
    }

    /// How many of `requests` each gets while none of them ends.
    fn shares(strategy: Strategy, weights: &[u32], requests: usize) -> Vec<u32> {
        let (chooser, backends) = (Chooser::new(strategy), backends(weights));
        let candidates: Vec<_> = backends.iter().collect();
        let open: Vec<_> = (0..requests)
            .map(|_| InFlight::begin(chooser.choose(&candidates, Instant::now()).expect("there are some")))
            .collect();
        let shares = backends.iter().map(|backend| backend.active()).collect();
        drop(open);
        assert!(backends.iter().all(|backend| backend.active() == 0), "what ended is open no longer");
        shares
    }

    #[test]
    fn turns_and_fewest_requests_follow_the_weights() {
        assert_eq!(shares(Strategy::RoundRobin, &[1, 1, 1], 30), [10, 10, 10]);
        assert_eq!(shares(Strategy::RoundRobin, &[5, 1, 1], 70), [50, 10, 10]);
        assert_eq!(shares(Strategy::LeastConnections, &[1, 1, 1], 30), [10, 10, 10]);
        assert_eq!(shares(Strategy::LeastConnections, &[3, 1], 400), [300, 100]);
    }

    #[test]
    fn turns_of_a_heavy_backend_are_spread() {
        let (chooser, backends) = (Chooser::new(Strategy::RoundRobin), backends(&[2, 1, 1]));
        let candidates: Vec<_> = backends.iter().collect();
        let turns: Vec<_> = (0..4)
            .map(|_| chooser.choose(&candidates, Instant::now()).expect("there are some").address.port() - 8200)
            .collect();
        assert_eq!(turns, [0, 1, 2, 0]);
    }

    #[test]
    fn the_better_of_two_is_even_within_a_few() {
        let shares = shares(Strategy::PowerOfTwo, &[1, 1, 1, 1], 4000);
        assert!(shares.iter().all(|share| share.abs_diff(1000) <= 20), "{shares:?}");
    }

    #[test]
    fn names_are_read_back() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        assert_eq!("random".parse::<Strategy>(), Err(UnknownStrategy));
    }
}
