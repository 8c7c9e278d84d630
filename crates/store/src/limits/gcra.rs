//! The algorithm, in whole numbers: microseconds, and parts of one where `window / requests` is not whole.

use super::{Decision, Quota};
use std::time::Duration;

/// A quota as the algorithm reckons with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact {
    /// Requests a window; 0 allows none.
    pub(super) requests: u32,
    /// Microseconds, at least 1. At most 2^32 seconds: added to a time it stays below 2^53, which Redis' numbers hold.
    pub(super) window: u64,
}

/// A moment: microseconds, and `part` of `requests` parts of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment {
    /// Microseconds since a beginning.
    pub(super) micros: u64,
    /// Below the quota's `requests`.
    pub(super) part: u32,
}

impl Exact {
    /// None where there is no limit.
    pub(super) fn of(quota: Quota) -> Option<Self> {
        let longest = Duration::from_secs(u32::MAX.into());
        let window = u64::try_from(quota.window.min(longest).as_micros()).expect("2^32 seconds are below 2^52 µs");
        (window > 0).then_some(Self { requests: quota.requests, window })
    }

    /// One request at `now`. `whole` is when the client's allowance is whole: changed if the request passes. One from before
    /// is the same as none. It is never later than a window from now, unless the clock was set back or the window was longer.
    pub(super) fn pass(self, now: u64, whole: &mut Moment) -> Decision {
        if self.requests == 0 {
            let window = Duration::from_micros(self.window);
            return Decision { allowed: false, limit: 0, remaining: 0, reset: window, retry_after: window };
        }
        let latest = Moment { micros: now.saturating_add(self.window), part: 0 };
        let begin = Moment { part: whole.part.min(self.requests - 1), ..*whole };
        let begin = begin.clamp(Moment { micros: now, part: 0 }, latest);
        let next = self.later(begin);
        let allowed = next <= latest;
        *whole = if allowed { next } else { begin };
        self.decision(allowed, now, *whole)
    }

    /// What is told after `now`, when the allowance is whole at `whole`.
    pub(super) fn decision(self, allowed: bool, now: u64, whole: Moment) -> Decision {
        // In parts of a microsecond, of which there are `requests`.
        let requests = u128::from(self.requests.max(1));
        let window = u128::from(self.window) * requests;
        let owed = (u128::from(whole.micros.saturating_sub(now)) * requests + u128::from(whole.part)).min(window);
        let micros = |parts: u128| Duration::from_micros(u64::try_from(parts.div_ceil(requests)).unwrap_or(u64::MAX));
        // A request costs `self.window` parts.
        let cost = u128::from(self.window);
        Decision {
            allowed,
            limit: self.requests,
            remaining: u32::try_from((window - owed) / cost).unwrap_or(u32::MAX),
            reset: micros(owed),
            retry_after: if allowed { Duration::ZERO } else { micros((owed + cost).saturating_sub(window)) },
        }
    }

    /// A request's worth later.
    fn later(self, moment: Moment) -> Moment {
        let requests = u64::from(self.requests);
        let part = u64::from(moment.part) + self.window % requests;
        Moment {
            micros: moment.micros.saturating_add(self.window / requests + part / requests),
            part: u32::try_from(part % requests).expect("below requests"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same limit told the other way round: a bucket of tokens that fills. It takes every token apart into `window`
    /// pieces, of which `requests` come back each microsecond.
    pub(in super::super) struct Bucket {
        quota: Exact,
        pieces: u128,
        at: u64,
    }

    impl Bucket {
        pub(in super::super) fn full(quota: Exact, now: u64) -> Self {
            Self { quota, pieces: u128::from(quota.requests) * u128::from(quota.window), at: now }
        }

        /// The slow way: microsecond by microsecond where there are few of them.
        pub(in super::super) fn pass(&mut self, now: u64) -> Decision {
            let (requests, token) = (u128::from(self.quota.requests), u128::from(self.quota.window));
            let size = requests * token;
            let fill = |pieces: u128, micros: u64| (pieces + requests * u128::from(micros)).min(size);
            self.pieces = fill(self.pieces, now - self.at);
            self.at = now;
            let until = |wanted: u128, pieces: u128| {
                let mut micros = u64::try_from((wanted - pieces) / requests).unwrap().saturating_sub(2);
                while fill(pieces, micros) < wanted {
                    micros += 1;
                }
                Duration::from_micros(micros)
            };
            let allowed = self.pieces >= token;
            let retry_after = if allowed { Duration::ZERO } else { until(token, self.pieces) };
            if allowed {
                self.pieces -= token;
            }
            Decision {
                allowed,
                limit: self.quota.requests,
                remaining: u32::try_from(self.pieces / token).unwrap(),
                reset: until(size, self.pieces),
                retry_after,
            }
        }
    }

    /// Quotas whose interval is whole or not, short and long.
    pub(in super::super) fn quota() -> impl Strategy<Value = Exact> {
        let requests = prop_oneof![1..20u32, 1..=u32::MAX];
        let window = prop_oneof![1..1000u64, 1..100_000_000u64, Just(u64::from(u32::MAX) * 1_000_000)];
        (requests, window).prop_map(|(requests, window)| Exact { requests, window })
    }

    proptest! {
        #[test]
        fn it_decides_as_a_bucket_of_tokens(quota in quota(), start in 0..1u64 << 52, waits in prop::collection::vec((0..4u32, any::<u64>()), 1..200)) {
            let mut now = start;
            let mut whole = Moment::default();
            let mut bucket = Bucket::full(quota, now);
            for (kind, wait) in waits {
                // Mostly at once, or about an interval later, where a microsecond decides.
                now += match kind {
                    0 | 1 => 0,
                    2 => wait % (quota.window / u64::from(quota.requests) + 3),
                    _ => wait % (quota.window * 2),
                };
                prop_assert_eq!(quota.pass(now, &mut whole), bucket.pass(now));
            }
        }

        #[test]
        fn who_comes_when_told_passes_and_a_microsecond_earlier_does_not(quota in quota(), used in 0..50u32) {
            let mut now = 1_000_000;
            let mut whole = Moment::default();
            let refused = (0..=used).map(|_| quota.pass(now, &mut whole)).find(|decision| !decision.allowed);
            if let Some(refused) = refused {
                let wait = u64::try_from(refused.retry_after.as_micros()).unwrap();
                prop_assert!(wait > 0);
                now += wait - 1;
                prop_assert!(!quota.pass(now, &mut whole).allowed);
                prop_assert!(quota.pass(now + 1, &mut whole).allowed);
            }
        }

        #[test]
        fn any_state_and_clock_give_an_answer(requests: u32, window in 1..=u64::from(u32::MAX) * 1_000_000, now: u64, micros: u64, part: u32) {
            let quota = Exact { requests, window };
            let decision = quota.pass(now, &mut Moment { micros, part });
            prop_assert!(decision.remaining <= requests);
            prop_assert!(decision.reset <= Duration::from_micros(window));
            prop_assert!(decision.retry_after <= Duration::from_micros(window));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_a_window() {
        let quota = Exact { requests: 10, window: 60_000_000 };
        let mut whole = Moment { micros: 1 << 50, part: 0 };
        let decision = quota.pass(1000, &mut whole);
        assert!(!decision.allowed);
        assert_eq!(decision.retry_after, Duration::from_secs(6));
    }
}
