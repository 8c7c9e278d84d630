//! Messages from a peer's bytes.

use super::ids::read_command;
use super::input::Input;
use super::{TransportError, VERSION_COMMAND};
use crate::limits::{MAX_PROTOCOL_MESSAGE_LENGTH, MAX_V2_CONTENTS_LENGTH};
use crate::message::Command;
use bip324::{DECOY_BYTE, InboundCipher, NUM_HEADER_BYTES, NUM_LENGTH_BYTES};
use bitcoin::hashes::{Hash, sha256d};
use bytes::Bytes;
use tokio::io::AsyncRead;

/// Bytes of a v1 header: magic, command, length, checksum.
pub(super) const V1_HEADER_LENGTH: usize = 4 + VERSION_COMMAND.len() + 4 + 4;
/// Bytes that authenticate a v2 packet.
pub(super) const V2_TAG_LENGTH: usize = 16;

/// Bytes that a v2 packet has besides its message: header, type and tag.
const MAX_V2_OVERHEAD: usize = NUM_HEADER_BYTES + 1 + Command::LENGTH + V2_TAG_LENGTH;

/// A message from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub command: Command,
    /// Its payload: what [`decode`](crate::message::decode) takes.
    pub payload: Bytes,
    /// Bytes that it took on the wire.
    pub wire_bytes: usize,
}

/// What came from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// A message whose checksum or type is wrong: dropped, and the connection goes on. Core counts it as `*other*`.
    Rejected {
        /// Bytes that it took on the wire.
        wire_bytes: usize,
    },
    /// A packet that only hides what traffic looks like (BIP 324). Core counts it to no type.
    Decoy {
        /// Bytes that it took on the wire.
        wire_bytes: usize,
    },
}

/// The half of a connection that reads.
pub struct Reader<R> {
    pub(super) input: Input<R>,
    framing: Framing,
    /// What the message being read begins with, once that came.
    head: Option<Head>,
    /// What came after it.
    pub(super) body: Vec<u8>,
}

enum Framing {
    V1([u8; 4]),
    V2(Box<InboundCipher>),
}

#[derive(Clone, Copy)]
struct Head {
    /// Bytes that follow.
    length: usize,
    command: [u8; Command::LENGTH],
    checksum: [u8; 4],
}

impl<R> Reader<R> {
    pub(super) fn v1(input: Input<R>, magic: [u8; 4]) -> Self {
        Self { input, framing: Framing::V1(magic), head: None, body: Vec::new() }
    }

    pub(super) fn v2(input: Input<R>, cipher: InboundCipher) -> Self {
        Self { input, framing: Framing::V2(Box::new(cipher)), head: None, body: Vec::new() }
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Waits for what comes next. After an error the connection is of no more use.
    ///
    /// Cancel safe: a future that is dropped loses nothing, and the next goes on where it was.
    pub async fn read(&mut self) -> Result<Received, TransportError> {
        self.read_at_most(|| MAX_PROTOCOL_MESSAGE_LENGTH).await
    }

    /// [`Reader::read`] of a message that is no longer than what `most` says when its length is known, bytes. A longer one is
    /// [`TransportError::TooLarge`], before any of it is kept.
    pub async fn read_at_most(&mut self, most: impl Fn() -> usize) -> Result<Received, TransportError> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let head = read_head(&mut self.input, &mut self.framing).await?;
                if head.length.saturating_sub(MAX_V2_OVERHEAD) > most() {
                    return Err(TransportError::TooLarge(head.length));
                }
                *self.head.insert(head)
            }
        };
        self.input.fill(&mut self.body, head.length).await?;
        self.head = None;
        let body = std::mem::take(&mut self.body);
        match &mut self.framing {
            Framing::V1(_) => Ok(open_v1(head, body)),
            Framing::V2(cipher) => open_v2(cipher, body),
        }
    }
}

async fn read_head<R: AsyncRead + Unpin>(input: &mut Input<R>, framing: &mut Framing) -> Result<Head, TransportError> {
    match framing {
        Framing::V1(magic) => {
            let bytes: [u8; V1_HEADER_LENGTH] = input.array().await?;
            read_v1_header(&bytes, *magic)
        }
        Framing::V2(cipher) => {
            let length = packet_length(cipher.decrypt_packet_len(input.array().await?))?;
            Ok(Head { length, command: [0; Command::LENGTH], checksum: [0; 4] })
        }
    }
}

/// The length of a packet after its length, if it is not too large.
pub(super) fn packet_length(length: usize) -> Result<usize, TransportError> {
    let contents = length.saturating_sub(NUM_HEADER_BYTES + V2_TAG_LENGTH);
    if contents > MAX_V2_CONTENTS_LENGTH { Err(TransportError::TooLarge(contents)) } else { Ok(length) }
}

fn read_v1_header(bytes: &[u8; V1_HEADER_LENGTH], expected: [u8; 4]) -> Result<Head, TransportError> {
    fn part<const N: usize>(bytes: &[u8; V1_HEADER_LENGTH], from: usize) -> [u8; N] {
        bytes[from..from + N].try_into().expect("parts lie within the header")
    }
    let magic = part(bytes, 0);
    if magic != expected {
        return Err(TransportError::WrongMagic(magic));
    }
    let length = usize::try_from(u32::from_le_bytes(part(bytes, 16))).unwrap_or(usize::MAX);
    if length > MAX_PROTOCOL_MESSAGE_LENGTH {
        return Err(TransportError::TooLarge(length));
    }
    Ok(Head { length, command: part(bytes, 4), checksum: part(bytes, 20) })
}

fn open_v1(head: Head, body: Vec<u8>) -> Received {
    let wire_bytes = V1_HEADER_LENGTH + body.len();
    match Command::from_wire(head.command) {
        Some(command) if checksum(&body) == head.checksum => {
            Received::Message(Message { command, payload: body.into(), wire_bytes })
        }
        _ => Received::Rejected { wire_bytes },
    }
}

fn open_v2(cipher: &mut InboundCipher, mut body: Vec<u8>) -> Result<Received, TransportError> {
    let wire_bytes = NUM_LENGTH_BYTES + body.len();
    cipher.decrypt_in_place(&mut body, None)?;
    if is_decoy(&body) {
        return Ok(Received::Decoy { wire_bytes });
    }
    let end = body.len() - V2_TAG_LENGTH;
    Ok(match read_command(&body[NUM_HEADER_BYTES..end]) {
        Some((command, start)) => {
            let payload = Bytes::from(body).slice(NUM_HEADER_BYTES + start..end);
            Received::Message(Message { command, payload, wire_bytes })
        }
        None => Received::Rejected { wire_bytes },
    })
}

/// Whether a decrypted packet is to be ignored. Of its header only one bit says so; the others mean nothing yet.
pub(super) fn is_decoy(decrypted: &[u8]) -> bool {
    decrypted.first().is_some_and(|header| header & DECOY_BYTE != 0)
}

/// What a v1 header says of a payload.
pub(super) fn checksum(payload: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256d::Hash::hash(payload).to_byte_array();
    [a, b, c, d]
}
