//! Where addresses are kept: entries by number, their places, and the order they are drawn in. Nothing is allocated
//! before there are addresses.

use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use super::entry::{AddrInfo, Slot};
use crate::address::{Net, NetAddress};
use crate::limits::ADDRMAN_BUCKET_SIZE;

/// The number of an entry. Numbers of entries that are gone are used again.
pub(super) type Id = u32;

/// Entries of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) new: usize,
    pub(super) tried: usize,
}

/// One of the two tables: who has which place.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<u16, Id>);

impl Table {
    pub(super) fn get(&self, slot: Slot) -> Option<Id> {
        self.0.get(&slot.0).copied()
    }

    pub(super) fn set(&mut self, slot: Slot, id: Id) {
        self.0.insert(slot.0, id);
    }

    pub(super) fn clear(&mut self, slot: Slot) -> Option<Id> {
        self.0.remove(&slot.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, Id)> {
        self.0.iter().map(|(&slot, &id)| (Slot(slot), id))
    }

    /// Those of a bucket, from a position on and around.
    pub(super) fn bucket_from(&self, start: Slot) -> impl Iterator<Item = Id> {
        let first = Slot::new(start.bucket(), 0).0;
        let last = first + (ADDRMAN_BUCKET_SIZE - 1);
        let (after, before) = (self.0.range(start.0..=last), self.0.range(first..start.0));
        after.chain(before).map(|(_, &id)| id)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    entries: Vec<Option<AddrInfo>>,
    free: Vec<Id>,
    by_address: HashTable<Id>,
    hasher: RandomState,
    /// All entries, in an order that chance makes.
    random: Vec<Id>,
    pub(super) new: Table,
    pub(super) tried: Table,
    counts: [Count; 7],
}

impl Tables {
    pub(super) fn len(&self) -> usize {
        self.random.len()
    }

    pub(super) fn count(&self, net: Net) -> Count {
        self.counts[net as usize]
    }

    pub(super) fn total(&self) -> Count {
        self.counts
            .iter()
            .fold(Count::default(), |sum, count| Count { new: sum.new + count.new, tried: sum.tried + count.tried })
    }

    pub(super) fn get(&self, id: Id) -> &AddrInfo {
        self.entries[id as usize].as_ref().expect("places and lists only name entries that there are")
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut AddrInfo {
        self.entries[id as usize].as_mut().expect("places and lists only name entries that there are")
    }

    /// The entry at a position of the order that is drawn from.
    pub(super) fn at(&self, position: usize) -> Id {
        self.random[position]
    }

    pub(super) fn find(&self, address: &NetAddress) -> Option<Id> {
        let hash = self.hasher.hash_one(address);
        self.by_address.find(hash, |&id| self.get(id).address == *address).copied()
    }

    /// Adds an entry that is not there, without a place.
    pub(super) fn create(&mut self, mut info: AddrInfo) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Id::try_from(self.entries.len() - 1).expect("there are fewer entries than places")
        });
        info.random_position = u32::try_from(self.random.len()).expect("there are fewer entries than places");
        self.random.push(id);
        let count = &mut self.counts[info.address.host.network() as usize];
        if info.in_tried {
            count.tried += 1
        } else {
            count.new += 1
        }
        let hash = self.hasher.hash_one(info.address);
        self.entries[id as usize] = Some(info);
        let Self { entries, by_address, hasher, .. } = self;
        by_address.insert_unique(hash, id, |&id| {
            hasher.hash_one(entries[id as usize].as_ref().expect("only entries that there are").address)
        });
        id
    }

    /// Removes an entry that has no place.
    pub(super) fn delete(&mut self, id: Id) {
        let info = self.get(id);
        debug_assert!(!info.in_tried && info.ref_count == 0);
        let (address, position) = (info.address, info.random_position as usize);
        self.counts[address.host.network() as usize].new -= 1;
        self.swap_random(position, self.random.len() - 1);
        self.random.pop();
        let hash = self.hasher.hash_one(address);
        if let Ok(found) = self.by_address.find_entry(hash, |&other| other == id) {
            found.remove();
        }
        self.entries[id as usize] = None;
        self.free.push(id);
    }

    pub(super) fn swap_random(&mut self, a: usize, b: usize) {
        self.random.swap(a, b);
        for position in [a, b] {
            let id = self.random[position];
            self.get_mut(id).random_position = position as u32;
        }
    }

    /// Moves an entry between what is counted as new and tried.
    pub(super) fn set_tried(&mut self, id: Id, tried: bool) {
        let info = self.get_mut(id);
        info.in_tried = tried;
        let count = &mut self.counts[self.get(id).address.host.network() as usize];
        if tried {
            count.new -= 1;
            count.tried += 1;
        } else {
            count.tried -= 1;
            count.new += 1;
        }
    }
}
