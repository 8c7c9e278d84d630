//! OpenTimestamps: the proof format, the calendar, and the transactions that anchor it.
//!
//! | module | holds |
//! |---|---|
//! | `ots` | the `.ots` codec: operations, attestations, timestamps, merging, canonical order, Merkle trees |
//! | `verify` | replaying a proof against block headers |
//! | `digests` | many digests in little memory |
//! | `journal` | group commit: batches, their trees and proofs up to the commitment |
//! | `calendar` | what is known of commitments and digests; the calendar protocol's answers |
//! | `index` | background upkeep of the runs that find a digest |
//! | `stamper` | one transaction a block, recorded before it is sent, replaced until it is buried |

pub mod calendar;
pub mod digests;
mod index;
mod journal;
pub mod ots;
pub mod stamper;

pub mod verify;

pub use calendar::{
    BulkReceipt, Calendar, CalendarConfig, CalendarError, Lookup, StampEvent, StampState, StampStats, StampStatus,
    SubmitError,
};
pub use digests::Digests;
pub use stamper::{StampError, Stamper, StamperConfig};
