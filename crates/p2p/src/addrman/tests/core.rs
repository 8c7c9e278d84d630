//! Core's `addrman_tests`.

use bitcoin::hashes::{Hash, sha256d};

use super::*;
use crate::addrman::entry::{MAX_FAILURES, MIN_FAIL, RETRIES};

#[test]
fn addrman_simple() {
    let mut addrman = addrman();
    let source = "252.2.2.2";
    assert_eq!(addrman.size(None, None), 0);
    assert_eq!(select(&mut addrman, false, &[]), None);
    assert!(add(&mut addrman, at("250.1.1.1", 8333), source));
    assert_eq!(addrman.size(None, None), 1);
    assert_eq!(select(&mut addrman, false, &[]), Some(at("250.1.1.1", 8333)));
    // The same again is no news.
    assert!(!add(&mut addrman, at("250.1.1.1", 8333), source));
    assert_eq!(addrman.size(None, None), 1);
    assert!(add(&mut addrman, at("250.1.1.2", 8333), source));
    assert!(addrman.size(None, None) >= 1);
    // What others cannot reach is not kept.
    assert!(!add(&mut addrman, at("127.0.0.1", 8333), source));
    assert!(!add(&mut addrman, NetAddress::NONE, source));
}

#[test]
fn addrman_terrible_many_failures() {
    let mut addrman = addrman();
    let source = host("250.1.2.1");
    let address = at("250.250.2.1", 8333);
    assert!(addrman.add(&[record(address, NOW)], &source, Duration::ZERO, NOW));
    assert!(addrman.good(&address, NOW));
    let now = NOW + time_of(MIN_FAIL) + Duration::from_secs(24 * 60 * 60);
    let helper = at("251.252.2.3", 8333);
    assert!(addrman.add(&[record(helper, now)], &source, Duration::ZERO, now));
    assert!(addrman.good(&helper, now));
    for _ in 0..MAX_FAILURES {
        addrman.attempt(&address, true, now - Duration::from_secs(61));
    }
    assert_eq!(all(&mut addrman, true, now).iter().map(|record| record.address).collect::<Vec<_>>(), [helper]);
    assert_eq!(all(&mut addrman, false, now).len(), 2);
}

fn time_of(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

#[test]
fn addrman_penalty_self_announcement() {
    let mut addrman = addrman();
    let base = NOW - Duration::from_secs(10_000);
    let penalty = Duration::from_secs(3600);
    let own = at("250.1.1.1", 8333);
    assert!(addrman.add(&[record(own, base)], &own.host, penalty, NOW));
    assert_eq!(addrman.get(&own).map(AddrInfo::time), Some(base));
    let other = at("250.1.1.2", 8333);
    assert!(addrman.add(&[record(other, base)], &host("250.1.1.3"), penalty, NOW));
    assert_eq!(addrman.get(&other).map(AddrInfo::time), Some(base - penalty));
    // Before 1970 is 1970.
    let old = at("250.1.1.4", 8333);
    assert!(addrman.add(&[record(old, Duration::from_secs(1))], &host("250.1.1.3"), penalty, NOW));
    assert_eq!(addrman.get(&old).map(AddrInfo::time), Some(Duration::ZERO));
}

#[test]
fn addrman_ports() {
    let mut addrman = addrman();
    let (first, second) = (at("250.1.1.1", 8333), at("250.1.1.1", 8334));
    assert!(add(&mut addrman, first, "252.2.2.2"));
    assert!(add(&mut addrman, second, "252.2.2.2"));
    assert_eq!(addrman.size(None, None), 2);
    assert!(addrman.good(&second, NOW));
    assert_eq!(addrman.size(None, None), 2);
    assert_eq!(select(&mut addrman, true, &[]), Some(first));
}

#[test]
fn addrman_select() {
    let mut addrman = addrman();
    let first = at("250.1.1.1", 8333);
    assert!(add(&mut addrman, first, "252.2.2.2"));
    assert_eq!(select(&mut addrman, true, &[]), Some(first));
    assert_eq!(select(&mut addrman, false, &[]), Some(first));
    assert!(addrman.good(&first, NOW));
    assert_eq!(select(&mut addrman, true, &[]), None);
    assert_eq!(select(&mut addrman, false, &[]), Some(first));
    assert_eq!(addrman.size(None, None), 1);

    let second = at("250.3.1.1", 8333);
    assert!(add(&mut addrman, second, "250.3.1.1"));
    assert_eq!(select(&mut addrman, true, &[]), Some(second));
    assert!(add(&mut addrman, at("250.3.2.2", 9999), "250.3.1.1"));
    assert!(add(&mut addrman, at("250.3.3.3", 9999), "250.4.1.1"));
    for (address, source) in [
        (at("250.4.4.4", 8333), "250.3.2.2"),
        (at("250.4.5.5", 7777), "250.3.2.2"),
        (at("250.4.6.6", 8333), "250.1.1.3"),
    ] {
        assert!(add(&mut addrman, address, source));
        assert!(addrman.good(&address, NOW));
    }
    assert_eq!(addrman.size(None, None), 7);
    let ports: BTreeSet<u16> = (0..100).filter_map(|_| select(&mut addrman, false, &[])).map(|a| a.port).collect();
    assert_eq!(ports.len(), 3);
}

#[test]
fn addrman_select_by_network() {
    let mut addrman = addrman();
    let source = "252.2.2.2";
    assert_eq!(select(&mut addrman, false, &[Net::Ipv4]), None);
    let ipv4 = at("250.1.1.1", 8333);
    assert!(add(&mut addrman, ipv4, source));
    for new_only in [true, false] {
        assert_eq!(select(&mut addrman, new_only, &[Net::Ipv4]), Some(ipv4));
        assert_eq!(select(&mut addrman, new_only, &[Net::Ipv6, Net::Onion, Net::I2p, Net::Cjdns]), None);
    }
    let i2p = at("udhdrtrcetjm5sxzskjyr5ztpeszydbh4dpl3pl4utgqqw2v4jna.b32.i2p", 0);
    assert!(add(&mut addrman, i2p, source));
    assert_eq!(select(&mut addrman, true, &[Net::I2p]), Some(i2p));
    assert_eq!(select(&mut addrman, false, &[Net::I2p]), Some(i2p));
    assert_eq!(select(&mut addrman, false, &[Net::Ipv4]), Some(ipv4));
    assert!(select(&mut addrman, false, &[Net::Ipv4, Net::I2p]).is_some());
    assert!(addrman.good(&i2p, NOW));
    assert_eq!(select(&mut addrman, true, &[Net::I2p]), None);
    assert_eq!(select(&mut addrman, false, &[Net::I2p]), Some(i2p));
    // The only one of IPv4 is new, so the tried are not searched for it.
    assert_eq!(select(&mut addrman, false, &[Net::Ipv4]), Some(ipv4));
    let second = at("c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vyq.b32.i2p", 0);
    assert!(add(&mut addrman, second, source));
    assert_eq!(select(&mut addrman, true, &[Net::I2p]), Some(second));
    // New and tried are drawn alike.
    let drawn: BTreeSet<_> = (0..256).filter_map(|_| select(&mut addrman, false, &[Net::I2p])).collect();
    assert_eq!(drawn, BTreeSet::from([i2p, second]));
    assert_eq!(addrman.size(Some(Net::I2p), None), 2);
    assert_eq!(addrman.size(Some(Net::I2p), Some(true)), 1);
    assert_eq!(addrman.size(None, Some(false)), 1);
}

#[test]
fn addrman_new_collisions() {
    let mut addrman = addrman();
    for n in 1..=24 {
        assert!(add(&mut addrman, at(&format!("250.1.1.{n}"), 0), "252.2.2.2"), "{n}");
        // Core's magic number: the 23rd is the first that takes another's place.
        assert_eq!(addrman.size(None, None), if n < 23 { n } else { n - 1 });
    }
}

#[test]
fn addrman_new_multiplicity() {
    let mut addrman = addrman();
    let address = at("253.3.3.3", 8333);
    let told = |addrman: &mut AddrMan, n: u64, time: Time| {
        let source = host(&format!("{}.{}.1.1", n % 256, n / 256 % 256));
        addrman.add(&[record(address, time)], &source, Duration::ZERO, NOW);
        addrman.position(&address).expect("it was added").multiplicity
    };
    for n in 1..20 {
        assert_eq!(told(&mut addrman, n, NOW), 1, "no newer time, no further place");
    }
    let mut places = 1;
    for n in 1..2000 {
        let more = told(&mut addrman, n, NOW + Duration::from_secs(n));
        assert!(more == places || more == places + 1);
        places = more;
    }
    assert_eq!(places, ADDRMAN_NEW_BUCKETS_PER_ADDRESS);
    assert_eq!(addrman.size(None, None), 1);
    check(&addrman);
}

#[test]
fn addrman_tried_collisions() {
    let mut addrman = addrman();
    for n in 1..=37 {
        let address = at(&format!("250.1.1.{n}"), 0);
        assert!(add(&mut addrman, address, "252.2.2.2"), "{n}");
        // Core's magic number: the 36th is the first that wants a place that is taken.
        assert_eq!(addrman.good(&address, NOW), n != 36, "{n}");
    }
}

#[test]
fn addrman_getaddr() {
    let mut addrman = addrman();
    assert!(all(&mut addrman, true, NOW).is_empty());
    let records = |addresses: &[(&str, u16)]| -> Vec<_> {
        addresses.iter().map(|&(ip, port)| record(at(ip, port), NOW)).collect()
    };
    let first = records(&[("250.250.2.1", 8333), ("251.252.2.3", 8333), ("252.254.4.5", 8333)]);
    let second = records(&[("250.251.2.2", 9999), ("252.253.3.4", 8333)]);
    assert!(addrman.add(&first, &host("250.1.2.1"), Duration::ZERO, NOW));
    assert!(addrman.add(&second, &host("250.2.3.3"), Duration::ZERO, NOW));
    for _ in 0..2 {
        assert_eq!(all(&mut addrman, true, NOW).len(), 5);
        // 23% of 5 is 1, rounded down.
        assert_eq!(addrman.get_addr(2500, 23, None, true, NOW).len(), 1);
        addrman.good(&first[0].address, NOW);
        addrman.good(&second[0].address, NOW);
    }
    for i in 1..8 * 256_u32 {
        let text = format!("{}.{}.1.23", i % 256, i >> 8);
        let address = at(&text, 0);
        addrman.add(&[record(address, NOW)], &address.host, Duration::ZERO, NOW);
        if i % 8 == 0 {
            addrman.good(&address, NOW);
        }
    }
    assert_eq!(addrman.size(None, None), 2006);
    assert_eq!(addrman.get_addr(2500, 23, None, true, NOW).len(), 461);
    assert_eq!(addrman.get_addr(100, 23, None, true, NOW).len(), 100);
    let told = addrman.get_addr(0, 0, None, true, NOW);
    assert_eq!(told.iter().map(|record| record.address).collect::<BTreeSet<_>>().len(), 2006, "none twice");
    assert_eq!(addrman.get_addr(0, 0, Some(Net::Ipv6), true, NOW), []);
    check(&addrman);
}

#[test]
fn getaddr_unfiltered() {
    let mut addrman = addrman();
    let source = host("250.1.2.1");
    let now = NOW;
    let mut add = |address, time| addrman.add(&[record(address, time)], &source, Duration::ZERO, now);
    // Good; never seen of late; tried in vain; from the future.
    let failed = at("250.251.2.3", 9998);
    assert!(add(at("250.250.2.1", 8333), now));
    assert!(add(at("250.251.2.2", 9999), NEVER_SEEN));
    assert!(add(failed, now));
    assert!(add(at("250.252.2.4", 9997), now + Duration::from_secs(11 * 60)));
    addrman.good(&at("250.9.9.9", 1), now);
    for _ in 0..RETRIES {
        addrman.attempt(&failed, true, now - Duration::from_secs(61));
    }
    assert_eq!(all(&mut addrman, true, now).len(), 1);
    assert_eq!(all(&mut addrman, false, now).len(), 4);
}

/// `(HashWriter{} << n).GetHash()`.
fn key(n: i32) -> [u8; 32] {
    sha256d::Hash::hash(&n.to_le_bytes()).to_byte_array()
}

#[test]
fn caddrinfo_get_tried_bucket_legacy() {
    let (key1, key2) = (key(1), key(2));
    let (first, second) = (at("250.1.1.1", 8333), at("250.1.1.1", 9999));
    assert_eq!(tried_bucket(&key1, &first), 40);
    assert_ne!(tried_bucket(&key1, &first), tried_bucket(&key2, &first));
    assert_ne!(tried_bucket(&key1, &first), tried_bucket(&key1, &second));
    let buckets = |text: &dyn Fn(i32) -> String| {
        (0..255).map(|n| tried_bucket(&key1, &at(&text(n), 0))).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(buckets(&|n| format!("250.1.1.{n}")), 8, "one group has no more than 8");
    assert_eq!(buckets(&|n| format!("250.{n}.1.1")), 160);
}

#[test]
fn caddrinfo_get_new_bucket_legacy() {
    let (key1, key2) = (key(1), key(2));
    let (first, second) = (at("250.1.2.1", 8333), at("250.1.2.1", 9999));
    let source = host("250.1.2.1");
    assert_eq!(new_bucket(&key1, &first, &source), 786);
    assert_ne!(new_bucket(&key1, &first, &source), new_bucket(&key2, &first, &source));
    assert_eq!(new_bucket(&key1, &first, &source), new_bucket(&key1, &second, &source), "ports are no matter");
    let same: BTreeSet<_> =
        (0..255).map(|n| format!("250.1.1.{n}")).map(|text| new_bucket(&key1, &at(&text, 0), &host(&text))).collect();
    assert_eq!(same.len(), 1);
    let of_one_source: BTreeSet<_> = (0..4 * 255)
        .map(|n| new_bucket(&key1, &at(&format!("{}.{}.1.1", 250 + n / 255, n % 256), 0), &host("251.4.1.1")))
        .collect();
    assert!(of_one_source.len() <= 64);
    let of_many: BTreeSet<_> =
        (0..255).map(|n| new_bucket(&key1, &at("250.1.1.1", 0), &host(&format!("250.{n}.1.1")))).collect();
    assert!(of_many.len() > 64);
}

#[test]
fn addrman_noevict() {
    let mut addrman = with_35_tried();
    let address36 = at("250.1.1.36", 0);
    assert!(add(&mut addrman, address36, "252.2.2.2"));
    assert!(!addrman.good(&address36, NOW));
    assert_eq!(collision(&mut addrman), Some(at("250.1.1.19", 0)));
    // 19 worked just now: it keeps its place.
    addrman.resolve_collisions(NOW);
    assert_eq!(collision(&mut addrman), None);
    assert!(addrman.position(&at("250.1.1.19", 0)).is_some_and(|position| position.tried));
    for n in 37..59 {
        let address = at(&format!("250.1.1.{n}"), 0);
        assert!(add(&mut addrman, address, "252.2.2.2"));
        assert!(addrman.good(&address, NOW), "{n}");
    }
    let address59 = at("250.1.1.59", 0);
    assert!(add(&mut addrman, address59, "252.2.2.2"));
    assert!(!addrman.good(&address59, NOW));
    assert_eq!(collision(&mut addrman), Some(at("250.1.1.10", 0)));
    assert!(!add(&mut addrman, address36, "252.2.2.2"));
    assert!(!addrman.good(&address36, NOW));
    assert!(collision(&mut addrman).is_some());
    addrman.resolve_collisions(NOW);
    assert_eq!(collision(&mut addrman), None);
    check(&addrman);
}

#[test]
fn addrman_evictionworks() {
    let mut addrman = with_35_tried();
    let (address19, address36) = (at("250.1.1.19", 0), at("250.1.1.36", 0));
    assert!(add(&mut addrman, address36, "252.2.2.2"));
    assert!(!addrman.good(&address36, NOW));
    assert_eq!(collision(&mut addrman), Some(address19));
    // It last worked long ago, and just did not.
    assert!(!addrman.good(&address19, Duration::from_secs(1)));
    addrman.attempt(&address19, false, NOW - Duration::from_secs(30));
    addrman.resolve_collisions(NOW);
    assert_eq!(collision(&mut addrman), Some(address19), "it has a minute to answer");
    addrman.attempt(&address19, false, NOW - Duration::from_secs(61));
    addrman.resolve_collisions(NOW);
    assert_eq!(collision(&mut addrman), None);
    assert!(addrman.position(&address36).is_some_and(|position| position.tried));
    assert!(addrman.position(&address19).is_some_and(|position| !position.tried));
    assert!(!addrman.good(&address36, NOW));
    assert_eq!(collision(&mut addrman), None);
    assert!(!addrman.good(&address19, NOW));
    assert_eq!(collision(&mut addrman), Some(address36));
    // Who cannot be tested for long loses too.
    addrman.resolve_collisions(NOW + Duration::from_secs(4 * 60 * 60));
    assert_eq!(collision(&mut addrman), None);
    assert!(addrman.position(&address19).is_some_and(|position| position.tried));
    assert!(addrman.position(&address36).is_some_and(|position| !position.tried));
    check(&addrman);
}

#[test]
fn addrman_update_address() {
    let mut addrman = addrman();
    let address = at("250.1.1.1", 8333);
    let start = NOW - Duration::from_secs(10_000);
    let source = host("252.2.2.2");
    assert!(addrman.add(&[record(address, start)], &source, Duration::ZERO, NOW));
    let other = at("250.1.1.1", 8334);
    addrman.connected(&other, NOW);
    addrman.set_services(&other, ServiceFlags::NETWORK_LIMITED);
    assert_eq!(all(&mut addrman, true, NOW), [record(address, start)]);
    addrman.connected(&address, NOW);
    addrman.set_services(&address, ServiceFlags::NETWORK_LIMITED);
    assert_eq!(all(&mut addrman, true, NOW), [AddressRecord::new(address, ServiceFlags::NETWORK_LIMITED, NOW)]);
    // Hearsay adds services and takes none away; the node itself says what it has.
    let v2 = AddressRecord::new(address, ServiceFlags::P2P_V2, start);
    assert!(!addrman.add(&[v2], &source, Duration::ZERO, NOW));
    let both = ServiceFlags::P2P_V2 | ServiceFlags::NETWORK_LIMITED;
    assert_eq!(addrman.get(&address).map(AddrInfo::services), Some(both));
    addrman.set_services(&address, ServiceFlags::NETWORK);
    assert_eq!(addrman.get(&address).map(AddrInfo::services), Some(ServiceFlags::NETWORK));
    assert!(addrman.good(&address, NOW));
    assert_eq!(addrman.get(&address).map(AddrInfo::services), Some(ServiceFlags::NETWORK));
    // Times move on by steps of 20 minutes.
    addrman.connected(&address, NOW + Duration::from_secs(20 * 60));
    assert_eq!(addrman.get(&address).map(AddrInfo::time), Some(NOW));
}
