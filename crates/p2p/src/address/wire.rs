//! Addresses in messages: `addr` of old, and `addrv2` (BIP 155).

use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};

use super::{Host, NetAddress};
use crate::types::Time;

/// An address as it is told: what the node offers, and when it was last seen (Core's `CAddress`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRecord {
    /// Where the node is.
    pub address: NetAddress,
    /// What it offers.
    pub services: ServiceFlags,
    /// When it was last seen, in whole seconds.
    pub time: Time,
}

/// Whole seconds as messages carry them; later than 2106 is 2106.
fn seconds(time: Time) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

impl AddressRecord {
    /// An address of which nothing is known.
    pub fn new(address: NetAddress, services: ServiceFlags, time: Time) -> Self {
        Self { address, services, time }
    }

    /// From an entry of an `addr` message.
    pub fn from_v1(time: u32, entry: &Address) -> Self {
        let address = NetAddress::new(Host::from_legacy_ipv6(entry.address.into()), entry.port);
        Self::new(address, entry.services, Duration::from_secs(time.into()))
    }

    /// As an entry of an `addr` message; none if it cannot carry it.
    pub fn to_v1(&self) -> Option<(u32, Address)> {
        let ip = match self.address.host {
            Host::Ipv4(ip) => ip.to_ipv6_mapped(),
            Host::Ipv6(ip) => ip,
            Host::Onion(_) | Host::I2p(_) | Host::Cjdns(_) | Host::Internal(_) => return None,
        };
        let entry = Address { services: self.services, address: ip.segments(), port: self.address.port };
        Some((seconds(self.time), entry))
    }

    /// From an entry of an `addrv2` message. What is not known, or disguised as IPv6, is [`Host::NONE`], which is not
    /// valid.
    pub fn from_v2(entry: &AddrV2Message) -> Self {
        let address = NetAddress::new(Host::from(&entry.addr), entry.port);
        Self::new(address, entry.services, Duration::from_secs(entry.time.into()))
    }

    /// As an entry of an `addrv2` message; none if it is a name.
    pub fn to_v2(&self) -> Option<AddrV2Message> {
        let addr = self.address.host.to_addr_v2()?;
        Some(AddrV2Message { time: seconds(self.time), services: self.services, addr, port: self.address.port })
    }
}

impl Host {
    /// In BIP 155's form; none if it is a name.
    pub fn to_addr_v2(&self) -> Option<AddrV2> {
        match *self {
            Self::Ipv4(ip) => Some(AddrV2::Ipv4(ip)),
            Self::Ipv6(ip) => Some(AddrV2::Ipv6(ip)),
            Self::Onion(key) => Some(AddrV2::TorV3(key)),
            Self::I2p(hash) => Some(AddrV2::I2p(hash)),
            Self::Cjdns(ip) => Some(AddrV2::Cjdns(ip)),
            Self::Internal(_) => None,
        }
    }
}

impl From<&AddrV2> for Host {
    fn from(addr: &AddrV2) -> Self {
        match *addr {
            AddrV2::Ipv4(ip) => Self::Ipv4(ip),
            // BIP 155 has other ids for what could hide in IPv6.
            AddrV2::Ipv6(ip) => match Self::from_legacy_ipv6(ip) {
                host @ Self::Ipv6(_) => host,
                _ => Self::NONE,
            },
            AddrV2::TorV3(key) => Self::Onion(key),
            AddrV2::I2p(hash) => Self::I2p(hash),
            AddrV2::Cjdns(ip) => Self::Cjdns(ip),
            AddrV2::TorV2(_) | AddrV2::Unknown(..) => Self::NONE,
        }
    }
}
