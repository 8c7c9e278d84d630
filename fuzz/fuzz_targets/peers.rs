//! The files that peers are remembered in, `peers.dat`, `anchors.dat` and `banlist.json`, from any bytes. What is read is
//! written as it was, and can be used; the rest is refused.
#![no_main]

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::p2p::Magic;
use cairn_p2p::addrman::AddrMan;
use cairn_p2p::anchors;
use cairn_p2p::bans::{Bans, DEFAULT_BAN_TIME};
use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::StdRng};

const MAGIC: Magic = Magic::REGTEST;
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// A file of the kind of `empty` with this content, and a right checksum, which fuzzing would not find.
fn sealed(empty: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("inputs are short");
    let mut bytes = [&empty[..13], &length.to_le_bytes(), content].concat();
    bytes.extend(sha256::Hash::hash(&bytes).to_byte_array());
    bytes
}

fn check_peers(bytes: &[u8]) {
    let Ok(mut addrman) = AddrMan::from_bytes(bytes, MAGIC, rng()) else { return };
    assert_eq!(addrman.to_bytes(MAGIC), bytes);
    let size = addrman.size(None, None);
    assert_eq!(addrman.select(false, &[], NOW).is_some(), size > 0);
    let known = addrman.get_addr(0, 0, None, false, NOW);
    assert_eq!(known.len(), size);
    for record in &known {
        addrman.attempt(&record.address, true, NOW);
        addrman.good(&record.address, NOW);
        addrman.resolve_collisions(NOW + Duration::from_secs(5 * 60 * 60));
    }
    addrman.add(&known, &known.first().map_or(cairn_p2p::address::Host::NONE, |first| first.address.host), NOW, NOW);
    let bytes = addrman.to_bytes(MAGIC);
    AddrMan::from_bytes(&bytes, MAGIC, rng()).expect("what is written can be read");
}

fn check_anchors(bytes: &[u8]) {
    if let Ok(read) = anchors::from_bytes(bytes, MAGIC) {
        assert_eq!(anchors::to_bytes(&read, MAGIC), bytes);
    }
}

fn check_bans(bytes: &[u8]) {
    let new = || Bans::new(DEFAULT_BAN_TIME, false, 1);
    let mut bans = new();
    if bans.read_json(bytes).is_ok() {
        let written = bans.to_json();
        let mut again = new();
        again.read_json(&written).expect("what is written can be read");
        assert_eq!(again.to_json(), written);
        assert_eq!(again.listbanned(NOW), bans.listbanned(NOW));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => check_peers(bytes),
        1 => check_peers(&sealed(&AddrMan::with_key([0; 32], rng()).to_bytes(MAGIC), bytes)),
        2 => check_anchors(bytes),
        3 => check_anchors(&sealed(&anchors::to_bytes(&[], MAGIC), bytes)),
        _ => check_bans(bytes),
    }
});
