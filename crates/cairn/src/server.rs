//! The rooms of one process, started from the bottom up and stopped from the top down.
//!
//! | module | holds |
//! |---|---|
//! | `chain` | the data directory and the node |
//! | `mining` | a miner's pace, and the key of a signet's blocks |
//! | `services` | what stands on a node that serves the HTTP API: database, wallet, stamping |
//! | `progress` | what the terminal shows while the chain catches up |
//! | `listeners` | addresses |
//! | `snapshot` | beginning with a snapshot of the coins |
//! | `gateway` | a process of the load balancer |
//! | `stateless` | a process of the HTTP API without a chain |
//! | `worker` | a process that works for others |
//! | `signals` | what ends the process |

mod chain;
mod gateway;
mod listeners;
mod mining;
mod progress;
mod services;
mod signals;
mod snapshot;
mod stateless;
mod worker;

use crate::error::CliError;
use crate::settings::{NetworkName, Resolved};
use cairn_api::{ApiConfig, Cookie, Monitored};
use cairn_mining::pace::Pace;
use cairn_node::{Node, NodeEvent, PeersConfig};
pub(crate) use chain::node_config;
use chain::{chain_stopped, configured_reward, create_private_dir, mine_first_blocks, open_node};
pub(crate) use gateway::GatewayServer;
use listeners::Listener;
pub(crate) use mining::{SIGNET_BLOCK_TIME, pace};
use services::{Accounts, Services};
use signals::signal;
pub(crate) use stateless::StatelessServer;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
pub(crate) use worker::WorkerProcess;

/// What a process does besides keeping a chain and answering JSON-RPC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// Makes blocks on schedule.
    pub(crate) miner: bool,
    /// Serves the HTTP API, with a database, a wallet and stamping behind it. Otherwise HTTP has health and metrics only.
    pub(crate) web: bool,
    /// On regtest, mines at once what makes the first reward spendable.
    pub(crate) first_blocks: bool,
}

/// A running process.
pub(crate) struct Server {
    node: Arc<Node>,
    events: broadcast::Receiver<NodeEvent>,
    services: Option<Services>,
    api: ApiConfig,
    cookie: Cookie,
    /// The HTTP API, or health and metrics alone.
    http: Listener,
    rpc: Listener,
    p2p: Listener,
    peers: PeersConfig,
    /// Asks the process to stop.
    stop: CancellationToken,
    network: NetworkName,
    data_dir: PathBuf,
}

impl Server {
    /// Starts everything; the process answers when this returns.
    pub(crate) async fn start(resolved: &Resolved, role: Role, pace: Pace) -> Result<Server, CliError> {
        let reward = configured_reward(resolved)?;
        if role.miner && !role.web && reward.is_none() {
            return Err(CliError::usage("a miner without a wallet does not know where its rewards go")
                .remedy("give --mining-address ADDRESS (NODE_MINING_ADDRESS), or --web, whose wallet earns them"));
        }
        let peers = chain::peers_config(resolved)?;
        let config = node_config(resolved, role.web)?;
        if role.miner && !pace.block_time.is_zero() {
            mining::require_signet_key(&config)?;
        }
        // Bound before anything is created, so that a port in use costs nothing.
        let http = match role.web {
            true => Listener::bind(resolved.http(), "--http").await?,
            false => Listener::bind(resolved.metrics(), "--metrics").await?,
        };
        let rpc = Listener::bind(resolved.rpc(), "--rpc").await?;
        let p2p = Listener::bind(resolved.p2p(role.web && !role.miner), "--p2p").await?;
        let network = resolved.settings.network;
        let dir = resolved.network_dir();
        create_private_dir(&resolved.data_dir)?;
        create_private_dir(&dir)?;

        let node = open_node(config).await?;
        let events = node.subscribe();
        let stop = CancellationToken::new();
        if let Some(source) = resolved.snapshot.clone() {
            snapshot::begin(&node, source, stop.child_token());
        }
        let accounts = match role.web {
            true => Some(Accounts::open(resolved).await?),
            false => None,
        };
        let reward = match (reward, &accounts) {
            (None, Some(accounts)) => Some(accounts.reward()?),
            (reward, _) => reward,
        };
        if let (true, NetworkName::Regtest, Some(reward)) = (role.first_blocks, network, &reward) {
            mine_first_blocks(&node, reward).await?;
        }
        let mut api = ApiConfig {
            rpc_user: resolved.settings.rpc.user.clone(),
            rpc_password: resolved.settings.rpc.password.clone(),
            ..ApiConfig::default()
        };
        let services = match accounts {
            Some(accounts) => {
                api = services::api_config(resolved, api)?;
                Some(Services::start(accounts, &node, resolved, http.address, api.clone(), pace.block_time).await?)
            }
            None => None,
        };
        let cookie = Cookie::create(&dir).map_err(|error| {
            CliError::failed(format!("{}: {error}", dir.join(".cookie").display()))
                .remedy("make the directory writable")
        })?;
        node.set_mining_share(pace.share);
        node.set_pacing(pace.pacing);
        if let Some(reward) = reward {
            node.start_mining(if role.miner { pace.block_time } else { Duration::ZERO }, reward);
        }
        Ok(Server {
            node,
            events,
            services,
            api,
            cookie,
            http,
            rpc,
            p2p,
            peers,
            stop,
            network,
            data_dir: resolved.data_dir.clone(),
        })
    }

    /// Serves until a signal, JSON-RPC's `stop` or a failing disk, then stops everything in order.
    pub(crate) async fn run(mut self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        // Before anybody is answered: who sees that it runs may stop it at once.
        let signalled = signal();
        let failed = {
            let (listener, node, closing) = (self.http.socket, self.node.clone(), serving.clone());
            let state = self.services.as_ref().map(|services| services.state.clone());
            let drain = self.api.drain();
            let http = async move {
                match state {
                    Some(state) => cairn_api::serve_http(listener, state, closing).await,
                    None => cairn_api::serve_monitoring(listener, Monitored::Node(node), drain, closing).await,
                }
            };
            let (node, stop) = (self.node.clone(), self.stop.clone());
            let rpc = cairn_api::serve_rpc(self.rpc.socket, node, &self.api, &self.cookie, stop, serving.clone());
            let network = self.node.clone().run_network(self.peers, Some(self.p2p.socket), serving.clone());
            let network = async {
                network.await;
                Ok(())
            };
            let servers = async { tokio::try_join!(http, rpc, network).map(|_| ()) };
            tokio::pin!(servers);
            let failed = tokio::select! {
                result = &mut servers => result.err(),
                () = self.stop.cancelled() => None,
                () = signalled => None,
                // What is then said is why writing out failed.
                () = chain_stopped(self.events) => None,
                () = progress::show(self.node.clone()) => None,
            };
            eprintln!("stopping…");
            self.stop.cancel();
            serving.cancel();
            match failed {
                Some(error) => Some(error),
                None => servers.await.err(),
            }
        };
        if let Some(services) = &mut self.services {
            services.stop().await;
        }
        let node = self.node.clone();
        let stopped = blocking(move || node.stop()).await?;
        if let Some(services) = self.services {
            services.close().await;
        }
        drop(self.cookie);
        stopped.map_err(CliError::failed)?;
        failed.map_or(Ok(()), |error| Err(CliError::failed(error)))
    }

    /// Where HTTP is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address
    }

    /// Whether HTTP is the whole API, or health and metrics only.
    pub(crate) fn serves_api(&self) -> bool {
        self.services.is_some()
    }

    pub(crate) fn rpc(&self) -> SocketAddr {
        self.rpc.address
    }

    pub(crate) fn p2p(&self) -> SocketAddr {
        self.p2p.address
    }

    pub(crate) fn network(&self) -> &'static str {
        self.network.directory()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn cookie(&self) -> &Path {
        self.cookie.path()
    }

    /// When blocks come, in words.
    pub(crate) fn schedule(&self) -> String {
        mining::in_words(self.node.chain.tip().height, &self.node.mining())
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CliError::failed(format!("internal: {error}")))
}
