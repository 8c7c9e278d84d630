//! A block against its coins: what it spends, creates and pays, and which scripts remain to be checked.

use crate::coins::{BlockUndo, CoinView};
use crate::error::BlockReject;
use bitcoin::{Amount, Block};

/// Why connecting stopped: the block broke a rule, or the coins could not be read (which condemns nothing).
#[derive(Debug)]
pub enum ConnectError<E> {
    /// A rule is broken.
    Rejected(BlockReject),
    /// The view failed; the block's validity is unknown.
    View(E),
}

/// One transaction's scripts, self-contained so that any thread may run it.
pub struct ScriptCheck {
    _private: (),
}

impl ScriptCheck {
    /// How many inputs it covers.
    pub fn inputs(&self) -> usize {
        todo!()
    }
    /// Checks one input's scripts; the error is the block's rejection (`block-script-verify-flag-failed (…)`).
    pub fn run(&self, input: usize) -> Result<(), BlockReject> {
        let _ = input;
        todo!()
    }
}

/// What a block does once every script check has passed.
pub struct Connected {
    /// Coins it spent, for undoing.
    pub undo: BlockUndo,
    /// Fees it collects in satoshi.
    pub fees: Amount,
    /// Script checks still to run (empty when scripts are assumed valid).
    pub checks: Vec<ScriptCheck>,
}

/// Looks up ancestors of the block being connected, for BIP 68.
pub trait AncestorTimes {
    /// Median time past (seconds since 1970) of the ancestor at `height`.
    fn median_time_past(&self, height: u32) -> u32;
}

/// Checks a block against the coins. The block has passed `block::check_block` and its contextual checks.
pub fn connect_block<V: CoinView>(
    block: &Block,
    height: u32,
    params: &crate::params::Params,
    ancestors: &impl AncestorTimes,
    view: &V,
) -> Result<Connected, ConnectError<V::Error>> {
    let _ = (block, height, params, ancestors, view);
    todo!()
}
