-- One row for each commitment of the calendar: what one group commit made durable.
CREATE TABLE stamp_batches (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    commitment BLOB NOT NULL UNIQUE, -- 44 bytes: time, Merkle root, HMAC
    salt       BLOB NOT NULL,        -- 16 bytes that the leaves' nonces derive from
    leaf_count BIGINT NOT NULL,
    roots      BLOB NOT NULL,        -- Merkle roots of the chunks of 1,024 leaves; empty where there is only one
    created_at BIGINT NOT NULL,      -- milliseconds since 1970
    seq        BIGINT UNIQUE,        -- dense order in which batches are stamped; given after the commit
    total      BIGINT                -- digests up to and including this batch, in order of seq
);

-- The posted digests of a batch, in chunks of 1,024.
CREATE TABLE stamp_leaves (
    id     INTEGER PRIMARY KEY, -- batch * 64 + chunk
    leaves BLOB NOT NULL
);

-- Sorted runs of 16-byte keys that find a digest's batch and leaf.
CREATE TABLE stamp_runs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tier    BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    live    BIGINT NOT NULL -- 0: being written, or replaced and to be deleted
);
CREATE TABLE stamp_run_pages (
    run_id    BIGINT NOT NULL,
    first_key BLOB NOT NULL,
    page      BLOB NOT NULL,
    UNIQUE (run_id, first_key)
);

-- A round is a chain of transactions that replace each other (BIP 125), of which one confirms.
CREATE TABLE stamp_rounds (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    first_seq      BIGINT NOT NULL,
    limit_seq      BIGINT,          -- it may not grow beyond; NULL: no limit
    state          TEXT NOT NULL,   -- open, abandoned, buried
    refused_height BIGINT,          -- tip at which the node first refused all versions for missing inputs
    created_at     BIGINT NOT NULL
);
CREATE TABLE stamp_versions (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    round_id     BIGINT NOT NULL REFERENCES stamp_rounds (id),
    first_seq    BIGINT NOT NULL,
    upto_seq     BIGINT NOT NULL,
    tip          BLOB NOT NULL,   -- Merkle root of the round's commitments, in the OP_RETURN
    roots        BLOB NOT NULL,   -- Merkle roots of chunks of 256 commitments
    txid         BLOB NOT NULL UNIQUE,
    tx           BLOB NOT NULL,
    fee          BIGINT NOT NULL, -- satoshi
    fee_rate     BIGINT NOT NULL, -- satoshi for 1,000 vbytes
    built_height BIGINT NOT NULL, -- tip when it was built
    created_at   BIGINT NOT NULL,
    block_height BIGINT,
    block_time   BIGINT,          -- seconds since 1970
    block_hash   BLOB,
    branch       BLOB             -- serialised operations from tip to the block's Merkle root
);
CREATE INDEX stamp_versions_round ON stamp_versions (round_id);
CREATE INDEX stamp_versions_confirmed ON stamp_versions (upto_seq) WHERE block_hash IS NOT NULL;

-- The newest blocks that the stamper has followed.
CREATE TABLE stamp_blocks (
    height INTEGER PRIMARY KEY,
    hash   BLOB NOT NULL
);
