//! OpenTimestamps: the proof format, the calendar, and the transactions that anchor it.
//!
//! | module | holds |
//! |---|---|
//! | `ots` | the `.ots` codec: operations, attestations, timestamps, merging, canonical order, Merkle trees |
//! | `verify` | replaying a proof against block headers |
//! | `calendar` | journal with group commit, look-ups, states |
//! | `stamper` | one transaction a block, recorded before it is sent, replaced until it is buried |

pub mod ots;

pub mod verify;
