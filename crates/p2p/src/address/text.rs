//! Addresses as text, as Core reads and prints them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use data_encoding::{BASE32, BASE32_NOPAD};
use sha3::{Digest, Sha3_256};

use super::{Host, NetAddress};

/// Bytes of an onion address: a key of 32 bytes, a checksum of 2, and its version.
const TORV3_LEN: usize = 35;
const TORV3_VERSION: u8 = 3;
/// Characters of an I2P address before its ending.
const I2P_CHARACTERS: usize = 52;
const I2P_ENDING: &str = ".b32.i2p";

/// A text that is no address. Names are not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP, onion or I2P address")]
pub struct ParseAddressError;

/// What the checksum of an onion address is (Tor's `rend-spec-v3`).
fn onion_checksum(key: &[u8; 32]) -> [u8; 2] {
    let mut hasher = Sha3_256::new();
    hasher.update(b".onion checksum");
    hasher.update(key);
    hasher.update([TORV3_VERSION]);
    let hash = hasher.finalize();
    [hash[0], hash[1]]
}

fn parse_onion(text: &str) -> Option<Host> {
    let encoded = text.strip_suffix(".onion")?;
    let bytes = BASE32.decode(encoded.to_ascii_uppercase().as_bytes()).ok()?;
    let bytes: [u8; TORV3_LEN] = bytes.try_into().ok()?;
    let key: [u8; 32] = bytes[..32].try_into().expect("32 of 35 bytes");
    (bytes[32..34] == onion_checksum(&key) && bytes[34] == TORV3_VERSION).then_some(Host::Onion(key))
}

fn parse_i2p(text: &str) -> Option<Host> {
    let (encoded, ending) = text.split_at_checked(I2P_CHARACTERS)?;
    if !ending.eq_ignore_ascii_case(I2P_ENDING) {
        return None;
    }
    let bytes = BASE32_NOPAD.decode(encoded.to_ascii_uppercase().as_bytes()).ok()?;
    Some(Host::I2p(bytes.try_into().ok()?))
}

impl FromStr for Host {
    type Err = ParseAddressError;

    /// An IP address, in brackets or not, an onion or an I2P address, as Core's `LookupHost` without looking up names.
    /// `fc00::/8` is IPv6: see [`Host::maybe_cjdns`].
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Some(host) = parse_onion(text).or_else(|| parse_i2p(text)) {
            return Ok(host);
        }
        match IpAddr::from_str(text).map(Self::from) {
            // Nobody may name what only stands for a name.
            Ok(Self::Internal(_)) | Err(_) => Err(ParseAddressError),
            Ok(host) => Ok(host),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(ip) => write!(f, "{ip}"),
            Self::Ipv6(ip) | Self::Cjdns(ip) => write!(f, "{ip}"),
            Self::Onion(key) => {
                let bytes = [&key[..], &onion_checksum(key), &[TORV3_VERSION]].concat();
                write!(f, "{}.onion", BASE32.encode(&bytes).to_ascii_lowercase())
            }
            Self::I2p(hash) => write!(f, "{}{I2P_ENDING}", BASE32_NOPAD.encode(hash).to_ascii_lowercase()),
            Self::Internal(name) => write!(f, "{}.internal", BASE32.encode(name).to_ascii_lowercase()),
        }
    }
}

/// A host and its port, if there is one: `a:1`, `[::1]:1`, `a`, `[::1]`, `::1`. The host has no brackets then. Not
/// everything is told apart from nonsense: `None` is a port that is not one, or is 0 (Core's `SplitHostPort`).
pub fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let mut host = text;
    let mut port = None;
    if let Some((before, after)) = text.rsplit_once(':') {
        let bracketed = before.starts_with('[') && before.ends_with(']');
        if bracketed || !before.contains(':') {
            // Signs are no part of a port.
            if !after.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            port = Some(after.parse().ok().filter(|&port| port != 0)?);
            host = before;
        }
    }
    host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port))
}

impl NetAddress {
    /// Reads an address; `default_port` if it names none (Core's `LookupNumeric`, but port 0 is refused).
    pub fn parse(text: &str, default_port: u16) -> Result<Self, ParseAddressError> {
        let (host, port) = split_host_port(text).ok_or(ParseAddressError)?;
        Ok(Self::new(host.parse()?, port.unwrap_or(default_port)))
    }
}

impl fmt::Display for NetAddress {
    /// As Core's `ToStringAddrPort`: `1.2.3.4:8333`, `[2001:db8::1]:8333`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Ipv6(_) | Host::Cjdns(_) => write!(f, "[{}]:{}", self.host, self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
