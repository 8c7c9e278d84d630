//! Which addresses the Internet routes, and which of them are likely one owner's.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{CJDNS_PREFIX, Host, INTERNAL_IN_IPV6_PREFIX, Net};

/// Whether an IPv6 address is within `prefix`/`bits`.
fn within(ip: Ipv6Addr, prefix: [u16; 8], bits: u32) -> bool {
    let mask = u128::MAX << (128 - bits);
    u128::from(ip) & mask == u128::from(Ipv6Addr::from(prefix))
}

/// 6to4 (`IsRFC3964`).
fn is_6to4(ip: Ipv6Addr) -> bool {
    within(ip, [0x2002, 0, 0, 0, 0, 0, 0, 0], 16)
}

/// Teredo (`IsRFC4380`).
fn is_teredo(ip: Ipv6Addr) -> bool {
    within(ip, [0x2001, 0, 0, 0, 0, 0, 0, 0], 32)
}

/// IPv4 embedded in `64:ff9b::/96` (`IsRFC6052`).
fn is_rfc6052(ip: Ipv6Addr) -> bool {
    within(ip, [0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96)
}

/// IPv4 translated by SIIT (`IsRFC6145`).
fn is_rfc6145(ip: Ipv6Addr) -> bool {
    within(ip, [0, 0, 0, 0, 0xffff, 0, 0, 0], 96)
}

/// Hurricane Electric, whose tunnels are given out by /48 (`IsHeNet`).
fn is_he_net(ip: Ipv6Addr) -> bool {
    within(ip, [0x2001, 0x470, 0, 0, 0, 0, 0, 0], 32)
}

/// Private, shared, link-local, documentation and benchmark ranges of IPv4.
fn is_special_ipv4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 198 && (b == 18 || b == 19)) // RFC 2544
        || (a == 100 && (64..128).contains(&b)) // RFC 6598
}

/// Link-local and unique local addresses and ORCHIDs of IPv6.
fn is_special_ipv6(ip: Ipv6Addr) -> bool {
    within(ip, [0xfe80, 0, 0, 0, 0, 0, 0, 0], 64) // RFC 4862
        || within(ip, [0xfc00, 0, 0, 0, 0, 0, 0, 0], 7) // RFC 4193
        || within(ip, [0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28) // RFC 4843
        || within(ip, [0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28) // RFC 7343
}

impl Host {
    /// Whether it can be an address at all (`IsValid`): not unspecified, not for documentation, not a name.
    pub fn is_valid(&self) -> bool {
        match *self {
            Self::Ipv4(ip) => !ip.is_unspecified() && !ip.is_broadcast(),
            Self::Ipv6(ip) => !ip.is_unspecified() && !within(ip, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
            Self::Cjdns(ip) => ip.octets()[0] == CJDNS_PREFIX,
            Self::Onion(_) | Self::I2p(_) => true,
            Self::Internal(_) => false,
        }
    }

    /// Whether it is this machine: 127.0.0.0/8, 0.0.0.0/8, `::1` (`IsLocal`).
    pub fn is_local(&self) -> bool {
        match *self {
            Self::Ipv4(ip) => matches!(ip.octets()[0], 0 | 127),
            Self::Ipv6(ip) => ip.is_loopback(),
            _ => false,
        }
    }

    /// Whether every node can be expected to reach it (`IsRoutable`).
    pub fn is_routable(&self) -> bool {
        self.is_valid()
            && !self.is_local()
            && match *self {
                Self::Ipv4(ip) => !is_special_ipv4(ip),
                Self::Ipv6(ip) => !is_special_ipv6(ip),
                _ => true,
            }
    }

    /// The network it is reached by (`GetNetwork`).
    pub fn network(&self) -> Net {
        match self {
            Self::Internal(_) => Net::Internal,
            _ if !self.is_routable() => Net::Unroutable,
            Self::Ipv4(_) => Net::Ipv4,
            Self::Ipv6(_) => Net::Ipv6,
            Self::Onion(_) => Net::Onion,
            Self::I2p(_) => Net::I2p,
            Self::Cjdns(_) => Net::Cjdns,
        }
    }

    /// As [`Self::network`], but IPv4 for tunnels that lead to an IPv4 address (`GetNetClass`).
    pub fn net_class(&self) -> Net {
        if self.linked_ipv4().is_some() { Net::Ipv4 } else { self.network() }
    }

    /// The IPv4 address of a routable address, also where it is tunnelled through IPv6 (`GetLinkedIPv4`).
    pub fn linked_ipv4(&self) -> Option<Ipv4Addr> {
        if !self.is_routable() {
            return None;
        }
        match *self {
            Self::Ipv4(ip) => Some(ip),
            Self::Ipv6(ip) => {
                let bytes = u128::from(ip);
                if is_rfc6145(ip) || is_rfc6052(ip) {
                    Some(Ipv4Addr::from(bytes as u32))
                } else if is_6to4(ip) {
                    Some(Ipv4Addr::from((bytes >> 80) as u32))
                } else if is_teredo(ip) {
                    Some(Ipv4Addr::from(!(bytes as u32)))
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// Its bytes, those that the old `addr` message can carry in the form of IPv6 (`GetAddrBytes`).
    pub fn addr_bytes(&self) -> Vec<u8> {
        match *self {
            Self::Ipv4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
            Self::Ipv6(ip) | Self::Cjdns(ip) => ip.octets().to_vec(),
            Self::Onion(key) | Self::I2p(key) => key.to_vec(),
            Self::Internal(name) => [&INTERNAL_IN_IPV6_PREFIX[..], &name].concat(),
        }
    }

    /// Addresses of one group are taken to be one owner's (`NetGroupManager::GetGroup` without a map of autonomous
    /// systems): /16 of IPv4, also through tunnels, /32 of IPv6, /36 of Hurricane Electric, 4 bits of the networks whose
    /// addresses are keys; all local addresses are one, and all others that are not routable.
    pub fn group(&self) -> Vec<u8> {
        let class = self.net_class() as u8;
        if self.is_local() {
            return vec![class];
        }
        if let Self::Internal(name) = self {
            return [&[class], &name[..]].concat();
        }
        if !self.is_routable() {
            return vec![class];
        }
        if let Some(ip) = self.linked_ipv4() {
            let [a, b, ..] = ip.octets();
            return vec![class, a, b];
        }
        let bits = match *self {
            Self::Onion(_) | Self::I2p(_) => 4,
            // The first 8 are the same in all.
            Self::Cjdns(_) => 12,
            Self::Ipv6(ip) if is_he_net(ip) => 36,
            _ => 32,
        };
        let bytes = self.addr_bytes();
        let mut group = vec![class];
        group.extend(&bytes[..bits / 8]);
        if !bits.is_multiple_of(8) {
            group.push(bytes[bits / 8] | (0xff >> (bits % 8)));
        }
        group
    }
}
