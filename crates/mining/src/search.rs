//! The proof-of-work search: SHA-256d over nonces, with everything that does not change computed once.

use crate::MiningError;
use bitcoin::{Block, ScriptBuf, block::Header, consensus::encode::serialize, script::PushBytesBuf};
use sha2::block_api::compress256;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};

/// Initial state of SHA-256 (FIPS 180-4, 5.3.3).
const SHA256_INITIAL_STATE: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Nonces hashed side by side. The compressions of one lane wait for each other; those of different lanes overlap in
/// the processor's pipeline, and a lane's message is written long before it is read.
const LANES: usize = 32;

/// Nonces between two looks at `stop`: below a millisecond on any processor with SHA instructions.
const NONCES_PER_CHECK: u64 = 4096;

/// Most bytes that a coinbase transaction's scriptSig may have.
const MAX_COINBASE_SCRIPT_SIG: usize = 100;

/// Searches nonces `start..=end` for a header at or below its own target, with the midstate kept; `None` when exhausted or stopped.
///
/// The header's own nonce is ignored.
pub fn search_nonces(header: &Header, start: u32, end: u32, stop: &AtomicBool) -> Option<u32> {
    if start > end {
        return None;
    }
    let mut search = Search::new(header, start);
    let mut left = u64::from(end - start) + 1;
    while left > 0 {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let slice = left.min(NONCES_PER_CHECK);
        // Only the last slice can be no multiple of the lanes; what a batch finds beyond its end is not ours to report.
        for _ in 0..slice.div_ceil(LANES as u64) {
            if let Some(nonce) = search.next_batch() {
                return (start..=end).contains(&nonce).then_some(nonce);
            }
        }
        left -= slice;
    }
    None
}

/// Finds the proof of work of a block on one thread, changing nonce, then extra nonce (coinbase and merkle root) as
/// needed. Returns the number of hashes that it took. The merkle root is computed first, so it need not be right.
pub fn mine(block: &mut Block, stop: &AtomicBool) -> Result<u64, MiningError> {
    let script_sig = match block.txdata.first().and_then(|coinbase| coinbase.input.first()) {
        Some(input) => input.script_sig.clone(),
        None => return Err(MiningError::NoCoinbase),
    };
    let mut hashes = 0;
    for extra_nonce in 0u64.. {
        if extra_nonce > 0 {
            set_extra_nonce(block, &script_sig, extra_nonce)?;
        }
        block.header.merkle_root = block.compute_merkle_root().ok_or(MiningError::NoCoinbase)?;
        if let Some(nonce) = search_nonces(&block.header, 0, u32::MAX, stop) {
            block.header.nonce = nonce;
            return Ok(hashes + u64::from(nonce) + 1);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(MiningError::Stopped);
        }
        hashes += 1 << 32;
    }
    Err(MiningError::Stopped)
}

/// Appends an extra nonce to the coinbase's original scriptSig. The witness commitment does not cover the coinbase
/// (BIP 141 counts its wtxid as zero), so only the merkle root changes with it.
fn set_extra_nonce(block: &mut Block, script_sig: &ScriptBuf, extra_nonce: u64) -> Result<(), MiningError> {
    let mut with_nonce = script_sig.clone();
    with_nonce.push_slice(PushBytesBuf::from(extra_nonce.to_le_bytes()));
    if with_nonce.len() > MAX_COINBASE_SCRIPT_SIG {
        return Err(MiningError::CoinbaseFull);
    }
    block.txdata[0].input[0].script_sig = with_nonce;
    Ok(())
}

/// The state of a search: what every nonce shares and one message a lane.
struct Search {
    midstate: [u32; 8],
    target: [u32; 8],
    next: u32,
    states: [[u32; 8]; LANES],
    /// The header's last 16 bytes, padded; the nonces of the coming batch are in place.
    tails: [[u8; 64]; LANES],
    /// The first hash, padded.
    digests: [[u8; 64]; LANES],
}

impl Search {
    fn new(header: &Header, start: u32) -> Search {
        let header_bytes = serialize(header);
        let mut first_block = [0; 64];
        first_block.copy_from_slice(&header_bytes[..64]);
        let mut midstate = SHA256_INITIAL_STATE;
        compress256(&mut midstate, from_ref(&first_block));

        let mut tail = padded(16, 640);
        tail[..16].copy_from_slice(&header_bytes[64..]);
        let target_bytes = header.target().to_le_bytes();
        let mut target = [0; 8];
        for (word, bytes) in target.iter_mut().zip(target_bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("chunks_exact gives four bytes"));
        }
        let mut search = Search {
            midstate,
            target,
            next: start,
            states: [midstate; LANES],
            tails: [tail; LANES],
            digests: [padded(32, 256); LANES],
        };
        for lane in 0..LANES {
            search.set_nonce(lane, start.wrapping_add(lane as u32));
        }
        search
    }

    fn set_nonce(&mut self, lane: usize, nonce: u32) {
        self.tails[lane][12..16].copy_from_slice(&nonce.to_le_bytes());
    }

    /// Hashes one nonce a lane; the lowest nonce at or below the target, if there is one.
    fn next_batch(&mut self) -> Option<u32> {
        let first = self.next;
        self.next = first.wrapping_add(LANES as u32);
        for (state, tail) in self.states.iter_mut().zip(&self.tails) {
            compress256(state, from_ref(tail));
        }
        for lane in 0..LANES {
            for (bytes, word) in self.digests[lane].chunks_exact_mut(4).zip(self.states[lane]) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
            self.states[lane] = SHA256_INITIAL_STATE;
            // A message that is read right after a part of it was written stalls the load: write the next one now.
            self.set_nonce(lane, self.next.wrapping_add(lane as u32));
        }
        for (state, digest) in self.states.iter_mut().zip(&self.digests) {
            compress256(state, from_ref(digest));
        }
        let mut found = None;
        for lane in 0..LANES {
            // The hash is a little-endian number: its most significant word decides but once in billions of times.
            if self.states[lane][7].swap_bytes() <= self.target[7] && found.is_none() && self.meets_target(lane) {
                found = Some(first.wrapping_add(lane as u32));
            }
            self.states[lane] = self.midstate;
        }
        found
    }

    fn meets_target(&self, lane: usize) -> bool {
        let hash = self.states[lane].map(u32::swap_bytes);
        hash.iter().rev().le(self.target.iter().rev())
    }
}

/// A SHA-256 block whose message ends after `length` bytes, with the total length of the message in bits.
fn padded(length: usize, total_bits: u64) -> [u8; 64] {
    let mut block = [0; 64];
    block[length] = 0x80;
    block[56..].copy_from_slice(&total_bits.to_be_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{CompactTarget, Target, constants::genesis_block};

    static RUN: AtomicBool = AtomicBool::new(false);

    #[test]
    fn finds_the_nonces_of_known_blocks() {
        for network in [bitcoin::Network::Bitcoin, bitcoin::Network::Testnet4, bitcoin::Network::Signet] {
            let header = genesis_block(network).header;
            // Ends and starts that are no multiple of the lanes, with the nonce at either end of the range.
            let nonce = header.nonce;
            assert_eq!(search_nonces(&header, nonce - 1003, nonce, &RUN), Some(nonce), "{network}");
            assert_eq!(search_nonces(&header, nonce, nonce, &RUN), Some(nonce), "{network}");
            assert_eq!(search_nonces(&header, nonce, nonce + 10_000, &RUN), Some(nonce), "{network}");
            assert_eq!(search_nonces(&header, nonce - 1003, nonce - 1, &RUN), None, "{network}");
        }
    }

    #[test]
    fn finds_exactly_what_hashing_whole_headers_finds() {
        let mut header = genesis_block(bitcoin::Network::Regtest).header;
        // A target of 2^248: about one nonce in 256 meets it.
        header.bits = CompactTarget::from_consensus(0x2001_0000);
        let mut from = 0;
        for nonce in 0..5000 {
            header.nonce = nonce;
            if Target::from_compact(header.bits).is_met_by(header.block_hash()) {
                assert_eq!(search_nonces(&header, from, 5000, &RUN), Some(nonce));
                from = nonce + 1;
            }
        }
        assert!(from > 0, "no nonce met the target");
    }

    #[test]
    fn the_whole_target_decides_not_only_its_top_word() {
        let mut header = genesis_block(bitcoin::Network::Regtest).header;
        for nonce in 0..64 {
            header.nonce = nonce;
            // The bits are hashed too, so an exact target cannot come from the header.
            let mut search = Search::new(&header, nonce);
            let hash = bitcoin::hashes::Hash::to_byte_array(header.block_hash());
            for (word, bytes) in search.target.iter_mut().zip(hash.chunks_exact(4)) {
                *word = u32::from_le_bytes(bytes.try_into().unwrap());
            }
            let exact = search.target;
            let mut first = |target: [u32; 8]| {
                (search.target, search.next) = (target, nonce);
                for lane in 0..LANES {
                    search.set_nonce(lane, nonce);
                }
                search.next_batch()
            };
            assert_eq!(first(exact), Some(nonce));
            for word in 0..8 {
                let mut target = exact;
                target[word] = target[word].checked_sub(1).expect("no word of these hashes is zero");
                assert_eq!(first(target), None, "word {word} one below");
                target[word] = exact[word].checked_add(1).expect("no word of these hashes is all ones");
                assert_eq!(first(target), Some(nonce), "word {word} one above");
            }
        }
    }

    #[test]
    fn the_last_nonces_do_not_wrap() {
        let mut header = genesis_block(bitcoin::Network::Regtest).header;
        header.bits = CompactTarget::from_consensus(0x0100_0001);
        assert_eq!(search_nonces(&header, u32::MAX - 2, u32::MAX, &RUN), None);
        assert_eq!(search_nonces(&header, 5, 4, &RUN), None);
    }

    #[test]
    fn stops_when_told() {
        let mut header = genesis_block(bitcoin::Network::Regtest).header;
        header.bits = CompactTarget::from_consensus(0x0100_0001);
        assert_eq!(search_nonces(&header, 0, u32::MAX, &AtomicBool::new(true)), None);
        let mut block = genesis_block(bitcoin::Network::Regtest);
        block.header.bits = header.bits;
        assert!(matches!(mine(&mut block, &AtomicBool::new(true)), Err(MiningError::Stopped)));
    }

    #[test]
    fn an_extra_nonce_changes_the_merkle_root_and_fits_the_coinbase() {
        let mut block = genesis_block(bitcoin::Network::Regtest);
        let script_sig = ScriptBuf::from_bytes(vec![0x51, 0x00]);
        let mut roots = std::collections::HashSet::new();
        for extra_nonce in 1..5 {
            set_extra_nonce(&mut block, &script_sig, extra_nonce).unwrap();
            assert_eq!(block.txdata[0].input[0].script_sig.len(), 11);
            assert!(roots.insert(block.compute_merkle_root()));
        }
        let full = ScriptBuf::from_bytes(vec![0x00; 92]);
        assert!(matches!(set_extra_nonce(&mut block, &full, 1), Err(MiningError::CoinbaseFull)));
    }

    #[test]
    fn mines_a_block_and_counts_its_hashes() {
        let mut block = genesis_block(bitcoin::Network::Regtest);
        block.header.merkle_root = bitcoin::TxMerkleNode::from_raw_hash(bitcoin::hashes::Hash::all_zeros());
        let hashes = mine(&mut block, &RUN).unwrap();
        assert!(block.check_merkle_root());
        assert!(block.header.validate_pow(block.header.target()).is_ok());
        assert_eq!(hashes, u64::from(block.header.nonce) + 1);
    }
}
