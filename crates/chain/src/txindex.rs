//! The transaction index, which a chain may have (Core's `-txindex`): where each transaction of the active chain lies.
//!
//! It is written with the coins, in the same batches. Opening a chain that has none, and is to have one, makes it from the
//! blocks that are here; it appears whole or not at all. Opening a chain that is to have none forgets it.

use crate::Progress;
use crate::chain::Chain;
use crate::coins::tx_positions;
use crate::error::ChainError;
use crate::index::{Id, status};
use crate::writer::Writer;

/// Rows written at a time.
const ROWS_A_BATCH: usize = 200_000;

impl Chain {
    /// Whether [`Chain::transaction`] knows of transactions.
    pub fn has_transaction_index(&self) -> bool {
        self.txindex
    }

    /// Brings the index to what was asked for. The coins are as the database has them.
    pub(crate) fn settle_transaction_index(&self, writer: &Writer) -> Result<(), ChainError> {
        if self.txindex && self.db.has_transactions()? {
            return Ok(());
        }
        self.db.forget_transactions()?;
        if self.txindex { self.index_transactions(writer) } else { Ok(()) }
    }

    fn index_transactions(&self, writer: &Writer) -> Result<(), ChainError> {
        let blocks = self.blocks_to_index(writer);
        let of = blocks.len();
        if of > 0 {
            tracing::info!(blocks = of, "making the transaction index");
        }
        let mut rows = Vec::new();
        for (n, id) in (1..).zip(blocks) {
            match self.stored_block(id) {
                Ok((block, txids)) => rows.extend(tx_positions(&block, &txids, id)),
                // It cannot be served either; whoever needs it is told of the damage.
                Err(error @ ChainError::Corrupt { .. }) => tracing::error!(%error, "left out of the transaction index"),
                Err(error) => return Err(error),
            }
            if rows.len() >= ROWS_A_BATCH {
                self.db.add_transactions(std::mem::take(&mut rows))?;
            }
            writer.show(Progress::Indexing { done: n, of: of as u32 });
        }
        if !rows.is_empty() {
            self.db.add_transactions(rows)?;
        }
        self.db.finish_transactions()
    }

    /// The active chain's blocks whose data is here, but the genesis block; below a snapshot those that are validated.
    fn blocks_to_index(&self, writer: &Writer) -> Vec<Id> {
        let view = self.read();
        let below = writer.background.as_ref().map(|below| view.index.node(below.tip).height);
        let base = view.index.snapshot.map(|(base, _)| view.index.node(base).height);
        let wanted = |id: &Id| {
            let node = view.index.node(*id);
            let connected =
                base.is_none_or(|base| node.height > base) || below.is_some_and(|below| node.height <= below);
            node.has(status::HAVE_DATA) && connected
        };
        view.active.iter().skip(1).copied().filter(wanted).collect()
    }
}
