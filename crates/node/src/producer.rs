//! The block producer: one thread that makes blocks at their pace.

use crate::Node;
use bitcoin::ScriptBuf;
use cairn_mining::MiningError;
use cairn_mining::pace::{Pace, Schedule};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the producer rests after a failure, so that a full disk does not become a busy loop.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// State of the block producer.
#[derive(Debug, Clone, Default)]
pub struct MiningStatus {
    /// Producing blocks on a schedule now.
    pub running: bool,
    /// Time between the network's blocks (zero is only on demand), this node's share of them, and how they are spread.
    pub pace: Pace,
    /// Blocks found on schedule since the start.
    pub blocks_found: u64,
    /// Hashes computed on schedule since the start.
    pub hashes: u64,
    /// Script that rewards go to, if one is set.
    pub reward_script: Option<ScriptBuf>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

/// The schedule and the thread that keeps it.
#[derive(Default)]
pub(crate) struct Producer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    /// The tip changed or the schedule ended: what is being searched is worth nothing.
    stale: Arc<AtomicBool>,
    hashes: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    status: MiningStatus,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; were it to, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Producer {
    /// Raised by whoever changes the tip.
    pub(crate) fn stale_flag(&self) -> Arc<AtomicBool> {
        self.shared.stale.clone()
    }

    pub(crate) fn status(&self) -> MiningStatus {
        let mut status = self.shared.lock().status.clone();
        status.hashes = self.shared.hashes.load(Ordering::Relaxed);
        status
    }

    /// The thread's handle. Whoever starts or stops holds it to the end, so that there is never a second thread.
    fn handle(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self, node: &Arc<Node>, block_time: Duration, script: ScriptBuf) {
        let mut thread = self.handle();
        self.end(&mut thread);
        {
            let mut state = self.shared.lock();
            state.stop = false;
            state.status.pace.block_time = block_time;
            state.status.reward_script = Some(script.clone());
            state.status.running = !block_time.is_zero();
        }
        if block_time.is_zero() {
            return;
        }
        let (node, shared) = (Arc::downgrade(node), self.shared.clone());
        let spawned =
            std::thread::Builder::new().name("producer".into()).spawn(move || produce(&node, &shared, &script));
        match spawned {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                let mut state = self.shared.lock();
                state.status.running = false;
                state.status.last_error = Some(format!("the mining thread did not start: {error}"));
            }
        }
    }

    /// Changes the pace, of a schedule that is kept too.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Pace)) {
        change(&mut self.shared.lock().status.pace);
        self.shared.wake.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.end(&mut self.handle());
    }

    fn end(&self, thread: &mut Option<JoinHandle<()>>) {
        self.shared.lock().stop = true;
        self.shared.stale.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        if let Some(thread) = thread.take() {
            // A producer that panicked has nothing more to say; its last error stays in the status.
            let _ = thread.join();
        }
        self.shared.lock().status.running = false;
    }
}

/// Makes a block each time the schedule says so, until it is told to stop or the node is gone.
fn produce(node: &Weak<Node>, shared: &Shared, script: &ScriptBuf) {
    let start = Instant::now();
    let pace = shared.lock().status.pace;
    let mut schedule = Schedule::new(pace, start.elapsed(), rand::rng());
    while wait(shared, &mut schedule, start) {
        let Some(node) = node.upgrade() else { return };
        match produce_one(&node, shared, script) {
            Ok(()) => {
                let mut state = shared.lock();
                state.status.blocks_found += 1;
                state.status.last_error = None;
                drop(state);
                schedule.made(start.elapsed());
            }
            // Another block came first, or all is to stop: the block that is due is searched for on the new tip at once.
            Err(MiningError::Stopped) => {}
            Err(error) => {
                tracing::warn!(%error, "no block was made");
                shared.lock().status.last_error = Some(error.to_string());
                schedule.failed(start.elapsed(), REST_AFTER_FAILURE);
            }
        }
    }
}

fn produce_one(node: &Node, shared: &Shared, script: &ScriptBuf) -> Result<(), MiningError> {
    shared.stale.store(false, Ordering::Relaxed);
    if shared.lock().stop {
        return Err(MiningError::Stopped);
    }
    let mut block = node.template(script)?.block;
    let hashes = node.mine(&mut block, &shared.stale)?;
    shared.hashes.fetch_add(hashes, Ordering::Relaxed);
    node.submit_block(Arc::new(block))?;
    Ok(())
}

/// Sleeps until a block is due, at whatever pace is set meanwhile; false when the producer was told to stop.
fn wait<R: rand::Rng>(shared: &Shared, schedule: &mut Schedule<R>, start: Instant) -> bool {
    let mut state = shared.lock();
    loop {
        if state.stop {
            return false;
        }
        let now = start.elapsed();
        schedule.set_pace(state.status.pace, now);
        let left = schedule.due().saturating_sub(now);
        if left.is_zero() {
            return true;
        }
        state = shared.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_mining::pace::Share;
    use std::sync::Barrier;

    #[test]
    fn concurrent_starts_leave_one_thread() {
        const STARTS: usize = 8;
        let (node, _dir) = crate::tests::node();
        let producer = Producer::default();
        for _ in 0..50 {
            let together = Barrier::new(STARTS);
            std::thread::scope(|scope| {
                for _ in 0..STARTS {
                    scope.spawn(|| {
                        together.wait();
                        producer.start(&node, Duration::from_secs(3600), ScriptBuf::new());
                    });
                }
            });
            assert_eq!(Arc::strong_count(&producer.shared), 2, "the producer and one thread");
            assert!(producer.status().running);
        }
        producer.stop();
        assert_eq!(Arc::strong_count(&producer.shared), 1, "no thread");
        assert!(!producer.status().running);
    }

    #[test]
    fn a_share_that_is_set_wakes_who_waits_for_a_block() {
        let (node, _dir) = crate::tests::node();
        let day = Duration::from_secs(86_400);
        node.set_mining_share(Share::new(0.25).unwrap());
        node.start_mining(day, ScriptBuf::new());
        assert_eq!((node.mining().pace.block_time, node.mining().pace.mean()), (day, 4 * day));
        // A pace at which the next block is due at once: it comes, though the wait was for days.
        node.producer.set(|pace| pace.block_time = Duration::from_nanos(1));
        while node.chain.tip().height == 0 {
            std::thread::yield_now();
        }
        node.stop_mining();
        node.start_mining(day, ScriptBuf::new());
        assert_eq!(node.mining().pace.share, Share::new(0.25).unwrap(), "a new schedule has the share of the last");
        node.stop_mining();
    }
}
