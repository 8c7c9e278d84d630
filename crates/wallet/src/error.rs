//! What can go wrong with a wallet, one cause each, with its remedy.

use crate::SourceError;
use bitcoin::{Amount, Network, Txid};
use cairn_store::StoreError;

/// Errors of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// Not enough spendable coins.
    #[error(
        "not enough coins: {needed} needed, {available} spendable: mine {blocks} blocks or send coins to the wallet"
    )]
    InsufficientFunds {
        /// Needed.
        needed: Amount,
        /// Spendable now.
        available: Amount,
        /// A hint: blocks until the oldest immature reward can be spent, or until a new one can.
        blocks: u32,
    },
    /// The wallet is encrypted and no passphrase was given.
    #[error("the wallet {0:?} is encrypted: give its passphrase in CAIRN_WALLET__PASSPHRASE")]
    PassphraseMissing(String),
    /// The passphrase is not that of the wallet.
    #[error("wrong passphrase for the wallet {0:?}: check CAIRN_WALLET__PASSPHRASE")]
    PassphraseWrong(String),
    /// A passphrase was given for a wallet that is not encrypted.
    #[error("the wallet {0:?} is not encrypted: leave the passphrase out, or set one for it first")]
    NotEncrypted(String),
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty: give at least one character, or none at all for a wallet that is not encrypted")]
    PassphraseEmpty,
    /// What is stored cannot be the wallet's.
    #[error(
        "the wallet {wallet:?} is damaged ({what}): restore the database from a backup, or the wallet from its words"
    )]
    Damaged {
        /// Its name.
        wallet: String,
        /// What is wrong.
        what: String,
    },
    /// The wallet belongs to another network.
    #[error("the wallet {wallet:?} is for {stored}, not for {asked}: use another name or data directory")]
    OtherNetwork {
        /// Its name.
        wallet: String,
        /// The wallet's.
        stored: String,
        /// The one asked for.
        asked: Network,
    },
    /// The node's chain starts from another block than the wallet's.
    #[error("the node's chain has another genesis block than the wallet: connect to a node of the wallet's network")]
    OtherChain,
    /// A wallet of this name exists.
    #[error("a wallet {0:?} exists already: choose another name")]
    Exists(String),
    /// No such wallet.
    #[error("there is no wallet {0:?}: it was removed from the database while in use; restore it from a backup")]
    Missing(String),
    /// The words are no BIP 39 phrase.
    #[error("these are no BIP 39 words in English ({0}): check their spelling and order")]
    Words(String),
    /// Every address was given out.
    #[error("the wallet has no addresses left")]
    NoAddressesLeft,
    /// A payment without recipients.
    #[error("a payment needs at least one recipient")]
    NoRecipients,
    /// An output below what nodes relay.
    #[error("{amount} is too little to send: nodes do not relay outputs below {dust}")]
    Dust {
        /// Asked for.
        amount: Amount,
        /// Least.
        dust: Amount,
    },
    /// Amounts or fees beyond all coins there are.
    #[error("the amounts or the fee exceed all coins that can exist: lower them")]
    AmountTooLarge,
    /// Data beyond what a push can hold.
    #[error("{0} bytes do not fit one OP_RETURN output")]
    DataTooLarge(usize),
    /// The transaction cannot be replaced by this wallet.
    #[error("transaction {0} cannot be replaced: it is confirmed, or its coins are not this wallet's")]
    NotReplaceable(Txid),
    /// The wallet has not followed the chain to the block that has this payment.
    #[error("the wallet is behind the node: it has not seen the block with transaction {0} yet, and goes on by itself")]
    Behind(Txid),
    /// Signing failed.
    #[error("internal: signing failed: {0}")]
    Signing(String),
    /// Encryption failed.
    #[error("internal: encryption failed: {0}")]
    Encryption(String),
    /// The node does not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of ours ended early.
    #[error("internal: {0}")]
    Task(#[from] tokio::task::JoinError),
}
