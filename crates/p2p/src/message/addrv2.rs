//! Addresses of nodes in BIP 155's form, as Core's `CNetAddr::UnserializeV2Stream` reads them.
//!
//! The `bitcoin` crate refuses a whole message for one address that Core would pass over.

use super::DecodeError;
use super::bytes::{any_compact_size, array, compact_size, read, take};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message};
use std::net::Ipv6Addr;

/// Bytes of one address (`MAX_ADDRV2_SIZE`).
const MAX_ADDRV2_SIZE: usize = 512;
/// TORv2 within IPv6 (OnionCat).
const TORV2_IN_IPV6_PREFIX: [u8; 6] = [0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43];
/// First byte of every CJDNS address.
const CJDNS_PREFIX: u8 = 0xfc;

/// Reads one address. Those that Core reads as invalid, to be passed over, are [`AddrV2::Unknown`].
pub(super) fn read_addrv2(input: &mut &[u8]) -> Result<AddrV2Message, DecodeError> {
    let time = read(input)?;
    let services = ServiceFlags::from(any_compact_size(input)?);
    let network = array::<1>(input)?[0];
    let size = compact_size(input)?;
    if size > MAX_ADDRV2_SIZE {
        return Err(DecodeError::malformed("address too long"));
    }
    let bytes = take(input, size)?;
    let addr = address(network, bytes)?;
    let port = u16::from_be_bytes(array(input)?);
    Ok(AddrV2Message { time, services, addr, port })
}

fn address(network: u8, bytes: &[u8]) -> Result<AddrV2, DecodeError> {
    let unknown = || AddrV2::Unknown(network, bytes.to_vec());
    Ok(match network {
        1 => AddrV2::Ipv4(sized::<4>(bytes)?.into()),
        2 => {
            let ip = Ipv6Addr::from(sized::<16>(bytes)?);
            // Neither belongs into IPv6 in this form.
            let embedded = bytes.starts_with(&TORV2_IN_IPV6_PREFIX) || ip.to_ipv4_mapped().is_some();
            if embedded { unknown() } else { AddrV2::Ipv6(ip) }
        }
        4 => AddrV2::TorV3(sized(bytes)?),
        5 => AddrV2::I2p(sized(bytes)?),
        6 => {
            let ip = Ipv6Addr::from(sized::<16>(bytes)?);
            if bytes[0] == CJDNS_PREFIX { AddrV2::Cjdns(ip) } else { unknown() }
        }
        // TORv2 is no more: any network that Core does not know.
        3 => bytes.try_into().map_or_else(|_| unknown(), AddrV2::TorV2),
        _ => unknown(),
    })
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::malformed("an address has not the length of its network's"))
}
