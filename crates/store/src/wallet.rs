//! Wallets: their secrets, scripts, checkpoints, transactions and coins.
//!
//! Rows are the wallet's only state: many processes may open one wallet. Whoever changes coins first locks the wallet's
//! row, so that two of them never pay with one coin. What a payment changes travels as bytes ([`Payment::encode`]), so
//! that it is recorded in the database transaction of whoever pays ([`Transaction::append_wallet_changes`]).

mod coins;
mod sync;

use crate::{
    Store, StoreError, Transaction,
    value::{Row, args},
};
pub use coins::{Balance, Coin};
use serde::{Deserialize, Serialize};
pub use sync::{Advance, FoundTransaction};

/// Height of what is in no block of the active chain.
pub const UNCONFIRMED: u32 = u32::MAX;

/// A wallet's row.
#[derive(Clone, PartialEq, Eq)]
pub struct WalletRow {
    /// Unique name.
    pub name: String,
    /// `regtest`, `signet`, `testnet4` or `bitcoin`.
    pub network: String,
    /// `plain` or `age`.
    pub secret_kind: String,
    /// The BIP 39 words, encrypted if the kind says so.
    pub secret: Vec<u8>,
    /// Descriptor of receiving addresses, without private keys.
    pub external_descriptor: String,
    /// Descriptor of change addresses, without private keys.
    pub internal_descriptor: String,
    /// First receiving index that was not given out.
    pub external_next: u32,
    /// First change index that was not given out.
    pub internal_next: u32,
    /// Height of the last block that was applied.
    pub tip_height: u32,
    /// Its hash.
    pub tip_hash: [u8; 32],
}

impl std::fmt::Debug for WalletRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalletRow").field("name", &self.name).field("network", &self.network).finish_non_exhaustive()
    }
}

/// A script that was given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRow {
    /// 0 external, 1 internal.
    pub keychain: u32,
    /// Derivation index.
    pub index: u32,
    /// The script.
    pub script: Vec<u8>,
}

/// A transaction of the wallet's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRow {
    /// Its id, in the order of the hash.
    pub txid: [u8; 32],
    /// Serialised; `None` for coinbase transactions.
    pub raw: Option<Vec<u8>>,
    /// `pending`, `confirmed`, `replaced`, `abandoned`, `conflicted` or `orphaned`.
    pub state: String,
    /// Height, or [`UNCONFIRMED`].
    pub height: u32,
    /// Seconds since 1970.
    pub time: u32,
    /// Satoshi that it pays to us.
    pub received: u64,
    /// Satoshi of ours that it spends.
    pub sent: u64,
    /// Satoshi, where all inputs are ours.
    pub fee: Option<u64>,
    /// Whether it is a block's reward.
    pub coinbase: bool,
}

/// An output of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCoin {
    /// Position in the transaction.
    pub vout: u32,
    /// 0 external, 1 internal.
    pub keychain: u32,
    /// Derivation index.
    pub index: u32,
    /// Satoshi.
    pub amount: u64,
}

/// What a payment that was built changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Its id.
    pub txid: [u8; 32],
    /// Serialised and signed.
    pub raw: Vec<u8>,
    /// Satoshi.
    pub fee: u64,
    /// When it was built, seconds since 1970.
    pub time: u32,
    /// The coins that it spends: (txid, vout).
    pub spends: Vec<([u8; 32], u32)>,
    /// The coins that it makes for us.
    pub coins: Vec<NewCoin>,
    /// The change script that it gave out: (index, script).
    pub change: Option<(u32, Vec<u8>)>,
    /// The transaction that it replaces.
    pub replaces: Option<[u8; 32]>,
}

impl Payment {
    /// As bytes.
    ///
    /// # Errors
    /// None in practice: all fields have a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|error| StoreError::Row(format!("a payment: {error}")))
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are no payment.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Row(format!("a payment: {error}")))
    }
}

const WALLET: &str = "SELECT name, network, secret_kind, secret, external_descriptor, internal_descriptor, \
    external_next, internal_next, tip_height, tip_hash FROM wallets WHERE name = $1";
const INSERT_SCRIPT: &str = "INSERT INTO wallet_scripts (wallet, keychain, position, script) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (wallet, keychain, position) DO NOTHING";
const TRANSACTION_COLUMNS_FROM: &str = "SELECT txid, raw, state, height, time, received, sent, fee, coinbase \
    FROM wallet_transactions WHERE wallet = $1 AND txid = $2";

fn wallet_row(row: &Row) -> Result<WalletRow, StoreError> {
    Ok(WalletRow {
        name: row.get(0)?,
        network: row.get(1)?,
        secret_kind: row.get(2)?,
        secret: row.get(3)?,
        external_descriptor: row.get(4)?,
        internal_descriptor: row.get(5)?,
        external_next: row.get_uint(6)?,
        internal_next: row.get_uint(7)?,
        tip_height: row.get_uint(8)?,
        tip_hash: row.get_array(9)?,
    })
}

fn transaction_row(row: &Row) -> Result<TransactionRow, StoreError> {
    Ok(TransactionRow {
        txid: row.get_array(0)?,
        raw: row.get(1)?,
        state: row.get(2)?,
        height: row.get_uint(3)?,
        time: row.get_uint(4)?,
        received: row.get_uint(5)?,
        sent: row.get_uint(6)?,
        fee: row.get::<Option<i64>>(7)?.and_then(|fee| u64::try_from(fee).ok()),
        coinbase: row.get::<i64>(8)? != 0,
    })
}

/// Amounts are below 21 million coins, far below the type's limit.
fn satoshi(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

impl Store {
    /// A wallet by name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet(&self, name: &str) -> Result<Option<WalletRow>, StoreError> {
        self.fetch_optional(WALLET, args![name]).await?.as_ref().map(wallet_row).transpose()
    }

    /// Names of all wallets, ascending.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_names(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.fetch_all("SELECT name FROM wallets ORDER BY name", args![]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The scripts that a wallet gave out.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_scripts(&self, wallet: &str) -> Result<Vec<ScriptRow>, StoreError> {
        let sql = "SELECT keychain, position, script FROM wallet_scripts WHERE wallet = $1 ORDER BY keychain, position";
        let rows = self.fetch_all(sql, args![wallet]).await?;
        rows.iter()
            .map(|row| Ok(ScriptRow { keychain: row.get_uint(0)?, index: row.get_uint(1)?, script: row.get(2)? }))
            .collect()
    }

    /// The history, newest first, unconfirmed before all: `limit` rows after the `cursor` (height, txid).
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_transactions(
        &self,
        wallet: &str,
        cursor: Option<(u32, [u8; 32])>,
        limit: u32,
    ) -> Result<Vec<TransactionRow>, StoreError> {
        // Above every row: no height is larger than `UNCONFIRMED`.
        let (height, txid) = cursor.map_or((i64::from(UNCONFIRMED) + 1, [0; 32]), |(h, txid)| (i64::from(h), txid));
        let sql = "SELECT txid, raw, state, height, time, received, sent, fee, coinbase FROM wallet_transactions \
            WHERE wallet = $1 AND (height, txid) < ($2, $3) ORDER BY height DESC, txid DESC LIMIT $4";
        let rows = self.fetch_all(sql, args![wallet, height, &txid[..], limit]).await?;
        rows.iter().map(transaction_row).collect()
    }

    /// The transactions that may confirm yet, serialised, the oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_pending(&self, wallet: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT raw FROM wallet_transactions \
            WHERE wallet = $1 AND height = $2 AND state = 'pending' AND raw IS NOT NULL ORDER BY time, txid";
        self.fetch_all(sql, args![wallet, UNCONFIRMED]).await?.iter().map(|row| row.get(0)).collect()
    }

    /// One transaction of the history.
    ///
    /// # Errors
    /// The database failed.
    pub async fn wallet_transaction(
        &self,
        wallet: &str,
        txid: &[u8; 32],
    ) -> Result<Option<TransactionRow>, StoreError> {
        let row = self.fetch_optional(TRANSACTION_COLUMNS_FROM, args![wallet, &txid[..]]).await?;
        row.as_ref().map(transaction_row).transpose()
    }
}

impl Transaction {
    /// Makes a wallet unless one of that name exists: whether it did.
    ///
    /// # Errors
    /// The database failed.
    pub async fn create_wallet(&mut self, wallet: &WalletRow, scripts: &[ScriptRow]) -> Result<bool, StoreError> {
        let now = self.now_ms().await?;
        let sql = "INSERT INTO wallets (name, network, secret_kind, secret, external_descriptor, internal_descriptor, \
            external_next, internal_next, tip_height, tip_hash, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING";
        let args = args![
            wallet.name.as_str(),
            wallet.network.as_str(),
            wallet.secret_kind.as_str(),
            wallet.secret.as_slice(),
            wallet.external_descriptor.as_str(),
            wallet.internal_descriptor.as_str(),
            wallet.external_next,
            wallet.internal_next,
            wallet.tip_height,
            &wallet.tip_hash[..],
            now,
        ];
        if self.execute(sql, args).await? == 0 {
            return Ok(false);
        }
        for script in scripts {
            self.add_wallet_script(&wallet.name, script).await?;
        }
        self.add_wallet_checkpoint(&wallet.name, wallet.tip_height, &wallet.tip_hash).await?;
        Ok(true)
    }

    /// Replaces the secret if it still is `old`: whether it was.
    ///
    /// # Errors
    /// The database failed.
    pub async fn replace_wallet_secret(
        &mut self,
        wallet: &str,
        old: &[u8],
        kind: &str,
        secret: &[u8],
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE wallets SET secret_kind = $3, secret = $4 WHERE name = $1 AND secret = $2";
        Ok(self.execute(sql, args![wallet, old, kind, secret]).await? == 1)
    }

    /// A wallet by name, locked until this transaction ends.
    ///
    /// # Errors
    /// The database failed.
    pub async fn lock_wallet(&mut self, name: &str) -> Result<Option<WalletRow>, StoreError> {
        // An update locks the row on both databases.
        self.execute("UPDATE wallets SET name = name WHERE name = $1", args![name]).await?;
        self.fetch_optional(WALLET, args![name]).await?.as_ref().map(wallet_row).transpose()
    }

    /// Notes that scripts of a keychain (0 external, 1 internal) were given out, up to the largest index among them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reveal_wallet_scripts(&mut self, wallet: &str, scripts: &[ScriptRow]) -> Result<(), StoreError> {
        for script in scripts {
            let sql = if script.keychain == 0 {
                "UPDATE wallets SET external_next = $2 WHERE name = $1 AND external_next < $2"
            } else {
                "UPDATE wallets SET internal_next = $2 WHERE name = $1 AND internal_next < $2"
            };
            self.execute(sql, args![wallet, script.index.saturating_add(1)]).await?;
            self.add_wallet_script(wallet, script).await?;
        }
        Ok(())
    }

    async fn add_wallet_script(&mut self, wallet: &str, script: &ScriptRow) -> Result<(), StoreError> {
        self.execute(INSERT_SCRIPT, args![wallet, script.keychain, script.index, script.script.as_slice()]).await?;
        Ok(())
    }

    async fn wallet_transaction(
        &mut self,
        wallet: &str,
        txid: &[u8; 32],
    ) -> Result<Option<TransactionRow>, StoreError> {
        let row = self.fetch_optional(TRANSACTION_COLUMNS_FROM, args![wallet, &txid[..]]).await?;
        row.as_ref().map(transaction_row).transpose()
    }
}
