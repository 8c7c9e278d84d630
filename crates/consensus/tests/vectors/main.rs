//! Bitcoin Core's public test vectors, whole, and properties that need independent implementations.

mod asm;
mod bip341;
mod blockfilters;
mod chainparams;
mod core_data;
mod no_panic;
mod pow;
mod script_tests;
mod sighash;
mod tapscript;
mod transactions;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `check` on every case, on all cores, and fails with every message at once.
fn for_each<T: Sync>(cases: &[T], check: impl Fn(usize, &T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut failures = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return failures };
            if let Err(message) = check(index, case) {
                failures.push(format!("case {index}: {message}"));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("the failing check has said why")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn flags(&mut self) -> cairn_consensus::script::ScriptFlags {
        cairn_consensus::script::ScriptFlags::from_bits(self.next() as u32)
    }
}
