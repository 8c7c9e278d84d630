//! Ranges of addresses, as Core's `CSubNet`.

use std::fmt;
use std::str::FromStr;

use crate::address::Host;

/// A range of IPv4 or IPv6, or one address of any network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Its first address.
    base: Host,
    /// How many bits all its addresses share; 0 for networks without ranges.
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid IP/Subnet")]
pub struct ParseSubnetError;

impl Subnet {
    /// A range of IPv4 or IPv6 around an address; none if there are not so many bits.
    pub fn new(host: Host, bits: u8) -> Option<Self> {
        let base = match host {
            Host::Ipv4(ip) if bits <= 32 => {
                Host::Ipv4((u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into())
            }
            Host::Ipv6(ip) if bits <= 128 => {
                Host::Ipv6((u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into())
            }
            _ => return None,
        };
        Some(Self { base, bits })
    }

    /// One address; none if it is but a name.
    pub fn single(host: Host) -> Option<Self> {
        match host {
            Host::Ipv4(_) => Self::new(host, 32),
            Host::Ipv6(_) => Self::new(host, 128),
            Host::Onion(_) | Host::I2p(_) | Host::Cjdns(_) => Some(Self { base: host, bits: 0 }),
            Host::Internal(_) => None,
        }
    }

    /// Whether an address is in it. What is no valid address is in none.
    pub fn contains(&self, host: &Host) -> bool {
        host.is_valid()
            && match (self.base, host) {
                (Host::Ipv4(_), Host::Ipv4(_)) | (Host::Ipv6(_), Host::Ipv6(_)) => {
                    Self::new(*host, self.bits) == Some(*self)
                }
                (base, host) => base == *host,
            }
    }

    /// Reads a range as Core's `LookupSubNet`, with `fc00::/8` as addresses of CJDNS if that is reachable.
    pub fn parse(text: &str, cjdns_is_reachable: bool) -> Result<Self, ParseSubnetError> {
        let (address, mask) = match text.rsplit_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let host: Host = address.parse().map_err(|_| ParseSubnetError)?;
        let host = host.maybe_cjdns(cjdns_is_reachable);
        let subnet = match mask {
            None => Self::single(host),
            Some(mask) => bits_of(mask, &host).and_then(|bits| Self::new(host, bits)),
        };
        subnet.ok_or(ParseSubnetError)
    }
}

/// The bits of a mask: a number, or an address of the same kind whose ones all come first.
fn bits_of(mask: &str, host: &Host) -> Option<u8> {
    if mask.bytes().all(|byte| byte.is_ascii_digit()) {
        return mask.parse().ok();
    }
    let (ones, zeros, length) = match (host, mask.parse().ok()?) {
        (Host::Ipv4(_), Host::Ipv4(mask)) => (u32::from(mask).leading_ones(), u32::from(mask).trailing_zeros(), 32),
        (Host::Ipv6(_), Host::Ipv6(mask)) => (u128::from(mask).leading_ones(), u128::from(mask).trailing_zeros(), 128),
        _ => return None,
    };
    (ones + zeros == length).then_some(ones as u8)
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    /// [`Self::parse`] without CJDNS.
    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        Self::parse(text, false)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Host::Ipv4(_) | Host::Ipv6(_) => write!(f, "{}/{}", self.base, self.bits),
            _ => write!(f, "{}", self.base),
        }
    }
}
