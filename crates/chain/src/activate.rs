//! Moving the tip: connecting, disconnecting, and choosing between branches.

use crate::chain::{Chain, StoredBlock};
use crate::error::ChainError;
use crate::files::{Kind, damaged};
use crate::index::{Id, Node, Rank, status};
use crate::open::link;
use crate::rules::ActiveChain;
use crate::scripts::Scripts;
use crate::snapshot::unusable;
use crate::undo;
use crate::writer::Writer;
use crate::{ChainEvent, Progress, index};
use bitcoin::{Block, BlockHash};
use cairn_consensus::coins::BlockUndo;
use cairn_consensus::connect::{ConnectError, Connected};
use cairn_consensus::error::BlockReject;
use std::time::Instant;

/// Why a tip is not left.
const BELOW_SNAPSHOT: &str = "the chain cannot go back below its block before it is validated";

/// Histogram of the seconds that connecting a block takes, from its bytes to its coins, durability apart.
pub const BLOCK_CONNECT_SECONDS: &str = "cairn_block_connect_seconds";

/// What stands in a branch's way.
enum Obstacle {
    /// This block cannot be connected now.
    Block(Id),
    /// The tip cannot be left now.
    Tip,
}

/// Why a block was not connected.
pub(crate) enum Failure {
    /// It is invalid.
    Rejected(BlockReject),
    /// It is not known whether it is: nothing is condemned.
    Chain(ChainError),
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

impl From<ConnectError<ChainError>> for Failure {
    fn from(error: ConnectError<ChainError>) -> Self {
        match error {
            ConnectError::Rejected(reason) => Self::Rejected(reason),
            ConnectError::View(error) => Self::Chain(error),
        }
    }
}

/// A block's scripts are checked once.
pub(crate) fn scripts_of(node: &Node) -> Scripts {
    if node.validity() < status::VALID_SCRIPTS { Scripts::Check } else { Scripts::Known }
}

impl Chain {
    /// Core's `ActivateBestChain`. `given` is a block at hand, to save reading it again; the answer is why that very
    /// block was refused, if it was.
    ///
    /// A branch that cannot be read or written is left for the best of the others; then the failure is the answer, and
    /// the next call tries that branch again.
    pub(crate) fn activate_best_chain(
        &self,
        writer: &mut Writer,
        mut given: Option<(Id, StoredBlock)>,
    ) -> Result<Option<BlockReject>, ChainError> {
        let (mut refused, mut failure, mut aside) = (None, None, Vec::new());
        while let Some((fork, path)) = self.way_to_best(writer) {
            let (obstacle, error) = match self.walk(writer, fork, &path, &mut given, &mut refused) {
                Ok(()) => continue,
                Err(failed) => failed,
            };
            if writer.stopped.is_some() {
                return Err(error);
            }
            tracing::error!(%error, "a branch with more work cannot be followed");
            let view = self.read();
            let blocked = |rank: &Rank| {
                let (.., std::cmp::Reverse(id)) = *rank;
                let passes = |at: Id| view.index.ancestor(id, view.index.node(at).height) == Some(at);
                match obstacle {
                    Obstacle::Block(block) => passes(block),
                    Obstacle::Tip => !passes(view.tip()),
                }
            };
            aside.extend(writer.candidates.extract_if(.., blocked));
            failure.get_or_insert(error);
        }
        let view = self.read();
        let tip = view.index.node(view.tip()).rank(view.tip());
        writer.candidates.extend(aside.into_iter().filter(|rank| *rank >= tip));
        failure.map_or(Ok(refused), Err)
    }

    /// Where the way from the tip to the best candidate forks off, and the blocks from there, the best first; `None`
    /// if the tip is the best.
    fn way_to_best(&self, writer: &Writer) -> Option<(Id, Vec<Id>)> {
        let view = self.read();
        let tip = view.tip();
        let &(.., std::cmp::Reverse(best)) = writer.candidates.last()?;
        if best == tip {
            return None;
        }
        let fork = view.index.fork(best, tip);
        let mut path = Vec::new();
        let mut at = best;
        while at != fork {
            path.push(at);
            at = view.index.node(at).parent;
        }
        Some((fork, path))
    }

    /// Goes that way, as far as its blocks are valid. A failure that is no block's fault comes with what it stopped at.
    fn walk(
        &self,
        writer: &mut Writer,
        fork: Id,
        path: &[Id],
        given: &mut Option<(Id, StoredBlock)>,
        refused: &mut Option<BlockReject>,
    ) -> Result<(), (Obstacle, ChainError)> {
        while self.read().tip() != fork {
            self.disconnect_tip(writer).map_err(|error| (Obstacle::Tip, error))?;
            writer.flush_if_due(self).map_err(|error| (Obstacle::Tip, error))?;
        }
        for &id in path.iter().rev() {
            let block = given.take_if(|(given, _)| *given == id).map(|(_, block)| block);
            let is_given = block.is_some();
            match self.connect_tip(writer, id, block) {
                Ok(()) => writer.flush_if_due(self).map_err(|error| (Obstacle::Tip, error))?,
                Err(Failure::Chain(error)) => return Err((Obstacle::Block(id), error)),
                Err(Failure::Rejected(reason)) => {
                    let hash = self.read().index.node(id).hash;
                    tracing::warn!(%hash, %reason, "a block is invalid");
                    self.mark_failed(writer, id);
                    if is_given {
                        *refused = Some(reason);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// Connects a block whose parent is the tip.
    fn connect_tip(&self, writer: &mut Writer, id: Id, block: Option<StoredBlock>) -> Result<(), Failure> {
        let since = Instant::now();
        let (block, txids) = match block {
            Some(block) => block,
            None => match self.stored_block(id) {
                Ok(stored) => stored,
                Err(error) => {
                    if matches!(error, ChainError::Corrupt { .. }) {
                        self.forget_data(writer, id);
                    }
                    return Err(error.into());
                }
            },
        };
        let node = self.read().index.node(id).clone();
        let connected = self.connect_at(&block, &txids, node.height, &ActiveChain(self), scripts_of(&node))?;
        let undo_pos = self.keep_undo(writer, &node, &block, &connected)?;
        let filter = self.filter_to_keep(id, &block, &connected.undo)?;
        let pool = self.pool_for(&block);
        let entry = {
            let mut view = self.change();
            view.coins.connect(&block, &txids, id, node.height, pool);
            view.filters.extend(filter);
            view.active.push(id);
            view.index.node_mut(id).connected(undo_pos);
            // Core's `PruneBlockIndexCandidates`: what is worse than the tip is none any more.
            writer.candidates = writer.candidates.split_off(&view.index.node(id).rank(id));
            view.index.entry(id)
        };
        writer.dirty.insert(id);
        writer.changes += 1;
        metrics::histogram!(BLOCK_CONNECT_SECONDS).record(since.elapsed());
        writer.show(Progress::Connecting { height: entry.height, of: self.best_header().height });
        if writer.announce {
            (self.observer)(&ChainEvent::Connected { block, entry });
        }
        Ok(())
    }

    /// Keeps what a valid block spent; returns where.
    pub(crate) fn keep_undo(
        &self,
        writer: &mut Writer,
        node: &Node,
        block: &Block,
        connected: &Connected,
    ) -> Result<u32, ChainError> {
        if node.has(status::HAVE_UNDO) {
            return Ok(node.undo_pos);
        }
        let data = undo::encode(&connected.undo);
        let checksum = undo::checksum(&block.header.prev_blockhash, &data);
        writer.appender.append_undo(&self.files, node.file, &data, &checksum)
    }

    /// A block's data turned out to be lost, so that it is asked for again; what builds on it waits for that.
    fn forget_data(&self, writer: &mut Writer, id: Id) {
        let mut view = self.change();
        view.index.node_mut(id).forget_data();
        writer.dirty.insert(id);
        link(writer, &mut view.index);
        writer.find_candidates(&view);
    }

    /// Disconnects the tip, which is not the genesis block.
    pub(crate) fn disconnect_tip(&self, writer: &mut Writer) -> Result<(), ChainError> {
        let id = self.read().tip();
        if self.read().index.snapshot.is_some_and(|(base, _)| base == id) {
            return Err(unusable(BELOW_SNAPSHOT));
        }
        let ((block, txids), undo) = self.block_and_undo(id)?;
        let entry = {
            let mut view = self.change();
            view.coins.disconnect(&block, &txids, undo);
            view.active.pop();
            view.index.entry(id)
        };
        writer.changes += 1;
        if writer.announce {
            (self.observer)(&ChainEvent::Disconnected { block, entry });
        }
        Ok(())
    }

    /// A block and the coins that it spent, which fit each other.
    pub(crate) fn block_and_undo(&self, id: Id) -> Result<(StoredBlock, BlockUndo), ChainError> {
        let stored = self.stored_block(id)?;
        let undo = self.undo_of(id, &stored.0)?;
        Ok((stored, undo))
    }

    pub(crate) fn stored_block(&self, id: Id) -> Result<StoredBlock, ChainError> {
        self.block_by_id(id)?.ok_or_else(|| {
            let node = self.read().index.node(id).clone();
            match node.is_pruned() {
                true => ChainError::Pruned { hash: node.hash },
                false => ChainError::Corrupt { what: format!("the block index (no data of block {})", node.hash) },
            }
        })
    }

    /// Undo data of a block that has some, one coin for each of its inputs.
    pub(crate) fn undo_of(&self, id: Id, block: &Block) -> Result<BlockUndo, ChainError> {
        let node = self.read().index.node(id).clone();
        let damaged = || damaged(&self.files.path(Kind::Undo, node.file), node.undo_pos);
        let undo = self.undo_by_id(id)?.ok_or_else(damaged)?;
        let spenders = block.txdata.iter().skip(1);
        if undo.0.len() != spenders.len() || spenders.zip(&undo.0).any(|(tx, spent)| tx.input.len() != spent.0.len()) {
            return Err(damaged());
        }
        Ok(undo)
    }

    /// Condemns a block and all that build on it.
    pub(crate) fn mark_failed(&self, writer: &mut Writer, id: Id) {
        let mut view = self.change();
        let index = &mut view.index;
        for at in id..index.len() {
            let failed = at == id || index.parent(at).is_some_and(|parent| index.node(parent).has(status::FAILED));
            if failed && !index.node(at).has(status::FAILED) {
                index.node_mut(at).status |= status::FAILED;
                writer.candidates.remove(&index.node(at).rank(at));
                writer.dirty.insert(at);
            }
        }
        if view.index.node(view.best_header).has(status::FAILED) {
            view.best_header = best_header(&view.index);
        }
    }

    /// Marks a block and its descendants invalid and leaves them. Durable when it returns.
    pub fn invalidate_block(&self, hash: &BlockHash) -> Result<(), ChainError> {
        let mut writer = self.writer()?;
        let id = self.known(hash)?;
        let height = self.read().index.node(id).height;
        if height == 0 {
            return Err(ChainError::Genesis);
        }
        {
            let view = self.read();
            let base = view.index.snapshot.map(|(base, _)| view.index.node(base).height);
            if view.is_active(id) && base.is_some_and(|base| base >= height) {
                return Err(unusable(BELOW_SNAPSHOT));
            }
        }
        if self.read().is_active(id) && self.pruned_height().is_some_and(|pruned| pruned >= height) {
            return Err(ChainError::Pruned { hash: *hash });
        }
        while self.read().is_active(id) {
            self.disconnect_tip(&mut writer)?;
            writer.flush_if_due(self)?;
        }
        self.mark_failed(&mut writer, id);
        writer.find_candidates(&self.read());
        writer.flush_index(self)?;
        self.activate_best_chain(&mut writer, None)?;
        writer.flush_if_due(self)
    }

    /// Undoes `invalidate_block` for the block, its ancestors and descendants. Durable when it returns.
    pub fn reconsider_block(&self, hash: &BlockHash) -> Result<(), ChainError> {
        let mut writer = self.writer()?;
        let id = self.known(hash)?;
        {
            let mut view = self.change();
            let height = view.index.node(id).height;
            for at in view.index.ids() {
                let node = view.index.node(at);
                let related = node.has(status::FAILED)
                    && (view.index.ancestor(at, height) == Some(id)
                        || view.index.ancestor(id, node.height) == Some(at));
                if related {
                    view.index.node_mut(at).status &= !status::FAILED;
                    writer.dirty.insert(at);
                }
            }
            view.best_header = best_header(&view.index);
            writer.find_candidates(&view);
        }
        writer.flush_index(self)?;
        self.activate_best_chain(&mut writer, None)?;
        writer.flush_if_due(self)
    }

    fn known(&self, hash: &BlockHash) -> Result<Id, ChainError> {
        self.read().index.id(hash).ok_or(ChainError::UnknownBlock(*hash))
    }
}

/// The header with most work that has not failed; of several the first.
pub(crate) fn best_header(index: &index::Index) -> Id {
    let valid = index.ids().filter(|&id| !index.node(id).has(status::FAILED));
    valid.max_by_key(|&id| (index.node(id).chain_work, std::cmp::Reverse(id))).unwrap_or(0)
}
