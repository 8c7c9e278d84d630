//! Opening a wallet, its addresses, balance and history.

use crate::{
    ChainSource, Passphrase, RecoveryPhrase, SendError, WalletError,
    keys::{Keychain, Keys},
    secret,
    sync::Watch,
};
use bitcoin::{
    Address, Amount, Network, ScriptBuf, SignedAmount, Transaction, Txid, consensus, constants::genesis_block,
    hashes::Hash,
};
use cairn_store::{
    Store,
    wallet::{ScriptRow, TransactionRow, UNCONFIRMED, WalletRow},
};
use std::{str::FromStr, sync::Arc};
use tokio::{sync::Mutex, task::spawn_blocking};

/// Confirmations that a reward needs before it can be spent in the next block: a block `n` spends rewards up to `n` - 100.
const COINBASE_MATURITY: i64 = 100;

/// A wallet. Clones share it.
#[derive(Clone)]
pub struct Wallet {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) watch: Arc<Mutex<Watch>>,
    name: String,
    network: Network,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").field("name", &self.inner.name).field("network", &self.inner.network).finish()
    }
}

/// Balance by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Spendable now.
    pub confirmed: Amount,
    /// Ours, unconfirmed, from ourselves.
    pub trusted_pending: Amount,
    /// Unconfirmed from others.
    pub untrusted_pending: Amount,
    /// Coinbase below 100 confirmations.
    pub immature: Amount,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Recorded, in no block of the active chain.
    Pending,
    /// In a block of the active chain.
    Confirmed,
    /// Another version of it took its place (BIP 125).
    Replaced,
    /// Given up.
    Abandoned,
    /// A transaction that the chain has spends the same coins.
    Conflicted,
    /// The reward of a block that is not in the active chain.
    Orphaned,
}

/// A transaction of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletTransaction {
    /// Its id.
    pub txid: Txid,
    /// What became of it.
    pub state: TransactionState,
    /// Height of its block.
    pub height: Option<u32>,
    /// Time of its block, or when it was recorded; seconds since 1970.
    pub time: u32,
    /// What it brings (positive) or takes.
    pub amount: SignedAmount,
    /// Its fee, where all its inputs are ours.
    pub fee: Option<Amount>,
    /// Whether it is a block's reward.
    pub coinbase: bool,
    /// The transaction itself; none for rewards, which the chain has.
    pub tx: Option<Transaction>,
    /// Where the next page starts.
    pub cursor: Cursor,
}

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    height: u32,
    txid: Txid,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.height, self.txid)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: use the one that came with the previous page, or none for the first page")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (height, txid) = text.split_once('-').ok_or(CursorError)?;
        Ok(Self { height: height.parse().map_err(|_| CursorError)?, txid: txid.parse().map_err(|_| CursorError)? })
    }
}

/// A network's name in the database.
fn network_name(network: Network) -> String {
    network.to_string()
}

impl Wallet {
    /// Opens a wallet, or makes a new one and returns its words, to be shown this once.
    ///
    /// # Errors
    /// [`WalletError::PassphraseMissing`], [`WalletError::PassphraseWrong`], [`WalletError::NotEncrypted`],
    /// [`WalletError::OtherNetwork`] and [`WalletError::Damaged`] as they say.
    pub async fn open_or_create(
        store: &Store,
        name: &str,
        network: Network,
        passphrase: Option<Passphrase>,
    ) -> Result<(Self, Option<RecoveryPhrase>), WalletError> {
        if let Some(row) = store.wallet(name).await? {
            return Ok((Self::open(store, row, network, passphrase).await?, None));
        }
        let phrase = RecoveryPhrase::generate();
        match Self::restore(store, name, network, phrase.clone(), passphrase.clone()).await {
            Ok(wallet) => Ok((wallet, Some(phrase))),
            // Another process made it in this moment.
            Err(WalletError::Exists(_)) => {
                let row = store.wallet(name).await?.ok_or_else(|| WalletError::Missing(name.to_owned()))?;
                Ok((Self::open(store, row, network, passphrase).await?, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a wallet from words that were written down. Its coins are found by the next synchronisation.
    ///
    /// # Errors
    /// [`WalletError::Exists`], or the database failed.
    pub async fn restore(
        store: &Store,
        name: &str,
        network: Network,
        phrase: RecoveryPhrase,
        passphrase: Option<Passphrase>,
    ) -> Result<Self, WalletError> {
        let (keys, kind, secret) = spawn_blocking(move || {
            let (kind, secret) = secret::seal(&phrase, passphrase.as_ref())?;
            Ok::<_, WalletError>((Keys::new(&phrase, network)?, kind, secret))
        })
        .await??;
        // The first of each keychain is given out from the start: rewards go to one, the change of stamps to the other.
        let scripts = [Keychain::External, Keychain::Internal].map(|keychain| {
            let script = keys.script(keychain, 0)?.into_bytes();
            Ok::<_, WalletError>(ScriptRow { keychain: keychain.number(), index: 0, script })
        });
        let [external, internal] = scripts;
        let row = WalletRow {
            name: name.to_owned(),
            network: network_name(network),
            secret_kind: kind.to_owned(),
            secret,
            external_descriptor: keys.descriptor(Keychain::External).to_string(),
            internal_descriptor: keys.descriptor(Keychain::Internal).to_string(),
            external_next: 1,
            internal_next: 1,
            tip_height: 0,
            tip_hash: genesis_block(network).block_hash().to_byte_array(),
        };
        let mut transaction = store.begin().await?;
        if !transaction.create_wallet(&row, &[external?, internal?]).await? {
            return Err(WalletError::Exists(name.to_owned()));
        }
        transaction.commit().await?;
        Ok(Self::assemble(store, name, network, keys))
    }

    async fn open(
        store: &Store,
        row: WalletRow,
        network: Network,
        passphrase: Option<Passphrase>,
    ) -> Result<Self, WalletError> {
        let name = row.name.clone();
        if row.network != network_name(network) {
            return Err(WalletError::OtherNetwork { wallet: name, stored: row.network, asked: network });
        }
        let keys = spawn_blocking(move || {
            let phrase = secret::open(&row.name, &row.secret_kind, &row.secret, passphrase.as_ref())?;
            let keys = Keys::new(&phrase, network)?;
            let same = keys.descriptor(Keychain::External).to_string() == row.external_descriptor
                && keys.descriptor(Keychain::Internal).to_string() == row.internal_descriptor;
            if !same {
                let what = "its words do not give its descriptors".to_owned();
                return Err(WalletError::Damaged { wallet: row.name, what });
            }
            Ok(keys)
        })
        .await??;
        Ok(Self::assemble(store, &name, network, keys))
    }

    fn assemble(store: &Store, name: &str, network: Network, keys: Keys) -> Self {
        let (store, name) = (store.clone(), name.to_owned());
        Self { inner: Arc::new(Inner { store, keys, watch: Arc::default(), name, network }) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.inner.network
    }

    /// Descriptors of receiving and change addresses (BIP 380), without private keys.
    #[must_use]
    pub fn descriptors(&self) -> (String, String) {
        let keys = &self.inner.keys;
        (keys.descriptor(Keychain::External).to_string(), keys.descriptor(Keychain::Internal).to_string())
    }

    /// Encrypts the words with another passphrase, or (`new` is `None`) no longer.
    ///
    /// # Errors
    /// As when opening; [`WalletError::PassphraseWrong`] also where another process changed it in this moment.
    pub async fn set_passphrase(&self, old: Option<Passphrase>, new: Option<Passphrase>) -> Result<(), WalletError> {
        let row = self.row().await?;
        let before = row.secret.clone();
        let (kind, secret) = spawn_blocking(move || {
            let phrase = secret::open(&row.name, &row.secret_kind, &row.secret, old.as_ref())?;
            secret::seal(&phrase, new.as_ref())
        })
        .await??;
        let mut transaction = self.inner.store.begin().await?;
        if !transaction.replace_wallet_secret(self.name(), &before, kind, &secret).await? {
            return Err(WalletError::PassphraseWrong(self.name().to_owned()));
        }
        Ok(transaction.commit().await?)
    }

    /// A receiving address that was not given out before. It is recorded before it is returned.
    ///
    /// # Errors
    /// The database failed.
    pub async fn next_address(&self) -> Result<Address, WalletError> {
        let mut transaction = self.inner.store.begin().await?;
        let row = transaction.lock_wallet(self.name()).await?;
        let index = row.ok_or_else(|| WalletError::Missing(self.name().to_owned()))?.external_next;
        let script = self.inner.keys.script(Keychain::External, index)?;
        let revealed = ScriptRow { keychain: Keychain::External.number(), index, script: script.to_bytes() };
        transaction.reveal_wallet_scripts(self.name(), &[revealed]).await?;
        transaction.commit().await?;
        self.address(&script)
    }

    /// Where rewards go: always the same address.
    ///
    /// # Errors
    /// Internal ones only.
    pub fn reward_address(&self) -> Result<Address, WalletError> {
        self.address(&self.inner.keys.script(Keychain::External, 0)?)
    }

    /// The receiving addresses that were given out, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn addresses(&self) -> Result<Vec<Address>, WalletError> {
        let scripts = self.inner.store.wallet_scripts(self.name()).await?;
        let external = scripts.into_iter().filter(|row| row.keychain == Keychain::External.number());
        external.map(|row| self.address(&ScriptBuf::from_bytes(row.script))).collect()
    }

    fn address(&self, script: &ScriptBuf) -> Result<Address, WalletError> {
        Address::from_script(script, self.inner.network).map_err(|error| self.damaged(&error.to_string()))
    }

    /// What it has.
    ///
    /// # Errors
    /// The database failed.
    pub async fn balance(&self) -> Result<Balance, WalletError> {
        let row = self.row().await?;
        let balance = self.inner.store.wallet_balance(self.name(), mature_height(&row)).await?;
        Ok(Balance {
            confirmed: Amount::from_sat(balance.confirmed),
            trusted_pending: Amount::from_sat(balance.trusted_pending),
            untrusted_pending: Amount::from_sat(balance.untrusted_pending),
            immature: Amount::from_sat(balance.immature),
        })
    }

    /// The last block that was applied: its height.
    ///
    /// # Errors
    /// The database failed.
    pub async fn height(&self) -> Result<u32, WalletError> {
        Ok(self.row().await?.tip_height)
    }

    /// The history, newest first: at most `limit` transactions after the cursor.
    ///
    /// # Errors
    /// The database failed.
    pub async fn transactions(
        &self,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<WalletTransaction>, WalletError> {
        let cursor = cursor.map(|cursor| (cursor.height, cursor.txid.to_byte_array()));
        let rows = self.inner.store.wallet_transactions(self.name(), cursor, limit).await?;
        rows.into_iter().map(|row| self.transaction_of(row)).collect()
    }

    /// One transaction of the history.
    ///
    /// # Errors
    /// The database failed.
    pub async fn transaction(&self, txid: &Txid) -> Result<Option<WalletTransaction>, WalletError> {
        let row = self.inner.store.wallet_transaction(self.name(), txid.as_byte_array()).await?;
        row.map(|row| self.transaction_of(row)).transpose()
    }

    /// Sends again what is pending and in no mempool: mempools forget, and a kill may come between recording and sending.
    /// What the node refuses stays pending, for it may confirm elsewhere.
    ///
    /// # Errors
    /// The database failed, or the node does not answer.
    pub async fn resend(&self, source: &Arc<dyn ChainSource>) -> Result<(), WalletError> {
        let pending = self.inner.store.wallet_pending(self.name()).await?;
        let source = source.clone();
        let send = move || {
            let transactions = pending.iter().filter_map(|raw| consensus::deserialize::<Transaction>(raw).ok());
            for tx in transactions {
                let txid = tx.compute_txid();
                if source.in_mempool(&txid)? {
                    continue;
                }
                match source.send(&tx) {
                    Ok(()) => tracing::info!(%txid, "sent a pending transaction of the wallet again"),
                    Err(SendError::AlreadyConfirmed) => {}
                    Err(SendError::Rejected(reason)) => {
                        tracing::info!(%txid, reason, "the node refuses a pending transaction of the wallet");
                    }
                    Err(SendError::Source(error)) => return Err(error),
                }
            }
            Ok(())
        };
        Ok(spawn_blocking(send).await??)
    }

    /// Gives up a pending transaction: its coins can be spent again. Whether it was pending. Should it confirm after all,
    /// the next synchronisation sees it.
    ///
    /// # Errors
    /// [`cairn_store::StoreError::Conflict`] if it is confirmed.
    pub async fn abandon(&self, txid: &Txid) -> Result<bool, WalletError> {
        let mut transaction = self.inner.store.begin().await?;
        let abandoned = transaction.abandon_wallet_transaction(self.name(), txid.as_byte_array()).await?;
        transaction.commit().await?;
        Ok(abandoned)
    }

    fn transaction_of(&self, row: TransactionRow) -> Result<WalletTransaction, WalletError> {
        let state = match row.state.as_str() {
            "pending" => TransactionState::Pending,
            "confirmed" => TransactionState::Confirmed,
            "replaced" => TransactionState::Replaced,
            "abandoned" => TransactionState::Abandoned,
            "conflicted" => TransactionState::Conflicted,
            "orphaned" => TransactionState::Orphaned,
            other => return Err(self.damaged(&format!("unknown state {other:?} of a transaction"))),
        };
        let txid = Txid::from_byte_array(row.txid);
        let tx = row.raw.map(|raw| consensus::deserialize(&raw)).transpose();
        // Both are sums of amounts that consensus limits to 21 million coins an output; no sum of them comes near 2^63.
        let signed = |amount: u64| SignedAmount::from_sat(i64::try_from(amount).unwrap_or(i64::MAX));
        Ok(WalletTransaction {
            txid,
            state,
            height: (row.height != UNCONFIRMED).then_some(row.height),
            time: row.time,
            amount: signed(row.received) - signed(row.sent),
            fee: row.fee.map(Amount::from_sat),
            coinbase: row.coinbase,
            tx: tx.map_err(|error| self.damaged(&format!("transaction {txid}: {error}")))?,
            cursor: Cursor { height: row.height, txid },
        })
    }

    pub(crate) async fn row(&self) -> Result<WalletRow, WalletError> {
        let row = self.inner.store.wallet(self.name()).await?;
        row.ok_or_else(|| WalletError::Missing(self.name().to_owned()))
    }

    pub(crate) fn damaged(&self, what: &str) -> WalletError {
        WalletError::Damaged { wallet: self.name().to_owned(), what: what.to_owned() }
    }
}

/// Height of the youngest reward that the block after the tip may spend.
pub(crate) fn mature_height(row: &WalletRow) -> i64 {
    i64::from(row.tip_height) + 1 - COINBASE_MATURITY
}
