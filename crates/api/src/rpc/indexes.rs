//! Methods that tell of the indexes a node may keep.

use super::args::{Arg, Args, Kind};
use super::blockchain::{BLOCK_HASH, internal};
use super::error::{RpcResult, code, fail};
use super::{Context, Method};
use bitcoin::hex::DisplayHex;
use serde_json::{Map, Value, json};

/// The only type of filter that there is (Core's `BlockFilterTypeName`).
const BASIC: &str = "basic";

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "getblockfilter",
        args: &[BLOCK_HASH, Arg::optional("filtertype", Kind::Str, "\"basic\"", "The type name of the filter")],
        about: "Retrieve a BIP 157 content filter for a particular block.",
        result: "{ \"filter\", \"header\" }    the hex-encoded filter data and filter header",
        differences: "",
        run: getblockfilter,
    },
    Method {
        category: "util",
        name: "getindexinfo",
        args: &[Arg::optional(
            "index_name",
            Kind::Str,
            "all indices",
            "Filter results for an index with a specific name.",
        )],
        about: "Returns the status of one or all available indices currently running in the node.",
        result: "{ \"name\": { \"synced\", \"best_block_height\" } }",
        differences: "",
        run: getindexinfo,
    },
];

fn getblockfilter(context: &Context, args: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    let hash = args.hash(0, "blockhash")?;
    let name = args.get(1).as_str().unwrap_or(BASIC);
    if name != BASIC {
        return fail(code::INVALID_ADDRESS_OR_KEY, "Unknown filtertype");
    }
    if !chain.has_filter_index() {
        return fail(code::MISC_ERROR, format!("Index is not enabled for filtertype {name}"));
    }
    let Some(entry) = chain.entry(&hash) else {
        return fail(code::INVALID_ADDRESS_OR_KEY, "Block not found");
    };
    let filter = chain.filter(&hash).map_err(|error| internal(&error))?;
    let header = chain.filter_header(&hash).map_err(|error| internal(&error))?;
    match (filter, header) {
        (Some(filter), Some(header)) => {
            Ok(json!({ "filter": filter.content.to_lower_hex_string(), "header": header.to_string() }))
        }
        _ if !entry.status.valid_scripts => {
            fail(code::INVALID_ADDRESS_OR_KEY, "Filter not found. Block was not connected to active chain.")
        }
        // Below a snapshot that is not validated yet, or where blocks are damaged.
        _ => fail(code::MISC_ERROR, "Filter not found. Block filters are still in the process of being indexed."),
    }
}

fn getindexinfo(context: &Context, args: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    let asked = args.get(0).as_str().unwrap_or_default();
    let mut out = Map::new();
    let mut add = |name: &str, height: Option<u32>| {
        if asked.is_empty() || asked == name {
            let synced = height == Some(chain.tip().height);
            let value = json!({ "synced": synced, "best_block_height": height.unwrap_or_default() });
            out.insert(name.to_owned(), value);
        }
    };
    if chain.has_transaction_index() {
        add("txindex", Some(chain.tip().height));
    }
    if chain.has_filter_index() {
        add("basic block filter index", chain.filter_index_height().map_err(|error| internal(&error))?);
    }
    Ok(Value::Object(out))
}
