//! Proof of work and its retargets (Core's `pow.cpp`).

use crate::error::{BlockReject, BlockRejectKind};
use crate::params::Params;
use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget, Target};
use std::cmp::Ordering;

/// A compact target that is positive and does not overflow; `None` otherwise.
pub fn target_from_compact(bits: u32) -> Option<Target> {
    let (size, word) = (bits >> 24, bits & 0x007f_ffff);
    // Without the sign a word may be zero, which is no target either.
    let negative = bits & 0x0080_0000 != 0;
    let overflow = size > 34 || (word > 0xff && size > 33) || (word > 0xffff && size > 32);
    let target = Target::from_compact(CompactTarget::from_consensus(bits));
    (!negative && !overflow && target != Target::ZERO).then_some(target)
}

/// Checks that a hash is at or below the target that `bits` claims, and the target at or below the network's limit.
///
/// # Errors
/// `high-hash`.
pub fn check_proof_of_work(hash: &BlockHash, bits: CompactTarget, params: &Params) -> Result<(), BlockReject> {
    let met = target_from_compact(bits.to_consensus())
        .is_some_and(|target| target <= params.pow_limit && target.is_met_by(*hash));
    if met {
        return Ok(());
    }
    Err(BlockReject {
        kind: BlockRejectKind::InvalidHeader,
        reason: "high-hash".into(),
        debug: "proof of work failed".into(),
    })
}

/// The chain of headers that a new block stands on.
pub trait Ancestors {
    /// Height of the block before the new one.
    fn height(&self) -> u32;
    /// Header of the ancestor at a height, which is at most [`Self::height`].
    fn header(&self, height: u32) -> Header;
    /// Median time past of the block before the new one: the middle of the last eleven times, seconds since 1970.
    fn median_time_past(&self) -> u32 {
        median_time_past_at(self, self.height())
    }
}

/// Median time past of the ancestor at `height`, itself included, seconds since 1970.
pub fn median_time_past_at(chain: &(impl Ancestors + ?Sized), height: u32) -> u32 {
    let mut times: Vec<u32> = (height.saturating_sub(10)..=height).map(|height| chain.header(height).time).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The target that a block after `chain` with time `time` must have.
pub fn next_work_required(chain: &impl Ancestors, time: u32, params: &Params) -> CompactTarget {
    let last_height = chain.height();
    let last = chain.header(last_height);
    let interval = params.difficulty_adjustment_interval();
    let limit = params.pow_limit.to_compact_lossy();
    if !(last_height + 1).is_multiple_of(interval) {
        if !params.allow_min_difficulty_blocks {
            return last.bits;
        }
        // A block that comes late enough must have the easiest target.
        if u64::from(time) > u64::from(last.time) + 2 * u64::from(params.pow_target_spacing) {
            return limit;
        }
        // Otherwise the last target that was not such an exception.
        let mut height = last_height;
        let mut header = last;
        while !height.is_multiple_of(interval) && header.bits == limit {
            height -= 1;
            header = chain.header(height);
        }
        return header.bits;
    }
    if params.no_retargeting {
        return last.bits;
    }
    let first = chain.header(last_height + 1 - interval);
    // BIP 94 starts from the period's first block, which cannot have used the exception.
    let from = if params.enforce_bip94 { first.bits } else { last.bits };
    let timespan = i64::from(last.time) - i64::from(first.time);
    retarget(from, timespan, params)
}

/// Scales a target by how long a period took, in seconds, at most fourfold either way.
fn retarget(from: CompactTarget, timespan: i64, params: &Params) -> CompactTarget {
    let expected = i64::from(params.pow_target_timespan);
    let timespan = timespan.clamp(expected / 4, expected * 4);
    let timespan = u32::try_from(timespan).expect("clamped to four timespans, which fit");
    scale(Target::from_compact(from), timespan, params).to_compact_lossy()
}

/// `target × timespan ÷ the expected timespan`, at most the limit.
fn scale(target: Target, timespan: u32, params: &Params) -> Target {
    // 256 bits times 32 bits may take 288: multiply and divide by words. Core's arithmetic wraps at 256 bits, which
    // differs only for targets above 2^254 / 4 that no network with retargets allows.
    let mut words = [0u32; 9];
    let bytes = target.to_le_bytes();
    let mut carry = 0u64;
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        let chunk = u32::from_le_bytes(chunk.try_into().expect("chunks of four bytes"));
        let product = u64::from(chunk) * u64::from(timespan) + carry;
        *word = product as u32;
        carry = product >> 32;
    }
    words[8] = carry as u32;
    let divisor = u64::from(params.pow_target_timespan);
    let mut remainder = 0u64;
    for word in words.iter_mut().rev() {
        let dividend = remainder << 32 | u64::from(*word);
        *word = (dividend / divisor) as u32;
        remainder = dividend % divisor;
    }
    if words[8] != 0 {
        return params.pow_limit;
    }
    let mut scaled = [0u8; 32];
    for (chunk, word) in scaled.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    Target::from_le_bytes(scaled).min(params.pow_limit)
}

/// Whether the target may go from `old` to `new` at `height`, whatever the times were: bounds what a header chain can claim.
pub fn permitted_difficulty_transition(params: &Params, height: u32, old: CompactTarget, new: CompactTarget) -> bool {
    if params.allow_min_difficulty_blocks {
        return true;
    }
    if !height.is_multiple_of(params.difficulty_adjustment_interval()) {
        return old == new;
    }
    let bound = |timespan| {
        let scaled = scale(Target::from_compact(old), timespan, params);
        Target::from_compact(scaled.to_compact_lossy())
    };
    let new = Target::from_compact(new);
    let easiest = bound(params.pow_target_timespan * 4);
    let hardest = bound(params.pow_target_timespan / 4);
    new.cmp(&easiest) != Ordering::Greater && new.cmp(&hardest) != Ordering::Less
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;

    fn mainnet() -> Params {
        Params::new(Network::Bitcoin).expect("supported")
    }

    /// Core's pow_tests.cpp: get_next_work and its limits, with the transition allowed for the right answer only.
    #[test]
    fn retargets_are_those_of_core() {
        let params = mainnet();
        for (height, last_time, first_time, from, expected) in [
            (32_255u32, 1_262_152_739i64, 1_261_130_161i64, 0x1d00_ffffu32, 0x1d00_d86au32),
            (2_015, 1_233_061_996, 1_231_006_505, 0x1d00_ffff, 0x1d00_ffff),
            (68_543, 1_279_297_671, 1_279_008_237, 0x1c05_a3f4, 0x1c01_68fd),
            (46_367, 1_269_211_443, 1_263_163_443, 0x1c38_7f6f, 0x1d00_e1fd),
        ] {
            let from = CompactTarget::from_consensus(from);
            let new = retarget(from, last_time - first_time, &params);
            assert_eq!(new.to_consensus(), expected, "height {height}");
            assert!(permitted_difficulty_transition(&params, height + 1, from, new));
        }
        let transition = |from, to| {
            permitted_difficulty_transition(
                &params,
                68_544,
                CompactTarget::from_consensus(from),
                CompactTarget::from_consensus(to),
            )
        };
        assert!(!transition(0x1c05_a3f4, 0x1c01_68fd - 1), "a fourfold step is the largest");
        assert!(!transition(0x1c38_7f6f, 0x1d00_e1fd + 1));
        assert!(!permitted_difficulty_transition(
            &params,
            68_545,
            CompactTarget::from_consensus(0x1c05_a3f4),
            CompactTarget::from_consensus(0x1c05_a3f5)
        ));
    }

    /// Compact targets show the highest bits only; none of the others is lost.
    #[test]
    fn targets_are_scaled_to_the_last_bit() {
        let params = mainnet();
        let expected = params.pow_target_timespan;
        let bytes =
            |first: u8| std::array::from_fn(|i| if i < 5 { 0 } else { first.wrapping_add((i as u8).wrapping_mul(37)) });
        for first in [0, 1, 0x5a, 0xff] {
            let target = Target::from_be_bytes(bytes(first));
            assert_eq!(scale(target, expected, &params), target);
            let easier = scale(target, expected * 4, &params);
            assert_ne!(easier, target);
            assert_eq!(scale(easier, expected / 4, &params), target);
        }
        assert_eq!(scale(params.pow_limit, expected * 4, &params), params.pow_limit);
    }

    /// Core's CheckProofOfWork_test_*.
    #[test]
    fn targets_that_are_none_are_refused() {
        let params = mainnet();
        let zero = <BlockHash as bitcoin::hashes::Hash>::all_zeros();
        let check = |bits| check_proof_of_work(&zero, CompactTarget::from_consensus(bits), &params);
        for bits in [
            0x0080_0000 | 0x1d00_0001, // negative
            0xff12_3456,               // overflow
            0x2100_ffff | 0x0100_0000, // above the limit
            0x1d01_0000 | 0x0100_0000,
            0x0000_0000, // zero
            0x0100_0000,
        ] {
            assert!(check(bits).is_err(), "{bits:08x}");
        }
        assert!(check(0x1d00_ffff).is_ok());
    }

    /// Core's bignum_SetCompact: no target is negative, zero or beyond 256 bits.
    #[test]
    fn compact_targets_are_read_as_in_core() {
        for bits in [
            0x0000_0000,
            0x0012_3456,
            0x0100_3456,
            0x0200_0056,
            0x0300_0000,
            0x0400_0000,
            0x0092_3456,
            0x0180_3456,
            0x0280_0056,
            0x0380_0000,
            0x0480_0000,
            0x01fe_dcba,
            0x0492_3456,
            0xff12_3456,
            0x0180_0000,
            0x0280_0000,
            // One byte too many in front of each length of a word.
            0x2300_0001,
            0x2200_0100,
            0x2101_0000,
            0x237f_ffff,
        ] {
            assert_eq!(target_from_compact(bits), None, "{bits:08x}");
        }
        for (bits, word, zeros) in [
            (0x0112_3456, 0x12u32, 0),
            (0x0212_3456, 0x1234, 0),
            (0x0312_3456, 0x0012_3456, 0),
            (0x0412_3456, 0x0012_3456, 1),
            (0x0500_9234, 0x9234, 2),
            (0x2012_3456, 0x0012_3456, 29),
            (0x207f_ffff, 0x007f_ffff, 29),
            (0x2100_ffff, 0xffff, 30),
            (0x2200_00ff, 0xff, 31),
            (0x2200_0001, 0x01, 31),
        ] {
            let mut expected = [0; 36];
            expected[zeros..zeros + 4].copy_from_slice(&word.to_le_bytes());
            let (target, rest) = expected.split_first_chunk().expect("longer");
            assert_eq!(rest, [0; 4], "no more than 256 bits");
            assert_eq!(target_from_compact(bits), Some(Target::from_le_bytes(*target)), "{bits:08x}");
        }
    }

    struct Chain(Vec<Header>);
    impl Ancestors for Chain {
        fn height(&self) -> u32 {
            self.0.len() as u32 - 1
        }
        fn header(&self, height: u32) -> Header {
            self.0[height as usize]
        }
    }

    /// A chain of headers ten minutes apart, the targets given by height.
    fn chain(params: &Params, length: u32, bits: impl Fn(u32) -> u32) -> Chain {
        Chain(
            (0..length)
                .map(|height| Header {
                    bits: CompactTarget::from_consensus(bits(height)),
                    time: params.genesis.header.time + height * 600,
                    ..params.genesis.header
                })
                .collect(),
        )
    }

    #[test]
    fn late_blocks_of_test_networks_are_easy_and_the_next_is_not() {
        let params = Params::new(Network::Testnet4).expect("supported");
        let easy = params.pow_limit.to_compact_lossy().to_consensus();
        let chain = chain(&params, 2_020, |height| if height > 2_017 { easy } else { 0x1c05_a3f4 });
        let last = chain.header(chain.height()).time;
        assert_eq!(next_work_required(&chain, last + 1_201, &params).to_consensus(), easy);
        assert_eq!(next_work_required(&chain, last + 1_200, &params).to_consensus(), 0x1c05_a3f4);
    }

    /// Where every block since used the exception, the period's first block counts, and never the period before.
    #[test]
    fn exceptions_are_followed_back_to_the_first_block_of_the_period() {
        let params = Params::new(Network::Testnet4).expect("supported");
        let easy = params.pow_limit.to_compact_lossy().to_consensus();
        for (first_of_period, length) in [(0x1c05_a3f4, 2_020), (0x1c05_a3f4, 2_017), (easy, 2_020), (easy, 2_017)] {
            let chain = chain(&params, length, |height| match height {
                0..2_016 => 0x1c07_0000,
                2_016 => first_of_period,
                _ => easy,
            });
            let time = chain.header(chain.height()).time + 600;
            assert_eq!(next_work_required(&chain, time, &params).to_consensus(), first_of_period);
        }
        // Nor is there one before the genesis block.
        let young = chain(&params, 5, |_| easy);
        assert_eq!(next_work_required(&young, young.header(4).time + 600, &params).to_consensus(), easy);
    }

    #[test]
    fn bip_94_retargets_from_the_first_block_of_the_period() {
        let params = Params::new(Network::Testnet4).expect("supported");
        let easy = params.pow_limit.to_compact_lossy().to_consensus();
        // The period's last block used the exception; only BIP 94 is not misled by it.
        let chain = chain(&params, 2_016, |height| if height == 2_015 { easy } else { 0x1c05_a3f4 });
        let with = next_work_required(&chain, chain.header(2_015).time + 600, &params);
        assert!(Target::from_compact(with) < Target::from_compact(CompactTarget::from_consensus(0x1c05_a3f5)));
        let without = Params { enforce_bip94: false, ..params };
        let misled = next_work_required(&chain, chain.header(2_015).time + 600, &without);
        // 2,015 of 2,016 intervals: a little harder than the exception, where it should be 16 times as hard.
        assert!(Target::from_compact(misled) > Target::from_compact(CompactTarget::from_consensus(0x1c7f_ffff)));
    }

    #[test]
    fn regtest_never_retargets() {
        let params = Params::new(Network::Regtest).expect("supported");
        let chain = chain(&params, 144, |_| 0x207f_ffff);
        assert_eq!(next_work_required(&chain, chain.header(143).time + 1, &params).to_consensus(), 0x207f_ffff);
    }
}
