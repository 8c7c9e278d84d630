//! Compact blocks (BIP 152): made, sent, and put together again from the mempool.
