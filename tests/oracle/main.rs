//! The same blocks to our engine and to Bitcoin Core's: verdicts, reasons and tips agree.
//!
//! | module | shows |
//! |---|---|
//! | `engines` | a pair of engines that is given the same blocks |
//! | `coins` | coins of every kind of output, and transactions that spend them |
//! | `catalogue` | one mutation for each rule, with Core's reason |
//! | `edges` | blocks exactly at a limit, and one beyond |
//! | `spends` | a script in an output of some kind, and what spends it |
//! | `scripts`, `limits`, `signatures` | one spend for each way in which a script fails |
//! | `sighashes` | every type of signature hash for every kind of coin |
//! | `networks` | blocks of the other networks, and a signet of its own |
//! | `random` | mutations at random, counted by reason |
//! | `trees` | branches that compete, given in any order |
//! | `verify` | scripts at random, with every set of flags |
//!
//! `cargo nextest run -p cairn --features oracle --test oracle`. `CAIRN_ORACLE_BLOCKS` and
//! `CAIRN_ORACLE_SCRIPTS` say how many random mutants, `CAIRN_ORACLE_SEED` which.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod catalogue;
mod coins;
mod edges;
mod engines;
mod limits;
mod networks;
mod random;
mod scripts;
mod sighashes;
mod signatures;
mod spends;
mod trees;
mod verify;

/// Names of all mutations and scripts.
pub(crate) fn names() -> Vec<&'static str> {
    [catalogue::names(), edges::names(), networks::names(), scripts::names()].concat()
}

/// `docs/consensus.md` names each mutation and script once, and no others.
#[test]
fn the_document_names_what_is_tested() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is");
    let path = std::path::Path::new(&here).join("../../docs/consensus.md");
    let text = std::fs::read_to_string(path).expect("docs/consensus.md");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let held = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let mut named: Vec<&str> = held.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let mut tested = names();
    named.sort_unstable();
    tested.sort_unstable();
    assert_eq!(named, tested);
}
