//! Which inbound peer is let go when all places are taken.
