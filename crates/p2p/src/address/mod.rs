//! Addresses of nodes: BIP 155 forms, which of them are routable, and the groups that diversity counts by.

mod group;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bitcoin::hashes::{Hash, sha256};

pub use text::{ParseAddressError, split_host_port};
pub use wire::AddressRecord;

/// A network that nodes are reached by, as Core's `Network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Net {
    /// No network: an address that the public Internet does not route.
    Unroutable = 0,
    /// IPv4.
    Ipv4 = 1,
    /// IPv6.
    Ipv6 = 2,
    /// Tor, by onion addresses of version 3.
    Onion = 3,
    /// I2P.
    I2p = 4,
    /// CJDNS.
    Cjdns = 5,
    /// Names of sources, not addresses.
    Internal = 6,
}

impl Net {
    /// Networks that an address can be reached by, in Core's order.
    pub const REACHABLE: [Self; 5] = [Self::Ipv4, Self::Ipv6, Self::Onion, Self::I2p, Self::Cjdns];

    /// Core's `GetNetworkName`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unroutable => "not_publicly_routable",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Onion => "onion",
            Self::I2p => "i2p",
            Self::Cjdns => "cjdns",
            Self::Internal => "internal",
        }
    }

    /// The network of that name in any case; only those of [`Self::REACHABLE`] have one (Core's `ParseNetwork`).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::REACHABLE.into_iter().find(|net| net.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a node is, without its port, as Core's `CNetAddr`. Scopes of link-local addresses are not kept.
///
/// An IPv4 address is always [`Host::Ipv4`], also when it came mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// IPv4.
    Ipv4(Ipv4Addr),
    /// IPv6, and no IPv4 mapped into it.
    Ipv6(Ipv6Addr),
    /// The public key of an onion service of version 3.
    Onion([u8; 32]),
    /// The hash of an I2P destination.
    I2p([u8; 32]),
    /// CJDNS, of `fc00::/8`.
    Cjdns(Ipv6Addr),
    /// What a name hashes to: a source of addresses such as a DNS seed, which is no address itself.
    Internal([u8; 10]),
}

/// What an IPv6 address begins with that stands for an onion service of version 2, which there is no more.
const TORV2_IN_IPV6_PREFIX: [u8; 6] = [0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43];
/// What an IPv6 address begins with that stands for a name: 0xfd and the begin of SHA256("bitcoin").
const INTERNAL_IN_IPV6_PREFIX: [u8; 6] = [0xfd, 0x6b, 0x88, 0xc0, 0x87, 0x24];
/// What a CJDNS address begins with.
const CJDNS_PREFIX: u8 = 0xfc;

impl Host {
    /// What stands for no address; it is not valid (Core's `CNetAddr()`).
    pub const NONE: Self = Self::Ipv6(Ipv6Addr::UNSPECIFIED);

    /// The source of addresses that goes by a name, such as a DNS seed (`SetInternal`).
    pub fn internal(name: &str) -> Self {
        let hash = sha256::Hash::hash(name.as_bytes()).to_byte_array();
        Self::Internal(hash[..10].try_into().expect("10 of 32 bytes"))
    }

    /// An address in the form of IPv6 as the old `addr` message has it: IPv4 is found in it, and names; an onion address
    /// of version 2 becomes [`Host::NONE`] (`SetLegacyIPv6`).
    pub fn from_legacy_ipv6(ip: Ipv6Addr) -> Self {
        let bytes = ip.octets();
        if let Some(ip) = ip.to_ipv4_mapped() {
            Self::Ipv4(ip)
        } else if bytes.starts_with(&TORV2_IN_IPV6_PREFIX) {
            Self::NONE
        } else if bytes.starts_with(&INTERNAL_IN_IPV6_PREFIX) {
            Self::Internal(bytes[6..].try_into().expect("10 of 16 bytes are left"))
        } else {
            Self::Ipv6(ip)
        }
    }

    /// The same address as one of CJDNS, if it looks like one and CJDNS is reachable: `fc00::/8` are private addresses
    /// elsewhere (`MaybeFlipIPv6toCJDNS`).
    #[must_use]
    pub fn maybe_cjdns(self, cjdns_is_reachable: bool) -> Self {
        match self {
            Self::Ipv6(ip) if cjdns_is_reachable && ip.octets()[0] == CJDNS_PREFIX => Self::Cjdns(ip),
            other => other,
        }
    }

    /// The address for a socket; none if it takes a proxy to get there.
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Self::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Self::Ipv6(ip) | Self::Cjdns(ip) => Some(IpAddr::V6(ip)),
            Self::Onion(_) | Self::I2p(_) | Self::Internal(_) => None,
        }
    }

    /// Whether it is of Tor or I2P, which hide where a node is (`IsPrivacyNet`).
    pub fn is_privacy_net(&self) -> bool {
        matches!(self, Self::Onion(_) | Self::I2p(_))
    }

    /// Whether the old `addr` message can carry it (`IsAddrV1Compatible`).
    pub fn is_addr_v1_compatible(&self) -> bool {
        matches!(self, Self::Ipv4(_) | Self::Ipv6(_) | Self::Internal(_))
    }

    /// Whether it may be told to other peers although we cannot reach it (`IsRelayable`).
    pub fn is_relayable(&self) -> bool {
        !matches!(self, Self::Internal(_))
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(ip),
            IpAddr::V6(ip) => Self::from_legacy_ipv6(ip),
        }
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ipv4(ip)
    }
}

/// Where a node listens, as Core's `CService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetAddress {
    /// Where.
    pub host: Host,
    /// Its port; 0 for I2P.
    pub port: u16,
}

impl NetAddress {
    /// What stands for no address (Core's `CService()`).
    pub const NONE: Self = Self { host: Host::NONE, port: 0 };

    /// An address of a host and a port.
    pub const fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// The address for a socket; none if it takes a proxy to get there.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.ip()?, self.port))
    }

    /// What tells it from every other (`GetKey`): the bytes of its host, then its port, most significant byte first.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.host.addr_bytes();
        key.extend(self.port.to_be_bytes());
        key
    }
}

impl From<SocketAddr> for NetAddress {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().into(), address.port())
    }
}
