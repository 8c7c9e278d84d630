//! Proof of work against arithmetic on big integers, and against that of the `bitcoin` crate.

use bitcoin::block::Header;
use bitcoin::consensus::Params as OtherParams;
use bitcoin::{CompactTarget, Network, Target};
use cairn_consensus::header::{MAX_TIMEWARP, contextual_check_header};
use cairn_consensus::params::Params;
use cairn_consensus::pow::{Ancestors, next_work_required, permitted_difficulty_transition, target_from_compact};
use num_bigint::BigUint;
use proptest::prelude::*;

const PERIOD: u32 = 2_016;
const TWO_WEEKS: u64 = 1_209_600;

/// Core's `arith_uint256::SetCompact`, without the wrapping: the target, and whether it is negative.
fn from_compact(bits: u32) -> (BigUint, bool) {
    let (size, word) = (bits >> 24, BigUint::from(bits & 0x007f_ffff));
    let target = if size <= 3 { word >> (8 * (3 - size)) } else { word << (8 * (size - 3)) };
    (target, bits & 0x0080_0000 != 0 && bits & 0x007f_ffff != 0)
}

/// Core's `arith_uint256::GetCompact`.
fn to_compact(target: &BigUint) -> u32 {
    let mut size = u32::try_from(target.bits().div_ceil(8)).expect("small");
    let mut word = if size <= 3 { target << (8 * (3 - size)) } else { target >> (8 * (size - 3)) };
    if word.bit(23) {
        (word, size) = (word >> 8u8, size + 1);
    }
    u32::try_from(word).expect("three bytes") | size << 24
}

fn big(target: Target) -> BigUint {
    BigUint::from_bytes_be(&target.to_be_bytes())
}

/// Core's `CalculateNextWorkRequired`.
fn retarget(from: u32, first_time: u32, last_time: u32, limit: &BigUint) -> u32 {
    let timespan = i64::from(last_time) - i64::from(first_time);
    let timespan = timespan.clamp(TWO_WEEKS as i64 / 4, TWO_WEEKS as i64 * 4) as u64;
    let target = from_compact(from).0 * timespan / TWO_WEEKS;
    to_compact(limit.min(&target))
}

/// A chain of which only some headers matter: the rest are as the first one.
struct Chain {
    height: u32,
    first: Header,
    /// Those up to the tip.
    last: Vec<Header>,
}

impl Ancestors for Chain {
    fn height(&self) -> u32 {
        self.height
    }
    fn header(&self, height: u32) -> Header {
        let from_tip = (self.height - height) as usize;
        self.last.iter().rev().nth(from_tip).copied().unwrap_or(self.first)
    }
}

fn header(params: &Params, time: u32, bits: u32) -> Header {
    Header { time, bits: CompactTarget::from_consensus(bits), ..params.genesis.header }
}

fn params(network: Network) -> Params {
    Params::new(network).expect("supported")
}

/// Compact targets up to the limit of mainnet and testnet4, the hardest one in 2^24 of it.
fn bits() -> impl Strategy<Value = u32> {
    let below = (0x1a_u32..=0x1c, 0x00_8000_u32..=0x7f_ffff).prop_map(|(size, word)| size << 24 | word);
    prop_oneof![8 => below, 1 => (1u32..=0xffff).prop_map(|word| 0x1d00_0000 | word), 1 => Just(0x1d00_ffff)]
}

/// Two times, mostly some weeks apart, either way.
fn times() -> impl Strategy<Value = (u32, u32)> {
    let near = (500_000_000u32..4_000_000_000, -1_000_000i64..6_000_000)
        .prop_map(|(first, span)| (first, u32::try_from(i64::from(first) + span).expect("in range")));
    prop_oneof![4 => near, 1 => any::<(u32, u32)>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn compact_targets(bits in any::<u32>()) {
        let (target, negative) = from_compact(bits);
        let expected = (!negative && target != BigUint::ZERO && target.bits() <= 256).then_some(target);
        prop_assert_eq!(target_from_compact(bits).map(big), expected.clone());
        if let Some(target) = expected {
            let ours = target_from_compact(bits).expect("a target").to_compact_lossy();
            prop_assert_eq!(ours.to_consensus(), to_compact(&target));
        }
    }

    #[test]
    fn retargets_of_mainnet(period in 1u32..500, bits in bits(), (first, last) in times()) {
        let params = params(Network::Bitcoin);
        let chain = Chain {
            height: period * PERIOD - 1,
            first: header(&params, first, 0x1d00_ffff),
            last: vec![header(&params, last, bits)],
        };
        let next = next_work_required(&chain, 0, &params);
        prop_assert_eq!(next.to_consensus(), retarget(bits, first, last, &big(params.pow_limit)));
        prop_assert!(permitted_difficulty_transition(&params, chain.height + 1, chain.last[0].bits, next));
        // The other implementation takes no negative timespan.
        if last >= first {
            let span = u64::from(last - first);
            let other = CompactTarget::from_next_work_required(chain.last[0].bits, span, OtherParams::MAINNET);
            prop_assert_eq!(next, other);
        }
    }

    #[test]
    fn steps_of_mainnet_are_bounded(from in bits(), to in bits(), height in 0u32..10) {
        let params = params(Network::Bitcoin);
        let permitted = |height, to| {
            let compact = CompactTarget::from_consensus;
            permitted_difficulty_transition(&params, height, compact(from), compact(to))
        };
        let limit = big(params.pow_limit);
        let easiest = retarget(from, 0, 4 * TWO_WEEKS as u32, &limit);
        let hardest = retarget(from, 0, 0, &limit);
        let between = from_compact(hardest).0..=from_compact(easiest).0;
        prop_assert_eq!(permitted(PERIOD, to), between.contains(&from_compact(to).0));
        prop_assert!(permitted(PERIOD, easiest) && permitted(PERIOD, hardest));
        prop_assert_eq!(permitted(PERIOD + 1 + height, to), from == to);
    }

    #[test]
    fn retargets_of_testnet4(period in 1u32..500, bits in bits(), easy in any::<bool>(), (first, last) in times()) {
        // BIP 94: from the first block's target, whatever the last one's is.
        let params = params(Network::Testnet4);
        let last_bits = if easy { 0x1d00_ffff } else { bits };
        let chain = Chain {
            height: period * PERIOD - 1,
            first: header(&params, first, bits),
            last: vec![header(&params, last, last_bits)],
        };
        let next = next_work_required(&chain, last, &params);
        prop_assert_eq!(next.to_consensus(), retarget(bits, first, last, &big(params.pow_limit)));
    }

    #[test]
    fn exceptions_of_testnet4(
        place in 0u32..PERIOD - 1,
        period in 0u32..500,
        real in bits(),
        run in prop::collection::vec(any::<bool>(), 1..12),
        time in 1_000_000u32..2_000_000,
        late in prop_oneof![Just(1_200i64), Just(1_201), -5_000i64..5_000],
    ) {
        let params = params(Network::Testnet4);
        let easy = 0x1d00_ffff;
        let height = period * PERIOD + place;
        let last: Vec<Header> =
            run.iter().map(|exception| header(&params, time, if *exception { easy } else { real })).collect();
        let chain = Chain { height, first: header(&params, time, real), last };
        let next = u32::try_from(i64::from(time) + late).expect("in range");
        // Of the blocks from the period's first one on, the last that made no use of the exception; else that first one.
        let mut in_period = (period * PERIOD..=height).rev().map(|height| chain.header(height).bits.to_consensus());
        let earlier = in_period.clone().find(|bits| *bits != easy).or(in_period.next_back()).expect("the tip at least");
        let expected = if late > 1_200 { easy } else { earlier };
        prop_assert_eq!(next_work_required(&chain, next, &params).to_consensus(), expected);
    }

    #[test]
    fn time_warps_of_testnet4(period in 1u32..500, place in -1i64..=1, earlier in 0u32..1_300) {
        let params = params(Network::Testnet4);
        let height = u32::try_from(i64::from(period * PERIOD) + place).expect("in range");
        // The median is far behind; the tip's target is the limit's, so that it stays.
        let first = header(&params, 1_700_000_000, 0x1d00_ffff);
        let tip = header(&params, 1_800_000_000, 0x1d00_ffff);
        let chain = Chain { height: height - 1, first, last: vec![tip] };
        let next = header(&params, tip.time - earlier, 0x1d00_ffff);
        let next = Header { version: bitcoin::block::Version::from_consensus(4), ..next };
        let refused = contextual_check_header(&next, &chain, &params, tip.time).err().map(|reject| reject.reason);
        let warp = place == 0 && earlier > MAX_TIMEWARP;
        prop_assert_eq!(refused.as_deref(), warp.then_some("time-timewarp-attack"));
    }
}
