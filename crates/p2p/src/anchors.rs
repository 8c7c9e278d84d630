//! Anchors: peers for blocks alone that we had when the node ended, connected to first when it begins again. A node that
//! is made to restart keeps them, so that restarting it does not help to surround it.

use std::path::Path;
use std::time::Duration;

use bitcoin::p2p::{Magic, ServiceFlags};

use crate::address::{AddressRecord, NetAddress};
use crate::limits::{MAX_ANCHORS_FILE_SIZE, MAX_BLOCK_RELAY_ONLY_ANCHORS};
use crate::persist::{self, Damage, Format, Loaded, PersistError, Reader, write_host};

const FORMAT: Format = Format { kind: *b"cairn-a\n", version: 1 };

/// Writes `anchors.dat`: the first two of those given.
pub fn save(path: &Path, magic: Magic, anchors: &[AddressRecord]) -> Result<(), PersistError> {
    persist::write(path, &to_bytes(anchors, magic))
}

/// Reads `anchors.dat` and deletes it: if the node does not end well, it was perhaps because of them. A damaged file is
/// set aside, with a warning, and there are none.
pub fn take(path: &Path, magic: Magic) -> Result<Loaded<Vec<AddressRecord>>, PersistError> {
    let loaded = persist::load(path, MAX_ANCHORS_FILE_SIZE, |bytes| from_bytes(bytes, magic), Vec::new)?;
    if loaded.set_aside.is_none() {
        persist::remove(path)?;
    }
    Ok(loaded)
}

/// What is written to `anchors.dat`.
pub fn to_bytes(anchors: &[AddressRecord], magic: Magic) -> Vec<u8> {
    let anchors = &anchors[..anchors.len().min(MAX_BLOCK_RELAY_ONLY_ANCHORS)];
    let mut bytes = vec![anchors.len() as u8];
    for anchor in anchors {
        write_host(&mut bytes, &anchor.address.host);
        bytes.extend(anchor.address.port.to_le_bytes());
        bytes.extend(anchor.services.to_u64().to_le_bytes());
        bytes.extend(anchor.time.as_secs().to_le_bytes());
    }
    FORMAT.seal(magic, &bytes)
}

/// Reads what [`to_bytes`] writes.
pub fn from_bytes(bytes: &[u8], magic: Magic) -> Result<Vec<AddressRecord>, Damage> {
    let mut reader = Reader(FORMAT.open(magic, bytes)?);
    let count = usize::from(reader.u8()?);
    if count > MAX_BLOCK_RELAY_ONLY_ANCHORS {
        return Err(Damage::Content(format!("there are {count} anchors")));
    }
    let mut anchors = Vec::with_capacity(count);
    for _ in 0..count {
        let address = NetAddress::new(reader.host()?, reader.u16()?);
        let services = ServiceFlags::from(reader.u64()?);
        anchors.push(AddressRecord::new(address, services, Duration::from_secs(reader.u64()?)));
    }
    reader.finish()?;
    Ok(anchors)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anchor(text: &str) -> AddressRecord {
        let address = NetAddress::parse(text, 8333).expect("an address");
        AddressRecord::new(address, ServiceFlags::NETWORK, Duration::from_secs(7))
    }

    #[test]
    fn they_are_read_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("anchors.dat");
        let take = || take(&path, Magic::REGTEST).expect("readable");
        assert_eq!((take().value, take().set_aside), (vec![], None));
        let anchors = ["1.2.3.4:1", "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:2", "[2a00::1]:3"]
            .map(anchor);
        for kept in 0..=anchors.len() {
            save(&path, Magic::REGTEST, &anchors[..kept]).expect("written");
            let loaded = take();
            assert_eq!(loaded.value, anchors[..kept.min(2)], "no more than two");
            assert_eq!(loaded.set_aside, None);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_damaged_file_is_kept_beside_and_there_are_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("anchors.dat");
        let good = to_bytes(&[anchor("1.2.3.4:1")], Magic::REGTEST);
        let three = [&[3][..], &[1, 1, 2, 3, 4, 0, 0].repeat(3)].concat();
        for (bytes, damage) in [
            (good[..20].to_vec(), Damage::Length),
            (to_bytes(&[], Magic::SIGNET), Damage::Network),
            (FORMAT.seal(Magic::REGTEST, &three), Damage::Content("there are 3 anchors".to_owned())),
            (FORMAT.seal(Magic::REGTEST, &[0, 0]), Damage::Length),
            (vec![0; MAX_ANCHORS_FILE_SIZE + 1], Damage::Length),
        ] {
            std::fs::write(&path, &bytes).expect("written");
            let loaded = take(&path, Magic::REGTEST).expect("readable");
            assert_eq!(loaded.value, []);
            let set_aside = loaded.set_aside.expect("it was damaged");
            assert_eq!(set_aside.damage, damage);
            assert_eq!(std::fs::read(set_aside.kept_as).expect("kept"), bytes);
            assert!(!path.exists());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>, at: prop::sample::Index, xor in 1..=255_u8) {
            prop_assert!(from_bytes(&bytes, Magic::REGTEST).is_err());
            let mut damaged = to_bytes(&[anchor("1.2.3.4:1")], Magic::REGTEST);
            let index = at.index(damaged.len());
            damaged[index] ^= xor;
            prop_assert!(from_bytes(&damaged, Magic::REGTEST).is_err());
        }
    }
}
