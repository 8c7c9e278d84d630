//! Replacement: full RBF as Core 31 has it, by fees and by the feerate diagram.

use super::reject;
use crate::feerate::{compare_diagrams, fee_at_rate};
use crate::pool::{Candidate, Pool};
use bitcoin::Txid;
use cairn_consensus::error::{TxReject, TxRejectKind};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Most clusters that a replacement may conflict with directly (rule 5; `MAX_REPLACEMENT_CANDIDATES`).
const MAX_REPLACEMENT_CANDIDATES: usize = 100;

/// What would replace.
pub(crate) struct Replacement<'a> {
    pub(crate) candidate: &'a Candidate,
    /// Satoshi.
    pub(crate) fee: u64,
    /// Sigop-adjusted vbytes.
    pub(crate) vsize: u64,
    /// Transactions here that it conflicts with, a sibling to evict included.
    pub(crate) conflicts: &'a BTreeSet<Txid>,
    /// Whether one of them is its parent's other child (BIP 431).
    pub(crate) evicts_sibling: bool,
}

/// Core's `ReplacementChecks`: everything that goes if the replacement comes.
pub(crate) fn check(pool: &Pool, new: &Replacement, incremental_rate: u64) -> Result<BTreeSet<Txid>, TxReject> {
    let suffix = if new.evicts_sibling { " (including sibling eviction)" } else { "" };
    let refuse = |kind, reason: String, debug: String| Err(reject(kind, reason, debug));
    let txid = new.candidate.txid;

    let clusters = pool.cluster_count(new.conflicts);
    if clusters > MAX_REPLACEMENT_CANDIDATES {
        return refuse(
            TxRejectKind::MempoolPolicy,
            format!("too many potential replacements{suffix}"),
            format!(
                "rejecting replacement {txid}; too many conflicting clusters ({clusters} > {MAX_REPLACEMENT_CANDIDATES})"
            ),
        );
    }
    let replaced = pool.with_descendants(new.conflicts.iter().copied());
    let original: u64 = replaced.iter().filter_map(|txid| pool.get(txid)).map(|member| member.entry.fee).sum();
    if new.fee < original {
        return refuse(
            TxRejectKind::Reconsiderable,
            format!("insufficient fee{suffix}"),
            format!(
                "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
                money(new.fee),
                money(original)
            ),
        );
    }
    let (additional, needed) = (new.fee - original, fee_at_rate(incremental_rate, new.vsize));
    if additional < needed {
        return refuse(
            TxRejectKind::Reconsiderable,
            format!("insufficient fee{suffix}"),
            format!(
                "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
                money(additional),
                money(needed)
            ),
        );
    }
    let staged = pool.staged(new.candidate, &replaced);
    if !staged.within_limits() {
        return refuse(TxRejectKind::MempoolPolicy, "too-large-cluster".into(), String::new());
    }
    if compare_diagrams(&staged.after(), &staged.before) != Some(Ordering::Greater) {
        return refuse(
            TxRejectKind::Reconsiderable,
            "replacement-failed".into(),
            "insufficient feerate: does not improve feerate diagram".into(),
        );
    }
    Ok(replaced)
}

/// Core's `FormatMoney`: bitcoins with at least two decimals.
fn money(satoshi: u64) -> String {
    let text = format!("{}.{:08}", satoshi / 100_000_000, satoshi % 100_000_000);
    let (kept, tail) = text.split_at(text.len() - 6);
    format!("{kept}{}", tail.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::money;

    #[test]
    fn money_keeps_two_decimals() {
        let cases =
            [(0, "0.00"), (1, "0.00000001"), (100_000_000, "1.00"), (150_000_000, "1.50"), (1_230_000, "0.0123")];
        for (satoshi, text) in cases {
            assert_eq!(money(satoshi), text);
        }
    }
}
