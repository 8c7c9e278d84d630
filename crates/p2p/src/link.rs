//! What the engine holds of a connection: a queue of frames that somebody writes, and the way to end it.

use crate::message::Frame;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The sending end of a connection.
#[derive(Debug, Clone)]
pub struct Link {
    frames: mpsc::UnboundedSender<Frame>,
    queued: Arc<AtomicUsize>,
    closed: CancellationToken,
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
        (Link { frames: sender, queued: queued.clone(), closed }, Outgoing { frames, queued })
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

    /// So many bytes were written.
    pub fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}
