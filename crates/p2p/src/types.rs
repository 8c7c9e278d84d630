//! What all modules speak of: peers, connections, time.

use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid, Wtxid};
use std::sync::Arc;
use std::time::Duration;

/// Time since 1970 by the node's clock, which `setmocktime` sets.
pub type Time = Duration;

/// A peer, as Core's `NodeId`: never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why there is a connection, as Core's `ConnectionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// A peer came to us.
    Inbound,
    /// One of the outbound peers for everything.
    OutboundFullRelay,
    /// Asked for by `--connect` or `addnode`.
    Manual,
    /// Tries whether an address is one of a node.
    Feeler,
    /// An outbound peer for blocks alone: it hides what the network looks like.
    BlockRelay,
    /// Asks for addresses, then goes.
    AddrFetch,
}

impl ConnectionKind {
    /// Whether the peer came to us.
    pub fn is_inbound(self) -> bool {
        self == Self::Inbound
    }

    /// Core's `ConnectionTypeAsString`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::OutboundFullRelay => "outbound-full-relay",
            Self::Manual => "manual",
            Self::Feeler => "feeler",
            Self::BlockRelay => "block-relay-only",
            Self::AddrFetch => "addr-fetch",
        }
    }
}

/// A transaction by one of its two ids (Core's `GenTxid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GenTxid {
    /// Without its witnesses.
    Txid(Txid),
    /// With its witnesses (BIP 339).
    Wtxid(Wtxid),
}

impl GenTxid {
    /// The wtxid of a transaction.
    pub fn wtxid_of(tx: &Transaction) -> Self {
        Self::Wtxid(tx.compute_wtxid())
    }

    /// The hash, whichever of the two ids it is (Core's `ToUint256`).
    pub fn to_hash(self) -> TxHash {
        match self {
            Self::Txid(txid) => txid.to_byte_array(),
            Self::Wtxid(wtxid) => wtxid.to_byte_array(),
        }
    }
}

/// A txid or a wtxid, where it does not matter which: they are the same for a transaction without witnesses.
pub type TxHash = [u8; 32];

/// A transaction with its ids, which are computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayTx {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
}

impl RelayTx {
    /// Hashes a transaction.
    pub fn new(tx: Arc<Transaction>) -> Self {
        Self { txid: tx.compute_txid(), wtxid: tx.compute_wtxid(), tx }
    }

    /// Whether it has witnesses: without, its ids are the same.
    pub fn has_witness(&self) -> bool {
        self.txid.to_byte_array() != self.wtxid.to_byte_array()
    }
}
