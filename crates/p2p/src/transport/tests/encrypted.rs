//! Encrypted peers that are hostile or unusual. They answer our outbound connection.

use super::*;
use crate::limits::{MAX_GARBAGE_LENGTH, MAX_V2_CONTENTS_LENGTH};
use crate::transport::reader::is_decoy;
use bip324::{CipherSession, GarbageResult, Handshake, PacketType, SentVersion, VersionResult};
use tokio::task::JoinHandle;

/// A peer that sends by hand what a responder has to send.
struct ByHand {
    stream: DuplexStream,
    handshake: Handshake<SentVersion>,
    /// A key, garbage, its terminator, decoys and the version packet: to be sent.
    bytes: Vec<u8>,
    ours: JoinHandle<Result<Settled, TransportError>>,
}

async fn by_hand(garbage: &[u8], decoys: &[&[u8]]) -> ByHand {
    let (stream, mut peer) = duplex(1 << 23);
    let (reader, writer) = split(stream);
    let ours = tokio::spawn(outbound(reader, writer, MAGIC, TransportVersion::V2, TIME, StdRng::seed_from_u64(1)));
    let mut key = [0; 64];
    peer.read_exact(&mut key).await.expect("sent");
    let handshake = Handshake::new(MAGIC, Role::Responder).expect("a key");
    let mut bytes = vec![0; 64 + garbage.len()];
    let handshake = handshake.send_key(Some(garbage), &mut bytes).expect("room").receive_key(key).expect("v2");
    let mut packets = vec![0; Handshake::<bip324::ReceivedKey<'_>>::send_version_len(Some(decoys))];
    let handshake = handshake.send_version(&mut packets, Some(decoys)).expect("room");
    bytes.extend(packets);
    ByHand { stream: peer, handshake, bytes, ours }
}

impl ByHand {
    /// Sends what is to be sent, and nothing more.
    async fn refused(mut self) -> TransportError {
        self.stream.write_all(&self.bytes).await.expect("taken");
        self.stream.shutdown().await.expect("closed");
        self.ours.await.expect("no panic").map(drop).expect_err("refused")
    }

    /// Sends what is to be sent, and goes through our answer.
    async fn settle(mut self) -> (Settled, DuplexStream, CipherSession) {
        self.stream.write_all(&self.bytes).await.expect("taken");
        let settled = self.ours.await.expect("no panic").expect("settled");
        let mut answer = vec![0; settled.2.sent - 64];
        self.stream.read_exact(&mut answer).await.expect("sent");
        let Ok(GarbageResult::FoundGarbage { mut handshake, consumed_bytes }) = self.handshake.receive_garbage(&answer)
        else {
            panic!("a terminator")
        };
        let mut packet = answer[consumed_bytes..].to_vec();
        let (length, packet) = packet.split_first_chunk_mut().expect("a packet");
        assert_eq!(handshake.decrypt_packet_len(*length).expect("a length"), packet.len());
        let Ok(VersionResult::Complete { cipher }) = handshake.receive_version(packet) else { panic!("a version") };
        (settled, self.stream, cipher)
    }
}

#[tokio::test]
async fn garbage_has_up_to_4095_bytes() {
    for length in [0, 1, 16, MAX_GARBAGE_LENGTH] {
        let (settled, ..) = by_hand(&vec![9; length], &[]).await.settle().await;
        assert_eq!(settled.2.received, 64 + length + 16 + 20);
    }
    // The crate makes no more, so it goes in by hand.
    let mut peer = by_hand(&[9; MAX_GARBAGE_LENGTH], &[]).await;
    peer.bytes.insert(64, 9);
    assert!(matches!(peer.refused().await, TransportError::Bip324(bip324::Error::NoGarbageTerminator)));
}

#[tokio::test]
async fn a_flood_of_garbage_is_cut_where_a_terminator_had_to_be() {
    let (stream, peer) = duplex(1);
    let (reader, writer) = split(stream);
    let ours = tokio::spawn(outbound(reader, writer, MAGIC, TransportVersion::V2, TIME, StdRng::seed_from_u64(1)));
    let (mut from_us, mut to_us) = split(peer);
    let drain = tokio::spawn(async move { tokio::io::copy(&mut from_us, &mut tokio::io::sink()).await });
    let mut sent = 0;
    while to_us.write_all(&[9]).await.is_ok() {
        sent += 1;
    }
    let result = ours.await.expect("no panic").map(drop);
    assert!(matches!(result, Err(TransportError::Bip324(bip324::Error::NoGarbageTerminator))), "{result:?}");
    let most = 64 + MAX_GARBAGE_LENGTH + 16;
    // The stream takes a byte that is not read any more.
    assert!((most..=most + 1).contains(&sent), "{sent}");
    drain.await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn decoys_are_passed_over_in_the_handshake_and_after_it() {
    let (mut settled, mut stream, mut cipher) = by_hand(b"garbage", &[b"", b"decoy", &[1; 1000]]).await.settle().await;
    assert_eq!(settled.2.received, 64 + 7 + 16 + 20 * 4 + 1005);
    for kind in [PacketType::Decoy, PacketType::Genuine] {
        let packet = cipher.outbound().encrypt_to_vec(b"\x12nonce890", kind, None);
        stream.write_all(&packet).await.expect("sent");
    }
    assert_eq!(settled.0.read().await.expect("goes on"), Received::Decoy { wire_bytes: 29 });
    let Received::Message(message) = settled.0.read().await.expect("goes on") else { panic!("a message") };
    assert_eq!((message.command.as_str(), &message.payload[..], message.wire_bytes), ("ping", &b"nonce890"[..], 29));
}

#[test]
fn only_the_ignore_bit_makes_a_decoy() {
    for (header, decoy) in [(0, false), (0x80, true), (0x81, true), (0xff, true), (0x7f, false)] {
        assert_eq!(is_decoy(&[header, 0]), decoy);
    }
}

#[tokio::test]
async fn a_bit_flipped_in_the_handshake_ends_it() {
    let length = by_hand(b"garbage", &[b"decoy"]).await.bytes.len();
    for at in 0..length {
        let mut peer = by_hand(b"garbage", &[b"decoy"]).await;
        peer.bytes[at] ^= 1;
        let error = peer.refused().await;
        // What makes the garbage or a packet seem longer makes us wait for more.
        let expected =
            matches!(error, TransportError::Bip324(_) | TransportError::Closed | TransportError::TooLarge(_));
        assert!(expected, "at {at}: {error}");
    }
}

#[tokio::test]
async fn a_bit_flipped_in_a_packet_ends_the_connection() {
    let length = 20 + 9;
    for bit in 0..8 * length {
        let (mut settled, mut stream, mut cipher) = by_hand(b"", &[]).await.settle().await;
        let mut packet = cipher.outbound().encrypt_to_vec(b"\x12nonce890", PacketType::Genuine, None);
        assert_eq!(packet.len(), length);
        packet[bit / 8] ^= 1 << (bit % 8);
        stream.write_all(&packet).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let error = settled.0.read().await.expect_err("refused");
        if bit >= 24 {
            assert!(matches!(error, TransportError::Bip324(_)), "bit {bit}: {error}");
        }
    }
}

#[tokio::test]
async fn a_packet_that_is_sent_again_or_out_of_order_ends_the_connection() {
    for order in [[0, 0], [1, 0]] {
        let (mut settled, mut stream, mut cipher) = by_hand(b"", &[]).await.settle().await;
        let packets: Vec<Vec<u8>> =
            (0..2).map(|_| cipher.outbound().encrypt_to_vec(b"\x12nonce890", PacketType::Genuine, None)).collect();
        for at in order {
            stream.write_all(&packets[at]).await.expect("sent");
        }
        stream.shutdown().await.expect("closed");
        let first = settled.0.read().await;
        assert_eq!(first.is_ok(), order[0] == 0, "{first:?}");
        if first.is_ok() {
            settled.0.read().await.expect_err("sent again");
        }
    }
}

#[tokio::test]
async fn the_length_of_a_packet_that_is_too_large_ends_the_connection() {
    for (length, is_too_large) in [(MAX_V2_CONTENTS_LENGTH, false), (MAX_V2_CONTENTS_LENGTH + 1, true)] {
        let (mut settled, mut stream, mut cipher) = by_hand(b"", &[]).await.settle().await;
        let packet = cipher.outbound().encrypt_to_vec(&vec![1; length], PacketType::Genuine, None);
        stream.write_all(&packet[..3]).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let error = settled.0.read().await.expect_err("nothing follows");
        assert_eq!(matches!(error, TransportError::TooLarge(found) if found == length), is_too_large, "{error}");
        assert_eq!(matches!(error, TransportError::Closed), !is_too_large, "{error}");
    }
}

#[tokio::test]
async fn a_packet_of_no_known_form_is_dropped_and_the_next_is_read() {
    let (mut settled, mut stream, mut cipher) = by_hand(b"", &[]).await.settle().await;
    let dropped: [&[u8]; 5] = [b"", b"\x26", b"\xff....", b"\0ping\0\0\0", b"\0pi\xffg\0\0\0\0\0\0\0\0"];
    for contents in dropped.into_iter().chain([&b"\x12nonce890"[..]]) {
        let packet = cipher.outbound().encrypt_to_vec(contents, PacketType::Genuine, None);
        stream.write_all(&packet).await.expect("sent");
    }
    for contents in dropped {
        assert_eq!(settled.0.read().await.expect("goes on"), Received::Rejected { wire_bytes: 20 + contents.len() });
    }
    assert!(matches!(settled.0.read().await, Ok(Received::Message(_))));
}
