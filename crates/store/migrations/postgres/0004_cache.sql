-- Values that can be computed anew. Times are milliseconds since 1970.
CREATE TABLE cache_entries (
    cache_key  TEXT COLLATE "C" PRIMARY KEY,
    value      BYTEA NOT NULL,
    size       BIGINT NOT NULL,      -- bytes of the key and the value
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
-- The sizes are counted, and the first to expire found, without the values.
CREATE INDEX cache_entries_expiry ON cache_entries (expires_at, size);
ALTER TABLE cache_entries SET (autovacuum_vacuum_scale_factor = 0.05);
