//! Core 31's relay policy: what is valid but not taken into the mempool.

pub(crate) mod inputs;
pub(crate) mod opcodes;
pub(crate) mod package;
pub(crate) mod rbf;
pub(crate) mod standard;
pub(crate) mod truc;

use cairn_consensus::error::{TxReject, TxRejectKind};
use std::borrow::Cow;

/// A refusal with Core's reject reason and debug message.
pub(crate) fn reject(kind: TxRejectKind, reason: impl Into<Cow<'static, str>>, debug: impl Into<String>) -> TxReject {
    TxReject { kind, reason: reason.into(), debug: debug.into() }
}

/// A refusal of what is not standard.
pub(crate) fn not_standard(reason: &'static str, debug: impl Into<String>) -> TxReject {
    reject(TxRejectKind::NotStandard, reason, debug)
}
