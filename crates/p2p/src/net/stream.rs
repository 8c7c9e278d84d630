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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Command, Frame};
    use crate::transport::outbound;
    use bitcoin::p2p::message::NetworkMessage;
    use rand::SeedableRng;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

    fn context(events: mpsc::Sender<Event>) -> Context {
        Context { events, magic: MAGIC, counters: Arc::default() }
    }

    fn connection(address: SocketAddr, v2: bool) -> Connection {
        let closed = CancellationToken::new();
        Connection { peer: PeerId(1), kind: ConnectionKind::Manual, address, name: None, v2, closed }
    }

    /// Our end of a connection, and the peer's.
    async fn connected() -> (Reader<OwnedReadHalf>, Writer<OwnedWriteHalf>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (theirs, _) = listener.accept().await.expect("we connected");
        let (read, write) = ours.into_split();
        let rng = StdRng::seed_from_u64(1);
        let (reader, writer, _) =
            outbound(read, write, MAGIC, TransportVersion::V1, Duration::ZERO, rng).await.expect("v1");
        (reader, writer, theirs)
    }

    #[tokio::test]
    async fn a_connection_has_five_seconds_to_be_made() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("bound");
        // Nobody takes what comes: once the queue is full, nothing is answered any more.
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        tokio::time::pause();
        let (events, _happened) = mpsc::channel(1);
        let start = Instant::now();
        assert_eq!(try_dial(&context(events), &connection(address, false)).await, "no answer");
        assert_eq!(start.elapsed().as_secs(), limits::CONNECT_TIMEOUT.as_secs());
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_goes_after_twenty_minutes() {
        let (_reader, writer, _theirs) = connected().await;
        let (link, outgoing) = Link::new(CancellationToken::new());
        // More than the system keeps on the way.
        for _ in 0..20 {
            link.send(Frame::new(Command::new("block").expect("a command"), vec![0; 4_000_000]));
        }
        tokio::time::pause();
        let (events, _happened) = mpsc::channel(1);
        let start = Instant::now();
        assert_eq!(write(&context(events), PeerId(1), writer, outgoing).await, "it does not read");
        assert_eq!(start.elapsed().as_secs(), limits::WRITE_TIMEOUT.as_secs());
        assert!(link.queued() > 0);
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_engine_has_room_for() {
        let (reader, _writer, mut theirs) = connected().await;
        let (events, mut happened) = mpsc::channel(limits::MAX_QUEUED_EVENTS);
        let (link, _outgoing) = Link::new(CancellationToken::new());
        let intake = link.intake();
        let ping = bitcoin::consensus::serialize(&bitcoin::p2p::message::RawNetworkMessage::new(
            bitcoin::p2p::Magic::REGTEST,
            NetworkMessage::Ping(7),
        ));
        let more = 10;
        theirs.write_all(&ping.repeat(limits::MAX_QUEUED_EVENTS + more)).await.expect("it is little");
        drop(theirs);
        let context = context(events);
        let reading = tokio::spawn(async move { read(&context, PeerId(1), reader, &intake).await });
        while happened.len() < limits::MAX_QUEUED_EVENTS {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!reading.is_finished(), "the rest waits");
        let mut heard = 0;
        while happened.recv().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, limits::MAX_QUEUED_EVENTS + more, "and is not lost");
        assert_eq!(reading.await.expect("no panic"), TransportError::Closed.to_string());
    }

    #[tokio::test]
    async fn an_inbound_peer_has_a_minute_for_the_transports_handshake() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let _silent = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, address) = listener.accept().await.expect("we connected");
        tokio::time::pause();
        let (events, mut happened) = mpsc::channel(1);
        let start = Instant::now();
        accepted(context(events), connection(address, true), stream).await;
        assert_eq!(start.elapsed().as_secs(), limits::HANDSHAKE_TIMEOUT.as_secs());
        assert!(
            matches!(happened.recv().await, Some(Event::Disconnected { reason, .. }) if reason == "no handshake in time")
        );
    }

    /// As one that knows only the old ways waits for the rest of a message.
    #[tokio::test]
    async fn a_peer_that_says_nothing_to_an_encrypted_handshake_is_called_again_in_the_clear() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (events, mut happened) = mpsc::channel(8);
        let dialling = tokio::spawn(async move { try_dial(&context(events), &connection(address, true)).await });
        let first = listener.accept().await.expect("it connects");
        // Its key is on the way before time stands still.
        first.0.readable().await.expect("it sends first");
        tokio::time::pause();
        let _second = listener.accept().await.expect("it connects again");
        let Some(Event::Connected(connected)) = happened.recv().await else { panic!("a connection") };
        assert_eq!(connected.transport.version, TransportVersion::V1);
        dialling.abort();
    }
}
