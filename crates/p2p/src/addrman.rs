//! The address manager: which nodes are known, tried or only heard of. Persistent.
