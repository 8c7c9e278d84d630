//! The bound on memory: expiry, eviction, and the minimum fee rate that rises with it (Core's `TrimToSize`, `Expire`
//! and `GetMinFee`).

use crate::feerate::FeeFrac;
use crate::pool::Pool;
use crate::types::MempoolConfig;

/// Seconds in which the minimum fee rate falls by half when the mempool is full (`ROLLING_FEE_HALFLIFE`).
const ROLLING_FEE_HALFLIFE: u64 = 60 * 60 * 12;
/// Seconds between two updates of the minimum fee rate.
const UPDATE_INTERVAL: u64 = 10;

/// The fee rate that eviction demands. It rises with each chunk evicted and decays once a block has come since.
#[derive(Debug, Default)]
pub(crate) struct RollingFee {
    /// Satoshi for 1,000 vbytes.
    rate: f64,
    /// When it was last brought up to date, seconds since 1970.
    updated: u64,
    block_since_rise: bool,
}

impl RollingFee {
    /// A block came: decay may begin.
    pub(crate) fn block_connected(&mut self, now: u64) {
        self.updated = now;
        self.block_since_rise = true;
    }

    fn raise(&mut self, rate: i64) {
        if rate as f64 > self.rate {
            self.rate = rate as f64;
            self.block_since_rise = false;
        }
    }

    /// The rate now in satoshi for 1,000 vbytes, zero when nothing was evicted for long.
    pub(crate) fn rate(&mut self, now: u64, usage: usize, config: &MempoolConfig) -> u64 {
        if !self.block_since_rise || self.rate == 0.0 {
            return self.rate.round() as u64;
        }
        if now > self.updated + UPDATE_INTERVAL {
            let halflife = match usage {
                usage if usage < config.max_bytes / 4 => ROLLING_FEE_HALFLIFE / 4,
                usage if usage < config.max_bytes / 2 => ROLLING_FEE_HALFLIFE / 2,
                _ => ROLLING_FEE_HALFLIFE,
            };
            self.rate /= 2f64.powf((now - self.updated) as f64 / halflife as f64);
            self.updated = now;
            if self.rate < config.incremental_fee_rate as f64 / 2.0 {
                self.rate = 0.0;
                return 0;
            }
        }
        (self.rate.round() as u64).max(config.incremental_fee_rate)
    }
}

/// Drops what came too long ago, then the worst chunks until the rest is within the bound.
pub(crate) fn enforce(pool: &mut Pool, rolling: &mut RollingFee, config: &MempoolConfig, now: u64) {
    let expired = pool.older_than(now.saturating_sub(config.expiry_seconds));
    if !expired.is_empty() {
        let expired = pool.with_descendants(expired);
        tracing::debug!(transactions = expired.len(), "expired");
        pool.remove(expired);
    }
    let mut evicted = 0;
    while pool.usage() > config.max_bytes
        && let Some(worst) = pool.worst_chunk().cloned()
    {
        // What was evicted must not come back at the same rate before a block has come.
        let rate: FeeFrac = worst.rate.weight_to_vsize();
        rolling.raise(rate.per_thousand().saturating_add_unsigned(config.incremental_fee_rate));
        evicted += worst.txids.len();
        pool.remove(worst.txids);
    }
    if evicted > 0 {
        tracing::debug!(transactions = evicted, minimum_rate = rolling.rate, "evicted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_falls_by_half_in_each_half_life_after_a_block() {
        let config = MempoolConfig { max_bytes: 1000, ..MempoolConfig::default() };
        let mut rolling = RollingFee::default();
        assert_eq!(rolling.rate(0, 0, &config), 0);
        rolling.raise(8000);
        rolling.raise(7000);
        assert_eq!(rolling.rate(1_000_000, 1000, &config), 8000, "no block came yet");
        rolling.block_connected(1_000_000);
        assert_eq!(rolling.rate(1_000_005, 1000, &config), 8000, "too soon");
        let full = 1_000_000 + ROLLING_FEE_HALFLIFE;
        assert_eq!(rolling.rate(full, 1000, &config), 4000);
        let half_empty = full + ROLLING_FEE_HALFLIFE / 2;
        assert_eq!(rolling.rate(half_empty, 499, &config), 2000);
        let empty = half_empty + ROLLING_FEE_HALFLIFE / 4;
        assert_eq!(rolling.rate(empty, 0, &config), 1000);
        assert_eq!(rolling.rate(empty + ROLLING_FEE_HALFLIFE, 0, &config), 100, "never below the incremental rate");
        assert_eq!(rolling.rate(empty + 2 * ROLLING_FEE_HALFLIFE, 0, &config), 0);
    }
}
