//! Bytes to tree and back.
//!
//! A node is written as its attestations and operations in order, each but the last after `ff`; `00` begins an
//! attestation, everything else is an operation's tag, followed by the node that it leads to.

use super::attestation::{BITCOIN, ETHEREUM, LITECOIN, PENDING, check_uri};
use super::{
    Attestation, DecodeError, MAX_ARGUMENT_LENGTH, MAX_ATTESTATION_PAYLOAD, MAX_PROOF_SIZE, MAX_URI_LENGTH, NodeId, Op,
    OtsError, Timestamp,
};

const FORK: u8 = 0xff;
const ATTESTATION: u8 = 0x00;

/// Reads bytes and knows where it is.
pub(super) struct Reader<'a> {
    input: &'a [u8],
    position: usize,
    /// Where `input` begins in what the caller gave.
    base: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Result<Self, DecodeError> {
        let reader = Self { input, position: 0, base: 0 };
        if input.len() > MAX_PROOF_SIZE {
            return Err(reader.at(MAX_PROOF_SIZE, OtsError::ProofTooLarge(input.len())));
        }
        Ok(reader)
    }

    fn offset(&self) -> usize {
        self.base + self.position
    }

    fn at(&self, offset: usize, error: OtsError) -> DecodeError {
        DecodeError { offset, error }
    }

    /// An error at the byte before the next one, if it is about what was just read.
    pub(super) fn error_before(&self, back: usize, error: OtsError) -> DecodeError {
        self.at(self.offset() - back, error)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.input[self.position..];
        let Some(bytes) = rest.get(..length) else {
            return Err(self.at(self.offset(), OtsError::Truncated { wanted: length, available: rest.len() }));
        };
        self.position += length;
        Ok(bytes)
    }

    /// LEB128. Padding with zeroes is accepted, as by Python; it is not written.
    fn varuint(&mut self) -> Result<u64, DecodeError> {
        let start = self.offset();
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits != 0 {
                if shift > 63 || (bits << shift) >> shift != bits {
                    return Err(self.at(start, OtsError::NumberTooLarge));
                }
                value |= bits << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
    }

    /// A length and as many bytes. `too_long` says what is too long.
    fn varbytes(&mut self, max: usize, too_long: fn(u64) -> OtsError) -> Result<&'a [u8], DecodeError> {
        let start = self.offset();
        let length = self.varuint()?;
        match usize::try_from(length) {
            Ok(length) if length <= max => self.bytes(length),
            _ => Err(self.at(start, too_long(length))),
        }
    }

    fn end(&self, error: fn(usize) -> OtsError) -> Result<(), DecodeError> {
        match self.input.len() - self.position {
            0 => Ok(()),
            left => Err(self.at(self.offset(), error(left))),
        }
    }

    pub(super) fn end_of_proof(&self) -> Result<(), DecodeError> {
        self.end(OtsError::TrailingBytes)
    }
}

fn read_attestation(reader: &mut Reader<'_>) -> Result<Attestation, DecodeError> {
    let tag: [u8; 8] = reader.bytes(8)?.try_into().expect("eight bytes were asked for");
    let payload = reader.varbytes(MAX_ATTESTATION_PAYLOAD, OtsError::AttestationTooLong)?;
    let mut inner = Reader { input: payload, position: 0, base: reader.offset() - payload.len() };
    let attestation = match tag {
        BITCOIN => Attestation::Bitcoin { height: inner.varuint()? },
        LITECOIN => Attestation::Litecoin { height: inner.varuint()? },
        ETHEREUM => Attestation::Ethereum { height: inner.varuint()? },
        PENDING => {
            let uri = inner.varbytes(MAX_URI_LENGTH, OtsError::UriTooLong)?;
            check_uri(uri).map_err(|error| inner.error_before(uri.len(), error))?;
            Attestation::Pending { uri: uri.iter().map(|b| char::from(*b)).collect() }
        }
        tag => return Ok(Attestation::Unknown { tag, payload: payload.to_vec() }),
    };
    inner.end(OtsError::TrailingPayload)?;
    Ok(attestation)
}

fn read_op(reader: &mut Reader<'_>, tag: u8) -> Result<Op, DecodeError> {
    Ok(match tag {
        0x02 => Op::Sha1,
        0x03 => Op::Ripemd160,
        0x08 => Op::Sha256,
        0x67 => Op::Keccak256,
        0xf0 | 0xf1 => {
            let argument = reader.varbytes(MAX_ARGUMENT_LENGTH, OtsError::ArgumentTooLong)?.to_vec();
            if tag == 0xf0 { Op::Append(argument) } else { Op::Prepend(argument) }
        }
        0xf2 => Op::Reverse,
        0xf3 => Op::Hexlify,
        tag => return Err(reader.error_before(1, OtsError::UnknownOperation(tag))),
    })
}

impl Timestamp {
    /// Reads a timestamp for `message`, as calendars send them: no header, nothing behind it.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn from_bytes(message: impl Into<Vec<u8>>, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let timestamp = Self::read(&mut reader, message.into())?;
        reader.end_of_proof()?;
        Ok(timestamp)
    }

    pub(super) fn read(reader: &mut Reader<'_>, message: Vec<u8>) -> Result<Self, DecodeError> {
        let mut timestamp = Self::new(message).map_err(|error| reader.error_before(0, error))?;
        // Nodes that have more to come once the node before them is done.
        let mut open = vec![timestamp.root()];
        while let Some(node) = open.last().copied() {
            let start = reader.offset();
            let mut tag = reader.u8()?;
            let last = tag != FORK;
            if last {
                open.pop();
            } else {
                tag = reader.u8()?;
            }
            if tag == ATTESTATION {
                let attestation = read_attestation(reader)?;
                timestamp.node_mut(node).attestations.push(attestation);
            } else {
                let op = read_op(reader, tag)?;
                let child = timestamp.new_child(node, &op).map_err(|error| reader.at(start, error))?;
                timestamp.node_mut(node).edges.push((op, child));
                open.push(child);
            }
            if last {
                timestamp.close(node);
            }
        }
        timestamp.compact();
        Ok(timestamp)
    }

    /// Puts what was read at a node in order. Of an operation that is there more than once the last counts, as in Python.
    fn close(&mut self, node: NodeId) {
        let node = self.node_mut(node);
        node.attestations.sort();
        node.attestations.dedup();
        node.attestations.shrink_to_fit();
        // Reversed first: the sort is stable, so the last of equal ones comes first and is the one that stays.
        node.edges.reverse();
        node.edges.sort_by(|(a, _), (b, _)| a.cmp(b));
        node.edges.dedup_by(|(a, _), (b, _)| a == b);
        node.edges.shrink_to_fit();
    }

    /// Writes the timestamp in canonical form, without a header.
    ///
    /// # Errors
    /// A branch has no attestation, or the proof is longer than [`MAX_PROOF_SIZE`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, OtsError> {
        let mut out = Vec::new();
        self.write(&mut out)?;
        Ok(out)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), OtsError> {
        // Operations still to be written, each with the node that it leads to, and whether others follow it.
        let mut stack: Vec<(&Op, NodeId, bool)> = Vec::new();
        let mut next = Some(self.root());
        loop {
            let id = match next.take() {
                Some(id) => id,
                None => {
                    let Some((op, child, fork)) = stack.pop() else { break };
                    if fork {
                        out.push(FORK);
                    }
                    write_op(out, op);
                    child
                }
            };
            let node = self.node(id);
            if node.attestations.is_empty() && node.edges.is_empty() {
                return Err(OtsError::Empty);
            }
            let items = node.attestations.len() + node.edges.len();
            for (index, attestation) in node.attestations.iter().enumerate() {
                if index + 1 < items {
                    out.push(FORK);
                }
                out.push(ATTESTATION);
                write_attestation(out, attestation);
            }
            let last = node.edges.len().saturating_sub(1);
            let edges = node.edges.iter().enumerate().rev();
            stack.extend(edges.map(|(index, (op, child))| (op, *child, index < last)));
            if out.len() > MAX_PROOF_SIZE {
                return Err(OtsError::ProofTooLarge(out.len()));
            }
        }
        Ok(())
    }
}

fn write_varuint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_varbytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varuint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_op(out: &mut Vec<u8>, op: &Op) {
    out.push(op.tag());
    if let Some(argument) = op.argument() {
        write_varbytes(out, argument);
    }
}

fn write_attestation(out: &mut Vec<u8>, attestation: &Attestation) {
    let mut payload = Vec::new();
    match attestation {
        Attestation::Bitcoin { height } | Attestation::Litecoin { height } | Attestation::Ethereum { height } => {
            write_varuint(&mut payload, *height);
        }
        Attestation::Pending { uri } => write_varbytes(&mut payload, uri.as_bytes()),
        Attestation::Unknown { payload: bytes, .. } => payload.extend_from_slice(bytes),
    }
    out.extend_from_slice(&attestation.tag());
    write_varbytes(out, &payload);
}
