//! Which of the last things were seen, within a bound.

use std::collections::HashSet;
use std::hash::Hash;

/// Remembers at least the last `at_least` things, and at most half as many again. It takes memory only as it fills.
///
/// Things are hashes by a secret key: what is not there seems to be as often as hashes are alike.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    generation: usize,
    /// The newest first.
    generations: [HashSet<T>; 3],
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub(crate) fn new(at_least: usize) -> Self {
        Self { generation: at_least.div_ceil(2), generations: Default::default() }
    }

    pub(crate) fn insert(&mut self, thing: T) {
        if self.generations[0].len() >= self.generation {
            self.generations.rotate_right(1);
            self.generations[0] = HashSet::new();
        }
        self.generations[0].insert(thing);
    }

    pub(crate) fn contains(&self, thing: &T) -> bool {
        self.generations.iter().any(|generation| generation.contains(thing))
    }

    pub(crate) fn clear(&mut self) {
        self.generations = Default::default();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.generations.iter().map(HashSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_and_the_first_forgotten() {
        let mut recent = Recent::new(10);
        for n in 0..1000_u32 {
            recent.insert(n);
            for last in n.saturating_sub(9)..=n {
                assert!(recent.contains(&last), "{last} after {n}");
            }
            assert!(recent.len() <= 15);
        }
        assert!(!recent.contains(&984));
        recent.insert(995);
        recent.clear();
        assert_eq!(recent.len(), 0);
        assert!(!recent.contains(&995));
    }
}
