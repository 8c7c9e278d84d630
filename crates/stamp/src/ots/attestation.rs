//! Attestations: who says when. The leaves of a proof.

use super::{MAX_ATTESTATION_PAYLOAD, MAX_URI_LENGTH, OtsError};
use std::cmp::Ordering;
use std::fmt;

/// The bytes that begin an attestation and say of which kind it is.
pub(super) type Tag = [u8; 8];

pub(super) const BITCOIN: Tag = [0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
pub(super) const LITECOIN: Tag = [0x06, 0x86, 0x9a, 0x0d, 0x73, 0xd7, 0x1b, 0x45];
pub(super) const ETHEREUM: Tag = [0x30, 0xfe, 0x80, 0x87, 0xb5, 0xc7, 0xea, 0xd7];
pub(super) const PENDING: Tag = [0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];

/// Who says that a message existed, and where to see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attestation {
    /// The message is the Merkle root in the header of the Bitcoin block at `height`. The same on every Bitcoin network:
    /// which one is meant, the proof does not say.
    Bitcoin {
        /// Height of the block.
        height: u64,
    },
    /// The same for Litecoin.
    Litecoin {
        /// Height of the block.
        height: u64,
    },
    /// The message is the transactions root of the Ethereum block at `height`.
    Ethereum {
        /// Height of the block.
        height: u64,
    },
    /// A calendar promised to have more: `GET {uri}/timestamp/{message in hexadecimal}`.
    Pending {
        /// The calendar's address: at most 1,000 of `A-Z a-z 0-9 - . _ / :`.
        uri: String,
    },
    /// Of a kind not known here; kept byte for byte.
    Unknown {
        /// Its kind; none of the known ones.
        tag: [u8; 8],
        /// What it says, at most 8,192 bytes.
        payload: Vec<u8>,
    },
}

impl Attestation {
    /// A pending attestation, its address checked.
    ///
    /// # Errors
    /// The address is too long or has a character that is not allowed.
    pub fn pending(uri: impl Into<String>) -> Result<Self, OtsError> {
        let uri = uri.into();
        check_uri(uri.as_bytes())?;
        Ok(Self::Pending { uri })
    }

    /// The bytes that say of which kind the attestation is.
    pub fn tag(&self) -> [u8; 8] {
        match self {
            Self::Bitcoin { .. } => BITCOIN,
            Self::Litecoin { .. } => LITECOIN,
            Self::Ethereum { .. } => ETHEREUM,
            Self::Pending { .. } => PENDING,
            Self::Unknown { tag, .. } => *tag,
        }
    }

    /// True for an attestation by a block of the Bitcoin chain.
    pub fn is_bitcoin(&self) -> bool {
        matches!(self, Self::Bitcoin { .. })
    }

    /// Whether the attestation, however it was made, can be written.
    pub(super) fn check(&self) -> Result<(), OtsError> {
        match self {
            Self::Pending { uri } => check_uri(uri.as_bytes()),
            // It would be read back as something else, or not at all.
            Self::Unknown { tag, .. } if [BITCOIN, LITECOIN, ETHEREUM, PENDING].contains(tag) => {
                Err(OtsError::KnownTag)
            }
            Self::Unknown { payload, .. } if payload.len() > MAX_ATTESTATION_PAYLOAD => {
                Err(OtsError::AttestationTooLong(payload.len() as u64))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an address may stand in a pending attestation.
pub fn is_valid_uri(uri: &str) -> bool {
    check_uri(uri.as_bytes()).is_ok()
}

/// No query, no fragment, no `[]`, `%` or `@`: an address from a proof cannot smuggle much.
pub(super) fn check_uri(uri: &[u8]) -> Result<(), OtsError> {
    if uri.len() > MAX_URI_LENGTH {
        return Err(OtsError::UriTooLong(uri.len() as u64));
    }
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._/:".contains(b);
    match uri.iter().find(|b| !allowed(b)) {
        Some(byte) => Err(OtsError::UriCharacter(*byte)),
        None => Ok(()),
    }
}

/// The canonical order: by tag, then heights by value, addresses and payloads by their bytes.
impl Ord for Attestation {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tag().cmp(&other.tag()).then_with(|| match (self, other) {
            (Self::Bitcoin { height: a }, Self::Bitcoin { height: b })
            | (Self::Litecoin { height: a }, Self::Litecoin { height: b })
            | (Self::Ethereum { height: a }, Self::Ethereum { height: b }) => a.cmp(b),
            (Self::Pending { uri: a }, Self::Pending { uri: b }) => a.cmp(b),
            (Self::Unknown { payload: a, .. }, Self::Unknown { payload: b, .. }) => a.cmp(b),
            // Only an `Unknown` that was given a known tag comes here; it sorts last.
            (Self::Unknown { .. }, _) => Ordering::Greater,
            _ => Ordering::Less,
        })
    }
}

impl PartialOrd for Attestation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| bytes.iter().try_for_each(|b| write!(f, "{b:02x}"));
        match self {
            Self::Bitcoin { height } => write!(f, "Bitcoin block {height}"),
            Self::Litecoin { height } => write!(f, "Litecoin block {height}"),
            Self::Ethereum { height } => write!(f, "Ethereum block {height}"),
            Self::Pending { uri } => write!(f, "pending at {uri}"),
            Self::Unknown { tag, payload } => {
                f.write_str("unknown attestation ")?;
                hex(f, tag)?;
                f.write_str(" ")?;
                hex(f, payload)
            }
        }
    }
}
