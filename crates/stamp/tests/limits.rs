//! Every limit of the proof format, at its edge.
#![allow(missing_docs, reason = "a test binary has no interface")]

use cairn_stamp::ots::{
    Attestation, DetachedTimestampFile, FileHash, HEADER_MAGIC, MAX_DEPTH, MAX_OPERATIONS, MAX_PROOF_SIZE, Op,
    OtsError, Timestamp,
};

/// An attestation of an unknown kind with nothing in it, as a proof has it.
const ENDING: &[u8] = &[0x00, 7, 7, 7, 7, 7, 7, 7, 7, 0];

fn read(message: &[u8], bytes: &[u8]) -> Result<Timestamp, OtsError> {
    Timestamp::from_bytes(message, bytes).map_err(|error| {
        assert!(error.offset <= bytes.len(), "{error}");
        error.error
    })
}

fn attested(tag: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x00];
    bytes.extend(tag.to_be_bytes());
    bytes.extend(length(payload.len()));
    bytes.extend(payload);
    bytes
}

/// LEB128 in three bytes, whether or not fewer would do.
fn length(length: usize) -> [u8; 3] {
    [length as u8 & 0x7f | 0x80, (length >> 7) as u8 & 0x7f | 0x80, (length >> 14) as u8]
}

const BITCOIN: u64 = 0x0588_960d_73d7_1901;
const PENDING: u64 = 0x83df_e30d_2ef9_0c8e;

#[test]
fn depth() {
    let ops = |count: usize| [vec![0x08; count], ENDING.to_vec()].concat();
    assert!(read(b"", &ops(MAX_DEPTH)).is_ok());
    assert_eq!(read(b"", &ops(MAX_DEPTH + 1)).unwrap_err(), OtsError::TooDeep);

    let attestation = Attestation::Bitcoin { height: 1 };
    let chain = |count| Timestamp::chain(b"".to_vec(), std::iter::repeat_n(Op::Sha256, count), attestation.clone());
    assert!(chain(MAX_DEPTH).is_ok());
    assert_eq!(chain(MAX_DEPTH + 1).unwrap_err(), OtsError::TooDeep);
}

#[test]
fn merging_below_the_top_keeps_to_the_depth() {
    let attestation = Attestation::Bitcoin { height: 1 };
    let mut proof =
        Timestamp::chain(vec![1], std::iter::repeat_n(Op::Reverse, MAX_DEPTH), attestation.clone()).unwrap();
    let answer = Timestamp::chain(vec![1], [Op::Sha256, Op::Sha256], attestation).unwrap();
    let before = proof.clone();
    assert_eq!(proof.merge(&answer), Ok(true));
    // The message comes up at the bottom too, where nothing more fits: nothing is changed then.
    let mut unchanged = before.clone();
    let deep = Timestamp::chain(vec![1], std::iter::repeat_n(Op::Sha1, MAX_DEPTH), answer_ending()).unwrap();
    assert_eq!(unchanged.merge_anywhere(&deep), Err(OtsError::TooDeep));
    assert_eq!(unchanged, before);
}

fn answer_ending() -> Attestation {
    Attestation::pending("https://example.org").unwrap()
}

#[test]
fn number_of_operations() {
    // Under one message as many different prepends, each with an ending.
    let ops = |count: usize| {
        let mut bytes = Vec::new();
        for index in 0..count {
            if index + 1 < count {
                bytes.push(0xff);
            }
            bytes.extend([0xf1, 3, index as u8, (index >> 8) as u8, (index >> 16) as u8]);
            bytes.extend(ENDING);
        }
        bytes
    };
    let most = read(b"", &ops(MAX_OPERATIONS)).unwrap();
    assert_eq!(most.ops_at(most.root()).len(), MAX_OPERATIONS);
    assert_eq!(read(b"", &most.to_bytes().unwrap()).unwrap(), most);
    assert_eq!(read(b"", &ops(MAX_OPERATIONS + 1)).unwrap_err(), OtsError::TooManyOperations);
    let mut grown = most.clone();
    assert_eq!(grown.push(grown.root(), Op::Sha1).unwrap_err(), OtsError::TooManyOperations);
    assert_eq!(grown, most);
}

#[test]
fn size() {
    // Attestations do not count as operations; only the size bounds them.
    let mut bytes = Vec::with_capacity(MAX_PROOF_SIZE + 1);
    let payload = 8192;
    let one = attested(u64::MAX, &vec![0; payload]).len() + 1;
    for index in 0..MAX_PROOF_SIZE / one {
        let mut content = vec![0; payload];
        content[..8].copy_from_slice(&(index as u64).to_be_bytes());
        bytes.push(0xff);
        bytes.extend(attested(u64::MAX, &content));
    }
    let rest = MAX_PROOF_SIZE - bytes.len();
    bytes.extend(attested(u64::MAX, &vec![1; rest - (one - 1 - payload)]));
    assert_eq!(bytes.len(), MAX_PROOF_SIZE);
    let largest = read(b"", &bytes).unwrap();
    assert_eq!(largest.attestations_at(largest.root()).len(), MAX_PROOF_SIZE / one + 1);
    bytes.push(0);
    assert_eq!(read(b"", &bytes).unwrap_err(), OtsError::ProofTooLarge(MAX_PROOF_SIZE + 1));

    // What was put together piece by piece cannot be written beyond it either.
    let mut grown = largest;
    for index in 0..2u8 {
        let payload = vec![0xf0 | index; 8192];
        grown.attest(grown.root(), Attestation::Unknown { tag: [9; 8], payload }).unwrap();
    }
    assert!(matches!(grown.to_bytes(), Err(OtsError::ProofTooLarge(_))));
}

#[test]
fn heights() {
    let height = |payload: &[u8]| read(b"", &attested(BITCOIN, payload));
    let of = |height| Timestamp::chain(vec![], [], Attestation::Bitcoin { height }).unwrap();
    assert_eq!(height(&[0x00]), Ok(of(0)));
    assert_eq!(height(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(of(u64::MAX)));
    // Zeroes at the end are accepted, as by Python, and not written.
    let padded = height(&[&[0x85][..], &[0x80; 400], &[0x00]].concat()).unwrap();
    assert_eq!(padded.to_bytes(), of(5).to_bytes());
    let two_to_the_64 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
    assert_eq!(height(&two_to_the_64).unwrap_err(), OtsError::NumberTooLarge);
    let one_far_up = [&[0x80; 400][..], &[0x01]].concat();
    assert_eq!(height(&one_far_up).unwrap_err(), OtsError::NumberTooLarge);
    assert_eq!(height(&[]).unwrap_err(), OtsError::Truncated { wanted: 1, available: 0 });
    assert_eq!(height(&[0x80]).unwrap_err(), OtsError::Truncated { wanted: 1, available: 0 });
    assert_eq!(height(&[1, 2]).unwrap_err(), OtsError::TrailingPayload(1));
}

#[test]
fn addresses() {
    let address = |uri: &[u8]| read(b"", &attested(PENDING, &[&length(uri.len())[..], uri].concat()));
    assert!(address(b"https://a-b.example:8080/x_y.z").is_ok());
    assert!(address(b"").is_ok());
    assert!(address(&[b'a'; 1000]).is_ok());
    assert_eq!(address(&[b'a'; 1001]).unwrap_err(), OtsError::UriTooLong(1001));
    for byte in 0..=255u8 {
        let allowed = byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte);
        match address(&[b'a', byte]) {
            Ok(_) => assert!(allowed, "{byte:02x}"),
            Err(error) => assert_eq!((allowed, error), (false, OtsError::UriCharacter(byte))),
        }
    }
    assert_eq!(Attestation::pending("https://example.org/?a=b"), Err(OtsError::UriCharacter(b'?')));
}

#[test]
fn payloads_and_arguments() {
    assert!(read(b"", &attested(0, &[0; 8192])).is_ok());
    assert_eq!(read(b"", &attested(0, &[0; 8193])).unwrap_err(), OtsError::AttestationTooLong(8193));

    let append = |count: usize| [&[0xf0][..], &length(count), &vec![0; count], ENDING].concat();
    assert!(read(b"", &append(4096)).is_ok());
    assert_eq!(read(b"", &append(4097)).unwrap_err(), OtsError::ArgumentTooLong(4097));
    assert_eq!(read(b"", &append(0)).unwrap_err(), OtsError::EmptyArgument);
    assert_eq!(read(b"1", &append(4096)).unwrap_err(), OtsError::MessageTooLong(4097));
    assert!(Timestamp::new(vec![0; 4096]).is_ok());
    assert_eq!(Timestamp::new(vec![0; 4097]).unwrap_err(), OtsError::MessageTooLong(4097));
    assert_eq!(read(b"", &[&[0xf2][..], ENDING].concat()).unwrap_err(), OtsError::EmptyMessage("reverse"));

    let mut timestamp = Timestamp::new(vec![]).unwrap();
    let root = timestamp.root();
    let unknown = |tag: u64, length| Attestation::Unknown { tag: tag.to_be_bytes(), payload: vec![0; length] };
    assert_eq!(timestamp.attest(root, unknown(0, 8193)), Err(OtsError::AttestationTooLong(8193)));
    assert_eq!(timestamp.attest(root, unknown(BITCOIN, 1)), Err(OtsError::KnownTag));
    assert_eq!(timestamp.attest(root, unknown(PENDING, 1)), Err(OtsError::KnownTag));
    assert_eq!(timestamp.to_bytes(), Err(OtsError::Empty));
}

#[test]
fn lengths_beyond_the_machine_are_refused_before_anything_is_allocated() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(read(b"", &[&[0xf0][..], &huge].concat()).unwrap_err(), OtsError::ArgumentTooLong(u64::MAX));
    let tag = [0x00, 7, 7, 7, 7, 7, 7, 7, 7];
    assert_eq!(read(b"", &[&tag[..], &huge].concat()).unwrap_err(), OtsError::AttestationTooLong(u64::MAX));
}

#[test]
fn of_an_operation_that_comes_twice_the_last_counts() {
    let bytes = [&[0xff, 0x08][..], &attested(0, b"first"), &[0x08], &attested(0, b"last")].concat();
    let expected =
        Timestamp::chain(vec![], [Op::Sha256], Attestation::Unknown { tag: [0; 8], payload: b"last".to_vec() })
            .unwrap();
    assert_eq!(read(b"", &bytes), Ok(expected));
}

#[test]
fn forks_need_something_behind_them() {
    let doubled = [&[0xff, 0xff][..], ENDING, ENDING].concat();
    assert_eq!(read(b"", &doubled).unwrap_err(), OtsError::UnknownOperation(0xff));
    let open = [&[0xff][..], ENDING].concat();
    assert_eq!(read(b"", &open).unwrap_err(), OtsError::Truncated { wanted: 1, available: 0 });
    assert_eq!(read(b"", b"").unwrap_err(), OtsError::Truncated { wanted: 1, available: 0 });
    assert_eq!(read(b"", &[0x01]).unwrap_err(), OtsError::UnknownOperation(0x01));
}

#[test]
fn a_file_needs_a_digest_of_its_hashs_length() {
    for hash in [FileHash::Sha1, FileHash::Ripemd160, FileHash::Sha256, FileHash::Keccak256] {
        let length = hash.digest_length();
        let made = |length: usize| DetachedTimestampFile::new(hash, Timestamp::new(vec![1; length]).unwrap());
        assert!(made(length).is_ok());
        let error = OtsError::DigestLength { expected: length, actual: length + 1 };
        assert_eq!(made(length + 1).unwrap_err(), error);
        let bytes = [&HEADER_MAGIC[..], &[1, hash.op().tag()], &vec![1; length], ENDING].concat();
        assert_eq!(DetachedTimestampFile::from_bytes(&bytes).unwrap().file_hash(), hash);
    }
}
