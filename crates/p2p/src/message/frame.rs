//! Messages ready to be sent.

use super::Command;
use bitcoin::consensus::Encodable;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, Transaction, VarInt};
use bytes::Bytes;

/// A message in bytes. A clone shares them, so that one goes to many peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    command: Command,
    payload: Bytes,
}

impl Frame {
    /// A message of this type with this payload.
    pub fn new(command: Command, payload: impl Into<Bytes>) -> Self {
        Self { command, payload: payload.into() }
    }

    /// A `block` from its bytes, as they lie on disk.
    pub fn block(raw: impl Into<Bytes>) -> Self {
        Self::new(named("block"), raw)
    }

    /// A `block` for a peer that asked without `MSG_WITNESS_FLAG`.
    pub fn block_without_witness(block: &Block) -> Self {
        let mut payload = written(&block.header);
        append(&mut payload, &VarInt::from(block.txdata.len()));
        for tx in &block.txdata {
            append_without_witness(&mut payload, tx);
        }
        Self::new(named("block"), payload)
    }

    /// A `tx` with its witnesses.
    pub fn tx(tx: &Transaction) -> Self {
        Self::new(named("tx"), written(tx))
    }

    /// A `tx` for a peer that asked without `MSG_WITNESS_FLAG`.
    pub fn tx_without_witness(tx: &Transaction) -> Self {
        let mut payload = Vec::new();
        append_without_witness(&mut payload, tx);
        Self::new(named("tx"), payload)
    }

    /// The message's type.
    pub fn command(&self) -> Command {
        self.command
    }

    /// The message's payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// The bytes of a message. Indexes of a `getblocktxn` must rise.
pub fn encode(message: &NetworkMessage) -> Frame {
    match message {
        NetworkMessage::Unknown { command, payload } => {
            // The crate's type takes other characters than printable ones; Core would drop such a message.
            let command = Command::new(command.as_ref()).unwrap_or(named(""));
            Frame::new(command, payload.clone())
        }
        known => Frame::new(named(known.cmd()), written(known)),
    }
}

fn named(name: &'static str) -> Command {
    Command::new(name).expect("names of known messages are short and printable")
}

fn written(value: &impl Encodable) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, value);
    bytes
}

fn append(bytes: &mut Vec<u8>, value: &impl Encodable) {
    value.consensus_encode(bytes).expect("a vector takes any bytes");
}

fn append_without_witness(bytes: &mut Vec<u8>, tx: &Transaction) {
    append(bytes, &tx.version);
    append(bytes, &tx.input);
    append(bytes, &tx.output);
    append(bytes, &tx.lock_time);
}
