//! The peer-to-peer network of a node.

use crate::Node;
use bitcoin::Transaction;
use bitcoin::p2p::ServiceFlags;
use cairn_chain::Chain;
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, Mempool};
use cairn_p2p::engine;
use cairn_p2p::limits;
use cairn_p2p::net::{self, Handle, NetConfig};
use cairn_p2p::types::Time;
use cairn_p2p::work::{Host, PackageOutcome};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How a node takes part in the network.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Name and version in the user agent, such as `Cairn:0.1.0`.
    pub agent: String,
    /// Peers to be connected with, `host` or `host:port`.
    pub connect: Vec<String>,
    /// Encrypted connections (BIP 324) where the peer knows them.
    pub v2: bool,
    /// Block filters are served (BIP 157), where there is an index of them.
    pub filters: bool,
    /// The node keeps all blocks.
    pub all_blocks: bool,
}

impl Host for Node {
    fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }
    fn mempool(&self) -> &Arc<Mempool> {
        &self.mempool
    }
    fn now(&self) -> Time {
        self.clock().now()
    }
    fn is_initial_block_download(&self) -> bool {
        Node::is_initial_block_download(self)
    }
    fn wants_blocks(&self) -> bool {
        !self.awaiting_snapshot.load(Ordering::Relaxed)
    }
    fn accept_transaction(&self, tx: &Arc<Transaction>) -> Result<Accepted, TxReject> {
        self.take_transaction(Transaction::clone(tx))
    }
    fn accept_package(&self, txs: &[Arc<Transaction>]) -> PackageOutcome {
        let each: Vec<_> = txs
            .iter()
            .map(|tx| (tx.compute_wtxid(), self.take_transaction(Transaction::clone(tx)).map(|_| ())))
            .collect();
        PackageOutcome { whole: each.iter().all(|(_, result)| result.is_ok()), each }
    }
}

impl Node {
    /// The way to the network. It answers once [`Node::run_network`] runs.
    pub fn network(&self) -> &Handle {
        &self.network
    }

    /// Takes part in the network until `stop`; once.
    pub async fn run_network(
        self: Arc<Self>,
        config: PeersConfig,
        listener: Option<TcpListener>,
        stop: CancellationToken,
    ) {
        let Some(asked) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let params = self.chain.params();
        let mut services = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
        if config.all_blocks {
            services |= ServiceFlags::NETWORK;
        }
        if config.filters && self.chain.has_filter_index() {
            services |= ServiceFlags::COMPACT_FILTERS;
        }
        if config.v2 {
            services |= ServiceFlags::P2P_V2;
        }
        let listening = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let listen_port = listening.filter(|address| !address.ip().is_loopback()).map(|address| address.port());
        let automatic = config.connect.is_empty();
        let config = NetConfig {
            engine: engine::Config { user_agent: format!("/{}/", config.agent), services, listen_port },
            magic: params.magic,
            default_port: params.p2p_port,
            connect: config.connect,
            v2: config.v2,
            max_inbound: limits::MAX_INBOUND,
            automatic,
            network: params.network,
            dir: Some(self.chain.dir().to_owned()),
        };
        let handle = self.network.clone();
        net::run(config, listener, self, rand::make_rng(), (handle, asked), stop).await;
    }
}
