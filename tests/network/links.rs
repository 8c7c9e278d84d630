//! Links between nodes that are slow, lose packets or are cut: a relay of TCP connections, without the kernel's help.
//!
//! What is lost is, as TCP has it, late: it comes after the time in which it is sent again, and holds up what follows.

use crate::harness::{Server, free_port};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How good a link is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// One way.
    pub(crate) latency: Duration,
    /// The part of the packets that is lost, 0 to 1.
    pub(crate) loss: f64,
}

/// The least time after which TCP sends again (RFC 6298, as Linux has it).
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// What passes now.
#[derive(Debug)]
struct State {
    cut: bool,
    stopped: bool,
    /// Bytes that still pass from the server to who connected; none: all.
    budget: Option<usize>,
    /// Of connections that go on, by the number of the writer.
    streams: HashMap<u64, TcpStream>,
}

#[derive(Debug)]
struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

/// A way to a node.
#[derive(Debug)]
pub(crate) struct Link {
    /// What to connect with instead of the node.
    pub(crate) address: String,
    control: Arc<Control>,
}

impl Link {
    /// A perfect link to a node.
    pub(crate) fn new(to: &Server) -> Link {
        Link::with_quality(to, Quality { latency: Duration::ZERO, loss: 0.0 }, 0)
    }

    /// A link to a node; `seed` decides which packets are lost.
    pub(crate) fn with_quality(to: &Server, quality: Quality, seed: u64) -> Link {
        let address = format!("127.0.0.1:{}", free_port());
        let listener = TcpListener::bind(&address).expect("the port is free");
        let state = State { cut: false, stopped: false, budget: None, streams: HashMap::new() };
        let control = Arc::new(Control { state: Mutex::new(state), changed: Condvar::new() });
        let (target, accepting) = (to.p2p, control.clone());
        std::thread::spawn(move || {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut writers = 0..;
            for near in listener.incoming().flatten() {
                if accepting.state.lock().unwrap().stopped {
                    return;
                }
                // Where nobody listens, whoever connected learns it by the end of the connection.
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to, down) in [(&near, &far, false), (&far, &near, true)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let writer = writers.next().unwrap();
                    accepting.state.lock().unwrap().streams.insert(writer, to.try_clone().unwrap());
                    let (sender, receiver) = sync_channel(64);
                    let rng = StdRng::seed_from_u64(rng.random());
                    std::thread::spawn(move || read(from, quality, rng, &sender));
                    let control = accepting.clone();
                    std::thread::spawn(move || {
                        write(to, &receiver, &control, down);
                        control.state.lock().unwrap().streams.remove(&writer);
                    });
                }
            }
        });
        Link { address, control }
    }

    /// Nothing passes any more; connections stay.
    pub(crate) fn cut(&self) {
        self.set(|state| state.cut = true);
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.set(|state| (state.cut, state.budget) = (false, None));
    }

    /// From the node that it leads to so many bytes more, then nothing.
    pub(crate) fn pass(&self, bytes: usize) {
        self.set(|state| state.budget = Some(bytes));
    }

    /// Whether all of [`Link::pass`]'s bytes have passed.
    pub(crate) fn is_used_up(&self) -> bool {
        self.control.state.lock().unwrap().budget == Some(0)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.control.state.lock().unwrap());
        self.control.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.set(|state| {
            state.stopped = true;
            for (_, stream) in state.streams.drain() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        // Wakes the one that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

fn read(mut from: TcpStream, quality: Quality, mut rng: StdRng, out: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let lost = if rng.random_bool(quality.loss) { RETRANSMISSION } else { Duration::ZERO };
        if out.send((Instant::now() + quality.latency + lost, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn write(mut to: TcpStream, received: &Receiver<(Instant, Vec<u8>)>, control: &Control, down: bool) {
    'all: for (due, bytes) in received {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let mut state = control.state.lock().unwrap();
            while !state.stopped && (state.cut || (down && state.budget == Some(0))) {
                state = control.changed.wait(state).unwrap();
            }
            if state.stopped {
                break 'all;
            }
            let mut count = rest.len();
            if let (true, Some(budget)) = (down, &mut state.budget) {
                count = count.min(*budget);
                *budget -= count;
            }
            drop(state);
            if to.write_all(&rest[..count]).is_err() {
                break 'all;
            }
            rest = &rest[count..];
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
