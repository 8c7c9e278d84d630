//! `.ots` files: a timestamp for a file that lies elsewhere.

use super::codec::Reader;
use super::{DecodeError, Op, OtsError, Timestamp};

/// What an `.ots` file begins with.
pub const HEADER_MAGIC: &[u8; 31] = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94";
/// The version that is read and written.
pub const MAJOR_VERSION: u8 = 1;

/// What a file was hashed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileHash {
    /// SHA-1, 20 bytes.
    Sha1,
    /// RIPEMD-160, 20 bytes.
    Ripemd160,
    /// SHA-256, 32 bytes: what new proofs use.
    Sha256,
    /// Keccak-256 as before FIPS 202, 32 bytes. Python reads such proofs too.
    Keccak256,
}

impl FileHash {
    /// The operation that is the hash.
    pub fn op(self) -> Op {
        match self {
            Self::Sha1 => Op::Sha1,
            Self::Ripemd160 => Op::Ripemd160,
            Self::Sha256 => Op::Sha256,
            Self::Keccak256 => Op::Keccak256,
        }
    }

    /// Its name, as the `ots` client prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Ripemd160 => "ripemd160",
            Self::Sha256 => "sha256",
            Self::Keccak256 => "keccak256",
        }
    }

    /// How long its digests are, in bytes.
    pub fn digest_length(self) -> usize {
        match self {
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha256 | Self::Keccak256 => 32,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        let all = [Self::Sha1, Self::Ripemd160, Self::Sha256, Self::Keccak256];
        all.into_iter().find(|hash| hash.op().tag() == tag)
    }
}

/// The contents of an `.ots` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachedTimestampFile {
    file_hash: FileHash,
    timestamp: Timestamp,
}

impl DetachedTimestampFile {
    /// A proof for the file whose digest is the timestamp's message.
    ///
    /// # Errors
    /// The message is not as long as digests of `file_hash` are.
    pub fn new(file_hash: FileHash, timestamp: Timestamp) -> Result<Self, OtsError> {
        let (expected, actual) = (file_hash.digest_length(), timestamp.message().len());
        if expected != actual {
            return Err(OtsError::DigestLength { expected, actual });
        }
        Ok(Self { file_hash, timestamp })
    }

    /// What the file was hashed with.
    pub fn file_hash(&self) -> FileHash {
        self.file_hash
    }

    /// The file's digest.
    pub fn file_digest(&self) -> &[u8] {
        self.timestamp.message()
    }

    /// The proof of the digest.
    pub fn timestamp(&self) -> &Timestamp {
        &self.timestamp
    }

    /// Adds everything that another proof for the same digest has. True if anything was new.
    ///
    /// # Errors
    /// The proofs are for different digests or hashes, or together exceed a limit; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<bool, OtsError> {
        if self.file_hash != other.file_hash {
            return Err(OtsError::DifferentFileHashes);
        }
        self.timestamp.merge(&other.timestamp)
    }

    /// Adds a calendar's answer wherever its commitment comes up; see [`Timestamp::merge_anywhere`].
    ///
    /// # Errors
    /// As there.
    pub fn merge_anywhere(&mut self, other: &Timestamp) -> Result<bool, OtsError> {
        self.timestamp.merge_anywhere(other)
    }

    /// Reads an `.ots` file.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        if !bytes.starts_with(HEADER_MAGIC) {
            return Err(reader.error_before(0, OtsError::BadMagic));
        }
        reader.bytes(HEADER_MAGIC.len())?;
        let version = reader.u8()?;
        if version != MAJOR_VERSION {
            return Err(reader.error_before(1, OtsError::UnsupportedVersion(version)));
        }
        let tag = reader.u8()?;
        let file_hash =
            FileHash::from_tag(tag).ok_or_else(|| reader.error_before(1, OtsError::UnknownFileHash(tag)))?;
        let digest = reader.bytes(file_hash.digest_length())?.to_vec();
        let timestamp = Timestamp::read(&mut reader, digest)?;
        reader.end_of_proof()?;
        Ok(Self { file_hash, timestamp })
    }

    /// Writes an `.ots` file in canonical form.
    ///
    /// # Errors
    /// A branch has no attestation, or the proof is too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OtsError> {
        let mut out = HEADER_MAGIC.to_vec();
        out.push(MAJOR_VERSION);
        out.push(self.file_hash.op().tag());
        out.extend_from_slice(self.file_digest());
        self.timestamp.write(&mut out)?;
        Ok(out)
    }
}
