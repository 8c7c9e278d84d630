//! Which transaction is asked of which peer, and when.
