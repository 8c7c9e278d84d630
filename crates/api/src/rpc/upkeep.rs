//! Methods by which an operator keeps the mempool: priorities, and the file.

use super::args::{Arg, Args, Kind, as_int};
use super::error::{RpcError, RpcResult, code, fail};
use super::render::object;
use super::{Context, Method};
use cairn_mempool::ImportOptions;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "mining",
        name: "prioritisetransaction",
        args: &[
            Arg::required("txid", Kind::Str, "The transaction id."),
            Arg::optional("dummy", Kind::Num, "", "API-Compatibility for previous API. Must be zero or null."),
            Arg::required(
                "fee_delta",
                Kind::Num,
                "The fee value (in satoshis) to add (or subtract, if negative). The fee is not actually paid, only the \
                 algorithm for selecting transactions into a block considers the transaction as it would have paid a higher \
                 (or lower) fee.",
            ),
        ],
        about: "Accepts the transaction into mined blocks at a higher (or lower) priority",
        result: "true",
        differences: "",
        run: prioritisetransaction,
    },
    Method {
        category: "mining",
        name: "getprioritisedtransactions",
        args: &[],
        about: "Returns a map of all user-created (see prioritisetransaction) fee deltas by txid, and whether the tx is present \
                in mempool.",
        result: "{ \"txid\": { \"fee_delta\", \"in_mempool\", \"modified_fee\" } }",
        differences: "",
        run: getprioritisedtransactions,
    },
    Method {
        category: "blockchain",
        name: "savemempool",
        args: &[],
        about: "Dumps the mempool to disk. It will fail until the previous dump is fully loaded.",
        result: "{ \"filename\" }",
        differences: "",
        run: savemempool,
    },
    Method {
        category: "blockchain",
        name: "importmempool",
        args: &[
            Arg::required("filepath", Kind::Str, "The mempool file"),
            Arg::optional(
                "options",
                Kind::Options(&["use_current_time", "apply_fee_delta_priority", "apply_unbroadcast_set"]),
                "",
                "use_current_time (true): use the current system time, not the entry times from the file. \
                 apply_fee_delta_priority (false): add the file's fee deltas to existing ones. apply_unbroadcast_set (false): \
                 apply the unbroadcast set from the file.",
            ),
        ],
        about: "Import a mempool.dat file and attempt to add its contents to the mempool.\n\
                Warning: Importing untrusted files is dangerous, especially if metadata from the file is taken over.",
        result: "{}",
        differences: "",
        run: importmempool,
    },
];

fn prioritisetransaction(context: &Context, args: &Args<'_>) -> RpcResult {
    let txid = args.hash(0, "txid")?;
    let delta = as_int::<i64>(args.get(2))?;
    if args.get(1).as_f64().is_some_and(|dummy| dummy != 0.0) {
        return fail(
            code::INVALID_PARAMETER,
            "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.",
        );
    }
    match context.node.mempool.prioritise(txid, delta) {
        Ok(()) => Ok(true.into()),
        Err(dust) => fail(code::INVALID_PARAMETER, dust.to_string()),
    }
}

fn getprioritisedtransactions(context: &Context, _: &Args<'_>) -> RpcResult {
    let mut shown = Map::new();
    for prioritised in context.node.mempool.prioritised() {
        let mut out = object([
            ("fee_delta", prioritised.fee_delta.into()),
            ("in_mempool", prioritised.modified_fee.is_some().into()),
        ]);
        if let Some(fee) = prioritised.modified_fee {
            out.insert("modified_fee".into(), fee.into());
        }
        shown.insert(prioritised.txid.to_string(), out.into());
    }
    Ok(shown.into())
}

fn savemempool(context: &Context, _: &Args<'_>) -> RpcResult {
    if !context.node.mempool.is_loaded() {
        return fail(code::MISC_ERROR, "The mempool was not loaded yet");
    }
    match context.node.save_mempool() {
        Ok(path) => Ok(json!({"filename": path.display().to_string()})),
        Err(error) => {
            tracing::warn!(%error, "the mempool was not saved");
            fail(code::MISC_ERROR, "Unable to dump mempool to disk")
        }
    }
}

fn importmempool(context: &Context, args: &Args<'_>) -> RpcResult {
    let node = &context.node;
    if node.is_initial_block_download() {
        return fail(
            code::CLIENT_IN_INITIAL_DOWNLOAD,
            "Can only import the mempool after the block download and sync is done.",
        );
    }
    let path = Path::new(args.str(0)?);
    let option = |name: &str, default: bool| -> Result<bool, RpcError> {
        Args(std::slice::from_ref(args.get(1).get(name).unwrap_or(&Value::Null))).bool_or(0, default)
    };
    let options = ImportOptions {
        use_current_time: option("use_current_time", ImportOptions::FOREIGN.use_current_time)?,
        apply_fee_delta_priority: option("apply_fee_delta_priority", ImportOptions::FOREIGN.apply_fee_delta_priority)?,
        apply_unbroadcast_set: option("apply_unbroadcast_set", ImportOptions::FOREIGN.apply_unbroadcast_set)?,
    };
    match node.import_mempool(path, options) {
        Ok(imported) => {
            tracing::info!(?imported, file = %path.display(), "imported transactions");
            Ok(json!({}))
        }
        Err(error) => {
            tracing::warn!(%error, "the mempool file was not imported");
            fail(code::MISC_ERROR, "Unable to import mempool file, see debug log for details.")
        }
    }
}
