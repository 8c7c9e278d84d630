//! A process that works for others: it takes tasks from a database that they share.

use super::listeners::Listener;
use super::services::{self, Shared};
use super::signals::{serve_until, signal};
use crate::error::CliError;
use crate::settings::Resolved;
use cairn_api::Monitored;
use cairn_jobs::{RunningWorker, Worker};
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A running process.
pub(crate) struct WorkerProcess {
    shared: Shared,
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
        // Its address stands in the proofs of what it stamps: clients reach the API's, not a worker's.
        let shared = Shared::open(resolved, resolved.http()).await?;
        let concurrency = concurrency.unwrap_or_else(services::cores);
        let worker = Worker::new(shared.hashes.jobs().clone());
        let worker = shared.hashes.worker(worker, concurrency).start();
        Ok(WorkerProcess { shared, worker, metrics, drain })
    }

    /// Where metrics and health are.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics.address
    }

    /// Works until a signal, then lets tasks end, and gives back what does not in time.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let serving = CancellationToken::new();
        let signalled = signal();
        let watched = Monitored::Worker(self.shared.store.clone());
        let server = cairn_api::serve_monitoring(self.metrics.socket, watched, Duration::ZERO, serving.clone());
        let stop = async {
            self.worker.stop(self.drain).await;
            serving.cancel();
        };
        let served = serve_until(signalled, server, stop).await;
        self.shared.close().await;
        served.map_err(CliError::failed)
    }
}
