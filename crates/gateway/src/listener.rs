//! Connections of clients: accepted, bounded, and dealt to the workers.
//!
//! Each worker is a thread with an event loop and connections to backends of its own, so that a request never changes
//! threads. One task accepts for all of them and gives a connection to the worker that has the fewest.

use crate::connection::{Client, Connection, HeadLimits, OnRefusal};
use crate::core::Core;
use crate::proxy::Proxy;
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A shutdown at the end of its patience waits this long for the workers' threads.
const JOIN: Duration = Duration::from_secs(2);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// More repetitions than any configuration asks for; the gateway counts itself.
const MAX_ATTEMPTS: usize = 64;

/// A connection on its way to a worker.
struct Accepted {
    stream: std::net::TcpStream,
    seat: Seat,
    tls: Option<Arc<Acceptor>>,
}

/// Every open connection of clients.
pub(crate) struct Clients {
    core: Arc<Core>,
    max: usize,
    open: Mutex<HashMap<u64, Arc<Client>>>,
    next: std::sync::atomic::AtomicU64,
    /// One has ended.
    left: Notify,
}

/// A place among the open connections, while this lives.
struct Seat {
    clients: Arc<Clients>,
    number: u64,
    client: Arc<Client>,
    /// How many the worker has.
    load: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.clients.table().remove(&self.number);
        self.clients.core.open.fetch_sub(1, Ordering::Relaxed);
        self.clients.left.notify_waiters();
    }
}

impl Clients {
    pub(crate) fn new(core: Arc<Core>) -> Arc<Self> {
        let max = core.config().max_connections;
        Arc::new(Clients { core, max, open: Mutex::default(), next: Default::default(), left: Notify::new() })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(self: &Arc<Self>, peer: SocketAddr, tls: bool, load: &Arc<AtomicUsize>) -> Seat {
        let client = Arc::new(Client::new(peer, tls));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.table().insert(number, client.clone());
        self.core.open.fetch_add(1, Ordering::Relaxed);
        self.core.totals.connections.fetch_add(1, Ordering::Relaxed);
        load.fetch_add(1, Ordering::Relaxed);
        Seat { clients: self.clone(), number, client, load: load.clone() }
    }

    pub(crate) fn count(&self) -> usize {
        self.table().len()
    }

    /// Waits until there is room for one more. Where there is none, those that were idle longest have to go; while none is
    /// idle, the kernel keeps who comes waiting.
    async fn room(&self) {
        loop {
            let left = self.left.notified();
            if self.count() < self.max {
                return;
            }
            self.shed();
            // Who was told to go needs a moment; who is busy may take long.
            let _ = tokio::time::timeout(Duration::from_millis(100), left).await;
        }
    }

    /// Closes a sixteenth of the idle connections, those that were idle longest.
    fn shed(&self) {
        let mut idle: Vec<_> =
            self.table().values().filter_map(|client| Some((client.idle_since()?, client.clone()))).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        let some = idle.len().div_ceil(16);
        for (_, client) in idle.iter().take(some) {
            client.close();
        }
        self.core.totals.shed.fetch_add(some as u64, Ordering::Relaxed);
    }

    /// Ends those that are idle, and the others once they are; returns when all have ended.
    pub(crate) async fn drain(&self) {
        loop {
            let left = self.left.notified();
            self.table().values().for_each(|client| client.close());
            if self.count() == 0 {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), left).await;
        }
    }
}

/// A thread that moves bytes.
struct Worker {
    queue: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// All of them.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    clients: Arc<Clients>,
    stopping: watch::Sender<bool>,
    end: CancellationToken,
}

impl Workers {
    pub(crate) fn start(core: &Arc<Core>, clients: &Arc<Clients>) -> io::Result<Workers> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match core.config().workers {
            0 => cores(),
            count => count,
        };
        let (stopping, stop) = watch::channel(false);
        let end = CancellationToken::new();
        let worker = |number: usize| {
            let (queue, accepted) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (core, stop, end) = (core.clone(), stop.clone(), end.clone());
            let thread = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || runtime.block_on(work(core, accepted, stop, end)))?;
            Ok(Worker { queue, load: Arc::default(), thread })
        };
        let workers = (0..count).map(worker).collect::<io::Result<_>>()?;
        Ok(Workers { workers, clients: clients.clone(), stopping, end })
    }

    /// Accepts until `closed`.
    pub(crate) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<Acceptor>>,
        closed: CancellationToken,
    ) {
        loop {
            let next = async {
                self.clients.room().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = closed.cancelled() => return,
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.deal(stream, peer, tls.clone()),
                Err(error) => {
                    // A client that went again is nothing; without file descriptors only time helps.
                    if matches!(error.raw_os_error(), Some(libc_codes::EMFILE | libc_codes::ENFILE)) {
                        tracing::warn!(%error, "connections cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }

    /// Gives a connection to the worker that has the fewest.
    fn deal(&self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<Acceptor>>) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else { return };
        // Answers are small: waiting to fill a segment only costs time. Where it cannot be set, nothing breaks.
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { return };
        let seat = self.clients.seat(peer, tls.is_some(), &worker.load);
        // A worker that has ended drops it, and the connection with it.
        let _ = worker.queue.send(Accepted { stream, seat, tls });
    }

    /// Requests that come on open connections are the last ones of these.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends the threads; what is still open is cut off.
    pub(crate) async fn end(self: Arc<Self>) {
        self.end.cancel();
        let ended = || self.workers.iter().all(|worker| worker.thread.is_finished());
        let waiting = async {
            while !ended() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(JOIN, waiting).await;
    }
}

/// The two error numbers of Linux that say there are no file descriptors left.
mod libc_codes {
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
}

/// A worker's life.
async fn work(
    core: Arc<Core>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    stop: watch::Receiver<bool>,
    end: CancellationToken,
) {
    let config = core.config();
    let conf = ServerConf {
        threads: 1,
        max_retries: MAX_ATTEMPTS,
        upstream_keepalive_pool_size: config.upstream_connections,
        // Backends are spoken to without TLS: no authority's certificate has to be in memory.
        ca_file: Some("/dev/null".into()),
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Proxy(core.clone()), Arc::new(conf));
    proxy.handle_init_modules();
    let proxy = Arc::new(proxy);
    let shutdown = {
        let (proxy, mut stop) = (proxy.clone(), stop.clone());
        async move {
            if stop.wait_for(|stop| *stop).await.is_ok() {
                proxy.http_cleanup().await;
            }
            std::future::pending::<()>().await
        }
    };
    let on_refusal: OnRefusal = {
        let core = core.clone();
        Arc::new(move |client, status| core.refused(client, status))
    };
    let serve = async {
        while let Some(accepted) = accepted.recv().await {
            tokio::spawn(serve(core.clone(), proxy.clone(), accepted, stop.clone(), on_refusal.clone()));
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = serve => {}
        () = shutdown => {}
    }
}

/// A connection's life.
async fn serve(
    core: Arc<Core>,
    proxy: Arc<HttpProxy<Proxy>>,
    Accepted { stream, seat, tls }: Accepted,
    stop: watch::Receiver<bool>,
    on_refusal: OnRefusal,
) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let config = core.config();
    let limits = HeadLimits { time: config.header_timeout, bytes: config.max_header_bytes };
    let (id, client) = (stream.as_raw_fd(), seat.client.clone());
    let stream: Stream = match tls {
        None => Box::new(Connection::new(stream, id, client, limits, on_refusal)),
        Some(acceptor) => {
            let stream = pingora_core::protocols::l4::stream::Stream::from(stream);
            match tokio::time::timeout(HANDSHAKE, acceptor.tls_handshake(stream)).await {
                Ok(Ok(stream)) => Box::new(Connection::new(stream, id, client, limits, on_refusal)),
                Ok(Err(error)) => {
                    tracing::debug!(client = %client.peer, %error, "a TLS handshake failed");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    proxy.process_new(stream, &stop).await;
    drop(seat);
}
