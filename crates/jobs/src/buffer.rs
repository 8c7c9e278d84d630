//! Tasks of a queue that are claimed and not run yet, and how many to claim.

use crate::news::lock;
use cairn_store::tasks::Claimed;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Work that is claimed ahead: enough that a round trip to the database is not waited for, and no more, so that others have
/// something to do.
const AHEAD: Duration = Duration::from_millis(40);
/// Most tasks that are claimed ahead.
const MOST_AHEAD: usize = 1000;

/// A task that this worker holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) claimed: Claimed,
    /// Cancelled when it is others'.
    pub(crate) lost: CancellationToken,
}

/// The tasks of one queue.
#[derive(Debug)]
pub(crate) struct Buffer {
    concurrency: usize,
    state: Mutex<State>,
    /// Notified when more may be claimed.
    pub(crate) wanted: Notify,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Held>,
    running: usize,
    /// How long a task takes, as a moving mean, seconds.
    mean: f64,
}

impl Buffer {
    pub(crate) fn new(concurrency: usize) -> Buffer {
        let state = State { waiting: VecDeque::new(), running: 0, mean: AHEAD.as_secs_f64() };
        Buffer { concurrency: concurrency.max(1), state: Mutex::new(state), wanted: Notify::new() }
    }

    /// How many tasks to claim now.
    pub(crate) fn room(&self) -> usize {
        let state = lock(&self.state);
        let target = self.target(&state);
        if state.waiting.len() * 2 > target {
            return 0;
        }
        let free = self.concurrency.saturating_sub(state.running);
        (target + free).saturating_sub(state.waiting.len())
    }

    /// Tasks that should be waiting while all that may run do.
    fn target(&self, state: &State) -> usize {
        let rate = self.concurrency as f64 / state.mean.max(1e-6);
        // Slow tasks are not claimed ahead: another worker may be free sooner.
        ((rate * AHEAD.as_secs_f64()) as usize).saturating_sub(self.concurrency).min(MOST_AHEAD)
    }

    pub(crate) fn push(&self, held: Vec<Held>) {
        lock(&self.state).waiting.extend(held);
    }

    /// The next task, if one more may run; it counts as running.
    pub(crate) fn start(&self) -> Option<Held> {
        let mut state = lock(&self.state);
        if state.running >= self.concurrency {
            return None;
        }
        let held = state.waiting.pop_front()?;
        state.running += 1;
        Some(held)
    }

    /// The next task of a kind in the place of one that ended after a time; otherwise that place is free.
    pub(crate) fn replace(&self, took: Duration, fits: impl FnOnce(&Held) -> bool) -> Option<Held> {
        let mut state = lock(&self.state);
        state.mean += (took.as_secs_f64() - state.mean) * 0.05;
        let next = if state.waiting.front().is_some_and(fits) { state.waiting.pop_front() } else { None };
        if next.is_none() {
            state.running -= 1;
        }
        if state.waiting.len() * 2 <= self.target(&state) {
            self.wanted.notify_one();
        }
        next
    }

    /// A task ended after a time: its place is free.
    pub(crate) fn free(&self, took: Duration) {
        self.replace(took, |_| false);
    }

    /// What has not begun, to be given back.
    pub(crate) fn drain(&self) -> Vec<Held> {
        lock(&self.state).waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_store::tasks::TaskId;
    use serde_json::json;

    fn held() -> Held {
        let claimed = Claimed {
            id: TaskId::generate(),
            claim: 1,
            task_type: "t".into(),
            payload: json!(null),
            input: None,
            attempt: 1,
            max_attempts: 1,
        };
        Held { claimed, lost: CancellationToken::new() }
    }

    #[test]
    fn slow_tasks_are_not_claimed_ahead_and_quick_ones_by_the_thousand() {
        let buffer = Buffer::new(2);
        assert_eq!(buffer.room(), 2);
        buffer.push(vec![held(), held()]);
        assert!(buffer.start().is_some() && buffer.start().is_some() && buffer.start().is_none());
        assert_eq!(buffer.room(), 0, "all places are taken");
        buffer.push((0..200).map(|_| held()).collect());
        for _ in 0..200 {
            assert!(buffer.replace(Duration::from_micros(1), |_| true).is_some());
        }
        assert!(buffer.replace(Duration::from_micros(1), |_| true).is_none());
        assert_eq!(buffer.room(), MOST_AHEAD + 1, "one place is free");
        for _ in 0..3 {
            buffer.push(vec![held()]);
            buffer.start().unwrap();
            buffer.replace(Duration::from_secs(10), |_| true);
        }
        assert_eq!(buffer.room(), 1);
    }
}
