use super::strategies::{block, messages, transaction};
use super::*;
use crate::limits::{
    MAX_ADDR_TO_SEND, MAX_FEATUREDATA_LENGTH, MAX_FEATUREID_LENGTH, MAX_HEADERS_RESULTS, MAX_INV_SIZE,
    MAX_LOCATOR_SIZE, MAX_SUBVERSION_LENGTH, MIN_PEER_PROTO_VERSION,
};
use bitcoin::consensus::{Encodable, deserialize_partial, serialize};
use bitcoin::p2p::address::AddrV2;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{Transaction, VarInt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs `check` with messages of every type.
fn for_every_message(check: impl Fn(NetworkMessage) -> Result<(), TestCaseError>) {
    for strategy in messages() {
        TestRunner::new(Config::with_cases(64)).run(&strategy, &check).expect("holds for every message");
    }
}

/// `count` as a compact size, then `entries` times `entry`, then `end`.
fn list(before: &[u8], count: usize, entry: &[u8], entries: usize, end: &[u8]) -> Vec<u8> {
    [before, &serialize(&VarInt::from(count)), &entry.repeat(entries), end].concat()
}

#[track_caller]
fn assert_malformed(command: &str, payload: &[u8]) {
    let result = decode(command, payload);
    assert!(matches!(result, Err(DecodeError::Malformed(_))), "{command}: {result:?}");
}

#[test]
fn every_message_reads_back_as_it_was_written() {
    for_every_message(|message| {
        let frame = encode(&message);
        prop_assert_eq!(frame.command().to_string(), message.command().to_string());
        prop_assert_eq!(decode(frame.command().as_str(), frame.payload()), Ok(message));
        Ok(())
    });
}

#[test]
fn what_follows_a_message_is_ignored() {
    for_every_message(|message| {
        if matches!(message, NetworkMessage::Unknown { .. }) {
            return Ok(());
        }
        let frame = encode(&message);
        let longer = [frame.payload(), b"more".as_slice()].concat();
        prop_assert_eq!(decode(frame.command().as_str(), &longer), Ok(message));
        Ok(())
    });
}

#[test]
fn a_message_that_ends_early_is_malformed() {
    for_every_message(|message| {
        let frame = encode(&message);
        for end in 0..frame.payload().len() {
            let result = decode(frame.command().as_str(), &frame.payload()[..end]);
            match &message {
                // What may be missing, and what has no form.
                NetworkMessage::Version(_) | NetworkMessage::Pong(_) | NetworkMessage::Unknown { .. } => {}
                _ => prop_assert!(matches!(result, Err(DecodeError::Malformed(_))), "{end}: {result:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn damage_never_panics() {
    for strategy in messages() {
        let damaged = (strategy, any::<prop::sample::Index>(), any::<u8>());
        TestRunner::new(Config::with_cases(256))
            .run(&damaged, |(message, at, byte)| {
                let frame = encode(&message);
                let mut payload = frame.payload().to_vec();
                if !payload.is_empty() {
                    let at = at.index(payload.len());
                    payload[at] = byte;
                }
                let _ = decode(frame.command().as_str(), &payload);
                Ok(())
            })
            .expect("no panic");
    }
}

#[test]
fn lists_end_where_core_says() {
    let addrv2 = b"\0\0\0\0\0\x01\x04\x01\x02\x03\x04\x20\x8d";
    for (command, before, entry, end, max) in [
        ("addr", &[][..], &[0; 30][..], &[][..], MAX_ADDR_TO_SEND),
        ("addrv2", &[], addrv2, &[], MAX_ADDR_TO_SEND),
        ("inv", &[], &[1; 36], &[], MAX_INV_SIZE),
        ("getdata", &[], &[1; 36], &[], MAX_INV_SIZE),
        ("notfound", &[], &[1; 36], &[], MAX_INV_SIZE),
        ("headers", &[], &[0; 81], &[], MAX_HEADERS_RESULTS),
        ("getblocks", &[0; 4], &[1; 32], &[0; 32], MAX_LOCATOR_SIZE),
        ("getheaders", &[0; 4], &[1; 32], &[0; 32], MAX_LOCATOR_SIZE),
    ] {
        let most = list(before, max, entry, max, end);
        assert!(decode(command, &most).is_ok(), "{command}");
        let count = max + 1;
        let too_many = list(before, count, entry, count, end);
        assert_eq!(decode(command, &too_many), Err(DecodeError::TooMany { count, max }), "{command}");
        // Core condemns only what it could read, save that it looks at the number of headers first.
        let short = &too_many[..too_many.len() - 1];
        if command == "headers" {
            assert_eq!(decode(command, short), Err(DecodeError::TooMany { count, max }));
        } else {
            assert_malformed(command, short);
        }
        assert_malformed(command, &list(before, 33_554_433, entry, 0, end));
    }
}

#[test]
fn the_number_of_transactions_after_a_header_does_not_matter() {
    let mut payload = list(&[], 1, &[7; 80], 1, &[]);
    payload.extend([0xfd, 0x34, 0x12]);
    let Ok(NetworkMessage::Headers(headers)) = decode("headers", &payload) else { panic!("headers") };
    assert_eq!(headers.len(), 1);
}

fn version_parts() -> Vec<(usize, Vec<u8>)> {
    let parts = [
        70_016_i32.to_le_bytes().to_vec(),
        9_u64.to_le_bytes().to_vec(),
        1_700_000_000_i64.to_le_bytes().to_vec(),
        [vec![0; 8], vec![1; 16], vec![0x20, 0x8d]].concat(),
        [vec![2; 26], 77_u64.to_le_bytes().to_vec()].concat(),
        b"\x0b/Satoshi:1/".to_vec(),
        500_i32.to_le_bytes().to_vec(),
        vec![0],
    ];
    let mut whole = Vec::new();
    parts
        .into_iter()
        .map(|part| {
            whole.extend(&part);
            (whole.len(), whole.clone())
        })
        .collect()
}

#[test]
fn a_version_may_end_after_the_receivers_address_or_any_later_field() {
    let read = |payload: &[u8]| match decode("version", payload) {
        Ok(NetworkMessage::Version(version)) => Some(version),
        _ => None,
    };
    let parts = version_parts();
    let whole = &parts.last().expect("not empty").1;
    let allowed: Vec<usize> = parts[3..].iter().map(|(end, _)| *end).collect();
    for end in 0..=whole.len() {
        assert_eq!(read(&whole[..end]).is_some(), allowed.contains(&end), "after {end} bytes");
    }
    let shortest = read(&parts[3].1).expect("old, but a version");
    let VersionMessage { nonce, user_agent, start_height, relay, timestamp, .. } = shortest;
    assert_eq!((nonce, user_agent.as_str(), start_height, relay, timestamp), (1, "", -1, true, 1_700_000_000));
    let longest = read(whole).expect("a version");
    let VersionMessage { nonce, user_agent, start_height, relay, .. } = longest;
    assert_eq!((nonce, user_agent.as_str(), start_height, relay), (77, "/Satoshi:1/", 500, false));
}

#[test]
fn a_version_is_read_as_leniently_as_by_core() {
    let before = &version_parts()[4].1;
    let with_agent = |agent: &[u8]| [before, &serialize(&VarInt::from(agent.len()))[..], agent].concat();
    let longest = vec![b'a'; MAX_SUBVERSION_LENGTH];
    assert!(decode("version", &with_agent(&longest)).is_ok());
    assert_malformed("version", &with_agent(&[longest, vec![b'a']].concat()));
    let Ok(NetworkMessage::Version(version)) = decode("version", &with_agent(b"/a\xff\0<b>\xc3\xa9{c}:(d; e)@-_/"))
    else {
        panic!("any bytes may be a user agent")
    };
    assert_eq!(version.user_agent, "/abc:(d; e)@-_/");

    let with_start = |version: i32, time: i64| {
        [&version.to_le_bytes()[..], &[0; 8], &time.to_le_bytes(), &[0; 26], b"not a version"].concat()
    };
    // Core disconnects an obsolete peer before it looks at the rest, and one with a negative version is obsolete.
    let oldest = i32::try_from(MIN_PEER_PROTO_VERSION).expect("small");
    assert_malformed("version", &with_start(oldest, 0));
    for (sent, read) in [(oldest - 1, MIN_PEER_PROTO_VERSION - 1), (-1, 0)] {
        let Ok(NetworkMessage::Version(version)) = decode("version", &with_start(sent, -5)) else { panic!("obsolete") };
        assert_eq!((version.version, version.timestamp), (read, 0));
    }
}

#[test]
fn addresses_that_core_passes_over_are_unknown_and_the_others_are_kept() {
    let entry = |network: u8, address: &[u8]| {
        let length = u8::try_from(address.len()).expect("short");
        [&[0, 0, 0, 0, 1, network, length], address, &[0x20, 0x8d]].concat()
    };
    let mapped = [[0; 10].as_slice(), &[0xff, 0xff, 1, 2, 3, 4]].concat();
    let onion_cat = [[0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43].as_slice(), &[5; 10]].concat();
    for (network, address) in
        [(2, mapped), (2, onion_cat), (3, vec![1; 9]), (6, vec![0xfd; 16]), (0, vec![]), (7, vec![3])]
    {
        let payload = [vec![2], entry(network, &address), entry(1, &[1, 2, 3, 4])].concat();
        let Ok(NetworkMessage::AddrV2(read)) = decode("addrv2", &payload) else { panic!("network {network}") };
        assert_eq!(read[0].addr, AddrV2::Unknown(network, address));
        assert_eq!((&read[1].addr, read[1].port), (&AddrV2::Ipv4([1, 2, 3, 4].into()), 8333));
    }
    for (network, length) in [(1, 5), (2, 15), (4, 10), (5, 31), (6, 4)] {
        assert_malformed("addrv2", &[vec![1], entry(network, &vec![0; length])].concat());
    }
    let long = |length: u16| {
        [&[1, 0, 0, 0, 0, 1, 9, 0xfd], &length.to_le_bytes()[..], &vec![0; length.into()], &[0, 0]].concat()
    };
    assert!(decode("addrv2", &long(512)).is_ok());
    assert_malformed("addrv2", &long(513));
}

#[test]
fn a_pong_too_short_for_a_nonce_is_one_of_zero() {
    assert_eq!(decode("pong", &[1; 7]), Ok(NetworkMessage::Pong(0)));
    assert_malformed("ping", &[1; 7]);
}

#[test]
fn an_announce_field_that_is_no_boolean_is_misbehaviour() {
    let misbehaving = Err(DecodeError::Misbehaving("invalid sendcmpct announce field"));
    assert_eq!(decode("sendcmpct", &[2, 2, 0, 0, 0, 0, 0, 0, 0]), misbehaving);
    assert_malformed("sendcmpct", &[2, 2, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_fee_rate_is_in_the_range_of_money() {
    assert!(decode("feefilter", &2_100_000_000_000_000_i64.to_le_bytes()).is_ok());
    assert_malformed("feefilter", &2_100_000_000_000_001_i64.to_le_bytes());
    assert_malformed("feefilter", &(-1_i64).to_le_bytes());
}

#[test]
fn indexes_of_transactions_have_16_bits() {
    let request = |differences: &[u8]| [&[0; 32], differences].concat();
    let Ok(NetworkMessage::GetBlockTxn(read)) = decode("getblocktxn", &request(&[2, 0xfd, 0xfe, 0xff, 0])) else {
        panic!("the largest index")
    };
    assert_eq!(read.txs_request.indexes, [65_534, 65_535]);
    assert_malformed("getblocktxn", &request(&[1, 0xfe, 0, 0, 1, 0]));
    assert_malformed("getblocktxn", &request(&[2, 0xfd, 0xff, 0xff, 0]));
    assert_malformed("getblocktxn", &request(&[2, 0, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]));
}

#[test]
fn a_compact_block_has_as_many_transactions_as_16_bits_count() {
    let with = |short_ids: usize| list(&[0; 88], short_ids, &[0; 6], short_ids, &[0]);
    assert!(decode("cmpctblock", &with(65_535)).is_ok());
    assert_malformed("cmpctblock", &with(65_536));
}

#[test]
fn a_feature_is_an_identifier_and_data_within_bounds_and_nothing_else() {
    let feature = |id: usize, data: usize| [list(&[], id, b"f", id, &[]), list(&[], data, b"d", data, &[])].concat();
    assert!(is_feature(&feature(4, 0)));
    assert!(is_feature(&feature(MAX_FEATUREID_LENGTH, MAX_FEATUREDATA_LENGTH)));
    assert!(!is_feature(&feature(3, 0)));
    assert!(!is_feature(&feature(MAX_FEATUREID_LENGTH + 1, 0)));
    assert!(!is_feature(&feature(4, MAX_FEATUREDATA_LENGTH + 1)));
    assert!(!is_feature(&[feature(4, 0), vec![0]].concat()));
    assert!(!is_feature(&feature(4, 5)[..9]));
    assert!(!is_feature(&[]));
}

#[test]
fn a_transaction_without_inputs_or_with_an_empty_witness_is_none() {
    let witnessless_input = [[1; 36].as_slice(), &[0], &[0xff; 4]].concat();
    for (parts, is_tx) in [
        // No inputs, no outputs; the same with BIP 144's flag; an unknown flag.
        (vec![&[1, 0, 0, 0][..], &[0, 0], &[0; 4]], false),
        (vec![&[1, 0, 0, 0], &[0, 1, 0, 0], &[0; 4]], false),
        (vec![&[1, 0, 0, 0], &[0, 2, 1], &witnessless_input, &[0], &[0; 4]], false),
        // One input, no outputs; with BIP 144's flag and a witness of no elements, then of one empty element.
        (vec![&[1, 0, 0, 0], &[1], &witnessless_input, &[0], &[0; 4]], true),
        (vec![&[1, 0, 0, 0], &[0, 1, 1], &witnessless_input, &[0], &[0], &[0; 4]], false),
        (vec![&[1, 0, 0, 0], &[0, 1, 1], &witnessless_input, &[0], &[1, 0], &[0; 4]], true),
        // A count of elements that nothing bears out.
        (vec![&[1, 0, 0, 0], &[0, 1, 1], &witnessless_input, &[0], &[0xfe, 0, 9, 61, 0], &[0; 4]], false),
    ] {
        let tx = parts.concat();
        assert_eq!(decode("tx", &tx).is_ok(), is_tx, "{tx:?}");
        assert_eq!(decode("block", &[&[0; 80][..], &[1], &tx[..]].concat()).is_ok(), is_tx, "{tx:?}");
        assert_eq!(decode("blocktxn", &[&[0; 32][..], &[1], &tx[..]].concat()).is_ok(), is_tx, "{tx:?}");
        assert_eq!(decode("cmpctblock", &[&[0; 88][..], &[0, 1, 0], &tx[..]].concat()).is_ok(), is_tx, "{tx:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_transaction_is_one_if_the_bitcoin_crate_says_so(
        tx in transaction(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![Just(0), Just(1), Just(0xfd), any::<u8>()],
    ) {
        let mut bytes = serialize(&tx);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let crates = deserialize_partial::<Transaction>(&bytes).map(|(tx, _)| tx);
        match decode("tx", &bytes) {
            Ok(NetworkMessage::Tx(ours)) => prop_assert_eq!(Some(ours), crates.ok()),
            // Core has no transaction with BIP 144's flag and no inputs.
            _ => prop_assert!(!crates.is_ok_and(|tx| !tx.input.is_empty())),
        }
    }

    #[test]
    fn frames_without_witnesses_are_those_of_a_block_without_any(block in block()) {
        let mut stripped = block.clone();
        for input in stripped.txdata.iter_mut().flat_map(|tx| &mut tx.input) {
            input.witness.clear();
        }
        prop_assert_eq!(Frame::block_without_witness(&block), encode(&NetworkMessage::Block(stripped.clone())));
        prop_assert_eq!(Frame::block(serialize(&block)), encode(&NetworkMessage::Block(block.clone())));
        for (tx, stripped) in block.txdata.iter().zip(&stripped.txdata) {
            prop_assert_eq!(Frame::tx(tx), encode(&NetworkMessage::Tx(tx.clone())));
            prop_assert_eq!(Frame::tx_without_witness(tx), encode(&NetworkMessage::Tx(stripped.clone())));
        }
    }
}

#[test]
fn compact_sizes_are_read_as_the_bitcoin_crate_writes_them_and_in_no_longer_form() {
    for value in [0, 252, 253, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
        let mut written = Vec::new();
        VarInt(value).consensus_encode(&mut written).expect("a vector takes any bytes");
        assert_eq!(bytes::any_compact_size(&mut &written[..]), Ok(value));
    }
    for longer in [&[253, 252, 0][..], &[254, 255, 255, 0, 0], &[255, 255, 255, 255, 255, 0, 0, 0, 0]] {
        assert!(bytes::any_compact_size(&mut &longer[..]).is_err());
    }
}

#[test]
fn commands_are_printable_and_filled_up_with_zeros() {
    assert_eq!(Command::new("ping").map(Command::to_wire), Some(*b"ping\0\0\0\0\0\0\0\0"));
    assert_eq!(Command::from_wire(*b"sendheaders2").expect("12 characters").as_str(), "sendheaders2");
    assert_eq!(Command::new("sendheaders23"), None);
    for invalid in
        [*b"ping\0\0\0\0\0\0\0x", *b"p\x1fng\0\0\0\0\0\0\0\0", *b"p\x7fng\0\0\0\0\0\0\0\0", *b"p\xffng\0\0\0\0\0\0\0\0"]
    {
        assert_eq!(Command::from_wire(invalid), None);
    }
    assert_eq!(Command::new("a\0"), None);
}

#[test]
fn a_command_that_nobody_knows_is_harmless() {
    for command in ["sendtxrcncl", "feature", "merkleblock", "alert", "reject", "version2", ""] {
        assert!(matches!(decode(command, &[0xff; 9]), Ok(NetworkMessage::Unknown { .. })), "{command}");
    }
}
