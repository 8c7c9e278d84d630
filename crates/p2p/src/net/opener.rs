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

/// Connections that the node made by itself.
struct Outbound {
    full: usize,
    blocks: usize,
    feelers: usize,
}

impl Outbound {
    /// What kind of connection is to be made next, if one is missing.
    fn missing(&self, has_anchor: bool, extra: bool, feeler_due: bool) -> Option<ConnectionKind> {
        if self.blocks < limits::MAX_BLOCK_RELAY_ONLY && has_anchor {
            Some(ConnectionKind::BlockRelay)
        } else if self.full < limits::MAX_OUTBOUND_FULL_RELAY + usize::from(extra) {
            Some(ConnectionKind::OutboundFullRelay)
        } else if self.blocks < limits::MAX_BLOCK_RELAY_ONLY {
            Some(ConnectionKind::BlockRelay)
        } else if feeler_due && self.feelers == 0 {
            Some(ConnectionKind::Feeler)
        } else {
            None
        }
    }
}

/// How long seeds wait. Addresses that are known are tried first: whoever asks is seen by those who answer.
fn seed_delay(known: usize) -> Duration {
    match known {
        0 => Duration::ZERO,
        _ if known < limits::ENOUGH_ADDRESSES => limits::SEED_DELAY,
        _ => limits::SEED_DELAY_MANY,
    }
}

/// Whether seeds are asked once they have waited.
fn wants_seeds(known: usize, outbound: usize) -> bool {
    known == 0 || outbound < limits::ENOUGH_OUTBOUND_FOR_NO_SEEDS
}

/// Addresses of a seed's answer, as the book takes them.
fn seed_records(addresses: &[SocketAddr], now: Time) -> Vec<AddressRecord> {
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    let seen = now.saturating_sub(limits::SEED_AGE);
    let first = addresses.iter().take(limits::MAX_SEED_ADDRESSES);
    first.map(|&address| AddressRecord::new(NetAddress::from(address), services, seen)).collect()
}

impl Manager {
    /// Opens at most one connection of those that are missing. Called about once a second.
    pub(super) fn open_missing(&mut self) {
        if !self.active || !self.config.automatic {
            return;
        }
        let now = self.now();
        self.ask_seeds(now);
        let there = Outbound {
            full: self.count(ConnectionKind::OutboundFullRelay),
            blocks: self.count(ConnectionKind::BlockRelay),
            feelers: self.count(ConnectionKind::Feeler),
        };
        if there.full > limits::MAX_OUTBOUND_FULL_RELAY
            && let Some(peer) = self.engine.extra_outbound()
        {
            self.close(peer);
        }
        let (has_anchor, extra) = (!self.engine.book.anchors.is_empty(), self.engine.wants_extra_outbound());
        let Some(kind) = there.missing(has_anchor, extra, now >= self.opener.next_feeler) else { return };
        if kind == ConnectionKind::Feeler {
            self.opener.next_feeler = now + rand_exp(limits::FEELER_INTERVAL, &mut self.rng);
        }
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
        if now.saturating_sub(self.opener.started) < seed_delay(known) {
            return;
        }
        let seeds = std::mem::take(&mut self.opener.seeds);
        if !wants_seeds(known, self.count(ConnectionKind::OutboundFullRelay)) {
            return;
        }
        for seed in seeds {
            let (port, commands) = (self.config.default_port, self.commands.clone());
            tokio::spawn(async move {
                let addresses: Vec<SocketAddr> = match lookup_host((seed, port)).await {
                    Ok(addresses) => addresses.collect(),
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
        let records = seed_records(addresses, now);
        tracing::info!(seed, addresses = records.len(), "addresses of nodes from a DNS seed");
        self.engine.book.addrman.add(&records, &Host::internal(seed), Duration::ZERO, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::*;

    const NOW: Time = Duration::from_secs(1_700_000_000);

    #[test]
    fn eight_peers_for_everything_two_for_blocks_and_then_a_feeler_at_a_time() {
        for extra in [false, true] {
            let mut there = Outbound { full: 0, blocks: 0, feelers: 0 };
            let mut made = Vec::new();
            while let Some(kind) = there.missing(false, extra, true) {
                made.push(kind);
                match kind {
                    ConnectionKind::OutboundFullRelay => there.full += 1,
                    ConnectionKind::BlockRelay => there.blocks += 1,
                    _ => there.feelers += 1,
                }
            }
            let full = MAX_OUTBOUND_FULL_RELAY + usize::from(extra);
            assert_eq!(made[..full], vec![ConnectionKind::OutboundFullRelay; full]);
            assert_eq!(made[full..full + MAX_BLOCK_RELAY_ONLY], [ConnectionKind::BlockRelay; MAX_BLOCK_RELAY_ONLY]);
            assert_eq!(made[full + MAX_BLOCK_RELAY_ONLY..], [ConnectionKind::Feeler]);
            there.feelers = 0;
            assert_eq!(there.missing(false, extra, false), None, "it is not time for one");
        }
    }

    #[test]
    fn who_was_a_peer_for_blocks_before_the_restart_comes_first() {
        let there = |blocks| Outbound { full: 0, blocks, feelers: 0 };
        let missing = |blocks| there(blocks).missing(true, false, true);
        assert_eq!(missing(MAX_BLOCK_RELAY_ONLY - 1), Some(ConnectionKind::BlockRelay));
        assert_eq!(missing(MAX_BLOCK_RELAY_ONLY), Some(ConnectionKind::OutboundFullRelay));
    }

    #[test]
    fn the_first_feeler_goes_after_two_minutes() {
        assert_eq!(Opener::new(Network::Regtest, [0; 4], NOW).next_feeler, NOW + FEELER_INTERVAL);
    }

    #[test]
    fn seeds_wait_for_what_is_known_and_are_not_asked_where_it_suffices() {
        assert_eq!(seed_delay(0), Duration::ZERO);
        assert_eq!([1, ENOUGH_ADDRESSES - 1].map(seed_delay), [SEED_DELAY; 2]);
        assert_eq!([ENOUGH_ADDRESSES, 80_000].map(seed_delay), [SEED_DELAY_MANY; 2]);
        assert!(wants_seeds(0, 8) && wants_seeds(1, ENOUGH_OUTBOUND_FOR_NO_SEEDS - 1));
        assert!(!wants_seeds(1, ENOUGH_OUTBOUND_FOR_NO_SEEDS));
    }

    #[test]
    fn of_a_seed_32_addresses_are_taken_as_seen_three_days_ago() {
        let address = |n: u8| SocketAddr::from(([1, 2, 3, n], 8333));
        let addresses: Vec<SocketAddr> = (0..=MAX_SEED_ADDRESSES as u8).map(address).collect();
        let records = seed_records(&addresses, NOW);
        assert_eq!(records.len(), MAX_SEED_ADDRESSES);
        assert!(records.iter().all(|record| record.time == NOW - SEED_AGE));
        assert_eq!(seed_records(&addresses[..1], Duration::from_secs(1))[0].time, Duration::ZERO);
    }
}
