use super::*;
use std::path::Path;

fn example(name: &str) -> DetachedTimestampFile {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is");
    let folder = Path::new(&here).join("../../tests/vectors/opentimestamps");
    DetachedTimestampFile::from_bytes(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn the_governments_transaction_is_recognised() {
    let text = as_text(&example("gdp2q25-2nd.pdf.ots"));
    assert!(text.contains("# Transaction id fcf172401ca9d89013f13f5bbf0fc7577cb8a3588bf5cbc3b458ff36635fec00\n"));
}

#[test]
fn hello_world_reads_as_in_the_ots_client() {
    let text = as_text(&example("hello-world.txt.ots"));
    assert!(text.starts_with(
        "File sha256 hash: 03ba204e50d126e4674c005e04d82e84c21366780af1f43bd54a37816b6ab340\nTimestamp:\nripemd160\n"
    ));
    assert!(text.ends_with(
        "sha256\nverify BitcoinBlockHeaderAttestation(358391)\n\
         # Bitcoin block merkle root 8a1b66ecb7cbd07d8139a7e7d7f2c41aab1f5009b8364aaf61d03ad245e47e00\n"
    ));
}

#[test]
fn json_tells_every_place_and_how_it_is_reached() {
    let json = as_json(&example("two-calendars.txt.ots"));
    let nodes = json["nodes"].as_array().unwrap();
    assert!(nodes[0].get("parent").is_none());
    assert!(nodes[1..].iter().enumerate().all(|(i, node)| node["parent"].as_u64().unwrap() <= i as u64));
    assert_eq!(nodes.iter().filter(|node| node.get("attestations").is_some()).count(), 2);
}
