//! Replacement: full RBF as Core 31 has it, by fees and by the feerate diagram.

use super::package::PackageReject;
use super::reject;
use crate::accept::Workspace;
use crate::feerate::{FeeFrac, compare_diagrams, fee_at_rate};
use crate::pool::{Candidate, Pool};
use bitcoin::Txid;
use cairn_consensus::error::{TxReject, TxRejectKind};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Most clusters that a replacement may conflict with directly (rule 5; `MAX_REPLACEMENT_CANDIDATES`).
const MAX_REPLACEMENT_CANDIDATES: usize = 100;
const NO_BETTER_DIAGRAM: &str = "insufficient feerate: does not improve feerate diagram";

/// Core's `ReplacementChecks`: everything that goes if the replacement comes.
pub(crate) fn check(
    pool: &Pool,
    new: &Workspace,
    candidate: &Candidate,
    incremental_rate: u64,
) -> Result<BTreeSet<Txid>, TxReject> {
    let suffix = if new.evicts_sibling { " (including sibling eviction)" } else { "" };
    let replaced = conflicting(pool, new.txid, &new.conflicts).map_err(|debug| {
        reject(TxRejectKind::MempoolPolicy, format!("too many potential replacements{suffix}"), debug)
    })?;
    let original = modified_fees(pool, &replaced);
    pays_for_itself(new.txid, original, new.entry.modified_fee, new.entry.vsize(), incremental_rate)
        .map_err(|debug| reject(TxRejectKind::Reconsiderable, format!("insufficient fee{suffix}"), debug))?;
    let staged = pool.staged(std::slice::from_ref(candidate), &replaced);
    if !staged.within_limits() {
        return Err(reject(TxRejectKind::MempoolPolicy, "too-large-cluster", ""));
    }
    if compare_diagrams(&staged.after(), &staged.before) != Some(Ordering::Greater) {
        return Err(reject(TxRejectKind::Reconsiderable, "replacement-failed", NO_BETTER_DIAGRAM));
    }
    Ok(replaced)
}

/// Core's `PackageRBFChecks`: everything that goes if the parent and the child come.
pub(crate) fn check_package(
    pool: &Pool,
    package: &[Workspace],
    candidates: &[Candidate],
    whole: FeeFrac,
    incremental_rate: u64,
) -> Result<BTreeSet<Txid>, PackageReject> {
    let refuse = |what: &str, debug: String| PackageReject::policy(format!("package RBF failed: {what}"), debug);
    let [parent, child] = package else {
        return Err(refuse("package must be 1-parent-1-child", String::new()));
    };
    if package.iter().any(|new| !new.parents.is_empty()) {
        return Err(refuse("new transaction cannot have mempool ancestors", String::new()));
    }
    let conflicts: BTreeSet<Txid> = package.iter().flat_map(|new| &new.conflicts).copied().collect();
    let replaced =
        conflicting(pool, child.txid, &conflicts).map_err(|debug| refuse("too many potential replacements", debug))?;
    let original = modified_fees(pool, &replaced);
    pays_for_itself(child.txid, original, whole.fee, whole.size, incremental_rate)
        .map_err(|debug| refuse("insufficient anti-DoS fees", debug))?;
    let alone = FeeFrac::new(parent.entry.modified_fee, parent.entry.vsize());
    if whole.cmp_rate(&alone).is_le() {
        let debug = format!("package feerate {} <= parent feerate is {}", fee_rate(whole), fee_rate(alone));
        return Err(refuse("package feerate is less than or equal to parent feerate", debug));
    }
    let staged = pool.staged(candidates, &replaced);
    if !staged.within_limits() {
        return Err(PackageReject::policy("too-large-cluster", ""));
    }
    if compare_diagrams(&staged.after(), &staged.before) != Some(Ordering::Greater) {
        return Err(refuse(NO_BETTER_DIAGRAM, String::new()));
    }
    Ok(replaced)
}

/// Core's `GetEntriesForConflicts`: conflicts with their descendants, unless they are in too many clusters.
fn conflicting(pool: &Pool, txid: Txid, conflicts: &BTreeSet<Txid>) -> Result<BTreeSet<Txid>, String> {
    let clusters = pool.cluster_count(conflicts);
    if clusters > MAX_REPLACEMENT_CANDIDATES {
        return Err(format!(
            "rejecting replacement {txid}; too many conflicting clusters ({clusters} > {MAX_REPLACEMENT_CANDIDATES})"
        ));
    }
    Ok(pool.with_descendants(conflicts.iter().copied()))
}

fn modified_fees(pool: &Pool, txids: &BTreeSet<Txid>) -> i64 {
    let fees = txids.iter().filter_map(|txid| pool.get(txid)).map(|member| member.entry.modified_fee);
    fees.fold(0, i64::saturating_add)
}

/// Core's `PaysForRBF`.
fn pays_for_itself(txid: Txid, original: i64, fee: i64, vsize: u64, incremental_rate: u64) -> Result<(), String> {
    if fee < original {
        return Err(format!(
            "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
            money(fee),
            money(original)
        ));
    }
    let (additional, needed) = (fee.saturating_sub(original), fee_at_rate(incremental_rate, vsize));
    let needed = i64::try_from(needed).unwrap_or(i64::MAX);
    if additional < needed {
        return Err(format!(
            "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
            money(additional),
            money(needed)
        ));
    }
    Ok(())
}

/// Core's `CFeeRate::ToString` of a fee over vbytes.
fn fee_rate(rate: FeeFrac) -> String {
    let rate = rate.per_thousand();
    format!("{}.{:08} BTC/kvB", rate / 100_000_000, (rate % 100_000_000).abs())
}

/// Core's `FormatMoney`: bitcoins with at least two decimals.
fn money(satoshi: i64) -> String {
    let sign = if satoshi < 0 { "-" } else { "" };
    let satoshi = satoshi.unsigned_abs();
    let text = format!("{sign}{}.{:08}", satoshi / 100_000_000, satoshi % 100_000_000);
    let (kept, tail) = text.split_at(text.len() - 6);
    format!("{kept}{}", tail.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::money;

    #[test]
    fn money_keeps_two_decimals() {
        let cases = [
            (0, "0.00"),
            (1, "0.00000001"),
            (-1, "-0.00000001"),
            (100_000_000, "1.00"),
            (150_000_000, "1.50"),
            (1_230_000, "0.0123"),
        ];
        for (satoshi, text) in cases {
            assert_eq!(money(satoshi), text);
        }
    }
}
