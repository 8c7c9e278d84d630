//! What the terminal shows while the chain catches up with the peers.

use crate::terminal;
use cairn_node::{Node, Synchronisation};
use indicatif::{HumanCount, HumanDuration, ProgressBar};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// What takes less is not worth a line.
const SHOW_AFTER: Duration = Duration::from_secs(1);
/// Between two looks while there is, or may be, something to catch up with.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shows it on and on; never ends. The line goes with the future.
pub(super) async fn show(node: Arc<Node>) {
    if !terminal::shows_progress() {
        return std::future::pending().await;
    }
    let mut events = node.subscribe();
    let mut behind: Option<Instant> = None;
    let mut bar: Option<ProgressBar> = None;
    loop {
        let network = node.network_summary().await;
        match node.synchronisation(network.as_ref()) {
            None => {
                behind = None;
                bar = None;
            }
            Some(far) => {
                if behind.get_or_insert_with(Instant::now).elapsed() >= SHOW_AFTER {
                    let bar = bar.get_or_insert_with(|| terminal::synchronisation_bar(far.height));
                    bar.set_length(u64::from(far.headers));
                    bar.set_position(u64::from(far.height));
                    bar.set_message(pace(&far));
                }
            }
        }
        if behind.is_some() || node.is_initial_block_download() {
            tokio::time::sleep(LOOK_EVERY).await;
            events = events.resubscribe();
        } else if let Err(RecvError::Closed) = events.recv().await {
            return std::future::pending().await;
        }
    }
}

/// Rate and time left, in words.
fn pace(far: &Synchronisation) -> String {
    // Whole blocks; a float of that size is none too many.
    let rate = match far.blocks_per_second {
        rate if rate >= 10.0 => format!("{} blocks/s", HumanCount(rate as u64)),
        rate if rate > 0.0 => format!("{rate:.1} blocks/s"),
        _ => return "waiting for blocks".to_owned(),
    };
    match far.left {
        Some(left) => format!("{rate}, {} left", HumanDuration(left)),
        None => rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_told_in_words() {
        let far = |blocks_per_second, left: Option<u64>| {
            let left = left.map(Duration::from_secs);
            pace(&Synchronisation { height: 1, headers: 2, progress: 0.5, blocks_per_second, left })
        };
        assert_eq!(far(0.0, None), "waiting for blocks");
        assert_eq!(far(1234.5, Some(120)), "1,234 blocks/s, 2 minutes left");
        assert_eq!(far(0.25, Some(30)), "0.2 blocks/s, 30 seconds left");
    }
}
