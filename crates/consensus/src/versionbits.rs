//! Version bits (BIP 9 with BIP 341's changes): which deployments a block should signal for.

use crate::block::VERSIONBITS_TOP_BITS;
use crate::params::Params;
use crate::pow::{Ancestors, median_time_past_at};
use bitcoin::BlockHash;
use bitcoin::block::Version;
use std::collections::HashMap;

/// The top bits that mark a version as one of bits.
const TOP_BITS: u32 = VERSIONBITS_TOP_BITS as u32;
/// Which bits mark it.
const TOP_MASK: u32 = 0xe000_0000;

/// One soft fork that miners signal for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// Core's name of it.
    pub name: &'static str,
    /// Bit of the version.
    pub bit: u8,
    /// Median time past from which signals count, seconds since 1970, or [`Deployment::ALWAYS_ACTIVE`] or
    /// [`Deployment::NEVER_ACTIVE`].
    pub start_time: i64,
    /// Median time past at which it fails, seconds since 1970, or [`Deployment::NO_TIMEOUT`].
    pub timeout: i64,
    /// Least height at which it may become active.
    pub min_activation_height: u32,
    /// Blocks that must signal within a period.
    pub threshold: u32,
    /// Blocks in a period.
    pub period: u32,
    /// Whether clients of `getblocktemplate` may ignore it.
    pub gbt_optional_rule: bool,
}

impl Deployment {
    /// A `start_time`: active from genesis.
    pub const ALWAYS_ACTIVE: i64 = -1;
    /// A `start_time`: never active.
    pub const NEVER_ACTIVE: i64 = -2;
    /// A `timeout` that never comes.
    pub const NO_TIMEOUT: i64 = i64::MAX;

    /// The bit as a mask.
    pub fn mask(&self) -> u32 {
        1u32.checked_shl(u32::from(self.bit)).unwrap_or(0)
    }

    /// Whether a block of this version signals for it.
    pub fn is_signalled_by(&self, version: Version) -> bool {
        let version = version.to_consensus() as u32;
        version & TOP_MASK == TOP_BITS && version & self.mask() != 0
    }
}

/// BIP 9's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdState {
    /// Not begun.
    Defined,
    /// Signals count.
    Started,
    /// Enough signals came; it will be active after at least one more period.
    LockedIn,
    /// In force.
    Active,
    /// Timed out, or never to be active.
    Failed,
}

impl ThresholdState {
    /// Core's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Started => "started",
            Self::LockedIn => "locked_in",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }
}

/// States already known, by deployment and the last block of the period before. Never wrong, so never to be emptied.
#[derive(Debug, Clone, Default)]
pub struct VersionBitsCache(HashMap<(&'static str, BlockHash), ThresholdState>);

impl VersionBitsCache {
    /// State of `deployment` for the block after `chain`.
    pub fn state(&mut self, deployment: &Deployment, chain: &impl Ancestors) -> ThresholdState {
        match deployment.start_time {
            Deployment::ALWAYS_ACTIVE => return ThresholdState::Active,
            Deployment::NEVER_ACTIVE => return ThresholdState::Failed,
            _ => {}
        }
        let height = chain.height().saturating_add(1);
        let period = deployment.period.max(1);
        // All blocks of a period share a state; the first one's is computed, from the period before it.
        let mut start = height - height % period;
        let mut to_compute = Vec::new();
        let mut state = loop {
            if start == 0 {
                break ThresholdState::Defined;
            }
            let key = (deployment.name, chain.header(start - 1).block_hash());
            if let Some(&known) = self.0.get(&key) {
                break known;
            }
            let time = i64::from(median_time_past_at(chain, start - 1));
            if time < deployment.start_time {
                self.0.insert(key, ThresholdState::Defined);
                break ThresholdState::Defined;
            }
            to_compute.push((start, key, time));
            start -= period;
        };
        for (start, key, time) in to_compute.into_iter().rev() {
            state = match state {
                // Those before the start time were found above.
                ThresholdState::Defined => ThresholdState::Started,
                ThresholdState::Started => {
                    let signals = |height: &u32| deployment.is_signalled_by(chain.header(*height).version);
                    let count = (start - period..start).filter(signals).count();
                    if count >= deployment.threshold as usize {
                        ThresholdState::LockedIn
                    } else if time >= deployment.timeout {
                        ThresholdState::Failed
                    } else {
                        state
                    }
                }
                ThresholdState::LockedIn if start >= deployment.min_activation_height => ThresholdState::Active,
                state => state,
            };
            self.0.insert(key, state);
        }
        state
    }

    /// Core's `ComputeBlockVersion`: the version that a new block after `chain` should have.
    pub fn compute_block_version(&mut self, params: &Params, chain: &impl Ancestors) -> Version {
        let bits = params.deployments.iter().fold(TOP_BITS, |bits, deployment| match self.state(deployment, chain) {
            ThresholdState::Started | ThresholdState::LockedIn => bits | deployment.mask(),
            _ => bits,
        });
        Version::from_consensus(bits as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::block::Header;

    /// Headers ten minutes apart with versions given by height.
    struct Chain(Vec<Header>);
    impl Ancestors for Chain {
        fn height(&self) -> u32 {
            self.0.len() as u32 - 1
        }
        fn header(&self, height: u32) -> Header {
            self.0[height as usize]
        }
    }

    fn chain(params: &Params, length: u32, version: impl Fn(u32) -> u32) -> Chain {
        let genesis = params.genesis.header;
        let header = |height| Header {
            version: Version::from_consensus(version(height) as i32),
            time: genesis.time + height * 600,
            ..genesis
        };
        Chain((0..length).map(header).collect())
    }

    const SIGNAL: u32 = 0x3000_0000;

    fn version(params: &Params, length: u32, versions: impl Fn(u32) -> u32) -> u32 {
        let version = VersionBitsCache::default().compute_block_version(params, &chain(params, length, versions));
        version.to_consensus() as u32
    }

    #[test]
    fn regtest_signals_from_the_second_period_until_it_is_active() {
        let params = Params::new(Network::Regtest).expect("supported");
        let all = |height| if height == 0 { 1 } else { SIGNAL };
        for (length, expected) in
            [(1, 0x2000_0000), (143, 0x2000_0000), (144, SIGNAL), (288, SIGNAL), (431, SIGNAL), (432, 0x2000_0000)]
        {
            assert_eq!(version(&params, length, all), expected, "{length} blocks");
        }
        // Without signals it stays started; 107 of 144 are too few, 108 are enough.
        assert_eq!(version(&params, 1_440, |_| TOP_BITS), SIGNAL);
        for (signals, state) in [(107, ThresholdState::Started), (108, ThresholdState::LockedIn)] {
            let versions = |height: u32| if (144..144 + signals).contains(&height) { SIGNAL } else { TOP_BITS };
            let chain = chain(&params, 288, versions);
            assert_eq!(VersionBitsCache::default().state(&params.deployments[0], &chain), state);
        }
        // Those of an earlier period do not count.
        let versions = |height: u32| if (1..144 + 107).contains(&height) { SIGNAL } else { TOP_BITS };
        let state = VersionBitsCache::default().state(&params.deployments[0], &chain(&params, 288, versions));
        assert_eq!(state, ThresholdState::Started);
    }

    #[test]
    fn one_cache_serves_a_growing_chain() {
        let params = Params::new(Network::Regtest).expect("supported");
        let mut cache = VersionBitsCache::default();
        for length in 1..600 {
            let chain = chain(&params, length, |_| SIGNAL);
            let fresh = VersionBitsCache::default().state(&params.deployments[0], &chain);
            assert_eq!(cache.state(&params.deployments[0], &chain), fresh, "{length} blocks");
        }
    }

    #[test]
    fn deployments_start_time_out_and_wait_for_their_height() {
        let params = Params::new(Network::Regtest).expect("supported");
        let genesis = i64::from(params.genesis.header.time);
        let base = params.deployments[0];
        let state = |deployment: &Deployment, length, version: u32| {
            VersionBitsCache::default().state(deployment, &chain(&params, length, |_| version)).name()
        };
        // The median time past of block 143 is that of block 138.
        let late = Deployment { start_time: genesis + 138 * 600, ..base };
        assert_eq!(state(&late, 144, SIGNAL), "started");
        assert_eq!(state(&Deployment { start_time: late.start_time + 1, ..base }, 144, SIGNAL), "defined");
        let ends = Deployment { timeout: genesis + 200 * 600, ..base };
        assert_eq!(state(&ends, 288, TOP_BITS), "failed");
        assert_eq!(state(&ends, 288, SIGNAL), "locked_in", "signals win over the timeout");
        let waits = Deployment { min_activation_height: 433, ..base };
        assert_eq!((state(&base, 432, SIGNAL), state(&waits, 432, SIGNAL)), ("active", "locked_in"));
        assert_eq!(state(&waits, 576, SIGNAL), "active");
        assert_eq!(state(&Deployment { start_time: Deployment::ALWAYS_ACTIVE, ..base }, 1, SIGNAL), "active");
        assert_eq!(state(&Deployment { start_time: Deployment::NEVER_ACTIVE, ..base }, 999, SIGNAL), "failed");
        // Any time may be a start, so what stands for always and never is none.
        for start_time in [0, 1, 2] {
            assert_eq!(state(&Deployment { start_time, ..base }, 144, SIGNAL), "started");
        }
        // Versions of another form signal nothing.
        assert_eq!(state(&base, 999, 0x7000_0000), "started");
    }

    #[test]
    fn deployments_may_share_a_bit() {
        let mut params = Params::new(Network::Regtest).expect("supported");
        let second = Deployment { name: "second", ..params.deployments[0] };
        params.deployments.push(second);
        assert_eq!(version(&params, 144, |_| SIGNAL), SIGNAL);
    }

    #[test]
    fn public_networks_signal_nothing() {
        for network in [Network::Bitcoin, Network::Testnet4, Network::Signet] {
            let params = Params::new(network).expect("supported");
            assert_eq!(version(&params, 5_000, |_| SIGNAL), 0x2000_0000);
        }
    }
}
