//! BIP 324's handshake.

use super::input::Input;
use super::reader::{V1_HEADER_LENGTH, is_decoy, packet_length};
use super::{Info, Reader, TransportError, TransportVersion, VERSION_COMMAND, Writer};
use crate::limits::MAX_GARBAGE_LENGTH;
use bip324::{
    CipherSession, FillBytes, GarbageResult, Handshake, Initialized, NUM_LENGTH_BYTES, ReceivedGarbage, ReceivedKey,
    Role, VersionResult,
};
use bitcoin::secp256k1::Secp256k1;
use rand::{CryptoRng, RngExt};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Bytes of a public key.
const KEY_LENGTH: usize = 64;
/// Bytes that end the garbage.
const GARBAGE_TERMINATOR_LENGTH: usize = 16;

/// A connection whose keys are not agreed yet. Whenever it waits for the peer it also sends: two peers that both send
/// first would else wait for each other.
pub(super) struct Handshaking<R, W> {
    input: Input<R>,
    writer: W,
    /// All that is sent in the handshake; up to `sent` it was.
    output: Vec<u8>,
    sent: usize,
    /// Whether anything came.
    heard: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Handshaking<R, W> {
    /// `input` may hold bytes already.
    pub(super) fn new(input: Input<R>, writer: W) -> Self {
        let heard = !input.available().is_empty();
        Self { input, writer, output: Vec::new(), sent: 0, heard }
    }

    /// Whether the peer may be one that waits for the rest of a v1 message: enough was sent for it to see a header that is
    /// none, and nothing came.
    pub(super) fn may_be_v1(&self) -> bool {
        !self.heard && self.sent >= V1_HEADER_LENGTH
    }

    /// What the connection becomes.
    pub(super) fn into_halves(self, cipher: CipherSession, info: Info) -> (Reader<R>, Writer<W>, Info) {
        let (inbound, outbound) = cipher.into_split();
        (Reader::v2(self.input, inbound), Writer::v2(self.writer, outbound), info)
    }

    /// The whole handshake.
    pub(super) async fn settle(
        &mut self,
        magic: [u8; 4],
        role: Role,
        mut rng: impl CryptoRng,
    ) -> Result<(CipherSession, Info), TransportError> {
        let mut garbage = vec![0; rng.random_range(0..=MAX_GARBAGE_LENGTH)];
        rng.fill_bytes(&mut garbage);
        let handshake = Handshake::new_with_rng(magic, role, &mut Entropy(rng), &Secp256k1::signing_only())?;
        let length = Handshake::<Initialized>::send_key_len(Some(&garbage));
        let handshake = handshake.send_key(Some(&garbage), self.extend_output(length))?;
        let their_key = self.receive_key(role).await?;
        let handshake = handshake.receive_key(their_key)?;
        let length = Handshake::<ReceivedKey<'_>>::send_version_len(None);
        let handshake = handshake.send_version(self.extend_output(length), None)?;
        drop(garbage);
        let mut handshake = handshake;
        let mut their_garbage;
        let (handshake, garbage_length) = loop {
            // It may have come with packets, which are left where they are.
            let came = self.input.available();
            their_garbage = came[..came.len().min(MAX_GARBAGE_LENGTH + GARBAGE_TERMINATOR_LENGTH)].to_vec();
            match handshake.receive_garbage(&their_garbage)? {
                GarbageResult::FoundGarbage { handshake, consumed_bytes } => break (handshake, consumed_bytes),
                GarbageResult::NeedMoreData(same) => handshake = same,
            }
            self.more().await?;
        };
        self.input.consume(garbage_length);
        let (cipher, packets) = self.receive_version(handshake).await?;
        self.writer.write_all(&self.output[self.sent..]).await?;
        self.writer.flush().await?;
        let info = Info {
            version: TransportVersion::V2,
            session_id: Some(*cipher.id()),
            received: KEY_LENGTH + garbage_length + packets,
            sent: self.output.len(),
        };
        Ok((cipher, info))
    }

    async fn receive_key(&mut self, role: Role) -> Result<[u8; KEY_LENGTH], TransportError> {
        loop {
            if role == Role::Responder {
                refuse_other_networks(self.input.available())?;
            }
            if let Some(key) = self.input.take_array() {
                return Ok(key);
            }
            if let Err(error) = self.more().await {
                let refused = role == Role::Initiator && self.may_be_v1();
                return Err(if refused { TransportError::RetryV1 } else { error });
            }
        }
    }

    /// Takes packets up to the one that ends the handshake; returns how many bytes they have.
    async fn receive_version(
        &mut self,
        mut handshake: Handshake<ReceivedGarbage<'_>>,
    ) -> Result<(CipherSession, usize), TransportError> {
        let mut received = 0;
        let mut cipher = loop {
            let length = handshake.decrypt_packet_len(self.array().await?)?;
            let mut packet = self.packet(length, &mut received).await?;
            match handshake.receive_version(&mut packet)? {
                VersionResult::Complete { cipher } if is_decoy(&packet) => break cipher,
                VersionResult::Complete { cipher } => return Ok((cipher, received)),
                VersionResult::Decoy(next) => handshake = next,
            }
        };
        // A decoy with bits in its header that mean nothing yet: the crate takes it for the version packet.
        loop {
            let length = cipher.inbound().decrypt_packet_len(self.array().await?);
            let mut packet = self.packet(length, &mut received).await?;
            cipher.inbound().decrypt_in_place(&mut packet, None)?;
            if !is_decoy(&packet) {
                return Ok((cipher, received));
            }
        }
    }

    /// The rest of a packet, without its length, which was decrypted.
    async fn packet(&mut self, length: usize, received: &mut usize) -> Result<Vec<u8>, TransportError> {
        let length = packet_length(length)?;
        let mut packet = Vec::new();
        while !self.input.take_into(&mut packet, length) {
            self.more().await?;
        }
        *received += NUM_LENGTH_BYTES + length;
        Ok(packet)
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], TransportError> {
        loop {
            if let Some(array) = self.input.take_array() {
                return Ok(array);
            }
            self.more().await?;
        }
    }

    /// `length` more bytes to be sent.
    fn extend_output(&mut self, length: usize) -> &mut [u8] {
        let start = self.output.len();
        self.output.resize(start + length, 0);
        &mut self.output[start..]
    }

    /// Waits for more bytes, and sends meanwhile.
    async fn more(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| {
            self.poll_send(cx)?;
            self.input.poll_more(cx)
        })
        .await?;
        self.heard = true;
        Ok(())
    }

    /// Sends as much as the peer takes now.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.sent < self.output.len() {
            match Pin::new(&mut self.writer).poll_write(cx, &self.output[self.sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.sent += written?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

/// Whether what may become a public key is a v1 `version` of another network, whose peer need not be answered.
fn refuse_other_networks(came: &[u8]) -> Result<(), TransportError> {
    match came.split_first_chunk() {
        Some((magic, rest)) if rest.starts_with(&VERSION_COMMAND) => Err(TransportError::WrongMagic(*magic)),
        _ => Ok(()),
    }
}

/// The crate's source of randomness, from ours.
struct Entropy<R>(R);

impl<R: CryptoRng> FillBytes for Entropy<R> {
    fn fill_bytes(&mut self, dest: &mut [u8; 32]) {
        self.0.fill_bytes(dest);
    }
}
