//! Following the chain: blocks applied and undone, each batch in one transaction that also moves the checkpoint.

use super::{NewCoin, ScriptRow, UNCONFIRMED};
use crate::{Store, StoreError, Transaction, value::args};

/// Every block this far below the tip is a checkpoint; below, every one whose height is a multiple of it.
pub(super) const CHECKPOINT_EVERY: u32 = 64;

/// A transaction in a block that may spend coins of ours, or makes some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTransaction {
    /// Its id.
    pub txid: [u8; 32],
    /// Serialised; `None` for coinbase transactions.
    pub raw: Option<Vec<u8>>,
    /// Height of its block.
    pub height: u32,
    /// Time of its block, seconds since 1970.
    pub time: u32,
    /// Whether it is the block's reward.
    pub coinbase: bool,
    /// Inputs that may be ours: (txid, vout). Those that are not are ignored.
    pub spends: Vec<([u8; 32], u32)>,
    /// All inputs.
    pub inputs: usize,
    /// Satoshi of all outputs.
    pub output_value: u64,
    /// Outputs of ours.
    pub coins: Vec<NewCoin>,
}

/// Blocks of the active chain, from the checkpoint on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// (height, hash) of the checkpoint that it starts from.
    pub from: (u32, [u8; 32]),
    /// (height, hash) of the last block.
    pub to: (u32, [u8; 32]),
    /// Blocks to remember for finding fork points, `to` among them.
    pub checkpoints: Vec<(u32, [u8; 32])>,
    /// Transactions of interest, in the chain's order.
    pub found: Vec<FoundTransaction>,
    /// Scripts that turned out to be in use.
    pub scripts: Vec<ScriptRow>,
}

impl Advance {
    /// Whether a block has to be among the checkpoints of a batch, if the chain's tip is at `tip_height`.
    #[must_use]
    pub fn is_checkpoint(height: u32, tip_height: u32) -> bool {
        height.is_multiple_of(CHECKPOINT_EVERY) || height.saturating_add(CHECKPOINT_EVERY) > tip_height
    }
}

impl Store {
    /// The checkpoints, highest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_checkpoints(&self, wallet: &str) -> Result<Vec<(u32, [u8; 32])>, StoreError> {
        let sql = "SELECT height, hash FROM wallet_checkpoints WHERE wallet = $1 ORDER BY height DESC";
        let rows = self.fetch_all(sql, args![wallet]).await?;
        rows.iter().map(|row| Ok((row.get_uint(0)?, row.get_array(1)?))).collect()
    }
}

impl Transaction {
    /// Applies blocks: whether the checkpoint still was where they start from. Nothing changes if not.
    ///
    /// # Errors
    /// The database failed.
    pub async fn advance_wallet(&mut self, wallet: &str, advance: &Advance) -> Result<bool, StoreError> {
        if !self.move_wallet_tip(wallet, advance.from, advance.to).await? {
            return Ok(false);
        }
        self.reveal_wallet_scripts(wallet, &advance.scripts).await?;
        for found in &advance.found {
            self.apply_found(wallet, found).await?;
        }
        for (height, hash) in &advance.checkpoints {
            self.add_wallet_checkpoint(wallet, *height, hash).await?;
        }
        // Those that were near the old tip and no longer are near the new one.
        let sql = "DELETE FROM wallet_checkpoints \
            WHERE wallet = $1 AND height >= $2 AND height <= $3 AND height % 64 <> 0";
        let oldest = i64::from(advance.from.0) - 2 * i64::from(CHECKPOINT_EVERY);
        let newest = i64::from(advance.to.0) - i64::from(CHECKPOINT_EVERY);
        self.execute(sql, args![wallet, oldest, newest]).await?;
        Ok(true)
    }

    /// Undoes the blocks above the checkpoint `to`: whether the checkpoint still was `from`. Rewards of undone blocks are
    /// gone, other transactions are pending again.
    ///
    /// # Errors
    /// The database failed.
    pub async fn rewind_wallet(
        &mut self,
        wallet: &str,
        from: (u32, [u8; 32]),
        to: (u32, [u8; 32]),
    ) -> Result<bool, StoreError> {
        if !self.move_wallet_tip(wallet, from, to).await? {
            return Ok(false);
        }
        let sql = "SELECT txid FROM wallet_transactions \
            WHERE wallet = $1 AND height > $2 AND height < 4294967295 AND coinbase = 1";
        for row in self.fetch_all(sql, args![wallet, to.0]).await? {
            self.end_wallet_transaction(wallet, row.get_array(0)?, "orphaned").await?;
        }
        for sql in [
            "UPDATE wallet_transactions SET height = 4294967295, state = 'pending' \
                WHERE wallet = $1 AND height > $2 AND height < 4294967295",
            "UPDATE wallet_coins SET height = 4294967295 WHERE wallet = $1 AND height > $2 AND height < 4294967295",
            "UPDATE wallet_coins SET spent_height = 4294967295 \
                WHERE wallet = $1 AND spent_height > $2 AND spent_height < 4294967295",
            "DELETE FROM wallet_checkpoints WHERE wallet = $1 AND height > $2",
        ] {
            self.execute(sql, args![wallet, to.0]).await?;
        }
        Ok(true)
    }

    async fn move_wallet_tip(
        &mut self,
        wallet: &str,
        from: (u32, [u8; 32]),
        to: (u32, [u8; 32]),
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE wallets SET tip_height = $4, tip_hash = $5 \
            WHERE name = $1 AND tip_height = $2 AND tip_hash = $3";
        Ok(self.execute(sql, args![wallet, from.0, &from.1[..], to.0, &to.1[..]]).await? == 1)
    }

    pub(super) async fn add_wallet_checkpoint(
        &mut self,
        wallet: &str,
        height: u32,
        hash: &[u8; 32],
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO wallet_checkpoints (wallet, height, hash) VALUES ($1, $2, $3) \
            ON CONFLICT (wallet, height) DO UPDATE SET hash = excluded.hash";
        self.execute(sql, args![wallet, height, &hash[..]]).await?;
        Ok(())
    }

    async fn apply_found(&mut self, wallet: &str, found: &FoundTransaction) -> Result<(), StoreError> {
        let mut sent = 0;
        let mut ours = 0;
        for (txid, vout) in &found.spends {
            let Some(coin) = self.wallet_coin(wallet, txid, *vout).await? else { continue };
            sent += coin.amount;
            ours += 1;
            if let Some(spender) = coin.spender.filter(|spender| *spender != found.txid) {
                // The chain decides: what else spends this coin cannot confirm any more.
                self.end_wallet_transaction(wallet, spender, "conflicted").await?;
            }
            self.spend_wallet_coin(wallet, txid, *vout, &found.txid, found.height).await?;
        }
        if ours == 0 && found.coins.is_empty() {
            return Ok(());
        }
        debug_assert_ne!(found.height, UNCONFIRMED);
        let fee = (ours == found.inputs && !found.coinbase).then(|| sent.saturating_sub(found.output_value));
        let received = found.coins.iter().map(|coin| coin.amount).sum();
        self.put_wallet_transaction(
            wallet,
            &found.txid,
            found.raw.as_deref(),
            ("confirmed", found.coinbase, found.height, found.time),
            (received, sent, fee),
        )
        .await?;
        for coin in &found.coins {
            self.put_wallet_coin(wallet, &found.txid, coin, found.coinbase, ours > 0, found.height).await?;
        }
        Ok(())
    }
}
