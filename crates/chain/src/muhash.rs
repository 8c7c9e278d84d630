//! MuHash3072: a hash of a set that does not depend on its order, as Core's `crypto/muhash.h`.
//!
//! An element becomes a number of 3072 bits; the set is the product of its elements modulo `2^3072 - 1103717`.

use bitcoin::hashes::{Hash, sha256};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use crypto_bigint::{Limb, U3072};

/// The modulus is `2^3072` less this.
const PRIME_DIFF: Limb = Limb(1_103_717);
const BYTES: usize = 384;

/// The running hash of a set.
#[derive(Debug, Clone)]
pub(crate) struct MuHash(U3072);

impl Default for MuHash {
    fn default() -> Self {
        Self(U3072::ONE)
    }
}

/// The number that stands for an element.
fn number(element: &[u8]) -> U3072 {
    let key = sha256::Hash::hash(element).to_byte_array();
    let mut bytes = [0; BYTES];
    ChaCha20Legacy::new(&key.into(), &[0; 8].into()).apply_keystream(&mut bytes);
    U3072::from_le_slice(&bytes)
}

impl MuHash {
    /// Adds an element.
    pub(crate) fn insert(&mut self, element: &[u8]) {
        self.multiply(&number(element));
    }

    fn multiply(&mut self, by: &U3072) {
        self.0 = self.0.mul_mod_special(by, PRIME_DIFF);
    }

    /// The set's hash.
    pub(crate) fn finish(&self) -> [u8; 32] {
        // The product with one is below the modulus.
        let reduced = self.0.mul_mod_special(&U3072::ONE, PRIME_DIFF);
        sha256::Hash::hash(reduced.to_le_bytes().as_ref()).to_byte_array()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_bigint::Odd;
    use proptest::prelude::*;

    impl MuHash {
        /// Takes an element away, which need not have been added yet.
        fn remove(&mut self, element: &[u8]) {
            let modulus = Odd::new(U3072::ZERO.wrapping_sub(&U3072::from_u64(PRIME_DIFF.0))).expect("odd");
            self.multiply(&number(element).invert_odd_mod_vartime(&modulus).expect("not a multiple of the prime"));
        }
    }

    fn element(first: u8) -> [u8; 32] {
        let mut element = [0; 32];
        element[0] = first;
        element
    }

    #[test]
    fn agrees_with_cores_vector() {
        // src/test/crypto_tests.cpp, muhash_tests.
        let mut hash = MuHash::default();
        hash.insert(&element(0));
        hash.insert(&element(1));
        hash.remove(&element(2));
        let expected = "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863";
        assert_eq!(printed(hash.finish()), expected);
    }

    /// As Core prints a `uint256`: last byte first.
    fn printed(mut hash: [u8; 32]) -> String {
        hash.reverse();
        bitcoin::hex::DisplayHex::to_lower_hex_string(&hash)
    }

    #[test]
    fn a_number_that_is_not_below_the_modulus_is_reduced() {
        // The same test's overflow: 2^3072 - 1.
        let hash = MuHash(U3072::MAX);
        let expected = "3a31e6903aff0de9f62f9a9f7f8b861de76ce2cda09822b90014319ae5dc2271";
        assert_eq!(bitcoin::hex::DisplayHex::to_lower_hex_string(&hash.finish()), expected);
    }

    proptest! {
        #[test]
        fn order_is_of_no_consequence_and_removing_undoes(
            first in prop::collection::vec(any::<u8>(), 0..6), second in prop::collection::vec(any::<u8>(), 0..6)
        ) {
            let mut forwards = MuHash::default();
            first.iter().chain(&second).for_each(|&n| forwards.insert(&element(n)));
            let mut backwards = MuHash::default();
            second.iter().rev().chain(&first).for_each(|&n| backwards.insert(&element(n)));
            prop_assert_eq!(forwards.finish(), backwards.finish());
            second.iter().for_each(|&n| forwards.remove(&element(n)));
            let mut only_first = MuHash::default();
            first.iter().for_each(|&n| only_first.insert(&element(n)));
            prop_assert_eq!(forwards.finish(), only_first.finish());
        }
    }
}
