//! What the chain keeps in its files and its database, from any bytes: coins, undo data, the block index.
#![no_main]

use cairn_chain::testing::records::{check_coin, check_index, check_undo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => check_coin(bytes),
        1 => check_undo(bytes),
        2 => check_index(bytes, false),
        _ => check_index(bytes, true),
    }
});
