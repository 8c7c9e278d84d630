//! The algorithms.

use crate::HashError;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::str::FromStr;

/// How to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// RFC 1321; broken as a signature, still asked for as a checksum.
    Md5,
    /// RFC 3174; broken as a signature.
    Sha1,
    /// FIPS 180-4.
    Sha256,
    /// FIPS 180-4.
    Sha512,
    /// BLAKE3 with its default output of 32 bytes.
    Blake3,
    /// RFC 9106, for passwords.
    Argon2id,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 6] =
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3, Algorithm::Argon2id];

    /// Its name in paths and tasks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
            Algorithm::Blake3 => "blake3",
            Algorithm::Argon2id => "argon2id",
        }
    }

    /// The digest of `input`; none for argon2id, which needs parameters.
    pub(crate) fn digest(self, input: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Algorithm::Md5 => md5::Md5::digest(input).to_vec(),
            Algorithm::Sha1 => sha1::Sha1::digest(input).to_vec(),
            Algorithm::Sha256 => sha2::Sha256::digest(input).to_vec(),
            Algorithm::Sha512 => sha2::Sha512::digest(input).to_vec(),
            Algorithm::Blake3 => blake3::hash(input).as_bytes().to_vec(),
            Algorithm::Argon2id => return None,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = HashError;

    fn from_str(name: &str) -> Result<Self, HashError> {
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        known.ok_or_else(|| HashError::UnknownAlgorithm(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn digests_are_those_of_the_standards() {
        // RFC 1321 A.5, FIPS 180-4's examples, and BLAKE3's first test vector.
        let vectors = [
            (Algorithm::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Sha512,
                "abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (Algorithm::Blake3, "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        ];
        for (algorithm, input, expected) in vectors {
            assert_eq!(HEXLOWER.encode(&algorithm.digest(input.as_bytes()).unwrap()), expected, "{algorithm}");
        }
        assert_eq!(Algorithm::Argon2id.digest(b""), None);
    }

    #[test]
    fn names_come_back_as_what_they_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
        }
        assert_eq!("SHA256".parse::<Algorithm>(), Err(HashError::UnknownAlgorithm("SHA256".into())));
        let long = "x".repeat(1 << 20).parse::<Algorithm>().unwrap_err().to_string();
        assert!(long.len() < 200, "an error does not repeat a megabyte");
    }
}
