//! A process that works for others: it takes tasks from a database that they share.

use super::chain::create_private_dir;
use super::listeners::Listener;
use super::services;
use super::signals::signal;
use crate::error::CliError;
use crate::settings::Resolved;
use cairn_api::Monitored;
use cairn_hashing::Hashes;
use cairn_jobs::{Jobs, RunningWorker, Worker};
use cairn_stamp::Calendar;
use cairn_store::Store;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A running process.
pub(crate) struct WorkerProcess {
    store: Store,
    calendar: Calendar,
    worker: RunningWorker,
    metrics: Listener,
    drain: Duration,
}

impl WorkerProcess {
    /// Starts it; it works when this returns.
    pub(crate) async fn start(
        resolved: &Resolved,
        metrics: SocketAddr,
        concurrency: Option<usize>,
        drain: Duration,
    ) -> Result<WorkerProcess, CliError> {
        let metrics = Listener::bind(metrics, "--metrics").await?;
        create_private_dir(&resolved.data_dir)?;
        create_private_dir(&resolved.network_dir())?;
        let store = services::open_store(resolved).await?;
        // Its address stands in the proofs of what it stamps: clients reach the API's, not a worker's.
        let calendar = services::calendar_config(resolved, resolved.http());
        let calendar = Calendar::start(store.clone(), calendar).await.map_err(CliError::failed)?;
        let hashes = Hashes::new(Jobs::new(store.clone()), calendar.clone());
        let concurrency = concurrency.unwrap_or_else(services::cores);
        let worker = hashes.worker(Worker::new(hashes.jobs().clone()), concurrency).start();
        Ok(WorkerProcess { store, calendar, worker, metrics, drain })
    }

    /// Where metrics and health are.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics.address
    }

    /// Works until a signal, then lets tasks end, and gives back what does not in time.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        let signalled = signal();
        let watched = Monitored::Worker(self.store.clone());
        let served = {
            let server = cairn_api::serve_monitoring(self.metrics.socket, watched, Duration::ZERO, serving.clone());
            tokio::pin!(server);
            tokio::select! {
                result = &mut server => result,
                () = signalled => {
                    eprintln!("stopping…");
                    self.worker.stop(self.drain).await;
                    serving.cancel();
                    server.await
                }
            }
        };
        self.calendar.stop().await;
        self.store.close().await;
        served.map_err(CliError::failed)
    }
}
