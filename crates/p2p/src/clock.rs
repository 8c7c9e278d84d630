//! The node's clock, which a test may set.

use crate::types::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time of everything that rules or peers make depend on it. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Seconds since 1970 that the clock stands at (Core's `g_mock_time`); 0 follows the system's.
    mock: Arc<AtomicU32>,
}

impl Clock {
    /// Time since 1970.
    pub fn now(&self) -> Time {
        match self.mock.load(Ordering::Relaxed) {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            seconds => Time::from_secs(seconds.into()),
        }
    }

    /// Seconds since 1970. Header times are 32 bits wide, so it ends where they do, in 2106.
    pub fn unix_time(&self) -> u32 {
        u32::try_from(self.now().as_secs()).unwrap_or(u32::MAX)
    }

    /// Stops it at this many seconds since 1970 (Core's `SetMockTime`); 0 follows the system's time again.
    pub fn set_mock_time(&self, seconds: u32) {
        self.mock.store(seconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_where_it_was_set_until_it_follows_the_system_again() {
        let clock = Clock::default();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(clock.now() >= before);
        let other = clock.clone();
        for seconds in [1, 1_600_000_000, u32::MAX] {
            clock.set_mock_time(seconds);
            assert_eq!((other.now(), other.unix_time()), (Time::from_secs(seconds.into()), seconds));
        }
        clock.set_mock_time(0);
        assert!(other.now() >= before);
    }
}
