-- A height of 4294967295 means: in no block of the active chain.

CREATE TABLE wallets (
    name                TEXT PRIMARY KEY,
    network             TEXT NOT NULL,
    secret_kind         TEXT NOT NULL, -- 'plain' or 'age': how `secret` holds the BIP 39 words
    secret              BLOB NOT NULL,
    external_descriptor TEXT NOT NULL, -- without private keys
    internal_descriptor TEXT NOT NULL,
    external_next       INTEGER NOT NULL, -- first index that was not given out
    internal_next       INTEGER NOT NULL,
    tip_height          INTEGER NOT NULL, -- last block that was applied
    tip_hash            BLOB NOT NULL,
    created_at          INTEGER NOT NULL -- milliseconds since 1970
) WITHOUT ROWID;

-- The scripts that were given out, so that opening a wallet derives no keys.
CREATE TABLE wallet_scripts (
    wallet   TEXT NOT NULL,
    keychain INTEGER NOT NULL, -- 0 external, 1 internal
    position INTEGER NOT NULL,
    script   BLOB NOT NULL,
    PRIMARY KEY (wallet, keychain, position)
) WITHOUT ROWID;

-- Blocks that the fork point of a reorganisation is looked for among.
CREATE TABLE wallet_checkpoints (
    wallet TEXT NOT NULL,
    height INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    PRIMARY KEY (wallet, height)
) WITHOUT ROWID;

CREATE TABLE wallet_transactions (
    wallet   TEXT NOT NULL,
    txid     BLOB NOT NULL,
    raw      BLOB, -- none for coinbase transactions: the chain has them
    state    TEXT NOT NULL, -- 'pending', 'confirmed', 'replaced', 'abandoned', 'conflicted' or 'orphaned'
    coinbase INTEGER NOT NULL,
    height   INTEGER NOT NULL,
    time     INTEGER NOT NULL, -- the block's, or when it was recorded, seconds since 1970
    received INTEGER NOT NULL, -- satoshi
    sent     INTEGER NOT NULL, -- satoshi
    fee      INTEGER, -- satoshi, where all inputs are ours
    PRIMARY KEY (wallet, txid)
) WITHOUT ROWID;
CREATE INDEX wallet_transactions_by_height ON wallet_transactions (wallet, height, txid);

CREATE TABLE wallet_coins (
    wallet       TEXT NOT NULL,
    txid         BLOB NOT NULL,
    vout         INTEGER NOT NULL,
    keychain     INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    amount       INTEGER NOT NULL, -- satoshi
    coinbase     INTEGER NOT NULL,
    trusted      INTEGER NOT NULL, -- 1 where the transaction spends coins of ours
    height       INTEGER NOT NULL,
    spender      BLOB, -- the pending or confirmed transaction that spends it
    spent_height INTEGER NOT NULL,
    PRIMARY KEY (wallet, txid, vout)
) WITHOUT ROWID;
CREATE INDEX wallet_coins_unspent ON wallet_coins (wallet, amount) WHERE spender IS NULL;
CREATE INDEX wallet_coins_by_spender ON wallet_coins (wallet, spender) WHERE spender IS NOT NULL;
CREATE INDEX wallet_coins_by_height ON wallet_coins (wallet, height);
CREATE INDEX wallet_coins_by_spent_height ON wallet_coins (wallet, spent_height);
