//! Names of peers as people write them.

use crate::address::{Host, split_host_port};

/// Bytes of a host's name at most (RFC 1035).
const MAX_NAME: usize = 253;

/// Why a text names no peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// `http://…`, a path, credentials.
    #[error("it is a URL, not an address")]
    Url,
    /// Blanks or control characters.
    #[error("it has blanks in it")]
    Blank,
    /// No number, 0, or above 65535.
    #[error("its port is not from 1 to 65535")]
    Port,
    /// Anything else that no host is called.
    #[error("it is neither an IP address nor a host's name")]
    Host,
}

/// Whether a text may name a peer: `host` or `host:port`, an IPv6 address with a port in brackets. Names are not looked up:
/// one that leads nowhere today may lead somewhere tomorrow.
pub fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.contains(['/', '@', '?', '#']) {
        return Err(NameError::Url);
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(NameError::Blank);
    }
    let (host, _) = split_host_port(text).ok_or(NameError::Port)?;
    if host.parse::<Host>().is_ok() {
        return Ok(());
    }
    // Underscores are in the names that container engines give.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // A name that is all numbers is an address that went wrong.
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() <= MAX_NAME && !numeric && name.split('.').all(label) { Ok(()) } else { Err(NameError::Host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken_with_and_without_a_port() {
        for text in [
            "127.0.0.1",
            "127.0.0.1:18444",
            "::1",
            "[::1]",
            "[2001:db8::1]:8333",
            "localhost",
            "miner_1:2001",
            "blockchain-miner-2.blockchain:2001",
            "seed.example.",
            "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion:8333",
        ] {
            assert_eq!(check_name(text), Ok(()), "{text}");
        }
        assert_eq!(check_name(&format!("{}.x", "a".repeat(63))), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for (text, why) in [
            ("", NameError::Empty),
            ("http://miner:2001", NameError::Url),
            ("miner:2001/", NameError::Url),
            ("user@miner", NameError::Url),
            ("miner 1", NameError::Blank),
            (" ", NameError::Blank),
            ("miner:2001\n", NameError::Blank),
            ("miner:0", NameError::Port),
            ("miner:65536", NameError::Port),
            ("miner:-1", NameError::Port),
            ("miner:", NameError::Port),
            ("miner:p2p", NameError::Port),
            (":2001", NameError::Host),
            ("1.2.3.4.5", NameError::Host),
            ("256.0.0.1:1", NameError::Host),
            ("a..b", NameError::Host),
            ("bücher", NameError::Host),
            ("1:2:3", NameError::Host),
        ] {
            assert_eq!(check_name(text), Err(why), "{text:?}");
        }
        assert_eq!(check_name(&format!("{}.x", "a".repeat(64))), Err(NameError::Host));
        assert_eq!(check_name(&"a.".repeat(127)), Ok(()));
        assert_eq!(check_name(&format!("{}aa", "a.".repeat(126))), Err(NameError::Host));
    }
}
