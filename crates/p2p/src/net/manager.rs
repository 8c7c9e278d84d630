//! The task that owns the engine: connections made and taken, and what happens to them.

use super::control::AddNodeError;
use super::handle::{AddedNode, Asked, Handle, PeerInfo, Totals};
use super::opener::Opener;
use super::stream::{self, Connection, Context, Counters};
use crate::address::{AddressRecord, Host, NetAddress};
use crate::book::Book;
use crate::engine::{Action, Config, Engine, Event};
use crate::eviction::select_node_to_evict;
use crate::limits;
use crate::types::{ConnectionKind, PeerId, Time};
use crate::work::{self, Worker};

use bitcoin::Network;
use bitcoin::p2p::ServiceFlags;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How to take part in a network.
#[derive(Debug)]
pub struct NetConfig {
    /// What the engine is told.
    pub engine: Config,
    /// The network's magic.
    pub magic: [u8; 4],
    /// The port of addresses that name none.
    pub default_port: u16,
    /// Peers to be connected with, `host` or `host:port`.
    pub connect: Vec<String>,
    /// Encrypted connections (BIP 324) where the peer knows them.
    pub v2: bool,
    /// Inbound connections at most.
    pub max_inbound: usize,
    /// Make outbound connections to addresses that are known, not only to peers that are asked for.
    pub automatic: bool,
    /// Which network.
    pub network: Network,
    /// Its directory, for what is remembered over a restart.
    pub dir: Option<PathBuf>,
}

/// Something to do with the manager, asked from outside.
pub(super) type Command = Box<dyn FnOnce(&mut Manager) + Send>;

/// A peer that was asked for.
struct Wanted {
    name: String,
    /// The connection to it, or being made to it.
    peer: Option<PeerId>,
    /// Where it was last found.
    address: Option<SocketAddr>,
    /// By BIP 324, if it knows that.
    v2: bool,
    next_try: Instant,
    delay: Duration,
}

/// A connection, from its first byte.
struct Open {
    kind: ConnectionKind,
    address: SocketAddr,
    closed: CancellationToken,
}

/// Who owns the engine.
pub(super) struct Manager {
    pub(super) engine: Engine,
    pub(super) config: NetConfig,
    context: Context,
    worker: Worker,
    wanted: Vec<Wanted>,
    open: HashMap<PeerId, Open>,
    next_peer: u64,
    pub(super) active: bool,
    pub(super) host: Arc<dyn work::Host>,
    found: mpsc::UnboundedSender<Found>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) opener: Opener,
    pub(super) rng: StdRng,
    /// Hides which groups of inbound peers are kept.
    groups: RandomState,
}

/// Where a name leads.
struct Found {
    name: String,
    addresses: Result<Vec<SocketAddr>, String>,
}

/// Takes part in the network until `stop`.
pub async fn run(
    config: NetConfig,
    listener: Option<TcpListener>,
    host: Arc<dyn work::Host>,
    mut rng: StdRng,
    (handle, Asked(mut asked)): (Handle, Asked),
    stop: CancellationToken,
) {
    let (events, mut happened) = mpsc::channel(limits::MAX_QUEUED_EVENTS);
    let (done, mut finished) = mpsc::unbounded_channel();
    let (found, mut resolved) = mpsc::unbounded_channel();
    let context = Context { events, magic: config.magic, counters: Arc::default() };
    let now = host.now();
    let book = Book::open(config.dir.as_deref(), config.magic, now, &mut rng);
    let opener = Opener::new(config.network, config.magic, now);
    let engine = Engine::new(config.engine.clone(), host.clone(), book, StdRng::from_seed(rng.random()));
    let wanted = config.connect.iter().map(|name| Wanted::new(name.clone(), config.v2)).collect();
    let mut manager = Manager {
        engine,
        context,
        worker: Worker::new(host.clone(), done),
        wanted,
        open: HashMap::new(),
        next_peer: 0,
        active: true,
        host,
        found,
        commands: handle.commands.clone(),
        opener,
        rng,
        groups: RandomState::new(),
        config,
    };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(event) = happened.recv() => manager.event(event),
            Some(done) = finished.recv() => manager.event(Event::Done(done)),
            () = handle.tip.notified() => {
                for block in handle.take_connected() {
                    manager.event(Event::BlockConnected(block));
                }
                manager.event(Event::TipChanged);
            }
            Some(command) = asked.recv() => command(&mut manager),
            Some(found) = resolved.recv() => manager.found(found),
            Some(accepted) = accept(listener.as_ref()) => manager.accept(accepted.0, accepted.1),
            _ = seconds.tick() => {
                manager.event(Event::Tick);
                manager.connect_wanted();
                manager.open_missing();
                let now = manager.now();
                manager.engine.book.keep(now);
            }
        }
        manager.act();
    }
    manager.close_all();
}

/// The next connection; waits for ever where nothing listens.
async fn accept(listener: Option<&TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    let Some(listener) = listener else { return std::future::pending().await };
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            // Out of files, as a rule: others have to close first.
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

impl Wanted {
    fn new(name: String, v2: bool) -> Self {
        Self { name, peer: None, address: None, v2, next_try: Instant::now(), delay: limits::RETRY_FIRST }
    }

    /// The connection ended, or none was made: another is, after ever longer.
    fn lost(&mut self) {
        self.peer = None;
        self.next_try = Instant::now() + self.delay;
        self.delay = (self.delay * 2).min(limits::RETRY_LAST);
    }
}

impl Manager {
    fn event(&mut self, event: Event) {
        match &event {
            Event::Connected(connected) => {
                if connected.kind == ConnectionKind::Inbound && !self.open.contains_key(&connected.peer) {
                    // It was let go before its handshake was done.
                    connected.link.close();
                    return;
                }
                for wanted in self.wanted.iter_mut().filter(|wanted| wanted.peer == Some(connected.peer)) {
                    wanted.delay = limits::RETRY_FIRST;
                }
            }
            Event::Disconnected { peer, reason } => {
                self.open.remove(peer);
                if let Some(wanted) = self.wanted.iter_mut().find(|wanted| wanted.peer == Some(*peer)) {
                    tracing::debug!(name = wanted.name, reason, "no connection");
                    wanted.lost();
                    self.wake_at(wanted_time(&self.wanted));
                }
            }
            _ => {}
        }
        let now = self.host.now();
        self.engine.handle(event, now);
    }

    /// Does what the engine wants done.
    fn act(&mut self) {
        for action in self.engine.take_actions() {
            match action {
                Action::Job(job) => self.worker.submit(job),
                Action::Discourage(address) => {
                    self.engine.book.bans.discourage(&Host::from(address.ip()));
                    self.close_host(address.ip());
                }
            }
        }
    }

    fn accept(&mut self, stream: TcpStream, address: SocketAddr) {
        let (now, host) = (self.now(), Host::from(address.ip()));
        let inbound = self.count(ConnectionKind::Inbound);
        // The discouraged have the places that nobody else wants.
        let few_left = inbound + 1 >= self.config.max_inbound;
        if !self.active
            || self.engine.book.bans.is_banned(&host, now)
            || (few_left && self.engine.book.bans.is_discouraged(&host))
        {
            tracing::debug!(%address, "an inbound connection is not taken");
            return;
        }
        if inbound >= self.config.max_inbound && !self.evict() {
            tracing::debug!(%address, "no place for another inbound connection");
            return;
        }
        let connection = self.open(ConnectionKind::Inbound, address, None, self.config.v2);
        tokio::spawn(stream::accepted(self.context.clone(), connection, stream));
    }

    fn open(&mut self, kind: ConnectionKind, address: SocketAddr, name: Option<String>, v2: bool) -> Connection {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        let closed = CancellationToken::new();
        self.open.insert(peer, Open { kind, address, closed: closed.clone() });
        Connection { peer, kind, address, name, v2, closed }
    }

    /// Makes room for an inbound connection; false if everybody is worth keeping.
    fn evict(&mut self) -> bool {
        let candidates = self.engine.eviction_candidates(
            |host| self.groups.hash_one(host.group()),
            |host| self.engine.book.bans.is_discouraged(host),
        );
        let Some(peer) = select_node_to_evict(candidates) else { return false };
        tracing::debug!(%peer, "let go for another inbound connection");
        self.open.remove(&peer).is_some_and(|open| {
            open.closed.cancel();
            true
        })
    }

    pub(super) fn now(&self) -> Time {
        self.host.now()
    }

    pub(super) fn count(&self, kind: ConnectionKind) -> usize {
        self.open.values().filter(|open| open.kind == kind).count()
    }

    pub(super) fn is_open(&self, address: SocketAddr) -> bool {
        self.open.values().any(|open| open.address == address)
    }

    /// Groups of the outbound peers: of each there is one.
    pub(super) fn outbound_groups(&self) -> Vec<Vec<u8>> {
        let outbound = self.open.values().filter(|open| !open.kind.is_inbound() && open.kind != ConnectionKind::Feeler);
        outbound.map(|open| Host::from(open.address.ip()).group()).collect()
    }

    pub(super) fn dial(&mut self, kind: ConnectionKind, address: SocketAddr, name: Option<String>) -> PeerId {
        self.dial_as(kind, address, name, self.config.v2)
    }

    /// [`Manager::dial`], by BIP 324 or not.
    fn dial_as(&mut self, kind: ConnectionKind, address: SocketAddr, name: Option<String>, v2: bool) -> PeerId {
        let connection = self.open(kind, address, name, v2);
        let peer = connection.peer;
        tokio::spawn(stream::dial(self.context.clone(), connection));
        peer
    }

    /// Ends all connections with an address.
    pub(super) fn close_host(&self, ip: IpAddr) {
        self.close_where(|address| address.ip() == ip);
    }

    pub(super) fn close_where(&self, is_one: impl Fn(&SocketAddr) -> bool) {
        for open in self.open.values().filter(|open| is_one(&open.address)) {
            open.closed.cancel();
        }
    }

    fn close_all(&mut self) {
        let now = self.now();
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let anchors: Vec<AddressRecord> = self
            .open
            .values()
            .filter(|open| open.kind == ConnectionKind::BlockRelay)
            .map(|open| AddressRecord::new(NetAddress::from(open.address), services, now))
            .collect();
        self.engine.book.close(now, &anchors);
        for open in self.open.values() {
            open.closed.cancel();
        }
    }

    /// Connects with those who are asked for and not connected with, as their time comes.
    fn connect_wanted(&mut self) {
        if !self.active {
            return;
        }
        let now = Instant::now();
        for wanted in &mut self.wanted {
            if wanted.peer.is_some() || wanted.next_try > now {
                continue;
            }
            // Until it is found; a name is resolved anew each time, since it may lead elsewhere.
            wanted.next_try = now + limits::RETRY_LAST;
            resolve(wanted.name.clone(), self.config.default_port, self.found.clone());
        }
    }

    fn found(&mut self, found: Found) {
        let connected: Vec<SocketAddr> = self.engine.addresses();
        let Some(place) = self.wanted.iter().position(|wanted| wanted.name == found.name && wanted.peer.is_none())
        else {
            return;
        };
        let address = match found.addresses {
            Ok(addresses) => addresses.into_iter().next(),
            Err(error) => {
                tracing::warn!(name = found.name, error, "the name of a peer does not resolve; it is tried again");
                None
            }
        };
        let Some(address) = address.filter(|address| !connected.contains(address) && self.active) else {
            self.wanted[place].lost();
            self.wake_at(wanted_time(&self.wanted));
            return;
        };
        let peer = self.dial_as(ConnectionKind::Manual, address, Some(found.name), self.wanted[place].v2);
        self.wanted[place].peer = Some(peer);
        self.wanted[place].address = Some(address);
    }

    /// Comes back to those who are asked for when the first one's time is there.
    fn wake_at(&self, time: Option<Instant>) {
        let Some(time) = time else { return };
        let commands = self.commands.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(time).await;
            // Where nobody listens any more there is nobody to connect.
            let _ = commands.send(Box::new(|manager: &mut Manager| manager.connect_wanted()));
        });
    }

    /// `addnode … add`. Two texts for one address are one peer, as with Core.
    pub(super) fn add_node(&mut self, name: &str, v2: bool) -> Result<(), AddNodeError> {
        let address = |name: &str| NetAddress::parse(name, self.config.default_port).ok();
        let asked = address(name);
        if self.wanted.iter().any(|wanted| wanted.name == name || (asked.is_some() && address(&wanted.name) == asked)) {
            return Err(AddNodeError::Already);
        }
        if self.wanted.len() >= limits::MAX_ADDED_NODES {
            return Err(AddNodeError::Full);
        }
        self.wanted.push(Wanted::new(name.to_owned(), v2));
        self.connect_wanted();
        Ok(())
    }

    /// `addnode … remove`: false if it was not asked for. A connection stays, as with Core.
    pub(super) fn remove_node(&mut self, name: &str) -> bool {
        let before = self.wanted.len();
        self.wanted.retain(|wanted| wanted.name != name);
        self.wanted.len() < before
    }

    /// `addnode … onetry`.
    pub(super) fn try_once(&mut self, name: String, v2: bool) {
        let (port, commands) = (self.config.default_port, self.commands.clone());
        tokio::spawn(async move {
            let Ok(addresses) = look_up(&name, port).await else { return };
            let Some(address) = addresses.into_iter().next() else { return };
            let _ = commands.send(Box::new(move |manager: &mut Manager| {
                manager.dial_as(ConnectionKind::Manual, address, Some(name), v2);
            }));
        });
    }

    pub(super) fn added_nodes(&self) -> Vec<AddedNode> {
        let connected = |id: PeerId| self.engine.is_connected(id);
        self.wanted
            .iter()
            .map(|wanted| AddedNode {
                name: wanted.name.clone(),
                connected: wanted.address.filter(|_| wanted.peer.is_some_and(connected)),
            })
            .collect()
    }

    /// Ends a connection; false if there is none such.
    pub(super) fn close(&mut self, peer: PeerId) -> bool {
        match self.open.get(&peer) {
            Some(open) => {
                open.closed.cancel();
                true
            }
            None => false,
        }
    }

    pub(super) fn set_active(&mut self, active: bool) {
        self.active = active;
        if !active {
            for open in self.open.values() {
                open.closed.cancel();
            }
        } else {
            for wanted in &mut self.wanted {
                wanted.next_try = Instant::now();
            }
            self.connect_wanted();
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        self.engine.peers_info()
    }

    pub(super) fn totals(&self) -> Totals {
        let Counters { received, sent } = &*self.context.counters;
        Totals { received: received.load(Ordering::Relaxed), sent: sent.load(Ordering::Relaxed) }
    }
}

fn wanted_time(wanted: &[Wanted]) -> Option<Instant> {
    wanted.iter().filter(|wanted| wanted.peer.is_none()).map(|wanted| wanted.next_try).min()
}

/// Looks a name up, and tells what came of it.
fn resolve(name: String, port: u16, found: mpsc::UnboundedSender<Found>) {
    tokio::spawn(async move {
        let addresses = look_up(&name, port).await;
        let _ = found.send(Found { name, addresses });
    });
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let with_port = if name.rsplit_once(':').is_some() { name.to_owned() } else { format!("{name}:{port}") };
    lookup_host(with_port).await.map(Iterator::collect).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_for_is_tried_again_after_half_a_second_and_after_ever_longer_up_to_a_minute() {
        let mut wanted = Wanted::new("miner".to_owned(), true);
        assert_eq!(wanted.next_try, Instant::now(), "at once");
        let mut expected = limits::RETRY_FIRST;
        for _ in 0..10 {
            wanted.lost();
            assert_eq!(wanted.next_try - Instant::now(), expected);
            expected = (2 * expected).min(limits::RETRY_LAST);
        }
        assert_eq!(expected, limits::RETRY_LAST);
    }
}
