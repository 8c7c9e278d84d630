//! The proof-of-work search: SHA-256d over nonces, with everything that does not change computed once.

use crate::MiningError;
use bitcoin::{Block, ScriptBuf, block::Header, consensus::encode::serialize, script::PushBytesBuf};
use sha2::block_api::compress256;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};

/// Initial state of SHA-256 (FIPS 180-4, 5.3.3).
const SHA256_INITIAL_STATE: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Nonces on their way at once, each a stage behind the next. What stands between the two compressions of one nonce is
/// done while those of others fill the processor's pipeline, and what is written is read only steps later: a read right
/// after a write of a part of it would stall. A power of two, more than [`JUDGED_AFTER`].
const LANES: usize = 8;
/// Steps after which a nonce's first hash is packed into a message.
const PACKED_AFTER: u32 = 1;
/// Steps after which that is hashed.
const HASHED_AGAIN_AFTER: u32 = 3;
/// Steps after which the hash is compared with the target.
const JUDGED_AFTER: u32 = 5;

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
        let found = (0..slice).find_map(|_| search.step());
        if found.is_some() {
            return found;
        }
        left -= slice;
    }
    None
}

/// Finds the proof of work of a block on one thread, changing nonce, then extra nonce (coinbase and merkle root) as
/// needed. Returns the number of hashes that it took. The merkle root is computed first, so it need not be right.
pub fn mine(block: &mut Block, stop: &AtomicBool) -> Result<u64, MiningError> {
    mine_sealed(block, stop, |_| Ok(()))
}

/// [`mine`], calling `seal` whenever the coinbase is another one, before the merkle root is computed: for what the block
/// holds that depends on all the rest, as a signet's solution does.
///
/// # Errors
/// Those of [`mine`] and those of `seal`.
pub fn mine_sealed(
    block: &mut Block,
    stop: &AtomicBool,
    mut seal: impl FnMut(&mut Block) -> Result<(), MiningError>,
) -> Result<u64, MiningError> {
    let script_sig = match block.txdata.first().and_then(|coinbase| coinbase.input.first()) {
        Some(input) => input.script_sig.clone(),
        None => return Err(MiningError::NoCoinbase),
    };
    let mut hashes = 0;
    for extra_nonce in 0u64.. {
        if extra_nonce > 0 {
            set_extra_nonce(block, &script_sig, extra_nonce)?;
        }
        seal(block)?;
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

/// The state of a search: what every nonce shares, and the nonces on their way.
struct Search {
    midstate: [u32; 8],
    target: [u32; 8],
    /// The nonce that is begun next.
    next: u32,
    lanes: [Lane; LANES],
}

/// A nonce on its way.
#[derive(Clone, Copy)]
struct Lane {
    /// The header's last 16 bytes, padded.
    tail: [u8; 64],
    /// The midstate, then the first hash.
    first: [u32; 8],
    /// The first hash, padded.
    digest: [u8; 64],
    /// The initial state, then the second hash.
    second: [u32; 8],
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
        let lane = Lane { tail, first: midstate, digest: padded(32, 256), second: SHA256_INITIAL_STATE };
        let mut search = Search { midstate, target, next: start, lanes: [lane; LANES] };
        for ahead in 0..LANES as u32 {
            let nonce = start.wrapping_add(ahead);
            search.lane(nonce).tail[12..16].copy_from_slice(&nonce.to_le_bytes());
        }
        for _ in 0..JUDGED_AFTER {
            search.step();
        }
        search
    }

    fn lane(&mut self, nonce: u32) -> &mut Lane {
        &mut self.lanes[nonce as usize % LANES]
    }

    /// Begins a nonce and ends another: the latter, if its hash is at or below the target. The first one ends `start`.
    fn step(&mut self) -> Option<u32> {
        let nonce = self.next;
        self.next = nonce.wrapping_add(1);

        let begun = self.lane(nonce);
        compress256(&mut begun.first, from_ref(&begun.tail));

        let ended = self.lane(nonce.wrapping_sub(HASHED_AGAIN_AFTER));
        compress256(&mut ended.second, from_ref(&ended.digest));

        let midstate = self.midstate;
        let between = self.lane(nonce.wrapping_sub(PACKED_AFTER));
        for (bytes, words) in between.digest.chunks_exact_mut(8).zip(between.first.chunks_exact(2)) {
            // Two words at a time: half the byte swaps and half the writes.
            let pair = u64::from(words[0]) << 32 | u64::from(words[1]);
            bytes.copy_from_slice(&pair.to_be_bytes());
        }
        between.first = midstate;

        let nonce = nonce.wrapping_sub(JUDGED_AFTER);
        let judged = self.lane(nonce);
        let hash = std::mem::replace(&mut judged.second, SHA256_INITIAL_STATE);
        judged.tail[12..16].copy_from_slice(&nonce.wrapping_add(LANES as u32).to_le_bytes());
        // The hash is a little-endian number: its most significant word decides but once in billions of times.
        (hash[7].swap_bytes() <= self.target[7] && self.meets_target(&hash)).then_some(nonce)
    }

    #[cold]
    #[inline(never)]
    fn meets_target(&self, hash: &[u32; 8]) -> bool {
        hash.map(u32::swap_bytes).iter().rev().le(self.target.iter().rev())
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
            let hash = bitcoin::hashes::Hash::to_byte_array(header.block_hash());
            let exact: [u32; 8] =
                std::array::from_fn(|word| u32::from_le_bytes(hash[4 * word..4 * word + 4].try_into().unwrap()));
            let first = |target: [u32; 8]| {
                let mut search = Search::new(&header, nonce);
                search.target = target;
                search.step()
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
