//! What must hold whatever peers say and files hold.

use bitcoin::p2p::Magic;
use proptest::prelude::*;

use super::*;
use crate::addrman::disk::FORMAT;
use crate::limits::*;
use crate::persist::Damage;

#[test]
fn failures_count_once_for_each_time_that_another_worked() {
    let mut addrman = addrman();
    let (address, other) = (at("250.1.1.1", 8333), at("251.1.1.1", 8333));
    assert!(add(&mut addrman, address, "252.2.2.2") && add(&mut addrman, other, "252.2.2.2"));
    let attempts = |addrman: &AddrMan| addrman.get(&address).map(AddrInfo::attempts);
    for _ in 0..3 {
        addrman.attempt(&address, true, NOW);
    }
    assert_eq!(attempts(&addrman), Some(1));
    addrman.good(&other, NOW + Duration::from_secs(1));
    addrman.attempt(&address, false, NOW + Duration::from_secs(2));
    assert_eq!(attempts(&addrman), Some(1));
    addrman.attempt(&address, true, NOW + Duration::from_secs(2));
    assert_eq!(attempts(&addrman), Some(2));
    addrman.good(&address, NOW + Duration::from_secs(3));
    assert_eq!(attempts(&addrman), Some(0));
}

#[test]
fn what_was_not_seen_for_thirty_days_is_not_told() {
    let mut addrman = addrman();
    let address = at("250.1.1.1", 8333);
    assert!(addrman.add(&[record(address, NOW)], &host("252.2.2.2"), Duration::ZERO, NOW));
    assert_eq!(all(&mut addrman, true, NOW + ADDRMAN_HORIZON).len(), 1);
    assert_eq!(all(&mut addrman, true, NOW + ADDRMAN_HORIZON + Duration::from_secs(1)).len(), 0);
    assert_eq!(all(&mut addrman, false, NOW + ADDRMAN_HORIZON + Duration::from_secs(1)).len(), 1);
}

#[test]
fn no_more_than_ten_wait_for_a_test() {
    let mut addrman = addrman();
    let mut taken = 0;
    for n in 1..=255 {
        for c in 1..=8 {
            let address = at(&format!("250.1.{c}.{n}"), 0);
            if add(&mut addrman, address, "252.2.2.2") && !addrman.good(&address, NOW) {
                taken += 1;
            }
            assert!(addrman.tried_collisions.len() <= ADDRMAN_SET_TRIED_COLLISION_SIZE);
        }
    }
    assert!(taken > ADDRMAN_SET_TRIED_COLLISION_SIZE);
    assert_eq!(addrman.tried_collisions.len(), ADDRMAN_SET_TRIED_COLLISION_SIZE);
    check(&addrman);
}

#[test]
fn an_empty_one_is_small_and_an_entry_is_too() {
    assert!(size_of::<AddrMan>() < 1024, "{}", size_of::<AddrMan>());
    assert!(size_of::<Option<AddrInfo>>() <= 128, "{}", size_of::<AddrInfo>());
    assert!(addrman().to_bytes(Magic::REGTEST).len() < 128);
}

/// The bound on an eclipse: of all 65,536 places among the new, whoever speaks from one group gets 64 buckets of 64, and of
/// the tried addresses of one group have 8 of 64.
#[test]
fn a_million_addresses_from_one_group_fill_4096_places() {
    let mut addrman = AddrMan::with_key([7; 32], rng());
    let mut draw = StdRng::seed_from_u64(2);
    let kept = at("8.8.8.8", 8333);
    assert!(addrman.add(&[record(kept, NOW)], &host("9.9.9.9"), Duration::ZERO, NOW));
    for _ in 0..1000 {
        let records: Vec<_> = (0..1000)
            .map(|_| {
                let ip: [u8; 4] = draw.random();
                record(NetAddress::new(Host::Ipv4(ip.into()), draw.random()), NOW)
            })
            .collect();
        // All of 66.66.0.0/16.
        let [c, d]: [u8; 2] = draw.random();
        addrman.add(&records, &Host::Ipv4([66, 66, c, d].into()), GOSSIP_TIME_PENALTY, NOW);
    }
    let places = addrman.entries(false).filter(|(_, info)| info.address != kept).count();
    assert!(places <= 4096, "{places}");
    // Of the 64 draws of a bucket some are the same, and all of them are full.
    assert_eq!(places, 59 * 64);
    let buckets: BTreeSet<_> = addrman.entries(false).map(|(place, _)| place.bucket()).collect();
    assert!(buckets.len() <= 64 + 1);
    check(&addrman);

    // The file of a full one of these is far below what is read.
    let bytes = addrman.to_bytes(Magic::REGTEST);
    assert!(bytes.len() < 4200 * 100);
    // 0.06 of the places: an address that others told of is drawn from a bucket of its own.
    let drawn = (0..3000).filter(|_| select(&mut addrman, true, &[]) == Some(kept)).count();
    assert!(drawn > 0);
}

#[test]
fn one_group_gets_512_places_among_the_tried() {
    let mut addrman = AddrMan::with_key([7; 32], rng());
    for n in 0..20_000_u32 {
        let address = at(&format!("66.66.{}.{}", n / 256, n % 256), 8333);
        // Told of by everyone, so that there are places for all.
        let source = Host::Ipv4([(n % 97 + 11) as u8, (n % 251) as u8, 0, 1].into());
        addrman.add(&[record(address, NOW)], &source, Duration::ZERO, NOW);
        addrman.good(&address, NOW);
    }
    let tried = addrman.size(None, Some(false));
    assert!(tried <= 512 && tried > 500, "{tried}");
    let file = (u64::from(ADDRMAN_NEW_BUCKET_COUNT) + u64::from(ADDRMAN_TRIED_BUCKET_COUNT))
        * u64::from(ADDRMAN_BUCKET_SIZE)
        * (35 + 33 + 8 + 4 * 8 + 4 + 1 + 6);
    assert!(file + 1000 < MAX_PEERS_FILE_SIZE as u64, "a full one can be read again: {file}");
    check(&addrman);
}

/// What happens to an address manager.
#[derive(Debug, Clone)]
enum Event {
    Add { address: u16, source: u16, time: u16 },
    Good { address: u16 },
    Attempt { address: u16, count: bool },
    Connected { address: u16 },
    Resolve,
    Wait { minutes: u16 },
    Reload,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (any::<u16>(), any::<u16>(), any::<u16>())
            .prop_map(|(address, source, time)| Event::Add { address, source, time }),
        6 => any::<u16>().prop_map(|address| Event::Good { address }),
        2 => (any::<u16>(), any::<bool>()).prop_map(|(address, count)| Event::Attempt { address, count }),
        1 => any::<u16>().prop_map(|address| Event::Connected { address }),
        2 => Just(Event::Resolve),
        2 => any::<u16>().prop_map(|minutes| Event::Wait { minutes: minutes % 1000 }),
        1 => Just(Event::Reload),
    ]
}

/// One of 512 addresses, which are of five networks and few groups, so that they collide.
fn some_address(n: u16) -> NetAddress {
    let low = (n / 5 % 100) as u8;
    let host = match n % 5 {
        0 | 1 => Host::Ipv4([250, 1, n.to_le_bytes()[1] % 2, low].into()),
        2 => Host::Ipv6(std::net::Ipv6Addr::new(0x2a00, 1, 0, 0, 0, 0, 0, low.into())),
        3 => Host::Onion([low; 32]),
        _ => Host::Cjdns(std::net::Ipv6Addr::new(0xfc00, 1, 0, 0, 0, 0, 0, low.into())),
    };
    NetAddress::new(host, 8333)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_it_holds_together(events in prop::collection::vec(any_event(), 1..400)) {
        let mut addrman = addrman();
        let mut now = NOW;
        for event in events {
            match event {
                Event::Add { address, source, time } => {
                    let time = now - Duration::from_secs(u64::from(time) * 60);
                    let source = Host::Ipv4([5, (source % 7) as u8, 1, 1].into());
                    addrman.add(&[record(some_address(address), time)], &source, GOSSIP_TIME_PENALTY, now);
                }
                Event::Good { address } => {
                    let moved = addrman.good(&some_address(address), now);
                    prop_assert!(!moved || addrman.position(&some_address(address)).is_some_and(|p| p.tried));
                }
                Event::Attempt { address, count } => addrman.attempt(&some_address(address), count, now),
                Event::Connected { address } => addrman.connected(&some_address(address), now),
                Event::Resolve => addrman.resolve_collisions(now),
                Event::Wait { minutes } => now += Duration::from_secs(u64::from(minutes) * 60),
                Event::Reload => {
                    let bytes = addrman.to_bytes(Magic::SIGNET);
                    let again = AddrMan::from_bytes(&bytes, Magic::SIGNET, rng()).expect("what is written can be read");
                    prop_assert_eq!(&again.to_bytes(Magic::SIGNET), &bytes);
                    check(&again);
                    addrman = again;
                }
            }
            addrman.select_tried_collision();
        }
        check(&addrman);
        let size = addrman.size(None, None);
        prop_assert_eq!(all(&mut addrman, false, now).len(), size);
        prop_assert_eq!(addrman.select(false, &[], now).is_some(), size > 0);
        for net in Net::REACHABLE {
            let selected = addrman.select(false, &[net], now);
            prop_assert_eq!(selected.is_some(), addrman.size(Some(net), None) > 0);
            prop_assert!(selected.is_none_or(|(record, _)| record.address.host.network() == net));
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>, cut: prop::sample::Index, at: prop::sample::Index, xor in 1..=255_u8) {
        prop_assert!(AddrMan::from_bytes(&bytes, Magic::REGTEST, rng()).is_err());
        let mut damaged = with_35_tried().to_bytes(Magic::REGTEST);
        let index = at.index(damaged.len());
        damaged[index] ^= xor;
        prop_assert!(AddrMan::from_bytes(&damaged, Magic::REGTEST, rng()).is_err());
        damaged[index] ^= xor;
        damaged.truncate(cut.index(damaged.len()));
        prop_assert!(AddrMan::from_bytes(&damaged, Magic::REGTEST, rng()).is_err());
    }
}

/// What is read is written as it was: nothing that a file says is bent to fit.
#[test]
fn a_file_with_a_right_checksum_is_refused_if_it_cannot_be() {
    let mut addrman = addrman();
    assert!(add(&mut addrman, at("250.1.1.1", 8333), "252.2.2.2"));
    let file = addrman.to_bytes(Magic::REGTEST);
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        // Before the content are 17 bytes, behind it the checksum.
        let mut content = file[17..file.len() - 32].to_vec();
        change(&mut content);
        AddrMan::from_bytes(&FORMAT.seal(Magic::REGTEST, &content), Magic::REGTEST, rng()).map(|_| ())
    };
    assert_eq!(read(&|_| {}), Ok(()));
    // The key, how many, then the entry: a host of 5 bytes, its port, a source of 5, services of 8, four times of 8.
    let entry = 32 + 4;
    let times = entry + 5 + 2 + 5 + 8;
    let places = times + 4 * 8 + 4 + 1;
    let refused = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        assert_eq!(read(change), Err(Damage::Content(what.to_owned())));
    };
    refused("a time is beyond all times", &|content| content[times + 7] = 0x80);
    refused("there is no network 9", &|content| content[entry] = 9);
    refused("an address is not routable", &|content| content[entry + 1] = 127);
    refused("an address is neither new nor tried", &|content| content[places - 1] = 2);
    // Then how many places, and of each which it is and whose.
    refused("an address has a place that is not its own", &|content| content[places + 4] ^= 1);
    refused("a place is nobody's", &|content| content[places + 6] = 1);
    refused("an address has no place", &|content| {
        content[places] = 0;
        content.truncate(places + 4);
    });
    refused("an address is there twice", &|content| {
        content[32] = 2;
        let again = content[entry..places].to_vec();
        content.splice(places..places, again);
    });
    refused("places are not in order", &|content| {
        content[places] = 2;
        content.extend_from_within(places + 4..);
    });
    assert_eq!(read(&|content| content.push(0)), Err(Damage::Length));
    // What follows is taken for an entry, and ends too early or is none.
    let announced = read(&|content| content[32] = 2);
    assert!(matches!(announced, Err(Damage::Length | Damage::Content(_))), "{announced:?}");
}

#[test]
fn the_same_key_and_chance_give_the_same_answers() {
    let run = || {
        let mut addrman = with_35_tried();
        (select(&mut addrman, false, &[]), all(&mut addrman, false, NOW), addrman.to_bytes(Magic::REGTEST))
    };
    assert_eq!(run(), run());
}

#[test]
fn peers_dat_survives_and_a_damaged_one_is_kept_beside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("peers.dat");
    let load = |magic| AddrMan::load(&path, magic, rng()).expect("readable");
    let none = load(Magic::REGTEST);
    assert_eq!((none.value.size(None, None), none.set_aside), (0, None));

    let mut addrman = with_35_tried();
    addrman.attempt(&at("250.1.1.1", 0), true, NOW);
    addrman.save(&path, Magic::REGTEST).expect("written");
    let loaded = load(Magic::REGTEST);
    assert_eq!(loaded.set_aside, None);
    assert_eq!(loaded.value.to_bytes(Magic::REGTEST), addrman.to_bytes(Magic::REGTEST));
    let info = loaded.value.get(&at("250.1.1.1", 0)).expect("kept");
    assert_eq!((info.last_success(), info.last_try(), info.attempts()), (NOW, NOW, 1));
    assert_eq!(info.source(), host("252.2.2.2"));

    // Another network's.
    let other = load(Magic::BITCOIN);
    assert_eq!(other.value.size(None, None), 0);
    let set_aside = other.set_aside.expect("it was damaged");
    assert_eq!(set_aside.damage, Damage::Network);
    assert_eq!(set_aside.kept_as, dir.path().join("peers.dat.bak"));
    assert!(!path.exists());
    // Cut short, and the name is taken.
    std::fs::write(&path, &addrman.to_bytes(Magic::REGTEST)[..200]).expect("written");
    let set_aside = load(Magic::REGTEST).set_aside.expect("it was damaged");
    assert_eq!((set_aside.damage, set_aside.kept_as), (Damage::Length, dir.path().join("peers.dat.bak.2")));
}
