//! Addresses of nodes: BIP 155 forms, which of them are routable, and the groups that diversity counts by.
