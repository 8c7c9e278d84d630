//! Bytes as they come.

use super::TransportError;
use crate::limits::MAX_RESERVE_AHEAD;
use bytes::BufMut;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes asked of the system at once, as in Core.
const CHUNK: usize = 0x1_0000;

/// A stream and what came of it ahead of use. All that waits here may be given up and begun again: what came is kept.
pub(super) struct Input<R> {
    stream: R,
    /// From `start` on: came, not used yet.
    bytes: Vec<u8>,
    start: usize,
}

impl<R> Input<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, bytes: Vec::new(), start: 0 }
    }

    /// What came and was not used.
    pub(super) fn available(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes of memory that are held for what comes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Uses up `count` available bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// The next `N` bytes, if they are there.
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.available().first_chunk::<N>()?;
        self.consume(N);
        Some(array)
    }

    /// Moves available bytes to `body` until that has `length`. Whether it has.
    pub(super) fn take_into(&mut self, body: &mut Vec<u8>, length: usize) -> bool {
        let moved = self.available().len().min(length - body.len());
        if moved > 0 {
            if body.capacity() - body.len() < moved {
                body.reserve_exact((length - body.len()).min(MAX_RESERVE_AHEAD.max(moved)));
            }
            body.extend_from_slice(&self.available()[..moved]);
            self.consume(moved);
        }
        body.len() == length
    }
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// Waits for more bytes to be available.
    pub(super) async fn more(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// As [`more`](Self::more). The bytes are read on the stack, so that nothing is held while there are none.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut chunk);
        if polled.is_pending() && self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        ready!(polled)?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(TransportError::Closed));
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(()))
    }

    /// Waits for the next `N` bytes.
    pub(super) async fn array<const N: usize>(&mut self) -> Result<[u8; N], TransportError> {
        loop {
            if let Some(array) = self.take_array() {
                return Ok(array);
            }
            self.more().await?;
        }
    }

    /// Waits until `body` has `length` bytes. It grows as they come.
    pub(super) async fn fill(&mut self, body: &mut Vec<u8>, length: usize) -> Result<(), TransportError> {
        while !self.take_into(body, length) {
            let missing = length - body.len();
            if missing < CHUNK {
                self.more().await?;
                continue;
            }
            // Large ones need not go over the stack.
            body.reserve_exact(missing.min(MAX_RESERVE_AHEAD));
            if self.stream.read_buf(&mut body.limit(missing)).await? == 0 {
                return Err(TransportError::Closed);
            }
        }
        Ok(())
    }
}
