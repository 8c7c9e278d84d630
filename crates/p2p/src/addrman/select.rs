//! Addresses are drawn: to connect to, to tell others, to test.

use rand::RngExt;

use super::AddrMan;
use super::entry::{Slot, seconds, time};
use super::tables::Id;
use crate::address::{AddressRecord, Net};
use crate::limits::{ADDRMAN_BUCKET_SIZE, ADDRMAN_NEW_BUCKET_COUNT, ADDRMAN_TRIED_BUCKET_COUNT};
use crate::types::Time;

/// Seconds within which a connection to a tried address keeps it from losing its place (`ADDRMAN_REPLACEMENT`).
const REPLACEMENT: i64 = 4 * 60 * 60;
/// Seconds after which an address that could not be tested loses its place (`ADDRMAN_TEST_WINDOW`).
const TEST_WINDOW: i64 = 40 * 60;

impl AddrMan {
    /// Draws an address to connect to, and says when that was last tried. One of the new, or else of both tables alike;
    /// of `networks`, or of all if there are none. Those that failed and those just tried are drawn less (`Select`).
    pub fn select(&mut self, new_only: bool, networks: &[Net], now: Time) -> Option<(AddressRecord, Time)> {
        let now = seconds(now);
        let (mut new, mut tried) = (0, 0);
        for net in [Net::Ipv4, Net::Ipv6, Net::Onion, Net::I2p, Net::Cjdns] {
            if networks.is_empty() || networks.contains(&net) {
                new += self.tables.count(net).new;
                tried += self.tables.count(net).tried;
            }
        }
        let search_tried = match (new > 0, tried > 0 && !new_only) {
            (false, false) => return None,
            (true, false) => false,
            (false, true) => true,
            (true, true) => self.rng.random(),
        };
        let (table, buckets) = if search_tried {
            (&self.tables.tried, ADDRMAN_TRIED_BUCKET_COUNT)
        } else {
            (&self.tables.new, ADDRMAN_NEW_BUCKET_COUNT)
        };
        // There is one in this table, and the chance to take it grows with each that is not taken: this ends.
        let mut chance_factor = 1.0;
        loop {
            let bucket = self.rng.random_range(0..buckets);
            let start = Slot::new(bucket, self.rng.random_range(0..ADDRMAN_BUCKET_SIZE));
            let found = table
                .bucket_from(start)
                .map(|id| self.tables.get(id))
                .find(|info| networks.is_empty() || networks.contains(&info.address.host.network()));
            let Some(info) = found else { continue };
            if self.rng.random::<f64>() < chance_factor * info.chance(now) {
                return Some((info.record(), info.last_try()));
            }
            chance_factor *= 1.2;
        }
    }

    /// Draws addresses to tell others: at most so many, and so many percent of all (0 is no bound each), of one network
    /// or all; only good ones if `filtered` (`GetAddr`).
    pub fn get_addr(
        &mut self,
        max_addresses: usize,
        max_pct: usize,
        network: Option<Net>,
        filtered: bool,
        now: Time,
    ) -> Vec<AddressRecord> {
        let now = seconds(now);
        let all = self.tables.len();
        let mut wanted = if max_pct == 0 { all } else { max_pct.min(100) * all / 100 };
        if max_addresses != 0 {
            wanted = wanted.min(max_addresses);
        }
        let mut addresses = Vec::with_capacity(wanted);
        for n in 0..all {
            if addresses.len() >= wanted {
                break;
            }
            let drawn = self.rng.random_range(n..all);
            self.tables.swap_random(n, drawn);
            let info = self.tables.get(self.tables.at(n));
            let of_network = network.is_none_or(|network| info.address.host.net_class() == network);
            if of_network && !(filtered && info.is_terrible(now)) {
                addresses.push(info.record());
            }
        }
        addresses
    }

    /// Draws a tried address whose place another wants, and says when it was last tried: connect to it to see whether
    /// it still works (`SelectTriedCollision`).
    pub fn select_tried_collision(&mut self) -> Option<(AddressRecord, Time)> {
        if self.tried_collisions.is_empty() {
            return None;
        }
        let waiting = self.tried_collisions[self.rng.random_range(0..self.tried_collisions.len())];
        let info = self.tables.get(self.tables.tried.get(self.tried_slot(waiting))?);
        Some((info.record(), time(info.last_try)))
    }

    /// Decides, of tried addresses whose place another wants, those that were tested or could not be
    /// (`ResolveCollisions`).
    pub fn resolve_collisions(&mut self, now: Time) {
        let now = seconds(now);
        // Deciding one can forget another.
        for id in self.tried_collisions.clone() {
            if self.tried_collisions.contains(&id) && self.resolve_collision(id, now) {
                self.tried_collisions.retain(|&waiting| waiting != id);
            }
        }
    }

    /// Whether it is decided.
    fn resolve_collision(&mut self, id: Id, now: i64) -> bool {
        if let Some(there) = self.tables.tried.get(self.tried_slot(id)) {
            let there = self.tables.get(there);
            if now - there.last_success < REPLACEMENT {
                return true;
            }
            if now - there.last_try < REPLACEMENT {
                // It was tried, and has a minute to answer.
                if now - there.last_try <= 60 {
                    return false;
                }
            } else if now - self.tables.get(id).last_success <= TEST_WINDOW {
                return false;
            }
        }
        self.good_id(id, false, now);
        true
    }
}
