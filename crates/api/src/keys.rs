//! Keys: made at first start, kept in files that only their owner reads, compared in constant time.

use bitcoin::hex::DisplayHex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// Keys that a document prints: everybody knows them.
const PRINTED_KEYS: [&str; 2] = ["admin-secret", "wallet-secret"];

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key file could not be read or made.
    #[error("the key file {path} cannot be used: {source}; check its owner and mode, or remove it to get a new key")]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A key file has no key in it.
    #[error("the key file {0} is empty: remove it to get a new key")]
    Empty(PathBuf),
    /// A key that a document prints, on a listener that others reach.
    #[error(
        "{address} is reachable from other machines, and {name} is the key that the documents print: set another one, \
         such as the output of `openssl rand -hex 32`"
    )]
    Printed {
        /// Which key.
        name: &'static str,
        /// The listener.
        address: SocketAddr,
    },
}

/// Creates a file that only its owner reads and writes; fails if it exists.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// The key in a file; a fresh one, written there with mode 0600, if there is none yet.
pub fn load_or_create_key(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let key = rand::random::<[u8; 32]>().to_lower_hex_string();
    match create_private(path) {
        Ok(mut file) => {
            file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let key = std::fs::read_to_string(path).map_err(failed)?.trim().to_owned();
            if key.is_empty() { Err(KeyError::Empty(path.to_owned())) } else { Ok(key) }
        }
        Err(error) => Err(failed(error)),
    }
}

/// A secret that callers show; only its digest is kept. Compares in constant time.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Of a secret.
    pub fn new(secret: &str) -> Key {
        Key(Sha256::digest(secret).into())
    }

    /// Whether this is the secret.
    pub fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

/// Refuses a key that the documents print on a listener beyond loopback.
pub(crate) fn check_exposure(address: SocketAddr, name: &'static str, secret: &str) -> Result<(), KeyError> {
    if !address.ip().is_loopback() && PRINTED_KEYS.contains(&secret) {
        return Err(KeyError::Printed { name, address });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.key");
        let key = load_or_create_key(&path).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(load_or_create_key(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Key::new(&key).is(key.as_bytes()));
        assert!(!Key::new(&key).is(b""));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(load_or_create_key(&path), Err(KeyError::Empty(_))));
    }

    #[test]
    fn printed_keys_stay_on_loopback() {
        let check = |address: &str, key| check_exposure(address.parse().unwrap(), "the admin key", key);
        assert!(check("127.0.0.1:8080", "admin-secret").is_ok());
        assert!(check("[::1]:8080", "wallet-secret").is_ok());
        assert!(check("0.0.0.0:8080", "a key of our own").is_ok());
        assert!(check("0.0.0.0:8080", "admin-secret").is_err());
        assert!(check("[::]:8080", "wallet-secret").is_err());
    }
}
