//! Messages to and from bytes.

use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, Encodable, deserialize_partial, serialize};
use bitcoin::p2p::message::{CommandString, NetworkMessage};
use bitcoin::{Block, VarInt};
use std::sync::Arc;

/// A message as bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Command.
    pub command: &'static str,
    /// Payload.
    pub payload: Arc<[u8]>,
}

impl Frame {
    /// Bytes.
    pub fn size(&self) -> usize {
        self.payload.len() + 24
    }
    /// Raw.
    pub fn block(raw: Vec<u8>) -> Frame {
        Frame { command: "block", payload: raw.into() }
    }
    /// Whole.
    pub fn whole_block(block: &Block) -> Frame {
        Frame::block(serialize(block))
    }
    /// Stripped.
    pub fn stripped_block(block: &Block) -> Frame {
        let mut block = block.clone();
        for tx in &mut block.txdata {
            for input in &mut tx.input {
                input.witness.clear();
            }
        }
        Frame::block(serialize(&block))
    }
}

/// Encode.
pub fn encode(message: &NetworkMessage) -> Frame {
    let mut payload = Vec::new();
    message.consensus_encode(&mut payload).expect("a vector takes all that is written");
    Frame { command: message.cmd(), payload: payload.into() }
}
/// Command.
pub fn command_of(message: &NetworkMessage) -> &'static str {
    message.cmd()
}

/// Error.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Too many.
    #[error("too many")]
    TooMany {},
    /// Malformed.
    #[error("malformed")]
    Malformed,
}

fn one<T: Decodable>(payload: &[u8]) -> Result<T, DecodeError> {
    deserialize_partial(payload).map(|(value, _)| value).map_err(|_| DecodeError::Malformed)
}

/// Decode.
pub fn decode(command: &str, payload: &[u8]) -> Result<NetworkMessage, DecodeError> {
    use NetworkMessage as M;
    Ok(match command {
        "version" => M::Version(one(payload)?),
        "verack" => M::Verack,
        "addr" => M::Addr(one(payload)?),
        "inv" => M::Inv(one(payload)?),
        "getdata" => M::GetData(one(payload)?),
        "notfound" => M::NotFound(one(payload)?),
        "getblocks" => M::GetBlocks(one(payload)?),
        "getheaders" => M::GetHeaders(one(payload)?),
        "mempool" => M::MemPool,
        "tx" => M::Tx(one(payload)?),
        "block" => M::Block(one(payload)?),
        "headers" => {
            let mut rest = payload;
            let count = VarInt::consensus_decode(&mut rest).map_err(|_| DecodeError::Malformed)?.0;
            if count > 2000 {
                return Err(DecodeError::TooMany {});
            }
            let mut headers = Vec::new();
            for _ in 0..count {
                headers.push(Header::consensus_decode(&mut rest).map_err(|_| DecodeError::Malformed)?);
                VarInt::consensus_decode(&mut rest).map_err(|_| DecodeError::Malformed)?;
            }
            M::Headers(headers)
        }
        "sendheaders" => M::SendHeaders,
        "getaddr" => M::GetAddr,
        "ping" => M::Ping(one(payload)?),
        "pong" => M::Pong(one(payload)?),
        "sendcmpct" => M::SendCmpct(one(payload)?),
        "cmpctblock" => M::CmpctBlock(one(payload)?),
        "getblocktxn" => M::GetBlockTxn(one(payload)?),
        "blocktxn" => M::BlockTxn(one(payload)?),
        "feefilter" => M::FeeFilter(one(payload)?),
        "wtxidrelay" => M::WtxidRelay,
        "addrv2" => M::AddrV2(one(payload)?),
        "sendaddrv2" => M::SendAddrV2,
        other => M::Unknown {
            command: CommandString::try_from(other.to_owned()).map_err(|_| DecodeError::Malformed)?,
            payload: payload.to_vec(),
        },
    })
}
