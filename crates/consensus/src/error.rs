//! Why a block or a transaction is refused: Core's result classes and reject reasons.

use std::fmt;

/// Core's `BlockValidationResult`: decides whether a block is condemned and a peer punished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockRejectKind {
    /// Invalid by consensus rules: condemned for ever.
    Consensus,
    /// The header fails proof of work or a stateless header rule.
    InvalidHeader,
    /// The block's data does not match its header (malleated): never condemns the header.
    Mutated,
    /// The previous header is unknown.
    MissingPrev,
    /// A block that it builds on is invalid.
    InvalidPrev,
    /// The time is more than two hours ahead: transient, never condemned.
    TimeFuture,
    /// The header chain has too little work to be worth keeping.
    LowWork,
}

/// A block refused: its class, Core's reject reason and a sentence of detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockReject {
    /// Class.
    pub kind: BlockRejectKind,
    /// Core's reject reason, such as `bad-cb-amount`.
    pub reason: std::borrow::Cow<'static, str>,
    /// Core's debug message, or empty.
    pub debug: String,
}

/// Core's `TxValidationResult`, as far as consensus and policy need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxRejectKind {
    /// Invalid by consensus rules.
    Consensus,
    /// Inputs missing or spent.
    MissingInputs,
    /// A premature spend (coinbase maturity, lock time, sequence lock).
    PrematureSpend,
    /// Not standard: policy only.
    NotStandard,
    /// The witness is not standard, or adds what the transaction does not need: policy only.
    WitnessMutated,
    /// There is no witness where one is needed: says nothing of the txid, which another witness may make valid.
    WitnessStripped,
    /// In the mempool or the chain already, or in conflict with what is there.
    Conflict,
    /// Limits of the mempool, or its rules of what may depend on what.
    MempoolPolicy,
    /// It pays too little by itself, but may come with a child that pays for both.
    Reconsiderable,
    /// Its coins could not be read (a failing disk): says nothing of the transaction; try again.
    Internal,
}

/// A transaction refused: its class, Core's reject reason and detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxReject {
    /// Class.
    pub kind: TxRejectKind,
    /// Core's reject reason, such as `bad-txns-in-belowout`. Owned because script failures carry the script error's
    /// text, as `mempool-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)`.
    pub reason: std::borrow::Cow<'static, str>,
    /// Core's debug message, or empty.
    pub debug: String,
}

impl fmt::Display for BlockReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.debug.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}, {}", self.reason, self.debug) }
    }
}
impl std::error::Error for BlockReject {}

impl fmt::Display for TxReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.debug.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}, {}", self.reason, self.debug) }
    }
}
impl std::error::Error for TxReject {}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Core logs and answers them.
    #[test]
    fn rejections_tell_the_reason_and_the_detail_if_there_is_one() {
        for (debug, text) in [("", "bad-cb-amount"), ("paid too much", "bad-cb-amount, paid too much")] {
            let (reason, debug) = ("bad-cb-amount".into(), debug.to_owned());
            let tx = TxReject { kind: TxRejectKind::Consensus, reason, debug };
            let (reason, debug) = (tx.reason.clone(), tx.debug.clone());
            let block = BlockReject { kind: BlockRejectKind::Consensus, reason, debug };
            assert_eq!([tx.to_string(), block.to_string()], [text, text]);
        }
    }
}
