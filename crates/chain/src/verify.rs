//! Core's `CVerifyDB`: whether files, index and coins are what they were when they were written.

use crate::chain::Chain;
use crate::error::ChainError;
use crate::index::Id;
use crate::scripts::Scripts;
use bitcoin::{Block, OutPoint, Txid};
use cairn_consensus::block::{Checks, check_block};
use cairn_consensus::coins::{BlockUndo, Coin, CoinView};
use cairn_consensus::connect::{ConnectError, is_bip30_unspendable, is_unspendable};
use std::collections::HashMap;
use std::sync::Arc;

/// Core's `DEFAULT_CHECKLEVEL`.
pub const DEFAULT_CHECK_LEVEL: u8 = 3;
/// Core's `DEFAULT_CHECKBLOCKS`.
pub const DEFAULT_CHECK_BLOCKS: u32 = 6;
/// Memory of one coin that was looked at besides its script, bytes.
const COIN_BYTES: usize = 112;

/// The coins as they would be after blocks that are taken away and put back in memory alone.
struct Overlay<'a> {
    chain: &'a Chain,
    coins: HashMap<OutPoint, Option<Coin>>,
    bytes: usize,
}

impl CoinView for Overlay<'_> {
    type Error = ChainError;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        match self.coins.get(outpoint) {
            Some(known) => Ok(known.clone()),
            None => self.chain.coin(outpoint),
        }
    }
}

impl Overlay<'_> {
    fn set(&mut self, outpoint: OutPoint, coin: Option<Coin>) {
        self.bytes += COIN_BYTES + coin.as_ref().map_or(0, |coin| coin.output.script_pubkey.len());
        self.coins.insert(outpoint, coin);
    }

    /// Core's `DisconnectBlock`; whether the coins were those that the block leaves behind. `undo` fits the block.
    fn disconnect(&mut self, block: &Block, txids: &[Txid], undo: BlockUndo, height: u32) -> Result<bool, ChainError> {
        let mut clean = true;
        let mut spent = undo.0;
        let excepted = is_bip30_unspendable(height, &block.block_hash());
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate().rev() {
            let coinbase = n == 0;
            for (vout, output) in (0..).zip(&tx.output).filter(|(_, output)| !is_unspendable(&output.script_pubkey)) {
                let outpoint = OutPoint { txid, vout };
                let expected = Coin { output: output.clone(), height, coinbase };
                clean &= self.coin(&outpoint)? == Some(expected) || (coinbase && excepted);
                self.set(outpoint, None);
            }
            if !coinbase {
                let coins = spent.pop().unwrap_or_default().0;
                for (input, coin) in tx.input.iter().zip(coins).rev() {
                    clean &= self.coin(&input.previous_output)?.is_none();
                    self.set(input.previous_output, Some(coin));
                }
            }
        }
        Ok(clean)
    }

    /// Does what a block does.
    fn connect(&mut self, block: &Block, txids: &[Txid], height: u32) {
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate() {
            let coinbase = n == 0;
            for input in tx.input.iter().filter(|_| !coinbase) {
                self.set(input.previous_output, None);
            }
            for (vout, output) in (0..).zip(&tx.output).filter(|(_, output)| !is_unspendable(&output.script_pubkey)) {
                self.set(OutPoint { txid, vout }, Some(Coin { output: output.clone(), height, coinbase }));
            }
        }
    }
}

impl Chain {
    /// Checks the last `blocks` blocks (0 is all) as thoroughly as `level` says: 0 reads them, 1 checks each by itself, 2
    /// reads their undo data, 3 takes them away from the coins in memory, 4 puts them back with every rule and script.
    ///
    /// False if not all that was asked for could be checked: blocks are pruned, or the coins would need more memory than
    /// their cache may have. Nothing changes; the chain does not move meanwhile.
    ///
    /// # Errors
    /// What is damaged, or could not be read.
    pub fn verify(&self, level: u8, blocks: u32) -> Result<bool, ChainError> {
        let writer = self.writer()?;
        let active: Vec<Id> = self.read().active.clone();
        let tip = active.len() as u32 - 1;
        let depth = if blocks == 0 { tip } else { blocks.min(tip) };
        let damaged = |height: u32, what: String| ChainError::Corrupt { what: format!("block {height} ({what})") };
        let mut overlay = Overlay { chain: self, coins: HashMap::new(), bytes: 0 };
        let (mut whole, mut too_large) = (true, false);
        let mut lowest = tip + 1;
        for height in (tip - depth + 1..=tip).rev() {
            let id = active[height as usize];
            let node = self.read().index.node(id).clone();
            if node.data().is_none() {
                if !node.is_pruned() && self.read().index.snapshot.is_none() {
                    return Err(damaged(height, "its data is gone".to_owned()));
                }
                tracing::info!(height, "verification ends where blocks are pruned");
                whole = false;
                break;
            }
            let (block, txids) = self.stored_block(id)?;
            if level >= 1 {
                let checked = check_block(&block, &txids, &self.params, Checks::ALL);
                checked.map_err(|refused| damaged(height, refused.to_string()))?;
            }
            if level >= 2 {
                let undo = self.undo_of(id, &block)?;
                too_large |= overlay.bytes + self.read().coins.bytes() > self.coin_cache_bytes;
                if level >= 3 && !too_large && !overlay.disconnect(&block, &txids, undo, height)? {
                    return Err(damaged(height, "the coins are not those that it leaves".to_owned()));
                }
            }
            lowest = height;
        }
        if too_large {
            tracing::warn!("not all coins were verified: that needs a larger cache (chain.coin_cache_mib)");
            return Ok(false);
        }
        if level >= 4 {
            for height in lowest..=tip {
                self.reconnect(&mut overlay, &active, height).map_err(|error| match error {
                    ConnectError::Rejected(refused) => damaged(height, refused.to_string()),
                    ConnectError::View(error) => error,
                })?;
            }
        }
        drop(writer);
        Ok(whole)
    }

    fn reconnect(&self, overlay: &mut Overlay<'_>, active: &[Id], height: u32) -> Result<(), ConnectError<ChainError>> {
        let (block, txids): (Arc<Block>, _) = self.stored_block(active[height as usize]).map_err(ConnectError::View)?;
        self.connect_at(&block, &txids, height, overlay, Scripts::Check)?;
        overlay.connect(&block, &txids, height);
        Ok(())
    }
}
