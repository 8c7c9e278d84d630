//! Inventory, questions and addresses, too many of each.

use super::{Arena, USUAL};
use crate::peer::{Peer, now, raw_frame};
use bitcoin::BlockHash;
use bitcoin::Wtxid;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use serde_json::json;
use std::net::SocketAddr;

/// A hash that nothing has.
fn nothing(number: u32) -> [u8; 32] {
    let mut hash = [0xaa; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    hash
}

/// Items that nobody has.
fn items(count: u32, item: fn([u8; 32]) -> Inventory) -> Vec<Inventory> {
    (0..count).map(|number| item(nothing(number))).collect()
}

fn block(hash: [u8; 32]) -> Inventory {
    Inventory::Block(BlockHash::from_byte_array(hash))
}

fn witness_block(hash: [u8; 32]) -> Inventory {
    Inventory::WitnessBlock(BlockHash::from_byte_array(hash))
}

fn wtx(hash: [u8; 32]) -> Inventory {
    Inventory::WTx(Wtxid::from_byte_array(hash))
}

fn address(number: u32) -> (u32, Address) {
    let [_, b, c, d] = number.to_be_bytes();
    let time = u32::try_from(now()).unwrap();
    (time, Address::new(&SocketAddr::from(([93, b, c, d], 8333)), ServiceFlags::NETWORK | ServiceFlags::WITNESS))
}

fn addresses(count: u32, round: u32) -> Vec<(u32, Address)> {
    (0..count).map(|number| address(round * 1000 + number)).collect()
}

#[test]
fn announcements() {
    let arena = Arena::new(10);
    for (what, item) in [("blocks", block as fn([u8; 32]) -> Inventory), ("transactions", wtx)] {
        arena.case(&format!("50,000 {what} announced that nobody has, five times"), USUAL, |arena| {
            let mut peer = Peer::shake(&arena.node);
            for _ in 0..5 {
                peer.send(NetworkMessage::Inv(items(50_000, item)));
            }
            let said = peer.synced();
            let questions = said.iter().filter(|said| matches!(said, NetworkMessage::GetHeaders(_))).count();
            assert!(questions <= 2, "one question leads to all blocks: {questions}");
        });
    }
    arena.case("50,001 entries in an inv", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Inv(items(50_001, block)));
        peer.hung_up();
    });
    arena.case("50,001 entries in a getdata", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::GetData(items(50_001, witness_block)));
        peer.hung_up();
    });
    arena.case("an inv that claims 2^32 entries", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send_bytes(&raw_frame(b"inv", &[0xfe, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]));
        peer.send(NetworkMessage::Ping(1));
        let _ = peer.receive();
    });
    arena.case("50,000 unknown blocks and transactions asked for, ten times", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for _ in 0..10 {
            peer.send(NetworkMessage::GetData(items(50_000, witness_block)));
            peer.synced();
            peer.send(NetworkMessage::GetData(items(50_000, wtx)));
            peer.synced();
        }
    });
    arena.case("inventory of unknown kinds", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let strange: Vec<Inventory> =
            (0..1000).map(|number| Inventory::Unknown { inv_type: number, hash: nothing(number) }).collect();
        // Without its kinds of transactions and blocks.
        let strange: Vec<Inventory> = strange.into_iter().skip(6).collect();
        peer.send(NetworkMessage::Inv(strange.clone()));
        peer.send(NetworkMessage::GetData(strange));
        peer.synced();
    });
    arena.case("notfound for what was not asked", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::NotFound(items(50_000, wtx)));
        peer.synced();
    });
}

#[test]
fn questions() {
    let arena = Arena::new(10);
    arena.case("a locator of 102 hashes", USUAL, |arena| {
        let hashes = |count| (0..count).map(|number| BlockHash::from_byte_array(nothing(number))).collect::<Vec<_>>();
        let stop = BlockHash::all_zeros();
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::GetHeaders(GetHeadersMessage::new(hashes(101), stop)));
        let answered = peer.synced().iter().any(|said| matches!(said, NetworkMessage::Headers(_)));
        assert!(answered, "101 are answered");
        peer.send(NetworkMessage::GetHeaders(GetHeadersMessage::new(hashes(102), stop)));
        peer.hung_up();
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::GetBlocks(GetBlocksMessage::new(hashes(102), stop)));
        peer.hung_up();
    });
    arena.case("the mempool asked for without bloom filters", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::MemPool);
        peer.hung_up();
    });
    arena.case("a bloom filter", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send_bytes(&raw_frame(b"filterload", &[1, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        peer.hung_up();
    });
    arena.case("100,000 pings, read", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for round in 0..100 {
            for number in 0..1000 {
                peer.send(NetworkMessage::Ping(round * 1000 + number));
            }
            let pongs = peer.synced().iter().filter(|said| matches!(said, NetworkMessage::Pong(_))).count();
            assert_eq!(pongs, 1000, "each is answered");
        }
    });
    arena.case("fees that no fee can be", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for fee in [-1, i64::MIN, i64::MAX] {
            peer.send(NetworkMessage::FeeFilter(fee));
        }
        peer.synced();
    });
}

#[test]
fn addresses_of_nodes() {
    let arena = Arena::new(10);
    arena.case("1,001 addresses", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        peer.send(NetworkMessage::Addr(addresses(1001, 0)));
        peer.hung_up();
        let mut peer = Peer::shake(&arena.node);
        let entry = AddrV2Message {
            time: u32::try_from(now()).unwrap(),
            services: ServiceFlags::NETWORK,
            addr: AddrV2::Ipv4([93, 184, 216, 34].into()),
            port: 8333,
        };
        peer.send(NetworkMessage::AddrV2(vec![entry; 1001]));
        peer.hung_up();
    });
    arena.case("1,000 addresses, two hundred times", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        for round in 0..200 {
            peer.send(NetworkMessage::Addr(addresses(1000, round)));
        }
        peer.synced();
        let peers = arena.node.peers();
        let told = peers.iter().max_by_key(|peer| peer["addr_rate_limited"].as_u64()).unwrap();
        let count = |name: &str| told[name].as_u64().unwrap();
        let connected = now().saturating_sub(told["conntime"].as_u64().unwrap());
        assert!(count("addr_processed") <= 2 + connected / 10, "one, and one in ten seconds: {told}");
        assert_eq!(count("addr_processed") + count("addr_rate_limited"), 200_000, "the rest is dropped: {told}");
        let known = arena.node.rpc("getaddrmaninfo", json!([]))["all_networks"]["total"].as_u64().unwrap();
        assert!(known <= count("addr_processed"), "{known} addresses are kept");
    });
    arena.case("addresses asked for again and again", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        let mut answers = 0;
        for _ in 0..1000 {
            peer.send(NetworkMessage::GetAddr);
        }
        for said in peer.synced() {
            answers += usize::from(matches!(said, NetworkMessage::Addr(_) | NetworkMessage::AddrV2(_)));
        }
        assert!(answers <= 1, "answered once: {answers}");
    });
    arena.case("an address of a length that its network has not", USUAL, |arena| {
        let mut peer = Peer::shake(&arena.node);
        // One entry: time, services, IPv4 with 5 bytes and with 513, which no address may have.
        for length in [5usize, 513] {
            let mut payload = vec![1, 0, 0, 0, 0, 1, 1];
            payload.extend(serialize(&bitcoin::VarInt(length as u64)));
            payload.extend(vec![9; length + 2]);
            peer.send_bytes(&raw_frame(b"addrv2", &payload));
        }
        peer.synced();
    });
}
