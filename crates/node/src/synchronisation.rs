//! How far a node is that catches up with its peers.

use crate::Node;
use cairn_p2p::net::Summary;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The rate is of the last blocks, as far back as this.
const WINDOW: Duration = Duration::from_secs(30);
/// Between two heights that are remembered at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How far a node is that catches up with its peers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Synchronisation {
    /// Height of the tip.
    pub height: u32,
    /// Height of the best header known: where it goes.
    pub headers: u32,
    /// From 0 to 1: blocks over headers.
    pub progress: f64,
    /// Blocks connected a second, of late.
    pub blocks_per_second: f64,
    /// At that rate; none while there is none.
    pub left: Option<Duration>,
}

/// Heights over time. It has one a second for half a minute, and none while no blocks come.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What times are counted from.
    start: Instant,
    samples: Mutex<VecDeque<(Duration, u32)>>,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace { start: Instant::now(), samples: Mutex::default() }
    }

    /// A block was connected.
    pub(crate) fn connected(&self, height: u32) {
        self.record(self.start.elapsed(), height);
    }

    fn record(&self, now: Duration, height: u32) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|(last, _)| now.saturating_sub(*last) < SAMPLE_EVERY) {
            return;
        }
        while samples.front().is_some_and(|(first, _)| now.saturating_sub(*first) > WINDOW) {
            samples.pop_front();
        }
        samples.push_back((now, height));
    }

    /// Blocks a second up to `height` now.
    fn rate(&self, now: Duration, height: u32) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(first, from)) = samples.front() else { return 0.0 };
        let seconds = now.saturating_sub(first).as_secs_f64();
        // Of less than a sample's time nothing is known yet.
        if seconds < SAMPLE_EVERY.as_secs_f64() { 0.0 } else { f64::from(height.saturating_sub(from)) / seconds }
    }
}

impl Node {
    /// How far it is; none once it is at the best header that it knows and no better chain is being looked at. `peers` is
    /// what the network says of itself, if it runs.
    pub fn synchronisation(&self, peers: Option<&Summary>) -> Option<Synchronisation> {
        let (tip, best) = (self.chain.tip(), self.chain.best_header());
        let presynced = peers.and_then(|peers| peers.presynced_headers).filter(|height| *height > tip.height);
        if tip.chain_work >= best.chain_work && presynced.is_none() {
            return None;
        }
        let headers = best.height.max(presynced.unwrap_or(0)).max(tip.height);
        let rate = self.pace.rate(self.pace.start.elapsed(), tip.height);
        Some(synchronisation(tip.height, headers, rate))
    }
}

fn synchronisation(height: u32, headers: u32, rate: f64) -> Synchronisation {
    let left = f64::from(headers.saturating_sub(height)) / rate;
    Synchronisation {
        height,
        headers,
        progress: if headers == 0 { 1.0 } else { f64::from(height) / f64::from(headers) },
        blocks_per_second: rate,
        // Infinite where nothing moves.
        left: Duration::try_from_secs_f64(left).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_rate_is_of_the_last_half_minute() {
        let pace = Pace::new();
        assert_eq!(pace.rate(seconds(5), 0), 0.0, "no block came");
        for second in 0..100 {
            // A hundred a second first, then ten.
            let height = if second < 50 { 100 * second } else { 5_000 + 10 * (second - 50) };
            pace.record(seconds(second), u32::try_from(height).unwrap());
        }
        assert_eq!(pace.samples.lock().unwrap().len(), 31);
        assert_eq!(pace.rate(seconds(99), 5_490), 10.0);
        assert_eq!(pace.rate(seconds(129), 5_490), 5.0, "it fades while nothing comes");
        pace.record(seconds(1_000), 5_491);
        assert_eq!(pace.rate(seconds(1_000), 5_491), 0.0, "what was before is long ago");
        assert_eq!(pace.rate(seconds(1_002), 5_471), 0.0, "blocks that were undone");
    }

    #[test]
    fn many_blocks_a_second_are_one_sample() {
        let pace = Pace::new();
        for height in 0..10_000 {
            pace.record(Duration::from_micros(100) * height, height);
        }
        assert_eq!(pace.samples.lock().unwrap().len(), 1);
        assert_eq!(pace.rate(seconds(1), 10_000), 10_000.0);
    }

    #[test]
    fn time_left_is_told_where_something_moves() {
        let moving = synchronisation(250, 1_000, 10.0);
        assert_eq!((moving.progress, moving.left), (0.25, Some(seconds(75))));
        assert_eq!(synchronisation(250, 1_000, 0.0).left, None);
    }

    #[test]
    fn a_node_at_its_best_header_has_nothing_to_catch_up_with() {
        let (node, _dir) = crate::tests::node();
        assert_eq!(node.synchronisation(None), None);
        let presync = Summary { presynced_headers: Some(2_000), ..Summary::default() };
        let far = node.synchronisation(Some(&presync)).expect("a peer has more");
        assert_eq!((far.height, far.headers, far.progress), (0, 2_000, 0.0));
        let mut block = node.template(bitcoin::Script::new()).unwrap().block;
        cairn_mining::mine(&mut block, &AtomicBool::new(false)).unwrap();
        node.chain.process_headers(&[block.header], node.now()).unwrap();
        let behind = node.synchronisation(None).expect("a header without its block");
        assert_eq!((behind.height, behind.headers), (0, 1));
        node.submit_block(Arc::new(block)).unwrap();
        assert_eq!(node.synchronisation(None), None);
    }
}
