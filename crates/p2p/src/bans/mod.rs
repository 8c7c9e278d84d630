//! Who is kept out: bans that persist, and discouragement that does not.
//!
//! Bans are the operator's: nobody banned is connected to, either way, or told to others. Peers that misbehave are
//! discouraged: they may come, but are the first to go when it is full, and are not sought or told to others.

mod disk;
mod subnet;

use std::collections::BTreeMap;
use std::time::Duration;

pub use subnet::{ParseSubnetError, Subnet};

use crate::address::Host;
use crate::limits::{DISCOURAGED_FALSE_POSITIVES, MAX_DISCOURAGED};
use crate::rolling::RollingBloomFilter;
use crate::types::Time;

/// How long a ban lasts if nothing else is said (`DEFAULT_MISBEHAVING_BANTIME`).
pub const DEFAULT_BAN_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How often bans that have ended are dropped and the rest is written (`DUMP_BANS_INTERVAL`).
pub const DUMP_BANS_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A ban (`CBanEntry`). Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanEntry {
    /// When it was made.
    pub ban_created: i64,
    /// When it ends.
    pub banned_until: i64,
}

/// One of `listbanned`. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBan {
    /// What is banned.
    pub address: Subnet,
    /// When it was made, since 1970.
    pub ban_created: i64,
    /// When it ends, since 1970.
    pub banned_until: i64,
    /// From one to the other.
    pub ban_duration: i64,
    /// From now to its end.
    pub time_remaining: i64,
}

/// Why a ban is not made or lifted, in the words of Core's `setban`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// No address and no range: `RPC_CLIENT_INVALID_IP_OR_SUBNET`.
    #[error("Error: Invalid IP/Subnet")]
    Invalid,
    /// `RPC_CLIENT_NODE_ALREADY_ADDED`.
    #[error("Error: IP/Subnet already banned")]
    AlreadyBanned,
    /// `RPC_INVALID_PARAMETER`.
    #[error("Error: Absolute timestamp is in the past")]
    Past,
    /// `RPC_CLIENT_INVALID_IP_OR_SUBNET`.
    #[error("Error: Unban failed. Requested address/subnet was not previously manually banned.")]
    NotBanned,
}

/// For how long a ban is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanTime {
    /// For the default, 24 hours unless `--bantime` says otherwise.
    Default,
    /// For so many seconds; the default if they are none.
    For(i64),
    /// Until then, in seconds since 1970.
    Until(i64),
}

/// Who is kept out (`BanMan`). What changes it must be followed by [`Self::save`] when [`Self::is_dirty`].
#[derive(Debug)]
pub struct Bans {
    banned: BTreeMap<Subnet, BanEntry>,
    default_ban_time: Duration,
    cjdns_is_reachable: bool,
    dirty: bool,
    discouraged: RollingBloomFilter,
}

/// Whole seconds since 1970.
fn seconds(time: Time) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Bans {
    /// Nobody is kept out. The seed is secret and random.
    pub fn new(default_ban_time: Duration, cjdns_is_reachable: bool, seed: u64) -> Self {
        Self {
            banned: BTreeMap::new(),
            default_ban_time,
            cjdns_is_reachable,
            dirty: false,
            discouraged: RollingBloomFilter::new(MAX_DISCOURAGED, DISCOURAGED_FALSE_POSITIVES, seed),
        }
    }

    /// Whether bans differ from what was last read or written.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What a text names, as `setban` reads it: a range if it has a `/`, else a valid address.
    fn named(&self, text: &str) -> Result<Subnet, BanError> {
        if !text.contains('/') {
            let host: Host = text.parse().map_err(|_| BanError::Invalid)?;
            if !host.maybe_cjdns(self.cjdns_is_reachable).is_valid() {
                return Err(BanError::Invalid);
            }
        }
        Subnet::parse(text, self.cjdns_is_reachable).map_err(|_| BanError::Invalid)
    }

    /// `setban … add`: bans an address or a range, which is returned so that peers in it can be disconnected. A single
    /// address that is in a banned range is banned already; a range is only if just this one is.
    pub fn setban_add(&mut self, text: &str, time: BanTime, now: Time) -> Result<Subnet, BanError> {
        let subnet = self.named(text)?;
        let already = match text.contains('/') {
            true => self.is_subnet_banned(&subnet, now),
            false => {
                text.parse().is_ok_and(|host: Host| self.is_banned(&host.maybe_cjdns(self.cjdns_is_reachable), now))
            }
        };
        if already {
            return Err(BanError::AlreadyBanned);
        }
        if matches!(time, BanTime::Until(until) if until < seconds(now)) {
            return Err(BanError::Past);
        }
        self.ban(subnet, time, now);
        Ok(subnet)
    }

    /// `setban … remove`: lifts the ban of just this address or range.
    pub fn setban_remove(&mut self, text: &str) -> Result<Subnet, BanError> {
        let subnet = self.named(text)?;
        if self.unban(&subnet) { Ok(subnet) } else { Err(BanError::NotBanned) }
    }

    /// `listbanned`, in Core's order.
    pub fn listbanned(&mut self, now: Time) -> Vec<ListedBan> {
        self.sweep(now);
        let listed = |(subnet, entry): (&Subnet, &BanEntry)| ListedBan {
            address: *subnet,
            ban_created: entry.ban_created,
            banned_until: entry.banned_until,
            ban_duration: entry.banned_until.saturating_sub(entry.ban_created),
            time_remaining: entry.banned_until.saturating_sub(seconds(now)),
        };
        self.banned.iter().map(listed).collect()
    }

    /// `clearbanned`: lifts all bans.
    pub fn clear_banned(&mut self) {
        self.banned.clear();
        self.dirty = true;
    }

    /// Bans a range, unless it is banned for longer already (`Ban`).
    pub fn ban(&mut self, subnet: Subnet, time: BanTime, now: Time) {
        let now = seconds(now);
        let default = now.saturating_add(seconds(self.default_ban_time));
        let banned_until = match time {
            BanTime::For(offset) if offset > 0 => now.saturating_add(offset),
            BanTime::Until(until) if until > 0 => until,
            BanTime::Default | BanTime::For(_) | BanTime::Until(_) => default,
        };
        let there = self.banned.get(&subnet).map_or(0, |entry| entry.banned_until);
        if there < banned_until {
            self.banned.insert(subnet, BanEntry { ban_created: now, banned_until });
            self.dirty = true;
        }
    }

    /// Lifts the ban of just this range; whether there was one (`Unban`).
    pub fn unban(&mut self, subnet: &Subnet) -> bool {
        let was = self.banned.remove(subnet).is_some();
        self.dirty |= was;
        was
    }

    /// Whether an address is in a banned range (`IsBanned`).
    pub fn is_banned(&self, host: &Host, now: Time) -> bool {
        let now = seconds(now);
        self.banned.iter().any(|(subnet, entry)| now < entry.banned_until && subnet.contains(host))
    }

    /// Whether just this range is banned (`IsBanned`).
    pub fn is_subnet_banned(&self, subnet: &Subnet, now: Time) -> bool {
        self.banned.get(subnet).is_some_and(|entry| seconds(now) < entry.banned_until)
    }

    /// Forgets bans that have ended (`SweepBanned`).
    pub fn sweep(&mut self, now: Time) {
        let before = self.banned.len();
        self.banned.retain(|_, entry| seconds(now) <= entry.banned_until);
        self.dirty |= self.banned.len() != before;
    }

    /// An address misbehaved (`Discourage`).
    pub fn discourage(&mut self, host: &Host) {
        self.discouraged.insert(&host.addr_bytes());
    }

    /// Whether an address misbehaved of late. It may be so by mistake, once in a million times (`IsDiscouraged`).
    pub fn is_discouraged(&self, host: &Host) -> bool {
        self.discouraged.contains(&host.addr_bytes())
    }
}

#[cfg(test)]
mod tests;
