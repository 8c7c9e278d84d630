//! Blocks, headers and transactions as Core's JSON: the same fields, in the same order, with the same number formats.

use super::asm::asm;
use super::script::script_to_value;
use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Block, CompactTarget, Network, Target, Transaction, Wtxid};
use cairn_chain::{BlockEntry, Chain};
use cairn_consensus::coins::TxUndo;
use cairn_consensus::tx::WITNESS_SCALE_FACTOR;
use serde_json::{Map, Number, Value, json};

/// An object with its fields in order.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A number with exactly this text; null if the text is no JSON number (an infinity), which no caller makes.
fn number(text: &str) -> Value {
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// Core's `ValueFromAmount`: BTC with eight decimals.
pub(crate) fn amount(value: Amount) -> Value {
    let satoshi = value.to_sat();
    number(&format!("{}.{:08}", satoshi / 100_000_000, satoshi % 100_000_000))
}

/// Satoshi as BTC with eight decimals.
pub(crate) fn satoshi(value: u64) -> Value {
    amount(Amount::from_sat(value))
}

/// Satoshi, of which an operator may have taken more than there are, as BTC with eight decimals.
pub(crate) fn signed_satoshi(value: i64) -> Value {
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    number(&format!("{sign}{}.{:08}", value / 100_000_000, value % 100_000_000))
}

/// A floating point number as UniValue writes it: C's `%.16g`.
pub(crate) fn float(value: f64) -> Value {
    number(&format_g16(value))
}

fn format_g16(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".into();
    }
    let scientific = format!("{value:.15e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if (-4..16).contains(&exponent) {
        let decimals = usize::try_from(15 - exponent).unwrap_or(0);
        trim(&format!("{value:.decimals$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    }
}

/// Core's `GetDifficulty`: how much harder than difficulty 1.
pub(crate) fn difficulty(bits: CompactTarget) -> f64 {
    let bits = bits.to_consensus();
    let shift = i32::try_from(bits >> 24).unwrap_or(0);
    f64::from(0xffff_u32) / f64::from(bits & 0x00ff_ffff) * 256_f64.powi(29 - shift)
}

/// The compact target as Core writes it.
pub(crate) fn bits_hex(bits: CompactTarget) -> Value {
    format!("{:08x}", bits.to_consensus()).into()
}

/// The full target as 64 hex digits.
pub(crate) fn target_hex(bits: CompactTarget) -> Value {
    Target::from_compact(bits).to_be_bytes().to_lower_hex_string().into()
}

/// Total work as 64 hex digits.
pub(crate) fn work_hex(work: bitcoin::Work) -> Value {
    work.to_be_bytes().to_lower_hex_string().into()
}

/// Where a block stands with regard to a tip: confirmations (-1 off the active chain) and the block after it.
pub(crate) fn depth(chain: &Chain, tip: &BlockEntry, entry: &BlockEntry) -> (i64, Option<BlockEntry>) {
    if entry.hash == tip.hash {
        return (1, None);
    }
    if !chain.is_active(&entry.hash) {
        return (-1, None);
    }
    let next = entry.height.checked_add(1).and_then(|height| chain.entry_at(height));
    let next = next.filter(|next| next.header.prev_blockhash == entry.hash);
    (i64::from(tip.height) - i64::from(entry.height) + 1, next)
}

/// Core's `blockheaderToJSON`.
pub(crate) fn header_to_value(chain: &Chain, tip: &BlockEntry, entry: &BlockEntry) -> Map<String, Value> {
    let header: &Header = &entry.header;
    let (confirmations, next) = depth(chain, tip, entry);
    let version = header.version.to_consensus();
    let mut out = object([
        ("hash", entry.hash.to_string().into()),
        ("confirmations", confirmations.into()),
        ("height", entry.height.into()),
        ("version", version.into()),
        ("versionHex", format!("{version:08x}").into()),
        ("merkleroot", header.merkle_root.to_string().into()),
        ("time", header.time.into()),
        ("mediantime", entry.median_time_past.into()),
        ("nonce", header.nonce.into()),
        ("bits", bits_hex(header.bits)),
        ("target", target_hex(header.bits)),
        ("difficulty", float(difficulty(header.bits))),
        ("chainwork", work_hex(entry.chain_work)),
        ("nTx", entry.tx_count.into()),
    ]);
    if entry.height > 0 {
        out.insert("previousblockhash".into(), header.prev_blockhash.to_string().into());
    }
    if let Some(next) = next {
        out.insert("nextblockhash".into(), next.hash.to_string().into());
    }
    out
}

/// How much `blockToJSON` says of each transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Ids only.
    Txid,
    /// The transaction, with its fee where undo data is known.
    Transaction,
    /// And the outputs that it spends.
    Prevouts,
}

/// Core's `blockToJSON`. `undo` has the spent coins of every transaction but the first, where known.
pub(crate) fn block_to_value(
    header: Map<String, Value>,
    block: &Block,
    undo: Option<&[TxUndo]>,
    detail: Detail,
    network: Network,
) -> Value {
    let mut out = header;
    let total = block.total_size();
    let weight = block.weight().to_wu();
    // BIP 141: weight = 3 × stripped size + total size.
    out.insert("strippedsize".into(), ((weight - total as u64) / 3).into());
    out.insert("size".into(), total.into());
    out.insert("weight".into(), weight.into());
    if let Some(coinbase) = block.txdata.first() {
        out.insert("coinbase_tx".into(), coinbase_summary(coinbase));
    }
    let txs = block.txdata.iter().enumerate().map(|(i, tx)| {
        if detail == Detail::Txid {
            return tx.compute_txid().to_string().into();
        }
        let spent = i.checked_sub(1).and_then(|i| undo?.get(i));
        Value::Object(tx_to_value(tx, spent, detail == Detail::Prevouts, true, network))
    });
    out.insert("tx".into(), txs.collect());
    Value::Object(out)
}

fn coinbase_summary(tx: &Transaction) -> Value {
    let mut out = object([("version", tx.version.0.into()), ("locktime", tx.lock_time.to_consensus_u32().into())]);
    if let Some(input) = tx.input.first() {
        out.insert("sequence".into(), input.sequence.0.into());
        out.insert("coinbase".into(), input.script_sig.to_hex_string().into());
        if let Some(item) = input.witness.nth(0) {
            out.insert("witness".into(), item.to_lower_hex_string().into());
        }
    }
    Value::Object(out)
}

/// The hash with witness data. Without inputs there is none, but the library would hash BIP 144's marker all the same.
pub(crate) fn wtxid(tx: &Transaction) -> Wtxid {
    if tx.input.is_empty() { Wtxid::from_raw_hash(tx.compute_txid().to_raw_hash()) } else { tx.compute_wtxid() }
}

/// Core's `TxToUniv`. With `spent` (the coins of the inputs) it knows the fee and, if asked, shows the prevouts.
pub(crate) fn tx_to_value(
    tx: &Transaction,
    spent: Option<&TxUndo>,
    prevouts: bool,
    hex: bool,
    network: Network,
) -> Map<String, Value> {
    let spent = spent.filter(|spent| spent.0.len() == tx.input.len());
    // BIP 141: weight = 3 × stripped size + total size.
    let size = if tx.input.is_empty() { tx.base_size() } else { tx.total_size() };
    let weight = tx.base_size() * (WITNESS_SCALE_FACTOR - 1) + size;
    let mut out = object([
        ("txid", tx.compute_txid().to_string().into()),
        ("hash", wtxid(tx).to_string().into()),
        // Core's version is unsigned.
        ("version", u32::from_ne_bytes(tx.version.0.to_ne_bytes()).into()),
        ("size", size.into()),
        ("vsize", weight.div_ceil(WITNESS_SCALE_FACTOR).into()),
        ("weight", weight.into()),
        ("locktime", tx.lock_time.to_consensus_u32().into()),
    ]);
    let coinbase = tx.is_coinbase();
    let inputs = tx.input.iter().enumerate().map(|(i, input)| {
        let mut entry = if coinbase {
            object([("coinbase", input.script_sig.to_hex_string().into())])
        } else {
            object([
                ("txid", input.previous_output.txid.to_string().into()),
                ("vout", input.previous_output.vout.into()),
                ("scriptSig", json!({"asm": asm(&input.script_sig, true), "hex": input.script_sig.to_hex_string()})),
            ])
        };
        if !input.witness.is_empty() {
            let items = input.witness.iter().map(|item| item.to_lower_hex_string());
            entry.insert("txinwitness".into(), items.collect());
        }
        if let Some(coin) = spent.and_then(|spent| spent.0.get(i)).filter(|_| prevouts) {
            let prevout = object([
                ("generated", coin.coinbase.into()),
                ("height", coin.height.into()),
                ("value", amount(coin.output.value)),
                ("scriptPubKey", script_to_value(&coin.output.script_pubkey, network, true, None).into()),
            ]);
            entry.insert("prevout".into(), prevout.into());
        }
        entry.insert("sequence".into(), input.sequence.0.into());
        Value::Object(entry)
    });
    out.insert("vin".into(), inputs.collect());
    let outputs = tx.output.iter().enumerate().map(|(n, output)| {
        Value::Object(object([
            ("value", amount(output.value)),
            ("n", n.into()),
            ("scriptPubKey", script_to_value(&output.script_pubkey, network, true, None).into()),
        ]))
    });
    out.insert("vout".into(), outputs.collect());
    if let Some(fee) = spent.and_then(|spent| fee(tx, spent)) {
        out.insert("fee".into(), amount(fee));
    }
    if hex {
        out.insert("hex".into(), serialize_hex(tx).into());
    }
    out
}

fn fee(tx: &Transaction, spent: &TxUndo) -> Option<Amount> {
    let input = spent.0.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.output.value))?;
    let output = tx.output.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))?;
    input.checked_sub(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_cores_text() {
        assert_eq!(amount(Amount::from_sat(5_000_000_000)).to_string(), "50.00000000");
        assert_eq!(amount(Amount::from_sat(1)).to_string(), "0.00000001");
        assert_eq!(float(difficulty(CompactTarget::from_consensus(0x207f_ffff))).to_string(), "4.656542373906925e-10");
        assert_eq!(float(difficulty(CompactTarget::from_consensus(0x1d00_ffff))).to_string(), "1");
        assert_eq!(float(difficulty(CompactTarget::from_consensus(0x1b04_04cb))).to_string(), "16307.42093852398");
        assert_eq!(float(0.0).to_string(), "0");
        assert_eq!(float(1e16).to_string(), "1e+16");
        assert_eq!(float(0.0001).to_string(), "0.0001");
    }
}
