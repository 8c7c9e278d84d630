//! Coins: reading them, spending them, giving them back.

use super::{NewCoin, Payment, ScriptRow, UNCONFIRMED, satoshi};
use crate::{
    Store, StoreError, Transaction,
    value::{Row, args},
};

/// A coin of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// The transaction that made it.
    pub txid: [u8; 32],
    /// Its output.
    pub vout: u32,
    /// 0 external, 1 internal.
    pub keychain: u32,
    /// Derivation index.
    pub index: u32,
    /// Satoshi.
    pub amount: u64,
    /// Whether it is a block's reward.
    pub coinbase: bool,
    /// Height, or [`UNCONFIRMED`].
    pub height: u32,
    /// The pending or confirmed transaction that spends it.
    pub spender: Option<[u8; 32]>,
}

/// Unspent coins by kind, in satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Spendable.
    pub confirmed: u64,
    /// Coinbase that is too young.
    pub immature: u64,
    /// Unconfirmed, from ourselves.
    pub trusted_pending: u64,
    /// Unconfirmed, from others.
    pub untrusted_pending: u64,
}

fn coin(row: &Row) -> Result<Coin, StoreError> {
    Ok(Coin {
        txid: row.get_array(0)?,
        vout: row.get_uint(1)?,
        keychain: row.get_uint(2)?,
        index: row.get_uint(3)?,
        amount: row.get_uint(4)?,
        coinbase: row.get::<i64>(5)? != 0,
        height: row.get_uint(6)?,
        spender: row.get::<Option<Vec<u8>>>(7)?.and_then(|txid| txid.try_into().ok()),
    })
}

impl Store {
    /// Sums of unspent coins. Coinbase coins of heights above `mature_height` are immature.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_balance(&self, wallet: &str, mature_height: i64) -> Result<Balance, StoreError> {
        // Sums of BIGINT are NUMERIC on PostgreSQL.
        let sql = "SELECT CASE WHEN height = 4294967295 THEN 2 + trusted \
                WHEN coinbase = 1 AND height > $2 THEN 1 ELSE 0 END AS kind, CAST(SUM(amount) AS BIGINT) \
            FROM wallet_coins WHERE wallet = $1 AND spender IS NULL GROUP BY 1";
        let mut balance = Balance::default();
        for row in self.fetch_all(sql, args![wallet, mature_height]).await? {
            // The expression is INTEGER on SQLite and BIGINT on PostgreSQL, as the columns are.
            let amount = row.get_uint(1)?;
            match row.get::<i64>(0)? {
                0 => balance.confirmed = amount,
                1 => balance.immature = amount,
                2 => balance.untrusted_pending = amount,
                _ => balance.trusted_pending = amount,
            }
        }
        Ok(balance)
    }

    /// Confirmed, mature, unspent coins, largest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_spendable(
        &self,
        wallet: &str,
        mature_height: i64,
        limit: u32,
    ) -> Result<Vec<Coin>, StoreError> {
        // The sum keeps SQLite from the index by height: the one by amount gives the largest without sorting all coins.
        let sql = "SELECT txid, vout, keychain, position, amount, coinbase, height, spender FROM wallet_coins \
            WHERE wallet = $1 AND spender IS NULL AND height + 0 < 4294967295 AND (coinbase = 0 OR height <= $2) \
            ORDER BY amount DESC LIMIT $3";
        self.fetch_all(sql, args![wallet, mature_height, limit]).await?.iter().map(coin).collect()
    }

    /// Height of the oldest coinbase coin above `mature_height`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_oldest_immature(&self, wallet: &str, mature_height: i64) -> Result<Option<u32>, StoreError> {
        let sql = "SELECT height FROM wallet_coins \
            WHERE wallet = $1 AND coinbase = 1 AND height > $2 AND height < 4294967295 ORDER BY height LIMIT 1";
        self.fetch_optional(sql, args![wallet, mature_height]).await?.map(|row| row.get_uint(0)).transpose()
    }

    /// One coin.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_coin(&self, wallet: &str, txid: &[u8; 32], vout: u32) -> Result<Option<Coin>, StoreError> {
        let row = self.fetch_optional(COIN, args![wallet, &txid[..], vout]).await?;
        row.as_ref().map(coin).transpose()
    }

    /// The coins whose spending a block may still bring: (txid, vout).
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_watched(&self, wallet: &str) -> Result<Vec<([u8; 32], u32)>, StoreError> {
        // In pages: the rows of all coins together would take many times the memory of the outpoints.
        const PAGE: u32 = 2_000;
        let sql = "SELECT txid, vout FROM wallet_coins WHERE wallet = $1 AND (txid, vout) > ($2, $3) \
            AND spent_height + 0 = 4294967295 ORDER BY txid, vout LIMIT $4";
        let mut outpoints: Vec<([u8; 32], u32)> = Vec::new();
        loop {
            let (txid, vout) =
                outpoints.last().map_or((Vec::new(), -1), |(txid, vout)| (txid.to_vec(), i64::from(*vout)));
            let rows = self.fetch_all(sql, args![wallet, txid, vout, PAGE]).await?;
            for row in &rows {
                outpoints.push((row.get_array(0)?, row.get_uint(1)?));
            }
            if rows.len() < PAGE as usize {
                return Ok(outpoints);
            }
        }
    }
}

const COIN: &str = "SELECT txid, vout, keychain, position, amount, coinbase, height, spender FROM wallet_coins \
    WHERE wallet = $1 AND txid = $2 AND vout = $3";

impl Transaction {
    /// Records a payment that was built ([`Payment::encode`]): its coins are spent from here on. Recording it again changes
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another payment took one of its coins meanwhile: undo this transaction and build again.
    pub async fn append_wallet_changes(&mut self, wallet: &str, changes: &[u8]) -> Result<(), StoreError> {
        let payment = Payment::decode(changes)?;
        if self.lock_wallet(wallet).await?.is_none() {
            return Err(StoreError::Conflict(format!("there is no wallet {wallet:?}")));
        }
        if let Some(known) = self.wallet_transaction(wallet, &payment.txid).await?
            && (known.state == "pending" || known.state == "confirmed")
        {
            return Ok(());
        }
        if let Some(replaced) = &payment.replaces {
            let old = self.wallet_transaction(wallet, replaced).await?;
            if old.is_some_and(|old| old.state == "confirmed") {
                return Err(StoreError::Conflict("the transaction to replace is confirmed".into()));
            }
            self.end_wallet_transaction(wallet, *replaced, "replaced").await?;
        }
        let mut sent = 0;
        for (txid, vout) in &payment.spends {
            let coin = self.wallet_coin(wallet, txid, *vout).await?;
            match coin {
                Some(coin) if coin.spender.is_none() => sent += coin.amount,
                Some(_) => return Err(StoreError::Conflict("another payment spends the same coin".into())),
                None => return Err(StoreError::Conflict("a coin of the payment is gone from the chain".into())),
            }
            self.spend_wallet_coin(wallet, txid, *vout, &payment.txid, UNCONFIRMED).await?;
        }
        if let Some((index, script)) = &payment.change {
            let script = ScriptRow { keychain: 1, index: *index, script: script.clone() };
            self.reveal_wallet_scripts(wallet, &[script]).await?;
        }
        let received = payment.coins.iter().map(|coin| coin.amount).sum();
        self.put_wallet_transaction(
            wallet,
            &payment.txid,
            Some(&payment.raw),
            ("pending", false, UNCONFIRMED, payment.time),
            (received, sent, Some(payment.fee)),
        )
        .await?;
        for coin in &payment.coins {
            self.put_wallet_coin(wallet, &payment.txid, coin, false, true, UNCONFIRMED).await?;
        }
        Ok(())
    }

    /// Gives up a pending transaction: its coins can be spent again, and what was built on its outputs ends with it.
    /// Whether there was something to give up. Should it confirm after all, the next synchronisation sees it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is confirmed.
    pub async fn abandon_wallet_transaction(&mut self, wallet: &str, txid: &[u8; 32]) -> Result<bool, StoreError> {
        self.lock_wallet(wallet).await?;
        match self.wallet_transaction(wallet, txid).await? {
            Some(row) if row.state == "confirmed" => {
                Err(StoreError::Conflict("a confirmed transaction cannot be abandoned".into()))
            }
            Some(row) if row.state == "pending" => {
                self.end_wallet_transaction(wallet, *txid, "abandoned").await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(super) async fn wallet_coin(
        &mut self,
        wallet: &str,
        txid: &[u8; 32],
        vout: u32,
    ) -> Result<Option<Coin>, StoreError> {
        self.fetch_optional(COIN, args![wallet, &txid[..], vout]).await?.as_ref().map(coin).transpose()
    }

    /// Ends a transaction and all that spend its outputs: the coins that they spent are free, those that they made are gone.
    pub(super) async fn end_wallet_transaction(
        &mut self,
        wallet: &str,
        txid: [u8; 32],
        state: &'static str,
    ) -> Result<(), StoreError> {
        let mut ending = vec![(txid, state)];
        while let Some((txid, state)) = ending.pop() {
            let sql =
                "SELECT DISTINCT spender FROM wallet_coins WHERE wallet = $1 AND txid = $2 AND spender IS NOT NULL";
            for row in self.fetch_all(sql, args![wallet, &txid[..]]).await? {
                ending.push((row.get_array(0)?, "conflicted"));
            }
            let sql = "DELETE FROM wallet_coins WHERE wallet = $1 AND txid = $2";
            self.execute(sql, args![wallet, &txid[..]]).await?;
            let sql = "UPDATE wallet_coins SET spender = NULL, spent_height = 4294967295 \
                WHERE wallet = $1 AND spender = $2";
            self.execute(sql, args![wallet, &txid[..]]).await?;
            let sql = "UPDATE wallet_transactions SET state = $3, height = 4294967295 WHERE wallet = $1 AND txid = $2";
            self.execute(sql, args![wallet, &txid[..], state]).await?;
        }
        Ok(())
    }

    pub(super) async fn spend_wallet_coin(
        &mut self,
        wallet: &str,
        txid: &[u8; 32],
        vout: u32,
        spender: &[u8; 32],
        height: u32,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE wallet_coins SET spender = $4, spent_height = $5 \
            WHERE wallet = $1 AND txid = $2 AND vout = $3";
        self.execute(sql, args![wallet, &txid[..], vout, &spender[..], height]).await?;
        Ok(())
    }

    /// Inserts a transaction, or updates its state, height, time and amounts.
    pub(super) async fn put_wallet_transaction(
        &mut self,
        wallet: &str,
        txid: &[u8; 32],
        raw: Option<&[u8]>,
        (state, coinbase, height, time): (&str, bool, u32, u32),
        (received, sent, fee): (u64, u64, Option<u64>),
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO wallet_transactions \
                (wallet, txid, raw, state, coinbase, height, time, received, sent, fee) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
            ON CONFLICT (wallet, txid) DO UPDATE SET state = excluded.state, height = excluded.height, \
                time = excluded.time, received = excluded.received, sent = excluded.sent, fee = excluded.fee";
        let args = args![
            wallet,
            &txid[..],
            raw.map(<[u8]>::to_vec),
            state,
            i64::from(coinbase),
            height,
            time,
            satoshi(received),
            satoshi(sent),
            fee.map(satoshi),
        ];
        self.execute(sql, args).await?;
        Ok(())
    }

    /// Inserts a coin, or updates its height.
    pub(super) async fn put_wallet_coin(
        &mut self,
        wallet: &str,
        txid: &[u8; 32],
        coin: &NewCoin,
        coinbase: bool,
        trusted: bool,
        height: u32,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO wallet_coins (wallet, txid, vout, keychain, position, amount, coinbase, trusted, height, \
                spender, spent_height) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, 4294967295) \
            ON CONFLICT (wallet, txid, vout) DO UPDATE SET height = excluded.height";
        let args = args![
            wallet,
            &txid[..],
            coin.vout,
            coin.keychain,
            coin.index,
            satoshi(coin.amount),
            i64::from(coinbase),
            i64::from(trusted),
            height,
        ];
        self.execute(sql, args).await?;
        Ok(())
    }
}
