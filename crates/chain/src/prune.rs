//! Pruning, as Bitcoin Core's: whole block files are deleted once no block in them is needed any more.
//!
//! Coins and index reach the disk without those files before they go; a start after a kill in between deletes them.

use crate::append::Ends;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::files::Kind;
use crate::index::{Index, status};
use crate::writer::Writer;
use bitcoin::Network;
use std::collections::BTreeMap;

/// Core's `MIN_BLOCKS_TO_KEEP`: so many blocks below the tip are kept whatever happens, for reorganisations.
const MIN_BLOCKS_TO_KEEP: u32 = 288;
/// Core's `MIN_DISK_SPACE_FOR_BLOCK_FILES` in MiB.
const MIN_TARGET_MIB: u64 = 550;
/// Core's `BLOCKFILE_CHUNK_SIZE` and `UNDOFILE_CHUNK_SIZE` in bytes: what may be written before pruning is thought of
/// again.
const BUFFER: u64 = (16 << 20) + (1 << 20);

/// Which block files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prune {
    /// All.
    #[default]
    Off,
    /// Those that [`Chain::prune_to`] leaves.
    Manual,
    /// As many bytes of them, the newest.
    Target(u64),
}

/// A target that is too small to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Prune configured below the minimum of {MIN_TARGET_MIB} MiB.  Please use a higher number.")]
pub struct InvalidPrune;

impl Prune {
    /// Core's `-prune`: 0 is off, 1 is manual, 550 or more is a target in MiB.
    ///
    /// # Errors
    /// A target below the minimum.
    pub fn from_mib(mib: u64) -> Result<Self, InvalidPrune> {
        match mib {
            0 => Ok(Self::Off),
            1 => Ok(Self::Manual),
            2..MIN_TARGET_MIB => Err(InvalidPrune),
            _ => Ok(Self::Target(mib.saturating_mul(1 << 20))),
        }
    }
}

impl Chain {
    /// Which block files are kept.
    pub fn prune(&self) -> Prune {
        self.prune
    }

    /// Height below which nothing is pruned (Core's `PruneAfterHeight`).
    pub fn prune_after_height(&self) -> u32 {
        match self.params.network {
            Network::Bitcoin => 100_000,
            _ => 1_000,
        }
    }

    /// Core's `GetPruneHeight`: the height of the last block of the active chain whose data or undo data is gone;
    /// `None` if all is here.
    pub fn pruned_height(&self) -> Option<u32> {
        let view = self.read();
        let whole = status::HAVE_DATA | status::HAVE_UNDO;
        let lacks = |height: &usize| view.index.node(view.active[*height]).status & whole != whole;
        (1..view.active.len()).rev().find(lacks).map(|height| height as u32)
    }

    /// Deletes the files whose blocks are all at or below `height`, the newest 288 blocks excepted.
    pub fn prune_to(&self, height: u32) -> Result<(), ChainError> {
        let mut writer = self.writer()?;
        let last = height.min(self.last_prunable()?);
        let files: Vec<u32> = self.prunable(&writer, last).collect();
        self.prune_files(&mut writer, &files)
    }

    /// Deletes the oldest files until those left stay below the target, if there is one.
    pub(crate) fn prune_to_target(&self, writer: &mut Writer) -> Result<(), ChainError> {
        let tip = self.tip().height;
        let Prune::Target(target) = self.prune else { return Ok(()) };
        if tip <= self.prune_after_height() {
            return Ok(());
        }
        let mut size = writer.appender.size();
        let mut files = Vec::new();
        for number in self.prunable(writer, self.last_prunable()?) {
            if size + BUFFER < target {
                break;
            }
            let Ends { block, undo } = writer.appender.ends[number as usize];
            size -= u64::from(block) + u64::from(undo);
            files.push(number);
        }
        self.prune_files(writer, &files)
    }

    /// The highest block that nobody needs any more.
    fn last_prunable(&self) -> Result<u32, ChainError> {
        let last = self.tip().height.saturating_sub(MIN_BLOCKS_TO_KEEP);
        if !self.blockfilterindex {
            return Ok(last);
        }
        // Filters that are missing are made from the blocks.
        Ok(last.min(self.filter_index_height()?.unwrap_or(0)))
    }

    /// Files without a block above `last`, the oldest first. The file that is being written is none of them.
    fn prunable(&self, writer: &Writer, last: u32) -> impl Iterator<Item = u32> + use<> {
        let mut highest: BTreeMap<u32, u32> = BTreeMap::new();
        let view = self.read();
        for id in view.index.ids() {
            let node = view.index.node(id);
            if let Some(at) = node.data() {
                let highest = highest.entry(at.file).or_default();
                *highest = node.height.max(*highest);
            }
        }
        let current = writer.appender.ends.len() as u32 - 1;
        // A snapshot is validated with the blocks below it.
        let last = writer.background.as_ref().map_or(last, |below| last.min(view.index.node(below.tip).height));
        highest
            .into_iter()
            .filter(move |&(number, highest)| number < current && highest <= last)
            .map(|(number, _)| number)
    }

    fn prune_files(&self, writer: &mut Writer, files: &[u32]) -> Result<(), ChainError> {
        if files.is_empty() {
            return Ok(());
        }
        {
            let mut view = self.change();
            for id in view.index.ids() {
                let node = view.index.node_mut(id);
                if node.data().is_none_or(|at| !files.contains(&at.file)) {
                    continue;
                }
                if node.chain_tx_count == 0 {
                    // It waits for an ancestor's data, and would have to come again with it.
                    let parent = node.parent;
                    node.forget_data();
                    if let Some(waiting) = writer.unlinked.get_mut(&parent) {
                        waiting.retain(|&other| other != id);
                    }
                }
                node.status &= !(status::HAVE_DATA | status::HAVE_UNDO);
                (node.file, node.data_pos, node.undo_pos) = (0, 0, 0);
                writer.dirty.insert(id);
            }
        }
        for &number in files {
            writer.appender.ends[number as usize] = Ends::default();
        }
        // What a start after a kill needs must not lie in files that are gone.
        writer.flush_all(self)?;
        tracing::info!(?files, "pruned block files");
        let deleted = files.iter().try_for_each(|&number| self.files.delete(number));
        if let Err(error) = deleted.and_then(|()| self.files.sync_names()) {
            // Nobody reads them any more, and the next start tries again.
            tracing::warn!(%error, "pruned block files were left");
        }
        self.size.store(writer.appender.size(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Deletes pruned files that a kill left behind.
    pub(crate) fn delete_pruned(&self, writer: &Writer) -> Result<(), ChainError> {
        if !has_pruned(&self.read().index) {
            return Ok(());
        }
        let last = writer.appender.ends.len().saturating_sub(1);
        for (number, _) in (0..).zip(&writer.appender.ends[..last]).filter(|(_, ends)| **ends == Ends::default()) {
            if self.files.len(Kind::Block, number)?.is_some() || self.files.len(Kind::Undo, number)?.is_some() {
                tracing::info!(number, "deleting a pruned block file that an unclean stop left");
                self.files.delete(number)?;
            }
        }
        self.files.sync_names()
    }
}

/// Whether any block was pruned.
pub(crate) fn has_pruned(index: &Index) -> bool {
    index.ids().any(|id| index.node(id).is_pruned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cores() {
        assert_eq!(Prune::from_mib(0), Ok(Prune::Off));
        assert_eq!(Prune::from_mib(1), Ok(Prune::Manual));
        assert_eq!(Prune::from_mib(550), Ok(Prune::Target(550 << 20)));
        for mib in [2, 549] {
            assert_eq!(Prune::from_mib(mib), Err(InvalidPrune));
        }
    }
}
