//! Which rule of `consensus` is asked when, and what it is told of a block's place in the tree.

use crate::chain::Chain;
use crate::index::{Id, Index};
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash};
use cairn_consensus::error::BlockReject;
use cairn_consensus::header::Ancestors;
use cairn_consensus::params::Params;
use cairn_consensus::{block, header};

/// A branch of the tree up to a block.
struct Branch<'a> {
    index: &'a Index,
    tip: Id,
}

impl Branch<'_> {
    fn id(&self, height: u32) -> Id {
        // Rules never ask above the parent; the tip stands in, so that a mistake there is a wrong answer and no panic.
        self.index.ancestor(self.tip, height).unwrap_or(self.tip)
    }
}

impl Ancestors for Branch<'_> {
    fn header(&self, height: u32) -> Header {
        self.index.header(self.id(height))
    }
    fn block_hash(&self, height: u32) -> BlockHash {
        self.index.node(self.id(height)).hash
    }
    fn median_time_past(&self, height: u32) -> u32 {
        self.index.node(self.id(height)).median_time_past
    }
}

/// The active chain, while the holder of the writer's lock keeps its tip where it is.
pub(crate) struct ActiveChain<'a>(pub(crate) &'a Chain);

impl ActiveChain<'_> {
    fn with<T>(&self, height: u32, read: impl FnOnce(&Index, Id) -> T) -> T {
        let view = self.0.read();
        let id = view.active.get(height as usize).copied().unwrap_or_else(|| view.tip());
        read(&view.index, id)
    }
}

impl Ancestors for ActiveChain<'_> {
    fn header(&self, height: u32) -> Header {
        self.with(height, |index, id| index.header(id))
    }
    fn block_hash(&self, height: u32) -> BlockHash {
        self.with(height, |index, id| index.node(id).hash)
    }
    fn median_time_past(&self, height: u32) -> u32 {
        self.with(height, |index, id| index.node(id).median_time_past)
    }
}

/// Core's `ContextualCheckBlockHeader` for a header after `parent`; `now` in seconds since 1970.
pub(crate) fn check_header_in_place(
    header: &Header,
    params: &Params,
    index: &Index,
    parent: Id,
    now: u32,
) -> Result<(), BlockReject> {
    let height = index.node(parent).height + 1;
    header::contextual_check_block_header(header, height, params, &Branch { index, tip: parent }, now)
}

/// Core's `ContextualCheckBlock` for a block after `parent`.
pub(crate) fn check_block_in_place(
    block: &Block,
    params: &Params,
    index: &Index,
    parent: Id,
) -> Result<(), BlockReject> {
    let parent = index.node(parent);
    block::contextual_check_block(block, parent.height + 1, params, parent.median_time_past)
}
