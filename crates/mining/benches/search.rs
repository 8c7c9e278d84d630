//! How close the proof-of-work search comes to the processor's bound: two bare SHA-256 compressions a hash.
//!
//! `cargo bench -p cairn-mining`
//!
//! Both are measured in turns, in rounds of a fraction of a millisecond. Each keeps its best round, and the median of the
//! rounds' own ratios is told too: other load on the machine, or another clock rate, touches neither more than the other.
//! The bound is the fastest of several ways to call the same compression
//! function with nothing around it: chained, and on independent states that overlap in the pipeline.

use bitcoin::{CompactTarget, constants::genesis_block};
use cairn_mining::search_nonces;
use sha2::block_api::compress256;
use std::hint::black_box;
use std::slice::from_ref;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const NONCES: u32 = 1 << 12;
const ROUNDS: usize = 3000;

fn main() {
    let mut header = genesis_block(bitcoin::Network::Regtest).header;
    // No hash is at or below a target of 1.
    header.bits = CompactTarget::from_consensus(0x0101_0000);
    let stop = AtomicBool::new(false);
    let (mut search, mut bound) = (f64::INFINITY, f64::INFINITY);
    let mut ratios = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let bares = [bare::<1>, bare::<2>, bare::<4>, bare::<8>];
        let bare = bares.map(|bare| seconds(|| bare(2 * NONCES as usize))).into_iter().fold(f64::INFINITY, f64::min);
        let ours = seconds(|| {
            assert_eq!(search_nonces(black_box(&header), 0, NONCES - 1, &stop), None);
        });
        (search, bound) = (search.min(ours), bound.min(bare));
        ratios.push(bare / ours);
    }
    ratios.sort_by(f64::total_cmp);
    let search = f64::from(NONCES) / search / 1e6;
    let bound = f64::from(NONCES) / bound / 1e6;
    println!("SHA-256d search, one thread, {ROUNDS} rounds of {NONCES} nonces");
    println!("search, best round                     {search:8.3} MH/s");
    println!("bound (two bare compressions a hash)   {bound:8.3} MH/s");
    println!("ratio of the best rounds               {:8.1} %", 100.0 * search / bound);
    println!("median of the ratios round by round    {:8.1} %", 100.0 * ratios[ROUNDS / 2]);
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// `compressions` of the same block, on `STATES` states in turn.
fn bare<const STATES: usize>(compressions: usize) {
    let mut states = [[1u32; 8]; STATES];
    let block = [7u8; 64];
    for _ in 0..compressions / STATES {
        for state in &mut states {
            compress256(state, from_ref(black_box(&block)));
        }
    }
    black_box(states);
}
