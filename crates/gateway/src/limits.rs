//! Rate limits by the generic cell rate algorithm, exact for each client.
//!
//! A client may do its whole quota at once and gets it back evenly: after `window / requests` one request more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;

/// So many requests in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Requests.
    pub(crate) requests: u32,
    /// In this time.
    pub(crate) window: Duration,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Whether this request may pass.
    pub(crate) allowed: bool,
    /// Requests of the quota.
    pub(crate) limit: u32,
    /// Requests that may follow at once.
    pub(crate) remaining: u32,
    /// Until the whole quota is there again.
    pub(crate) reset: Duration,
    /// Until a request that was refused may come again.
    pub(crate) retry_after: Duration,
}

/// Counts the requests of clients.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    epoch: Instant,
    max_shard: usize,
    shards: [Mutex<HashMap<String, u128>>; SHARDS],
}

impl RateLimiter {
    /// In this process's memory, for so many clients at a time: beyond, those whose quota is the fullest are forgotten.
    pub(crate) fn in_memory(max_clients: usize) -> Self {
        let max_shard = max_clients.div_ceil(SHARDS).max(1);
        RateLimiter { epoch: Instant::now(), max_shard, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a request of `client` and says whether it may pass. Requests that may not are not counted.
    pub(crate) async fn check(&self, scope: &str, client: &str, quota: Quota) -> Decision {
        self.check_at(scope, client, quota, Instant::now())
    }

    fn check_at(&self, scope: &str, client: &str, quota: Quota, now: Instant) -> Decision {
        // Times in nanoseconds times requests, so that the interval between two requests is whole: it is the window's length.
        let requests = u128::from(quota.requests.max(1));
        let interval = quota.window.as_nanos().max(1);
        let burst = interval * requests;
        let now = now.saturating_duration_since(self.epoch).as_nanos() * requests;
        let time = |parts: u128| Duration::from_nanos(u64::try_from(parts.div_ceil(requests)).unwrap_or(u64::MAX));

        // Another quota counts in other parts.
        let key = format!("{scope}/{requests}/{interval}/{client}");
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.max_shard && !shard.contains_key(&key) {
            make_room(&mut shard, self.max_shard, now);
        }
        let arrival = shard.get(&key).copied().unwrap_or(0).max(now);
        let next = arrival + interval;
        let allowed = next - now <= burst;
        let used = if allowed { next } else { arrival };
        if allowed {
            shard.insert(key, next);
        }
        Decision {
            allowed,
            limit: quota.requests,
            remaining: u32::try_from((burst.saturating_sub(used - now)) / interval).unwrap_or(u32::MAX),
            reset: time(used - now),
            retry_after: if allowed { Duration::ZERO } else { time(next - now - burst) },
        }
    }

    /// Clients that are counted.
    pub(crate) fn clients(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, key: &str) -> &Mutex<HashMap<String, u128>> {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        &self.shards[hash % SHARDS]
    }
}

/// Forgets clients whose quota is full again, and an eighth of the others where there are none.
fn make_room(shard: &mut HashMap<String, u128>, max: usize, now: u128) {
    shard.retain(|_, arrival| *arrival > now);
    if shard.len() < max {
        return;
    }
    let mut arrivals: Vec<u128> = shard.values().copied().collect();
    let (_, median, _) = arrivals.select_nth_unstable(max / 8);
    let bound = *median;
    shard.retain(|_, arrival| *arrival > bound);
}

/// Whom a limit is for: an IPv4 address, or the /64 that one IPv6 customer has at the least.
pub(crate) fn client_key(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { requests: 3, window: Duration::from_secs(10) };

    #[test]
    fn a_quota_is_there_at_once_and_comes_back_evenly() {
        let limiter = RateLimiter::in_memory(100);
        let now = Instant::now();
        let at = |after: Duration| limiter.check_at("all", "a", QUOTA, now + after);
        for left in [2, 1, 0] {
            let decision = at(Duration::ZERO);
            assert!(decision.allowed && decision.remaining == left && decision.limit == 3, "{decision:?}");
        }
        let third = Duration::from_nanos(3_333_333_334);
        for _ in 0..5 {
            let refused = at(Duration::ZERO);
            assert!(!refused.allowed && refused.remaining == 0, "{refused:?}");
            assert!(refused.retry_after.abs_diff(third) < Duration::from_micros(1), "{refused:?}");
            assert!(refused.reset.abs_diff(QUOTA.window) < Duration::from_micros(1), "{refused:?}");
        }
        assert!(!at(third - Duration::from_millis(1)).allowed);
        assert!(at(third).allowed);
        assert!(!at(third).allowed);
        assert_eq!(at(Duration::from_secs(60)).remaining, 2, "a quota never grows beyond itself");
        assert!(limiter.check_at("all", "b", QUOTA, now).allowed, "each client has its own");
        assert!(limiter.check_at("other", "a", QUOTA, now).allowed, "and in each scope");
    }

    #[test]
    fn exactly_the_quota_passes_in_a_window() {
        let limiter = RateLimiter::in_memory(100);
        let quota = Quota { requests: 7, window: Duration::from_secs(1) };
        let now = Instant::now();
        let passed = (0..10_000)
            .filter(|step| limiter.check_at("all", "a", quota, now + Duration::from_millis(*step)).allowed)
            .count();
        // 7 at once, and 7 a second for just under 10 s.
        assert_eq!(passed, 7 + 69);
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = RateLimiter::in_memory(160);
        let now = Instant::now();
        for client in 0..10_000 {
            limiter.check_at("all", &client.to_string(), QUOTA, now);
        }
        assert!(limiter.clients() <= 160, "{}", limiter.clients());
    }

    #[test]
    fn neighbours_in_one_64_are_one_client() {
        let key = |ip: &str| client_key(ip.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
