//! blockfilters.json: basic filters (BIP 158) of blocks of testnet, and the headers that chain them (BIP 157).

use crate::core_data;
use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Block, OutPoint, ScriptBuf};
use serde_json::Value;
use std::collections::HashMap;

#[test]
fn block_filters() {
    // The first row names the columns.
    let cases = core_data::load_cases("blockfilters.json");
    assert_eq!(cases.len(), 10);
    for case in &cases {
        let [height, hash, block, Value::Array(scripts), previous, filter, header, _] = case.as_slice() else {
            panic!("{case:?}")
        };
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let block: Block = deserialize_hex(&text(block)).expect("a block");
        assert_eq!(block.block_hash().to_string(), text(hash));
        let inputs = block.txdata.iter().skip(1).flat_map(|tx| &tx.input);
        let outpoints: Vec<OutPoint> = inputs.map(|input| input.previous_output).collect();
        assert_eq!(outpoints.len(), scripts.len(), "block {height}");
        let scripts = scripts.iter().map(|script| ScriptBuf::from_hex(&text(script)).expect("hex"));
        let coins: HashMap<OutPoint, ScriptBuf> = outpoints.into_iter().zip(scripts).collect();
        let made = BlockFilter::new_script_filter(&block, |outpoint| Ok(coins[outpoint].as_script()))
            .expect("no coin is missing");
        assert_eq!(made.content.to_lower_hex_string(), text(filter), "block {height}");
        let previous: FilterHeader = text(previous).parse().expect("a header");
        assert_eq!(made.filter_header(&previous).to_string(), text(header), "block {height}");
        let matches = |script: Vec<u8>| made.match_any(&block.block_hash(), std::iter::once(script.as_slice()));
        for output in block.txdata.iter().flat_map(|tx| &tx.output) {
            let script = &output.script_pubkey;
            let kept = !script.is_empty() && !script.is_op_return();
            assert!(!kept || matches(script.to_bytes()).expect("a filter"), "block {height}");
        }
        assert!(!matches(Vec::from_hex("00").expect("hex")).expect("a filter"), "block {height}");
    }
}
