//! Times of events that nobody can foretell: intervals of a Poisson process.

use rand::{Rng, RngExt};
use std::time::Duration;

/// How long until the next event of a Poisson process whose events come `mean` apart (Core's `rand_exp_duration`), in
/// whole microseconds.
pub fn rand_exp(mean: Duration, rng: &mut (impl Rng + ?Sized)) -> Duration {
    // The quantile function of the exponential distribution, of a uniform number in [0, 1).
    let uniform: f64 = rng.random();
    let scale = -(-uniform).ln_1p();
    // At most 37 times the mean: a float that is too large for an integer saturates.
    Duration::from_micros((scale * mean.as_secs_f64() * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// For an exponential distribution the mean is the standard deviation, and 1/e of all are longer than the mean.
    #[test]
    fn intervals_are_exponentially_distributed() {
        let mut rng = StdRng::seed_from_u64(1);
        let mean = Duration::from_secs(5);
        let many: Vec<f64> = (0..100_000).map(|_| rand_exp(mean, &mut rng).as_secs_f64()).collect();
        let average = many.iter().sum::<f64>() / many.len() as f64;
        let deviation = (many.iter().map(|x| (x - average).powi(2)).sum::<f64>() / many.len() as f64).sqrt();
        let longer = many.iter().filter(|x| **x > 5.0).count() as f64 / many.len() as f64;
        assert!((average - 5.0).abs() < 0.1, "{average}");
        assert!((deviation - 5.0).abs() < 0.1, "{deviation}");
        assert!((longer - 1.0f64.exp().recip()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn a_mean_of_nothing_is_at_once() {
        assert_eq!(rand_exp(Duration::ZERO, &mut StdRng::seed_from_u64(2)), Duration::ZERO);
    }
}
