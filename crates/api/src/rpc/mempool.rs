//! Methods that read the mempool.

use super::args::{Arg, Args, Kind, as_int, as_str, check_object, parse_hash};
use super::error::{RpcResult, code, fail};
use super::render::{amount, object, satoshi, signed_satoshi};
use super::{Context, Method};
use bitcoin::OutPoint;
use bitcoin::consensus::encode::serialize_hex;
use cairn_mempool::{CLUSTER_COUNT_LIMIT, CLUSTER_VSIZE_LIMIT, MAX_OP_RETURN_RELAY, MempoolEntry};
use serde_json::{Value, json};

const ENTRY: &str = "{ \"vsize\", \"weight\", \"time\", \"height\", \"descendantcount\", \"descendantsize\", \"ancestorcount\", \
                     \"ancestorsize\", \"chunkweight\", \"wtxid\", \"fees\": { \"base\", \"modified\", \"ancestor\", \"descendant\", \
                     \"chunk\" }, \"depends\", \"spentby\", \"unbroadcast\" }";
const RELATIVES: &str = "[ \"txid\" ], or { \"txid\": getmempoolentry's object }";
const TXID: Arg = Arg::required("txid", Kind::Str, "The transaction id (must be in mempool)");
const VERBOSE: Arg =
    Arg::optional("verbose", Kind::Bool, "false", "True for a json object, false for array of transaction ids");

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "getmempoolinfo",
        args: &[],
        about: "Returns details on the active state of the TX memory pool.",
        result: "{ \"loaded\", \"size\", \"bytes\", \"usage\", \"total_fee\", \"maxmempool\", \"mempoolminfee\", \"minrelaytxfee\", \
                 \"incrementalrelayfee\", \"unbroadcastcount\", \"permitbaremultisig\", \"maxdatacarriersize\", \
                 \"limitclustercount\", \"limitclustersize\", \"optimal\" }",
        differences: "`usage` counts this program's memory",
        run: getmempoolinfo,
    },
    Method {
        category: "blockchain",
        name: "getrawmempool",
        args: &[
            VERBOSE,
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
        differences: "",
        run: getrawmempool,
    },
    Method {
        category: "blockchain",
        name: "getmempoolentry",
        args: &[TXID],
        about: "Returns mempool data for given transaction",
        result: ENTRY,
        differences: "",
        run: |context, args| match context.node.mempool.get(&args.hash(0, "txid")?) {
            Some(entry) => Ok(entry_to_value(&entry)),
            None => not_here(),
        },
    },
    Method {
        category: "blockchain",
        name: "getmempoolancestors",
        args: &[TXID, VERBOSE],
        about: "If txid is in the mempool, returns all in-mempool ancestors.",
        result: RELATIVES,
        differences: "",
        run: |context, args| relatives(args, context.node.mempool.ancestors(&args.hash(0, "txid")?)),
    },
    Method {
        category: "blockchain",
        name: "getmempooldescendants",
        args: &[TXID, VERBOSE],
        about: "If txid is in the mempool, returns all in-mempool descendants.",
        result: RELATIVES,
        differences: "",
        run: |context, args| relatives(args, context.node.mempool.descendants(&args.hash(0, "txid")?)),
    },
    Method {
        category: "blockchain",
        name: "getmempoolcluster",
        args: &[Arg::required("txid", Kind::Str, "The txid of a transaction in the cluster")],
        about: "Returns mempool data for given cluster",
        result: "{ \"clusterweight\", \"txcount\", \"chunks\": [ { \"chunkfee\", \"chunkweight\", \"txs\": [ \"txid\" ] } ] }",
        differences: "",
        run: getmempoolcluster,
    },
    Method {
        category: "hidden",
        name: "getmempoolfeeratediagram",
        args: &[],
        about: "Returns the feerate diagram for the whole mempool.",
        result: "[ { \"weight\", \"fee\" } ], sums from nothing to everything",
        differences: "",
        run: getmempoolfeeratediagram,
    },
    Method {
        category: "blockchain",
        name: "gettxspendingprevout",
        args: &[
            Arg::required(
                "outputs",
                Kind::Arr("{\"txid\":\"hex\",\"vout\":n}"),
                "The transaction outputs that we want to check, and within each, the txid (string) vout (numeric).",
            ),
            Arg::optional(
                "options",
                Kind::Options(&["mempool_only", "return_spending_tx"]),
                "",
                "mempool_only: if false and the mempool lacks a relevant spend, an error. return_spending_tx: if true, return \
                 the full spending tx.",
            ),
        ],
        about: "Scans the mempool to find transactions spending any of the given outputs",
        result: "[ { \"txid\", \"vout\", \"spendingtxid\", \"spendingtx\" } ]",
        differences: "there is no `txospenderindex`, as when Core runs without",
        run: gettxspendingprevout,
    },
];

fn not_here() -> RpcResult {
    fail(code::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool")
}

fn getmempoolinfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let mempool = &context.node.mempool;
    let (info, config) = (mempool.info(), mempool.config());
    Ok(object([
        ("loaded", mempool.is_loaded().into()),
        ("size", info.size.into()),
        ("bytes", info.bytes.into()),
        ("usage", info.usage.into()),
        ("total_fee", satoshi(info.total_fee)),
        ("maxmempool", config.max_bytes.into()),
        ("mempoolminfee", satoshi(info.min_fee_rate.max(config.min_relay_fee_rate))),
        ("minrelaytxfee", satoshi(config.min_relay_fee_rate)),
        ("incrementalrelayfee", satoshi(config.incremental_fee_rate)),
        ("unbroadcastcount", info.unbroadcast.into()),
        ("permitbaremultisig", true.into()),
        ("maxdatacarriersize", MAX_OP_RETURN_RELAY.into()),
        ("limitclustercount", CLUSTER_COUNT_LIMIT.into()),
        ("limitclustersize", CLUSTER_VSIZE_LIMIT.into()),
        // The order of every cluster is exact.
        ("optimal", true.into()),
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
        ("modified", signed_satoshi(entry.modified_fee)),
        ("ancestor", signed_satoshi(ancestor_fees)),
        ("descendant", signed_satoshi(descendant_fees)),
        ("chunk", signed_satoshi(entry.chunk_fee)),
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
        ("wtxid", entry.wtxid.to_string().into()),
        ("chunkweight", entry.chunk_weight.into()),
        ("fees", fees.into()),
        ("depends", depends.into()),
        ("spentby", spent_by.into()),
        ("unbroadcast", entry.unbroadcast.into()),
    ]))
}

fn by_id(entries: &[MempoolEntry]) -> Value {
    Value::Object(entries.iter().map(|entry| (entry.txid.to_string(), entry_to_value(entry))).collect())
}

fn getrawmempool(context: &Context, args: &Args<'_>) -> RpcResult {
    let verbose = args.bool_or(0, false)?;
    let with_sequence = args.bool_or(1, false)?;
    let mempool = &context.node.mempool;
    if verbose {
        if with_sequence {
            return fail(code::INVALID_PARAMETER, "Verbose results cannot contain mempool sequence values.");
        }
        return Ok(by_id(&mempool.entries()));
    }
    let (txids, sequence) = mempool.txids_and_sequence();
    let txids: Value = txids.iter().map(ToString::to_string).collect();
    Ok(if with_sequence { json!({"txids": txids, "mempool_sequence": sequence}) } else { txids })
}

fn relatives(args: &Args<'_>, found: Option<Vec<MempoolEntry>>) -> RpcResult {
    let verbose = args.bool_or(1, false)?;
    match found {
        None => not_here(),
        Some(entries) if verbose => Ok(by_id(&entries)),
        Some(entries) => Ok(entries.iter().map(|entry| entry.txid.to_string()).collect()),
    }
}

fn getmempoolcluster(context: &Context, args: &Args<'_>) -> RpcResult {
    let Some(chunks) = context.node.mempool.cluster(&args.hash(0, "txid")?) else { return not_here() };
    let shown = chunks.iter().map(|chunk| {
        let txids: Vec<String> = chunk.txids.iter().map(ToString::to_string).collect();
        Value::Object(object([
            ("chunkfee", signed_satoshi(chunk.fee)),
            ("chunkweight", chunk.weight.into()),
            ("txs", txids.into()),
        ]))
    });
    Ok(object([
        ("clusterweight", chunks.iter().map(|chunk| chunk.weight).sum::<u64>().into()),
        ("txcount", chunks.iter().map(|chunk| chunk.txids.len()).sum::<usize>().into()),
        ("chunks", shown.collect()),
    ])
    .into())
}

fn getmempoolfeeratediagram(context: &Context, _: &Args<'_>) -> RpcResult {
    let point =
        |weight: u64, fee: i64| Value::Object(object([("weight", weight.into()), ("fee", signed_satoshi(fee))]));
    let (mut weight, mut fee) = (0, 0i64);
    let mut points = vec![point(weight, fee)];
    for chunk in context.node.mempool.chunks() {
        weight += chunk.weight;
        fee = fee.saturating_add(chunk.fee);
        points.push(point(weight, fee));
    }
    Ok(points.into())
}

fn gettxspendingprevout(context: &Context, args: &Args<'_>) -> RpcResult {
    let outputs = args.array(0)?;
    if outputs.is_empty() {
        return fail(code::INVALID_PARAMETER, "Invalid parameter, outputs are missing");
    }
    let options = args.get(1);
    check_object(options, &[("mempool_only", "bool"), ("return_spending_tx", "bool")], true)?;
    let option = |name: &str| options.get(name).and_then(Value::as_bool);
    let mempool_only = option("mempool_only").unwrap_or(true);
    let with_transaction = option("return_spending_tx").unwrap_or(false);
    let mut outpoints = Vec::with_capacity(outputs.len());
    for output in outputs {
        check_object(output, &[("txid", "string"), ("vout", "number")], false)?;
        let txid = parse_hash(as_str(&output["txid"])?, "txid")?;
        let vout: i32 = as_int(&output["vout"])?;
        let Ok(vout) = u32::try_from(vout) else {
            return fail(code::INVALID_PARAMETER, "Invalid parameter, vout cannot be negative");
        };
        outpoints.push(OutPoint { txid, vout });
    }
    let mempool = &context.node.mempool;
    let mut result = Vec::with_capacity(outputs.len());
    for (output, outpoint) in outputs.iter().zip(&outpoints) {
        let mut shown = output.clone();
        match mempool.spending_tx(outpoint) {
            Some(tx) => {
                shown["spendingtxid"] = tx.compute_txid().to_string().into();
                if with_transaction {
                    shown["spendingtx"] = serialize_hex(&*tx).into();
                }
            }
            None if mempool_only => {}
            None => {
                return fail(code::MISC_ERROR, "Mempool lacks a relevant spend, and txospenderindex is unavailable.");
            }
        }
        result.push(shown);
    }
    Ok(result.into())
}
