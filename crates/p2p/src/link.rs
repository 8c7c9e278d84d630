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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::*;
    use crate::message::Command;
    use bitcoin::p2p::message::NetworkMessage;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    /// What a future has come to.
    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn frame(bytes: usize) -> Frame {
        Frame::new(Command::new("block").expect("a command"), vec![0; bytes])
    }

    #[test]
    fn a_megabyte_waits_to_be_looked_at_and_not_a_byte_more() {
        for size in [1000, 1, 0] {
            let (link, _outgoing) = Link::new(CancellationToken::new());
            let intake = link.intake();
            let count = MAX_WAITING_BYTES / size.max(1);
            for _ in 0..count {
                assert!(poll(pin!(intake.admit(size))).is_some());
            }
            let mut more = pin!(intake.admit(1));
            assert!(poll(more.as_mut()).is_none());
            link.taken(size);
            assert!(poll(more).is_some());
        }
        // The largest message takes all the room, and no more than there is.
        let (link, _outgoing) = Link::new(CancellationToken::new());
        let intake = link.intake();
        assert!(poll(pin!(intake.admit(MAX_PROTOCOL_MESSAGE_LENGTH))).is_some());
        assert!(poll(pin!(intake.admit(1))).is_none());
        link.taken(MAX_PROTOCOL_MESSAGE_LENGTH);
        assert!(poll(pin!(intake.admit(MAX_PROTOCOL_MESSAGE_LENGTH))).is_some());
    }

    #[test]
    fn large_messages_may_come_while_they_are_expected() {
        let (link, _outgoing) = Link::new(CancellationToken::new());
        assert_eq!(link.intake().most(), MAX_UNASKED_MESSAGE_LENGTH);
        link.expect(true);
        assert_eq!(link.intake().most(), MAX_PROTOCOL_MESSAGE_LENGTH);
        link.expect(false);
        assert_eq!(link.intake().most(), MAX_UNASKED_MESSAGE_LENGTH);
        // The longest inventory is let through.
        let item = bitcoin::p2p::message_blockdata::Inventory::Unknown { inv_type: 1, hash: [0; 32] };
        let longest = crate::message::encode(&NetworkMessage::Inv(vec![item; MAX_INV_SIZE]));
        assert!(longest.payload().len() <= MAX_UNASKED_MESSAGE_LENGTH);
    }

    #[test]
    fn thirty_two_frames_are_written_at_once() {
        let (link, mut outgoing) = Link::new(CancellationToken::new());
        for _ in 0..FRAMES_AT_ONCE + 1 {
            link.send(frame(1));
        }
        for expected in [FRAMES_AT_ONCE, 1] {
            let mut frames = Vec::new();
            assert_eq!(poll(pin!(outgoing.next(&mut frames, FRAMES_AT_ONCE))), Some(expected));
        }
    }

    #[test]
    fn room_is_told_of_once_when_there_is_some_again() {
        let (link, outgoing) = Link::new(CancellationToken::new());
        link.send(frame(MAX_SEND_BUFFER));
        link.send(frame(10));
        assert_eq!(link.queued(), MAX_SEND_BUFFER + 10);
        assert!(!outgoing.written(10), "a megabyte is too much still");
        assert!(outgoing.written(1));
        assert!(!outgoing.written(MAX_SEND_BUFFER - 1), "it was told");
        assert_eq!(link.queued(), 0);
    }
}
