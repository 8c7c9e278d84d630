//! Methods of Core's category `rawtransactions` that decode.

use super::args::{Arg, Args, Kind, parse_hex};
use super::asm::{has_tapscript_ops, has_valid_ops, is_unspendable};
use super::blockchain::internal;
use super::error::{RpcError, RpcResult, code, fail};
use super::render::{object, tx_to_value};
use super::script::{OutputType, script_to_value, segwit_wrapping, solve};
use super::{Context, Method};
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, BlockHash, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use cairn_chain::BlockEntry;
use cairn_consensus::coins::TxUndo;
use cairn_consensus::script::MAX_SCRIPT_SIZE;
use serde_json::{Map, Value};

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "rawtransactions",
        name: "getrawtransaction",
        args: &[
            Arg::required("txid", Kind::Str, "The transaction id"),
            Arg::optional(
                "verbosity|verbose",
                Kind::NumUnchecked,
                "0",
                "0 for hex-encoded data, 1 for a JSON object, and 2 for JSON object with fee and prevout",
            ),
            Arg::optional("blockhash", Kind::Str, "", "The block in which to look for the transaction"),
        ],
        about: "Returns the transaction if it is in the mempool or any block of the active chain.\n\
                If a blockhash argument is passed, it will return the transaction if the specified block is available and \
                the transaction is in that block.",
        result: "\"hex\", or decoderawtransaction's fields and { \"in_active_chain\", \"fee\", \"hex\", \"blockhash\", \
                 \"confirmations\", \"time\", \"blocktime\" }",
        differences: "`cairn up` always keeps the transaction index",
        run: getrawtransaction,
    },
    Method {
        category: "rawtransactions",
        name: "decoderawtransaction",
        args: &[
            Arg::required("hexstring", Kind::Str, "The transaction hex string"),
            Arg::optional(
                "iswitness",
                Kind::Bool,
                "depends on heuristic tests",
                "Whether the transaction hex is a serialized witness transaction.",
            ),
        ],
        about: "Return a JSON object representing the serialized, hex-encoded transaction.",
        result: "{ \"txid\", \"hash\", \"version\", \"size\", \"vsize\", \"weight\", \"locktime\", \"vin\", \"vout\" }",
        differences: "",
        run: decoderawtransaction,
    },
    Method {
        category: "rawtransactions",
        name: "decodescript",
        args: &[Arg::required("hexstring", Kind::Str, "the hex-encoded script")],
        about: "Decode a hex-encoded script.",
        result: "{ \"asm\", \"desc\", \"address\", \"type\", \"p2sh\", \"segwit\" }",
        differences: "",
        run: decodescript,
    },
];

/// Core's `DecodeTx`: with and without witness data, the sane one of the two where both decode. `None` if neither does.
pub(crate) fn decode_transaction(hex: &str, try_no_witness: bool, try_witness: bool) -> Option<Transaction> {
    let bytes = parse_hex(hex)?;
    let extended = try_witness.then(|| decode_extended(&bytes)).flatten();
    if extended.as_ref().is_some_and(has_sane_scripts) {
        return extended;
    }
    let legacy = try_no_witness.then(|| decode_legacy(&bytes)).flatten();
    if legacy.as_ref().is_some_and(has_sane_scripts) {
        return legacy;
    }
    extended.or(legacy)
}

/// BIP 144's serialisation, as Core reads it: a marker without any witness is an error, and two zero bytes where inputs
/// and outputs should be are a transaction without either.
fn decode_extended(bytes: &[u8]) -> Option<Transaction> {
    match bitcoin::consensus::deserialize::<Transaction>(bytes) {
        Ok(tx) => Some(tx).filter(|tx| !tx.input.is_empty()),
        Err(_) => decode_legacy(bytes).filter(|tx| tx.input.is_empty() && tx.output.is_empty()),
    }
}

/// The serialisation before BIP 144, in which a transaction without inputs is one too.
fn decode_legacy(bytes: &[u8]) -> Option<Transaction> {
    let mut rest = bytes;
    let tx = Transaction {
        version: Decodable::consensus_decode(&mut rest).ok()?,
        input: Vec::<TxIn>::consensus_decode(&mut rest).ok()?,
        output: Vec::<TxOut>::consensus_decode(&mut rest).ok()?,
        lock_time: Decodable::consensus_decode(&mut rest).ok()?,
    };
    rest.is_empty().then_some(tx)
}

/// Core's `CheckTxScriptsSanity`.
fn has_sane_scripts(tx: &Transaction) -> bool {
    let sane = |script: &ScriptBuf| has_valid_ops(script) && script.len() <= MAX_SCRIPT_SIZE;
    (tx.is_coinbase() || tx.input.iter().all(|input| sane(&input.script_sig)))
        && tx.output.iter().all(|output| sane(&output.script_pubkey))
}

/// A transaction, where it is, and whether the caller named the block.
struct Found {
    tx: Transaction,
    block: Option<BlockEntry>,
}

fn getrawtransaction(context: &Context, args: &Args<'_>) -> RpcResult {
    let txid: Txid = args.hash(0, "parameter 1")?;
    let chain = &context.node.chain;
    if txid.to_string() == chain.params().genesis.header.merkle_root.to_string() {
        return fail(
            code::INVALID_ADDRESS_OR_KEY,
            "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
        );
    }
    let verbosity = args.verbosity(1, 0)?;
    let named: Option<BlockHash> = if args.get(2).is_null() { None } else { Some(args.hash(2, "parameter 3")?) };
    let found = match named {
        Some(hash) => in_block(context, &txid, &hash)?,
        None => anywhere(context, &txid)?,
    };
    if verbosity <= 0 {
        return Ok(serialize_hex(&found.tx).into());
    }
    let mut out = Map::new();
    if let (Some(_), Some(block)) = (named, &found.block) {
        out.insert("in_active_chain".into(), chain.is_active(&block.hash).into());
    }
    let spent = match &found.block {
        Some(block) if verbosity >= 2 && !found.tx.is_coinbase() => spent_by(context, &txid, block)?,
        _ => None,
    };
    out.extend(tx_to_value(&found.tx, spent.as_ref(), true, true, context.network));
    if let Some(block) = &found.block {
        out.extend(confirmation(context, block));
    }
    Ok(Value::Object(out))
}

/// Core's `TxToJSON` of the block that a transaction is in.
fn confirmation(context: &Context, block: &BlockEntry) -> Map<String, Value> {
    let mut out = object([("blockhash", block.hash.to_string().into())]);
    if context.node.chain.is_active(&block.hash) {
        let confirmations = i64::from(context.node.chain.tip().height) - i64::from(block.height) + 1;
        out.insert("confirmations".into(), confirmations.into());
        out.insert("time".into(), block.header.time.into());
        out.insert("blocktime".into(), block.header.time.into());
    } else {
        out.insert("confirmations".into(), 0.into());
    }
    out
}

fn in_block(context: &Context, txid: &Txid, hash: &BlockHash) -> Result<Found, RpcError> {
    let chain = &context.node.chain;
    let Some(entry) = chain.entry(hash) else {
        return fail(code::INVALID_ADDRESS_OR_KEY, "Block hash not found");
    };
    let Some(block) = chain.block(hash).map_err(|error| internal(&error))? else {
        return fail(code::MISC_ERROR, "Block not available");
    };
    match block.txdata.iter().find(|tx| tx.compute_txid() == *txid) {
        Some(tx) => Ok(Found { tx: tx.clone(), block: Some(entry) }),
        None => fail(
            code::INVALID_ADDRESS_OR_KEY,
            "No such transaction found in the provided block. Use gettransaction for wallet transactions.",
        ),
    }
}

fn anywhere(context: &Context, txid: &Txid) -> Result<Found, RpcError> {
    if let Some(entry) = context.node.mempool.get(txid) {
        return Ok(Found { tx: (*entry.tx).clone(), block: None });
    }
    match context.node.chain.transaction(txid).map_err(|error| internal(&error))? {
        Some((tx, block)) => Ok(Found { tx, block: Some(block) }),
        None if context.node.chain.has_transaction_index() => fail(
            code::INVALID_ADDRESS_OR_KEY,
            "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
        ),
        None => fail(
            code::INVALID_ADDRESS_OR_KEY,
            "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries. \
             Use gettransaction for wallet transactions.",
        ),
    }
}

/// The coins that a transaction of a block spent, where undo data is here.
fn spent_by(context: &Context, txid: &Txid, entry: &BlockEntry) -> Result<Option<TxUndo>, RpcError> {
    let chain = &context.node.chain;
    let block = chain.block(&entry.hash).map_err(|error| internal(&error))?;
    let undo = chain.undo(&entry.hash).map_err(|error| internal(&error))?;
    let (Some(block), Some(mut undo)) = (block, undo) else { return Ok(None) };
    let position = block.txdata.iter().position(|tx| tx.compute_txid() == *txid);
    // The coinbase has no undo data, so that the entries are one behind.
    Ok(position.and_then(|i| i.checked_sub(1)).filter(|&i| i < undo.0.len()).map(|i| undo.0.swap_remove(i)))
}

fn decoderawtransaction(context: &Context, args: &Args<'_>) -> RpcResult {
    let (try_no_witness, try_witness) = match args.get(1) {
        Value::Null => (true, true),
        _ => {
            let witness = args.bool_or(1, true)?;
            (!witness, witness)
        }
    };
    match decode_transaction(args.str(0)?, try_no_witness, try_witness) {
        Some(tx) => Ok(Value::Object(tx_to_value(&tx, None, false, false, context.network))),
        None => fail(code::DESERIALIZATION_ERROR, "TX decode failed"),
    }
}

fn decodescript(context: &Context, args: &Args<'_>) -> RpcResult {
    let text = args.str(0)?;
    let script = match (text, parse_hex(text)) {
        ("", _) => ScriptBuf::new(),
        (_, Some(bytes)) => ScriptBuf::from_bytes(bytes),
        (_, None) => {
            return fail(code::INVALID_PARAMETER, format!("argument must be hexadecimal string (not '{text}')"));
        }
    };
    let kind = solve(&script);
    let mut out = script_to_value(&script, context.network, false, None);
    let wrappable = matches!(
        kind,
        OutputType::MultiSig(..)
            | OutputType::NonStandard
            | OutputType::PubKey(_)
            | OutputType::PubKeyHash
            | OutputType::WitnessV0KeyHash
            | OutputType::WitnessV0ScriptHash
    );
    if !wrappable || !has_valid_ops(&script) || is_unspendable(&script) || has_tapscript_ops(&script) {
        return Ok(Value::Object(out));
    }
    let p2sh = |script: &ScriptBuf| Address::p2sh_from_hash(script.script_hash(), context.network).to_string();
    out.insert("p2sh".into(), p2sh(&script).into());
    let compressed = |key: &Vec<u8>| key.len() == 33;
    let segwit = match &kind {
        OutputType::MultiSig(_, keys) => keys.iter().all(compressed),
        OutputType::PubKey(key) => compressed(key),
        OutputType::NonStandard | OutputType::PubKeyHash => true,
        _ => false,
    };
    if segwit {
        let wrapped = segwit_wrapping(&script, &kind);
        let mut inner = script_to_value(&wrapped, context.network, true, Some(&script));
        inner.insert("p2sh-segwit".into(), p2sh(&wrapped).into());
        out.insert("segwit".into(), inner.into());
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_without_inputs_decodes_as_legacy() {
        let hex = "01000000000100e1f5050000000017a914000102030405060708090a0b0c0d0e0f101112138700000000";
        let tx = decode_transaction(hex, true, true).unwrap();
        assert_eq!((tx.input.len(), tx.output.len()), (0, 1));
        assert!(decode_transaction(hex, false, true).is_none());
        // As Core: the id is the same with and without witness data, and no marker counts.
        let shown = tx_to_value(&tx, None, false, false, bitcoin::Network::Regtest);
        assert_eq!(shown["hash"], shown["txid"]);
        assert_eq!((&shown["size"], &shown["vsize"], &shown["weight"]), (&42.into(), &42.into(), &168.into()));
    }

    #[test]
    fn a_marker_without_witness_is_an_error() {
        let marked = "01000000000100 0000000000".replace(' ', "");
        assert!(decode_transaction(&marked, true, true).is_none(), "Core: superfluous witness record");
        let bare = "01000000000000000000";
        for (try_no_witness, try_witness) in [(true, true), (true, false), (false, true)] {
            let tx = decode_transaction(bare, try_no_witness, try_witness).unwrap();
            assert!(tx.input.is_empty() && tx.output.is_empty());
        }
    }

    #[test]
    fn bytes_left_over_or_missing_are_refused() {
        let tx = "0200000001000000000000000000000000000000000000000000000000000000000000000000000000000000000001\
                  000000000000000001510000 0000"
            .replace(' ', "");
        assert!(decode_transaction(&tx, true, true).is_some());
        assert!(decode_transaction(&format!("{tx}00"), true, true).is_none());
        assert!(decode_transaction(&tx[..tx.len() - 2], true, true).is_none());
        assert!(decode_transaction("", true, true).is_none());
        assert!(decode_transaction("zz", true, true).is_none());
    }
}
