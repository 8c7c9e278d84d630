//! A queue of bits.

use std::collections::VecDeque;

/// Words that the queue grows by: it never holds more than so many in vain.
const GROWTH: usize = 64;

/// Bits, first in first out, eight to a byte.
#[derive(Debug, Default)]
pub(super) struct BitQueue {
    words: VecDeque<u64>,
    /// Bits of the first word that were taken.
    taken: u32,
    len: u64,
}

impl BitQueue {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    pub(super) fn push(&mut self, bit: bool) {
        let at = (u64::from(self.taken) + self.len) % u64::from(u64::BITS);
        if at == 0 {
            // Doubling would make half of it empty.
            if self.words.len() == self.words.capacity() {
                self.words.reserve_exact(GROWTH);
            }
            self.words.push_back(0);
        }
        if let Some(word) = self.words.back_mut() {
            *word |= u64::from(bit) << at;
        }
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<bool> {
        if self.len == 0 {
            return None;
        }
        let bit = self.words.front()? >> self.taken & 1 == 1;
        self.len -= 1;
        self.taken += 1;
        if self.taken == u64::BITS {
            self.words.pop_front();
            self.taken = 0;
        } else if self.len == 0 {
            // The word is not full: what is pushed next starts another.
            self.words.clear();
            self.taken = 0;
        }
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_out_as_they_went_in(steps in proptest::collection::vec(any::<(bool, bool)>(), 0..2_000)) {
            let (mut queue, mut model) = (BitQueue::default(), VecDeque::new());
            for (push, bit) in steps {
                if push || bit {
                    queue.push(bit);
                    model.push_back(bit);
                } else {
                    prop_assert_eq!(queue.pop(), model.pop_front());
                }
                prop_assert_eq!(queue.len(), model.len() as u64);
                prop_assert!(queue.memory() <= (model.len() / 64 + 2 + GROWTH) * 8);
            }
            while let Some(bit) = model.pop_front() {
                prop_assert_eq!(queue.pop(), Some(bit));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
