//! Limits on how often a client may ask: the generic cell rate algorithm (GCRA, ITU-T I.371), exact to the microsecond.
//!
//! A client may ask `requests` times at once, and from then on once every `window / requests`; what it did not use comes back
//! at that pace, up to `requests`. One number a client is enough for that: when its allowance is whole again.

mod gcra;
mod memory;
mod shared;

use crate::Redis;
use memory::Memory;
use shared::Shared;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// How often a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests a window, and how many may come at once. With 0 nothing is allowed.
    pub requests: u32,
    /// In which they come back. Microseconds are exact; with less than one there is no limit. At most 136 years.
    pub window: Duration,
}

/// The answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// It may pass, and was counted. One that may not is not counted.
    pub allowed: bool,
    /// Requests a window: that of the quota.
    pub limit: u32,
    /// How many more would pass now.
    pub remaining: u32,
    /// Until all of `limit` would pass, if nothing comes meanwhile.
    pub reset: Duration,
    /// Until the next one passes; zero where this one did.
    pub retry_after: Duration,
}

/// Counts requests. Clones count together.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    memory: Arc<Memory>,
    shared: Option<Arc<Shared>>,
}

impl RateLimiter {
    /// Counts in this process, for at most `max_clients` clients. Takes memory as clients come, 40 bytes each, and no thread.
    /// Clients whose allowance is whole are forgotten; where none is, a client that is near it makes room for a new one.
    #[must_use]
    pub fn in_memory(max_clients: usize) -> Self {
        Self { memory: Arc::new(Memory::new(max_clients)), shared: None }
    }

    /// Counts in Redis, together with every other process that does. Each request is one round trip, all of them on one
    /// connection. While Redis is away each process counts for itself, as with [`in_memory`](Self::in_memory), and nothing
    /// waits.
    #[must_use]
    pub fn shared(redis: Redis, max_clients: usize) -> Self {
        Self { shared: Some(Arc::new(Shared::new(redis))), ..Self::in_memory(max_clients) }
    }

    /// Whether `client` may ask now under `quota`, and counts it if so. What is counted in one `scope` does not count in others.
    pub async fn check(&self, scope: &str, client: &str, quota: Quota) -> Decision {
        let Some(quota) = gcra::Exact::of(quota) else { return quota.unlimited() };
        if let Some(shared) = &self.shared
            && let Some(decision) = shared.check(scope, client, quota).await
        {
            return decision;
        }
        self.memory.check(scope, client, quota)
    }
}

impl Quota {
    fn unlimited(self) -> Decision {
        Decision {
            allowed: true,
            limit: self.requests,
            remaining: self.requests,
            reset: Duration::ZERO,
            retry_after: Duration::ZERO,
        }
    }
}

/// What a client is counted by: its IPv4 address, or the /64 network of its IPv6 address, since one host has all of that. An
/// IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is the IPv4 one.
#[must_use]
pub fn client_key(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let key = |ip: &str| client_key(ip.parse().unwrap());
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(key("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64");
        assert_ne!(key("2001:db8:1:3::1"), key("2001:db8:1:2::1"));
    }

    #[tokio::test]
    async fn so_many_pass_and_the_next_is_told_when_to_come() {
        let limiter = RateLimiter::in_memory(100);
        let quota = Quota { requests: 3, window: Duration::from_secs(3 * 3600) };
        for remaining in [2, 1, 0] {
            let decision = limiter.check("api", "192.0.2.1", quota).await;
            assert!(decision.allowed);
            assert_eq!((decision.limit, decision.remaining, decision.retry_after), (3, remaining, Duration::ZERO));
        }
        let refused = limiter.clone().check("api", "192.0.2.1", quota).await;
        assert!(!refused.allowed);
        assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= Duration::from_secs(3600));
        assert!(refused.reset > Duration::from_secs(2 * 3600) && refused.reset <= quota.window);
        assert!(limiter.check("calendar", "192.0.2.1", quota).await.allowed, "another scope");
        assert!(limiter.check("api", "192.0.2.2", quota).await.allowed, "another client");
    }

    #[tokio::test]
    async fn no_requests_is_never_and_no_window_is_always() {
        let limiter = RateLimiter::in_memory(100);
        let never = Quota { requests: 0, window: Duration::from_secs(60) };
        let decision = limiter.check("api", "a", never).await;
        assert_eq!((decision.allowed, decision.remaining, decision.retry_after), (false, 0, Duration::from_secs(60)));
        let always = Quota { requests: 1, window: Duration::ZERO };
        for _ in 0..10 {
            assert!(limiter.check("api", "a", always).await.allowed);
        }
    }
}
