//! A peer as `getpeerinfo` shows it, and the services of nodes by name.

use super::render::{float, object, satoshi};
use bitcoin::hex::DisplayHex;
use bitcoin::p2p::ServiceFlags;
use cairn_p2p::address::{Host, NetAddress};
use cairn_p2p::net::PeerInfo;
use cairn_p2p::types::Time;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Core's `getpeerinfo`, the fields in its order.
pub(super) fn peer_to_value(peer: &PeerInfo) -> Value {
    let address = NetAddress::from(peer.address);
    let text = |address| NetAddress::from(address).to_string();
    let mut out =
        object([("id", peer.id.0.into()), ("addr", peer.name.clone().unwrap_or_else(|| address.to_string()).into())]);
    let mut add = |name: &str, value: Value| {
        out.insert(name.into(), value);
    };
    if let Some(bound) = peer.bound {
        add("addrbind", text(bound).into());
    }
    if let Some(ours) = peer.our_address.map(NetAddress::from).filter(|ours| ours.host.is_valid()) {
        add("addrlocal", ours.to_string().into());
    }
    add("network", Host::from(peer.address.ip()).net_class().name().into());
    add("services", services_hex(peer.services));
    add("servicesnames", services_names(peer.services).into());
    add("relaytxes", peer.relays_transactions.into());
    add("last_inv_sequence", peer.last_inv_sequence.into());
    add("inv_to_send", peer.inv_to_send.into());
    add("lastsend", peer.last_send.as_secs().into());
    add("lastrecv", peer.last_received.as_secs().into());
    add("last_transaction", peer.last_transaction.as_secs().into());
    add("last_block", peer.last_block.as_secs().into());
    add("bytessent", peer.bytes_sent.into());
    add("bytesrecv", peer.bytes_received.into());
    add("conntime", peer.connected.as_secs().into());
    add("timeoffset", peer.time_offset.into());
    if let Some(ping) = peer.ping.filter(|ping| !ping.is_zero()) {
        add("pingtime", seconds(ping));
    }
    if let Some(ping) = peer.min_ping {
        add("minping", seconds(ping));
    }
    if let Some(wait) = peer.ping_wait.filter(|wait| !wait.is_zero()) {
        add("pingwait", seconds(wait));
    }
    add("version", peer.version.into());
    add("subver", peer.user_agent.clone().into());
    add("inbound", peer.kind.is_inbound().into());
    add("bip152_hb_to", peer.hb_to.into());
    add("bip152_hb_from", peer.hb_from.into());
    add("presynced_headers", height(peer.presynced_headers));
    add("synced_headers", height(peer.synced_headers));
    add("synced_blocks", height(peer.synced_blocks));
    add("inflight", peer.in_flight.clone().into());
    add("addr_relay_enabled", peer.addr_relay_enabled.into());
    add("addr_processed", peer.addr_processed.into());
    add("addr_rate_limited", peer.addr_rate_limited.into());
    add("permissions", json!([]));
    add("minfeefilter", satoshi(peer.min_fee_filter));
    add("bytessent_per_msg", by_message(&peer.sent_by_command));
    add("bytesrecv_per_msg", by_message(&peer.received_by_command));
    add("connection_type", peer.kind.name().into());
    add("transport_protocol_type", peer.transport.version.name().into());
    let session = peer.transport.session_id.map(|id| id.to_lower_hex_string());
    add("session_id", session.unwrap_or_default().into());
    Value::Object(out)
}

/// Microseconds, as Core counts pings, in seconds.
fn seconds(time: Time) -> Value {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    float(Time::from_micros(micros).as_secs_f64())
}

/// -1 stands for none.
fn height(height: Option<u32>) -> Value {
    height.map_or(json!(-1), Value::from)
}

fn by_message(bytes: &BTreeMap<&'static str, u64>) -> Value {
    let known: Map<String, Value> = bytes
        .iter()
        .filter(|(_, bytes)| **bytes > 0)
        .map(|(name, bytes)| ((*name).to_owned(), (*bytes).into()))
        .collect();
    Value::Object(known)
}

/// Services as 16 hex digits.
pub(super) fn services_hex(services: ServiceFlags) -> Value {
    format!("{:016x}", services.to_u64()).into()
}

/// Core's `serviceFlagsToStr`.
pub(crate) fn services_names(services: ServiceFlags) -> Vec<String> {
    let name = |bit: u32| match ServiceFlags::from(1_u64 << bit) {
        ServiceFlags::NETWORK => "NETWORK".to_owned(),
        ServiceFlags::BLOOM => "BLOOM".to_owned(),
        ServiceFlags::WITNESS => "WITNESS".to_owned(),
        ServiceFlags::COMPACT_FILTERS => "COMPACT_FILTERS".to_owned(),
        ServiceFlags::NETWORK_LIMITED => "NETWORK_LIMITED".to_owned(),
        ServiceFlags::P2P_V2 => "P2P_V2".to_owned(),
        _ => format!("UNKNOWN[2^{bit}]"),
    };
    (0..u64::BITS).filter(|bit| services.to_u64() >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_from_the_lowest_bit_up() {
        let services = ServiceFlags::from(1 | 2 | 8 | 64 | 1024 | 2048 | 1 << 63);
        let names =
            ["NETWORK", "UNKNOWN[2^1]", "WITNESS", "COMPACT_FILTERS", "NETWORK_LIMITED", "P2P_V2", "UNKNOWN[2^63]"];
        assert_eq!(services_names(services), names);
        assert_eq!(services_names(ServiceFlags::BLOOM), ["BLOOM"]);
        assert_eq!(services_hex(services), "8000000000000c4b");
    }
}
