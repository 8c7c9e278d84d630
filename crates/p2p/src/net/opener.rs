//! Outbound connections that nobody asked for by name (Core's `ThreadOpenConnections`).

use super::manager::Manager;
use crate::address::{AddressRecord, Host, NetAddress};
use crate::limits;
use crate::poisson::rand_exp;
use crate::types::{ConnectionKind, Time};
use bitcoin::Network;
use bitcoin::p2p::{Magic, ServiceFlags};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::lookup_host;

/// What is to be opened next, and when.
pub(super) struct Opener {
    started: Time,
    next_feeler: Time,
    /// Names that answer with addresses of nodes, asked at most once.
    seeds: Vec<&'static str>,
}

impl Opener {
    /// For the network with this magic, which tells a signet of one's own from the public one.
    pub(super) fn new(network: Network, magic: [u8; 4], now: Time) -> Self {
        let public = network != Network::Signet || magic == Magic::SIGNET.to_bytes();
        let seeds = if public { seeds(network).to_vec() } else { Vec::new() };
        Self { started: now, next_feeler: now + limits::FEELER_INTERVAL, seeds }
    }
}

/// Core's DNS seeds. Private networks have none.
fn seeds(network: Network) -> &'static [&'static str] {
    match network {
        Network::Bitcoin => &[
            "dnsseed.bluematt.me",
            "seed.bitcoin.jonasschnelli.ch",
            "seed.btc.petertodd.net",
            "seed.bitcoin.sprovoost.nl",
            "dnsseed.emzy.de",
            "seed.bitcoin.wiz.biz",
            "seed.mainnet.achownodes.xyz",
        ],
        Network::Testnet4 => &["seed.testnet4.bitcoin.sprovoost.nl", "seed.testnet4.wiz.biz"],
        Network::Signet => &["seed.signet.bitcoin.sprovoost.nl", "seed.signet.achownodes.xyz"],
        _ => &[],
    }
}

impl Manager {
    /// Opens at most one connection of those that are missing. Called about once a second.
    pub(super) fn open_missing(&mut self) {
        if !self.active || !self.config.automatic {
            return;
        }
        let now = self.now();
        self.ask_seeds(now);
        let full = self.count(ConnectionKind::OutboundFullRelay);
        let blocks = self.count(ConnectionKind::BlockRelay);
        if full > limits::MAX_OUTBOUND_FULL_RELAY
            && let Some(peer) = self.engine.extra_outbound()
        {
            self.close(peer);
        }
        let extra = usize::from(self.engine.wants_extra_outbound());
        let kind = if blocks < limits::MAX_BLOCK_RELAY_ONLY && !self.engine.book.anchors.is_empty() {
            ConnectionKind::BlockRelay
        } else if full < limits::MAX_OUTBOUND_FULL_RELAY + extra {
            ConnectionKind::OutboundFullRelay
        } else if blocks < limits::MAX_BLOCK_RELAY_ONLY {
            ConnectionKind::BlockRelay
        } else if now >= self.opener.next_feeler && self.count(ConnectionKind::Feeler) == 0 {
            self.opener.next_feeler = now + rand_exp(limits::FEELER_INTERVAL, &mut self.rng);
            ConnectionKind::Feeler
        } else {
            return;
        };
        let anchor = if kind == ConnectionKind::BlockRelay { self.engine.book.anchors.pop() } else { None };
        let taken: Vec<Vec<u8>> = self.outbound_groups();
        let record = match anchor.filter(|anchor| !taken.contains(&anchor.address.host.group())) {
            Some(anchor) => anchor,
            None => {
                let feeler = kind == ConnectionKind::Feeler;
                let port = self.config.default_port;
                let Some((record, _)) = self.engine.book.choose(feeler, &taken, port, now) else { return };
                record
            }
        };
        let Some(address) = record.address.socket_addr() else { return };
        if self.is_open(address) {
            return;
        }
        self.engine.book.addrman.attempt(&record.address, true, now);
        self.dial(kind, address, None);
    }

    /// Asks names for addresses of nodes where too few are known, as a new node does on a public network.
    fn ask_seeds(&mut self, now: Time) {
        if self.opener.seeds.is_empty() {
            return;
        }
        let known = self.engine.book.addrman.size(None, None);
        let waited = now.saturating_sub(self.opener.started);
        // Addresses that are known are tried first: whoever asks is seen by those who answer.
        let wait = match known {
            0 => Duration::ZERO,
            _ if known < limits::ENOUGH_ADDRESSES => limits::SEED_DELAY,
            _ => limits::SEED_DELAY_MANY,
        };
        if waited < wait {
            return;
        }
        let seeds = std::mem::take(&mut self.opener.seeds);
        if known > 0 && self.count(ConnectionKind::OutboundFullRelay) >= limits::ENOUGH_OUTBOUND_FOR_NO_SEEDS {
            return;
        }
        for seed in seeds {
            let (port, commands) = (self.config.default_port, self.commands.clone());
            tokio::spawn(async move {
                let addresses: Vec<SocketAddr> = match lookup_host((seed, port)).await {
                    Ok(addresses) => addresses.take(limits::MAX_SEED_ADDRESSES).collect(),
                    Err(error) => {
                        tracing::debug!(seed, %error, "a DNS seed does not answer");
                        return;
                    }
                };
                // Where nobody listens any more nobody wants to know.
                let _ = commands.send(Box::new(move |manager: &mut Manager| manager.seeded(seed, &addresses)));
            });
        }
    }

    fn seeded(&mut self, seed: &str, addresses: &[SocketAddr]) {
        let now = self.now();
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let records: Vec<AddressRecord> = addresses
            .iter()
            .map(|&address| AddressRecord::new(NetAddress::from(address), services, now - limits::SEED_AGE))
            .collect();
        tracing::info!(seed, addresses = records.len(), "addresses of nodes from a DNS seed");
        self.engine.book.addrman.add(&records, &Host::internal(seed), Duration::ZERO, now);
    }
}
