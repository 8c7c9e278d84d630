//! The chain as the wallet and the stamper read it.

use crate::Node;
use bitcoin::{Block, BlockHash, Transaction, Txid};
use cairn_consensus::error::TxRejectKind;
use cairn_wallet::{ChainSource, SendError, SourceError};
use std::sync::Arc;

impl ChainSource for Node {
    fn tip(&self) -> Result<(u32, BlockHash), SourceError> {
        let tip = self.chain.tip();
        Ok((tip.height, tip.hash))
    }

    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError> {
        Ok(self.chain.entry_at(height).map(|entry| entry.hash))
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError> {
        self.chain.block(hash).map_err(|error| SourceError(error.to_string()))
    }

    fn send(&self, tx: &Transaction) -> Result<(), SendError> {
        match self.submit_transaction(tx.clone()) {
            Ok(_) => Ok(()),
            Err(reject) if reject.reason == "txn-already-in-mempool" => Ok(()),
            Err(reject) if reject.reason == "txn-already-known" => Err(SendError::AlreadyConfirmed),
            // Core says "missing inputs" of a confirmed transaction whose outputs are all spent or unspendable.
            Err(reject) if reject.kind == TxRejectKind::MissingInputs => {
                match self.chain.transaction(&tx.compute_txid()) {
                    Ok(Some(_)) => Err(SendError::AlreadyConfirmed),
                    Ok(None) => Err(SendError::Rejected(reject.to_string())),
                    Err(error) => Err(SendError::Source(SourceError(error.to_string()))),
                }
            }
            Err(reject) => Err(SendError::Rejected(reject.to_string())),
        }
    }

    fn in_mempool(&self, txid: &Txid) -> Result<bool, SourceError> {
        Ok(self.mempool.get(txid).is_some())
    }

    fn min_fee_rate(&self) -> Result<u64, SourceError> {
        Ok(self.mempool.info().min_fee_rate)
    }
}
