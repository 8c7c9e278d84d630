//! Taking in blocks that the files hold and the index does not know: after a kill those at the end, without an index all.
//!
//! As Core's `-reindex`: blocks may lie in any order and between foreign bytes. What is no block is logged with its
//! file and offset, and stays where it is.

use crate::Progress;
use crate::append::Ends;
use crate::chain::Chain;
use crate::error::ChainError;
use crate::files::{FilePos, Kind};
use crate::index::status;
use crate::scan::Scan;
use crate::writer::Writer;
use bitcoin::consensus::deserialize;
use bitcoin::{Block, BlockHash};
use cairn_consensus::block::{Checks, WitnessRoot, check_block, txids};
use cairn_consensus::error::BlockRejectKind;
use std::collections::HashMap;

/// Blocks whose parent has not been seen yet, by that parent.
type Waiting = HashMap<BlockHash, Vec<FilePos>>;

impl Chain {
    /// Takes in what the files hold beyond the ends that the index knows. Returns how many blocks that were.
    pub(crate) fn import(&self, writer: &mut Writer) -> Result<u32, ChainError> {
        let Some(last) = self.files.last(Kind::Block)? else { return Ok(0) };
        let first = writer.appender.ends.len().saturating_sub(1) as u32;
        let mut waiting = Waiting::new();
        let mut found = 0;
        let mut scanned = 0;
        let total = self.files.bytes(first..=last)?;
        for number in first..=last {
            let ends = &mut writer.appender.ends;
            if ends.len() <= number as usize {
                ends.push(Ends::default());
            }
            let start = ends[number as usize].block;
            let Some(mut scan) = Scan::begin(&self.files, number, start)? else {
                tracing::warn!(file = %self.files.path(Kind::Block, number).display(), "the file is missing");
                continue;
            };
            while let Some((at, block)) = scan.next(|bytes| self.read_stored(bytes))? {
                writer.appender.adopt(number);
                writer.unindexed_bytes += u64::from(scan.end() - at.pos);
                found += self.import_block(writer, block, at, &mut waiting)?;
                writer.show(Progress::Reading { done: scanned + u64::from(scan.end()), total });
            }
            scanned += scan.length();
            // The last file is written on from its last block; what others end with is nobody's business.
            let end = if number == last { scan.end() } else { u32::try_from(scan.length()).unwrap_or(u32::MAX) };
            writer.appender.ends[number as usize].block = end;
        }
        for (parent, at) in waiting.iter().flat_map(|(parent, places)| places.iter().map(move |at| (parent, at))) {
            let file = self.files.path(Kind::Block, at.file);
            tracing::warn!(file = %file.display(), at = at.pos, %parent, "a block was left out whose parent is not here");
        }
        Ok(found)
    }

    /// A block that could have been accepted, as far as its bytes alone tell.
    fn read_stored(&self, bytes: &[u8]) -> Result<Block, String> {
        let block: Block = deserialize(bytes).map_err(|error| error.to_string())?;
        check_block(&block, &txids(&block), &self.params, Checks::ALL).map_err(|refused| refused.to_string())?;
        Ok(block)
    }

    /// Takes in a block, and those that waited for it. Returns how many.
    fn import_block(
        &self,
        writer: &mut Writer,
        block: Block,
        at: FilePos,
        waiting: &mut Waiting,
    ) -> Result<u32, ChainError> {
        let mut found = 0;
        let mut queue = vec![(block, at)];
        while let Some((block, at)) = queue.pop() {
            match self.readmit(writer, &block, at) {
                Ok(is_new) => found += u32::from(is_new),
                Err(ChainError::Rejected(refused)) if refused.kind == BlockRejectKind::MissingPrev => {
                    waiting.entry(block.header.prev_blockhash).or_default().push(at);
                    continue;
                }
                Err(ChainError::Rejected(refused)) => {
                    let file = self.files.path(Kind::Block, at.file);
                    tracing::warn!(file = %file.display(), at = at.pos, %refused, "skipped a block that is invalid");
                    continue;
                }
                Err(error) => return Err(error),
            }
            for at in waiting.remove(&block.block_hash()).unwrap_or_default() {
                if let Ok(child) = self.read_stored(&self.files.read(Kind::Block, at)?) {
                    queue.push((child, at));
                }
            }
        }
        Ok(found)
    }

    /// Accepts a block that lies at `at`, as when it first came; whether its data was missing.
    fn readmit(&self, writer: &mut Writer, block: &Block, at: FilePos) -> Result<bool, ChainError> {
        // It was not from the future when it came.
        let id = self.accept_header(writer, &block.header, block.header.time)?;
        if self.read().index.node(id).has(status::HAVE_DATA) {
            return Ok(false);
        }
        if id != 0 {
            self.check_place(writer, id, block, WitnessRoot::of(block))?;
        }
        self.receive_transactions(writer, id, block, at);
        Ok(true)
    }
}
