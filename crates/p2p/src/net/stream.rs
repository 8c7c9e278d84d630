//! One connection: its transport's handshake, its reading and its writing.

use crate::engine::{Connected, Event};
use crate::limits;
use crate::link::{Intake, Link, Outgoing};
use crate::message;
use crate::transport::{self, Info, Reader, Received, TransportError, TransportVersion, Writer};
use crate::types::{ConnectionKind, PeerId};
use rand::rngs::StdRng;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

/// What a connection's tasks need.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) magic: [u8; 4],
    pub(super) counters: Arc<Counters>,
}

/// Which connection.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) kind: ConnectionKind,
    pub(super) address: SocketAddr,
    pub(super) name: Option<String>,
    /// By BIP 324, if the peer knows that.
    pub(super) v2: bool,
    pub(super) closed: CancellationToken,
}

/// Connects; tells of the connection and then of its end, or of the end alone.
pub(super) async fn dial(context: Context, connection: Connection) {
    let reason = tokio::select! {
        () = connection.closed.cancelled() => "closed".to_owned(),
        reason = try_dial(&context, &connection) => reason,
    };
    let _ = context.events.send(Event::Disconnected { peer: connection.peer, reason }).await;
}

async fn try_dial(context: &Context, connection: &Connection) -> String {
    let mut v2 = connection.v2;
    loop {
        let stream = match timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(connection.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "no answer".to_owned(),
        };
        let bound = stream.local_addr().ok();
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let version = if v2 { TransportVersion::V2 } else { TransportVersion::V1 };
        let rng: StdRng = rand::make_rng();
        match transport::outbound(read, write, context.magic, version, limits::HANDSHAKE_TIMEOUT, rng).await {
            Ok(transport) => return serve(context, connection, bound, transport).await,
            // A peer that does not know BIP 324 hangs up, or waits: it is tried again as it knows it.
            Err(TransportError::RetryV1) if v2 => v2 = false,
            Err(error) => return error.to_string(),
        }
    }
}

/// Serves a connection that came to us.
pub(super) async fn accepted(context: Context, connection: Connection, stream: TcpStream) {
    let bound = stream.local_addr().ok();
    let _ = stream.set_nodelay(true);
    let reason = tokio::select! {
        () = connection.closed.cancelled() => "closed".to_owned(),
        reason = async {
            let (read, write) = stream.into_split();
            let rng: StdRng = rand::make_rng();
            let shaken = transport::inbound(read, write, context.magic, connection.v2, rng);
            match timeout(limits::HANDSHAKE_TIMEOUT, shaken).await {
                Ok(Ok(transport)) => serve(&context, &connection, bound, transport).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => TransportError::TimedOut.to_string(),
            }
        } => reason,
    };
    let _ = context.events.send(Event::Disconnected { peer: connection.peer, reason }).await;
}

/// Reads and writes until either ends; why.
async fn serve(
    context: &Context,
    connection: &Connection,
    bound: Option<SocketAddr>,
    (reader, writer, transport): (Reader<OwnedReadHalf>, Writer<OwnedWriteHalf>, Info),
) -> String {
    context.counters.received.fetch_add(transport.received as u64, Ordering::Relaxed);
    context.counters.sent.fetch_add(transport.sent as u64, Ordering::Relaxed);
    let (link, outgoing) = Link::new(connection.closed.clone());
    let intake = link.intake();
    let connected = Connected {
        peer: connection.peer,
        kind: connection.kind,
        address: connection.address,
        name: connection.name.clone(),
        bound,
        link,
        transport,
    };
    if context.events.send(Event::Connected(connected)).await.is_err() {
        return "stopping".to_owned();
    }
    tokio::select! {
        reason = read(context, connection.peer, reader, &intake) => reason,
        reason = write(context, connection.peer, writer, outgoing) => reason,
    }
}

async fn read(context: &Context, peer: PeerId, mut reader: Reader<OwnedReadHalf>, intake: &Intake) -> String {
    loop {
        let received = match reader.read_at_most(|| intake.most()).await {
            Ok(received) => received,
            Err(error) => return error.to_string(),
        };
        let (event, size) = match received {
            Received::Message(received) => {
                let size = received.wire_bytes;
                let event = match message::decode(received.command.as_str(), &received.payload) {
                    Ok(message) => Event::Message { peer, message, size },
                    Err(error) => Event::Malformed { peer, command: received.command, error },
                };
                (event, size)
            }
            Received::Rejected { wire_bytes } | Received::Decoy { wire_bytes } => {
                (Event::Other { peer, size: wire_bytes }, wire_bytes)
            }
        };
        context.counters.received.fetch_add(size as u64, Ordering::Relaxed);
        if matches!(event, Event::Message { .. }) {
            intake.admit(size).await;
        }
        if context.events.send(event).await.is_err() {
            return "stopping".to_owned();
        }
    }
}

async fn write(context: &Context, peer: PeerId, mut writer: Writer<OwnedWriteHalf>, mut outgoing: Outgoing) -> String {
    let mut frames = Vec::new();
    while outgoing.next(&mut frames, limits::FRAMES_AT_ONCE).await > 0 {
        let size: usize = frames.iter().map(|frame| frame.payload().len()).sum();
        match timeout(limits::WRITE_TIMEOUT, writer.write_many(&frames)).await {
            Ok(Ok(written)) => {
                context.counters.sent.fetch_add(written as u64, Ordering::Relaxed);
            }
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it does not read".to_owned(),
        }
        if outgoing.written(size) && context.events.send(Event::Room { peer }).await.is_err() {
            break;
        }
        frames.clear();
    }
    "stopping".to_owned()
}
