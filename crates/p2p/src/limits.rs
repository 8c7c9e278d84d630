//! Every bound on what peers may cost, in one place, by Core's name where Core has it. Each has a test.

use std::time::Duration;

/// Bytes of a message's payload (Core's `MAX_PROTOCOL_MESSAGE_LENGTH`).
pub const MAX_PROTOCOL_MESSAGE_LENGTH: usize = 4_000_000;
/// Headers in a `headers` message (`m_opts.max_headers_result`).
pub const MAX_HEADERS_RESULTS: usize = 2000;
/// Entries of an `inv`, `getdata` or `notfound` (`MAX_INV_SZ`).
pub const MAX_INV_SIZE: usize = 50_000;
/// Addresses in an `addr` or `addrv2` (`MAX_ADDR_TO_SEND`).
pub const MAX_ADDR_TO_SEND: usize = 1000;
/// Bytes of a user agent (`MAX_SUBVERSION_LENGTH`).
pub const MAX_SUBVERSION_LENGTH: usize = 256;
/// Hashes of a block locator (`MAX_LOCATOR_SZ`).
pub const MAX_LOCATOR_SIZE: usize = 101;
/// Time a connection has to finish the version handshake (`DEFAULT_PEER_CONNECT_TIMEOUT`).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that one sync of headers with too little work takes, until 2030 and on every network: a bit for each period of the
/// longest chain that the clock allows, and the redownload buffer with one message more.
pub const MAX_HEADERS_SYNC_MEMORY: usize = 2 << 20;
/// Transactions of a compact block: their indexes have 16 bits (BIP 152). Core's `MAX_BLOCK_WEIGHT /
/// MIN_SERIALIZABLE_TRANSACTION_WEIGHT` is more.
pub const MAX_COMPACT_BLOCK_TRANSACTIONS: usize = 65_535;
/// Transactions outside the mempool kept for compact blocks (`DEFAULT_BLOCK_RECONSTRUCTION_EXTRA_TXN`).
pub const MAX_EXTRA_TRANSACTIONS: usize = 100;
/// Serialised bytes of all those.
pub const MAX_EXTRA_TRANSACTION_BYTES: usize = 2 << 20;
/// Blocks below the tip from which a compact block is still sent, instead of a whole one (`MAX_CMPCTBLOCK_DEPTH`).
pub const MAX_CMPCTBLOCK_DEPTH: u32 = 5;
/// Blocks below the tip from which a `getblocktxn` is still answered, instead of with a whole block (`MAX_BLOCKTXN_DEPTH`).
pub const MAX_BLOCKTXN_DEPTH: u32 = 10;
