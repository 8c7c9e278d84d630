-- A height of 4294967295 means: in no block of the active chain.

CREATE TABLE wallets (
    name                TEXT PRIMARY KEY,
    network             TEXT NOT NULL,
    secret_kind         TEXT NOT NULL, -- 'plain' or 'age': how `secret` holds the BIP 39 words
    secret              BYTEA NOT NULL,
    external_descriptor TEXT NOT NULL, -- without private keys
    internal_descriptor TEXT NOT NULL,
    external_next       BIGINT NOT NULL, -- first index that was not given out
    internal_next       BIGINT NOT NULL,
    tip_height          BIGINT NOT NULL, -- last block that was applied
    tip_hash            BYTEA NOT NULL,
    created_at          BIGINT NOT NULL -- milliseconds since 1970
);

-- The scripts that were given out, so that opening a wallet derives no keys.
CREATE TABLE wallet_scripts (
    wallet   TEXT NOT NULL,
    keychain BIGINT NOT NULL, -- 0 external, 1 internal
    position BIGINT NOT NULL,
    script   BYTEA NOT NULL,
    PRIMARY KEY (wallet, keychain, position)
);

-- Blocks that the fork point of a reorganisation is looked for among.
CREATE TABLE wallet_checkpoints (
    wallet TEXT NOT NULL,
    height BIGINT NOT NULL,
    hash   BYTEA NOT NULL,
    PRIMARY KEY (wallet, height)
);

CREATE TABLE wallet_transactions (
    wallet   TEXT NOT NULL,
    txid     BYTEA NOT NULL,
    raw      BYTEA, -- none for coinbase transactions: the chain has them
    state    TEXT NOT NULL, -- 'pending', 'confirmed', 'replaced', 'abandoned', 'conflicted' or 'orphaned'
    coinbase BIGINT NOT NULL,
    height   BIGINT NOT NULL,
    time     BIGINT NOT NULL, -- the block's, or when it was recorded, seconds since 1970
    received BIGINT NOT NULL, -- satoshi
    sent     BIGINT NOT NULL, -- satoshi
    fee      BIGINT, -- satoshi, where all inputs are ours
    PRIMARY KEY (wallet, txid)
);
CREATE INDEX wallet_transactions_by_height ON wallet_transactions (wallet, height, txid);

CREATE TABLE wallet_coins (
    wallet       TEXT NOT NULL,
    txid         BYTEA NOT NULL,
    vout         BIGINT NOT NULL,
    keychain     BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    amount       BIGINT NOT NULL, -- satoshi
    coinbase     BIGINT NOT NULL,
    trusted      BIGINT NOT NULL, -- 1 where the transaction spends coins of ours
    height       BIGINT NOT NULL,
    spender      BYTEA, -- the pending or confirmed transaction that spends it
    spent_height BIGINT NOT NULL,
    PRIMARY KEY (wallet, txid, vout)
);
CREATE INDEX wallet_coins_unspent ON wallet_coins (wallet, amount) WHERE spender IS NULL;
CREATE INDEX wallet_coins_by_spender ON wallet_coins (wallet, spender) WHERE spender IS NOT NULL;
CREATE INDEX wallet_coins_by_height ON wallet_coins (wallet, height);
CREATE INDEX wallet_coins_by_spent_height ON wallet_coins (wallet, spent_height);
