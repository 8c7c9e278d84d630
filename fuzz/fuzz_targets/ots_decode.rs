//! Any bytes are a proof or they are refused, and so for digests that wait in the calendar's journal; what was read is
//! written in a form that reads back as the same.
#![no_main]

use cairn_stamp::Digests;
use cairn_stamp::ots::{DetachedTimestampFile, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As an `.ots` file, and as a calendar's answer for a commitment of 32 bytes.
    match DetachedTimestampFile::from_bytes(bytes) {
        Ok(file) => {
            let canonical = file.to_bytes().expect("what was read can be written");
            assert!(canonical.len() <= bytes.len(), "the canonical form is the shortest");
            let again = DetachedTimestampFile::from_bytes(&canonical).expect("what was written can be read");
            assert_eq!(again, file);
            assert_eq!(again.to_bytes().as_ref(), Ok(&canonical));
            for step in file.timestamp().walk() {
                assert_eq!(file.timestamp().path(step.node).len(), step.depth);
            }
        }
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
    if let Ok(answer) = Timestamp::from_bytes([7; 32], bytes) {
        let canonical = answer.to_bytes().expect("what was read can be written");
        let again = Timestamp::from_bytes([7; 32], &canonical).expect("what was written can be read");
        assert_eq!(again, answer);
        let mut merged = answer.clone();
        assert_eq!(merged.merge(&again), Ok(false), "merging the same adds nothing");
        assert_eq!(merged, answer);
    }
    if let Some(digests) = Digests::decode(bytes) {
        let written = digests.encode();
        assert!(written.len() <= bytes.len(), "the canonical form is the shortest");
        assert_eq!(Digests::decode(&written), Some(digests));
    }
});
