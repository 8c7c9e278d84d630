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
