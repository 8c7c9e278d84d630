//! What the stamper asks of the wallet that pays for it.

use crate::{BuiltTransaction, Wallet, WalletError};
use bitcoin::{Amount, Transaction};
use cairn_store::StoreError;
use std::{future::Future, pin::Pin};

/// A payment that the stamper needs.
#[derive(Debug, Clone, Copy)]
pub struct PaymentRequest<'a> {
    /// Data of the one `OP_RETURN` output (value 0): the 32 bytes of a Merkle tip. It must occur only there.
    pub op_return: &'a [u8],
    /// Fee rate, satoshi for 1,000 vbytes.
    pub fee_rate: u64,
    /// The transaction to replace (BIP 125), with its fee. The result spends the same inputs, so that only one of the two
    /// can ever confirm (and more only where these cannot pay the fee), and pays at least the old fee plus the increment (1,000 sat for 1,000 vbytes of the new
    /// transaction), even where `fee_rate` is lower than that.
    pub replaces: Option<Previous<'a>>,
    /// The confirmed transaction of the previous payment, where there is one and `replaces` is none. The result spends its
    /// change if that is still unspent, so that a reorganisation that undoes one undoes the other; otherwise any confirmed coin.
    pub after: Option<&'a Transaction>,
}

/// A payment that was recorded before.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// As it was sent.
    pub tx: &'a Transaction,
    /// Its fee.
    pub fee: Amount,
}

/// The wallet as the stamper sees it.
///
/// Order of calls: [`build`](Self::build), then [`record`](Self::record) inside the database transaction that records the
/// payment, then the transaction is sent; or [`discard`](Self::discard) where recording failed.
pub trait Payer: Send + Sync {
    /// Builds and signs a transaction of confirmed coins of ours to one `OP_RETURN` output and change; every input signals
    /// replaceability (BIP 125). It sends nothing, and writes nothing to the database.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`] where no confirmed coin suffices.
    fn build<'a>(
        &'a self,
        request: PaymentRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<BuiltTransaction, WalletError>> + Send + 'a>>;

    /// Writes what `built` changes in the wallet, inside the caller's transaction. Nothing may rely on it until that commits.
    /// After an error the caller undoes its transaction; a [`StoreError::Conflict`] says to build again.
    fn record<'a>(
        &'a self,
        transaction: &'a mut cairn_store::Transaction,
        built: &'a BuiltTransaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

    /// `built` was not recorded and never will be: its coins and its change address are free again.
    fn discard(&self, built: &BuiltTransaction);
}

impl Payer for Wallet {
    fn build<'a>(
        &'a self,
        request: PaymentRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<BuiltTransaction, WalletError>> + Send + 'a>> {
        Box::pin(self.build_stamp(request))
    }

    fn record<'a>(
        &'a self,
        transaction: &'a mut cairn_store::Transaction,
        built: &'a BuiltTransaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>> {
        Box::pin(async move {
            match &built.changes {
                Some(changes) => transaction.append_wallet_changes(self.name(), changes).await,
                None => Ok(()),
            }
        })
    }

    /// Building reserves nothing: coins are taken when it is recorded.
    fn discard(&self, _built: &BuiltTransaction) {}
}
