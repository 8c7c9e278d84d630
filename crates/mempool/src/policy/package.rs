//! What holds of several transactions whatever chain and mempool hold: Core's `policy/packages`.

use bitcoin::{OutPoint, Transaction, Txid};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Most transactions in a package.
pub const MAX_PACKAGE_COUNT: usize = 25;
/// Most weight of a package of more than one.
pub(crate) const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// Core's `PackageValidationResult`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackageRejectKind {
    /// The package as such breaks a rule.
    Policy,
    /// A transaction of it does.
    Transaction,
}

/// Why a package is not taken whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageReject {
    /// Class.
    pub kind: PackageRejectKind,
    /// Core's reject reason, such as `package-not-sorted`.
    pub reason: Cow<'static, str>,
    /// Core's debug message, or empty.
    pub debug: String,
}

impl PackageReject {
    pub(crate) fn policy(reason: impl Into<Cow<'static, str>>, debug: impl Into<String>) -> Self {
        Self { kind: PackageRejectKind::Policy, reason: reason.into(), debug: debug.into() }
    }

    pub(crate) fn transaction(reason: &'static str) -> Self {
        Self { kind: PackageRejectKind::Transaction, reason: reason.into(), debug: String::new() }
    }
}

impl fmt::Display for PackageReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.debug.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}, {}", self.reason, self.debug) }
    }
}
impl std::error::Error for PackageReject {}

/// Core's `IsWellFormedPackage`.
pub(crate) fn check_well_formed(package: &[Arc<Transaction>]) -> Result<(), PackageReject> {
    let refuse = |reason: &'static str| Err(PackageReject::policy(reason, ""));
    if package.len() > MAX_PACKAGE_COUNT {
        return refuse("package-too-many-transactions");
    }
    // Of a single transaction it is better to hear what is wrong with it.
    if package.len() > 1 && package.iter().map(|tx| tx.weight().to_wu()).sum::<u64>() > MAX_PACKAGE_WEIGHT {
        return refuse("package-too-large");
    }
    let txids: Vec<Txid> = package.iter().map(|tx| tx.compute_txid()).collect();
    let mut later: HashSet<Txid> = txids.iter().copied().collect();
    if later.len() != package.len() {
        return refuse("package-contains-duplicates");
    }
    for (tx, txid) in package.iter().zip(&txids) {
        if tx.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return refuse("package-not-sorted");
        }
        later.remove(txid);
    }
    let mut spent: HashSet<OutPoint> = HashSet::new();
    for tx in package {
        // That a transaction spends one coin twice is for its own check to say.
        if tx.input.is_empty() || tx.input.iter().any(|input| spent.contains(&input.previous_output)) {
            return refuse("conflict-in-package");
        }
        spent.extend(tx.input.iter().map(|input| input.previous_output));
    }
    Ok(())
}

/// Core's `IsChildWithParents`: more than one, and every one but the last is a parent of the last.
pub(crate) fn is_child_with_parents(package: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = package.split_last() else { return false };
    let spent: HashSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    !parents.is_empty() && parents.iter().all(|parent| spent.contains(&parent.compute_txid()))
}

/// Core's `IsChildWithParentsTree`: a child with its parents, of which none depends on another.
pub fn is_child_with_parents_tree(package: &[Arc<Transaction>]) -> bool {
    let Some((_, parents)) = package.split_last() else { return false };
    let txids: HashSet<Txid> = parents.iter().map(|parent| parent.compute_txid()).collect();
    let depends = |tx: &Arc<Transaction>| tx.input.iter().any(|input| txids.contains(&input.previous_output.txid));
    is_child_with_parents(package) && !parents.iter().any(depends)
}
