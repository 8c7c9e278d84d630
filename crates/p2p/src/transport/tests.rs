mod encrypted;

use super::ids::{command_length, read_command, write_command};
use super::reader::{V1_HEADER_LENGTH, checksum};
use super::*;
use crate::limits::{HANDSHAKE_TIMEOUT as TIME, MAX_GARBAGE_LENGTH, MAX_PROTOCOL_MESSAGE_LENGTH, MAX_RESERVE_AHEAD};
use crate::message::strategies::messages;
use crate::message::{Command, Frame, encode};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

type Settled = (Reader<ReadHalf<DuplexStream>>, Writer<WriteHalf<DuplexStream>>, Info);

fn command(name: &str) -> Command {
    Command::new(name).expect("short and printable")
}

fn ping() -> Frame {
    Frame::new(command("ping"), vec![7; 8])
}

/// Two peers of ours on the ends of a stream that holds `buffer` bytes.
async fn pair(version: TransportVersion, buffer: usize) -> (Settled, Settled) {
    let (ours, theirs) = duplex(buffer);
    let ((reader, writer), (their_reader, their_writer)) = (split(ours), split(theirs));
    let (outbound, inbound) = tokio::join!(
        outbound(reader, writer, MAGIC, version, TIME, StdRng::seed_from_u64(1)),
        inbound(their_reader, their_writer, MAGIC, version == TransportVersion::V2, StdRng::seed_from_u64(2)),
    );
    (outbound.expect("settled"), inbound.expect("settled"))
}

/// A message of every type, and large ones.
fn frames() -> Vec<Frame> {
    let mut runner = TestRunner::deterministic();
    let mut frames: Vec<Frame> = messages()
        .iter()
        .map(|strategy| encode(&strategy.new_tree(&mut runner).expect("generates").current()))
        .collect();
    frames.push(Frame::block(vec![3; 70_000]));
    frames.push(Frame::new(command("sendheaders2"), vec![4; 1000]));
    frames
}

async fn assert_arrives(sender: &mut Settled, receiver: &mut Settled, frames: &[Frame]) {
    let expected: Vec<usize> = frames.iter().map(|frame| sender.1.wire_bytes(frame)).collect();
    let sending = async { sender.1.write_many(frames).await.expect("sent") };
    let receiving = async {
        for (frame, &wire_bytes) in frames.iter().zip(&expected) {
            let message = Message { command: frame.command(), payload: frame.payload().clone(), wire_bytes };
            assert_eq!(receiver.0.read().await.expect("received"), Received::Message(message));
        }
    };
    let (sent, ()) = tokio::join!(sending, receiving);
    assert_eq!(sent, expected.iter().sum::<usize>());
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent_however_the_bytes_come() {
    for version in [TransportVersion::V1, TransportVersion::V2] {
        for buffer in [1, 7, 4096, 1 << 20] {
            let (mut a, mut b) = pair(version, buffer).await;
            assert_arrives(&mut a, &mut b, &frames()).await;
            assert_arrives(&mut b, &mut a, &frames()).await;
        }
    }
}

#[tokio::test]
async fn both_sides_of_an_encrypted_connection_know_the_same_of_it() {
    let ((.., ours), (.., theirs)) = pair(TransportVersion::V2, 4096).await;
    assert_eq!((ours.version, theirs.version), (TransportVersion::V2, TransportVersion::V2));
    assert!(ours.session_id.is_some());
    assert_eq!(ours.session_id, theirs.session_id);
    assert_eq!((ours.sent, ours.received), (theirs.received, theirs.sent));
    // A key, garbage, its terminator and an empty packet.
    let least = 64 + 16 + 20;
    assert!((least..=least + MAX_GARBAGE_LENGTH).contains(&ours.sent));
}

#[tokio::test]
async fn the_largest_message_arrives_and_none_larger_is_sent() {
    let largest = Frame::new(command("sendheaders2"), vec![5; MAX_PROTOCOL_MESSAGE_LENGTH]);
    let larger = Frame::new(command("block"), vec![5; MAX_PROTOCOL_MESSAGE_LENGTH + 1]);
    for version in [TransportVersion::V1, TransportVersion::V2] {
        let (mut a, mut b) = pair(version, 1 << 16).await;
        assert_arrives(&mut a, &mut b, std::slice::from_ref(&largest)).await;
        assert_eq!(a.1.write(&larger).await.expect_err("too large").kind(), io::ErrorKind::InvalidInput);
        assert_arrives(&mut a, &mut b, &[ping()]).await;
    }
}

#[tokio::test]
async fn keys_are_changed_on_both_sides() {
    let (mut a, mut b) = pair(TransportVersion::V2, 1 << 16).await;
    // BIP 324 changes them every 224 packets.
    assert_arrives(&mut a, &mut b, &vec![ping(); 1000]).await;
}

/// Bytes of a v1 message.
fn v1_message(magic: [u8; 4], command: &[u8; 12], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_le_bytes();
    [&magic, command.as_slice(), &length, &checksum(payload), payload].concat()
}

/// A v1 peer that sends these bytes and closes.
fn v1_reader(bytes: &[u8]) -> Reader<&[u8]> {
    Reader::v1(Input::new(bytes), MAGIC)
}

#[tokio::test]
async fn a_v1_message_is_what_the_protocol_says() {
    let (mut ours, mut stream) = raw(TransportVersion::V1).await;
    let sent = ours.1.write(&Frame::new(command("ping"), vec![1, 2, 3])).await.expect("sent");
    let mut bytes = vec![0; sent];
    stream.read_exact(&mut bytes).await.expect("received");
    let expected = b"\xfa\xbf\xb5\xdaping\0\0\0\0\0\0\0\0\x03\0\0\0\x19\xc6\x19\x7e\x01\x02\x03";
    assert_eq!(bytes, expected);
}

/// Ours on one end, and the other end; nothing is settled by v1.
async fn raw(version: TransportVersion) -> (Settled, DuplexStream) {
    let (ours, stream) = duplex(1 << 16);
    let (reader, writer) = split(ours);
    let settled =
        outbound(reader, writer, MAGIC, version, TIME, StdRng::seed_from_u64(1)).await.expect("nothing to settle");
    (settled, stream)
}

#[tokio::test]
async fn a_message_of_another_network_ends_the_connection() {
    let mut reader = v1_reader(&[0xf9; 24]);
    assert!(matches!(reader.read().await, Err(TransportError::WrongMagic([0xf9, 0xf9, 0xf9, 0xf9]))));
}

#[tokio::test]
async fn a_header_of_too_large_a_message_ends_the_connection() {
    for (length, is_too_large) in [(4_000_000_u32, false), (4_000_001, true), (u32::MAX, true)] {
        let header = [MAGIC.as_slice(), b"block\0\0\0\0\0\0\0", &length.to_le_bytes(), &[0; 4]].concat();
        let error = v1_reader(&header).read().await.expect_err("nothing follows");
        assert_eq!(matches!(error, TransportError::TooLarge(_)), is_too_large, "{length}: {error}");
        assert_eq!(matches!(error, TransportError::Closed), !is_too_large, "{length}: {error}");
    }
}

#[tokio::test]
async fn a_message_with_a_wrong_checksum_or_type_is_dropped_and_the_next_is_read() {
    let good = v1_message(MAGIC, b"ping\0\0\0\0\0\0\0\0", &[1; 8]);
    let mut damaged = good.clone();
    damaged[30] ^= 1;
    let unprintable = v1_message(MAGIC, b"ping\x01\0\0\0\0\0\0\0", &[1; 8]);
    let unfilled = v1_message(MAGIC, b"ping\0\0\0\0\0\0\0p", &[1; 8]);
    let bytes = [damaged, unprintable, unfilled, good].concat();
    let mut reader = v1_reader(&bytes);
    for _ in 0..3 {
        assert_eq!(reader.read().await.expect("goes on"), Received::Rejected { wire_bytes: 32 });
    }
    assert!(matches!(reader.read().await.expect("whole"), Received::Message(Message { wire_bytes: 32, .. })));
    assert!(matches!(reader.read().await, Err(TransportError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn memory_is_not_taken_on_the_word_of_a_header() {
    let (mut ours, mut stream) = raw(TransportVersion::V1).await;
    let header = [MAGIC.as_slice(), b"block\0\0\0\0\0\0\0", &4_000_000_u32.to_le_bytes(), &[0; 4]].concat();
    stream.write_all(&header).await.expect("sent");
    for came in [0, 1, 50_000, 300_000] {
        let mut sent = 0;
        while sent < came {
            let part = 50_000.min(came - sent);
            stream.write_all(&vec![0; part]).await.expect("sent");
            sent += part;
            timeout(Duration::from_millis(1), ours.0.read()).await.expect_err("more is to come");
        }
        timeout(Duration::from_millis(1), ours.0.read()).await.expect_err("more is to come");
        assert!(ours.0.body.capacity() <= ours.0.body.len() + MAX_RESERVE_AHEAD);
    }
    assert_eq!(ours.0.body.len(), 350_001);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_between_messages_holds_no_memory() {
    for version in [TransportVersion::V1, TransportVersion::V2] {
        let (mut a, mut b) = pair(version, 1 << 16).await;
        assert_arrives(&mut a, &mut b, &frames()).await;
        timeout(Duration::from_millis(1), b.0.read()).await.expect_err("nothing more comes");
        assert_eq!((b.0.input.held(), b.0.body.capacity()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_given_up_goes_on_where_it_was() {
    for version in [TransportVersion::V1, TransportVersion::V2] {
        let (mut a, mut b) = pair(version, 5).await;
        let frames = frames();
        let sending = async { a.1.write_many(&frames[..20]).await.expect("sent") };
        let receiving = async {
            for frame in &frames[..20] {
                let received = loop {
                    // Polled once, then dropped.
                    tokio::select! {
                        biased;
                        received = b.0.read() => break received,
                        () = tokio::task::yield_now() => {}
                    }
                };
                let Received::Message(message) = received.expect("received") else { panic!("a message") };
                assert_eq!((message.command, &message.payload), (frame.command(), frame.payload()));
            }
        };
        tokio::join!(sending, receiving);
    }
}

/// Counts what is written at once.
struct Counting(Vec<usize>);

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.push(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn messages_that_wait_are_sent_at_once() {
    let mut writes = Counting(Vec::new());
    Writer::v1(&mut writes, MAGIC).write_many(&vec![ping(); 100]).await.expect("sent");
    assert_eq!(writes.0, [3200]);
    let mut writes = Counting(Vec::new());
    let frames = [ping(), Frame::block(vec![0; 1_000_000]), ping()];
    Writer::v1(&mut writes, MAGIC).write_many(&frames).await.expect("sent");
    assert_eq!(writes.0, [32 + 24, 1_000_000, 32]);
}

// Which version a peer speaks.

#[tokio::test]
async fn a_peer_that_begins_with_a_v1_version_is_spoken_with_by_v1() {
    for accept_v2 in [true, false] {
        for buffer in [1, 1000] {
            let (ours, mut peer) = duplex(buffer);
            let sending = tokio::spawn(async move {
                for _ in 0..2 {
                    peer.write_all(&v1_message(MAGIC, &VERSION_COMMAND, &[8; 90])).await.expect("sent");
                }
                let mut answer = vec![0; 32];
                peer.read_exact(&mut answer).await.expect("answered");
                answer
            });
            let (reader, writer) = split(ours);
            let settled = inbound(reader, writer, MAGIC, accept_v2, StdRng::seed_from_u64(1)).await;
            let (mut reader, mut writer, info) = settled.expect("settled");
            assert_eq!(info, Info { version: TransportVersion::V1, session_id: None, received: 0, sent: 0 });
            for _ in 0..2 {
                let Received::Message(message) = reader.read().await.expect("received") else { panic!("a message") };
                assert_eq!((message.command.as_str(), &message.payload[..]), ("version", &[8; 90][..]));
            }
            writer.write(&ping()).await.expect("sent");
            assert_eq!(sending.await.expect("no panic")[..4], MAGIC);
        }
    }
}

#[tokio::test]
async fn a_peer_that_speaks_v2_is_refused_where_v2_is_not_accepted() {
    let (ours, theirs) = duplex(1 << 16);
    let ((reader, writer), (their_reader, their_writer)) = (split(ours), split(theirs));
    let refusing = async {
        let (mut reader, ..) =
            inbound(their_reader, their_writer, MAGIC, false, StdRng::seed_from_u64(2)).await.expect("v1");
        assert!(matches!(reader.read().await, Err(TransportError::WrongMagic(_))));
    };
    let trying = outbound(reader, writer, MAGIC, TransportVersion::V2, TIME, StdRng::seed_from_u64(1));
    let (result, ()) = tokio::join!(trying, refusing);
    assert!(matches!(result, Err(TransportError::RetryV1)));
}

#[tokio::test]
async fn v1_is_tried_only_with_a_peer_that_saw_a_header_and_said_nothing() {
    for (reads, says, is_retry) in [(24, 0, true), (23, 0, false), (24, 1, false), (0, 0, false), (0, 63, false)] {
        let (ours, mut peer) = duplex(1);
        let (reader, writer) = split(ours);
        let trying =
            tokio::spawn(outbound(reader, writer, MAGIC, TransportVersion::V2, TIME, StdRng::seed_from_u64(1)));
        peer.write_all(&vec![0; says]).await.expect("taken");
        // The stream takes one byte more than was read.
        for _ in 1..reads {
            peer.read_u8().await.expect("sent");
        }
        tokio::task::yield_now().await;
        drop(peer);
        let result = trying.await.expect("no panic").map(drop);
        assert_eq!(matches!(result, Err(TransportError::RetryV1)), is_retry, "{reads} {says}: {result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn v1_is_tried_with_a_peer_that_says_nothing_for_as_long_as_it_may() {
    let second = Duration::from_secs(1);
    for (says, is_retry) in [(0, true), (1, false), (63, false), (64, false)] {
        let (ours, mut peer) = duplex(1 << 16);
        let (reader, writer) = split(ours);
        let trying =
            tokio::spawn(outbound(reader, writer, MAGIC, TransportVersion::V2, TIME, StdRng::seed_from_u64(1)));
        peer.write_all(&vec![7; says]).await.expect("taken");
        tokio::time::sleep(TIME - second).await;
        assert!(!trying.is_finished(), "it has a second left");
        tokio::time::sleep(2 * second).await;
        assert!(trying.is_finished(), "its time is over");
        match trying.await.expect("no panic").map(drop) {
            Err(TransportError::RetryV1) => assert!(is_retry, "it said {says} bytes"),
            Err(TransportError::TimedOut) => assert!(!is_retry, "it said nothing"),
            result => panic!("{result:?}"),
        }
    }
}

#[tokio::test]
async fn a_v1_peer_of_another_network_is_not_answered_to_the_end() {
    let (ours, mut peer) = duplex(1 << 16);
    peer.write_all(&v1_message([1, 2, 3, 4], &VERSION_COMMAND, &[8; 90])).await.expect("sent");
    let (reader, writer) = split(ours);
    let result = inbound(reader, writer, MAGIC, true, StdRng::seed_from_u64(1)).await.map(drop);
    assert!(matches!(result, Err(TransportError::WrongMagic([1, 2, 3, 4]))), "{result:?}");
}

#[test]
fn types_have_the_ids_of_bip_324() {
    for (id, name) in
        [(1, "addr"), (2, "block"), (14, "inv"), (18, "ping"), (21, "tx"), (28, "addrv2"), (37, "feature")]
    {
        let mut contents = Vec::new();
        write_command(command(name), &mut contents);
        assert_eq!(contents, [id]);
        assert_eq!(read_command(&contents), Some((command(name), 1)));
    }
    for name in ["version", "verack", "sendheaders2", "wtxidrelay", ""] {
        let mut contents = Vec::new();
        write_command(command(name), &mut contents);
        assert_eq!(contents, [&[0], command(name).to_wire().as_slice()].concat());
        assert_eq!(read_command(&contents), Some((command(name), 13)));
        assert_eq!(command_length(command(name)), 13);
    }
    assert_eq!(read_command(&[29]), Some((command(""), 1)), "kept free");
    assert_eq!(read_command(&[38]), None);
}

#[test]
fn a_v1_header_has_24_bytes() {
    assert_eq!(V1_HEADER_LENGTH, 24);
}
