//! Peers: what is said to them and what is believed of them.
//!
//! `node` gives it a chain and a mempool to read, and carries out what touches the disk: p2p asks for that through
//! bounded queues, and never blocks on it. It holds no rule of the chain: those are `consensus`'s. Everything that a
//! peer says is untrusted; every bound on it is a constant of [`limits`].
//!
//! | module | holds |
//! |---|---|
//! | [`types`] | what all modules speak of: peers, connections, time |
//! | [`clock`] | the node's time |
//! | [`limits`] | every bound on peers, in one place |
//! | [`message`] | messages to and from bytes |
//! | [`engine`] | what is said to each peer, and what follows from what it says |
//! | [`work`] | what touches the disk or runs scripts, beside the engine |
//! | [`link`] | what the engine holds of a connection |
//! | [`transport`] | a connection's bytes: v1 framing, BIP 324 encryption |
//! | [`address`], [`addrman`] | addresses of nodes: their groups, the persistent address manager |
//! | [`addrrelay`] | addresses that peers tell, and which peers they are told |
//! | [`anchors`] | peers that are remembered over a restart |
//! | [`book`] | addresses, bans and anchors together, and their files |
//! | [`persist`] | the files that peers are remembered in, and what becomes of damaged ones |
//! | [`bans`], [`eviction`] | who is kept out, and who is let go when it is full |
//! | [`headerssync`] | headers of a chain whose work is not known yet, held to nothing |
//! | [`compact`] | compact blocks (BIP 152) |
//! | [`filters`] | which requests for block filters are answered (BIP 157) |
//! | [`rolling`], [`txrequest`], [`orphanage`], [`txdownload`] | which transactions are asked of whom |
//! | [`trickle`], [`feefilter`], [`poisson`] | which transactions are announced to whom, and when |

pub mod address;
pub mod addrman;
pub mod addrrelay;
pub mod anchors;
pub mod bans;
pub mod book;
pub mod clock;
pub mod compact;
pub mod engine;
pub mod eviction;
pub mod feefilter;
pub mod filters;
pub mod headerssync;
pub mod limits;
pub mod link;
pub mod message;
pub mod net;
pub mod orphanage;
pub mod persist;
pub mod poisson;
pub mod rolling;
pub mod transport;
pub mod trickle;
pub mod txdownload;
pub mod txrequest;
pub mod types;
pub mod work;
