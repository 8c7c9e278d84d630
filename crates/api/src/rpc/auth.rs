//! Who may call: Core's cookie file and Basic authentication.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hex::DisplayHex;
use sha2::{Digest, Sha256};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// The user name of the cookie, Core's.
const COOKIE_USER: &str = "__cookie__";

/// The cookie file of a running server: made at start, removed when dropped.
#[derive(Debug)]
pub struct Cookie {
    path: PathBuf,
    line: String,
}

impl Cookie {
    /// Writes `<dir>/.cookie` with a fresh password, readable by its owner only.
    pub fn create(dir: &Path) -> io::Result<Cookie> {
        let path = dir.join(".cookie");
        let line = format!("{COOKIE_USER}:{}", rand::random::<[u8; 32]>().to_lower_hex_string());
        // Renamed into place, so that nobody reads half a cookie.
        let temporary = dir.join(".cookie.tmp");
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        crate::keys::create_private(&temporary)?.write_all(line.as_bytes())?;
        std::fs::rename(&temporary, &path)?;
        Ok(Cookie { path, line })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cookie {
    fn drop(&mut self) {
        // Another process may have written its own since.
        if std::fs::read_to_string(&self.path).is_ok_and(|line| line == self.line)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("the RPC cookie {} could not be removed: {error}", self.path.display());
        }
    }
}

/// Everyone who may call, as digests, so that comparing takes the same time whatever is sent.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Vec<[u8; 32]>);

impl Credentials {
    /// Allows the cookie's holder.
    pub fn allow_cookie(&mut self, cookie: &Cookie) {
        self.0.push(digest(cookie.line.as_bytes()));
    }

    /// Allows a user with a password.
    pub fn allow(&mut self, user: &str, password: &str) {
        self.0.push(digest(format!("{user}:{password}").as_bytes()));
    }

    /// Whether an `Authorization` header names one of them.
    pub fn check(&self, header: &str) -> bool {
        let Some(encoded) = header.strip_prefix("Basic ") else { return false };
        let Ok(pair) = STANDARD.decode(encoded.trim()) else { return false };
        let given = digest(&pair);
        let mut found = subtle::Choice::from(0);
        for known in &self.0 {
            found |= known.ct_eq(&given);
        }
        found.into()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_cookie_is_private_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = Cookie::create(dir.path()).unwrap();
        let path = dir.path().join(".cookie");
        let line = std::fs::read_to_string(&path).unwrap();
        assert!(line.starts_with("__cookie__:") && line.len() == "__cookie__:".len() + 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut credentials = Credentials::default();
        credentials.allow_cookie(&cookie);
        assert!(credentials.check(&format!("Basic {}", STANDARD.encode(&line))));
        drop(cookie);
        assert!(!path.exists());
    }

    #[test]
    fn only_the_right_pair_passes() {
        let mut credentials = Credentials::default();
        assert!(!credentials.check(&format!("Basic {}", STANDARD.encode(":"))));
        credentials.allow("user", "pass:word");
        assert!(credentials.check(&format!("Basic {}", STANDARD.encode("user:pass:word"))));
        assert!(!credentials.check(&format!("Basic {}", STANDARD.encode("user:pass"))));
        assert!(!credentials.check(&format!("Bearer {}", STANDARD.encode("user:pass:word"))));
        assert!(!credentials.check("Basic !!!"));
    }
}
