use super::*;
use bitcoin::hex::DisplayHex;
use cairn_stamp::ots::{Attestation, Timestamp};

fn proof(height: u64) -> DetachedTimestampFile {
    let timestamp = Timestamp::chain([1; 32], [], Attestation::Bitcoin { height }).unwrap();
    DetachedTimestampFile::new(FileHash::Sha256, timestamp).unwrap()
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_hashed_by_every_hash_across_the_buffers_edge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"abc").unwrap();
    let hex = |kind| hash(&path, kind).unwrap().to_lower_hex_string();
    assert_eq!(hex(FileHash::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(hex(FileHash::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex(FileHash::Ripemd160), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
    assert_eq!(hex(FileHash::Keccak256), "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");

    for length in [0, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER] {
        let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(hash(&path, FileHash::Sha256).unwrap(), sha2::Sha256::digest(&bytes).to_vec(), "{length} bytes");
    }
    let missing = hash(&folder.path().join("missing"), FileHash::Sha256).unwrap_err();
    assert_eq!(missing.code, crate::error::exit::FAILED);
}

#[test]
fn a_proof_that_is_there_stays_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.ots");
    write_proof(&path, &proof(1), Existing::Keep).unwrap();
    let error = write_proof(&path, &proof(2), Existing::Keep).unwrap_err();
    assert!(error.message.ends_with("is already there"), "{error}");
    assert_eq!(read_proof(&path).unwrap(), proof(1));
    write_proof(&path, &proof(3), Existing::Replace).unwrap();
    assert_eq!(read_proof(&path).unwrap(), proof(3));
    assert_eq!(names(folder.path()), ["file.ots"]);
}

#[test]
fn an_upgrade_keeps_the_old_proof_beside_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.ots");
    for height in 1..=3 {
        let existing = if height == 1 { Existing::Keep } else { Existing::Backup };
        write_proof(&path, &proof(height), existing).unwrap();
    }
    assert_eq!(read_proof(&path).unwrap(), proof(3));
    assert_eq!(read_proof(&folder.path().join("file.ots.bak")).unwrap(), proof(2));
    assert_eq!(names(folder.path()), ["file.ots", "file.ots.bak"]);
}

#[test]
fn a_failed_write_changes_nothing_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.ots");
    write_proof(&path, &proof(1), Existing::Keep).unwrap();
    // A folder that is not empty cannot be replaced by the backup.
    let backup = folder.path().join("file.ots.bak");
    fs::create_dir(&backup).unwrap();
    fs::write(backup.join("occupied"), b"").unwrap();
    write_proof(&path, &proof(2), Existing::Backup).unwrap_err();
    assert_eq!(read_proof(&path).unwrap(), proof(1));
    assert_eq!(names(folder.path()), ["file.ots", "file.ots.bak"]);

    // Nor can it be replaced by a proof.
    write_proof(&backup, &proof(2), Existing::Replace).unwrap_err();
    assert_eq!(names(folder.path()), ["file.ots", "file.ots.bak"]);
    write_proof(&folder.path().join("missing/file.ots"), &proof(2), Existing::Keep).unwrap_err();

    // What cannot be written at all does not touch the disk.
    let empty = DetachedTimestampFile::new(FileHash::Sha256, Timestamp::new([1; 32]).unwrap()).unwrap();
    write_proof(&path, &empty, Existing::Replace).unwrap_err();
    assert_eq!(read_proof(&path).unwrap(), proof(1));
}

#[test]
fn what_is_no_proof_is_refused_however_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.ots");
    fs::write(&path, b"no proof").unwrap();
    assert!(read_proof(&path).unwrap_err().message.contains("is no valid proof"));
    // Sparse: nothing of it is on the disk, and only the allowed part is read.
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(read_proof(&path).unwrap_err().message.contains("is no valid proof"));
}
