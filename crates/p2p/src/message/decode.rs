//! Payloads to messages.

use super::addrv2::read_addrv2;
use super::bytes::{any_compact_size, array, compact_size, ends_early, read, take};
use super::walk::{walk_compact_block, walk_transaction, walk_transactions};
use crate::limits::{
    MAX_ADDR_TO_SEND, MAX_FEATUREDATA_LENGTH, MAX_FEATUREID_LENGTH, MAX_HEADERS_RESULTS, MAX_INV_SIZE,
    MAX_LOCATOR_SIZE, MAX_SUBVERSION_LENGTH, MIN_PEER_PROTO_VERSION,
};
use bitcoin::bip152::BlockTransactionsRequest;
use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2Message, Address};
use bitcoin::p2p::message::{CommandString, NetworkMessage};
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use bitcoin::p2p::message_compact_blocks::{GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{Amount, BlockHash};

/// Why a payload is no message. Only what Core punishes is more than [`Malformed`](Self::Malformed).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More entries than a peer may send. For `addr`, `addrv2`, `inv`, `getdata` and `headers` that is misbehaviour in
    /// Core; for `getblocks` and `getheaders` it disconnects; a `notfound` it ignores.
    #[error("message size = {count}, at most {max} are allowed")]
    TooMany {
        /// How many are announced.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// Misbehaviour in Core, by its words.
    #[error("{0}")]
    Misbehaving(&'static str),
    /// Bytes that are no such message. Core drops the message and keeps the peer.
    #[error("malformed: {0}")]
    Malformed(String),
}

impl DecodeError {
    pub(super) fn malformed(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }
}

/// The message of type `command` whose payload this is. Types that Core does not read are
/// [`NetworkMessage::Unknown`]; so are `alert`, `merkleblock` and `reject`, which no node has to read.
pub fn decode(command: &str, payload: &[u8]) -> Result<NetworkMessage, DecodeError> {
    let input = &mut &payload[..];
    // What is left in `input` at the end is ignored, as Core does.
    Ok(match command {
        "version" => NetworkMessage::Version(version(input)?),
        "verack" => NetworkMessage::Verack,
        "sendheaders" => NetworkMessage::SendHeaders,
        "wtxidrelay" => NetworkMessage::WtxidRelay,
        "sendaddrv2" => NetworkMessage::SendAddrV2,
        "getaddr" => NetworkMessage::GetAddr,
        "mempool" => NetworkMessage::MemPool,
        "filterclear" => NetworkMessage::FilterClear,
        "ping" => NetworkMessage::Ping(read(input)?),
        // A nonce of 0 makes Core forget its ping, and so does a payload that is too short for one.
        "pong" => NetworkMessage::Pong(if payload.len() < 8 { 0 } else { read(input)? }),
        "feefilter" => NetworkMessage::FeeFilter(fee_filter(input)?),
        "sendcmpct" => NetworkMessage::SendCmpct(send_cmpct(input)?),
        "addr" => NetworkMessage::Addr(list::<(u32, Address)>(input, 4 + 26, 0, MAX_ADDR_TO_SEND)?),
        "addrv2" => NetworkMessage::AddrV2(addrv2(input)?),
        "inv" => NetworkMessage::Inv(inventory(input)?),
        "getdata" => NetworkMessage::GetData(inventory(input)?),
        "notfound" => NetworkMessage::NotFound(inventory(input)?),
        "headers" => NetworkMessage::Headers(headers(input)?),
        "getblocks" => {
            let (version, locator_hashes, stop_hash) = locator(input)?;
            NetworkMessage::GetBlocks(GetBlocksMessage { version, locator_hashes, stop_hash })
        }
        "getheaders" => {
            let (version, locator_hashes, stop_hash) = locator(input)?;
            NetworkMessage::GetHeaders(GetHeadersMessage { version, locator_hashes, stop_hash })
        }
        "tx" => {
            walk_transaction(&mut &payload[..])?;
            NetworkMessage::Tx(read(input)?)
        }
        "block" => {
            walk_transactions(&mut after(payload, 80)?)?;
            NetworkMessage::Block(read(input)?)
        }
        "cmpctblock" => {
            walk_compact_block(&mut &payload[..])?;
            NetworkMessage::CmpctBlock(read(input)?)
        }
        "blocktxn" => {
            walk_transactions(&mut after(payload, 32)?)?;
            NetworkMessage::BlockTxn(read(input)?)
        }
        "getblocktxn" => NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request: transactions_request(input)? }),
        "filterload" => NetworkMessage::FilterLoad(read(input)?),
        "filteradd" => NetworkMessage::FilterAdd(read(input)?),
        "getcfilters" => NetworkMessage::GetCFilters(read(input)?),
        "getcfheaders" => NetworkMessage::GetCFHeaders(read(input)?),
        "getcfcheckpt" => NetworkMessage::GetCFCheckpt(read(input)?),
        "cfilter" => NetworkMessage::CFilter(read(input)?),
        "cfheaders" => NetworkMessage::CFHeaders(CFHeaders {
            filter_type: read(input)?,
            stop_hash: read(input)?,
            previous_filter_header: read(input)?,
            filter_hashes: list(input, 32, 0, usize::MAX)?,
        }),
        "cfcheckpt" => NetworkMessage::CFCheckpt(CFCheckpt {
            filter_type: read(input)?,
            stop_hash: read(input)?,
            filter_headers: list(input, 32, 0, usize::MAX)?,
        }),
        _ => NetworkMessage::Unknown {
            command: CommandString::try_from(command).map_err(|error| DecodeError::Malformed(error.to_string()))?,
            payload: payload.to_vec(),
        },
    })
}

/// Whether this is the payload of a `feature` (BIP 434): an identifier of 4 to 80 bytes, and up to 512 bytes of data.
/// Core disconnects a peer whose `feature` is none; one that it does not know it ignores.
pub fn is_feature(payload: &[u8]) -> bool {
    fn read_feature(input: &mut &[u8]) -> Result<bool, DecodeError> {
        let id = compact_size(input)?;
        take(input, id)?;
        let data = compact_size(input)?;
        take(input, data)?;
        Ok((4..=MAX_FEATUREID_LENGTH).contains(&id) && data <= MAX_FEATUREDATA_LENGTH && input.is_empty())
    }
    read_feature(&mut &payload[..]).unwrap_or(false)
}

/// Everything after the receiver's address may be missing. What is missing reads as in Core: nonce 1, an empty user
/// agent, height -1, and relay wanted. The user agent is kept without what `SanitizeString` takes out.
fn version(input: &mut &[u8]) -> Result<VersionMessage, DecodeError> {
    // A negative version is as obsolete as 0.
    let version = u32::try_from(read::<i32>(input)?).unwrap_or(0);
    let services: ServiceFlags = read(input)?;
    let timestamp = read::<i64>(input)?.max(0);
    let receiver: Address = read(input)?;
    let mut message = VersionMessage {
        version,
        services,
        timestamp,
        receiver,
        sender: Address { services: ServiceFlags::NONE, address: [0; 8], port: 0 },
        nonce: 1,
        user_agent: String::new(),
        start_height: -1,
        relay: true,
    };
    // Core disconnects before it reads the rest.
    if version < MIN_PEER_PROTO_VERSION {
        return Ok(message);
    }
    if !input.is_empty() {
        message.sender = read(input)?;
        message.nonce = read(input)?;
    }
    if !input.is_empty() {
        let length = compact_size(input)?;
        if length > MAX_SUBVERSION_LENGTH {
            return Err(DecodeError::malformed("String length limit exceeded"));
        }
        message.user_agent = take(input, length)?.iter().copied().filter(is_safe).map(char::from).collect();
    }
    if !input.is_empty() {
        message.start_height = read(input)?;
    }
    if !input.is_empty() {
        message.relay = read(input)?;
    }
    Ok(message)
}

/// Core's `SAFE_CHARS_DEFAULT`.
fn is_safe(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b" .,;-_/:?@()".contains(byte)
}

fn fee_filter(input: &mut &[u8]) -> Result<i64, DecodeError> {
    let fee = read::<i64>(input)?;
    match u64::try_from(fee) {
        Ok(positive) if positive <= Amount::MAX_MONEY.to_sat() => Ok(fee),
        // Core ignores it.
        _ => Err(DecodeError::malformed("a fee rate out of the range of money")),
    }
}

fn send_cmpct(input: &mut &[u8]) -> Result<SendCmpct, DecodeError> {
    let announce = array::<1>(input)?[0];
    let version = read(input)?;
    if announce > 1 {
        return Err(DecodeError::Misbehaving("invalid sendcmpct announce field"));
    }
    Ok(SendCmpct { send_compact: announce == 1, version })
}

/// A list of at most `max` entries of `size` bytes each, with `after` bytes behind them. As in Core a list that is too
/// long and all there is too many, and one that is not there is malformed.
fn list<T: Decodable>(input: &mut &[u8], size: usize, after: usize, max: usize) -> Result<Vec<T>, DecodeError> {
    let count = compact_size(input)?;
    if input.len() < count * size + after {
        return Err(ends_early());
    }
    if count > max {
        return Err(DecodeError::TooMany { count, max });
    }
    (0..count).map(|_| read(input)).collect()
}

fn inventory(input: &mut &[u8]) -> Result<Vec<Inventory>, DecodeError> {
    list(input, 4 + 32, 0, MAX_INV_SIZE)
}

fn locator(input: &mut &[u8]) -> Result<(u32, Vec<BlockHash>, BlockHash), DecodeError> {
    let version = read(input)?;
    let hashes = list(input, 32, 32, MAX_LOCATOR_SIZE)?;
    Ok((version, hashes, read(input)?))
}

fn addrv2(input: &mut &[u8]) -> Result<Vec<AddrV2Message>, DecodeError> {
    let count = compact_size(input)?;
    let max = MAX_ADDR_TO_SEND;
    if count > max {
        for _ in 0..count {
            read_addrv2(input)?;
        }
        return Err(DecodeError::TooMany { count, max });
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        addresses.push(read_addrv2(input)?);
    }
    Ok(addresses)
}

fn headers(input: &mut &[u8]) -> Result<Vec<Header>, DecodeError> {
    let count = compact_size(input)?;
    let max = MAX_HEADERS_RESULTS;
    // Unlike lists, Core looks at the count before it reads on.
    if count > max {
        return Err(DecodeError::TooMany { count, max });
    }
    let mut headers = Vec::with_capacity(count.min(input.len() / 81));
    for _ in 0..count {
        headers.push(read(input)?);
        compact_size(input)?; // of transactions: Core ignores what it says
    }
    Ok(headers)
}

fn transactions_request(input: &mut &[u8]) -> Result<BlockTransactionsRequest, DecodeError> {
    let block_hash = read(input)?;
    let count = compact_size(input)?;
    let mut indexes = Vec::with_capacity(count.min(input.len()));
    let mut next = 0_u64;
    for _ in 0..count {
        let index = next.saturating_add(any_compact_size(input)?);
        if index > u16::MAX.into() {
            return Err(DecodeError::malformed("differential value overflow"));
        }
        indexes.push(index);
        next = index + 1;
    }
    Ok(BlockTransactionsRequest { block_hash, indexes })
}

/// The payload after its first `count` bytes.
fn after(payload: &[u8], count: usize) -> Result<&[u8], DecodeError> {
    payload.get(count..).ok_or_else(ends_early)
}
