//! Topologically restricted transactions until confirmation (BIP 431): version 3, one parent and one child at most.

use super::reject;
use crate::pool::{Member, Pool};
use bitcoin::{Transaction, Txid, Wtxid};
use cairn_consensus::error::{TxReject, TxRejectKind};
use std::collections::BTreeSet;

/// Transactions of this version ask for these rules.
const TRUC_VERSION: i32 = 3;
/// Most transactions in a line of ancestors or descendants, the transaction itself included.
const TRUC_LIMIT: usize = 2;
/// Largest sigop-adjusted size in vbytes.
const TRUC_MAX_VSIZE: u64 = 10_000;
/// Largest sigop-adjusted size of one with an unconfirmed parent, in vbytes.
const TRUC_CHILD_MAX_VSIZE: u64 = 1000;

/// Core's `SingleTRUCChecks`. `Ok(Some(sibling))` when the transaction may come only in place of its parent's other child.
pub(crate) fn check(
    pool: &Pool,
    tx: &Transaction,
    txid: Txid,
    wtxid: Wtxid,
    vsize: u64,
    parents: &BTreeSet<Txid>,
    conflicts: &BTreeSet<Txid>,
) -> Result<Option<Txid>, TxReject> {
    let refuse = |debug: String| Err(reject(TxRejectKind::MempoolPolicy, "TRUC-violation", debug));
    let is_truc = tx.version.0 == TRUC_VERSION;
    let parents: Vec<(Txid, &Member)> = parents.iter().filter_map(|id| Some((*id, pool.get(id)?))).collect();
    for (parent_id, parent) in &parents {
        let parent_wtxid = parent.entry.wtxid;
        match (is_truc, parent.entry.tx.version.0 == TRUC_VERSION) {
            (false, true) => {
                return refuse(format!(
                    "non-version=3 tx {txid} (wtxid={wtxid}) cannot spend from version=3 tx {parent_id} (wtxid={parent_wtxid})"
                ));
            }
            (true, false) => {
                return refuse(format!(
                    "version=3 tx {txid} (wtxid={wtxid}) cannot spend from non-version=3 tx {parent_id} (wtxid={parent_wtxid})"
                ));
            }
            _ => {}
        }
    }
    if !is_truc {
        return Ok(None);
    }
    if vsize > TRUC_MAX_VSIZE {
        return refuse(format!(
            "version=3 tx {txid} (wtxid={wtxid}) is too big: {vsize} > {TRUC_MAX_VSIZE} virtual bytes"
        ));
    }
    let Some((parent_id, parent)) = parents.first() else { return Ok(None) };
    if parents.len() + 1 > TRUC_LIMIT || !parent.parents.is_empty() {
        return refuse(format!("tx {txid} (wtxid={wtxid}) would have too many ancestors"));
    }
    if vsize > TRUC_CHILD_MAX_VSIZE {
        return refuse(format!(
            "version=3 child tx {txid} (wtxid={wtxid}) is too big: {vsize} > {TRUC_CHILD_MAX_VSIZE} virtual bytes"
        ));
    }
    let descendants = pool.with_descendants(parent.children.iter().copied());
    if descendants.is_empty() || descendants.iter().any(|descendant| conflicts.contains(descendant)) {
        return Ok(None);
    }
    // A reorganisation can leave more than one child, or a grandchild: then it is not clear which one to replace.
    let lone = descendants.first().filter(|_| descendants.len() == 1);
    match lone.filter(|sibling| pool.get(sibling).is_some_and(|member| member.parents.len() == 1)) {
        Some(sibling) => Ok(Some(*sibling)),
        None => refuse(format!("tx {parent_id} (wtxid={}) would exceed descendant count limit", parent.entry.wtxid)),
    }
}
