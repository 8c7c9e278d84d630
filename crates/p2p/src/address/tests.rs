//! As Core's `netbase_tests` and `net_tests` have it.

use std::net::{IpAddr, SocketAddr};

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use proptest::prelude::*;

use super::*;
use crate::types::Time;

const ONION: &str = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion";
const I2P: &str = "udhdrtrcetjm5sxzskjyr5ztpeszydbh4dpl3pl4utgqqw2v4jna.b32.i2p";

fn host(text: &str) -> Host {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
}

#[test]
fn the_network_of_an_address() {
    for (text, network) in [
        ("127.0.0.1", Net::Unroutable),
        ("::1", Net::Unroutable),
        ("8.8.8.8", Net::Ipv4),
        ("2001::8888", Net::Ipv6),
        (ONION, Net::Onion),
        (I2P, Net::I2p),
    ] {
        assert_eq!(host(text).network(), network, "{text}");
    }
    assert_eq!(Host::internal("foo.com").network(), Net::Internal);
    let cjdns = host("fc00:1:2:3:4:5:6:7");
    assert_eq!(cjdns.network(), Net::Unroutable);
    assert_eq!(cjdns.maybe_cjdns(true).network(), Net::Cjdns);
    assert_eq!(cjdns.maybe_cjdns(false), cjdns);
    assert_eq!(host("fd00::1").maybe_cjdns(true), host("fd00::1"));
    // A tunnel leads to an IPv4 address.
    assert_eq!((host("2002:102:304::1").network(), host("2002:102:304::1").net_class()), (Net::Ipv6, Net::Ipv4));
}

#[test]
fn names_of_networks() {
    for net in Net::REACHABLE {
        assert_eq!(Net::from_name(net.name()), Some(net));
        assert_eq!(Net::from_name(&net.name().to_uppercase()), Some(net));
    }
    for name in ["tor", "TOR", ":)", "oniÖn", "", "internal", "not_publicly_routable"] {
        assert_eq!(Net::from_name(name), None, "{name}");
    }
}

#[test]
fn ranges_that_the_internet_does_not_route() {
    for text in [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.0",
        "172.31.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "169.254.1.1",
        "100.64.0.0",
        "100.127.255.255",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "127.0.0.1",
        "0.1.2.3",
        "::1",
        "2001:db8::",
        "fc00::",
        "fdff::",
        "2001:10::",
        "2001:1f:ffff::",
        "2001:20::",
        "fe80::",
        "::",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        assert!(!host(text).is_routable(), "{text}");
    }
    for text in [
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "2001::1",
        "2001:30::1",
        "2001:f::1",
        "fe80:0:0:1::",
        "fe00::",
        ONION,
        I2P,
    ] {
        assert!(host(text).is_routable(), "{text}");
    }
    for text in ["::", "0.0.0.0", "255.255.255.255", "2001:db8::"] {
        assert!(!host(text).is_valid(), "{text}");
    }
    for text in ["127.0.0.1", "::1", "10.0.0.1", "fe80::1"] {
        assert!(host(text).is_valid(), "{text}");
    }
    assert!(host("127.255.255.255").is_local() && host("0.0.0.1").is_local() && host("::1").is_local());
    assert!(!host("128.0.0.1").is_local() && !host("::2").is_local());
    assert!(!Host::internal("bar.com").is_valid() && !Host::NONE.is_valid());
    assert!(!Host::Cjdns("fd00::1".parse().expect("IPv6")).is_valid());
}

#[test]
fn groups() {
    let group = |text| host(text).group();
    for text in ["127.0.0.1", "::1", "10.0.0.1", "169.254.1.1", "::"] {
        assert_eq!(group(text), [0], "{text}");
    }
    let ipv4 = Net::Ipv4 as u8;
    for text in [
        "1.2.3.4",
        "::FFFF:1.2.3.4",
        "::FFFF:0:102:304",
        "64:FF9B::102:304",
        "2002:102:304:9999:9999:9999:9999:9999",
        "2001:0:9999:9999:9999:9999:FEFD:FCFB",
    ] {
        assert_eq!(group(text), [ipv4, 1, 2], "{text}");
    }
    let ipv6 = Net::Ipv6 as u8;
    assert_eq!(group("2001:470:abcd:9999:9999:9999:9999:9999"), [ipv6, 32, 1, 4, 112, 175]);
    assert_eq!(group("2001:2001:9999:9999:9999:9999:9999:9999"), [ipv6, 32, 1, 32, 1]);
    // The key begins with 0x79.
    assert_eq!(group(ONION), [Net::Onion as u8, 0x7f]);
    assert_eq!(group(I2P), [Net::I2p as u8, 0xaf]);
    assert_eq!(host("fc12:3456::1").maybe_cjdns(true).group(), [Net::Cjdns as u8, 0xfc, 0x1f]);
    let internal = [Net::Internal as u8, 0x12, 0x92, 0x94, 0x00, 0xeb, 0x46, 0x07, 0xc4, 0xac, 0x07];
    assert_eq!(Host::internal("baz.net").group(), internal);
}

#[test]
fn text_as_core_prints_it() {
    for (text, printed) in [
        ("127.0.0.1", "127.0.0.1:8333"),
        ("127.0.0.1:18444", "127.0.0.1:18444"),
        ("[127.0.0.1]", "127.0.0.1:8333"),
        ("::ffff:127.0.0.1", "127.0.0.1:8333"),
        ("::FFFF:0102:0304", "1.2.3.4:8333"),
        ("::", "[::]:8333"),
        ("[::]:8334", "[::]:8334"),
        ("[2001:db8::1]:8334", "[2001:db8::1]:8334"),
        ("[fd6c:88c0:8724:1:2:3:4:5]", "[fd6c:88c0:8724:1:2:3:4:5]:8333"),
        ("2001:0:0:1:0:0:0:1", "[2001:0:0:1::1]:8333"),
        ("2001:DB8:0:0:1::1", "[2001:db8::1:0:0:1]:8333"),
        ("2001:db8::1:1:1:1:1", "[2001:db8:0:1:1:1:1:1]:8333"),
        ("::1.2.3.4", "[::102:304]:8333"),
        ("::ffff:0:1.2.3.4", "[::ffff:0:102:304]:8333"),
    ] {
        assert_eq!(NetAddress::parse(text, 8333).map(|address| address.to_string()).as_deref(), Ok(printed), "{text}");
    }
    assert_eq!(NetAddress::parse(ONION, 8333).map(|address| address.to_string()), Ok(format!("{ONION}:8333")));
    let shouted = I2P.to_uppercase();
    assert_eq!(NetAddress::parse(&shouted, 0).map(|address| address.to_string()), Ok(format!("{I2P}:0")));
    assert_eq!(Host::internal("esffpp").to_string(), "esffpvrt3wpeaygy.internal");
    assert_eq!(NetAddress::NONE.to_string(), "[::]:0");
}

#[test]
fn texts_that_are_no_address() {
    for text in [
        "",
        ":::",
        "1.2.3",
        "1.2.3.4.5",
        "257.0.0.1",
        "hab",
        "seed.example.org:8333",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:+1",
        "1.2.3.4:1E2",
        "1.2.3.4\0.example.com",
        // What stands for a name is not typed in.
        "[fd6b:88c0:8724:1:2:3:4:5]",
        // Version 2, a wrong checksum, a wrong version, a wrong length, no base32.
        "6hzph5hv6337r6p2.onion",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscsad.onion",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscrye.onion",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd\0wtf.onion",
        "mfrggzak.onion",
        "mf*g zak.onion",
        "udhdrtrcetjm5sxzskjyr5ztpeszydbh4dpl3pl4utgqqw2v4jn=.b32.i2p",
        "udhdrtrcetjm5sxzskjyr5ztpeszydbh4dpl3pl4utgqqw2v4jna=.b32.i2p",
        "udhdrtrcetjm5sxzskjyr5ztpeszydbh4dpl3pl4utgqqw2v\0wtf.b32.i2p",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscsad.b32.i2p",
        "tp*szydbh4dp.b32.i2p",
    ] {
        assert_eq!(NetAddress::parse(text, 8333), Err(ParseAddressError), "{text}");
    }
}

#[test]
fn a_host_and_its_port() {
    for (text, host, port) in [
        ("www.bitcoincore.org", "www.bitcoincore.org", None),
        ("[www.bitcoincore.org]:80", "www.bitcoincore.org", Some(80)),
        ("127.0.0.1:8333", "127.0.0.1", Some(8333)),
        ("[127.0.0.1]", "127.0.0.1", None),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", None),
        ("[::ffff:127.0.0.1]:8333", "::ffff:127.0.0.1", Some(8333)),
        ("::8333", "::8333", None),
        (":8333", "", Some(8333)),
        ("[]:8333", "", Some(8333)),
        ("", "", None),
        (":65535", "", Some(65535)),
    ] {
        assert_eq!(split_host_port(text), Some((host, port)), "{text}");
    }
    for text in [":65536", ":-1", "[]:70001", "[]:-1", "[]:-0", "[]:0", "[]:1/2", "[]:1E2", "127.0.0.1:", "a:0"] {
        assert_eq!(split_host_port(text), None, "{text}");
    }
}

#[test]
fn sockets() {
    let mapped: SocketAddr = "[::ffff:1.2.3.4]:8333".parse().expect("an address");
    let address = NetAddress::from(mapped);
    assert_eq!(address.host, host("1.2.3.4"));
    assert_eq!(address.socket_addr(), Some("1.2.3.4:8333".parse().expect("an address")));
    assert_eq!(host("fc00::1").maybe_cjdns(true).ip(), Some("fc00::1".parse::<IpAddr>().expect("IPv6")));
    assert_eq!(NetAddress::new(host(ONION), 8333).socket_addr(), None);
    assert_eq!(host(I2P).ip(), None);
}

#[test]
fn messages_carry_what_core_writes() {
    let record = |host| AddressRecord::new(NetAddress::new(host, 8333), ServiceFlags::NETWORK, Time::from_secs(5));
    let addr = |host: Host| {
        let entry = record(host).to_v2().expect("no name");
        bitcoin::hex::DisplayHex::to_lower_hex_string(&serialize(&entry.addr)[..])
    };
    assert_eq!(addr(Host::NONE), "021000000000000000000000000000000000");
    assert_eq!(addr(host("1.2.3.4")), "010401020304");
    assert_eq!(addr(host("1a1b:2a2b:3a3b:4a4b:5a5b:6a6b:7a7b:8a8b")), "02101a1b2a2b3a3b4a4b5a5b6a6b7a7b8a8b");
    assert_eq!(addr(host(ONION)), "042079bcc625184b05194975c28b66b66b0469f7f6556fb1ac3189a79b40dda32f1f");
    assert_eq!(record(Host::internal("a")).to_v2(), None);

    // What the old message cannot carry is not put into it.
    for text in [ONION, I2P] {
        assert_eq!(record(host(text)).to_v1(), None);
        assert!(!host(text).is_addr_v1_compatible());
    }
    let (time, entry) = record(host("1.2.3.4")).to_v1().expect("IPv4");
    assert_eq!(entry.socket_addr().expect("an address"), "1.2.3.4:8333".parse().expect("an address"));
    assert_eq!(AddressRecord::from_v1(time, &entry), record(host("1.2.3.4")));
}

#[test]
fn what_hides_in_ipv6_is_found_or_dropped() {
    let legacy = |ip: &str| {
        let address = Address {
            services: ServiceFlags::NONE,
            address: ip.parse::<std::net::Ipv6Addr>().expect("IPv6").segments(),
            port: 1,
        };
        AddressRecord::from_v1(0, &address).address.host
    };
    assert_eq!(legacy("::ffff:1.2.3.4"), host("1.2.3.4"));
    assert_eq!(legacy("fd87:d87e:eb43:102:304:506:708:90a"), Host::NONE);
    assert_eq!(legacy("fd6b:88c0:8724:ca97:8112:ca1b:bdca:fac2"), Host::internal("a"));

    let v2 = |addr| {
        let entry = AddrV2Message { time: 0, services: ServiceFlags::NONE, addr, port: 1 };
        AddressRecord::from_v2(&entry).address.host
    };
    for ip in ["::ffff:1.2.3.4", "fd87:d87e:eb43:102:304:506:708:90a", "fd6b:88c0:8724:1:2:3:4:5"] {
        assert_eq!(v2(AddrV2::Ipv6(ip.parse().expect("IPv6"))), Host::NONE, "{ip}");
    }
    assert_eq!(v2(AddrV2::TorV2([1; 10])), Host::NONE);
    assert_eq!(v2(AddrV2::Unknown(170, vec![1; 4])), Host::NONE);
}

/// Any host that can be sent.
pub(crate) fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| Host::Ipv4(bytes.into())),
        any::<[u8; 16]>().prop_map(|bytes| Host::from_legacy_ipv6(bytes.into())),
        any::<[u8; 32]>().prop_map(Host::Onion),
        any::<[u8; 32]>().prop_map(Host::I2p),
        any::<[u8; 15]>().prop_map(|bytes| {
            let ip: [u8; 16] = [&[0xfc], &bytes[..]].concat().try_into().expect("16 bytes");
            Host::Cjdns(ip.into())
        }),
    ]
}

proptest! {
    #[test]
    fn every_address_reads_back_from_text_and_messages(host in any_host(), port: u16, services: u64, time: u32) {
        let address = NetAddress::new(host, port);
        if port != 0 {
            let read = NetAddress::parse(&address.to_string(), 1).expect("what is printed can be read");
            prop_assert_eq!(read.host.maybe_cjdns(matches!(host, Host::Cjdns(_))), host);
            prop_assert_eq!(read.port, port);
        }
        let record = AddressRecord::new(address, ServiceFlags::from(services), Time::from_secs(time.into()));
        let bytes = serialize(&record.to_v2().expect("no name"));
        let entry: AddrV2Message = deserialize(&bytes).expect("what is written can be read");
        prop_assert_eq!(AddressRecord::from_v2(&entry), record);
        if let Some((time, entry)) = record.to_v1() {
            prop_assert_eq!(AddressRecord::from_v1(time, &entry), record);
        }
    }

    #[test]
    fn any_text_is_an_address_or_refused(text in "(\\PC{0,70}|[0-9a-f:.%\\[\\]]{0,40})") {
        if let Ok(address) = NetAddress::parse(&text, 8333) {
            prop_assert_eq!(NetAddress::parse(&address.to_string(), 1), Ok(address));
        }
    }
}
