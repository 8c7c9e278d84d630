//! A connection's bytes: v1 framing and BIP 324 encryption.

use crate::limits;
use crate::message::Frame;
use bitcoin::hashes::{Hash, sha256d};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};

/// Interim.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Io.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Protocol.
    #[error("{0}")]
    Protocol(&'static str),
}

impl TransportError {
    /// Retry.
    pub fn retry_v1(&self) -> bool {
        false
    }
}

/// Transport.
pub struct Transport<S> {
    stream: S,
    magic: [u8; 4],
}

/// Info.
pub struct Info {
    /// Id.
    pub session_id: Option<[u8; 32]>,
}

/// Received.
pub struct Received {
    /// Command.
    pub command: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Wire.
    pub wire_size: usize,
}

/// Reader.
pub struct Reader<S> {
    stream: BufReader<ReadHalf<S>>,
    magic: [u8; 4],
}

/// Writer.
pub struct Writer<S> {
    stream: WriteHalf<S>,
    magic: [u8; 4],
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> Transport<S> {
    /// Out.
    pub async fn outbound(stream: S, magic: [u8; 4], _v2: bool) -> Result<Self, TransportError> {
        Ok(Self { stream, magic })
    }
    /// In.
    pub async fn inbound(stream: S, magic: [u8; 4], _v2: bool) -> Result<Self, TransportError> {
        Ok(Self { stream, magic })
    }
    /// Split.
    pub fn split(self) -> (Reader<S>, Writer<S>, Info) {
        let (read, write) = tokio::io::split(self.stream);
        (
            Reader { stream: BufReader::new(read), magic: self.magic },
            Writer { stream: write, magic: self.magic, buffer: Vec::new() },
            Info { session_id: None },
        )
    }
}

impl<S: AsyncRead> Reader<S> {
    /// Read.
    pub async fn read(&mut self) -> Result<Received, TransportError> {
        let mut header = [0; 24];
        self.stream.read_exact(&mut header).await?;
        if header[..4] != self.magic {
            return Err(TransportError::Protocol("wrong magic"));
        }
        let size = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        if size > limits::MAX_PROTOCOL_MESSAGE_LENGTH {
            return Err(TransportError::Protocol("too large"));
        }
        let mut payload = vec![0; size];
        self.stream.read_exact(&mut payload).await?;
        let command = String::from_utf8_lossy(&header[4..16]).trim_end_matches('\0').to_owned();
        if sha256d::Hash::hash(&payload)[..4] != header[20..24] {
            return Err(TransportError::Protocol("checksum"));
        }
        Ok(Received { command, payload, wire_size: size + 24 })
    }
}

impl<S: AsyncWrite> Writer<S> {
    /// Write.
    pub async fn write_many(&mut self, frames: &[Frame]) -> io::Result<usize> {
        self.buffer.clear();
        for frame in frames {
            self.buffer.extend_from_slice(&self.magic);
            let mut command = [0; 12];
            command[..frame.command.len()].copy_from_slice(frame.command.as_bytes());
            self.buffer.extend_from_slice(&command);
            self.buffer.extend_from_slice(&(frame.payload.len() as u32).to_le_bytes());
            self.buffer.extend_from_slice(&sha256d::Hash::hash(&frame.payload)[..4]);
            self.buffer.extend_from_slice(&frame.payload);
        }
        self.stream.write_all(&self.buffer).await?;
        Ok(self.buffer.len())
    }
}
