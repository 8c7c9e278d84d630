//! Files that peers are remembered in: written whole or not at all, and set aside if they are damaged.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bitcoin::hashes::{Hash, sha256};
use bitcoin::p2p::Magic;

use crate::address::Host;

/// Why a file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It begins as no file of this kind does.
    #[error("it is not a file of this kind")]
    Kind,
    /// It belongs to another network.
    #[error("it is of another network")]
    Network,
    /// A newer version wrote it.
    #[error("it has format {0}, which is newer than this version of Cairn")]
    Newer(u8),
    /// It is cut short or has something after its end, or is larger than any file of this kind.
    #[error("its length is wrong")]
    Length,
    /// Its checksum is that of something else.
    #[error("its checksum is wrong")]
    Checksum,
    /// What it says cannot be.
    #[error("{0}")]
    Content(String),
}

/// A damaged file that was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it was.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
    /// Where it is now.
    pub kept_as: PathBuf,
}

/// What was in a file, or a beginning without it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What was read; empty if there was no file or it was damaged.
    pub value: T,
    /// The file, if it was damaged.
    pub set_aside: Option<SetAside>,
}

/// A file that could not be read, written or moved.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}. Check that the directory belongs to the user that runs Cairn and has space", path.display())]
pub struct PersistError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl PersistError {
    fn of<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// A path with something after its name.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Makes the names in the directory of a file durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// Replaces a file, whole or not at all, durably. Only one at a time may do it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), PersistError> {
    let temporary = with_ending(path, ".new");
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(path)
    })();
    written.map_err(|error| {
        // What is left of it is of no use, and the next one replaces it anyway.
        let _ = fs::remove_file(&temporary);
        PersistError::of("write", path)(error)
    })
}

/// Deletes a file if there is one, durably.
pub(crate) fn remove(path: &Path) -> Result<(), PersistError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_dir(path)).map_err(PersistError::of("delete", path)),
    }
}

/// Reads a file of up to `max_len` bytes. A damaged one is renamed to `NAME.bak`, or `NAME.bak.2` and so on if that
/// exists, with a warning, and `decode` of nothing else is asked: `empty` begins anew.
pub(crate) fn load<T>(
    path: &Path,
    max_len: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    empty: impl FnOnce() -> T,
) -> Result<Loaded<T>, PersistError> {
    let mut bytes = Vec::new();
    let decoded = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Loaded { value: empty(), set_aside: None });
        }
        Err(error) => return Err(PersistError::of("read", path)(error)),
        Ok(file) => {
            let limit = u64::try_from(max_len).unwrap_or(u64::MAX).saturating_add(1);
            file.take(limit).read_to_end(&mut bytes).map_err(PersistError::of("read", path))?;
            if bytes.len() > max_len { Err(Damage::Length) } else { decode(&bytes) }
        }
    };
    match decoded {
        Ok(value) => Ok(Loaded { value, set_aside: None }),
        Err(damage) => {
            let set_aside = set_aside(path, damage)?;
            tracing::warn!(
                file = %path.display(),
                reason = %set_aside.damage,
                kept_as = %set_aside.kept_as.display(),
                "a damaged file was set aside, and a new one is begun"
            );
            Ok(Loaded { value: empty(), set_aside: Some(set_aside) })
        }
    }
}

/// Renames a damaged file to a name that is free.
fn set_aside(path: &Path, damage: Damage) -> Result<SetAside, PersistError> {
    let names = std::iter::once(with_ending(path, ".bak"))
        .chain((2_u64..).map(|number| with_ending(path, &format!(".bak.{number}"))));
    for kept_as in names {
        if kept_as.symlink_metadata().is_ok() {
            continue;
        }
        fs::rename(path, &kept_as).and_then(|()| sync_dir(path)).map_err(PersistError::of("rename", path))?;
        return Ok(SetAside { path: path.to_owned(), damage, kept_as });
    }
    unreachable!("there are names without end")
}

/// What a binary file begins with; after it come its bytes, and a SHA256 of all before.
pub(crate) struct Format {
    /// Tells the kind of file.
    pub(crate) kind: [u8; 8],
    /// Of what follows.
    pub(crate) version: u8,
}

/// The kind, the network's magic, the version, the length of the content.
const HEADER_LEN: usize = 8 + 4 + 1 + 4;
const CHECKSUM_LEN: usize = 32;

impl Format {
    /// A file with this content.
    pub(crate) fn seal(&self, magic: Magic, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + content.len() + CHECKSUM_LEN);
        bytes.extend(self.kind);
        bytes.extend(magic.to_bytes());
        bytes.push(self.version);
        bytes.extend(u32::try_from(content.len()).expect("files of peers have some megabytes").to_le_bytes());
        bytes.extend(content);
        let checksum = sha256::Hash::hash(&bytes);
        bytes.extend(checksum.to_byte_array());
        bytes
    }

    /// The content of a file, once all around it is right.
    pub(crate) fn open<'a>(&self, magic: Magic, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
        let mut reader = Reader(bytes);
        // An empty file is one cut short.
        if bytes.is_empty() {
            return Err(Damage::Length);
        }
        if bytes[..bytes.len().min(8)] != self.kind[..bytes.len().min(8)] {
            return Err(Damage::Kind);
        }
        reader.take::<8>()?;
        if reader.take::<4>()? != magic.to_bytes() {
            return Err(Damage::Network);
        }
        match reader.u8()? {
            version if version > self.version => return Err(Damage::Newer(version)),
            version if version != self.version => return Err(Damage::Content(format!("there is no format {version}"))),
            _ => {}
        }
        let length = reader.u32()? as usize;
        if length.checked_add(CHECKSUM_LEN) != Some(reader.0.len()) {
            return Err(Damage::Length);
        }
        let (sealed, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if sha256::Hash::hash(sealed).to_byte_array() != *checksum {
            return Err(Damage::Checksum);
        }
        Ok(&sealed[HEADER_LEN..])
    }
}

/// Reads content, whose end is an error and no panic.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Damage::Length)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Damage> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn host(&mut self) -> Result<Host, Damage> {
        Ok(match self.u8()? {
            1 => Host::Ipv4(self.take::<4>()?.into()),
            2 => match Host::from_legacy_ipv6(self.take::<16>()?.into()) {
                host @ Host::Ipv6(_) => host,
                _ => return Err(Damage::Content("an address hides in IPv6".to_owned())),
            },
            3 => Host::Onion(self.take()?),
            4 => Host::I2p(self.take()?),
            5 => Host::Cjdns(self.take::<16>()?.into()),
            6 => Host::Internal(self.take()?),
            other => return Err(Damage::Content(format!("there is no network {other}"))),
        })
    }

    /// Whether all was read.
    pub(crate) fn finish(self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage::Length) }
    }
}

/// What [`Reader::host`] reads.
pub(crate) fn write_host(bytes: &mut Vec<u8>, host: &Host) {
    match host {
        Host::Ipv4(ip) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Host::Ipv6(ip) => {
            bytes.push(2);
            bytes.extend(ip.octets());
        }
        Host::Onion(key) => {
            bytes.push(3);
            bytes.extend(key);
        }
        Host::I2p(hash) => {
            bytes.push(4);
            bytes.extend(hash);
        }
        Host::Cjdns(ip) => {
            bytes.push(5);
            bytes.extend(ip.octets());
        }
        Host::Internal(name) => {
            bytes.push(6);
            bytes.extend(name);
        }
    }
}

#[cfg(test)]
#[path = "persist_tests.rs"]
mod tests;
