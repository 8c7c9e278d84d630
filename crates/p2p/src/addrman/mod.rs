//! The address manager: which nodes are known, tried or only heard of. Persistent.
//!
//! It is Core's `AddrMan`. Addresses that were only heard of have up to eight places among the *new*, in buckets that
//! depend on who told of them; those that we connected to have one place among the *tried*. Which places is decided by
//! a secret key, so nobody can fill more than a known share with addresses of one owner: see [`crate::limits`].

mod disk;
mod entry;
mod select;
mod tables;

use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use rand::{RngExt, rngs::StdRng};

use crate::address::{AddressRecord, Host, Net, NetAddress};
use crate::limits::{ADDRMAN_NEW_BUCKET_COUNT, ADDRMAN_NEW_BUCKETS_PER_ADDRESS, ADDRMAN_SET_TRIED_COLLISION_SIZE};
use crate::types::Time;

pub use entry::{AddrInfo, Slot};
use entry::{new_bucket, seconds, slot, tried_bucket};
use tables::{Id, Tables};

/// How often what is known of an address is written to `peers.dat` (`DUMP_PEERS_INTERVAL`).
pub const DUMP_PEERS_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// What is taken off the time of addresses that a peer tells of.
pub const GOSSIP_TIME_PENALTY: Duration = Duration::from_secs(2 * 60 * 60);

const HOUR: i64 = 60 * 60;

/// Where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPosition {
    /// Among the tried, or among the new.
    pub tried: bool,
    /// How many places it has.
    pub multiplicity: u8,
    /// The place: among the new, the one that it would have from its first source.
    pub slot: Slot,
}

/// The address manager. It has some hundred bytes while it is empty.
#[derive(Debug)]
pub struct AddrMan {
    key: [u8; 32],
    rng: StdRng,
    tables: Tables,
    /// When [`Self::good`] was last called; first 1, so that never is before.
    last_good: i64,
    /// New addresses that want the place of a tried one, oldest first.
    tried_collisions: Vec<Id>,
}

impl AddrMan {
    /// An empty one, with a key that `rng` makes.
    pub fn new(mut rng: StdRng) -> Self {
        Self::with_key(rng.random(), rng)
    }

    /// An empty one with this key, which nobody else may know.
    pub fn with_key(key: [u8; 32], rng: StdRng) -> Self {
        Self { key, rng, tables: Tables::default(), last_good: 1, tried_collisions: Vec::new() }
    }

    /// How many addresses there are, of one network or all, among the new or the tried or both (`Size`).
    pub fn size(&self, network: Option<Net>, in_new: Option<bool>) -> usize {
        let count = match network {
            Some(network) => self.tables.count(network),
            None => self.tables.total(),
        };
        match in_new {
            Some(true) => count.new,
            Some(false) => count.tried,
            None => count.new + count.tried,
        }
    }

    /// What is known of an address.
    pub fn get(&self, address: &NetAddress) -> Option<&AddrInfo> {
        self.tables.find(address).map(|id| self.tables.get(id))
    }

    /// Adds addresses that `source` told of, to the new; whether one of them got a place. Times are set back by
    /// `time_penalty`, except when a node tells of itself. Of addresses that are known already services are added and
    /// times moved on, and sometimes they get a further place (`Add`).
    pub fn add(&mut self, records: &[AddressRecord], source: &Host, time_penalty: Duration, now: Time) -> bool {
        let mut added = false;
        for record in records {
            added |= self.add_single(record, source, seconds(time_penalty), seconds(now));
        }
        added
    }

    fn add_single(&mut self, record: &AddressRecord, source: &Host, time_penalty: i64, now: i64) -> bool {
        let address = record.address;
        if !address.host.is_routable() {
            return false;
        }
        let time_penalty = if address.host == *source { 0 } else { time_penalty };
        let told = seconds(record.time);
        let id = match self.tables.find(&address) {
            Some(id) => {
                let info = self.tables.get_mut(id);
                let currently_online = now.saturating_sub(told) < 24 * HOUR;
                let update_interval = if currently_online { HOUR } else { 24 * HOUR };
                if info.time < told.saturating_sub(update_interval).saturating_sub(time_penalty) {
                    info.time = told.saturating_sub(time_penalty).max(0);
                }
                info.services |= record.services;
                if told <= info.time || info.in_tried || info.ref_count == ADDRMAN_NEW_BUCKETS_PER_ADDRESS {
                    return false;
                }
                // With each place the next is twice as hard to get.
                let places = info.ref_count;
                if self.rng.random_range(0..1_u32 << places) != 0 {
                    return false;
                }
                id
            }
            None => self.tables.create(AddrInfo {
                address,
                source: *source,
                services: record.services,
                time: told.saturating_sub(time_penalty).max(0),
                last_try: 0,
                last_count_attempt: 0,
                last_success: 0,
                attempts: 0,
                random_position: 0,
                ref_count: 0,
                in_tried: false,
            }),
        };
        let place = slot(&self.key, &address, false, new_bucket(&self.key, &address, source));
        let there = self.tables.new.get(place);
        if there == Some(id) {
            return false;
        }
        let places = self.tables.get(id).ref_count;
        let insert = there.map(|there| self.tables.get(there)).is_none_or(|there| {
            // What is there goes if it is bad, or has another place while this has none.
            there.is_terrible(now) || (there.ref_count > 1 && places == 0)
        });
        if insert {
            self.clear_new(place);
            self.tables.get_mut(id).ref_count += 1;
            self.tables.new.set(place, id);
        } else if places == 0 {
            self.delete(id);
        }
        insert
    }

    /// Takes a place among the new from who has it. Who has no other is forgotten.
    fn clear_new(&mut self, place: Slot) {
        if let Some(id) = self.tables.new.clear(place) {
            let info = self.tables.get_mut(id);
            info.ref_count -= 1;
            if info.ref_count == 0 {
                self.delete(id);
            }
        }
    }

    fn delete(&mut self, id: Id) {
        self.tables.delete(id);
        self.tried_collisions.retain(|&waiting| waiting != id);
    }

    /// The place that an entry has or would have among the tried.
    fn tried_slot(&self, id: Id) -> Slot {
        let address = self.tables.get(id).address;
        slot(&self.key, &address, true, tried_bucket(&self.key, &address))
    }

    /// A connection to this address works. Whether it moved from the new to the tried; it does not at once if another
    /// is there, which is to be tested first: see [`Self::select_tried_collision`] (`Good`).
    pub fn good(&mut self, address: &NetAddress, time: Time) -> bool {
        match self.tables.find(address) {
            Some(id) => self.good_id(id, true, seconds(time)),
            None => {
                self.last_good = seconds(time);
                false
            }
        }
    }

    fn good_id(&mut self, id: Id, test_before_evict: bool, time: i64) -> bool {
        self.last_good = time;
        let info = self.tables.get_mut(id);
        info.last_success = time;
        info.last_try = time;
        info.attempts = 0;
        // Not `time`, which would tell others whom we are connected to.
        if info.in_tried {
            return false;
        }
        if test_before_evict && self.tables.tried.get(self.tried_slot(id)).is_some() {
            if self.tried_collisions.len() < ADDRMAN_SET_TRIED_COLLISION_SIZE && !self.tried_collisions.contains(&id) {
                self.tried_collisions.push(id);
            }
            return false;
        }
        self.make_tried(id);
        true
    }

    /// Moves an entry from the new to the tried, and who was there to the new.
    fn make_tried(&mut self, id: Id) {
        let (address, source) = (self.tables.get(id).address, self.tables.get(id).source);
        let first = new_bucket(&self.key, &address, &source);
        for bucket in (first..ADDRMAN_NEW_BUCKET_COUNT).chain(0..first) {
            if self.tables.get(id).ref_count == 0 {
                break;
            }
            let place = slot(&self.key, &address, false, bucket);
            if self.tables.new.get(place) == Some(id) {
                self.tables.new.clear(place);
                self.tables.get_mut(id).ref_count -= 1;
            }
        }
        let place = self.tried_slot(id);
        if let Some(evicted) = self.tables.tried.clear(place) {
            let AddrInfo { address, source, .. } = *self.tables.get(evicted);
            let new_place = slot(&self.key, &address, false, new_bucket(&self.key, &address, &source));
            self.clear_new(new_place);
            self.tables.set_tried(evicted, false);
            self.tables.get_mut(evicted).ref_count = 1;
            self.tables.new.set(new_place, evicted);
        }
        self.tables.tried.set(place, id);
        self.tables.set_tried(id, true);
    }

    /// We try to connect to an address. It counts as a failure until it works, unless we seem to have no network: once
    /// for each time that some address worked (`Attempt`).
    pub fn attempt(&mut self, address: &NetAddress, count_failure: bool, time: Time) {
        let last_good = self.last_good;
        if let Some(id) = self.tables.find(address) {
            let info = self.tables.get_mut(id);
            info.last_try = seconds(time);
            if count_failure && info.last_count_attempt < last_good {
                info.last_count_attempt = seconds(time);
                info.attempts = info.attempts.saturating_add(1);
            }
        }
    }

    /// We were connected to an address until now. Its time, which others are told, moves on by steps of 20 minutes. To
    /// tell nobody whom we are connected to, this is for when the connection ends (`Connected`).
    pub fn connected(&mut self, address: &NetAddress, time: Time) {
        if let Some(id) = self.tables.find(address) {
            let info = self.tables.get_mut(id);
            if seconds(time).saturating_sub(info.time) > 20 * 60 {
                info.time = seconds(time);
            }
        }
    }

    /// What a node offers, by its own word (`SetServices`).
    pub fn set_services(&mut self, address: &NetAddress, services: ServiceFlags) {
        if let Some(id) = self.tables.find(address) {
            self.tables.get_mut(id).services = services;
        }
    }

    /// Where an address is (`FindAddressEntry`).
    pub fn position(&self, address: &NetAddress) -> Option<AddressPosition> {
        let id = self.tables.find(address)?;
        let info = self.tables.get(id);
        Some(if info.in_tried {
            AddressPosition { tried: true, multiplicity: 1, slot: self.tried_slot(id) }
        } else {
            let bucket = new_bucket(&self.key, &info.address, &info.source);
            let place = slot(&self.key, &info.address, false, bucket);
            AddressPosition { tried: false, multiplicity: info.ref_count, slot: place }
        })
    }

    /// All places of one table, by bucket and position, and who has them (`GetEntries`).
    pub fn entries(&self, tried: bool) -> impl Iterator<Item = (Slot, &AddrInfo)> {
        let table = if tried { &self.tables.tried } else { &self.tables.new };
        table.iter().map(|(place, id)| (place, self.tables.get(id)))
    }
}

#[cfg(test)]
mod tests;
