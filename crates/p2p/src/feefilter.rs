//! The fee rate below which peers need not announce transactions to us (BIP 133): what is said, and when.

use crate::poisson::rand_exp;
use crate::types::Time;
use cairn_consensus::tx::MAX_MONEY;
use rand::{Rng, RngExt};
use std::time::Duration;

/// Average time between two `feefilter` messages (`AVG_FEEFILTER_BROADCAST_INTERVAL`).
pub const AVG_FEEFILTER_BROADCAST_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Longest time until a rate that changed much is told (`MAX_FEEFILTER_CHANGE_DELAY`).
pub const MAX_FEEFILTER_CHANGE_DELAY: Duration = Duration::from_secs(5 * 60);

/// The highest rate that is told, satoshi for 1,000 vbytes (`MAX_FILTER_FEERATE`).
const MAX_FILTER_FEERATE: f64 = 1e7;
/// Ratio of two rates that are told (`FEE_FILTER_SPACING`).
const FEE_FILTER_SPACING: f64 = 1.1;

/// Rounds rates, so that they do not tell one node from another: Core's `FeeFilterRounder`. Rates are in satoshi for
/// 1,000 vbytes.
#[derive(Debug, Clone)]
pub struct FeeFilterRounder {
    /// What is told, lowest first.
    rates: Vec<f64>,
}

impl FeeFilterRounder {
    /// Steps that begin at half an incremental fee rate.
    pub fn new(min_incremental_fee: u64) -> Self {
        let lowest = (min_incremental_fee / 2).max(1) as f64;
        let steps = std::iter::successors(Some(lowest), |rate| Some(rate * FEE_FILTER_SPACING));
        let rates = std::iter::once(0.0).chain(steps.take_while(|rate| *rate <= MAX_FILTER_FEERATE));
        Self { rates: rates.collect() }
    }

    /// The step below a rate, or one time of three the step above.
    pub fn round(&self, rate: u64, rng: &mut (impl Rng + ?Sized)) -> u64 {
        let above = self.rates.partition_point(|step| *step < rate as f64);
        match self.rates.get(above) {
            Some(step) if above == 0 || rng.random_ratio(1, 3) => *step as u64,
            _ => self.rates.get(above.saturating_sub(1)).map_or(0, |step| *step as u64),
        }
    }

    /// What is told in initial block download, when no transaction is wanted.
    pub fn highest(&self) -> u64 {
        self.rates.last().map_or(0, |step| *step as u64)
    }
}

/// Rates of now, in satoshi for 1,000 vbytes.
#[derive(Debug, Clone, Copy)]
pub struct FeeRates {
    /// The mempool's minimum (`GetMinFee`).
    pub mempool_min: u64,
    /// What is relayed at all (`min_relay_feerate`).
    pub min_relay: u64,
    /// Whether this is initial block download, so that no transaction is wanted.
    pub initial_block_download: bool,
}

/// What one peer was told (`MaybeSendFeefilter`). There is none for peers that may not send transactions, that have the
/// `forcerelay` permission, or that do not know BIP 133.
#[derive(Debug, Clone, Default)]
pub struct FeeFilter {
    sent: u64,
    next_send: Time,
}

impl FeeFilter {
    /// The rate to tell the peer now, if any.
    pub fn poll(
        &mut self,
        now: Time,
        rates: FeeRates,
        rounder: &FeeFilterRounder,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<u64> {
        let current = if rates.initial_block_download { MAX_MONEY } else { rates.mempool_min };
        if !rates.initial_block_download && self.sent == rounder.highest() {
            // The download is over: the peer need not wait to hear it.
            self.next_send = Time::ZERO;
        }
        if now > self.next_send {
            self.next_send = now + rand_exp(AVG_FEEFILTER_BROADCAST_INTERVAL, rng);
            let filter = rounder.round(current, rng).max(rates.min_relay);
            if filter != self.sent {
                self.sent = filter;
                return Some(filter);
            }
        } else if now + MAX_FEEFILTER_CHANGE_DELAY < self.next_send
            && (current < 3 * self.sent / 4 || current > 4 * self.sent / 3)
        {
            let delay = rng.random_range(0..MAX_FEEFILTER_CHANGE_DELAY.as_micros() as u64);
            self.next_send = now + Duration::from_micros(delay);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const RATES: FeeRates = FeeRates { mempool_min: 100, min_relay: 100, initial_block_download: false };

    #[test]
    fn rates_are_rounded_to_the_steps_beside_them_mostly_down() {
        let rounder = FeeFilterRounder::new(100);
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(rounder.rates[..3], [0.0, 50.0, 55.0 + 7.105_427_357_601_002e-15]);
        assert_eq!(rounder.round(0, &mut rng), 0);
        assert_eq!(rounder.round(MAX_MONEY, &mut rng), rounder.highest());
        assert!((9_000_000..=10_000_000).contains(&rounder.highest()));
        let rounded: Vec<u64> = (0..3000).map(|_| rounder.round(52, &mut rng)).collect();
        let up = rounded.iter().filter(|rate| **rate == 55).count();
        assert_eq!(rounded.iter().filter(|rate| **rate == 50).count(), 3000 - up);
        assert!((900..1100).contains(&up), "{up}");
    }

    /// When polled every second from `from` on, what is told and when.
    fn told(filter: &mut FeeFilter, from: u64, seconds: u64, rates: FeeRates, rng: &mut StdRng) -> Vec<(u64, u64)> {
        let rounder = FeeFilterRounder::new(100);
        (from..from + seconds)
            .filter_map(|at| filter.poll(Duration::from_secs(at), rates, &rounder, rng).map(|rate| (at, rate)))
            .collect()
    }

    #[test]
    fn a_peer_hears_it_at_once_and_then_what_is_new_only() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut filter = FeeFilter::default();
        let first = told(&mut filter, 1000, 1, RATES, &mut rng);
        assert_eq!(first.len(), 1);
        for _ in 0..100 {
            let again = told(&mut filter, 1001, 100_000, RATES, &mut rng);
            assert!(again.windows(2).all(|pair| pair[0].1 != pair[1].1));
            assert!(again.iter().all(|(_, rate)| (100..=107).contains(rate)), "{again:?}");
        }
    }

    #[test]
    fn never_less_is_told_than_is_relayed() {
        let rates = FeeRates { min_relay: 1000, ..RATES };
        let told = told(&mut FeeFilter::default(), 1000, 10_000, rates, &mut StdRng::seed_from_u64(1));
        assert_eq!(told, [(1000, 1000)]);
    }

    #[test]
    fn the_interval_is_ten_minutes_on_average() {
        let mut rng = StdRng::seed_from_u64(1);
        let rounder = FeeFilterRounder::new(100);
        let (mut filter, mut times) = (FeeFilter::default(), 0u32);
        let span = 3_000_000u64;
        for at in 1..span {
            let before = filter.next_send;
            filter.poll(Duration::from_secs(at), RATES, &rounder, &mut rng);
            times += u32::from(filter.next_send != before);
        }
        let mean = span as f64 / f64::from(times);
        assert!((570.0..630.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_great_change_is_told_within_five_minutes() {
        for (seed, change) in (0..200).zip([1000, 60, 2000, 1].into_iter().cycle()) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut filter = FeeFilter::default();
            told(&mut filter, 1000, 1, RATES, &mut rng);
            let rates = FeeRates { mempool_min: change, min_relay: 1, ..RATES };
            // And the seconds between two polls.
            let heard = told(&mut filter, 1001, 302, rates, &mut rng);
            assert!(!heard.is_empty(), "{change} was not heard");
        }
    }

    #[test]
    fn the_end_of_the_initial_download_is_told_at_once() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut filter = FeeFilter::default();
        let download = FeeRates { initial_block_download: true, ..RATES };
        let highest = FeeFilterRounder::new(100).highest();
        assert_eq!(told(&mut filter, 1000, 50_000, download, &mut rng), [(1000, highest)]);
        assert_eq!(told(&mut filter, 51_000, 1, RATES, &mut rng).len(), 1);
    }
}
