//! Messages of every type, for tests.

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, PrefilledTransaction, ShortId};
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::{CommandString, NetworkMessage};
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use bitcoin::p2p::message_bloom::{BloomFlags, FilterAdd, FilterLoad};
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter, GetCFCheckpt, GetCFHeaders, GetCFilters};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, FilterHash, FilterHeader, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, Wtxid, absolute::LockTime,
};
use proptest::array::uniform32;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::net::Ipv6Addr;

/// A strategy for each type of message that is read.
pub(crate) fn messages() -> Vec<BoxedStrategy<NetworkMessage>> {
    use NetworkMessage as M;
    vec![
        version().prop_map(M::Version).boxed(),
        Just(M::Verack).boxed(),
        Just(M::SendHeaders).boxed(),
        Just(M::WtxidRelay).boxed(),
        Just(M::SendAddrV2).boxed(),
        Just(M::GetAddr).boxed(),
        Just(M::MemPool).boxed(),
        Just(M::FilterClear).boxed(),
        any::<u64>().prop_map(M::Ping).boxed(),
        any::<u64>().prop_map(M::Pong).boxed(),
        (0..=Amount::MAX_MONEY.to_sat().cast_signed()).prop_map(M::FeeFilter).boxed(),
        (any::<bool>(), any::<u64>())
            .prop_map(|(send_compact, version)| M::SendCmpct(SendCmpct { send_compact, version }))
            .boxed(),
        vec((any::<u32>(), address()), 0..5).prop_map(M::Addr).boxed(),
        vec(addrv2(), 0..8).prop_map(M::AddrV2).boxed(),
        vec(inventory(), 0..8).prop_map(M::Inv).boxed(),
        vec(inventory(), 0..8).prop_map(M::GetData).boxed(),
        vec(inventory(), 0..8).prop_map(M::NotFound).boxed(),
        vec(header(), 0..4).prop_map(M::Headers).boxed(),
        (any::<u32>(), vec(block_hash(), 0..4), block_hash())
            .prop_map(|(version, locator_hashes, stop_hash)| {
                M::GetBlocks(GetBlocksMessage { version, locator_hashes, stop_hash })
            })
            .boxed(),
        (any::<u32>(), vec(block_hash(), 0..4), block_hash())
            .prop_map(|(version, locator_hashes, stop_hash)| {
                M::GetHeaders(GetHeadersMessage { version, locator_hashes, stop_hash })
            })
            .boxed(),
        transaction().prop_map(M::Tx).boxed(),
        block().prop_map(M::Block).boxed(),
        compact_block().prop_map(|compact_block| M::CmpctBlock(CmpctBlock { compact_block })).boxed(),
        (block_hash(), btree_set(any::<u16>().prop_map(u64::from), 0..6))
            .prop_map(|(block_hash, indexes)| {
                let indexes = indexes.into_iter().collect();
                M::GetBlockTxn(GetBlockTxn { txs_request: BlockTransactionsRequest { block_hash, indexes } })
            })
            .boxed(),
        (block_hash(), vec(transaction(), 0..3))
            .prop_map(|(block_hash, transactions)| {
                M::BlockTxn(BlockTxn { transactions: BlockTransactions { block_hash, transactions } })
            })
            .boxed(),
        (bytes(40), any::<u32>(), any::<u32>())
            .prop_map(|(filter, hash_funcs, tweak)| {
                M::FilterLoad(FilterLoad { filter, hash_funcs, tweak, flags: BloomFlags::All })
            })
            .boxed(),
        bytes(40).prop_map(|data| M::FilterAdd(FilterAdd { data })).boxed(),
        (any::<u8>(), any::<u32>(), block_hash())
            .prop_map(|(filter_type, start_height, stop_hash)| {
                M::GetCFilters(GetCFilters { filter_type, start_height, stop_hash })
            })
            .boxed(),
        (any::<u8>(), any::<u32>(), block_hash())
            .prop_map(|(filter_type, start_height, stop_hash)| {
                M::GetCFHeaders(GetCFHeaders { filter_type, start_height, stop_hash })
            })
            .boxed(),
        (any::<u8>(), block_hash())
            .prop_map(|(filter_type, stop_hash)| M::GetCFCheckpt(GetCFCheckpt { filter_type, stop_hash }))
            .boxed(),
        (any::<u8>(), block_hash(), bytes(40))
            .prop_map(|(filter_type, block_hash, filter)| M::CFilter(CFilter { filter_type, block_hash, filter }))
            .boxed(),
        (any::<u8>(), block_hash(), filter_header(), vec(uniform32(any::<u8>()), 0..4))
            .prop_map(|(filter_type, stop_hash, previous_filter_header, hashes)| {
                let filter_hashes = hashes.into_iter().map(FilterHash::from_byte_array).collect();
                M::CFHeaders(CFHeaders { filter_type, stop_hash, previous_filter_header, filter_hashes })
            })
            .boxed(),
        (any::<u8>(), block_hash(), vec(filter_header(), 0..4))
            .prop_map(|(filter_type, stop_hash, filter_headers)| {
                M::CFCheckpt(CFCheckpt { filter_type, stop_hash, filter_headers })
            })
            .boxed(),
        ("x[ -~]{0,11}", bytes(40))
            .prop_map(|(command, payload)| {
                let command = CommandString::try_from(command).expect("at most 12 characters");
                M::Unknown { command, payload }
            })
            .boxed(),
    ]
}

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    (any::<i32>(), vec(input(), 1..4), vec(output(), 0..3), any::<u32>()).prop_map(
        |(version, input, output, lock_time)| Transaction {
            version: Version(version),
            lock_time: LockTime::from_consensus(lock_time),
            input,
            output,
        },
    )
}

pub(crate) fn block() -> impl Strategy<Value = Block> {
    (header(), vec(transaction(), 0..3)).prop_map(|(header, txdata)| Block { header, txdata })
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn block_hash() -> impl Strategy<Value = BlockHash> {
    uniform32(any::<u8>()).prop_map(BlockHash::from_byte_array)
}

fn filter_header() -> impl Strategy<Value = FilterHeader> {
    uniform32(any::<u8>()).prop_map(FilterHeader::from_byte_array)
}

fn header() -> impl Strategy<Value = Header> {
    vec(any::<u8>(), 80).prop_map(|bytes| deserialize(&bytes).expect("any 80 bytes are a header"))
}

fn input() -> impl Strategy<Value = TxIn> {
    (uniform32(any::<u8>()), any::<u32>(), bytes(40), any::<u32>(), vec(bytes(40), 0..3)).prop_map(
        |(txid, vout, script, sequence, witness)| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array(txid), vout },
            script_sig: ScriptBuf::from(script),
            sequence: Sequence(sequence),
            witness: Witness::from_slice(&witness),
        },
    )
}

fn output() -> impl Strategy<Value = TxOut> {
    (any::<u64>(), bytes(40))
        .prop_map(|(value, script)| TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from(script) })
}

fn compact_block() -> impl Strategy<Value = HeaderAndShortIds> {
    let prefilled = (any::<u16>(), transaction()).prop_map(|(idx, tx)| PrefilledTransaction { idx, tx });
    let short_id = any::<[u8; 6]>().prop_map(ShortId::from);
    (header(), any::<u64>(), vec(short_id, 0..5), vec(prefilled, 0..3)).prop_map(
        |(header, nonce, short_ids, prefilled_txs)| HeaderAndShortIds { header, nonce, short_ids, prefilled_txs },
    )
}

fn inventory() -> impl Strategy<Value = Inventory> {
    let kinds = [0, 1, 2, 3, 4, 5, 6, 0x4000_0001, 0x4000_0002, 0x4000_0005, u32::MAX];
    (prop::sample::select(kinds.to_vec()), uniform32(any::<u8>())).prop_map(|(kind, hash)| match kind {
        1 => Inventory::Transaction(Txid::from_byte_array(hash)),
        2 => Inventory::Block(BlockHash::from_byte_array(hash)),
        4 => Inventory::CompactBlock(BlockHash::from_byte_array(hash)),
        5 => Inventory::WTx(Wtxid::from_byte_array(hash)),
        0x4000_0001 => Inventory::WitnessTransaction(Txid::from_byte_array(hash)),
        0x4000_0002 => Inventory::WitnessBlock(BlockHash::from_byte_array(hash)),
        inv_type => Inventory::Unknown { inv_type, hash },
    })
}

fn address() -> impl Strategy<Value = Address> {
    (any::<u64>(), any::<[u16; 8]>(), any::<u16>()).prop_map(|(services, address, port)| Address {
        services: ServiceFlags::from(services),
        address,
        port,
    })
}

fn addrv2() -> impl Strategy<Value = AddrV2Message> {
    let ipv6 = any::<Ipv6Addr>().prop_filter("what Core reads as invalid", |ip| {
        ip.to_ipv4_mapped().is_none() && ip.segments()[..3] != [0xfd87, 0xd87e, 0xeb43]
    });
    let cjdns = any::<Ipv6Addr>().prop_map(|ip| {
        let mut octets = ip.octets();
        octets[0] = 0xfc;
        Ipv6Addr::from(octets)
    });
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| AddrV2::Ipv4(ip.into())),
        ipv6.prop_map(AddrV2::Ipv6),
        any::<[u8; 10]>().prop_map(AddrV2::TorV2),
        uniform32(any::<u8>()).prop_map(AddrV2::TorV3),
        uniform32(any::<u8>()).prop_map(AddrV2::I2p),
        cjdns.prop_map(AddrV2::Cjdns),
        (7_u8.., vec(any::<u8>(), 0..=512)).prop_map(|(network, bytes)| AddrV2::Unknown(network, bytes)),
    ];
    (any::<u32>(), any::<u64>(), address, any::<u16>()).prop_map(|(time, services, addr, port)| AddrV2Message {
        time,
        services: ServiceFlags::from(services),
        addr,
        port,
    })
}

fn version() -> impl Strategy<Value = VersionMessage> {
    let numbers = (31_800..=i32::MAX.cast_unsigned(), any::<u64>(), 0..i64::MAX, any::<u64>(), any::<i32>());
    let user_agent = "[a-zA-Z0-9 .,;_/:?@()-]{0,256}";
    (numbers, address(), address(), user_agent, any::<bool>()).prop_map(
        |((version, services, timestamp, nonce, start_height), receiver, sender, user_agent, relay)| VersionMessage {
            version,
            services: ServiceFlags::from(services),
            timestamp,
            receiver,
            sender,
            nonce,
            user_agent,
            start_height,
            relay,
        },
    )
}
