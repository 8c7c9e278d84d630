//! Starting from a snapshot of the coins: headers first, then the coins, then the blocks after them.

use crate::Node;
use cairn_chain::ChainError;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether the snapshot's header came.
const LOOK: Duration = Duration::from_millis(200);
/// Age of the best header, seconds, at which headers count as synchronised.
const RECENT: u64 = 24 * 3600;

/// Why a node did not start from a snapshot. It goes on without.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not taken.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Headers are synchronised, and its block is none of them.
    #[error("the peers' chain has no block {0}, which the snapshot was taken at")]
    OtherChain(bitcoin::BlockHash),
}

impl Node {
    /// No block is fetched until [`Node::start_from_snapshot`] is done.
    pub fn await_snapshot(&self) {
        self.awaiting_snapshot.store(true, Ordering::Relaxed);
    }

    /// Waits for the header of a snapshot's block, and then loads the snapshot. `open` begins to read it, and may be called
    /// twice; `go_on` is asked now and then. Blocks. Returns the height, or `None` where the chain is beyond it already.
    ///
    /// # Errors
    /// Why it was not loaded; the chain is as it was, and blocks are fetched from where it is.
    pub fn start_from_snapshot(
        self: &Arc<Self>,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<u32>, SnapshotError> {
        let result = self.load_when_ready(open, go_on);
        self.awaiting_snapshot.store(false, Ordering::Relaxed);
        self.network.wake();
        result
    }

    fn load_when_ready(
        &self,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<u32>, SnapshotError> {
        let chain = &self.chain;
        let snapshot = chain.snapshot_block(open()?)?;
        if chain.tip().height >= snapshot.height || chain.snapshot_base().is_some() {
            return Ok(None);
        }
        while chain.entry(&snapshot.block_hash).is_none() {
            if !go_on() {
                return Err(ChainError::Interrupted.into());
            }
            let best = chain.best_header();
            let recent = u64::from(best.header.time) + RECENT > u64::from(self.now());
            if recent && best.height > snapshot.height {
                return Err(SnapshotError::OtherChain(snapshot.block_hash));
            }
            std::thread::sleep(LOOK);
        }
        let (base, _) = chain.load_snapshot(open()?, go_on)?;
        Ok(Some(base.height))
    }
}
