//! Coins (unspent outputs), the view that rules read them through, and undo data.

use bitcoin::{OutPoint, TxOut};

/// An unspent transaction output with what the rules need to know of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// The output itself: value in satoshi and locking script.
    pub output: TxOut,
    /// Height of the block that created it.
    pub height: u32,
    /// Whether a coinbase transaction created it (BIP 34 maturity applies).
    pub coinbase: bool,
}

/// Read access to coins. `Ok(None)` means missing or spent; `Err` is a failure to look (never a rule broken).
pub trait CoinView {
    /// What can go wrong while looking, such as a disk error.
    type Error;
    /// The coin at `outpoint`, if it exists and is unspent.
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Self::Error>;
}

/// The coins that one transaction spent, in the order of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxUndo(pub Vec<Coin>);

/// The coins that a block spent: one entry a transaction, the coinbase excepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockUndo(pub Vec<TxUndo>);
