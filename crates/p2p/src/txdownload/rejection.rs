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

/// Reasons, or how they begin, for which a package may yet bring the transaction in.
const RECONSIDERABLE: [&str; 5] =
    ["mempool min fee not met", "min relay fee not met", "mempool full", "insufficient fee", "replacement-failed"];

/// The one place where a refusal is read.
pub(super) fn rejection(reject: &TxReject) -> Rejection {
    let reason = reject.reason.as_ref();
    let is_script_failure = reason.starts_with("mempool-script-verify-flag-failed");
    match reject.kind {
        TxRejectKind::MissingInputs => Rejection::MissingInputs,
        TxRejectKind::Internal => Rejection::Internal,
        TxRejectKind::NotStandard if reason == "bad-txns-nonstandard-inputs" => Rejection::InputsNotStandard,
        TxRejectKind::NotStandard | TxRejectKind::Consensus => Rejection::Other,
        // A failed script is not standard by itself: another kind says that it lacks a witness.
        _ if is_script_failure => Rejection::WitnessStripped,
        _ if RECONSIDERABLE.iter().any(|start| reason.starts_with(start)) => Rejection::Reconsiderable,
        _ => Rejection::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_mempool_are_read() {
        let script = "mempool-script-verify-flag-failed (Witness program was passed an empty witness)";
        for (kind, reason, expected) in [
            (TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent", Rejection::MissingInputs),
            (TxRejectKind::Internal, "coins-unreadable", Rejection::Internal),
            (TxRejectKind::NotStandard, "bad-txns-nonstandard-inputs", Rejection::InputsNotStandard),
            (TxRejectKind::NotStandard, "scriptpubkey", Rejection::Other),
            (TxRejectKind::NotStandard, script, Rejection::Other),
            (TxRejectKind::WitnessMutated, script, Rejection::WitnessStripped),
            (TxRejectKind::WitnessMutated, "bad-witness-nonstandard", Rejection::Other),
            (TxRejectKind::Consensus, "bad-txns-vin-empty", Rejection::Other),
            (TxRejectKind::Conflict, "txn-already-in-mempool", Rejection::Other),
            (TxRejectKind::PrematureSpend, "non-final", Rejection::Other),
            (TxRejectKind::MempoolPolicy, "min relay fee not met", Rejection::Reconsiderable),
            (TxRejectKind::MempoolPolicy, "mempool min fee not met", Rejection::Reconsiderable),
            (TxRejectKind::MempoolPolicy, "mempool full", Rejection::Reconsiderable),
            (TxRejectKind::MempoolPolicy, "insufficient fee (including sibling eviction)", Rejection::Reconsiderable),
            (TxRejectKind::MempoolPolicy, "replacement-failed", Rejection::Reconsiderable),
            (TxRejectKind::MempoolPolicy, "too-large-cluster", Rejection::Other),
            (TxRejectKind::MempoolPolicy, "TRUC-violation", Rejection::Other),
        ] {
            let reject = TxReject { kind, reason: reason.into(), debug: String::new() };
            assert_eq!(rejection(&reject), expected, "{reject}");
        }
    }
}
