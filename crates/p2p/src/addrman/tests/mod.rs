//! Core's `addrman_tests` with its numbers, then what must hold whatever happens.

mod bounds;
mod core;

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;

use super::*;

const NOW: Time = Duration::from_secs(1_700_000_000);
/// The time of an address in Core's tests that name none.
const NEVER_SEEN: Time = Duration::from_secs(100_000_000);

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// With the key that Core's tests have, `uint256{1}`.
fn addrman() -> AddrMan {
    let mut key = [0; 32];
    key[0] = 1;
    AddrMan::with_key(key, rng())
}

fn host(text: &str) -> Host {
    text.parse().expect("an address")
}

fn at(text: &str, port: u16) -> NetAddress {
    NetAddress::new(host(text), port)
}

fn record(address: NetAddress, time: Time) -> AddressRecord {
    AddressRecord::new(address, ServiceFlags::NONE, time)
}

/// Adds one address without a penalty.
fn add(addrman: &mut AddrMan, address: NetAddress, source: &str) -> bool {
    addrman.add(&[record(address, NEVER_SEEN)], &host(source), Duration::ZERO, NOW)
}

fn select(addrman: &mut AddrMan, new_only: bool, networks: &[Net]) -> Option<NetAddress> {
    addrman.select(new_only, networks, NOW).map(|(record, _)| record.address)
}

fn collision(addrman: &mut AddrMan) -> Option<NetAddress> {
    addrman.select_tried_collision().map(|(record, _)| record.address)
}

fn all(addrman: &mut AddrMan, filtered: bool, now: Time) -> Vec<AddressRecord> {
    addrman.get_addr(0, 0, None, filtered, now)
}

/// Fills the tried with 250.1.1.1 to 250.1.1.35, none of which collide.
fn with_35_tried() -> AddrMan {
    let mut addrman = addrman();
    for n in 1..36 {
        let address = at(&format!("250.1.1.{n}"), 0);
        assert!(add(&mut addrman, address, "252.2.2.2"));
        assert!(addrman.good(&address, NOW));
        assert_eq!(collision(&mut addrman), None);
        // Again is no collision with itself.
        assert!(!addrman.good(&address, NOW));
        assert_eq!(collision(&mut addrman), None);
    }
    addrman
}

/// What Core's `CheckAddrman` checks.
fn check(addrman: &AddrMan) {
    let mut new: BTreeMap<NetAddress, u8> = BTreeMap::new();
    for (place, info) in addrman.entries(false) {
        assert!(!info.is_tried());
        assert!(place.bucket() < ADDRMAN_NEW_BUCKET_COUNT);
        assert_eq!(slot(&addrman.key, &info.address, false, place.bucket()), place);
        *new.entry(info.address).or_default() += 1;
    }
    for (address, places) in &new {
        assert_eq!(addrman.get(address).map(|info| info.ref_count), Some(*places));
        assert!((1..=ADDRMAN_NEW_BUCKETS_PER_ADDRESS).contains(places));
    }
    let mut tried = BTreeSet::new();
    for (place, info) in addrman.entries(true) {
        assert!(info.is_tried() && info.ref_count == 0);
        let bucket = tried_bucket(&addrman.key, &info.address);
        assert_eq!(slot(&addrman.key, &info.address, true, bucket), place);
        assert!(tried.insert(info.address));
    }
    assert_eq!((addrman.size(None, Some(true)), addrman.size(None, Some(false))), (new.len(), tried.len()));
    assert_eq!(addrman.tables.len(), new.len() + tried.len());
    for position in 0..addrman.tables.len() {
        let id = addrman.tables.at(position);
        let info = addrman.tables.get(id);
        assert_eq!(info.random_position as usize, position);
        assert_eq!(addrman.tables.find(&info.address), Some(id));
    }
    for net in Net::REACHABLE {
        let count = |addresses: &mut dyn Iterator<Item = &NetAddress>| {
            addresses.filter(|address| address.host.network() == net).count()
        };
        assert_eq!(addrman.size(Some(net), Some(true)), count(&mut new.keys()));
        assert_eq!(addrman.size(Some(net), Some(false)), count(&mut tried.iter()));
    }
}
