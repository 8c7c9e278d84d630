//! Topologically restricted transactions until confirmation (BIP 431): version 3, one parent and one child at most.

use super::reject;
use crate::accept::{Prepared, Workspace};
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

/// How a transaction breaks these rules.
#[derive(Debug)]
pub(crate) struct Violation {
    /// Core's words.
    pub(crate) debug: String,
    /// The parent's other child, if the transaction may come in its place.
    pub(crate) sibling: Option<Txid>,
}

impl From<Violation> for TxReject {
    fn from(violation: Violation) -> Self {
        reject(TxRejectKind::MempoolPolicy, "TRUC-violation", violation.debug)
    }
}

fn refuse(debug: String) -> Result<(), Violation> {
    Err(Violation { debug, sibling: None })
}

fn is_truc(tx: &Transaction) -> bool {
    tx.version.0 == TRUC_VERSION
}

/// A transaction as messages name it.
fn named(txid: Txid, wtxid: Wtxid) -> String {
    format!("{txid} (wtxid={wtxid})")
}

/// Whether a parent and a child agree on the version.
fn check_inheritance(tx: &Transaction, name: &str, parent: &Transaction, parent_name: &str) -> Result<(), Violation> {
    match (is_truc(tx), is_truc(parent)) {
        (false, true) => refuse(format!("non-version=3 tx {name} cannot spend from version=3 tx {parent_name}")),
        (true, false) => refuse(format!("version=3 tx {name} cannot spend from non-version=3 tx {parent_name}")),
        _ => Ok(()),
    }
}

fn check_child_size(name: &str, vsize: u64) -> Result<(), Violation> {
    if vsize <= TRUC_CHILD_MAX_VSIZE {
        return Ok(());
    }
    refuse(format!("version=3 child tx {name} is too big: {vsize} > {TRUC_CHILD_MAX_VSIZE} virtual bytes"))
}

/// Core's `SingleTRUCChecks`, against the transaction's `parents` in the mempool.
pub(crate) fn check(
    pool: &Pool,
    new: &Prepared,
    vsize: u64,
    parents: &BTreeSet<Txid>,
    conflicts: &BTreeSet<Txid>,
) -> Result<(), Violation> {
    let name = named(new.txid, new.wtxid);
    let parents: Vec<(Txid, &Member)> = parents.iter().filter_map(|id| Some((*id, pool.get(id)?))).collect();
    for (parent_id, parent) in &parents {
        check_inheritance(&new.tx, &name, &parent.entry.tx, &named(*parent_id, parent.entry.wtxid))?;
    }
    if !is_truc(&new.tx) {
        return Ok(());
    }
    if vsize > TRUC_MAX_VSIZE {
        return refuse(format!("version=3 tx {name} is too big: {vsize} > {TRUC_MAX_VSIZE} virtual bytes"));
    }
    let Some((parent_id, parent)) = parents.first() else { return Ok(()) };
    if parents.len() + 1 > TRUC_LIMIT || !parent.parents.is_empty() {
        return refuse(format!("tx {name} would have too many ancestors"));
    }
    check_child_size(&name, vsize)?;
    let descendants = pool.with_descendants(parent.children.iter().copied());
    if descendants.is_empty() || descendants.iter().any(|descendant| conflicts.contains(descendant)) {
        return Ok(());
    }
    // A reorganisation can leave more than one child, or a grandchild: then it is not clear which one to replace.
    let lone = descendants.first().filter(|_| descendants.len() == 1);
    let sibling = lone.filter(|sibling| pool.get(sibling).is_some_and(|member| member.parents.len() == 1)).copied();
    let parent_name = named(*parent_id, parent.entry.wtxid);
    Err(Violation { debug: format!("tx {parent_name} would exceed descendant count limit"), sibling })
}

/// Core's `PackageTRUCChecks` of `new`, which has passed [`check`] and is one of `package`, parents before children.
pub(crate) fn check_in_package(pool: &Pool, new: &Workspace, package: &[Workspace]) -> Result<(), Violation> {
    let tx = &new.entry.tx;
    let name = named(new.txid, new.entry.wtxid);
    let spends = |tx: &Transaction, txid: Txid| tx.input.iter().any(|input| input.previous_output.txid == txid);
    let before = package.iter().take_while(|other| other.txid != new.txid);
    let in_package: Vec<&Workspace> = before.filter(|other| spends(tx, other.txid)).collect();
    let in_pool: Vec<(Txid, &Member)> = new.parents.iter().filter_map(|id| Some((*id, pool.get(id)?))).collect();
    if !is_truc(tx) {
        for (txid, member) in &in_pool {
            check_inheritance(tx, &name, &member.entry.tx, &named(*txid, member.entry.wtxid))?;
        }
        for parent in in_package {
            check_inheritance(tx, &name, &parent.entry.tx, &named(parent.txid, parent.entry.wtxid))?;
        }
        return Ok(());
    }
    let grandparents = in_pool.first().map_or(0, |(_, parent)| pool.ancestors(&parent.parents).len());
    if in_pool.len() + in_package.len() + grandparents + 1 > TRUC_LIMIT {
        return refuse(format!("tx {name} would have too many ancestors"));
    }
    // The one parent, and whether it has a child here.
    let (parent_id, parent, has_child) = match (in_pool.first(), in_package.first()) {
        (Some((txid, member)), _) => (*txid, &member.entry, !member.children.is_empty()),
        (None, Some(parent)) => (parent.txid, &parent.entry, false),
        (None, None) => return Ok(()),
    };
    check_child_size(&name, new.entry.vsize())?;
    let parent_name = named(parent_id, parent.wtxid);
    check_inheritance(tx, &name, &parent.tx, &parent_name)?;
    let exceeds = format!("tx {parent_name} would exceed descendant count limit");
    for other in package.iter().filter(|other| other.txid != new.txid) {
        for input in &other.entry.tx.input {
            if input.previous_output.txid == parent_id {
                return refuse(exceeds);
            }
            if input.previous_output.txid == new.txid {
                return refuse(format!("tx {} would have too many ancestors", named(other.txid, other.entry.wtxid)));
            }
        }
    }
    if has_child { refuse(exceeds) } else { Ok(()) }
}
