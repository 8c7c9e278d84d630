-- One row for each commitment of the calendar: what one group commit made durable.
CREATE TABLE stamp_batches (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    commitment BYTEA NOT NULL UNIQUE, -- 44 bytes: time, Merkle root, HMAC
    salt       BYTEA NOT NULL,        -- 16 bytes that the leaves' nonces derive from
    leaf_count BIGINT NOT NULL,
    roots      BYTEA NOT NULL,        -- Merkle roots of the chunks of 1,024 leaves; empty where there is only one
    created_at BIGINT NOT NULL,      -- milliseconds since 1970
    seq        BIGINT UNIQUE,        -- dense order in which batches are stamped; given after the commit
    total      BIGINT                -- digests up to and including this batch, in order of seq
);

-- The posted digests of a batch, in chunks of 1,024.
CREATE TABLE stamp_leaves (
    id     BIGINT PRIMARY KEY, -- batch * 64 + chunk
    leaves BYTEA NOT NULL
);

-- Sorted runs of 16-byte keys that find a digest's batch and leaf.
CREATE TABLE stamp_runs (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tier    BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    live    BIGINT NOT NULL -- 0: being written, or replaced and to be deleted
);
CREATE TABLE stamp_run_pages (
    run_id    BIGINT NOT NULL,
    first_key BYTEA NOT NULL,
    page      BYTEA NOT NULL,
    UNIQUE (run_id, first_key)
);

-- A round is a chain of transactions that replace each other (BIP 125), of which one confirms.
CREATE TABLE stamp_rounds (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_seq      BIGINT NOT NULL,
    limit_seq      BIGINT,          -- it may not grow beyond; NULL: no limit
    state          TEXT NOT NULL,   -- open, abandoned, buried
    refused_height BIGINT,          -- tip at which the node first refused all versions for missing inputs
    created_at     BIGINT NOT NULL
);
CREATE TABLE stamp_versions (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    round_id     BIGINT NOT NULL REFERENCES stamp_rounds (id),
    first_seq    BIGINT NOT NULL,
    upto_seq     BIGINT NOT NULL,
    tip          BYTEA NOT NULL,   -- Merkle root of the round's commitments, in the OP_RETURN
    roots        BYTEA NOT NULL,   -- Merkle roots of chunks of 256 commitments
    txid         BYTEA NOT NULL UNIQUE,
    tx           BYTEA NOT NULL,
    fee          BIGINT NOT NULL, -- satoshi
    fee_rate     BIGINT NOT NULL, -- satoshi for 1,000 vbytes
    built_height BIGINT NOT NULL, -- tip when it was built
    created_at   BIGINT NOT NULL,
    block_height BIGINT,
    block_time   BIGINT,          -- seconds since 1970
    block_hash   BYTEA,
    branch       BYTEA             -- serialised operations from tip to the block's Merkle root
);
CREATE INDEX stamp_versions_round ON stamp_versions (round_id);
CREATE INDEX stamp_versions_confirmed ON stamp_versions (upto_seq) WHERE block_hash IS NOT NULL;

-- The newest blocks that the stamper has followed.
CREATE TABLE stamp_blocks (
    height BIGINT PRIMARY KEY,
    hash   BYTEA NOT NULL
);
