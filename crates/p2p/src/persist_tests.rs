use std::fs;

use bitcoin::p2p::Magic;

use super::*;

const FORMAT: Format = Format { kind: *b"cairn-t\n", version: 3 };
const MAX_LEN: usize = 100;

fn read(path: &Path) -> Loaded<Vec<u8>> {
    load(path, MAX_LEN, |bytes| FORMAT.open(Magic::REGTEST, bytes).map(<[u8]>::to_vec), Vec::new).expect("readable")
}

#[test]
fn a_file_reads_back_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.dat");
    assert!(read(&path).value.is_empty() && read(&path).set_aside.is_none(), "no file is no damage");
    for content in [&b"first"[..], b"", b"second"] {
        write(&path, &FORMAT.seal(Magic::REGTEST, content)).expect("written");
        let loaded = read(&path);
        assert_eq!((loaded.value.as_slice(), loaded.set_aside), (content, None));
    }
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_leaves_the_old_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = write(&dir.path().join("missing/t.dat"), b"").expect_err("there is no such directory");
    assert!(error.to_string().contains("t.dat"), "{error}");
    let error = load(dir.path(), MAX_LEN, |_| Ok(()), || ()).expect_err("a directory is no file");
    assert!(error.to_string().starts_with("cannot read"), "{error}");
}

#[test]
fn every_damage_is_seen_and_the_file_kept() {
    let good = FORMAT.seal(Magic::REGTEST, b"content");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.dat");
    let mut names = Vec::new();
    let mut damage_of = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        let loaded = read(&path);
        assert!(loaded.value.is_empty());
        let set_aside = loaded.set_aside.expect("it is damaged");
        assert!(!path.exists());
        assert_eq!(fs::read(&set_aside.kept_as).expect("kept"), bytes, "nothing kept is overwritten");
        names.push(set_aside.kept_as.file_name().expect("a name").to_str().expect("ASCII").to_owned());
        set_aside.damage
    };
    assert_eq!(damage_of(b"something else"), Damage::Kind);
    assert_eq!(damage_of(&FORMAT.seal(Magic::BITCOIN, b"content")), Damage::Network);
    assert_eq!(damage_of(&Format { version: 4, ..FORMAT }.seal(Magic::REGTEST, b"x")), Damage::Newer(4));
    assert!(matches!(damage_of(&Format { version: 2, ..FORMAT }.seal(Magic::REGTEST, b"x")), Damage::Content(_)));
    assert_eq!(damage_of(&[&good[..], b"x"].concat()), Damage::Length);
    assert_eq!(damage_of(&FORMAT.seal(Magic::REGTEST, &[1; MAX_LEN])), Damage::Length);
    for length in 0..good.len() {
        assert_eq!(damage_of(&good[..length]), Damage::Length, "cut to {length}");
    }
    assert_eq!(names[..3], ["t.dat.bak", "t.dat.bak.2", "t.dat.bak.3"]);
}

#[test]
fn no_bit_can_change() {
    let good = FORMAT.seal(Magic::REGTEST, b"content");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(FORMAT.open(Magic::REGTEST, &bytes).is_err(), "bit {bit}");
    }
    assert_eq!(FORMAT.open(Magic::REGTEST, &good), Ok(&b"content"[..]));
}
