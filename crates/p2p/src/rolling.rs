//! Rolling Bloom filters: which of the last N things were seen.

use bitcoin::hashes::siphash24;

/// Things kept exactly, before bits are worth their memory: most filters of most peers never see more.
const FEW: usize = 1024;

/// A set that forgets what is old, as Core's `CRollingBloomFilter`.
///
/// It remembers the last N that were inserted, up to 1.5 N, and takes what it never saw for seen at a given rate at
/// most. Peers cannot choose what collides: hashes are salted, anew with every reset. It has no memory allocated before
/// the first insertion and after a reset, holds the first thousand exactly (8 KiB), and then takes 1.8 bytes for each
/// of N and each factor of a tenth in the rate.
#[derive(Debug, Clone)]
pub struct RollingBloomFilter {
    /// A filter keeps two to three generations; the youngest is being filled.
    entries_per_generation: u32,
    entries_this_generation: u32,
    /// 1, 2 or 3.
    generation: u8,
    hashes: u32,
    /// Pairs of words once there is a table. A bit of the first and its bit of the second tell the generation that set
    /// this position last, or zero.
    table_words: usize,
    salt: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Fingerprints, sorted.
    Few(Vec<u64>),
    Table(Vec<u64>),
}

impl RollingBloomFilter {
    /// A filter that remembers `elements` at least, with at most `fp_rate` false positives (above 0, below 1). The seed
    /// is secret and random.
    pub fn new(elements: u32, fp_rate: f64, seed: u64) -> Self {
        let log_rate = fp_rate.clamp(f64::MIN_POSITIVE, 0.999).ln();
        let hashes = (log_rate / 0.5f64.ln()).round().clamp(1.0, 50.0);
        let entries_per_generation = elements.div_ceil(2).max(1);
        // From rate = (1 - exp(-hashes * entries / bits)) ^ hashes, with three generations full.
        let bits = (-hashes * f64::from(entries_per_generation) * 3.0 / (1.0 - (log_rate / hashes).exp()).ln()).ceil();
        Self {
            entries_per_generation,
            entries_this_generation: 0,
            generation: 1,
            hashes: hashes as u32,
            table_words: (bits as usize).div_ceil(64) * 2,
            salt: seed,
            content: Content::Few(Vec::new()),
        }
    }

    /// Remembers a key.
    pub fn insert(&mut self, key: &[u8]) {
        let fingerprint = self.fingerprint(key);
        let few = FEW.min(self.entries_per_generation as usize).min(self.table_words);
        match &mut self.content {
            Content::Few(known) => {
                let Err(place) = known.binary_search(&fingerprint) else { return };
                if known.len() < few {
                    known.insert(place, fingerprint);
                    return;
                }
                let known = std::mem::take(known);
                self.content = Content::Table(vec![0; self.table_words]);
                for earlier in known {
                    self.set(earlier);
                }
            }
            Content::Table(_) => {}
        }
        self.set(fingerprint);
    }

    /// Whether a key was inserted lately; a false positive now and then.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.content {
            Content::Few(known) if known.is_empty() => false,
            Content::Few(known) => known.binary_search(&self.fingerprint(key)).is_ok(),
            Content::Table(table) => positions(self.fingerprint(key), self.hashes, table.len())
                .all(|(word, bit)| (table[word] | table[word + 1]) >> bit & 1 == 1),
        }
    }

    /// Forgets everything, gives the memory back and salts anew.
    pub fn reset(&mut self) {
        self.salt = mix(self.salt);
        self.entries_this_generation = 0;
        self.generation = 1;
        self.content = Content::Few(Vec::new());
    }

    fn fingerprint(&self, key: &[u8]) -> u64 {
        siphash24::Hash::hash_to_u64_with_keys(self.salt, mix(self.salt ^ 1), key)
    }

    /// Sets a fingerprint's positions in the table, if there is one.
    fn set(&mut self, fingerprint: u64) {
        let Content::Table(table) = &mut self.content else { return };
        if self.entries_this_generation == self.entries_per_generation {
            self.entries_this_generation = 0;
            self.generation = self.generation % 3 + 1;
            let (first, second) = masks(self.generation);
            for pair in table.chunks_exact_mut(2) {
                let others = (pair[0] ^ first) | (pair[1] ^ second);
                pair[0] &= others;
                pair[1] &= others;
            }
        }
        self.entries_this_generation += 1;
        let (first, second) = masks(self.generation);
        for (word, bit) in positions(fingerprint, self.hashes, table.len()) {
            let mask = 1u64 << bit;
            table[word] = table[word] & !mask | first & mask;
            table[word + 1] = table[word + 1] & !mask | second & mask;
        }
    }
}

/// A generation's two bits, each throughout a word.
fn masks(generation: u8) -> (u64, u64) {
    (0u64.wrapping_sub(u64::from(generation & 1)), 0u64.wrapping_sub(u64::from(generation >> 1)))
}

/// Where a fingerprint's bits are in a table: the first word of a pair, and the bit in both.
fn positions(fingerprint: u64, hashes: u32, words: usize) -> impl Iterator<Item = (usize, u32)> {
    (1..=u64::from(hashes)).map(move |n| {
        let hash = mix(fingerprint.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let pair = (u128::from(hash) * (words as u128 / 2)) >> 64;
        (pair as usize * 2, (hash & 63) as u32)
    })
}

/// SplitMix64's finalizer.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn allocated(filter: &RollingBloomFilter) -> usize {
        match &filter.content {
            Content::Few(known) => known.capacity() * 8,
            Content::Table(table) => table.len() * 8,
        }
    }

    #[test]
    fn the_last_n_are_always_remembered() {
        for (elements, rate) in [(1, 0.5), (2, 0.1), (10, 0.01), (99, 0.000_1), (1500, 0.001), (5000, 0.000_001)] {
            let mut filter = RollingBloomFilter::new(elements, rate, 7);
            for n in 0..20_000u64 {
                filter.insert(&key(n));
                // All of them now and then, and the oldest that must be there always.
                assert!(filter.contains(&key(n.saturating_sub(u64::from(elements) - 1))), "{n} of {elements}");
                if n % 4999 == 0 {
                    assert!((n.saturating_sub(u64::from(elements) - 1)..=n).all(|m| filter.contains(&key(m))));
                }
            }
        }
    }

    /// It rolls: what is older than one and a half times N is gone, but for false positives.
    #[test]
    fn what_is_old_is_forgotten() {
        let mut filter = RollingBloomFilter::new(4000, 0.001, 1);
        (0..50_000).for_each(|n| filter.insert(&key(n)));
        let old = (0..44_000).filter(|n| filter.contains(&key(*n))).count();
        assert!(old < 88, "{old} of 44,000 at a rate of 0.001");
    }

    #[test]
    fn false_positives_keep_to_the_rate_at_every_fill() {
        for (rate, seed) in [(0.1, 1), (0.01, 2), (0.001, 3)] {
            let mut filter = RollingBloomFilter::new(3000, rate, seed);
            let (mut positives, mut tried, mut at_worst) = (0, 0, 0.0f64);
            for n in 0..30_000u64 {
                filter.insert(&key(n));
                if n > 10_000 && n % 100 == 99 {
                    let asked = 2000;
                    let found = (0..asked).filter(|m| filter.contains(&key(1 << 40 | n << 16 | m))).count();
                    positives += found;
                    tried += asked;
                    at_worst = at_worst.max(found as f64 / asked as f64);
                }
            }
            let measured = positives as f64 / tried as f64;
            // Averaged over fills, it is below what three full generations give, and no better than two would.
            assert!(measured < rate && measured > rate / 20.0, "{measured} for {rate}");
            assert!(at_worst < rate * 1.3 + 0.008, "{at_worst} for {rate}");
        }
    }

    /// The filters that count: one in a million.
    #[test]
    fn a_rate_of_a_millionth_is_kept() {
        let mut filter = RollingBloomFilter::new(50_000, 0.000_001, 3);
        (0..75_000).for_each(|n| filter.insert(&key(n)));
        let found = (0..3_000_000u64).filter(|n| filter.contains(&key(1 << 40 | n))).count();
        assert!(found <= 12, "{found} of 3,000,000");
    }

    #[test]
    fn memory_comes_when_it_is_needed_and_goes_with_a_reset() {
        let mut filter = RollingBloomFilter::new(50_000, 0.000_001, 5);
        assert_eq!(allocated(&filter), 0);
        (0..1024).for_each(|n| filter.insert(&key(n)));
        assert_eq!(allocated(&filter), 8 * 1024);
        filter.insert(&key(1024));
        // Core's estimate: 3 / (ln 256 ln 2) * ln(1 / rate) * elements.
        assert!((500_000..600_000).contains(&allocated(&filter)), "{}", allocated(&filter));
        assert!((0..=1024).all(|n| filter.contains(&key(n))));
        filter.reset();
        assert_eq!(allocated(&filter), 0);
        assert!(!(0..=1024).any(|n| filter.contains(&key(n))));
    }

    #[test]
    fn what_is_a_false_positive_is_another_after_a_reset() {
        let mut filter = RollingBloomFilter::new(100, 0.1, 9);
        let mut found = || {
            (0..150).for_each(|n| filter.insert(&key(n)));
            let found: Vec<u64> = (1000..3000).filter(|n| filter.contains(&key(*n))).collect();
            filter.reset();
            found
        };
        assert_ne!(found(), found());
    }

    /// Wild parameters make a small filter, not a panic or a huge one.
    #[test]
    fn any_parameters_will_do() {
        for (elements, rate) in [(0, 0.5), (0, 0.0), (1, 1.0), (3, 2.0), (3, -1.0)] {
            let mut filter = RollingBloomFilter::new(elements, rate, 1);
            (0..10).for_each(|n| filter.insert(&key(n)));
            assert!(filter.contains(&key(9)), "{elements} {rate}");
        }
    }
}
