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
/// Bytes queued for a peer above which nothing more is answered until it reads (`-maxsendbuffer`).
pub const MAX_SEND_BUFFER: usize = 1_000_000;
/// Blocks asked of one peer at a time (`MAX_BLOCKS_IN_TRANSIT_PER_PEER`).
pub const MAX_BLOCKS_IN_TRANSIT_PER_PEER: usize = 16;
/// How far ahead of the last block in common blocks are fetched (`BLOCK_DOWNLOAD_WINDOW`).
pub const BLOCK_DOWNLOAD_WINDOW: u32 = 1024;
/// Bytes of blocks that came and wait for their validation, above which none are asked for.
pub const MAX_UNVALIDATED_BLOCK_BYTES: usize = 32 << 20;
/// Blocks that a pruned node serves (`NODE_NETWORK_LIMITED_MIN_BLOCKS`).
pub const NODE_NETWORK_LIMITED_MIN_BLOCKS: u32 = 288;
/// Blocks announced one by one (`MAX_BLOCKS_TO_ANNOUNCE`).
pub const MAX_BLOCKS_TO_ANNOUNCE: usize = 8;
/// Peers that a block may be fetched from at once as a compact block (`MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK`).
pub const MAX_CMPCTBLOCKS_IN_FLIGHT: usize = 3;
/// Peers that announce new blocks as compact blocks, unasked (BIP 152).
pub const MAX_HB_PEERS: usize = 3;
/// Time a peer may keep the download window from moving (`BLOCK_STALLING_TIMEOUT_DEFAULT`).
pub const BLOCK_STALLING_TIMEOUT: Duration = Duration::from_secs(2);
/// What that becomes at most where it seems to be our own line that is slow (`BLOCK_STALLING_TIMEOUT_MAX`).
pub const BLOCK_STALLING_TIMEOUT_MAX: Duration = Duration::from_secs(64);
/// Time between pings (`PING_INTERVAL`).
pub const PING_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// Time for the answer to one (`TIMEOUT_INTERVAL`).
pub const PING_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Time for the answer to `getheaders` (`HEADERS_RESPONSE_TIME`).
pub const HEADERS_RESPONSE_TIME: Duration = Duration::from_secs(2 * 60);
/// Time for the first synchronisation of headers (`HEADERS_DOWNLOAD_TIMEOUT_BASE`), and for each header expected.
pub const HEADERS_DOWNLOAD_TIMEOUT_BASE: Duration = Duration::from_secs(15 * 60);
/// See [`HEADERS_DOWNLOAD_TIMEOUT_BASE`] (`HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER`).
pub const HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER: Duration = Duration::from_millis(1);
/// Time an outbound peer has to catch up with our chain (`CHAIN_SYNC_TIMEOUT`).
pub const CHAIN_SYNC_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Time for a connection to be made (`DEFAULT_CONNECT_TIMEOUT`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a peer may take to read what was sent to it (`TIMEOUT_INTERVAL`).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Frames written at once.
pub const FRAMES_AT_ONCE: usize = 32;
/// Things that happened and wait for the engine.
pub const MAX_QUEUED_EVENTS: usize = 256;
/// Inbound connections (`DEFAULT_MAX_PEER_CONNECTIONS` less the outbound ones).
pub const MAX_INBOUND: usize = 114;
/// Time between attempts to reach a peer that was asked for: the first, and what it grows to.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);
/// See [`RETRY_FIRST`].
pub const RETRY_LAST: Duration = Duration::from_secs(60);
/// Peers that may be asked for by `--connect` and `addnode`.
pub const MAX_ADDED_NODES: usize = 1000;
/// The oldest protocol version that is spoken (`MIN_PEER_PROTO_VERSION`).
pub const MIN_PEER_PROTO_VERSION: u32 = 31_800;
/// Bytes of a feature's identifier (BIP 434, `MAX_FEATUREID_LENGTH`).
pub const MAX_FEATUREID_LENGTH: usize = 80;
/// Bytes of a feature's data (BIP 434, `MAX_FEATUREDATA_LENGTH`).
pub const MAX_FEATUREDATA_LENGTH: usize = 512;
/// Bytes of garbage before BIP 324's terminator (`MAX_GARBAGE_LEN`).
pub const MAX_GARBAGE_LENGTH: usize = 4095;
/// Bytes of a BIP 324 packet's contents: a message with its type in full (`MAX_CONTENTS_LEN`).
pub const MAX_V2_CONTENTS_LENGTH: usize = 1 + 12 + MAX_PROTOCOL_MESSAGE_LENGTH;
/// Bytes that memory for a message may be ahead of what came of it (`MAX_RESERVE_AHEAD`).
pub const MAX_RESERVE_AHEAD: usize = 256 * 1024;
/// Weight of orphans that a peer may have kept, before they are let go for want of room
/// (`DEFAULT_RESERVED_ORPHAN_WEIGHT_PER_PEER`).
pub const RESERVED_ORPHAN_WEIGHT_PER_PEER: u64 = 404_000;
/// Announcements of orphans, and a tenth of their inputs, of all peers together (`DEFAULT_MAX_ORPHANAGE_LATENCY_SCORE`).
pub const MAX_ORPHANAGE_LATENCY_SCORE: u64 = 3000;
/// Weight of one orphan (`MAX_STANDARD_TX_WEIGHT`).
pub const MAX_ORPHAN_WEIGHT: u64 = 400_000;
/// Transactions being asked of a peer from which on others are asked first (`MAX_PEER_TX_REQUEST_IN_FLIGHT`).
pub const MAX_PEER_TX_REQUEST_IN_FLIGHT: usize = 100;
/// Announcements of transactions kept of a peer (`MAX_PEER_TX_ANNOUNCEMENTS`).
pub const MAX_PEER_TX_ANNOUNCEMENTS: usize = 5000;
/// Transactions announced at once, at an average rate of what comes (`INVENTORY_BROADCAST_TARGET`).
pub const INVENTORY_BROADCAST_TARGET: usize = 70;
/// Transactions announced at once at most, however many wait (`INVENTORY_BROADCAST_MAX`).
pub const INVENTORY_BROADCAST_MAX: usize = 1000;

// Addresses of nodes. With these, whoever fills the address manager from one group of addresses gets no more than
// ADDRMAN_NEW_BUCKETS_PER_SOURCE_GROUP * ADDRMAN_BUCKET_SIZE places of those heard of, and one group no more than
// ADDRMAN_TRIED_BUCKETS_PER_GROUP * ADDRMAN_BUCKET_SIZE of those tried.

/// Buckets of addresses that were only heard of (`ADDRMAN_NEW_BUCKET_COUNT`).
pub const ADDRMAN_NEW_BUCKET_COUNT: u16 = 1024;
/// Buckets of addresses that were connected to (`ADDRMAN_TRIED_BUCKET_COUNT`).
pub const ADDRMAN_TRIED_BUCKET_COUNT: u16 = 256;
/// Addresses in a bucket.
pub const ADDRMAN_BUCKET_SIZE: u16 = 64;
/// Buckets over which tried addresses of one group are spread.
pub const ADDRMAN_TRIED_BUCKETS_PER_GROUP: u64 = 8;
/// Buckets over which addresses heard of from one group are spread.
pub const ADDRMAN_NEW_BUCKETS_PER_SOURCE_GROUP: u64 = 64;
/// Places that one address can have among those heard of.
pub const ADDRMAN_NEW_BUCKETS_PER_ADDRESS: u8 = 8;
/// Tried addresses that wait for a test before another takes their place.
pub const ADDRMAN_SET_TRIED_COLLISION_SIZE: usize = 10;
/// Addresses that are not told to others once they were not seen for so long.
pub const ADDRMAN_HORIZON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bytes of `peers.dat` that are read: a full address manager has less.
pub const MAX_PEERS_FILE_SIZE: usize = 16 << 20;
/// Addresses that are remembered to be discouraged: at least the last so many, at most half as many again
/// (`m_discouraged`). They are what peers can make us remember; bans are the operator's, and have no bound.
pub const MAX_DISCOURAGED: u32 = 50_000;
/// How often an address seems to be discouraged that is not.
pub const DISCOURAGED_FALSE_POSITIVES: f64 = 0.000_001;
/// Bytes of `banlist.json` that are read: some hundred thousand bans.
pub const MAX_BANLIST_FILE_SIZE: usize = 64 << 20;
/// Peers that are remembered over a restart (`MAX_BLOCK_RELAY_ONLY_ANCHORS`).
pub const MAX_BLOCK_RELAY_ONLY_ANCHORS: usize = 2;
/// Bytes of `anchors.dat` that are read.
pub const MAX_ANCHORS_FILE_SIZE: usize = 1024;

// Addresses that peers tell.

/// Addresses of a peer that are looked at, by the second; more are dropped (`MAX_ADDR_RATE_PER_SECOND`).
pub const MAX_ADDR_RATE_PER_SECOND: f64 = 0.1;
/// How many of those it can save up (`MAX_ADDR_PROCESSING_TOKEN_BUCKET`). It begins with one, for its own; and after we
/// asked for addresses it may send [`MAX_ADDR_TO_SEND`] more.
pub const MAX_ADDR_PROCESSING_TOKEN_BUCKET: f64 = MAX_ADDR_TO_SEND as f64;
/// Percent of all that we know which a peer is told (`MAX_PCT_ADDR_TO_SEND`).
pub const MAX_PCT_ADDR_TO_SEND: usize = 23;
/// Addresses that a peer is remembered to know: at least the last so many, at most half as many again (`m_addr_known`).
pub const MAX_ADDR_KNOWN: u32 = 5000;
/// How often a peer seems to know an address that it does not.
pub const ADDR_KNOWN_FALSE_POSITIVES: f64 = 0.001;
/// Addresses in a message up to which they are news, and told on.
pub const MAX_ADDR_NEWS: usize = 10;
/// Peers that an address is told on to (`RelayAddress`).
pub const MAX_ADDR_RELAY_PEERS: usize = 2;
/// Answers to `getaddr` that are kept, each for one of our sockets and one network.
pub const MAX_ADDR_RESPONSE_CACHES: usize = 16;
/// Blocks that a `getcfilters` may be of (`MAX_GETCFILTERS_SIZE`).
pub const MAX_GETCFILTERS_SIZE: u32 = 1000;
/// Blocks that a `getcfheaders` may be of (`MAX_GETCFHEADERS_SIZE`).
pub const MAX_GETCFHEADERS_SIZE: u32 = 2000;
/// Outbound peers for everything that are chosen by the node itself (`MAX_OUTBOUND_FULL_RELAY_CONNECTIONS`).
pub const MAX_OUTBOUND_FULL_RELAY: usize = 8;
/// Outbound peers for blocks alone (`MAX_BLOCK_RELAY_ONLY_CONNECTIONS`).
pub const MAX_BLOCK_RELAY_ONLY: usize = 2;
/// Average time between feelers (`FEELER_INTERVAL`).
pub const FEELER_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// Addresses drawn for one connection before it is left for later.
pub const MAX_ADDRESS_DRAWS: usize = 100;
/// Time before an address is tried again while there are others.
pub const ADDRESS_RETRY: Duration = Duration::from_secs(10 * 60);
/// Addresses with which DNS seeds are asked late (`DNSSEEDS_DELAY_PEER_THRESHOLD`).
pub const ENOUGH_ADDRESSES: usize = 1000;
/// Time before DNS seeds are asked where few addresses are known (`DNSSEEDS_DELAY_FEW_PEERS`).
pub const SEED_DELAY: Duration = Duration::from_secs(11);
/// Time before DNS seeds are asked where many are (`DNSSEEDS_DELAY_MANY_PEERS`).
pub const SEED_DELAY_MANY: Duration = Duration::from_secs(5 * 60);
/// Outbound peers with which no DNS seed is asked.
pub const ENOUGH_OUTBOUND_FOR_NO_SEEDS: usize = 2;
/// Addresses taken from one DNS seed (`MAX_IPS`).
pub const MAX_SEED_ADDRESSES: usize = 32;
/// How long ago a node from a DNS seed counts as seen.
pub const SEED_AGE: Duration = Duration::from_secs(3 * 24 * 3600);
/// Blocks intervals without a new block after which another outbound peer is looked for.
pub const STALE_TIP_INTERVALS: u32 = 3;
/// Time an outbound peer is kept at least, where there is one too many (`MINIMUM_CONNECT_TIME`).
pub const MINIMUM_CONNECT_TIME: Duration = Duration::from_secs(30);
/// Entries of a `getdata` that we send (`MAX_GETDATA_SZ`).
pub const MAX_GETDATA_SIZE: usize = 1000;
/// Bytes of a message of a peer that was not asked for a block: enough for the longest inventory.
pub const MAX_UNASKED_MESSAGE_LENGTH: usize = 2_000_000;
/// Bytes of what a peer said that may wait to be looked at; until then no more is read of it (Core's
/// `-maxreceivebuffer` is five times that).
pub const MAX_WAITING_BYTES: usize = 1_000_000;
/// Time after which a transaction of our own is told again that no peer asked for.
pub const UNBROADCAST_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// By how much longer, on average.
pub const UNBROADCAST_SPREAD: Duration = Duration::from_secs(150);
/// Time without asking for blocks after one could not be taken in for a reason of our own, such as a full disk.
pub const REST_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Blocks announced before they were validated that are kept for who asks for them.
pub const MAX_EARLY_BLOCKS: usize = 3;
/// Time after which, near the tip, the next block is asked of another peer too.
pub const BLOCK_OVERDUE: Duration = Duration::from_secs(10);
