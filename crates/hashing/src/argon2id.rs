//! Argon2id (RFC 9106) with bounded parameters.

use crate::HashError;
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

/// Bounds of each parameter: what one task may cost a worker is here.
pub mod bounds {
    use std::ops::RangeInclusive;

    /// KiB of memory: at most 64 MiB.
    pub const MEMORY_KIB: RangeInclusive<u32> = 8..=65_536;
    /// Passes over the memory.
    pub const ITERATIONS: RangeInclusive<u32> = 1..=10;
    /// Lanes.
    pub const PARALLELISM: RangeInclusive<u32> = 1..=4;
    /// Bytes of the result.
    pub const LENGTH: RangeInclusive<u32> = 16..=64;
    /// Bytes of the salt.
    pub const SALT: RangeInclusive<u32> = 8..=64;
}

/// Parameters of argon2id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2id {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Bytes of the result.
    pub length: u32,
    /// The salt.
    #[serde(with = "salt")]
    pub salt: Vec<u8>,
}

impl Argon2id {
    /// The defaults of OWASP's advice (19 MiB, two passes, one lane), 32 bytes, with a salt of 16 random bytes.
    #[must_use]
    pub fn with_random_salt() -> Argon2id {
        let salt = rand::random::<[u8; 16]>().to_vec();
        Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1, length: 32, salt }
    }

    /// Whether each parameter is within its bounds, and all are together.
    ///
    /// # Errors
    /// [`HashError::OutOfBounds`] with the parameter's name; [`HashError::Argon2`] for less memory than the lanes need.
    pub fn check(&self) -> Result<(), HashError> {
        let salt = u32::try_from(self.salt.len()).unwrap_or(u32::MAX);
        let each = [
            ("memory_kib", self.memory_kib, bounds::MEMORY_KIB),
            ("iterations", self.iterations, bounds::ITERATIONS),
            ("parallelism", self.parallelism, bounds::PARALLELISM),
            ("length", self.length, bounds::LENGTH),
            ("the salt's length", salt, bounds::SALT),
        ];
        for (name, given, allowed) in each {
            if !allowed.contains(&given) {
                let (given, least, most) = (given.into(), (*allowed.start()).into(), (*allowed.end()).into());
                return Err(HashError::OutOfBounds { name, given, least, most });
            }
        }
        self.params().map(drop)
    }

    fn params(&self) -> Result<Params, HashError> {
        Params::new(self.memory_kib, self.iterations, self.parallelism, Some(self.length as usize))
            .map_err(|error| HashError::Argon2(error.to_string()))
    }

    /// The hash of `input` as a PHC string, `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, and its bytes.
    ///
    /// # Errors
    /// Parameters that [`Argon2id::check`] refuses.
    pub(crate) fn hash(&self, input: &[u8]) -> Result<(String, Vec<u8>), HashError> {
        self.check()?;
        let mut digest = vec![0; self.length as usize];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?)
            .hash_password_into(input, &self.salt, &mut digest)
            .map_err(|error| HashError::Argon2(error.to_string()))?;
        let Argon2id { memory_kib, iterations, parallelism, .. } = self;
        let (salt, hash) = (BASE64_NOPAD.encode(&self.salt), BASE64_NOPAD.encode(&digest));
        Ok((format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${salt}${hash}"), digest))
    }

    /// The parameters in words that differ wherever they differ.
    pub(crate) fn identity(&self) -> String {
        let Argon2id { memory_kib, iterations, parallelism, length, salt } = self;
        format!("m={memory_kib},t={iterations},p={parallelism},l={length},s={}", HEXLOWER.encode(salt))
    }
}

/// A salt in a task: hex.
mod salt {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(salt: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(salt))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        HEXLOWER.decode(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small() -> Argon2id {
        Argon2id { memory_kib: 64, iterations: 2, parallelism: 1, length: 32, salt: b"somesalt".to_vec() }
    }

    #[test]
    fn a_hash_is_that_of_the_reference_implementation() {
        // `phc-winner-argon2`'s test.c: version 0x13, argon2id, t = 2, m = 8 (2^8 KiB), p = 1, "password", "somesalt".
        let parameters = Argon2id { memory_kib: 256, ..small() };
        let (text, digest) = parameters.hash(b"password").unwrap();
        let expected = "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe";
        assert_eq!(HEXLOWER.encode(&digest), expected);
        assert_eq!(text, "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
    }

    #[test]
    fn one_beyond_each_bound_is_refused_by_its_name() {
        let beyond = |change: fn(&mut Argon2id)| {
            let mut parameters = small();
            change(&mut parameters);
            parameters.check().unwrap_err().to_string()
        };
        assert_eq!(
            beyond(|p| p.memory_kib = bounds::MEMORY_KIB.end() + 1),
            "memory_kib is 65537: 8 to 65536 are allowed"
        );
        assert!(beyond(|p| p.memory_kib = 7).starts_with("memory_kib is 7"));
        assert!(beyond(|p| p.memory_kib = 1 << 20).starts_with("memory_kib is 1048576"), "a gigabyte");
        assert!(beyond(|p| p.iterations = 11).starts_with("iterations is 11"));
        assert!(beyond(|p| p.iterations = 0).starts_with("iterations is 0"));
        assert!(beyond(|p| p.parallelism = 5).starts_with("parallelism is 5"));
        assert!(beyond(|p| p.length = 65).starts_with("length is 65"));
        assert!(beyond(|p| p.length = 15).starts_with("length is 15"));
        assert!(beyond(|p| p.salt = vec![0; 65]).starts_with("the salt's length is 65"));
        assert!(beyond(|p| p.salt = vec![0; 7]).starts_with("the salt's length is 7"));
        // Each lane needs 8 KiB.
        assert!(beyond(|p| (p.memory_kib, p.parallelism) = (8, 4)).starts_with("argon2id: "));
    }

    proptest! {
        #[test]
        fn no_parameters_make_it_panic(memory_kib: u32, iterations: u32, parallelism: u32, length: u32, salt: Vec<u8>) {
            let parameters = Argon2id { memory_kib, iterations, parallelism, length, salt };
            let allowed = memory_kib <= *bounds::MEMORY_KIB.end();
            prop_assert!(parameters.check().is_err() || allowed);
        }
    }
}
