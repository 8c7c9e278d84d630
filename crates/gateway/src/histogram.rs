//! Latencies in buckets that grow with them: relative error at most 1/16, no locks, no memory per value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets below twice this are one microsecond wide; above, each power of two has this many.
const SUB: u64 = 16;
/// Powers of two above the linear part; the last bucket takes everything from 2^32 µs (71 minutes) up.
const POWERS: u64 = 28;
const BUCKETS: usize = ((POWERS + 1) * SUB) as usize;

/// Counts of latencies since the start, and of the last minute for quantiles.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Of windows that are over.
    past: Counts,
    /// The window before the present one, and the present one.
    windows: [Counts; 2],
    /// Windows since the start; the present one is at this number modulo 2.
    window: AtomicU64,
}

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    /// Sum of all values, microseconds.
    sum: AtomicU64,
}

impl Counts {
    fn new() -> Self {
        Counts { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

/// The bucket of a latency.
fn bucket(micros: u64) -> usize {
    if micros < 2 * SUB {
        return micros as usize;
    }
    let power = u64::from(63 - micros.leading_zeros()) - SUB.trailing_zeros() as u64;
    let index = power * SUB + (micros >> power);
    (index as usize).min(BUCKETS - 1)
}

/// The first latency above a bucket, microseconds.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket + 1;
    }
    let power = bucket / SUB - 1;
    (bucket % SUB + SUB + 1) << power
}

/// What a histogram says, all times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

/// Counts since the start in the form that Prometheus takes.
#[derive(Debug)]
pub(crate) struct Cumulative {
    /// Upper bound in seconds, and how many were not above it.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    /// Seconds.
    pub(crate) sum: f64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram { past: Counts::new(), windows: [Counts::new(), Counts::new()], window: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let counts = &self.windows[(self.window.load(Ordering::Relaxed) % 2) as usize];
        counts.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        counts.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// Begins a new window; the quantiles are of this and the one before. One caller at a time.
    pub(crate) fn rotate(&self) {
        let next = (self.window.load(Ordering::Relaxed) + 1) % 2;
        let over = &self.windows[next as usize];
        for (past, over) in self.past.buckets.iter().zip(&over.buckets) {
            past.fetch_add(over.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        self.past.sum.fetch_add(over.sum.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.window.fetch_add(1, Ordering::Relaxed);
    }

    /// Quantiles of the last one to two windows; none where nothing was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let count =
            |index: usize| self.windows.iter().map(|window| window.buckets[index].load(Ordering::Relaxed)).sum();
        let counts: Vec<u64> = (0..BUCKETS).map(count).collect();
        let total: u64 = counts.iter().sum();
        let quantile = |percent: u64| {
            let rank = (total * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map(|index| end(index) as f64 / 1e6)
        };
        Some(Quantiles { p50: quantile(50)?, p95: quantile(95)?, p99: quantile(99)? })
    }

    /// Everything since the start, by powers of two from 256 µs to 17 s.
    pub(crate) fn cumulative(&self) -> Cumulative {
        let parts = [&self.past, &self.windows[0], &self.windows[1]];
        let mut buckets = Vec::new();
        let (mut count, mut next) = (0, 8);
        for index in 0..BUCKETS {
            count += parts.iter().map(|part| part.buckets[index].load(Ordering::Relaxed)).sum::<u64>();
            if next <= 24 && end(index) == 1 << next {
                buckets.push(((1_u64 << next) as f64 / 1e6, count));
                next += 1;
            }
        }
        let sum = parts.iter().map(|part| part.sum.load(Ordering::Relaxed)).sum::<u64>() as f64 / 1e6;
        Cumulative { buckets, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_join_and_are_a_sixteenth_wide_at_most() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(end(index) - 1), index);
            assert_eq!(bucket(end(index)), index + 1);
        }
        for micros in [1, 31, 32, 1000, 123_456, 60_000_000] {
            let width = end(bucket(micros)) - micros;
            assert!(width * 16 <= micros.max(16) + 15, "{micros}: {width}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_the_last_two_windows_and_counts_of_all() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantiles(), None);
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let near = |value: f64, millis: f64| (value * 1000.0 - millis).abs() <= millis / 16.0 + 0.001;
        let quantiles = histogram.quantiles().expect("some were recorded");
        assert!(near(quantiles.p50, 50.0) && near(quantiles.p95, 95.0) && near(quantiles.p99, 99.0), "{quantiles:?}");
        histogram.rotate();
        assert!(histogram.quantiles().is_some(), "the window before counts");
        histogram.rotate();
        assert_eq!(histogram.quantiles(), None);
        let all = histogram.cumulative();
        assert_eq!(all.count, 100);
        assert!((all.sum - 5.05).abs() < 1e-9, "{}", all.sum);
        assert_eq!(all.buckets.len(), 17);
        // 2^16 µs: those of at most 65 ms.
        assert_eq!(all.buckets[8], (0.065_536, 65));
    }
}
