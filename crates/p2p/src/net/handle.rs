//! What others ask of the network, and are told of it.

use super::control::AddNodeError;
use super::manager::{Command, Manager};
use crate::transport::Info;
use crate::types::{ConnectionKind, PeerId, Time};
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, Txid, Wtxid};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// One peer, as `getpeerinfo` tells it.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its number.
    pub id: PeerId,
    /// Why there is a connection.
    pub kind: ConnectionKind,
    /// Where it is.
    pub address: SocketAddr,
    /// As whoever asked for the connection named it.
    pub name: Option<String>,
    /// Our side of the connection.
    pub bound: Option<SocketAddr>,
    /// Where it sees us.
    pub our_address: Option<SocketAddr>,
    /// What it offers.
    pub services: ServiceFlags,
    /// It wants transactions.
    pub relays_transactions: bool,
    /// When the last bytes went to it and came from it, a transaction and a block.
    pub last_send: Time,
    /// See `last_send`.
    pub last_received: Time,
    /// See `last_send`.
    pub last_transaction: Time,
    /// See `last_send`.
    pub last_block: Time,
    /// When the connection was made.
    pub connected: Time,
    /// Bytes sent and received, in all and by command.
    pub bytes_sent: u64,
    /// See `bytes_sent`.
    pub bytes_received: u64,
    /// See `bytes_sent`.
    pub sent_by_command: BTreeMap<&'static str, u64>,
    /// See `bytes_sent`.
    pub received_by_command: BTreeMap<&'static str, u64>,
    /// Its clock less ours, seconds.
    pub time_offset: i64,
    /// The last ping's time, the shortest, and how long one waits already.
    pub ping: Option<Time>,
    /// See `ping`.
    pub min_ping: Option<Time>,
    /// See `ping`.
    pub ping_wait: Option<Time>,
    /// Its protocol version and user agent; none before they came.
    pub version: u32,
    /// See `version`.
    pub user_agent: String,
    /// The height that it told at first.
    pub start_height: i32,
    /// The last header that it has in common with us; none while unknown.
    pub synced_headers: Option<u32>,
    /// The last block that it has in common with us; none while unknown.
    pub synced_blocks: Option<u32>,
    /// The best block that it is known to have.
    pub best_known: Option<BlockHash>,
    /// Height of the chain whose work is being proven.
    pub presynced_headers: Option<u32>,
    /// Heights of the blocks asked of it.
    pub in_flight: Vec<u32>,
    /// The mempool's sequence when transactions were last announced to it.
    pub last_inv_sequence: u64,
    /// Transactions that wait to be announced to it.
    pub inv_to_send: usize,
    /// It is told addresses of other nodes.
    pub addr_relay_enabled: bool,
    /// Addresses that it told and that were looked at.
    pub addr_processed: u64,
    /// Addresses that it told too fast, and that were not.
    pub addr_rate_limited: u64,
    /// Satoshi for 1,000 vbytes below which it wants no transactions.
    pub min_fee_filter: u64,
    /// We announce new blocks to it by compact block, unasked; and it to us.
    pub hb_from: bool,
    /// See `hb_from`.
    pub hb_to: bool,
    /// How its bytes are framed, and its id where it is encrypted.
    pub transport: Info,
}

/// A peer that was asked for.
#[derive(Debug, Clone)]
pub struct AddedNode {
    /// As it was named.
    pub name: String,
    /// Where it is, if there is a connection.
    pub connected: Option<SocketAddr>,
}

/// Bytes since the start.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
}

/// The way to a running network. Cheap to clone. Its questions block, [`Handle::summary`]
/// excepted: async callers put them on a blocking thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) tip: Arc<Notify>,
    connected: Arc<Mutex<Vec<Arc<Block>>>>,
}

/// What was asked of a network that does not run yet.
pub struct Asked(pub(super) mpsc::UnboundedReceiver<Command>);

/// Blocks that were connected and not looked at yet; more are not kept.
const MAX_CONNECTED: usize = 16;

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The network does not run any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the network is stopped")]
pub struct Stopped;

impl Handle {
    /// A handle, and what [`run`](super::run) takes.
    pub fn new() -> (Handle, Asked) {
        let (commands, asked) = mpsc::unbounded_channel();
        (Handle { commands, tip: Arc::default(), connected: Arc::default() }, Asked(asked))
    }

    /// A block became the tip. `block` is given where the chain is not far behind. Never blocks: for the chain's observer.
    pub fn tip_changed(&self, block: Option<Arc<Block>>) {
        if let Some(block) = block {
            let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
            if connected.len() < MAX_CONNECTED {
                connected.push(block);
            }
        }
        self.tip.notify_one();
    }

    pub(super) fn take_connected(&self) -> Vec<Arc<Block>> {
        std::mem::take(&mut *self.connected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Manager) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |manager| {
            // Whoever asked may have gone.
            let _ = answer.send(question(manager));
        });
        self.commands.send(command).map_err(|_| Stopped)?;
        Ok(answered)
    }

    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Manager) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.send(question)?.blocking_recv().map_err(|_| Stopped)
    }

    pub(super) async fn ask_async<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Manager) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.send(question)?.await.map_err(|_| Stopped)
    }

    /// All peers, in the order of their connections.
    pub fn peers(&self) -> Result<Vec<PeerInfo>, Stopped> {
        self.ask(|manager| manager.peers())
    }

    /// Asks for a peer, by BIP 324 or not.
    pub fn add_node(&self, name: String, v2: bool) -> Result<Result<(), AddNodeError>, Stopped> {
        self.ask(move |manager| manager.add_node(&name, v2))
    }

    /// Asks for a peer no more; false if it was not asked for.
    pub fn remove_node(&self, name: String) -> Result<bool, Stopped> {
        self.ask(move |manager| manager.remove_node(&name))
    }

    /// Tries to connect with a peer once, by BIP 324 or not.
    pub fn try_node(&self, name: String, v2: bool) -> Result<(), Stopped> {
        self.ask(move |manager| manager.try_once(name, v2))
    }

    /// Peers that were asked for.
    pub fn added_nodes(&self) -> Result<Vec<AddedNode>, Stopped> {
        self.ask(|manager| manager.added_nodes())
    }

    /// Ends a connection; false if there is none such.
    pub fn disconnect(&self, peer: PeerId) -> Result<bool, Stopped> {
        self.ask(move |manager| manager.close(peer))
    }

    /// Takes part in the network, or not.
    pub fn set_active(&self, active: bool) -> Result<(), Stopped> {
        self.ask(move |manager| manager.set_active(active))
    }

    /// Whether it takes part.
    pub fn is_active(&self) -> Result<bool, Stopped> {
        self.ask(|manager| manager.active)
    }

    /// Bytes since the start.
    pub fn totals(&self) -> Result<Totals, Stopped> {
        self.ask(|manager| manager.totals())
    }

    /// Tells peers of a transaction in the mempool. Never blocks.
    pub fn announce(&self, txid: Txid, wtxid: Wtxid) {
        // Where nobody listens any more there is nobody to tell.
        let _ = self.commands.send(Box::new(move |manager| manager.engine.announce_transaction(txid, wtxid)));
    }

    /// Looks at once at what is due. Never blocks.
    pub fn wake(&self) {
        self.tip.notify_one();
    }

    /// Pings all peers now.
    pub fn ping(&self) -> Result<(), Stopped> {
        self.ask(|manager| manager.engine.ping_all())
    }
}
