//! Any bytes from a peer are messages, or are dropped, or end the connection. What was read is written as it was, and reads
//! back as the same; messages that are framed come out as they went in, in whatever pieces they come.
#![no_main]

use bitcoin::p2p::message::NetworkMessage;
use cairn_fuzz::{Input, pick};
use cairn_p2p::message::{Command, Frame, decode, encode, is_feature};
use cairn_p2p::transport::{self, Info, Reader, Received, TransportError, TransportVersion, Writer};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Sink};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

/// Every type that is read, and some that are not.
const COMMANDS: [&str; 39] = [
    "version",
    "verack",
    "sendheaders",
    "wtxidrelay",
    "sendaddrv2",
    "getaddr",
    "mempool",
    "filterclear",
    "ping",
    "pong",
    "feefilter",
    "sendcmpct",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "headers",
    "getblocks",
    "getheaders",
    "tx",
    "block",
    "cmpctblock",
    "blocktxn",
    "getblocktxn",
    "filterload",
    "filteradd",
    "getcfilters",
    "getcfheaders",
    "getcfcheckpt",
    "cfilter",
    "cfheaders",
    "cfcheckpt",
    "feature",
    "sendtxrcncl",
    "merkleblock",
    "alert",
    "reject",
    "",
];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    match input.u8() % 4 {
        0 => payload(command(&mut input), input.rest()),
        1 => framed(input),
        2 => stream(outbound(Pieces::new(&mut input))),
        _ => {
            if let Ok((reader, ..)) = inbound(Pieces::new(&mut input)) {
                stream(reader);
            }
        }
    }
});

fn command(input: &mut Input<'_>) -> &'static str {
    COMMANDS[pick(input.u8(), COMMANDS.len())]
}

/// A payload of this type.
fn payload(command: &str, payload: &[u8]) {
    is_feature(payload);
    let Ok(message) = decode(command, payload) else { return };
    let frame = encode(&message);
    assert_eq!(frame.command().as_str(), command);
    // Fields that may be missing, and numbers that are not looked at.
    let has_forms = matches!(command, "version" | "pong" | "headers");
    assert!(has_forms || payload.starts_with(frame.payload()), "{command}");
    if let NetworkMessage::Block(block) = &message {
        let stripped = Frame::block_without_witness(block);
        assert!(stripped.payload().len() <= frame.payload().len());
        assert!(decode("block", stripped.payload()).is_ok());
    }
    assert_eq!(decode(command, frame.payload()), Ok(message));
}

/// Messages in v1 frames, of which some are damaged.
fn framed(mut input: Input<'_>) {
    let size = input.u8();
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    while !input.is_empty() {
        let (command, damage) = (command(&mut input), input.u8());
        let frame = Frame::new(Command::new(command).expect("short and printable"), input.chunk().to_vec());
        let start = bytes.len();
        bytes.extend(wire(&frame));
        // A character of the type or a byte of the checksum.
        let is_damaged = damage >= 240;
        if is_damaged {
            bytes[start + [4, 20, 21, 22, 23][pick(damage, 5)]] ^= 0x80;
        }
        expected.push((frame, is_damaged));
    }
    let mut reader = outbound(Pieces { bytes: &bytes, size: usize::from(size) + 1 });
    for (frame, is_damaged) in expected {
        let wire_bytes = 24 + frame.payload().len();
        match finished(reader.read()).expect("goes on") {
            Received::Message(message) => {
                assert!(!is_damaged);
                assert_eq!((message.command, message.wire_bytes), (frame.command(), wire_bytes));
                assert_eq!(&message.payload, frame.payload());
                payload(message.command.as_str(), &message.payload);
            }
            Received::Rejected { wire_bytes: rejected } => assert!(is_damaged && rejected == wire_bytes),
            Received::Decoy { .. } => panic!("v1 has no decoys"),
        }
    }
    assert!(matches!(finished(reader.read()), Err(TransportError::Closed)));
}

/// Any bytes as a peer's.
fn stream<R: AsyncRead + Unpin>(mut reader: Reader<R>) {
    while let Ok(received) = finished(reader.read()) {
        if let Received::Message(message) = received {
            payload(message.command.as_str(), &message.payload);
        }
    }
}

fn outbound(pieces: Pieces<'_>) -> Reader<Pieces<'_>> {
    let settling = transport::outbound(
        pieces,
        tokio::io::sink(),
        MAGIC,
        TransportVersion::V1,
        Duration::MAX,
        StdRng::seed_from_u64(1),
    );
    finished(settling).expect("v1 has nothing to settle").0
}

type Settled<'a> = (Reader<Pieces<'a>>, Writer<Sink>, Info);

fn inbound(pieces: Pieces<'_>) -> Result<Settled<'_>, TransportError> {
    finished(transport::inbound(pieces, tokio::io::sink(), MAGIC, true, StdRng::seed_from_u64(1)))
}

/// The bytes that our writer makes of a message.
fn wire(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    let collecting = Collecting(&mut bytes);
    let settling = transport::outbound(
        tokio::io::empty(),
        collecting,
        MAGIC,
        TransportVersion::V1,
        Duration::MAX,
        StdRng::seed_from_u64(1),
    );
    let (_, mut writer, _) = finished(settling).expect("v1 has nothing to settle");
    finished(writer.write(frame)).expect("a vector takes any bytes");
    drop(writer);
    bytes
}

/// What a future gives that never has to wait.
fn finished<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("all bytes are there"),
    }
}

/// Bytes that come in pieces of a size.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Pieces<'a> {
    fn new(input: &mut Input<'a>) -> Self {
        let size = usize::from(input.u8()) + 1;
        Self { bytes: input.rest(), size }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (piece, rest) = self.bytes.split_at(self.size.min(self.bytes.len()).min(to.remaining()));
        to.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

/// Keeps what is written.
struct Collecting<'a>(&'a mut Vec<u8>);

impl AsyncWrite for Collecting<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
