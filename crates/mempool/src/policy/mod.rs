//! Core 31's relay policy: what is valid but not taken into the mempool.

pub(crate) mod inputs;
pub(crate) mod opcodes;
pub(crate) mod rbf;
pub(crate) mod standard;
pub(crate) mod truc;

use cairn_consensus::error::{TxReject, TxRejectKind};

/// A refusal of what is not standard.
pub(crate) fn not_standard(reason: &'static str, debug: impl Into<String>) -> TxReject {
    TxReject::new(TxRejectKind::NotStandard, reason, debug)
}
