//! Rolling Bloom filters: which of the last N things were seen.
