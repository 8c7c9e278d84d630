//! What a signet's retargets make of a miner's pace, in simulated time: its hashes are counted and not computed.

use bitcoin::block::Header;
use bitcoin::{Network, ScriptBuf, Target};
use cairn_consensus::params::Params;
use cairn_consensus::pow::{Ancestors, next_work_required};
use cairn_mining::pace::{Pace, Schedule};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// A signet of one miner.
struct Signet {
    params: Params,
    headers: Vec<Header>,
    /// Seconds that a search takes at the least difficulty.
    search: f64,
    schedule: Schedule<StdRng>,
    rng: StdRng,
}

impl Ancestors for Signet {
    fn height(&self) -> u32 {
        self.headers.len() as u32 - 1
    }
    fn header(&self, height: u32) -> Header {
        self.headers[height as usize]
    }
}

impl Signet {
    /// Retargets aim at `target` seconds between blocks, and the miner at `pace`.
    fn new(target: u32, pace: f64, search: f64) -> Signet {
        let params = Params::signet(ScriptBuf::from_bytes(vec![0x51]), Some(target)).unwrap();
        let mut genesis = params.genesis.header;
        // The first block comes when the genesis block is of now: other signets of today begin with a gap of years.
        genesis.time = 1_700_000_000;
        let pace = Pace { block_time: Duration::from_secs_f64(pace), ..Pace::default() };
        let now = Duration::from_secs(genesis.time.into());
        let schedule = Schedule::new(pace, now, StdRng::seed_from_u64(1));
        Signet { params, headers: vec![genesis], search, schedule, rng: StdRng::seed_from_u64(2) }
    }

    /// Difficulty of the next block, 1 being the least.
    fn difficulty(&self) -> f64 {
        let least = self.params.genesis.header.target().difficulty_float();
        Target::from_compact(next_work_required(self, 0, &self.params)).difficulty_float() / least
    }

    /// Makes a difficulty period's blocks; returns their mean time in seconds.
    fn period(&mut self) -> f64 {
        let blocks = self.params.difficulty_adjustment_interval();
        let first = self.headers.last().unwrap().time;
        for _ in 0..blocks {
            let bits = next_work_required(self, 0, &self.params);
            let found = -(1.0 - self.rng.random::<f64>()).ln() * self.search * self.difficulty();
            let now = self.schedule.due() + Duration::from_secs_f64(found);
            self.schedule.made(now);
            let last = *self.headers.last().unwrap();
            let time = u32::try_from(now.as_secs()).unwrap();
            self.headers.push(Header { bits, time, prev_blockhash: last.block_hash(), ..last });
        }
        f64::from(self.headers.last().unwrap().time - first) / f64::from(blocks)
    }
}

/// The seconds are whole, and the times random: of so many blocks the mean is this near.
fn near(seconds: f64, expected: f64, blocks: u32) -> bool {
    (seconds / expected - 1.0).abs() < 5.0 / f64::from(blocks).sqrt()
}

#[test]
fn at_the_pace_that_retargets_aim_at_blocks_stay_easy() {
    // A period has 2016 blocks.
    let mut signet = Signet::new(600, 600.0, 1.0);
    for _ in 0..4 {
        let mean = signet.period();
        assert!(near(mean, 600.0, 2016), "{mean}");
        assert!(signet.difficulty() < 1.2, "{}", signet.difficulty());
    }
}

#[test]
fn a_pace_that_is_quicker_lasts_until_the_search_is_slower() {
    // A period has 168 blocks.
    let mut signet = Signet::new(7200, 60.0, 1.0);
    let mean = signet.period();
    assert!(near(mean, 60.0, 168), "{mean}");
    assert!((signet.difficulty() - 4.0).abs() < 0.01, "no retarget is by more than four: {}", signet.difficulty());
    for _ in 0..8 {
        signet.period();
    }
    // Seven thousand seconds for a search: the pace does not hold any more, and the block time does.
    let periods: Vec<f64> = (0..8).map(|_| signet.period()).collect();
    let mean = periods.iter().sum::<f64>() / 8.0;
    assert!(near(mean, 7200.0, 8 * 168), "{periods:?}");
    assert!(signet.difficulty() > 5000.0, "{}", signet.difficulty());
}

#[test]
fn the_public_signet_has_the_same_rule() {
    let ours = Params::signet(ScriptBuf::from_bytes(vec![0x51]), None).unwrap();
    let public = Params::new(Network::Signet).unwrap();
    assert_eq!(ours.difficulty_adjustment_interval(), public.difficulty_adjustment_interval());
    assert_eq!(ours.pow_limit, public.pow_limit);
}
