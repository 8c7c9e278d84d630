//! Fees over sizes, compared without rounding, and Core's rules for rounding them.

use std::cmp::Ordering;

/// A fee in satoshi over a size (weight units or vbytes, as the user says). Ordered by ratio, exactly. Negative where
/// an operator has prioritised downwards.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FeeFrac {
    pub(crate) fee: i64,
    pub(crate) size: u64,
}

impl FeeFrac {
    pub(crate) fn new(fee: i64, size: u64) -> Self {
        Self { fee, size }
    }

    /// Fee and size of both together. Only an operator's deltas reach the bounds.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { fee: self.fee.saturating_add(other.fee), size: self.size + other.size }
    }

    /// Compares the ratios; nothing over nothing counts as a rate of zero.
    pub(crate) fn cmp_rate(&self, other: &Self) -> Ordering {
        let cross = |fee: i64, size: u64| i128::from(fee) * i128::from(size.max(1));
        cross(self.fee, other.size).cmp(&cross(other.fee, self.size))
    }

    /// A fraction of weight as one of vbytes (Core's `ToFeePerVSize`).
    pub(crate) fn weight_to_vsize(self) -> Self {
        Self { fee: self.fee, size: self.size.div_ceil(4) }
    }

    /// Fee of 1,000 units of size, rounded down (Core's `GetFeePerK`).
    pub(crate) fn per_thousand(self) -> i64 {
        let rate = (i128::from(self.fee) * 1000).div_euclid(i128::from(self.size.max(1)));
        rate.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// The fee for `vsize` vbytes at `rate` satoshi for 1,000 vbytes, rounded up (Core's `CFeeRate::GetFee`).
pub(crate) fn fee_at_rate(rate: u64, vsize: u64) -> u64 {
    (u128::from(rate) * u128::from(vsize)).div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// Compares two feerate diagrams, given as chunks in order of falling rate (Core's `CompareChunks`): `None` when each
/// is better somewhere.
pub(crate) fn compare_diagrams(left: &[FeeFrac], right: &[FeeFrac]) -> Option<Ordering> {
    let (left, right) = (points(left), points(right));
    let (mut left_better, mut right_better) = (false, false);
    for &(size, _) in left.iter().chain(&right) {
        match compare_at(&left, &right, size) {
            Ordering::Greater => left_better = true,
            Ordering::Less => right_better = true,
            Ordering::Equal => {}
        }
    }
    match (left_better, right_better) {
        (true, true) => None,
        (left, right) => Some(left.cmp(&right)),
    }
}

/// Corners of a diagram: cumulative size and fee, from the origin.
fn points(chunks: &[FeeFrac]) -> Vec<(u64, i64)> {
    let mut at: (u64, i64) = (0, 0);
    let mut points = vec![at];
    for chunk in chunks {
        at = (at.0 + chunk.size, at.1.saturating_add(chunk.fee));
        points.push(at);
    }
    points
}

/// Compares the heights of two diagrams at a size. Both are straight between corners, so comparing at the corners of
/// both compares them everywhere.
fn compare_at(left: &[(u64, i64)], right: &[(u64, i64)], size: u64) -> Ordering {
    let (left_numerator, left_denominator) = height_at(left, size);
    let (right_numerator, right_denominator) = height_at(right, size);
    // Sizes are below 2^30 and fees below 2^63: the products stay below 2^127.
    (left_numerator * right_denominator).cmp(&(right_numerator * left_denominator))
}

/// The height of a diagram at a size, as a fraction; flat beyond its end.
fn height_at(points: &[(u64, i64)], size: u64) -> (i128, i128) {
    let after = points.partition_point(|point| point.0 < size);
    let Some(&(right_size, right_fee)) = points.get(after) else {
        return (points.last().map_or(0, |point| i128::from(point.1)), 1);
    };
    if right_size == size || after == 0 {
        return (i128::from(right_fee), 1);
    }
    let (left_size, left_fee) = points[after - 1];
    let width = i128::from(right_size - left_size);
    let part = i128::from(size - left_size) * (i128::from(right_fee) - i128::from(left_fee));
    (i128::from(left_fee) * width + part, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_compare_exactly() {
        let rate = |fee, size| FeeFrac::new(fee, size);
        assert_eq!(rate(1, 3).cmp_rate(&rate(2, 6)), Ordering::Equal);
        assert_eq!(
            rate(2_100_000_000_000_000, 400_000).cmp_rate(&rate(2_099_999_999_999_999, 400_000)),
            Ordering::Greater
        );
        assert_eq!(rate(0, 0).cmp_rate(&rate(0, 7)), Ordering::Equal);
        assert_eq!(rate(-1, 3).cmp_rate(&rate(-1, 4)), Ordering::Less);
        assert_eq!(rate(i64::MIN, u64::MAX >> 1).cmp_rate(&rate(i64::MAX, 1)), Ordering::Less);
    }

    #[test]
    fn fees_round_up_and_rates_round_down() {
        assert_eq!(fee_at_rate(100, 141), 15);
        assert_eq!(fee_at_rate(100, 140), 14);
        assert_eq!(fee_at_rate(0, 140), 0);
        assert_eq!(FeeFrac::new(1, 3).per_thousand(), 333);
        assert_eq!(FeeFrac::new(-1, 3).per_thousand(), -334);
        assert_eq!(FeeFrac::new(i64::MAX, 1).per_thousand(), i64::MAX);
        assert_eq!(FeeFrac::new(10, 5).weight_to_vsize().size, 2);
    }

    #[test]
    fn diagrams_compare_as_areas_do() {
        let one = [FeeFrac::new(100, 10)];
        let better = [FeeFrac::new(101, 10)];
        let crossing = [FeeFrac::new(90, 5), FeeFrac::new(5, 5)];
        let same_in_two = [FeeFrac::new(50, 5), FeeFrac::new(50, 5)];
        assert_eq!(compare_diagrams(&one, &better), Some(Ordering::Less));
        assert_eq!(compare_diagrams(&better, &one), Some(Ordering::Greater));
        assert_eq!(compare_diagrams(&one, &same_in_two), Some(Ordering::Equal));
        assert_eq!(compare_diagrams(&one, &crossing), None);
        assert_eq!(compare_diagrams(&[], &one), Some(Ordering::Less));
        assert_eq!(compare_diagrams(&[], &[]), Some(Ordering::Equal));
        // A larger diagram that ends as high is better nowhere.
        assert_eq!(compare_diagrams(&one, &[FeeFrac::new(100, 20)]), Some(Ordering::Greater));
    }
}
