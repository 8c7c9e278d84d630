//! Many digests in little memory: one allocation, and no lengths as long as all have 32 bytes.

/// The longest digest that the calendar takes, in bytes.
pub const MAX_DIGEST: usize = 64;

/// Digests of 0 to 64 bytes each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests {
    bytes: Vec<u8>,
    /// Empty while all have 32 bytes.
    lengths: Vec<u8>,
    count: usize,
}

/// First byte of an encoding where every digest has 32 bytes.
const FIXED: u8 = 0;
/// First byte of an encoding where a byte with its length precedes each digest.
const PREFIXED: u8 = 1;

impl Digests {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a digest. False, and nothing added, if it is longer than 64 bytes.
    pub fn push(&mut self, digest: &[u8]) -> bool {
        let Some(length) = u8::try_from(digest.len()).ok().filter(|length| usize::from(*length) <= MAX_DIGEST) else {
            return false;
        };
        if length != 32 && self.lengths.is_empty() {
            self.lengths = vec![32; self.count];
        }
        if length != 32 || !self.lengths.is_empty() {
            self.lengths.push(length);
        }
        self.bytes.extend_from_slice(digest);
        self.count += 1;
        true
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        let mut index = 0;
        std::iter::from_fn(move || {
            if index == self.count {
                return None;
            }
            let length = self.lengths.get(index).map_or(32, |length| usize::from(*length));
            let (digest, after) = rest.split_at(length);
            rest = after;
            index += 1;
            Some(digest)
        })
    }

    /// For a row of the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.bytes.len() + self.lengths.len());
        if self.lengths.is_empty() {
            out.push(FIXED);
            out.extend_from_slice(&self.bytes);
        } else {
            out.push(PREFIXED);
            for (digest, length) in self.iter().zip(&self.lengths) {
                out.push(*length);
                out.extend_from_slice(digest);
            }
        }
        out
    }

    /// From a row of the journal; none if no version wrote it.
    #[must_use]
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let (kind, mut rest) = encoded.split_first()?;
        let mut digests = Self::new();
        match *kind {
            FIXED if rest.len().is_multiple_of(32) => {
                digests.count = rest.len() / 32;
                digests.bytes = rest.to_vec();
            }
            PREFIXED => {
                while let Some((length, after)) = rest.split_first() {
                    let digest = after.get(..usize::from(*length))?;
                    rest = &after[digest.len()..];
                    digests.push(digest).then_some(())?;
                }
            }
            _ => return None,
        }
        Some(digests)
    }
}

impl<'a> FromIterator<&'a [u8]> for Digests {
    /// Leaves out those longer than 64 bytes.
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(iter: I) -> Self {
        let mut digests = Self::new();
        for digest in iter {
            digests.push(digest);
        }
        digests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=64), 0..50)) {
            let digests: Digests = list.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(digests.len(), list.len());
            let decoded = Digests::decode(&digests.encode()).expect("our own");
            prop_assert!(decoded.iter().eq(list.iter().map(Vec::as_slice)));
        }

        #[test]
        fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(digests) = Digests::decode(&bytes) {
                prop_assert_eq!(digests.iter().count(), digests.len());
            }
        }
    }

    #[test]
    fn a_digest_of_65_bytes_is_refused() {
        let mut digests = Digests::new();
        assert!(digests.push(&[1; 64]));
        assert!(!digests.push(&[1; 65]));
        assert_eq!(digests.len(), 1);
    }
}
