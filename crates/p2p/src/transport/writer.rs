//! Messages to a peer's bytes.

use super::TransportVersion;
use super::ids::{command_length, write_command};
use super::reader::{V1_HEADER_LENGTH, V2_TAG_LENGTH, checksum};
use crate::limits::MAX_PROTOCOL_MESSAGE_LENGTH;
use crate::message::Frame;
use bip324::{NUM_HEADER_BYTES, NUM_LENGTH_BYTES, OutboundCipher, PacketType};
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bytes that are gathered before they are given to the system.
const GATHERED: usize = 0x1_0000;

/// The half of a connection that writes.
pub struct Writer<W> {
    stream: W,
    framing: Framing,
}

enum Framing {
    V1([u8; 4]),
    V2(Box<OutboundCipher>),
}

impl<W> Writer<W> {
    pub(super) fn v1(stream: W, magic: [u8; 4]) -> Self {
        Self { stream, framing: Framing::V1(magic) }
    }

    pub(super) fn v2(stream: W, cipher: OutboundCipher) -> Self {
        Self { stream, framing: Framing::V2(Box::new(cipher)) }
    }

    /// Bytes that a message takes on the wire.
    pub fn wire_bytes(&self, frame: &Frame) -> usize {
        match &self.framing {
            Framing::V1(_) => TransportVersion::V1.wire_bytes(frame),
            Framing::V2(_) => TransportVersion::V2.wire_bytes(frame),
        }
    }
}

impl TransportVersion {
    /// Bytes that a message takes on the wire.
    pub fn wire_bytes(self, frame: &Frame) -> usize {
        let around = match self {
            Self::V1 => V1_HEADER_LENGTH,
            Self::V2 => NUM_LENGTH_BYTES + NUM_HEADER_BYTES + command_length(frame.command()) + V2_TAG_LENGTH,
        };
        around + frame.payload().len()
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Sends a message and returns its [`wire_bytes`](Self::wire_bytes).
    ///
    /// Not cancel safe: a future that is dropped may leave half a message sent. So may an error.
    pub async fn write(&mut self, frame: &Frame) -> io::Result<usize> {
        self.write_many([frame]).await
    }

    /// Sends messages, gathered into as few writes as their size allows, and returns the sum of their
    /// [`wire_bytes`](Self::wire_bytes). Not cancel safe.
    pub async fn write_many(&mut self, frames: impl IntoIterator<Item = &Frame>) -> io::Result<usize> {
        let mut gathered = Vec::new();
        let mut sent = 0;
        for frame in frames {
            let payload = frame.payload();
            if payload.len() > MAX_PROTOCOL_MESSAGE_LENGTH {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is too large to be sent"));
            }
            sent += self.wire_bytes(frame);
            match &mut self.framing {
                Framing::V1(magic) => {
                    append_v1_header(&mut gathered, *magic, frame);
                    if payload.len() < GATHERED {
                        gathered.extend_from_slice(payload);
                    } else {
                        // Large ones need not be copied.
                        self.stream.write_all(&gathered).await?;
                        gathered.clear();
                        self.stream.write_all(payload).await?;
                    }
                }
                Framing::V2(cipher) => append_v2_packet(&mut gathered, cipher, frame),
            }
            if gathered.len() >= GATHERED {
                self.stream.write_all(&gathered).await?;
                gathered = Vec::new();
            }
        }
        self.stream.write_all(&gathered).await?;
        self.stream.flush().await?;
        Ok(sent)
    }

    /// Says to the peer that nothing more will come.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

fn append_v1_header(bytes: &mut Vec<u8>, magic: [u8; 4], frame: &Frame) {
    let length = u32::try_from(frame.payload().len()).expect("at most MAX_PROTOCOL_MESSAGE_LENGTH");
    bytes.extend(magic);
    bytes.extend(frame.command().to_wire());
    bytes.extend(length.to_le_bytes());
    bytes.extend(checksum(frame.payload()));
}

fn append_v2_packet(bytes: &mut Vec<u8>, cipher: &mut OutboundCipher, frame: &Frame) {
    let mut contents = Vec::with_capacity(command_length(frame.command()) + frame.payload().len());
    write_command(frame.command(), &mut contents);
    contents.extend_from_slice(frame.payload());
    let start = bytes.len();
    bytes.resize(start + OutboundCipher::encryption_buffer_len(contents.len()), 0);
    cipher
        .encrypt(&contents, &mut bytes[start..], PacketType::Genuine, None)
        .expect("the buffer has the length that the cipher asks for");
}
