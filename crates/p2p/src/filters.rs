//! Requests for block filters (BIP 157): which are answered (Core's `PrepareBlockFilterRequest`).
//!
//! The answers are the chain's: [`Chain::filters`](cairn_chain::Chain::filters),
//! [`Chain::filter_hashes`](cairn_chain::Chain::filter_hashes) and
//! [`Chain::filter_checkpoints`](cairn_chain::Chain::filter_checkpoints). Where those have none, nothing is answered, and nobody
//! is to blame.

use crate::limits::{MAX_GETCFHEADERS_SIZE, MAX_GETCFILTERS_SIZE};
use bitcoin::BlockHash;
use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};

/// The basic filter, the only type that there is (BIP 158).
pub const BASIC_FILTER_TYPE: u8 = 0;

/// A request for filters, filter headers or checkpoints of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterRequest {
    /// Which filters.
    pub filter_type: u8,
    /// Height of the first block.
    pub start_height: u32,
    /// The last block.
    pub stop_hash: BlockHash,
    /// Blocks that such a request may be of.
    pub(crate) max_blocks: u32,
}

impl From<&GetCFilters> for FilterRequest {
    fn from(request: &GetCFilters) -> Self {
        let &GetCFilters { filter_type, start_height, stop_hash } = request;
        Self { filter_type, start_height, stop_hash, max_blocks: MAX_GETCFILTERS_SIZE }
    }
}

impl From<&GetCFHeaders> for FilterRequest {
    fn from(request: &GetCFHeaders) -> Self {
        let &GetCFHeaders { filter_type, start_height, stop_hash } = request;
        Self { filter_type, start_height, stop_hash, max_blocks: MAX_GETCFHEADERS_SIZE }
    }
}

impl From<&GetCFCheckpt> for FilterRequest {
    fn from(request: &GetCFCheckpt) -> Self {
        let &GetCFCheckpt { filter_type, stop_hash } = request;
        // The answer has a header for each thousand blocks.
        Self { filter_type, start_height: 0, stop_hash, max_blocks: u32::MAX }
    }
}

/// Why a request is not answered. The peer is let go: it asks for what it was told not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterRefusal {
    /// We do not offer such filters.
    #[error("it asked for block filters of type {0}, which are not offered")]
    Unsupported(u8),
    /// The last block is not known, or not one that the peer may have.
    #[error("it asked for block filters up to a block that it may not have")]
    StopHash,
    /// It ends before it begins.
    #[error("it asked for block filters from height {start} to {stop}")]
    Backwards {
        /// Height of the first block.
        start: u32,
        /// Height of the last block.
        stop: u32,
    },
    /// There are more blocks than may be asked for at once.
    #[error("it asked for {blocks} block filters or headers of them, of at most {max}")]
    TooMany {
        /// How many.
        blocks: u32,
        /// How many may be.
        max: u32,
    },
}

impl FilterRequest {
    /// Checks a request. `offered` says that we have told the peer `NODE_COMPACT_FILTERS`; `stop` is the height of the block
    /// `stop_hash` if it is one that the peer may be served.
    ///
    /// # Errors
    /// Why the peer is let go.
    pub fn check(&self, offered: bool, stop: Option<u32>) -> Result<(), FilterRefusal> {
        if !offered || self.filter_type != BASIC_FILTER_TYPE {
            return Err(FilterRefusal::Unsupported(self.filter_type));
        }
        let (start, stop) = (self.start_height, stop.ok_or(FilterRefusal::StopHash)?);
        let after_first = stop.checked_sub(start).ok_or(FilterRefusal::Backwards { start, stop })?;
        if after_first >= self.max_blocks {
            return Err(FilterRefusal::TooMany { blocks: after_first.saturating_add(1), max: self.max_blocks });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn stop_hash() -> BlockHash {
        BlockHash::from_byte_array([7; 32])
    }

    fn filters(filter_type: u8, start_height: u32) -> FilterRequest {
        (&GetCFilters { filter_type, start_height, stop_hash: stop_hash() }).into()
    }

    fn headers(start_height: u32) -> FilterRequest {
        (&GetCFHeaders { filter_type: BASIC_FILTER_TYPE, start_height, stop_hash: stop_hash() }).into()
    }

    fn checkpoints(filter_type: u8) -> FilterRequest {
        (&GetCFCheckpt { filter_type, stop_hash: stop_hash() }).into()
    }

    #[test]
    fn only_what_is_offered_may_be_asked_for() {
        for request in [filters(0, 5), headers(5), checkpoints(0)] {
            assert_eq!(request.stop_hash, stop_hash());
            assert_eq!(request.check(true, Some(5)), Ok(()));
            assert_eq!(request.check(false, Some(5)), Err(FilterRefusal::Unsupported(0)));
            assert_eq!(request.check(true, None), Err(FilterRefusal::StopHash));
        }
        for request in [filters(1, 5), checkpoints(1)] {
            assert_eq!(request.check(true, Some(5)), Err(FilterRefusal::Unsupported(1)));
        }
    }

    #[test]
    fn ranges_end_where_they_begin_or_later() {
        for request in [filters(0, 6), headers(6)] {
            assert_eq!(request.check(true, Some(6)), Ok(()));
            assert_eq!(request.check(true, Some(5)), Err(FilterRefusal::Backwards { start: 6, stop: 5 }));
        }
        let furthest = FilterRefusal::Backwards { start: u32::MAX, stop: 0 };
        assert_eq!(filters(0, u32::MAX).check(true, Some(0)), Err(furthest));
    }

    #[test]
    fn ranges_are_no_longer_than_they_may_be() {
        for (request, max) in [(filters(0, 10), MAX_GETCFILTERS_SIZE), (headers(10), MAX_GETCFHEADERS_SIZE)] {
            assert_eq!(request.check(true, Some(10 + max - 1)), Ok(()));
            let too_many = FilterRefusal::TooMany { blocks: max + 1, max };
            assert_eq!(request.check(true, Some(10 + max)), Err(too_many));
        }
        let all = FilterRefusal::TooMany { blocks: u32::MAX, max: MAX_GETCFILTERS_SIZE };
        assert_eq!(filters(0, 0).check(true, Some(u32::MAX)), Err(all));
        assert_eq!(checkpoints(0).check(true, Some(5_000_000)), Ok(()), "however long the chain is");
    }
}
