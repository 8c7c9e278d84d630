//! A client's connection, with the limits that Pingora does not keep: a deadline and a bound for the head of a request, and
//! a way to close connections that are idle. What Pingora answers to a malformed head becomes a problem document here.
//!
//! Small writes are gathered until they are flushed, so that head and body of an answer are one segment.

use crate::problem::Problem;
use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use http::StatusCode;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

/// Writes are gathered up to this.
const GATHER: usize = 16 * 1024;
/// How long, and how many bytes, are still read of a client that was refused, so that it gets to read why.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1 << 20;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of the next request has come.
    Idle,
    /// A part of its head has come.
    Head,
    /// The request is being served.
    Request,
}

/// What a connection and those who serve it share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
    phase: AtomicU8,
    /// It is to end as soon as it is idle.
    closing: AtomicBool,
    /// What it sends after this is read for a moment and thrown away.
    linger: AtomicBool,
    reader: AtomicWaker,
    epoch: Instant,
    /// When it became idle, milliseconds since `epoch`.
    idle_since: AtomicU64,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, tls: bool) -> Self {
        Client {
            // A dual-stack listener shows IPv4 clients as IPv6 ones.
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            tls,
            phase: AtomicU8::new(Phase::Idle as u8),
            closing: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            epoch: Instant::now(),
            idle_since: AtomicU64::new(0),
        }
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.peer.ip()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Request,
        }
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The head of a request is complete.
    pub(crate) fn serve(&self) {
        self.set(Phase::Request);
    }

    /// The request is over.
    pub(crate) fn rest(&self) {
        let idle = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(idle, Ordering::Relaxed);
        self.set(Phase::Idle);
    }

    /// Since when it is idle, where it is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.phase() == Phase::Idle)
            .then(|| self.epoch + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)))
    }

    /// Ends it if it is idle, or once it is.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Reads on for a moment after the end.
    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }
}

/// Bounds of the head of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    pub(crate) time: Duration,
    pub(crate) bytes: usize,
}

/// Told of each request that was refused before it was one.
pub(crate) type OnRefusal = Arc<dyn Fn(&Client, StatusCode) + Send + Sync>;

/// A client's connection.
pub(crate) struct Connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    /// Taken when it is dropped.
    inner: Option<S>,
    id: UniqueIDType,
    pub(crate) client: Arc<Client>,
    limits: HeadLimits,
    on_refusal: OnRefusal,
    /// Bytes of the head so far, and when it has to be complete.
    head: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    begun: Instant,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    refusal: Option<StatusCode>,
    /// The refusal is in `out`.
    told: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(crate) fn new(
        inner: S,
        id: UniqueIDType,
        client: Arc<Client>,
        limits: HeadLimits,
        on_refusal: OnRefusal,
    ) -> Self {
        Connection {
            inner: Some(inner),
            id,
            client,
            limits,
            on_refusal,
            head: 0,
            deadline: None,
            begun: Instant::now(),
            out: Vec::new(),
            written: 0,
            refusal: None,
            told: false,
        }
    }

    fn inner(&mut self) -> io::Result<Pin<&mut S>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn refuse(&mut self, status: StatusCode) -> io::Error {
        self.refusal.get_or_insert(status);
        io::Error::new(io::ErrorKind::InvalidData, "the head of a request is not acceptable")
    }

    /// Writes what was gathered.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let inner = self.inner.as_mut().map(Pin::new).ok_or(io::ErrorKind::NotConnected)?;
            let rest = self.out.get(self.written..).unwrap_or_default();
            match ready!(inner.poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => self.written += some,
            }
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > 2 * GATHER {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.client.phase();
        if phase == Phase::Request {
            return this.inner()?.poll_read(cx, buf);
        }
        if phase == Phase::Head && this.head > this.limits.bytes {
            return Poll::Ready(Err(this.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
        }
        if phase == Phase::Idle && this.client.closing.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match this.inner()?.poll_read(cx, buf) {
            Poll::Ready(result) => {
                result?;
                let read = buf.filled().len() - before;
                if phase == Phase::Idle && read > 0 {
                    this.head = 0;
                    this.begun = Instant::now();
                    this.deadline = None;
                    this.client.set(Phase::Head);
                }
                this.head += read;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if phase == Phase::Idle => {
                this.client.reader.register(cx.waker());
                match this.client.closing.load(Ordering::Acquire) {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                }
            }
            Poll::Pending => {
                let due = this.begun + this.limits.time;
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(this.refuse(StatusCode::REQUEST_TIMEOUT)))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.client.phase() != Phase::Request {
            // Pingora's own answer to a head that it does not take; ours follows at the end.
            let status = buf.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
            this.refusal.get_or_insert(status.unwrap_or(StatusCode::BAD_REQUEST));
            return Poll::Ready(Ok(buf.len()));
        }
        if !this.out.is_empty() && this.out.len() + buf.len() > GATHER {
            ready!(this.poll_out(cx))?;
        }
        if buf.len() >= GATHER {
            return this.inner()?.poll_write(cx, buf);
        }
        this.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        this.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(status) = this.refusal
            && !this.told
        {
            this.told = true;
            this.out.extend_from_slice(&refusal(status, &this.limits).to_http1());
            this.client.linger();
            (this.on_refusal)(&this.client, status);
        }
        ready!(this.poll_out(cx))?;
        ready!(this.inner()?.poll_flush(cx))?;
        this.inner()?.poll_shutdown(cx)
    }
}

/// Why a head was refused.
fn refusal(status: StatusCode, limits: &HeadLimits) -> Problem {
    let detail = match status {
        StatusCode::REQUEST_TIMEOUT => {
            format!("the head of the request was not complete within {} s", limits.time.as_secs_f64())
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("the head of the request is longer than {} bytes", limits.bytes)
        }
        StatusCode::METHOD_NOT_ALLOWED => "CONNECT is not served".to_owned(),
        _ => "the request is malformed".to_owned(),
    };
    Problem::new(status, detail)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for Connection<S> {
    fn drop(&mut self) {
        if !self.client.linger.load(Ordering::Relaxed) {
            return;
        }
        // To close a socket that has unread bytes resets the connection, and the client may lose the answer with it.
        if let (Some(mut inner), Ok(runtime)) = (self.inner.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let read = async {
                    inner.shutdown().await?;
                    tokio::io::copy(&mut inner.take(LINGER_BYTES), &mut tokio::io::sink()).await
                };
                // Whether the client listened is its own affair.
                let _ = tokio::time::timeout(LINGER, read).await;
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("client", &self.client).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Shutdown for Connection<S> {
    async fn shutdown(&mut self) {
        // The connection is over, whatever becomes of this.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> UniqueID for Connection<S> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Ssl for Connection<S> {}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Peek for Connection<S> {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> GetTimingDigest for Connection<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> GetProxyDigest for Connection<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> GetSocketDigest for Connection<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
