//! The peer-to-peer network of a node.

use crate::Node;
use bitcoin::Transaction;
use bitcoin::p2p::ServiceFlags;
use cairn_chain::Chain;
use cairn_consensus::error::TxReject;
use cairn_mempool::{Accepted, Mempool, PackageTxResult};
use cairn_p2p::engine;
use cairn_p2p::limits;
use cairn_p2p::net::{self, Asked, Handle, NetConfig, Summary};
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
        let result = self.take_package(txs, None);
        let each = result.transactions.into_iter().filter_map(|(wtxid, result)| match result {
            PackageTxResult::Accepted(_) => Some((wtxid, Ok(()))),
            PackageTxResult::Rejected(reject) => Some((wtxid, Err(reject))),
            PackageTxResult::InMempool { .. } | PackageTxResult::DifferentWitness(_) => None,
        });
        PackageOutcome { whole: result.failure.is_none(), each: each.collect() }
    }
}

/// How a node takes part in the network.
#[derive(Debug, Clone)]
pub struct Networking {
    /// The way to it.
    pub handle: Handle,
    /// What peers are told that it is, such as `/Cairn:0.1.0/`.
    pub user_agent: String,
    /// What it offers to peers.
    pub services: ServiceFlags,
    /// It was given peers to be connected with.
    pub given_peers: bool,
}

impl Networking {
    /// Whether encrypted connections (BIP 324) are spoken.
    pub fn v2(&self) -> bool {
        self.services.has(ServiceFlags::P2P_V2)
    }
}

impl Node {
    /// How it takes part in the network; none before [`Node::run_network`].
    pub fn networking(&self) -> Option<&Networking> {
        self.networking.get()
    }

    /// How the network stands; none where the node takes no part in it.
    pub async fn network_summary(&self) -> Option<Summary> {
        match self.networking() {
            Some(networking) => networking.handle.summary().await.ok(),
            None => None,
        }
    }

    /// Takes part in the network until `stop`; once. What is asked of the network waits until the future is polled.
    pub fn run_network(
        self: Arc<Self>,
        config: PeersConfig,
        listener: Option<TcpListener>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
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
        let networking = Networking {
            handle: self.network.clone(),
            user_agent: format!("/{}/", config.agent),
            services,
            given_peers: !config.connect.is_empty(),
        };
        // Known before anybody may ask, that is, before anything else runs.
        let networking = self.networking.get_or_init(|| networking).clone();
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            if let Some(asked) = asked {
                self.take_part(config, networking, asked, listener, stop).await;
            }
        }
    }

    async fn take_part(
        self: Arc<Self>,
        config: PeersConfig,
        Networking { handle, user_agent, services, given_peers }: Networking,
        asked: Asked,
        listener: Option<TcpListener>,
        stop: CancellationToken,
    ) {
        let params = self.chain.params();
        let listening = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let listen_port = listening.filter(|address| !address.ip().is_loopback()).map(|address| address.port());
        let config = NetConfig {
            engine: engine::Config { user_agent, services, listen_port },
            magic: params.magic,
            default_port: params.p2p_port,
            connect: config.connect,
            v2: config.v2,
            max_inbound: limits::MAX_INBOUND,
            automatic: !given_peers,
            network: params.network,
            dir: Some(self.chain.dir().to_owned()),
        };
        net::run(config, listener, self, rand::make_rng(), (handle, asked), stop).await;
    }
}
