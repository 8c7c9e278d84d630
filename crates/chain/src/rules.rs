//! Which rule of `consensus` is asked when, and what it is told of a block's place in the tree.

use crate::chain::{Chain, View};
use crate::error::ChainError;
use crate::index::{Id, Index};
use bitcoin::block::Header;
use bitcoin::{Block, OutPoint, Txid};
use cairn_consensus::block::{WitnessRoot, contextual_check_block};
use cairn_consensus::coins::{Coin, CoinView};
use cairn_consensus::connect::{AncestorTimes, ConnectError, Connected, Place, ScriptCheck, connect_block};
use cairn_consensus::error::{BlockReject, BlockRejectKind};
use cairn_consensus::header::contextual_check_header;
use cairn_consensus::params::Params;
use cairn_consensus::pow::Ancestors;
use std::sync::Arc;

/// A refusal with Core's reject reason and debug message.
pub(crate) fn reject(kind: BlockRejectKind, reason: &'static str, debug: String) -> BlockReject {
    BlockReject { kind, reason: reason.into(), debug }
}

/// A branch of the tree up to a block.
struct Branch<'a> {
    index: &'a Index,
    tip: Id,
}

impl Ancestors for Branch<'_> {
    fn height(&self) -> u32 {
        self.index.node(self.tip).height
    }
    fn header(&self, height: u32) -> Header {
        // Rules never ask above the parent; the tip stands in, so that a mistake there is a wrong answer and no panic.
        self.index.header(self.index.ancestor(self.tip, height).unwrap_or(self.tip))
    }
    fn median_time_past(&self) -> u32 {
        self.index.node(self.tip).median_time_past
    }
}

/// The active chain and its coins, while the holder of the writer's lock keeps the tip where it is.
pub(crate) struct ActiveChain<'a>(pub(crate) &'a Chain);

impl CoinView for ActiveChain<'_> {
    type Error = ChainError;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        self.0.coin(outpoint)
    }
}

impl AncestorTimes for ActiveChain<'_> {
    fn median_time_past(&self, height: u32) -> u32 {
        let view = self.0.read();
        let id = view.active.get(height as usize).copied().unwrap_or_else(|| view.tip());
        view.index.node(id).median_time_past
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
    contextual_check_header(header, &Branch { index, tip: parent }, params, now)
}

/// Core's `ContextualCheckBlock` for a block after `parent`.
pub(crate) fn check_block_in_place(
    block: &Block,
    witnesses: WitnessRoot,
    params: &Params,
    index: &Index,
    parent: Id,
) -> Result<(), BlockReject> {
    contextual_check_block(block, witnesses, &Branch { index, tip: parent }, params)
}

/// What a block at `height` does to `coins`, those of the active chain's block before it. Its scripts go to `check`.
pub(crate) fn connect_at(
    chain: &Chain,
    block: &Arc<Block>,
    txids: &[Txid],
    height: u32,
    coins: &impl CoinView<Error = ChainError>,
    check: impl FnMut(ScriptCheck),
) -> Result<Connected, ConnectError<ChainError>> {
    let active = ActiveChain(chain);
    let bip34_ancestor = {
        let view: &View = &chain.read();
        let id = view.active.get(chain.params.bip34_height as usize).filter(|_| chain.params.bip34_height < height);
        id.map(|&id| view.index.node(id).hash)
    };
    let place = Place { height, hash: block.block_hash(), bip34_ancestor, ancestors: &active };
    connect_block(block, txids, &place, &chain.params, coins, check)
}
