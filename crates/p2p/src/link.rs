//! What the engine holds of a connection: a queue of frames that somebody writes, and the way to end it.

use crate::limits;
use crate::message::Frame;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// The sending end of a connection.
#[derive(Debug, Clone)]
pub struct Link {
    frames: mpsc::UnboundedSender<Frame>,
    queued: Arc<AtomicUsize>,
    intake: Arc<Intake>,
    closed: CancellationToken,
}

/// What may come in: how much of what a peer said may wait, and how long a message may be.
#[derive(Debug)]
pub struct Intake {
    /// Bytes that may come before what came is looked at.
    room: Semaphore,
    /// Something large was asked of the peer.
    expects: AtomicBool,
}

impl Intake {
    /// Bytes that a message may have now.
    pub fn most(&self) -> usize {
        match self.expects.load(Ordering::Relaxed) {
            true => limits::MAX_PROTOCOL_MESSAGE_LENGTH,
            false => limits::MAX_UNASKED_MESSAGE_LENGTH,
        }
    }

    /// Waits until what came before leaves room for a message of so many bytes.
    pub async fn admit(&self, size: usize) {
        if let Ok(permits) = self.room.acquire_many(permits(size)).await {
            permits.forget();
        }
    }
}

/// A message takes the room of its bytes; a large one all there is.
fn permits(size: usize) -> u32 {
    size.clamp(1, limits::MAX_WAITING_BYTES) as u32
}

/// The other end: what is to be written.
#[derive(Debug)]
pub struct Outgoing {
    frames: mpsc::UnboundedReceiver<Frame>,
    queued: Arc<AtomicUsize>,
}

impl Link {
    /// A link and what comes out of it; it ends when `closed` is cancelled.
    pub fn new(closed: CancellationToken) -> (Link, Outgoing) {
        let (sender, frames) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let intake = Intake { room: Semaphore::new(limits::MAX_WAITING_BYTES), expects: AtomicBool::new(false) };
        (Link { frames: sender, queued: queued.clone(), intake: Arc::new(intake), closed }, Outgoing { frames, queued })
    }

    /// Queues a frame. Bounded by who calls it: answers stop while [`Link::queued`] is above
    /// [`MAX_SEND_BUFFER`](crate::limits::MAX_SEND_BUFFER).
    pub fn send(&self, frame: Frame) {
        let size = frame.payload().len();
        self.queued.fetch_add(size, Ordering::Relaxed);
        // Nobody writes any more where the connection has ended; its end is told by who read it.
        if self.frames.send(frame).is_err() {
            self.queued.fetch_sub(size, Ordering::Relaxed);
        }
    }

    /// Bytes that are queued and not written yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// What may come in.
    pub fn intake(&self) -> Arc<Intake> {
        self.intake.clone()
    }

    /// A message of so many bytes was looked at.
    pub fn taken(&self, size: usize) {
        self.intake.room.add_permits(permits(size) as usize);
    }

    /// Whether something large was asked of the peer.
    pub fn expect(&self, expects: bool) {
        self.intake.expects.store(expects, Ordering::Relaxed);
    }

    /// Ends the connection; what is queued may be lost.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl Outgoing {
    /// The next frames, as many as there are up to `max`; 0 when the link is gone.
    pub async fn next(&mut self, frames: &mut Vec<Frame>, max: usize) -> usize {
        self.frames.recv_many(frames, max).await
    }

    /// A frame that is there already.
    pub fn try_next(&mut self) -> Option<Frame> {
        self.frames.try_recv().ok()
    }

    /// So many bytes were written; true if that makes room for answers again.
    pub fn written(&self, bytes: usize) -> bool {
        let before = self.queued.fetch_sub(bytes, Ordering::Relaxed);
        before >= limits::MAX_SEND_BUFFER && before.saturating_sub(bytes) < limits::MAX_SEND_BUFFER
    }
}
