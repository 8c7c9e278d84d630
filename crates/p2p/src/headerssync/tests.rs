use super::*;
use crate::limits::{MAX_HEADERS_RESULTS, MAX_HEADERS_SYNC_MEMORY};
use cairn_chain::BlockStatus;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

/// Core's headers_sync_chainwork_tests.
const TARGET_BLOCKS: usize = 15_000;
const PARAMS: HeadersSyncParams =
    HeadersSyncParams { commitment_period: 600, redownload_buffer_size: TARGET_BLOCKS - (MAX_HEADERS_RESULTS + 123) };

fn regtest() -> Params {
    Params::new(Network::Regtest).expect("supported")
}

fn genesis(params: &Params) -> BlockEntry {
    let header = params.genesis.header;
    BlockEntry {
        hash: params.genesis_hash,
        height: 0,
        header,
        chain_work: header.work(),
        median_time_past: header.time,
        tx_count: 1,
        chain_tx_count: 1,
        status: BlockStatus { has_data: true, valid_scripts: true, failed: false },
    }
}

/// So many headers after the genesis block; `root` tells chains apart. The proof of work is left out: it is the caller's.
fn chain(params: &Params, count: usize, root: u8, bits: u32) -> Vec<Header> {
    let mut last = params.genesis.header;
    let mut next = || {
        last = Header {
            prev_blockhash: last.block_hash(),
            merkle_root: TxMerkleNode::from_byte_array([root; 32]),
            time: last.time + 1,
            bits: CompactTarget::from_consensus(bits),
            ..last
        };
        last
    };
    (0..count).map(|_| next()).collect()
}

/// The easiest target: 2 work a block.
const EASY: u32 = 0x207f_ffff;

fn work_of_blocks(blocks: usize) -> Work {
    Work::from_be_bytes({
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&(2 * blocks as u64).to_be_bytes());
        bytes
    })
}

fn start(params: &Params, sync: HeadersSyncParams, required: Work, now: u64, seed: u64) -> HeadersSyncState {
    let entry = genesis(params);
    let locator = vec![entry.hash];
    let mut rng = StdRng::seed_from_u64(seed);
    HeadersSyncState::new(sync, &entry, locator, required, Time::from_secs(now), &mut rng)
}

fn core_state(params: &Params) -> HeadersSyncState {
    start(params, PARAMS, work_of_blocks(TARGET_BLOCKS), 1_700_000_000, 42)
}

/// That the next request begins at `hash` and leads back to the genesis block.
fn assert_asks_from(sync: &HeadersSyncState, hash: BlockHash, params: &Params) {
    assert_eq!(sync.next_headers_locator(), [hash, params.genesis_hash]);
}

const MORE: Processed = Processed { headers: Vec::new(), request_more: true };

#[test]
fn sneaky_redownload() {
    let params = regtest();
    let first = chain(&params, TARGET_BLOCKS - 1, 0, EASY);
    let second = chain(&params, TARGET_BLOCKS - 2, 1, EASY);
    let mut sync = core_state(&params);

    assert_eq!(sync.process_next_headers(&first[..1], true, &params), Ok(MORE));
    assert_eq!(sync.state(), State::Presync);
    assert_asks_from(&sync, first[0].block_hash(), &params);
    assert_eq!((sync.presync_height(), sync.presync_time()), (1, first[0].time));
    assert_eq!(sync.presync_work(), work_of_blocks(2));

    assert_eq!(sync.process_next_headers(&first[1..], true, &params), Ok(MORE));
    assert_eq!(sync.state(), State::Redownload);
    assert_asks_from(&sync, params.genesis_hash, &params);

    let refused = sync.process_next_headers(&second, true, &params);
    assert!(matches!(refused, Err(HeadersSyncError::CommitmentMismatch(_))), "{refused:?}");
    assert_eq!(sync.state(), State::Final);
    assert!(sync.next_headers_locator().is_empty());
}

#[test]
fn happy_path() {
    let params = regtest();
    let first = chain(&params, TARGET_BLOCKS - 1, 0, EASY);
    let deep = PARAMS.redownload_buffer_size;
    // The message that leads to the next state need not be full.
    for full in [false, true] {
        let mut sync = core_state(&params);
        assert_eq!(sync.process_next_headers(&first, full, &params), Ok(MORE));
        assert_eq!(sync.state(), State::Redownload);
        assert_asks_from(&sync, params.genesis_hash, &params);

        assert_eq!(sync.process_next_headers(&first[..deep], true, &params), Ok(MORE));
        assert_asks_from(&sync, first[deep - 1].block_hash(), &params);

        let processed = sync.process_next_headers(&first[deep..=deep], true, &params);
        assert_eq!(processed, Ok(Processed { headers: first[..1].to_vec(), request_more: true }));
        assert_asks_from(&sync, first[deep].block_hash(), &params);

        let processed = sync.process_next_headers(&first[deep + 1..], full, &params);
        assert_eq!(processed, Ok(Processed { headers: first[1..].to_vec(), request_more: false }));
        assert_eq!(sync.state(), State::Final);
        assert_eq!(sync.process_next_headers(&first, full, &params), Err(HeadersSyncError::Final));
    }
}

#[test]
fn too_little_work() {
    let params = regtest();
    let second = chain(&params, TARGET_BLOCKS - 2, 1, EASY);
    let mut sync = core_state(&params);
    assert_eq!(sync.process_next_headers(&second[..1], true, &params), Ok(MORE));
    assert_eq!(sync.state(), State::Presync);
    assert_asks_from(&sync, second[0].block_hash(), &params);
    assert_eq!(sync.process_next_headers(&second[1..], false, &params), Ok(Processed::default()));
    assert_eq!(sync.state(), State::Final);
}

#[test]
fn a_chain_that_ends_early_the_second_time_is_given_up_without_blame() {
    let params = regtest();
    let first = chain(&params, TARGET_BLOCKS - 1, 0, EASY);
    let mut sync = core_state(&params);
    assert_eq!(sync.process_next_headers(&first, true, &params), Ok(MORE));
    assert_eq!(sync.process_next_headers(&first[..100], false, &params), Ok(Processed::default()));
    assert_eq!(sync.state(), State::Final);
}

#[test]
fn what_does_not_continue_the_chain_is_refused() {
    let params = regtest();
    let first = chain(&params, TARGET_BLOCKS - 1, 0, EASY);
    let mut sync = core_state(&params);
    assert_eq!(sync.process_next_headers(&[], true, &params), Err(HeadersSyncError::Empty));
    let mut sync_at_start = core_state(&params);
    let refused = sync_at_start.process_next_headers(&first[1..], true, &params);
    assert_eq!(refused, Err(HeadersSyncError::NonContinuous(0)));
    assert_eq!(sync_at_start.state(), State::Final);

    assert_eq!(sync.process_next_headers(&first, true, &params), Ok(MORE));
    assert_eq!(sync.process_next_headers(&first[..3], true, &params), Ok(MORE));
    assert_eq!(sync.process_next_headers(&first[4..6], true, &params), Err(HeadersSyncError::NonContinuous(3)));
}

#[test]
fn the_difficulty_goes_no_further_than_it_may_in_either_pass() {
    let params = Params::new(Network::Bitcoin).expect("supported");
    let easy = params.genesis.header.bits.to_consensus();
    let good = chain(&params, 10, 0, easy);
    let bad = chain(&params, 10, 0, 0x1c7f_ffff);
    let begin = || start(&params, PARAMS, work_of_blocks(1 << 33), 1_700_000_000, 1);
    let mut sync = begin();
    assert_eq!(sync.process_next_headers(&bad, true, &params), Err(HeadersSyncError::DifficultyTransition(1)));
    let mut sync = begin();
    assert_eq!(sync.process_next_headers(&good, true, &params), Ok(MORE));
    assert_eq!(sync.state(), State::Redownload, "ten blocks of 2^32");
    assert_eq!(sync.process_next_headers(&bad, true, &params), Err(HeadersSyncError::DifficultyTransition(1)));
}

#[test]
fn a_second_pass_cannot_be_longer_than_the_first_was() {
    let params = regtest();
    // The first pass is short and has the work; the second has little a block.
    let hard = chain(&params, 20, 0, 0x1f00_ffff);
    let easy = chain(&params, 4_000, 1, EASY);
    let sync_params = HeadersSyncParams { commitment_period: 10, redownload_buffer_size: 10_000 };
    let overruns = (0..64).filter(|&seed| {
        let mut sync = start(&params, sync_params, work_of_blocks(100_000), 1_700_000_000, seed);
        assert_eq!(sync.process_next_headers(&hard, true, &params), Ok(MORE));
        assert_eq!(sync.state(), State::Redownload);
        match sync.process_next_headers(&easy, true, &params) {
            Err(HeadersSyncError::CommitmentOverrun(height)) => {
                assert!((21..=40).contains(&height));
                true
            }
            Err(HeadersSyncError::CommitmentMismatch(height)) => {
                assert!(height <= 20);
                false
            }
            other => panic!("{other:?}"),
        }
    });
    // Two commitments are guessed once in four.
    assert!((1..64).contains(&overruns.count()));
}

#[test]
fn networks_have_the_parameters_of_core() {
    for (network, period, buffer) in [
        (Network::Bitcoin, 641, 15_218),
        (Network::Testnet4, 606, 16_092),
        (Network::Signet, 620, 15_724),
        (Network::Regtest, 275, 7_017),
    ] {
        let params = HeadersSyncParams { commitment_period: period, redownload_buffer_size: buffer };
        assert_eq!(HeadersSyncParams::of(network), params);
    }
}

#[test]
fn an_endless_chain_is_left_at_the_length_that_time_allows() {
    let params = regtest();
    let sync_params = HeadersSyncParams { commitment_period: 1, redownload_buffer_size: 10 };
    // The clock is at the chain's start: only what the future may bring is left.
    let now = u64::from(params.genesis.header.time);
    let most = 6 * MAX_FUTURE_BLOCK_TIME as usize;
    let headers = chain(&params, most + 1, 0, EASY);
    let mut sync = start(&params, sync_params, work_of_blocks(1 << 40), now, 7);
    for message in headers[..most].chunks(MAX_HEADERS_RESULTS) {
        assert_eq!(sync.process_next_headers(message, true, &params), Ok(MORE));
        assert!(sync.memory() <= most / 8 + 2_048);
    }
    let refused = sync.process_next_headers(&headers[most..], true, &params);
    assert_eq!(refused, Err(HeadersSyncError::TooManyHeaders(most as u32 + 1)));
    assert!(sync.memory() < 1_024, "nothing is left of it");
}

#[test]
fn a_sync_takes_no_more_memory_than_is_said() {
    const YEAR_2030: u64 = 1_893_456_000;
    for network in [Network::Bitcoin, Network::Testnet4, Network::Signet, Network::Regtest] {
        let params = Params::new(network).expect("supported");
        let sync_params = HeadersSyncParams::of(network);
        let mut sync = start(&params, sync_params, work_of_blocks(1), YEAR_2030, 3);
        for bit in 0..=sync.max_commitments {
            sync.commitments.push(bit % 3 == 0);
        }
        let headers = chain(&params, MAX_HEADERS_RESULTS, 0, EASY);
        // The second pass, as if its work were still wanting.
        for _ in 0..sync_params.redownload_buffer_size.div_ceil(MAX_HEADERS_RESULTS) + 2 {
            sync.buffer.reserve_exact(headers.len());
            sync.buffer.extend(headers.iter().map(CompressedHeader::from));
            assert!(sync.memory() <= MAX_HEADERS_SYNC_MEMORY, "{network}: {}", sync.memory());
            sync.pop_ready();
        }
        assert_eq!(sync.buffer.len(), sync_params.redownload_buffer_size);
    }
}

#[test]
fn work_beyond_all_bounds_stays_there() {
    let most = Work::from_be_bytes([0xff; 32]);
    assert_eq!(add(most, work(CompactTarget::from_consensus(EASY))), most);
    assert_eq!(add(work_of_blocks(1), work_of_blocks(2)), work_of_blocks(3));
    assert_eq!(work(CompactTarget::from_consensus(0)), work_of_blocks(0));
}

prop_compose! {
    fn shape()(
        length in 2usize..3_000, period in 1u32..50, buffer in 0usize..200, message in 1usize..500, seed: u64,
    ) -> (usize, HeadersSyncParams, usize, u64) {
        (length, HeadersSyncParams { commitment_period: period, redownload_buffer_size: buffer }, message, seed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_honest_chain_comes_out_as_it_is((length, sync_params, message, seed) in shape(), more in 0usize..100) {
        let params = regtest();
        // The genesis block counts too.
        let all = chain(&params, length + more, 0, EASY);
        let mut sync = start(&params, sync_params, work_of_blocks(length + 1), 1_700_000_000, seed);
        for part in all[..length].chunks(message) {
            prop_assert_eq!(sync.process_next_headers(part, true, &params), Ok(MORE));
        }
        prop_assert_eq!(sync.state(), State::Redownload);
        let mut accepted = Vec::new();
        // The peer's chain has grown meanwhile.
        for part in all.chunks(message) {
            let processed = sync.process_next_headers(part, true, &params).expect("honest");
            accepted.extend(processed.headers);
            if !processed.request_more {
                break;
            }
        }
        prop_assert_eq!(sync.state(), State::Final);
        prop_assert!(accepted.len() >= length);
        prop_assert_eq!(&accepted[..], &all[..accepted.len()]);
    }

    #[test]
    fn another_chain_the_second_time_is_caught_before_any_of_it_is_released(
        shared in 0usize..300, message in 1usize..500, seed: u64,
    ) {
        let params = regtest();
        let sync_params = HeadersSyncParams { commitment_period: 2, redownload_buffer_size: 140 };
        let first = chain(&params, 1_000, 0, EASY);
        let mut second = first[..shared].to_vec();
        let mut last = second.last().copied().unwrap_or(params.genesis.header);
        while second.len() < 900 {
            last = Header { prev_blockhash: last.block_hash(), nonce: 1, ..last };
            second.push(last);
        }
        let mut sync = start(&params, sync_params, work_of_blocks(1_000), 1_700_000_000, seed);
        prop_assert_eq!(sync.process_next_headers(&first, true, &params), Ok(MORE));
        let mut accepted = Vec::new();
        let mut parts = second.chunks(message);
        let refused = loop {
            let part = parts.next().expect("600 headers more are caught but once in 2^300");
            match sync.process_next_headers(part, true, &params) {
                Ok(processed) => accepted.extend(processed.headers),
                Err(refused) => break refused,
            }
        };
        prop_assert!(matches!(refused, HeadersSyncError::CommitmentMismatch(_)), "{:?}", refused);
        prop_assert_eq!(sync.state(), State::Final);
        // Of 70 commitments all would have to agree.
        prop_assert!(accepted.len() <= shared);
        prop_assert_eq!(&accepted[..], &first[..accepted.len()]);
    }
}
