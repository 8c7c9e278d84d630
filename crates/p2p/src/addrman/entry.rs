//! What is known of an address, and the places it may have.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::p2p::ServiceFlags;
use std::time::Duration;

use crate::address::{AddressRecord, Host, NetAddress};
use crate::limits::{
    ADDRMAN_BUCKET_SIZE, ADDRMAN_HORIZON, ADDRMAN_NEW_BUCKET_COUNT, ADDRMAN_NEW_BUCKETS_PER_SOURCE_GROUP,
    ADDRMAN_TRIED_BUCKET_COUNT, ADDRMAN_TRIED_BUCKETS_PER_GROUP,
};
use crate::types::Time;

/// Failures after which an address that never worked is given up (`ADDRMAN_RETRIES`).
pub(super) const RETRIES: u32 = 3;
/// Failures in a row, over at least [`MIN_FAIL`], after which one that did work is (`ADDRMAN_MAX_FAILURES`).
pub(super) const MAX_FAILURES: u32 = 10;
/// Seconds (`ADDRMAN_MIN_FAIL`).
pub(super) const MIN_FAIL: i64 = 7 * 24 * 60 * 60;

/// Whole seconds since 1970, which differ by more than a [`Time`] can.
pub(super) fn seconds(time: Time) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Back from [`seconds`].
pub(super) fn time(seconds: i64) -> Time {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A table's bucket and the position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub(super) u16);

impl Slot {
    pub(super) fn new(bucket: u16, position: u16) -> Self {
        Self(bucket * ADDRMAN_BUCKET_SIZE + position)
    }

    /// Which bucket.
    pub fn bucket(self) -> u16 {
        self.0 / ADDRMAN_BUCKET_SIZE
    }

    /// Where in the bucket.
    pub fn position(self) -> u16 {
        self.0 % ADDRMAN_BUCKET_SIZE
    }
}

/// The first 8 bytes of a hash (`HashWriter::GetCheapHash`).
fn cheap_hash(parts: &[&[u8]]) -> u64 {
    let mut engine = sha256d::Hash::engine();
    for part in parts {
        engine.input(part);
    }
    let hash = sha256d::Hash::from_engine(engine).to_byte_array();
    u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
}

/// A group as it is hashed: its length before it.
fn prefixed(group: &[u8]) -> Vec<u8> {
    debug_assert!(group.len() < 253, "a length of one byte");
    [&[group.len() as u8], group].concat()
}

/// Which bucket of the tried an address belongs in (`GetTriedBucket`).
pub(super) fn tried_bucket(key: &[u8; 32], address: &NetAddress) -> u16 {
    let address_key = address.key();
    let spread = cheap_hash(&[key, &[address_key.len() as u8], &address_key]) % ADDRMAN_TRIED_BUCKETS_PER_GROUP;
    let bucket = cheap_hash(&[key, &prefixed(&address.host.group()), &spread.to_le_bytes()]);
    (bucket % u64::from(ADDRMAN_TRIED_BUCKET_COUNT)) as u16
}

/// Which bucket an address belongs in that a source told of (`GetNewBucket`).
pub(super) fn new_bucket(key: &[u8; 32], address: &NetAddress, source: &Host) -> u16 {
    let source = prefixed(&source.group());
    let spread = cheap_hash(&[key, &prefixed(&address.host.group()), &source]) % ADDRMAN_NEW_BUCKETS_PER_SOURCE_GROUP;
    let bucket = cheap_hash(&[key, &source, &spread.to_le_bytes()]);
    (bucket % u64::from(ADDRMAN_NEW_BUCKET_COUNT)) as u16
}

/// The place of an address in a bucket (`GetBucketPosition`).
pub(super) fn slot(key: &[u8; 32], address: &NetAddress, tried: bool, bucket: u16) -> Slot {
    let address_key = address.key();
    let table: &[u8] = if tried { b"K" } else { b"N" };
    let number = i32::from(bucket).to_le_bytes();
    let hash = cheap_hash(&[key, table, &number, &[address_key.len() as u8], &address_key]);
    Slot::new(bucket, (hash % u64::from(ADDRMAN_BUCKET_SIZE)) as u16)
}

/// What is known of an address (Core's `AddrInfo`). Times are seconds since 1970, 0 for never.
#[derive(Debug, Clone)]
pub struct AddrInfo {
    pub(super) address: NetAddress,
    pub(super) source: Host,
    pub(super) services: ServiceFlags,
    pub(super) time: i64,
    pub(super) last_try: i64,
    pub(super) last_count_attempt: i64,
    pub(super) last_success: i64,
    pub(super) attempts: u32,
    /// Where it is in the list that is drawn from.
    pub(super) random_position: u32,
    /// Places among those heard of.
    pub(super) ref_count: u8,
    pub(super) in_tried: bool,
}

impl AddrInfo {
    /// Where.
    pub fn address(&self) -> NetAddress {
        self.address
    }

    /// Who told of it first.
    pub fn source(&self) -> Host {
        self.source
    }

    /// What it offers.
    pub fn services(&self) -> ServiceFlags {
        self.services
    }

    /// When it was last seen, as far as others are told.
    pub fn time(&self) -> Time {
        time(self.time)
    }

    /// When we last tried to connect.
    pub fn last_try(&self) -> Time {
        time(self.last_try)
    }

    /// When that last worked.
    pub fn last_success(&self) -> Time {
        time(self.last_success)
    }

    /// Failures since it last worked.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether we connected to it once, and it has a place among those.
    pub fn is_tried(&self) -> bool {
        self.in_tried
    }

    pub(super) fn record(&self) -> AddressRecord {
        AddressRecord::new(self.address, self.services, time(self.time))
    }

    /// Whether it is so bad that another may have its place (`IsTerrible`).
    pub(super) fn is_terrible(&self, now: i64) -> bool {
        if now - self.last_try <= 60 {
            return false;
        }
        self.time > now.saturating_add(10 * 60)
            || now - self.time > seconds(ADDRMAN_HORIZON)
            || (self.last_success == 0 && self.attempts >= RETRIES)
            || (now - self.last_success > MIN_FAIL && self.attempts >= MAX_FAILURES)
    }

    /// How likely it is taken when it is drawn, at most 1 (`GetChance`).
    pub(super) fn chance(&self, now: i64) -> f64 {
        let recent = if now - self.last_try < 10 * 60 { 0.01 } else { 1.0 };
        recent * 0.66_f64.powi(self.attempts.min(8) as i32)
    }
}
