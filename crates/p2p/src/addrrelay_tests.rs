use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const NOW: Time = Duration::from_secs(1_700_000_000);
const DAY: u64 = 24 * 60 * 60;
const ONION: Host = Host::Onion([7; 32]);
const ALL: Rules<'_> = Rules { rate_limited: true, is_kept_out: &|_| false, is_reachable: &|_| true };

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn after(seconds: u64) -> Time {
    NOW + Duration::from_secs(seconds)
}

fn nth(n: u32) -> NetAddress {
    NetAddress::new(Host::Ipv4((0x0800_0000 + n).into()), 8333)
}

/// An address that was seen just now.
fn fresh(n: u32) -> AddressRecord {
    AddressRecord::new(nth(n), ServiceFlags::NETWORK, NOW)
}

fn records(range: std::ops::Range<u32>) -> Vec<AddressRecord> {
    range.map(fresh).collect()
}

fn peer(kind: ConnectionKind) -> PeerAddrs {
    PeerAddrs::new(kind, NOW, &mut rng())
}

/// One that tells addresses, and may be told some.
fn talking() -> PeerAddrs {
    let mut peer = peer(ConnectionKind::Inbound);
    assert!(peer.receive_getaddr());
    peer
}

#[test]
fn a_peer_has_one_address_first_and_then_one_in_ten_seconds() {
    let mut peer = peer(ConnectionKind::Inbound);
    let heard = peer.receive(records(0..10), ALL, NOW, &mut rng()).expect("few");
    assert_eq!((heard.add.len(), peer.processed(), peer.rate_limited()), (1, 1, 9));
    let heard = peer.receive(records(10..20), ALL, after(30), &mut rng()).expect("few");
    assert_eq!((heard.add.len(), peer.rate_limited()), (3, 16));
    // It saves up a thousand at most.
    let heard = peer.receive(records(0..1000), ALL, after(100 * DAY), &mut rng()).expect("a thousand");
    assert_eq!(heard.add.len(), MAX_ADDR_TO_SEND);
    assert_eq!(peer.receive(records(0..10), ALL, after(100 * DAY), &mut rng()).expect("few").add, []);
    // A clock that is set back gives none.
    assert_eq!(peer.receive(records(0..10), ALL, NOW, &mut rng()).expect("few").add, []);
    // Who has the permission has no bound.
    let trusted = Rules { rate_limited: false, ..ALL };
    assert_eq!(peer.receive(records(0..1000), trusted, NOW, &mut rng()).expect("a thousand").add.len(), 1000);
}

#[test]
fn who_is_asked_may_send_a_thousand_more() {
    let mut rng = rng();
    let mut asked = peer(ConnectionKind::OutboundFullRelay);
    assert!(asked.ask());
    let heard = asked.receive(records(0..1000), ALL, NOW, &mut rng).expect("a thousand");
    assert_eq!((heard.add.len(), heard.relay.len()), (1000, 0));
    // The answer may go on, and is no news, until a message is not full.
    assert_eq!(asked.receive(records(0..1), ALL, NOW, &mut rng).expect("one").relay, []);
    assert_eq!(asked.receive(records(0..1), ALL, after(10), &mut rng).expect("one").relay, records(0..1));
    // No more than that fits into one message.
    assert_eq!(asked.receive(records(0..1001), ALL, NOW, &mut rng), Err(TooManyAddresses(1001)));

    for kind in [ConnectionKind::Inbound, ConnectionKind::BlockRelay, ConnectionKind::Feeler] {
        assert!(!peer(kind).ask(), "{}", kind.name());
    }
    for kind in [ConnectionKind::Manual, ConnectionKind::AddrFetch] {
        assert!(peer(kind).ask(), "{}", kind.name());
    }
}

#[test]
fn peers_for_blocks_alone_tell_nothing() {
    let mut peer = peer(ConnectionKind::BlockRelay);
    assert_eq!(peer.receive(records(0..1), ALL, NOW, &mut rng()), Ok(Heard::default()));
    assert!(!peer.is_enabled() && !peer.receive_getaddr());
    peer.push(fresh(1), &mut rng());
    assert_eq!(peer.take_due(after(1000), &mut rng()), []);
    assert_eq!(peer.announce(Some(fresh(1)), NOW, &mut rng()), None);
}

#[test]
fn what_is_told_is_judged() {
    let trusted = Rules { rate_limited: false, ..ALL };
    let hear = |record: AddressRecord, rules: Rules<'_>| {
        peer(ConnectionKind::Inbound).receive(vec![record], rules, NOW, &mut rng()).expect("one")
    };
    let mut record = fresh(1);
    assert_eq!(hear(record, trusted), Heard { add: vec![record], relay: vec![record], fetched: false });
    // Without blocks it is no use.
    record.services = ServiceFlags::WITNESS;
    assert_eq!(hear(record, trusted), Heard::default());
    record.services = ServiceFlags::NETWORK_LIMITED;
    assert_eq!(hear(record, trusted).add, [record]);
    // Kept out, or of a network that is not ours.
    assert_eq!(hear(record, Rules { is_kept_out: &|_| true, ..trusted }), Heard::default());
    let unreachable = hear(record, Rules { is_reachable: &|_| false, ..trusted });
    assert_eq!((unreachable.add.len(), unreachable.relay.len()), (0, 1), "others may reach it");
    // Old: no news. Not routable: neither.
    record.time = NOW - NEWS;
    assert_eq!(hear(record, trusted).relay, []);
    record.time = NOW - NEWS + Duration::from_secs(1);
    assert_eq!(hear(record, trusted).relay, [record]);
    record.address.host = "10.0.0.1".parse().expect("an address");
    assert_eq!(hear(record, trusted).relay, []);
    // A time that cannot be is five days ago.
    for time in [Duration::ZERO, IMPOSSIBLE_TIME, NOW + NEWS + Duration::from_secs(1)] {
        let heard = hear(AddressRecord { time, ..fresh(1) }, trusted);
        assert_eq!(heard.add, [AddressRecord { time: NOW - UNKNOWN_AGE, ..fresh(1) }]);
        assert_eq!(heard.relay, []);
    }
    assert_eq!(hear(AddressRecord { time: NOW + NEWS, ..fresh(1) }, trusted).add[0].time, NOW + NEWS);
}

#[test]
fn more_than_ten_are_no_news() {
    let trusted = Rules { rate_limited: false, ..ALL };
    let relayed = |count: u32| {
        let heard = peer(ConnectionKind::Inbound).receive(records(0..count), trusted, NOW, &mut rng());
        heard.expect("few").relay.len()
    };
    assert_eq!((relayed(MAX_ADDR_NEWS as u32), relayed(MAX_ADDR_NEWS as u32 + 1)), (MAX_ADDR_NEWS, 0));
}

#[test]
fn an_address_fetch_ends_with_more_than_the_peers_own() {
    let mut fetch = peer(ConnectionKind::AddrFetch);
    assert!(fetch.ask());
    assert!(!fetch.receive(records(0..1), ALL, NOW, &mut rng()).expect("one").fetched);
    assert!(fetch.receive(records(0..2), ALL, NOW, &mut rng()).expect("two").fetched);
    let mut full = peer(ConnectionKind::OutboundFullRelay);
    assert!(!full.receive(records(0..2), ALL, NOW, &mut rng()).expect("two").fetched);
}

#[test]
fn getaddr_is_answered_once_and_only_who_came_to_us() {
    let mut inbound = peer(ConnectionKind::Inbound);
    assert!(inbound.receive_getaddr());
    assert!(!inbound.receive_getaddr());
    for kind in [ConnectionKind::OutboundFullRelay, ConnectionKind::Manual, ConnectionKind::AddrFetch] {
        assert!(!peer(kind).receive_getaddr(), "{}", kind.name());
    }
}

#[test]
fn nobody_is_told_what_it_knows() {
    let mut rng = rng();
    let mut peer = talking();
    peer.receive(records(1..2), ALL, NOW, &mut rng).expect("one");
    for record in records(0..4) {
        peer.push(record, &mut rng);
        peer.push(record, &mut rng);
    }
    // Two of them it learns after they were pushed.
    peer.add_known(&nth(2));
    assert_eq!(peer.take_due(NOW, &mut rng), [fresh(0), fresh(3)]);
    for record in records(0..4) {
        peer.push(record, &mut rng);
    }
    assert_eq!(peer.take_due(after(DAY), &mut rng), []);
}

#[test]
fn what_cannot_be_an_address_or_be_said_is_not_told() {
    let mut rng = rng();
    let mut peer = talking();
    let onion = AddressRecord::new(NetAddress::new(ONION, 8333), ServiceFlags::NETWORK, NOW);
    peer.push(onion, &mut rng);
    peer.push(AddressRecord::new(NetAddress::NONE, ServiceFlags::NETWORK, NOW), &mut rng);
    assert_eq!(peer.take_due(NOW, &mut rng), []);
    peer.set_wants_addrv2();
    peer.push(onion, &mut rng);
    assert_eq!(peer.take_due(after(DAY), &mut rng), [onion]);
}

#[test]
fn a_message_has_a_thousand_and_a_peer_costs_no_more() {
    let mut rng = rng();
    let mut peer = talking();
    for record in records(0..MAX_ADDR_TO_SEND as u32 + 1) {
        peer.push(record, &mut rng);
    }
    let sent = peer.take_due(NOW, &mut rng);
    assert_eq!(sent.len(), MAX_ADDR_TO_SEND);
    assert!(sent.contains(&fresh(MAX_ADDR_TO_SEND as u32)), "the last took the place of another");
    assert_eq!(peer.to_send.capacity(), 0);
    for n in 0..100_000 {
        peer.add_known(&nth(n));
    }
    assert!((100_000 - MAX_ADDR_KNOWN..100_000).all(|n| peer.knows(&nth(n))), "the last are known");
    let forgotten = (0..90_000).filter(|&n| !peer.knows(&nth(n))).count();
    assert!(forgotten > 89_700, "but for 1 in 1000: {forgotten}");
    assert!(size_of::<PeerAddrs>() < 400, "{}", size_of::<PeerAddrs>());
}

#[test]
fn addresses_are_told_every_half_minute_on_average() {
    let mut rng = rng();
    let mut peer = talking();
    let mut messages = 0;
    let seconds = 30_000;
    for second in 0..seconds {
        peer.push(fresh(second), &mut rng);
        let sent = peer.take_due(after(second.into()), &mut rng);
        messages += u32::from(!sent.is_empty());
    }
    // 1000, within 5 of its deviations of 32; rounding up to seconds takes some off.
    assert!((800..1160).contains(&messages), "{messages}");
}

#[test]
fn our_own_address_goes_first_alone_and_then_every_day() {
    let mut rng = rng();
    let own = fresh(77);
    let mut peer = peer(ConnectionKind::OutboundFullRelay);
    assert!(!peer.is_announcement_due(NOW), "before the handshake");
    assert!(peer.ask());
    assert_eq!(peer.announce(Some(own), NOW, &mut rng), Some(own));
    assert_eq!(peer.announce(Some(own), NOW, &mut rng), None);
    let mut told = 0;
    let days = 1000;
    for hour in 1..24 * days {
        let now = after(hour * 60 * 60);
        assert_eq!(peer.announce(Some(own), now, &mut rng), None);
        told += peer.take_due(now, &mut rng).len();
    }
    assert!((800..1160).contains(&told), "{told}");

    // Who does not understand it is not told; and if there is none, it is tried again in a day.
    let mut peer = talking();
    let onion = AddressRecord::new(NetAddress::new(ONION, 8333), ServiceFlags::NETWORK, NOW);
    assert_eq!(peer.announce(Some(onion), NOW, &mut rng), None);
    let mut peer = talking();
    assert_eq!(peer.announce(None, NOW, &mut rng), None);
    assert!(!peer.is_announcement_due(NOW));
}

#[test]
fn an_address_goes_to_the_same_two_peers_for_a_day() {
    let relay = AddrRelay::new(&mut rng());
    let peers: Vec<(PeerId, PeerAddrs)> = (0..20).map(|n| (PeerId(n), talking())).collect();
    let targets = |address: NetAddress, reachable: bool, now: Time| {
        relay.targets(&address, reachable, PeerId(3), now, peers.iter().map(|(id, peer)| (*id, peer)))
    };
    let mut ever = BTreeSet::new();
    for n in 0..200 {
        let first = targets(nth(n), true, NOW);
        assert_eq!(first.len(), MAX_ADDR_RELAY_PEERS);
        assert!(first[0] != first[1] && !first.contains(&PeerId(3)), "not to whom it came from");
        let within_a_day: BTreeSet<_> = (0..24).map(|hour| targets(nth(n), true, after(hour * 60 * 60))).collect();
        assert!(within_a_day.len() <= 2, "it changes once a day");
        ever.extend(first);
        // Out of our reach it goes to the same, or to the first of them.
        let unreachable = targets(nth(n), false, NOW);
        assert!(!unreachable.is_empty() && targets(nth(n), true, NOW).starts_with(&unreachable));
    }
    assert_eq!(ever.len(), 19, "all are someone's");
    let ones = (0..200).filter(|&n| targets(nth(n), false, NOW).len() == 1).count();
    assert!((60..140).contains(&ones), "{ones}");
    assert_eq!(targets(NetAddress::new(Host::internal("a"), 1), false, NOW), []);
}

#[test]
fn only_peers_that_understand_are_told_on() {
    let relay = AddrRelay::new(&mut rng());
    let mut v2 = talking();
    v2.set_wants_addrv2();
    let peers = [(PeerId(1), talking()), (PeerId(2), v2), (PeerId(3), peer(ConnectionKind::Inbound))];
    let targets = |host| {
        let peers = peers.iter().map(|(id, peer)| (*id, peer));
        relay.targets(&NetAddress::new(host, 8333), true, PeerId(9), NOW, peers)
    };
    assert_eq!(targets(ONION), [PeerId(2)]);
    assert_eq!(BTreeSet::from_iter(targets(nth(1).host)), BTreeSet::from([PeerId(1), PeerId(2)]));
}

#[test]
fn all_who_ask_at_one_place_get_the_same_for_a_day() {
    let mut rng = rng();
    let mut relay = AddrRelay::new(&mut rng);
    let mut drawn = 0;
    let mut ask = |relay: &mut AddrRelay, network, bound, now| {
        let draw = || {
            drawn += 1;
            records(drawn..drawn + 1)
        };
        relay.response(network, bound, now, &mut rng, draw)[0]
    };
    let here = nth(1000);
    let first = ask(&mut relay, Net::Ipv4, here, NOW);
    assert_eq!(ask(&mut relay, Net::Ipv4, here, NOW), first);
    assert_eq!(ask(&mut relay, Net::Ipv4, here, NOW + MIN_ADDR_RESPONSE_LIFETIME), first);
    assert_ne!(ask(&mut relay, Net::Onion, here, NOW), first);
    assert_ne!(ask(&mut relay, Net::Ipv4, nth(1001), NOW), first);
    assert_eq!(ask(&mut relay, Net::Ipv4, here, NOW), first);
    let expired = NOW + MIN_ADDR_RESPONSE_LIFETIME + ADDR_RESPONSE_LIFETIME_SPREAD + Duration::from_secs(1);
    assert_ne!(ask(&mut relay, Net::Ipv4, here, expired), first);
    // However many sockets there are.
    for n in 0..100 {
        ask(&mut relay, Net::Ipv4, nth(2000 + n), expired);
        assert!(relay.responses.len() <= MAX_ADDR_RESPONSE_CACHES);
    }
    assert_eq!(relay.responses.len(), MAX_ADDR_RESPONSE_CACHES);
}

proptest! {
    #[test]
    fn no_peer_gets_in_more_than_its_rate(gaps in prop::collection::vec((0..5000_u64, 0..=1000_u32), 1..50)) {
        let mut rng = rng();
        let mut peer = peer(ConnectionKind::Inbound);
        let (mut elapsed, mut accepted) = (0, 0);
        for (gap, count) in gaps {
            elapsed += gap;
            let heard = peer.receive(records(0..count), ALL, after(elapsed), &mut rng).expect("a thousand");
            accepted += heard.add.len();
            prop_assert!(accepted as f64 <= 1.0 + elapsed as f64 * MAX_ADDR_RATE_PER_SECOND + 0.001);
            prop_assert_eq!(accepted as u64, peer.processed());
        }
    }
}
