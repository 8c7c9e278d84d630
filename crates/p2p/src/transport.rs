//! A connection's bytes: v1 framing and BIP 324 encryption.
//!
//! [`outbound`] and [`inbound`] settle how a peer is spoken with; the latter takes as long as the peer lets it, so callers
//! set a time limit. What comes of it is a [`Reader`] and a [`Writer`], for a task each. Neither knows what messages mean.
//!
//! A peer costs no more memory than it has sent, and 256 KiB: nothing is taken on the word of a header. A reader that
//! waits between messages holds none.

mod handshake;
mod ids;
mod input;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Message, Reader, Received};
pub use writer::Writer;

use bip324::Role;
use handshake::Handshaking;
use input::Input;
use rand::CryptoRng;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// How a connection's bytes are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportVersion {
    /// In the clear, as since the beginning.
    V1,
    /// Encrypted (BIP 324).
    V2,
}

impl TransportVersion {
    /// As in `getpeerinfo`'s `transport_protocol_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// What was settled when the connection began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// How the bytes are framed.
    pub version: TransportVersion,
    /// BIP 324's session id: the same on both sides unless someone sits between them.
    pub session_id: Option<[u8; 32]>,
    /// Bytes of the encrypted handshake that were received; they belong to no message.
    pub received: usize,
    /// Bytes of the encrypted handshake that were sent.
    pub sent: usize,
}

/// Why a connection is over. Only [`RetryV1`](Self::RetryV1) calls for something: the same address by v1.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection ended, or its time did, before the peer sent anything, as with those that only know v1 (Core's
    /// `ShouldReconnectV1`).
    #[error("the peer seems not to know v2 transport: it sent nothing")]
    RetryV1,
    /// It was not settled in time.
    #[error("no handshake in time")]
    TimedOut,
    /// A message of another network.
    #[error("wrong MessageStart {}", bitcoin::hex::DisplayHex::as_hex(.0))]
    WrongMagic([u8; 4]),
    /// A message that is longer than any may be.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// No garbage terminator, a packet that is not what the peer's key encrypts, or no secret to be had.
    #[error("{0}")]
    Bip324(bip324::Error),
}

impl From<bip324::Error> for TransportError {
    fn from(error: bip324::Error) -> Self {
        Self::Bip324(error)
    }
}

/// Begins a connection that was made to a peer, by its two halves. `magic` begins the network's messages. With v1 there
/// is nothing to settle, and nothing is sent or awaited. With v2 the peer has `time`.
pub async fn outbound<R, W>(
    reader: R,
    writer: W,
    magic: [u8; 4],
    version: TransportVersion,
    time: Duration,
    rng: impl CryptoRng,
) -> Result<(Reader<R>, Writer<W>, Info), TransportError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let input = Input::new(reader);
    match version {
        TransportVersion::V1 => Ok(v1(input, writer, magic)),
        TransportVersion::V2 => {
            let mut shaking = Handshaking::new(input, writer);
            match timeout(time, shaking.settle(magic, Role::Initiator, rng)).await {
                Ok(settled) => settled.map(|(cipher, info)| shaking.into_halves(cipher, info)),
                Err(_) if shaking.may_be_v1() => Err(TransportError::RetryV1),
                Err(_) => Err(TransportError::TimedOut),
            }
        }
    }
}

/// Begins a connection that a peer made, by its two halves. With `accept_v2` the first bytes tell which version it
/// speaks; without, it is v1 and nothing is awaited.
pub async fn inbound<R, W>(
    reader: R,
    writer: W,
    magic: [u8; 4],
    accept_v2: bool,
    rng: impl CryptoRng,
) -> Result<(Reader<R>, Writer<W>, Info), TransportError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut input = Input::new(reader);
    if !accept_v2 || begins_with_version(&mut input, magic).await? {
        return Ok(v1(input, writer, magic));
    }
    let mut shaking = Handshaking::new(input, writer);
    let (cipher, info) = shaking.settle(magic, Role::Responder, rng).await?;
    Ok(shaking.into_halves(cipher, info))
}

/// Bytes 4 to 16 of the first message of a peer that speaks v1.
const VERSION_COMMAND: [u8; 12] = *b"version\0\0\0\0\0";

/// Whether a peer's first 16 bytes are those of a v1 `version`. Returns at the first byte that is not.
async fn begins_with_version<R: AsyncRead + Unpin>(
    input: &mut Input<R>,
    magic: [u8; 4],
) -> Result<bool, TransportError> {
    let prefix = [magic.as_slice(), &VERSION_COMMAND].concat();
    loop {
        let had = input.available().len().min(prefix.len());
        if input.available()[..had] != prefix[..had] {
            return Ok(false);
        }
        if had == prefix.len() {
            return Ok(true);
        }
        input.more().await?;
    }
}

fn v1<R, W>(input: Input<R>, writer: W, magic: [u8; 4]) -> (Reader<R>, Writer<W>, Info) {
    let info = Info { version: TransportVersion::V1, session_id: None, received: 0, sent: 0 };
    (Reader::v1(input, magic), Writer::v1(writer, magic), info)
}
