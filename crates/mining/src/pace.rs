//! When a miner's next block is due.
//!
//! Finding blocks is memoryless: however long a miner has searched, the rest of its search is as long as a whole one. So
//! the time to its next block is exponential, with the network's block time over its share of the work as its mean, and
//! miners whose shares sum to 1 make a network of that block time, with the races that come of it. No clock and no
//! threads here: times are since any moment that the caller chooses.

use rand::{Rng, RngExt};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A wait that nobody sees the end of, for shares so small that a clock cannot count it.
const LONGEST_WAIT: Duration = Duration::from_secs(u32::MAX as u64);

/// A miner's part of the network's work: more than 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

/// A number that is no share.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is no share of a network's work: give more than 0 and at most 1")]
pub struct InvalidShare(pub f64);

impl Share {
    /// All of it: a miner alone.
    pub const WHOLE: Share = Share(1.0);

    /// A fraction of it.
    ///
    /// # Errors
    /// It is not above 0, or above 1.
    pub fn new(fraction: f64) -> Result<Share, InvalidShare> {
        if fraction > 0.0 && fraction <= 1.0 { Ok(Share(fraction)) } else { Err(InvalidShare(fraction)) }
    }

    /// The fraction.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Share {
    fn default() -> Self {
        Share::WHOLE
    }
}

/// How the times between a miner's blocks are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pacing {
    /// As in life: exponential, a Poisson process.
    #[default]
    Poisson,
    /// All alike: a timetable, which other miners' blocks do not change.
    Fixed,
}

/// Text that names no pacing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pacing: give poisson or fixed")]
pub struct InvalidPacing(pub String);

impl FromStr for Pacing {
    type Err = InvalidPacing;

    fn from_str(text: &str) -> Result<Self, InvalidPacing> {
        match text {
            "poisson" => Ok(Pacing::Poisson),
            "fixed" => Ok(Pacing::Fixed),
            other => Err(InvalidPacing(other.into())),
        }
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pacing::Poisson => "poisson",
            Pacing::Fixed => "fixed",
        })
    }
}

/// How fast a miner makes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Time between the network's blocks; zero makes them on demand only.
    pub block_time: Duration,
    /// The miner's part of them.
    pub share: Share,
    /// How the times between them are spread.
    pub pacing: Pacing,
}

impl Pace {
    /// Mean time between this miner's own blocks.
    pub fn mean(&self) -> Duration {
        scaled(self.block_time, 1.0 / self.share.0)
    }

    /// The time from any moment to the next block.
    fn draw(&self, rng: &mut impl Rng) -> Duration {
        match self.pacing {
            Pacing::Fixed => self.mean(),
            // The inverse of the distribution; 1 - u because u may be 0 and is never 1.
            Pacing::Poisson => scaled(self.mean(), -(1.0 - rng.random::<f64>()).ln()),
        }
    }
}

fn scaled(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).map_or(LONGEST_WAIT, |time| time.min(LONGEST_WAIT))
}

/// When blocks are due, one after the other.
///
/// Another miner's block changes nothing here: exponential times are memoryless, so the rest of a time that was drawn is
/// spread over the new tip as a time drawn anew would be. Whoever was searching then searches at once on the new tip for
/// the block that was due.
#[derive(Debug)]
pub struct Schedule<R> {
    pace: Pace,
    /// From when the time to `due` counts.
    since: Duration,
    due: Duration,
    rng: R,
}

impl<R: Rng> Schedule<R> {
    /// A schedule that begins now.
    pub fn new(pace: Pace, now: Duration, mut rng: R) -> Self {
        let due = now + pace.draw(&mut rng);
        Self { pace, since: now, due, rng }
    }

    /// When the next block is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Its pace.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The block that was due is made. The next time counts from when it was due, lest the time that making it took slows
    /// the network. What fell due meanwhile is one block: a search that is slower than the pace runs without a pause.
    pub fn made(&mut self, now: Duration) {
        self.since = self.due;
        self.due = (self.since + self.pace.draw(&mut self.rng)).max(now);
    }

    /// The block that was due could not be made: the next is due a time from now, at least `rest`.
    pub fn failed(&mut self, now: Duration, rest: Duration) {
        self.since = now;
        self.due = now + self.pace.draw(&mut self.rng).max(rest);
    }

    /// Another pace from now on: a time of it is drawn, as if the search began now. A fixed time counts from where the last
    /// one began, so that a pace that is set often does not put off the block for ever.
    pub fn set_pace(&mut self, pace: Pace, now: Duration) {
        if pace == self.pace {
            return;
        }
        self.pace = pace;
        if pace.pacing == Pacing::Poisson {
            self.since = now;
        }
        self.due = (self.since + pace.draw(&mut self.rng)).max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    const SECOND: Duration = Duration::from_secs(1);

    fn poisson(block_time: Duration, share: f64) -> Pace {
        Pace { block_time, share: Share::new(share).unwrap(), pacing: Pacing::Poisson }
    }

    /// The farthest that the distribution of times is from the exponential one of this mean (Kolmogorov and Smirnov).
    fn distance_from_exponential(mut seconds: Vec<f64>, mean: f64) -> f64 {
        seconds.sort_unstable_by(f64::total_cmp);
        let count = seconds.len() as f64;
        let of = |(rank, time): (usize, &f64)| {
            let expected = 1.0 - (-time / mean).exp();
            (expected - rank as f64 / count).abs().max((expected - (rank + 1) as f64 / count).abs())
        };
        seconds.iter().enumerate().map(of).fold(0.0, f64::max)
    }

    /// Beyond this, times of the right distribution are once in ten thousand trials. The seeds are fixed.
    fn allowed_distance(count: usize) -> f64 {
        2.23 / (count as f64).sqrt()
    }

    #[test]
    fn shares_are_above_0_and_at_most_1() {
        for share in [f64::MIN_POSITIVE, 0.5, 1.0] {
            assert_eq!(Share::new(share).unwrap().get(), share);
        }
        for wrong in [0.0, -0.1, 1.0 + f64::EPSILON, f64::INFINITY, f64::NAN] {
            assert!(Share::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pacings_have_names() {
        for pacing in [Pacing::Poisson, Pacing::Fixed] {
            assert_eq!(pacing.to_string().parse(), Ok(pacing));
        }
        assert!("Poisson".parse::<Pacing>().is_err());
    }

    #[test]
    fn a_miners_times_are_exponential() {
        const BLOCKS: usize = 20_000;
        for (seed, share) in [(1, 1.0), (2, 0.3), (3, 0.01)] {
            let mut schedule = Schedule::new(poisson(10 * SECOND, share), SECOND, StdRng::seed_from_u64(seed));
            let (mut last, mut times) = (SECOND, Vec::new());
            for _ in 0..BLOCKS {
                let due = schedule.due();
                times.push((due - last).as_secs_f64());
                last = due;
                schedule.made(due);
            }
            let expected = 10.0 / share;
            let mean = times.iter().sum::<f64>() / BLOCKS as f64;
            // The mean of so many has a deviation of 0.7 %.
            assert!((mean / expected - 1.0).abs() < 0.03, "share {share}: {mean} is not {expected}");
            let distance = distance_from_exponential(times, expected);
            assert!(distance < allowed_distance(BLOCKS), "share {share}: {distance}");
        }
    }

    /// Blocks of a network: who made each, and when.
    fn network(shares: &[f64], block_time: Duration, blocks: usize, seed: u64) -> Vec<(usize, Duration)> {
        let mut miners: Vec<_> = (0..)
            .zip(shares)
            .map(|(i, share)| {
                Schedule::new(poisson(block_time, *share), Duration::ZERO, StdRng::seed_from_u64(seed + i))
            })
            .collect();
        let mut chain = Vec::new();
        while chain.len() < blocks {
            let next = (0..miners.len()).min_by_key(|&miner| miners[miner].due()).unwrap();
            let now = miners[next].due();
            chain.push((next, now));
            miners[next].made(now);
        }
        chain
    }

    #[test]
    fn miners_together_make_the_networks_block_time_and_win_by_their_shares() {
        const BLOCKS: usize = 30_000;
        let shares = [0.5, 0.3, 0.2];
        let chain = network(&shares, 10 * SECOND, BLOCKS, 10);
        let times: Vec<f64> = std::iter::once(Duration::ZERO)
            .chain(chain.iter().map(|(_, time)| *time))
            .zip(&chain)
            .map(|(before, (_, time))| (*time - before).as_secs_f64())
            .collect();
        let mean = times.iter().sum::<f64>() / BLOCKS as f64;
        assert!((mean / 10.0 - 1.0).abs() < 0.025, "{mean}");
        // Not of each miner's own blocks but from every tip, whoever made it: what one miner alone would show.
        let distance = distance_from_exponential(times, 10.0);
        assert!(distance < allowed_distance(BLOCKS), "{distance}");
        for (miner, share) in shares.iter().enumerate() {
            let won = chain.iter().filter(|(winner, _)| *winner == miner).count() as f64 / BLOCKS as f64;
            // Four deviations of a count of so many.
            let allowed = 4.0 * (share * (1.0 - share) / BLOCKS as f64).sqrt();
            assert!((won - share).abs() < allowed, "{miner} won {won}, not {share}");
        }
    }

    #[test]
    fn blocks_race_as_often_as_their_delay_makes_them() {
        const BLOCKS: usize = 50_000;
        let shares = [0.5, 0.3, 0.2];
        let chain = network(&shares, 10 * SECOND, BLOCKS, 20);
        // Half a second passes until the others know of a block.
        let delay = 0.5;
        let races = chain
            .windows(2)
            .filter(|pair| pair[0].0 != pair[1].0 && (pair[1].1 - pair[0].1).as_secs_f64() < delay)
            .count() as f64;
        let others: f64 = 1.0 - shares.iter().map(|share| share * share).sum::<f64>();
        let chance = others * (1.0 - (-delay / 10.0f64).exp());
        let allowed = 4.0 * (chance * (1.0 - chance) * BLOCKS as f64).sqrt();
        assert!((races - chance * BLOCKS as f64).abs() < allowed, "{races}, not {}", chance * BLOCKS as f64);
    }

    #[test]
    fn a_fixed_schedule_keeps_its_times_whatever_the_search_takes() {
        let pace = Pace { block_time: 10 * SECOND, share: Share::new(0.5).unwrap(), pacing: Pacing::Fixed };
        let mut schedule = Schedule::new(pace, 5 * SECOND, StdRng::seed_from_u64(0));
        for n in 1..5 {
            assert_eq!(schedule.due(), 5 * SECOND + 20 * n * SECOND);
            schedule.made(schedule.due() + 3 * SECOND);
        }
        let late = schedule.due() + 100 * SECOND;
        schedule.made(late);
        assert_eq!(schedule.due(), late, "a search that is slower than the pace goes on at once");
    }

    #[test]
    fn a_pace_that_is_set_often_puts_nothing_off() {
        let fixed = |block_time| Pace { block_time, pacing: Pacing::Fixed, ..Pace::default() };
        let mut schedule = Schedule::new(fixed(10 * SECOND), Duration::ZERO, StdRng::seed_from_u64(0));
        for second in 1..10 {
            schedule.set_pace(fixed(10 * SECOND - Duration::from_nanos(second)), second as u32 * SECOND);
        }
        assert_eq!(schedule.due(), 10 * SECOND - Duration::from_nanos(9));
        // The same pace again changes not even an exponential time.
        let mut schedule = Schedule::new(poisson(10 * SECOND, 0.5), Duration::ZERO, StdRng::seed_from_u64(0));
        let due = schedule.due();
        schedule.set_pace(poisson(10 * SECOND, 0.5), SECOND);
        assert_eq!(schedule.due(), due);
    }

    #[test]
    fn a_new_share_holds_at_once() {
        const TRIALS: usize = 20_000;
        let mut rng = StdRng::seed_from_u64(30);
        let mut times = Vec::new();
        for _ in 0..TRIALS {
            // A thousandth of the work: it would last for hours.
            let mut schedule = Schedule::new(poisson(10 * SECOND, 0.001), Duration::ZERO, &mut rng);
            schedule.set_pace(poisson(10 * SECOND, 1.0), 7 * SECOND);
            times.push((schedule.due() - 7 * SECOND).as_secs_f64());
        }
        let distance = distance_from_exponential(times, 10.0);
        assert!(distance < allowed_distance(TRIALS), "{distance}");
    }

    proptest! {
        #[test]
        fn no_time_overflows_and_none_is_in_the_past(
            block_time in 0u64..=86_400, share in prop_oneof![0.0f64..=1.0, Just(f64::MIN_POSITIVE)],
            seed: u64, steps in prop::collection::vec((0u8..3, 0u32..1_000_000), 0..20), fixed: bool,
        ) {
            prop_assume!(share > 0.0);
            let pacing = if fixed { Pacing::Fixed } else { Pacing::Poisson };
            let mut pace = Pace { block_time: Duration::from_secs(block_time), share: Share::new(share).unwrap(), pacing };
            let mut now = Duration::ZERO;
            let mut schedule = Schedule::new(pace, now, StdRng::seed_from_u64(seed));
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds.into());
                match step {
                    0 => {
                        now = now.max(schedule.due());
                        schedule.made(now);
                    }
                    1 => {
                        schedule.failed(now, SECOND);
                        prop_assert!(schedule.due() >= now + SECOND);
                    }
                    _ => {
                        pace.share = Share::new(f64::from(seconds + 1) / 1e6).unwrap();
                        schedule.set_pace(pace, now);
                    }
                }
                prop_assert!(step == 2 || schedule.due() >= now);
                prop_assert_eq!(schedule.pace(), pace);
            }
        }
    }
}
