//! Methods that read the mempool, and the two that offer transactions to it.

use super::args::{Arg, Args, Kind, as_str};
use super::asm::{has_valid_ops, is_unspendable};
use super::error::{RpcError, RpcResult, code, fail};
use super::rawtransaction::decode_transaction;
use super::render::{amount, object, satoshi, wtxid};
use super::{Context, Method};
use bitcoin::{Amount, OutPoint, Transaction};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_mempool::{Accepted, MempoolEntry};
use serde_json::{Map, Value, json};

/// Core's `DEFAULT_MAX_RAW_TX_FEE_RATE`: 0.10 BTC for 1,000 vbytes.
const DEFAULT_MAX_FEE_RATE: Amount = Amount::from_sat(10_000_000);
/// Core's `MAX_PACKAGE_COUNT`.
const MAX_PACKAGE_COUNT: usize = 25;

const MAX_FEE_RATE: Arg = Arg::optional(
    "maxfeerate",
    Kind::Amount,
    "0.10",
    "Reject transactions whose fee rate is higher than the specified value, expressed in BTC/kvB. Fee rates larger than \
     1BTC/kvB are rejected. Set to 0 to accept any fee rate.",
);

const ENTRY: &str = "{ \"vsize\", \"weight\", \"time\", \"height\", \"descendantcount\", \"descendantsize\", \"ancestorcount\", \
                     \"ancestorsize\", \"wtxid\", \"fees\": { \"base\", \"modified\", \"ancestor\", \"descendant\" }, \"depends\", \
                     \"spentby\", \"unbroadcast\" }";

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "getmempoolinfo",
        args: &[],
        about: "Returns details on the active state of the TX memory pool.",
        result: "{ \"loaded\", \"size\", \"bytes\", \"usage\", \"total_fee\", \"maxmempool\", \"mempoolminfee\", \"minrelaytxfee\", \
                 \"incrementalrelayfee\", \"unbroadcastcount\" }",
        differences: "no `permitbaremultisig`, `maxdatacarriersize`, `limitclustercount`, `limitclustersize`, `optimal`",
        run: getmempoolinfo,
    },
    Method {
        category: "blockchain",
        name: "getrawmempool",
        args: &[
            Arg::optional("verbose", Kind::Bool, "false", "True for a json object, false for array of transaction ids"),
            Arg::optional(
                "mempool_sequence",
                Kind::Bool,
                "false",
                "If verbose=false, returns a json object with transaction list and mempool sequence number attached.",
            ),
        ],
        about: "Returns all transaction ids in memory pool as a json array of string transaction ids.\n\n\
                Hint: use getmempoolentry to fetch a specific transaction from the mempool.",
        result: "[ \"txid\" ], { \"txids\", \"mempool_sequence\" }, or { \"txid\": getmempoolentry's object }",
        differences: "verbose entries as in `getmempoolentry`",
        run: getrawmempool,
    },
    Method {
        category: "blockchain",
        name: "getmempoolentry",
        args: &[Arg::required("txid", Kind::Str, "The transaction id (must be in mempool)")],
        about: "Returns mempool data for given transaction",
        result: ENTRY,
        differences: "no `chunkweight` and `fees.chunk`; `unbroadcast` is false",
        run: getmempoolentry,
    },
    Method {
        category: "rawtransactions",
        name: "sendrawtransaction",
        args: &[
            Arg::required("hexstring", Kind::Str, "The hex string of the raw transaction"),
            MAX_FEE_RATE,
            Arg::optional(
                "maxburnamount",
                Kind::Amount,
                "0.00",
                "Reject transactions with provably unspendable outputs (e.g. 'datacarrier' outputs that use the OP_RETURN \
                 opcode) greater than the specified value, expressed in BTC.",
            ),
        ],
        about: "Submit a raw transaction (serialized, hex-encoded) to the network.",
        result: "\"hex\"    (string) The transaction hash in hex",
        differences: "no `-privatebroadcast`",
        run: sendrawtransaction,
    },
    Method {
        category: "rawtransactions",
        name: "testmempoolaccept",
        args: &[
            Arg::required("rawtxs", Kind::Arr("\"rawtx\""), "An array of hex strings of raw transactions."),
            MAX_FEE_RATE,
        ],
        about: "Returns result of mempool acceptance tests indicating if raw transaction(s) (serialized, hex-encoded) would \
                be accepted by mempool.",
        result: "[ { \"txid\", \"wtxid\", \"allowed\", \"vsize\", \"fees\": { \"base\", \"effective-feerate\", \"effective-includes\" }, \
                 \"reject-reason\", \"reject-details\" } ]",
        differences: "several transactions are tested each on its own: a child of one that is only in the list is \
                      `missing-inputs`, and there is no `package-error`",
        run: testmempoolaccept,
    },
];

fn getmempoolinfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let info = context.node.mempool.info();
    let config = context.node.mempool.config();
    Ok(object([
        ("loaded", true.into()),
        ("size", info.size.into()),
        ("bytes", info.bytes.into()),
        ("usage", info.usage.into()),
        ("total_fee", satoshi(info.total_fee)),
        ("maxmempool", config.max_bytes.into()),
        ("mempoolminfee", satoshi(info.min_fee_rate.max(config.min_relay_fee_rate))),
        ("minrelaytxfee", satoshi(config.min_relay_fee_rate)),
        ("incrementalrelayfee", satoshi(config.incremental_fee_rate)),
        ("unbroadcastcount", 0.into()),
    ])
    .into())
}

fn entry_to_value(entry: &MempoolEntry) -> Value {
    let (ancestor_count, ancestor_size, ancestor_fees) = entry.ancestors;
    let (descendant_count, descendant_size, descendant_fees) = entry.descendants;
    // Core keeps parents in a sorted set of strings.
    let mut depends: Vec<String> = entry.depends.iter().map(ToString::to_string).collect();
    depends.sort_unstable();
    let spent_by: Vec<String> = entry.spent_by.iter().map(ToString::to_string).collect();
    let fees = object([
        ("base", amount(entry.fee)),
        ("modified", amount(entry.fee)),
        ("ancestor", satoshi(ancestor_fees.unsigned_abs())),
        ("descendant", satoshi(descendant_fees.unsigned_abs())),
    ]);
    Value::Object(object([
        ("vsize", entry.vsize.into()),
        ("weight", entry.weight.into()),
        ("time", entry.time.into()),
        ("height", entry.height.into()),
        ("descendantcount", descendant_count.into()),
        ("descendantsize", descendant_size.into()),
        ("ancestorcount", ancestor_count.into()),
        ("ancestorsize", ancestor_size.into()),
        ("wtxid", entry.tx.compute_wtxid().to_string().into()),
        ("fees", fees.into()),
        ("depends", depends.into()),
        ("spentby", spent_by.into()),
        ("unbroadcast", false.into()),
    ]))
}

fn getrawmempool(context: &Context, args: &Args<'_>) -> RpcResult {
    let verbose = args.bool_or(0, false)?;
    let with_sequence = args.bool_or(1, false)?;
    let mempool = &context.node.mempool;
    if verbose {
        if with_sequence {
            return fail(code::INVALID_PARAMETER, "Verbose results cannot contain mempool sequence values.");
        }
        let entries = mempool.txids().into_iter().filter_map(|txid| {
            // One that left in between is no longer there to be shown.
            mempool.get(&txid).map(|entry| (txid.to_string(), entry_to_value(&entry)))
        });
        return Ok(Value::Object(entries.collect()));
    }
    let sequence = mempool.sequence();
    let txids: Value = mempool.txids().iter().map(ToString::to_string).collect();
    Ok(if with_sequence { json!({"txids": txids, "mempool_sequence": sequence}) } else { txids })
}

fn getmempoolentry(context: &Context, args: &Args<'_>) -> RpcResult {
    match context.node.mempool.get(&args.hash(0, "txid")?) {
        Some(entry) => Ok(entry_to_value(&entry)),
        None => fail(code::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool"),
    }
}

/// Core's `CFeeRate::GetFee`: rounded up.
fn fee_at(rate: Amount, vsize: u64) -> u64 {
    rate.to_sat().saturating_mul(vsize).div_ceil(1000)
}

/// A mempool rejection as `sendrawtransaction` reports it.
fn send_error(reject: &TxReject) -> RpcError {
    match reject.kind {
        TxRejectKind::MissingInputs => RpcError::new(code::VERIFY_ERROR, reject.to_string()),
        _ => RpcError::new(code::VERIFY_REJECTED, reject.to_string()),
    }
}

fn sendrawtransaction(context: &Context, args: &Args<'_>) -> RpcResult {
    let max_burn = args.amount_or(2, Amount::ZERO)?;
    let Some(tx) = decode_transaction(args.str(0)?, true, true) else {
        return fail(code::DESERIALIZATION_ERROR, "TX decode failed. Make sure the tx has at least one input.");
    };
    let burns = |script: &bitcoin::Script| is_unspendable(script) || !has_valid_ops(script);
    if tx.output.iter().any(|output| burns(&output.script_pubkey) && output.value > max_burn) {
        return fail(code::VERIFY_ERROR, "Unspendable output exceeds maximum configured by user (maxburnamount)");
    }
    let max_fee = fee_at(args.fee_rate_or(1, DEFAULT_MAX_FEE_RATE)?, tx.vsize() as u64);
    let node = &context.node;
    let txid = tx.compute_txid();
    for vout in 0..tx.output.len() {
        let outpoint = OutPoint::new(txid, u32::try_from(vout).unwrap_or(u32::MAX));
        if node.chain.coin(&outpoint).map_err(|error| super::blockchain::internal(&error))?.is_some() {
            return fail(code::VERIFY_ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set");
        }
    }
    if node.mempool.get(&txid).is_none() {
        if max_fee > 0 {
            let tested = node.mempool.test_accept(&tx, u64::from(node.now())).map_err(|reject| send_error(&reject))?;
            if tested.fee.to_sat() > max_fee {
                return fail(code::VERIFY_ERROR, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)");
            }
        }
        node.submit_transaction(tx).map_err(|reject| send_error(&reject))?;
    }
    Ok(txid.to_string().into())
}

fn testmempoolaccept(context: &Context, args: &Args<'_>) -> RpcResult {
    let raw = args.array(0)?;
    if raw.is_empty() || raw.len() > MAX_PACKAGE_COUNT {
        return fail(
            code::INVALID_PARAMETER,
            format!("Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions."),
        );
    }
    let max_fee_rate = args.fee_rate_or(1, DEFAULT_MAX_FEE_RATE)?;
    let mut transactions = Vec::with_capacity(raw.len());
    for item in raw {
        let text = as_str(item)?;
        match decode_transaction(text, true, true) {
            Some(tx) => transactions.push(tx),
            None => {
                return fail(
                    code::DESERIALIZATION_ERROR,
                    format!("TX decode failed: {text} Make sure the tx has at least one input."),
                );
            }
        }
    }
    let node = &context.node;
    let mut exit_early = false;
    let results = transactions.iter().map(|tx| {
        let mut out = object([("txid", tx.compute_txid().to_string().into()), ("wtxid", wtxid(tx).to_string().into())]);
        if !exit_early {
            match node.mempool.test_accept(tx, u64::from(node.now())) {
                Ok(accepted) => exit_early = !allow(&mut out, tx, &accepted, max_fee_rate),
                Err(reject) => refuse(&mut out, &reject),
            }
        }
        Value::Object(out)
    });
    Ok(results.collect())
}

/// Writes an accepted transaction's result; false when its fee is more than the caller allows.
fn allow(out: &mut Map<String, Value>, tx: &Transaction, accepted: &Accepted, max_fee_rate: Amount) -> bool {
    let max_fee = fee_at(max_fee_rate, accepted.vsize);
    if max_fee > 0 && accepted.fee.to_sat() > max_fee {
        out.insert("allowed".into(), false.into());
        out.insert("reject-reason".into(), "max-fee-exceeded".into());
        return false;
    }
    let rate = accepted.fee.to_sat().saturating_mul(1000) / accepted.vsize.max(1);
    out.insert("allowed".into(), true.into());
    out.insert("vsize".into(), accepted.vsize.into());
    let fees = object([
        ("base", amount(accepted.fee)),
        ("effective-feerate", satoshi(rate)),
        ("effective-includes", json!([tx.compute_wtxid().to_string()])),
    ]);
    out.insert("fees".into(), fees.into());
    true
}

fn refuse(out: &mut Map<String, Value>, reject: &TxReject) {
    out.insert("allowed".into(), false.into());
    if reject.kind == TxRejectKind::MissingInputs {
        out.insert("reject-reason".into(), "missing-inputs".into());
    } else {
        out.insert("reject-reason".into(), reject.reason.to_string().into());
        out.insert("reject-details".into(), reject.to_string().into());
    }
}
