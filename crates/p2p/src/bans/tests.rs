//! As Core's `banman_tests`, `netbase_tests` and `setban` have it.

use proptest::prelude::*;

use super::*;
use crate::limits::MAX_BANLIST_FILE_SIZE;
use crate::persist::Damage;

const NOW: Time = Duration::from_secs(1_700_000_000);
const ONION: &str = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion";

fn bans() -> Bans {
    Bans::new(DEFAULT_BAN_TIME, false, 1)
}

fn host(text: &str) -> Host {
    text.parse().expect("an address")
}

fn after(seconds: u64) -> Time {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn a_range_contains_its_addresses() {
    let contains = |subnet: &str, address: &str| subnet.parse::<Subnet>().expect("a range").contains(&host(address));
    for (subnet, address) in [
        ("1.2.3.0/24", "1.2.3.4"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4/32", "1.2.3.4"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("[::1]", "::1"),
        ("1:2:3:4:5:6:7:0/112", "1:2:3:4:5:6:7:1234"),
        ("192.168.0.20/29", "192.168.0.18"),
        ("1.2.2.110/31", "1.2.2.111"),
        ("1.2.2.20/26", "1.2.2.63"),
        ("::/0", "1:2:3:4:5:6:7:1234"),
        ("0.0.0.0/0", "1.2.3.4"),
        (ONION, ONION),
    ] {
        assert!(contains(subnet, address), "{subnet} {address}");
    }
    for (subnet, address) in [
        ("1.2.2.0/24", "1.2.3.4"),
        ("1.2.3.4", "5.6.7.8"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:9"),
        ("1.2.2.110/31", "1.2.2.112"),
        // What is no valid address is in no range, and one network's is not another's.
        ("::/0", "::"),
        ("0.0.0.0/0", "0.0.0.0"),
        ("::/0", "1.2.3.4"),
        ("0.0.0.0/0", "1:2:3:4:5:6:7:1234"),
        (ONION, "kpgvmscirrdqpekbqjsvw5teanhatztpp2gl6eee4zkowvwfxwenqaid.onion"),
        (ONION, "1.2.3.4"),
    ] {
        assert!(!contains(subnet, address), "{subnet} {address}");
    }
}

#[test]
fn ranges_as_core_prints_them() {
    let printed = |text: &str| text.parse::<Subnet>().map(|subnet| subnet.to_string());
    for (text, expected) in [
        ("127.0.0.1", "127.0.0.1/32"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("1.2.3.4/8", "1.0.0.0/8"),
        ("1.2.3.4/255.255.255.255", "1.2.3.4/32"),
        ("1.2.3.4/255.255.255.254", "1.2.3.4/31"),
        ("1.2.3.4/255.255.254.0", "1.2.2.0/23"),
        ("1.2.3.4/255.255.192.0", "1.2.0.0/18"),
        ("1.2.3.4/252.0.0.0", "0.0.0.0/6"),
        ("1.2.3.4/128.0.0.0", "0.0.0.0/1"),
        ("1.2.3.4/0.0.0.0", "0.0.0.0/0"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8/128"),
        ("1:2:3:4:5:6:7:8/33", "1:2::/33"),
        ("1:2:3:4:5:6:7:8/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1:2:3:4:5:6:7:8/128"),
        ("1:2:3:4:5:6:7:8/ffff:0000:0000:0000:0000:0000:0000:0000", "1::/16"),
        ("1:2:3:4:5:6:7:8/0000:0000:0000:0000:0000:0000:0000:0000", "::/0"),
        (ONION, ONION),
    ] {
        assert_eq!(printed(text).as_deref(), Ok(expected), "{text}");
    }
    for text in [
        "",
        "bloop",
        "/24",
        "1.2.3.0/",
        "1.2.3.0/-1",
        "1.2.3.0/+24",
        "1.2.3.0/33",
        "1.2.3.0/300",
        "1:2:3:4:5:6:7:8/-1",
        "1:2:3:4:5:6:7:8/129",
        // Ones after zeros, or the mask of another network.
        "1.2.3.4/255.255.232.0",
        "1.2.3.4/255.0.255.255",
        "1:2:3:4:5:6:7:8/ffff:ffff:ffff:fffe:ffff:ffff:ffff:ff0f",
        "1.1.1.1/ffff::",
        "::1/255.0.0.0",
    ] {
        assert_eq!(printed(text), Err(ParseSubnetError), "{text}");
    }
    assert_eq!(format!("{ONION}/8").parse::<Subnet>(), Err(ParseSubnetError));
    assert_eq!(Subnet::single(Host::internal("a")), None);
    let cjdns = Subnet::parse("fc00::1", true).expect("an address");
    assert_eq!(cjdns.to_string(), "fc00::1");
    assert!(cjdns.contains(&host("fc00::1").maybe_cjdns(true)) && !cjdns.contains(&host("fc00::1")));
}

#[test]
fn setban_and_listbanned() {
    let mut bans = bans();
    assert_eq!(bans.setban_add("127.0.0.0/24", BanTime::Default, NOW), Ok("127.0.0.0/24".parse().expect("a range")));
    assert!(bans.is_dirty());
    assert!(bans.is_banned(&host("127.0.0.1"), NOW));
    assert!(!bans.is_banned(&host("127.0.1.1"), NOW));
    assert_eq!(bans.setban_add("127.0.0.0/24", BanTime::Default, NOW), Err(BanError::AlreadyBanned));
    // An address in it is banned already; a part of it is not.
    assert_eq!(bans.setban_add("127.0.0.1", BanTime::Default, NOW), Err(BanError::AlreadyBanned));
    assert!(bans.setban_add("127.0.0.0/25", BanTime::Default, NOW).is_ok());
    for text in ["127.0.0.1/42", "", "0.0.0.0", "example.org"] {
        assert_eq!(bans.setban_add(text, BanTime::Default, NOW), Err(BanError::Invalid), "{text}");
        assert_eq!(bans.setban_remove(text), Err(BanError::Invalid), "{text}");
    }
    assert_eq!(bans.setban_remove("127.0.0.1"), Err(BanError::NotBanned));
    assert!(bans.setban_remove("127.0.0.0/25").is_ok());
    assert!(bans.setban_remove("127.0.0.0/24").is_ok());
    assert_eq!(bans.setban_remove("127.0.0.0/24"), Err(BanError::NotBanned));
    assert_eq!(bans.listbanned(NOW), []);

    let now = seconds(NOW);
    assert_eq!(bans.setban_add("1.2.3.4", BanTime::Until(now - 1), NOW), Err(BanError::Past));
    assert!(bans.setban_add("1.2.3.4", BanTime::Until(now + 31), NOW).is_ok());
    assert!(bans.setban_add("1.2.3.5", BanTime::For(100), NOW).is_ok());
    assert!(bans.setban_add("2001::/16", BanTime::For(0), NOW).is_ok());
    let listed = bans.listbanned(after(1));
    let day = 24 * 60 * 60;
    let fields = |n: usize| {
        let ban: &ListedBan = &listed[n];
        let since = (ban.ban_created - now, ban.banned_until - now);
        (ban.address.to_string(), since, ban.ban_duration, ban.time_remaining)
    };
    assert_eq!(fields(0), ("1.2.3.4/32".to_owned(), (0, 31), 31, 30));
    assert_eq!(fields(1), ("1.2.3.5/32".to_owned(), (0, 100), 100, 99));
    assert_eq!(fields(2), ("2001::/16".to_owned(), (0, day), day, day - 1));
    assert_eq!(listed.len(), 3);

    // Ended, but kept a second longer.
    assert!(bans.is_banned(&host("1.2.3.4"), after(30)) && !bans.is_banned(&host("1.2.3.4"), after(31)));
    assert_eq!(bans.listbanned(after(31)).len(), 3);
    assert_eq!(bans.listbanned(after(32)).len(), 2);
    bans.clear_banned();
    assert_eq!(bans.listbanned(NOW), []);
}

#[test]
fn a_longer_ban_takes_the_place_of_a_shorter() {
    let mut bans = bans();
    let subnet: Subnet = "1.2.3.4".parse().expect("an address");
    let until = |bans: &mut Bans| bans.listbanned(NOW)[0].time_remaining;
    bans.ban(subnet, BanTime::For(100), NOW);
    bans.ban(subnet, BanTime::For(50), NOW);
    assert_eq!(until(&mut bans), 100);
    bans.ban(subnet, BanTime::For(200), NOW);
    assert_eq!(until(&mut bans), 200);
    bans.ban(subnet, BanTime::For(i64::MAX), NOW);
    assert!(until(&mut bans) > 200, "no time is too long");
}

#[test]
fn the_discouraged_are_remembered_within_a_bound() {
    let mut bans = bans();
    let nth = |n: u32| Host::Ipv4((0x0100_0000 + n).into());
    assert!(!bans.is_discouraged(&nth(0)));
    let count = 4 * MAX_DISCOURAGED;
    for n in 0..count {
        bans.discourage(&nth(n));
    }
    assert!((count - MAX_DISCOURAGED..count).all(|n| bans.is_discouraged(&nth(n))), "the last are");
    let forgotten = (0..count / 2).filter(|&n| !bans.is_discouraged(&nth(n))).count();
    assert!(forgotten > count as usize / 2 - 10, "the first are forgotten, but for mistakes: {forgotten}");
    assert!(!bans.is_banned(&nth(count - 1), NOW) && !bans.is_dirty());
}

#[test]
fn the_file_of_cores_test_is_read() {
    let text = r#"{ "banned_nets": [
        { "version": 1, "ban_created": 0, "banned_until": 778, "address": "aaaaaaaaa" },
        { "version": 2, "ban_created": 0, "banned_until": 778, "address": "bbbbbbbbb" },
        { "version": 1, "ban_created": 0, "banned_until": 778, "address": "1.0.0.0/8" }
    ] }"#;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("banlist.json");
    std::fs::write(&path, text).expect("written");
    let now = Duration::from_secs(777);
    let mut loaded = Bans::load(&path, DEFAULT_BAN_TIME, false, 1, now).expect("readable");
    assert_eq!(loaded.set_aside, None);
    let listed = loaded.value.listbanned(now);
    assert_eq!(listed.iter().map(|ban| ban.address.to_string()).collect::<Vec<_>>(), ["1.0.0.0/8"]);
    // What has ended is gone when it is read.
    let later = Bans::load(&path, DEFAULT_BAN_TIME, false, 1, Duration::from_secs(779)).expect("readable").value;
    assert!(later.banned.is_empty() && later.is_dirty());
}

#[test]
fn bans_survive_and_a_damaged_file_is_kept_beside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("banlist.json");
    let load = || Bans::load(&path, DEFAULT_BAN_TIME, false, 1, NOW).expect("readable");
    let mut bans = load().value;
    bans.setban_add("1.2.3.4", BanTime::Default, NOW).expect("banned");
    bans.setban_add(ONION, BanTime::For(9), NOW).expect("banned");
    bans.save(&path, NOW).expect("written");
    assert!(!bans.is_dirty());
    let text = std::fs::read_to_string(&path).expect("readable");
    for part in ["\"banned_nets\"", "\"version\": 1", "\"ban_created\": 1700000000", "\"address\": \"1.2.3.4/32\""] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut again = load();
    assert_eq!((again.value.listbanned(NOW), again.set_aside), (bans.listbanned(NOW), None));

    std::fs::write(&path, &text[..text.len() / 2]).expect("written");
    let damaged = load();
    assert!(damaged.value.banned.is_empty());
    let set_aside = damaged.set_aside.expect("it was damaged");
    assert!(matches!(set_aside.damage, Damage::Content(_)));
    assert_eq!(set_aside.kept_as, dir.path().join("banlist.json.bak"));
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_too_large_is_kept_beside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("banlist.json");
    let text = br#"{"banned_nets": []}"#;
    for (size, is_read) in [(MAX_BANLIST_FILE_SIZE, true), (MAX_BANLIST_FILE_SIZE + 1, false)] {
        let mut bytes = text.to_vec();
        bytes.resize(size, b' ');
        std::fs::write(&path, &bytes).expect("written");
        let loaded = Bans::load(&path, DEFAULT_BAN_TIME, false, 1, NOW).expect("readable");
        assert_eq!(loaded.set_aside.map(|aside| aside.damage), (!is_read).then_some(Damage::Length));
    }
}

#[test]
fn what_is_no_list_of_bans_is_refused() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"banned_nets": 1}"#,
        r#"{"banned_nets": [1]}"#,
        r#"{"banned_nets": [{"ban_created": 0, "banned_until": 1, "address": "1.2.3.4"}]}"#,
        r#"{"banned_nets": [{"version": 1, "banned_until": 1, "address": "1.2.3.4"}]}"#,
        r#"{"banned_nets": [{"version": 1, "ban_created": 0, "banned_until": "1", "address": "1.2.3.4"}]}"#,
        r#"{"banned_nets": [{"version": 1, "ban_created": 0, "banned_until": 1, "address": 1}]}"#,
        r#"{"banned_nets": []} x"#,
    ] {
        let mut bans = bans();
        assert!(matches!(bans.read_json(text.as_bytes()), Err(Damage::Content(_))), "{text}");
        assert!(!bans.is_dirty());
    }
    assert_eq!(bans().read_json(br#"{"banned_nets": [], "other": 1}"#), Ok(()));
}

proptest! {
    #[test]
    fn a_range_reads_back_and_is_banned(ip: [u8; 16], bits in 0..=128_u8, v4: bool, other: [u8; 16]) {
        let [a, b, c, d, ..] = ip;
        let (host, bits) = if v4 { (Host::from(std::net::Ipv4Addr::new(a, b, c, d)), bits % 33) } else { (Host::Ipv6(ip.into()), bits) };
        let subnet = Subnet::new(host, bits).expect("so many bits");
        prop_assert_eq!(subnet.to_string().parse(), Ok(subnet));
        prop_assert_eq!(subnet.contains(&host), host.is_valid());
        let mut bans = bans();
        bans.ban(subnet, BanTime::Default, NOW);
        prop_assert_eq!(bans.is_banned(&host, NOW), host.is_valid());
        prop_assert_eq!(bans.is_banned(&Host::Ipv6(other.into()), NOW), subnet.contains(&Host::Ipv6(other.into())));
        let mut again = super::Bans::new(DEFAULT_BAN_TIME, false, 1);
        prop_assert_eq!(again.read_json(&bans.to_json()), Ok(()));
        prop_assert_eq!(again.listbanned(NOW), bans.listbanned(NOW));
    }

    #[test]
    fn any_bytes_are_no_panic(bytes: Vec<u8>) {
        prop_assert!(bans().read_json(&bytes).is_err());
    }
}
