//! Transactions whose parents are not here yet, within bounds for each peer.
