//! A BIP 86 descriptor wallet whose state lives in the store: earns block rewards, pays for stamps.
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | [`ChainSource`]: where a wallet learns of the chain |
//! | [`error`] | what can go wrong, one cause each, with its remedy |
//! | [`secret`] | the BIP 39 words, and their encryption at rest |
//! | `keys` | BIP 86 descriptors, scripts, signatures (BDK, miniscript) |
//! | [`wallet`] | opening, addresses, balance, history, giving up transactions |
//! | `sync` | following the chain through reorganisations |
//! | `payer` | what the stamper asks of the wallet that pays |
//! | `build` | payments and stamping transactions, built and signed but not recorded |
//!
//! `stamp` pays with it, `api` and the binary show it, `node` gives it the chain. It has no connections to anybody and
//! sends nothing by itself. Rows of the store are its only state: several processes may use one wallet, and a coin is
//! taken when the transaction that spends it is recorded.

mod build;
pub mod error;
mod keys;
mod payer;
pub mod secret;
pub mod source;
mod sync;
pub mod wallet;

pub use build::BuiltTransaction;
pub use error::WalletError;
pub use payer::{Payer, PaymentRequest, Previous};
pub use secret::{Passphrase, RecoveryPhrase};
pub use source::{ChainSource, SendError, SourceError};
pub use wallet::{Balance, TransactionState, Wallet, WalletTransaction};

/// An address of ours.
pub type WalletAddress = bitcoin::Address;
