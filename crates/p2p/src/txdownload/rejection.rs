//! What a refusal by the mempool says of asking for the transaction again.

use cairn_consensus::error::{TxReject, TxRejectKind};

/// Core's `TxValidationResult`, as far as it decides what is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// `TX_MISSING_INPUTS`: an orphan.
    MissingInputs,
    /// `TX_WITNESS_STRIPPED`: says nothing of the transaction with its witnesses, whose ids are not known.
    WitnessStripped,
    /// `TX_INPUTS_NOT_STANDARD`: no other witnesses can help.
    InputsNotStandard,
    /// `TX_RECONSIDERABLE`: a child may pay for it.
    Reconsiderable,
    /// Says nothing of the transaction: what it spends could not be read.
    Internal,
    /// This transaction with these witnesses will not do until the tip changes.
    Other,
}

/// The one place where a refusal is read.
pub(super) fn rejection(reject: &TxReject) -> Rejection {
    match reject.kind {
        TxRejectKind::MissingInputs => Rejection::MissingInputs,
        TxRejectKind::WitnessStripped => Rejection::WitnessStripped,
        TxRejectKind::Reconsiderable => Rejection::Reconsiderable,
        TxRejectKind::Internal => Rejection::Internal,
        // Core has a class for these.
        TxRejectKind::NotStandard if reject.reason == "bad-txns-nonstandard-inputs" => Rejection::InputsNotStandard,
        TxRejectKind::NotStandard
        | TxRejectKind::Consensus
        | TxRejectKind::PrematureSpend
        | TxRejectKind::WitnessMutated
        | TxRejectKind::Conflict
        | TxRejectKind::MempoolPolicy => Rejection::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_mempool_are_read() {
        for (kind, reason, expected) in [
            (TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent", Rejection::MissingInputs),
            (TxRejectKind::WitnessStripped, "mempool-script-verify-flag-failed (x)", Rejection::WitnessStripped),
            (TxRejectKind::Reconsiderable, "min relay fee not met", Rejection::Reconsiderable),
            (TxRejectKind::Internal, "coins-unreadable", Rejection::Internal),
            (TxRejectKind::NotStandard, "bad-txns-nonstandard-inputs", Rejection::InputsNotStandard),
            (TxRejectKind::NotStandard, "scriptpubkey", Rejection::Other),
            (TxRejectKind::NotStandard, "mempool-script-verify-flag-failed (x)", Rejection::Other),
            (TxRejectKind::WitnessMutated, "bad-witness-nonstandard", Rejection::Other),
            (TxRejectKind::Consensus, "bad-txns-vin-empty", Rejection::Other),
            (TxRejectKind::Conflict, "txn-already-in-mempool", Rejection::Other),
            (TxRejectKind::PrematureSpend, "non-final", Rejection::Other),
            (TxRejectKind::MempoolPolicy, "too-large-cluster", Rejection::Other),
        ] {
            let reject = TxReject { kind, reason: reason.into(), debug: String::new() };
            assert_eq!(rejection(&reject), expected, "{reject}");
        }
    }
}
