//! The clients of one process: a table of a fixed greatest size, in parts that are locked apart.

use super::{
    Decision,
    gcra::{Exact, Moment},
};
use hashbrown::HashTable;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Most parts.
const SHARDS: usize = 16;
/// A part has at least so many clients.
const SHARD_CLIENTS: usize = 64;
/// How many are looked at when a client comes: forgotten if they are idle, or the nearest to it if all places are taken.
const SWEEP: usize = 8;

/// Who asked how much.
#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// Clients of a part.
    places: usize,
    /// Names are kept as 128 bits of two secret hashes, so that their length costs no memory.
    keys: (RandomState, RandomState),
    start: Instant,
}

#[derive(Debug, Default)]
struct Shard {
    /// Positions in `clients`, by the keys there.
    index: HashTable<u32>,
    clients: Vec<Client>,
    /// Where the next sweep begins.
    hand: usize,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    key: (u64, u64),
    whole: Moment,
}

impl Memory {
    pub(super) fn new(max_clients: usize) -> Self {
        let max_clients = max_clients.max(1);
        let shards = (max_clients / SHARD_CLIENTS).clamp(1, SHARDS);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            // Positions are 32 bits.
            places: (max_clients / shards).min(u32::MAX as usize),
            keys: (RandomState::new(), RandomState::new()),
            start: Instant::now(),
        }
    }

    pub(super) fn check(&self, scope: &str, client: &str, quota: Exact) -> Decision {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.check_at(now, scope, client, quota)
    }

    fn check_at(&self, now: u64, scope: &str, client: &str, quota: Exact) -> Decision {
        let name = (scope, client);
        let key = (self.keys.0.hash_one(name), self.keys.1.hash_one(name));
        let shard = &self.shards[usize::try_from(key.1 % self.shards.len() as u64).expect("below their number")];
        shard.lock().unwrap_or_else(PoisonError::into_inner).check(now, key, quota, self.places)
    }
}

impl Shard {
    fn check(&mut self, now: u64, key: (u64, u64), quota: Exact, places: usize) -> Decision {
        let found = self.index.find(key.0, |&at| self.clients[at as usize].key == key).copied();
        if let Some(at) = found {
            return quota.pass(now, &mut self.clients[at as usize].whole);
        }
        let mut whole = Moment::default();
        let decision = quota.pass(now, &mut whole);
        self.make_room(now, places);
        let at = u32::try_from(self.clients.len()).expect("fewer than `places`");
        let clients = &self.clients;
        self.index.insert_unique(key.0, at, |&at| clients[at as usize].key.0);
        self.clients.push(Client { key, whole });
        decision
    }

    /// Forgets what is idle among the next few, and if nothing is and all places are taken, the one that asked least.
    fn make_room(&mut self, now: u64, places: usize) {
        let mut first = None::<(Moment, usize)>;
        for _ in 0..SWEEP.min(self.clients.len()) {
            self.hand = if self.hand + 1 < self.clients.len() { self.hand + 1 } else { 0 };
            let Some(client) = self.clients.get(self.hand) else { break };
            if client.whole.micros < now {
                self.remove(self.hand);
                first = None;
            } else if first.is_none_or(|(whole, _)| client.whole < whole) {
                first = Some((client.whole, self.hand));
            }
        }
        if self.clients.len() >= places {
            let at = first.map_or(0, |(_, at)| at);
            self.remove(at.min(self.clients.len() - 1));
        }
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to(self.clients.len() * 2);
            let clients = &self.clients;
            self.index.shrink_to(clients.len() * 2, |&at| clients[at as usize].key.0);
        }
    }

    fn remove(&mut self, at: usize) {
        let removed = self.clients.swap_remove(at);
        let at = u32::try_from(at).expect("a position");
        if let Ok(entry) = self.index.find_entry(removed.key.0, |&other| other == at) {
            entry.remove();
        }
        // The last one has moved to its place.
        if let Some(moved) = self.clients.get(at as usize) {
            let last = u32::try_from(self.clients.len()).expect("a position");
            if let Some(position) = self.index.find_mut(moved.key.0, |&other| other == last) {
                *position = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcra::tests::{Bucket, quota};
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    impl Memory {
        fn clients(&self) -> usize {
            self.shards.iter().map(|shard| shard.lock().unwrap().clients.len()).sum()
        }

        /// Every client is found where the index says, and nothing else is there.
        fn is_sound(&self) -> bool {
            self.shards.iter().all(|shard| {
                let shard = shard.lock().unwrap();
                let found = |(at, client): (usize, &Client)| {
                    shard.index.find(client.key.0, |&other| other as usize == at).is_some()
                };
                shard.index.len() == shard.clients.len() && shard.clients.iter().enumerate().all(found)
            })
        }
    }

    proptest! {
        #[test]
        fn many_clients_are_counted_apart(quota in quota(), requests in prop::collection::vec((0..40u8, 0..3u64), 1..400)) {
            let memory = Memory::new(1000);
            let mut buckets = HashMap::new();
            let mut now = 0;
            for (client, wait) in requests {
                now += wait * (quota.window / u64::from(quota.requests) + 1) / 2;
                let bucket = buckets.entry(client).or_insert_with(|| Bucket::full(quota, now));
                let decision = memory.check_at(now, "scope", &client.to_string(), quota);
                prop_assert_eq!(decision, bucket.pass(now));
            }
            prop_assert!(memory.is_sound());
        }

        #[test]
        fn places_are_never_exceeded(max in 1..300usize, requests in prop::collection::vec((0..2000u16, 0..500_000u64), 1..1500)) {
            let memory = Memory::new(max);
            let quota = Exact { requests: 5, window: 10_000_000 };
            let mut now = 0;
            for (client, wait) in requests {
                now += wait;
                memory.check_at(now, "scope", &client.to_string(), quota);
                prop_assert!(memory.clients() <= max);
            }
            prop_assert!(memory.is_sound());
        }
    }

    #[test]
    fn idle_clients_are_forgotten_as_others_come() {
        let memory = Memory::new(100_000);
        let quota = Exact { requests: 5, window: 1_000_000 };
        for client in 0..10_000 {
            memory.check_at(0, "scope", &client.to_string(), quota);
        }
        assert_eq!(memory.clients(), 10_000);
        for client in 0..10_000 {
            memory.check_at(2_000_000 + client * 1000, "other", &client.to_string(), quota);
        }
        assert!(memory.clients() < 1000, "{}", memory.clients());
        let places: usize = memory.shards.iter().map(|shard| shard.lock().unwrap().clients.capacity()).sum();
        assert!(places < 4000, "{places}");
        assert!(memory.is_sound());
    }

    #[test]
    fn a_flood_of_new_clients_does_not_free_one_that_used_all() {
        let memory = Memory::new(1024);
        let quota = Exact { requests: 10, window: 3_600_000_000 };
        for _ in 0..11 {
            memory.check_at(0, "scope", "greedy", quota);
        }
        for client in 0..100_000 {
            memory.check_at(1, "scope", &client.to_string(), quota);
        }
        assert_eq!(memory.clients(), 1024);
        assert!(!memory.check_at(2, "scope", "greedy", quota).allowed);
    }

    #[test]
    fn nothing_is_taken_before_the_first_client() {
        let memory = Memory::new(1_000_000);
        assert!(memory.shards.iter().all(|shard| {
            let shard = shard.lock().unwrap();
            shard.clients.capacity() == 0 && shard.index.capacity() == 0
        }));
    }
}
