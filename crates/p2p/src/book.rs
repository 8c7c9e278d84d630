//! What is remembered of other nodes: addresses, bans, anchors, and the files that they are in.

use crate::address::{AddressRecord, Host, NetAddress};
use crate::addrman::{AddrMan, DUMP_PEERS_INTERVAL};
use crate::anchors;
use crate::bans::{Bans, DEFAULT_BAN_TIME};
use crate::limits;
use crate::types::Time;
use bitcoin::p2p::Magic;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};

/// Memory of other nodes.
#[derive(Debug)]
pub struct Book {
    /// Addresses.
    pub addrman: AddrMan,
    /// Who is kept out.
    pub bans: Bans,
    /// Peers for blocks alone of before the restart.
    pub(crate) anchors: Vec<AddressRecord>,
    magic: Magic,
    files: Option<Files>,
    saved: Time,
}

#[derive(Debug)]
struct Files {
    /// None where what is there could not be read: it is not written over.
    peers: Option<PathBuf>,
    /// As `peers`.
    bans: Option<PathBuf>,
    anchors: PathBuf,
}

impl Book {
    /// Reads the files of a network's directory; without one nothing is remembered over a restart. Damaged files are set
    /// aside and told of.
    pub fn open(dir: Option<&Path>, magic: [u8; 4], now: Time, rng: &mut StdRng) -> Book {
        let magic = Magic::from_bytes(magic);
        let seed = rng.random();
        let mut fresh = || StdRng::from_seed(rng.random());
        let Some(dir) = dir else {
            let bans = Bans::new(DEFAULT_BAN_TIME, false, seed);
            return Book { addrman: AddrMan::new(fresh()), bans, anchors: Vec::new(), magic, files: None, saved: now };
        };
        let (peers, banlist) = (dir.join("peers.dat"), dir.join("banlist.json"));
        let mut files = Files { peers: None, bans: None, anchors: dir.join("anchors.dat") };
        let addrman = match AddrMan::load(&peers, magic, fresh()) {
            Ok(loaded) => {
                files.peers = Some(peers);
                loaded.value
            }
            Err(error) => {
                tracing::warn!(%error, "addresses of other nodes are not remembered");
                AddrMan::new(fresh())
            }
        };
        let bans = match Bans::load(&banlist, DEFAULT_BAN_TIME, false, seed, now) {
            Ok(loaded) => {
                files.bans = Some(banlist);
                loaded.value
            }
            Err(error) => {
                tracing::warn!(%error, "bans are not remembered");
                Bans::new(DEFAULT_BAN_TIME, false, seed)
            }
        };
        let anchors = match anchors::take(&files.anchors, magic) {
            Ok(loaded) => loaded.value,
            Err(error) => {
                tracing::warn!(%error, "anchors are not remembered");
                Vec::new()
            }
        };
        Book { addrman, bans, anchors, magic, files: Some(files), saved: now }
    }

    /// Writes what changed: bans at once, addresses every quarter of an hour.
    pub fn keep(&mut self, now: Time) {
        self.save_bans(now);
        if now.saturating_sub(self.saved) >= DUMP_PEERS_INTERVAL {
            self.save_addresses();
            self.saved = now;
        }
    }

    /// Writes bans, if they changed.
    pub fn save_bans(&mut self, now: Time) {
        let Some(path) = self.files.as_ref().and_then(|files| files.bans.as_ref()) else { return };
        if self.bans.is_dirty()
            && let Err(error) = self.bans.save(path, now)
        {
            tracing::warn!(%error, "bans are lost at the next restart");
        }
    }

    fn save_addresses(&self) {
        // An empty book is no file.
        let Some(path) = self.files.as_ref().and_then(|files| files.peers.as_ref()) else { return };
        if self.addrman.size(None, None) > 0
            && let Err(error) = self.addrman.save(path, self.magic)
        {
            tracing::warn!(%error, "addresses of other nodes are lost at the next restart");
        }
    }

    /// Writes everything, at the end; `anchors` are the peers for blocks alone.
    pub fn close(&mut self, now: Time, anchors: &[AddressRecord]) {
        self.save_bans(now);
        self.save_addresses();
        if let Some(files) = self.files.as_ref().filter(|_| !anchors.is_empty())
            && let Err(error) = anchors::save(&files.anchors, self.magic, anchors)
        {
            tracing::warn!(%error, "anchors are lost");
        }
    }

    /// Whether an address is kept out, or not connected to.
    pub fn is_unwanted(&self, host: &Host, now: Time) -> bool {
        self.bans.is_banned(host, now) || self.bans.is_discouraged(host)
    }

    /// An address to try, for a full connection or a feeler (in Core's `ThreadOpenConnections`). `taken` are groups that
    /// there is a connection to.
    pub(crate) fn choose(
        &mut self,
        feeler: bool,
        taken: &[Vec<u8>],
        default_port: u16,
        now: Time,
    ) -> Option<(AddressRecord, Time)> {
        self.addrman.resolve_collisions(now);
        let networks = [crate::address::Net::Ipv4, crate::address::Net::Ipv6];
        for attempt in 0..limits::MAX_ADDRESS_DRAWS {
            let collision = if feeler { self.addrman.select_tried_collision() } else { None };
            let (record, last_try) = match collision {
                Some(chosen) => chosen,
                None => self.addrman.select(feeler, &networks, now)?,
            };
            let NetAddress { host, port } = record.address;
            if !host.is_valid() || host.is_local() || self.is_unwanted(&host, now) {
                continue;
            }
            if !feeler && taken.contains(&host.group()) {
                continue;
            }
            // Those just tried only when there is hardly another.
            if attempt < 30 && now.saturating_sub(last_try) < limits::ADDRESS_RETRY {
                continue;
            }
            if attempt < 50 && port != default_port {
                continue;
            }
            if record.address.socket_addr().is_none() {
                continue;
            }
            return Some((record, last_try));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::p2p::ServiceFlags;
    use std::time::Duration;

    const NOW: Time = Duration::from_secs(1_700_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn book(addresses: &[&str]) -> Book {
        let mut rng = StdRng::seed_from_u64(1);
        let mut book = Book::open(None, [0; 4], NOW, &mut rng);
        for text in addresses {
            let address = NetAddress::parse(text, 8333).expect("an address");
            let record = AddressRecord::new(address, ServiceFlags::NETWORK, NOW);
            assert!(book.addrman.add(
                &[record],
                &Host::from(std::net::IpAddr::from([5, 6, 7, 8])),
                Duration::ZERO,
                NOW
            ));
        }
        book
    }

    fn choose(book: &mut Book, taken: &[Vec<u8>], now: Time) -> Option<String> {
        book.choose(false, taken, 8333, now).map(|(record, _)| record.address.to_string())
    }

    #[test]
    fn an_address_that_was_just_tried_comes_after_the_others_for_ten_minutes() {
        let addresses = ["1.2.3.4", "9.8.7.6"];
        let mut book = book(&addresses);
        let tried = NetAddress::parse("1.2.3.4", 8333).expect("an address");
        book.addrman.attempt(&tried, true, NOW);
        let mut chosen_at =
            |now| (0..300).filter(|_| choose(&mut book, &[], now) == Some("1.2.3.4:8333".to_owned())).count();
        // By chance it may be drawn thirty times in a row, once in a thousand million times.
        assert_eq!(chosen_at(NOW + limits::ADDRESS_RETRY - SECOND), 0);
        assert!(chosen_at(NOW + limits::ADDRESS_RETRY) > 0);
    }

    #[test]
    fn where_no_address_will_do_the_search_ends() {
        let mut book = book(&["1.2.3.4"]);
        let group = Host::from(std::net::IpAddr::from([1, 2, 3, 4])).group();
        assert_eq!(choose(&mut book, std::slice::from_ref(&group), NOW), None, "after a hundred draws");
        assert_eq!(choose(&mut book, &[], NOW), Some("1.2.3.4:8333".to_owned()));
        // The only one there is is tried again at once, and at any port, before there is none at all.
        let mut other_port = self::book(&["1.2.3.4:1"]);
        assert_eq!(choose(&mut other_port, &[], NOW), Some("1.2.3.4:1".to_owned()));
    }
}
