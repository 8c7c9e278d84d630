//! What peers ask of the tree: locators, ranges of headers, blocks still missing, blocks as they are on disk.

use crate::BlockEntry;
use crate::chain::{Chain, View};
use crate::error::ChainError;
use crate::files::{Kind, damaged};
use crate::index::{Id, status};
use crate::rules;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Work};
use cairn_consensus::error::BlockReject;
use cairn_consensus::header::check_header;

/// A block on a branch, as far as fetching it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchBlock {
    /// Hash.
    pub hash: BlockHash,
    /// Height.
    pub height: u32,
    /// Its data is here, or it is in the active chain.
    pub here: bool,
    /// Its data is here.
    pub has_data: bool,
    /// Its data and that of all its ancestors is here.
    pub linked: bool,
    /// It, or a block that it builds on, is invalid.
    pub failed: bool,
}

/// Where a header would stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPlace {
    /// Height.
    pub height: u32,
    /// Total work up to and including it.
    pub chain_work: Work,
}

impl View {
    /// Core's `LocatorEntries`: the block, then ancestors ever further apart, then the genesis block.
    fn locator(&self, from: Id) -> Vec<BlockHash> {
        let mut locator = Vec::with_capacity(32);
        let (mut at, mut step) = (from, 1);
        loop {
            let node = self.index.node(at);
            locator.push(node.hash);
            if node.height == 0 {
                return locator;
            }
            let height = node.height.saturating_sub(step);
            if locator.len() > 10 {
                step = step.saturating_mul(2);
            }
            at = self.index.ancestor(at, height).expect("the height is below the block's");
        }
    }

    /// Core's `FindForkInGlobalIndex`: the last block of the active chain that a locator names.
    fn fork_of(&self, locator: &[BlockHash]) -> u32 {
        for id in locator.iter().filter_map(|hash| self.index.id(hash)) {
            let height = self.index.node(id).height;
            if self.is_active(id) {
                return height;
            }
            let tip = self.tip();
            let tip_height = self.index.node(tip).height;
            if self.index.ancestor(id, tip_height) == Some(tip) {
                return tip_height;
            }
        }
        0
    }
}

impl Chain {
    /// A locator for a known block: its hash, then those of ancestors ever further apart, down to the genesis block.
    pub fn locator(&self, hash: &BlockHash) -> Option<Vec<BlockHash>> {
        let view = self.read();
        view.index.id(hash).map(|id| view.locator(id))
    }

    /// Up to `max` headers of the active chain after the last block that a locator names, as far as `stop`; with the last
    /// one's entry, or the tip's if there are none.
    pub fn headers_after(&self, locator: &[BlockHash], stop: &BlockHash, max: usize) -> (Vec<Header>, BlockEntry) {
        let view = self.read();
        let from = view.fork_of(locator) as usize + 1;
        let mut last = view.tip();
        let mut headers = Vec::new();
        for &id in view.active.iter().skip(from).take(max) {
            headers.push(view.index.header(id));
            last = id;
            if view.index.node(id).hash == *stop {
                break;
            }
        }
        (headers, view.index.entry(last))
    }

    /// Up to `max` hashes of the active chain after the last block that a locator names, before `stop` (`getblocks`).
    pub fn hashes_after(&self, locator: &[BlockHash], stop: &BlockHash, max: usize) -> Vec<BlockHash> {
        let view = self.read();
        let from = view.fork_of(locator) as usize + 1;
        let hashes = view.active.iter().skip(from).map(|&id| view.index.node(id).hash);
        hashes.take_while(|hash| hash != stop).take(max).collect()
    }

    /// The last block that two known blocks have in common.
    pub fn fork(&self, a: &BlockHash, b: &BlockHash) -> Option<BlockEntry> {
        let view = self.read();
        let (a, b) = (view.index.id(a)?, view.index.id(b)?);
        Some(view.index.entry(view.index.fork(a, b)))
    }

    /// Up to `max` blocks of the branch that ends in `tip`, beginning at height `from`, lowest first. Nothing for an unknown tip.
    pub fn branch(&self, tip: &BlockHash, from: u32, max: u32) -> Vec<BranchBlock> {
        let view = self.read();
        let index = &view.index;
        let Some(tip) = index.id(tip) else { return Vec::new() };
        let last = index.node(tip).height.min(from.saturating_add(max).saturating_sub(1));
        let Some(mut at) = index.ancestor(tip, last).filter(|_| last >= from) else { return Vec::new() };
        let mut blocks = Vec::with_capacity((last - from + 1) as usize);
        loop {
            let node = index.node(at);
            blocks.push(BranchBlock {
                hash: node.hash,
                height: node.height,
                here: node.has(status::HAVE_DATA) || view.is_active(at),
                has_data: node.has(status::HAVE_DATA),
                linked: node.chain_tx_count > 0,
                failed: node.has(status::FAILED),
            });
            match index.parent(at) {
                Some(parent) if node.height > from => at = parent,
                _ => break,
            }
        }
        blocks.reverse();
        blocks
    }

    /// Whether a known block is an ancestor of (or is) another one.
    pub fn is_ancestor(&self, ancestor: &BlockHash, of: &BlockHash) -> bool {
        let view = self.read();
        let (Some(ancestor), Some(of)) = (view.index.id(ancestor), view.index.id(of)) else { return false };
        view.index.ancestor(of, view.index.node(ancestor).height) == Some(ancestor)
    }

    /// Checks a header that is not known yet in its place, and keeps nothing of it; `now` is seconds since 1970. `None` if the
    /// header before it is not known.
    ///
    /// # Errors
    /// The rule that it breaks, as [`Chain::process_headers`] would tell it.
    pub fn place_header(&self, header: &Header, now: u32) -> Result<Option<HeaderPlace>, BlockReject> {
        let view = self.read();
        let index = &view.index;
        let Some(parent) = index.id(&header.prev_blockhash) else { return Ok(None) };
        check_header(header, &self.params)?;
        if index.node(parent).has(status::FAILED) {
            return Err(crate::accept::bad_prevblk(header));
        }
        rules::check_header_in_place(header, &self.params, index, parent, now)?;
        let before = index.entry(parent);
        Ok(Some(HeaderPlace { height: before.height + 1, chain_work: before.chain_work + header.work() }))
    }

    /// A block's bytes as they are on disk, with its witnesses; `None` if it is not here. Only the header is looked at.
    pub fn block_bytes(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, ChainError> {
        let (id, at) = {
            let view = self.read();
            let Some(id) = view.index.id(hash) else { return Ok(None) };
            (id, view.index.node(id).data())
        };
        let Some(at) = at else { return Ok(None) };
        let bytes = match self.files.read(Kind::Block, at) {
            // It was pruned since its place was looked up.
            Err(_) if self.read().index.node(id).data() != Some(at) => return Ok(None),
            read => read?,
        };
        match bytes.get(..Header::SIZE).map(bitcoin::hashes::sha256d::Hash::hash) {
            Some(found) if BlockHash::from_raw_hash(found) == *hash => Ok(Some(bytes)),
            _ => Err(damaged(&self.files.path(Kind::Block, at.file), at.pos)),
        }
    }
}
