//! What an operator asks of the network beyond its connections: how it stands, bans, addresses.

use super::handle::{Handle, Stopped};
use super::manager::Manager;
use crate::address::{AddressRecord, Host, Net, NetAddress};
use crate::bans::{BanError, BanTime, ListedBan, Subnet};
use bitcoin::p2p::ServiceFlags;
use std::time::Duration;

/// How the network stands, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// It takes part.
    pub active: bool,
    /// Peers that came to us.
    pub inbound: usize,
    /// Peers that we went to.
    pub outbound: usize,
    /// Those of all peers whose chain is known: their headers came, or they had none to tell us of.
    pub heard: usize,
    /// Height of the longest chain of headers that a peer is known to have, or whose work is being proven.
    pub headers: u32,
    /// The same, of chains whose work is being proven alone.
    pub presynced_headers: Option<u32>,
    /// Bytes received since the start.
    pub received: u64,
    /// Bytes sent since the start.
    pub sent: u64,
    /// Addresses of other nodes that are known.
    pub addresses: usize,
    /// Bans in force.
    pub bans: usize,
}

/// Why a peer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddNodeError {
    /// It was asked for before.
    #[error("it was added before")]
    Already,
    /// As many as may be were added.
    #[error("no more can be added")]
    Full,
}

/// Why an address was not taken, in the words of Core's `addpeeraddress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddAddressError {
    /// Among the new there is no place for it, it is there already, or it is not routable.
    #[error("failed-adding-to-new")]
    New,
    /// Among the tried there is no place for it.
    #[error("failed-adding-to-tried")]
    Tried,
}

/// How many addresses are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressCount {
    /// Of which network; none: of all.
    pub network: Option<Net>,
    /// Heard of.
    pub new: usize,
    /// Connected to before.
    pub tried: usize,
}

impl Handle {
    /// How the network stands.
    pub async fn summary(&self) -> Result<Summary, Stopped> {
        self.ask_async(Manager::summary).await
    }

    /// [`Handle::summary`], for a thread that may block.
    pub fn summary_blocking(&self) -> Result<Summary, Stopped> {
        self.ask(Manager::summary)
    }

    /// Ends the connection with a peer by the name that `getpeerinfo` gives it; false if there is none such.
    pub fn disconnect_named(&self, name: String) -> Result<bool, Stopped> {
        self.ask(move |manager| manager.engine.named(&name).is_some_and(|peer| manager.close(peer)))
    }

    /// `setban … add`: keeps an address or a range out from now on.
    pub fn ban(&self, text: String, time: BanTime) -> Result<Result<(), BanError>, Stopped> {
        self.ask(move |manager| {
            let now = manager.now();
            let subnet = manager.engine.book.bans.setban_add(&text, time, now)?;
            manager.close_subnet(&subnet);
            manager.engine.book.save_bans(now);
            Ok(())
        })
    }

    /// `setban … remove`.
    pub fn unban(&self, text: String) -> Result<Result<(), BanError>, Stopped> {
        self.ask(move |manager| {
            manager.engine.book.bans.setban_remove(&text)?;
            manager.engine.book.save_bans(manager.now());
            Ok(())
        })
    }

    /// `listbanned`.
    pub fn bans(&self) -> Result<Vec<ListedBan>, Stopped> {
        self.ask(|manager| {
            let now = manager.now();
            manager.engine.book.bans.listbanned(now)
        })
    }

    /// `clearbanned`.
    pub fn clear_bans(&self) -> Result<(), Stopped> {
        self.ask(|manager| {
            manager.engine.book.bans.clear_banned();
            manager.engine.book.save_bans(manager.now());
        })
    }

    /// Draws good addresses of other nodes, at most `count` (0: all), of one network or all.
    pub fn addresses(&self, count: usize, network: Option<Net>) -> Result<Vec<AddressRecord>, Stopped> {
        self.ask(move |manager| {
            let now = manager.now();
            let book = &mut manager.engine.book;
            let mut drawn = book.addrman.get_addr(count, 0, network, true, now);
            drawn.retain(|record| !book.is_unwanted(&record.address.host, now));
            drawn
        })
    }

    /// Takes an address as if its node had told of it; `tried` as if there had been a connection.
    pub fn add_address(&self, address: NetAddress, tried: bool) -> Result<Result<(), AddAddressError>, Stopped> {
        self.ask(move |manager| {
            let now = manager.now();
            let record = AddressRecord::new(address, ServiceFlags::NETWORK | ServiceFlags::WITNESS, now);
            let addrman = &mut manager.engine.book.addrman;
            if !addrman.add(&[record], &address.host, Duration::ZERO, now) {
                return Err(AddAddressError::New);
            }
            if tried && !addrman.good(&address, now) { Err(AddAddressError::Tried) } else { Ok(()) }
        })
    }

    /// How many addresses are known, by network and of all.
    pub fn address_counts(&self) -> Result<Vec<AddressCount>, Stopped> {
        self.ask(|manager| {
            let addrman = &manager.engine.book.addrman;
            let networks = Net::REACHABLE.into_iter().map(Some).chain([None]);
            networks
                .map(|network| AddressCount {
                    network,
                    new: addrman.size(network, Some(true)),
                    tried: addrman.size(network, Some(false)),
                })
                .collect()
        })
    }
}

impl Manager {
    fn summary(&mut self) -> Summary {
        let totals = self.totals();
        let book = &mut self.engine.book;
        let (addresses, bans) = (book.addrman.size(None, None), book.bans.listbanned(self.host.now()).len());
        let (active, received, sent) = (self.active, totals.received, totals.sent);
        Summary { active, received, sent, addresses, bans, ..self.engine.summary() }
    }

    fn close_subnet(&self, subnet: &Subnet) {
        self.close_where(|address| subnet.contains(&Host::from(address.ip())));
    }
}
