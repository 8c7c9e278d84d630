//! Methods of Core's category `blockchain` that read the chain, and the two that override it.

use super::args::{Arg, Args, Kind};
use super::error::{RpcError, RpcResult, code, fail};
use super::maintenance::add_prune_fields;
use super::render::{
    Detail, bits_hex, block_to_value, difficulty, float, header_to_value, object, target_hex, work_hex,
};
use super::script::script_to_value;
use super::{Context, Method, render};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Network, OutPoint, Txid};
use cairn_chain::{BlockEntry, ChainError, TipStatus};
use cairn_mempool::MEMPOOL_HEIGHT;
use serde_json::{Value, json};

pub(super) const BLOCK_HASH: Arg = Arg::required("blockhash", Kind::Str, "The block hash");

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "getblockchaininfo",
        args: &[],
        about: "Returns an object containing various state info regarding blockchain processing.",
        result: "{ \"chain\", \"blocks\", \"headers\", \"bestblockhash\", \"bits\", \"target\", \"difficulty\", \"time\", \
                 \"mediantime\", \"verificationprogress\", \"initialblockdownload\", \"chainwork\", \"size_on_disk\", \
                 \"pruned\", \"pruneheight\" and \"automatic_pruning\" (pruning only), \"prune_target_size\" (automatic pruning only), \"signet_challenge\" (signet only), \"warnings\" }",
        differences: "`verificationprogress` is blocks over headers",
        run: getblockchaininfo,
    },
    Method {
        category: "blockchain",
        name: "getblockcount",
        args: &[],
        about: "Returns the height of the most-work fully-validated chain.\nThe genesis block has height 0.",
        result: "n    (numeric) The current block count",
        differences: "",
        run: |context, _| Ok(context.node.chain.tip().height.into()),
    },
    Method {
        category: "blockchain",
        name: "getbestblockhash",
        args: &[],
        about: "Returns the hash of the best (tip) block in the most-work fully-validated chain.",
        result: "\"hex\"    (string) the block hash, hex-encoded",
        differences: "",
        run: |context, _| Ok(context.node.chain.tip().hash.to_string().into()),
    },
    Method {
        category: "blockchain",
        name: "getdifficulty",
        args: &[],
        about: "Returns the proof-of-work difficulty as a multiple of the minimum difficulty.",
        result: "n    (numeric) the proof-of-work difficulty as a multiple of the minimum difficulty.",
        differences: "",
        run: |context, _| Ok(float(difficulty(context.node.chain.tip().header.bits))),
    },
    Method {
        category: "blockchain",
        name: "getblockhash",
        args: &[Arg::required("height", Kind::Num, "The height index")],
        about: "Returns hash of block in best-block-chain at height provided.",
        result: "\"hex\"    (string) The block hash",
        differences: "",
        run: getblockhash,
    },
    Method {
        category: "blockchain",
        name: "getblockheader",
        args: &[
            BLOCK_HASH,
            Arg::optional("verbose", Kind::Bool, "true", "true for a json object, false for the hex-encoded data"),
        ],
        about: "If verbose is false, returns a string that is serialized, hex-encoded data for blockheader 'hash'.\n\
                If verbose is true, returns an Object with information about blockheader <hash>.",
        result: "{ \"hash\", \"confirmations\", \"height\", \"version\", \"versionHex\", \"merkleroot\", \"time\", \"mediantime\", \
                 \"nonce\", \"bits\", \"target\", \"difficulty\", \"chainwork\", \"nTx\", \"previousblockhash\", \"nextblockhash\" } \
                 or \"hex\"",
        differences: "",
        run: getblockheader,
    },
    Method {
        category: "blockchain",
        name: "getblock",
        args: &[
            BLOCK_HASH,
            Arg::optional(
                "verbosity|verbose",
                Kind::NumUnchecked,
                "1",
                "0 for hex-encoded data, 1 for a JSON object, 2 for JSON object with transaction data, and 3 for JSON \
                 object with transaction data including prevout information for inputs",
            ),
        ],
        about: "If verbosity is 0, returns a string that is serialized, hex-encoded data for block 'hash'.\n\
                If verbosity is 1, returns an Object with information about block <hash>.\n\
                If verbosity is 2, returns an Object with information about block <hash> and information about each transaction.\n\
                If verbosity is 3, the same with prevout information for inputs.",
        result: "getblockheader's fields and { \"strippedsize\", \"size\", \"weight\", \"coinbase_tx\", \"tx\" }, or \"hex\"",
        differences: "",
        run: getblock,
    },
    Method {
        category: "blockchain",
        name: "getchaintips",
        args: &[],
        about: "Return information about all known tips in the block tree, including the main chain as well as orphaned branches.",
        result: "[ { \"height\", \"hash\", \"branchlen\", \"status\" } ]",
        differences: "",
        run: getchaintips,
    },
    Method {
        category: "blockchain",
        name: "gettxout",
        args: &[
            Arg::required("txid", Kind::Str, "The transaction id"),
            Arg::required("n", Kind::Num, "vout number"),
            Arg::optional(
                "include_mempool",
                Kind::Bool,
                "true",
                "Whether to include the mempool. Note that an unspent output that is spent in the mempool won't appear.",
            ),
        ],
        about: "Returns details about an unspent transaction output.",
        result: "null, or { \"bestblock\", \"confirmations\", \"value\", \"scriptPubKey\", \"coinbase\" }",
        differences: "",
        run: gettxout,
    },
    Method {
        category: "hidden",
        name: "invalidateblock",
        args: &[Arg::required("blockhash", Kind::Str, "the hash of the block to mark as invalid")],
        about: "Permanently marks a block as invalid, as if it violated a consensus rule.",
        result: "null",
        differences: "",
        run: |context, args| override_block(context, args, |hash| context.node.chain.invalidate_block(hash)),
    },
    Method {
        category: "hidden",
        name: "reconsiderblock",
        args: &[Arg::required("blockhash", Kind::Str, "the hash of the block to reconsider")],
        about: "Removes invalidity status of a block, its ancestors and its descendants, reconsider them for activation.\n\
                This can be used to undo the effects of invalidateblock.",
        result: "null",
        differences: "",
        run: |context, args| override_block(context, args, |hash| context.node.chain.reconsider_block(hash)),
    },
];

/// Core's name of a network.
pub(crate) fn chain_name(network: Network) -> &'static str {
    network.to_core_arg()
}

/// The script that signs a signet's blocks; none on other networks.
pub(super) fn signet_challenge(context: &Context) -> Option<&bitcoin::Script> {
    context.node.chain.params().signet_challenge.as_deref()
}

/// The block of a hash argument, or Core's error.
pub(super) fn find_block(context: &Context, hash: &BlockHash) -> Result<BlockEntry, RpcError> {
    context.node.chain.entry(hash).ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block not found"))
}

/// A failure to read or write, as Core reports it.
pub(super) fn internal(error: &ChainError) -> RpcError {
    RpcError::new(code::INTERNAL_ERROR, error.to_string())
}

fn getblockchaininfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    let tip = chain.tip();
    let headers = chain.best_header().height.max(tip.height);
    let progress = if headers == 0 { 1.0 } else { f64::from(tip.height) / f64::from(headers) };
    let mut out = object([
        ("chain", chain_name(context.network).into()),
        ("blocks", tip.height.into()),
        ("headers", headers.into()),
        ("bestblockhash", tip.hash.to_string().into()),
        ("bits", bits_hex(tip.header.bits)),
        ("target", target_hex(tip.header.bits)),
        ("difficulty", float(difficulty(tip.header.bits))),
        ("time", tip.header.time.into()),
        ("mediantime", tip.median_time_past.into()),
        ("verificationprogress", float(progress)),
        ("initialblockdownload", context.node.is_initial_block_download().into()),
        ("chainwork", work_hex(tip.chain_work)),
        ("size_on_disk", chain.size_on_disk().into()),
    ]);
    add_prune_fields(context, &mut out);
    if let Some(challenge) = signet_challenge(context) {
        out.insert("signet_challenge".into(), challenge.to_hex_string().into());
    }
    out.insert("warnings".into(), json!([]));
    Ok(Value::Object(out))
}

fn getblockhash(context: &Context, args: &Args<'_>) -> RpcResult {
    let entry = u32::try_from(args.int(0)?).ok().and_then(|height| context.node.chain.entry_at(height));
    match entry {
        Some(entry) => Ok(entry.hash.to_string().into()),
        None => fail(code::INVALID_PARAMETER, "Block height out of range"),
    }
}

fn getblockheader(context: &Context, args: &Args<'_>) -> RpcResult {
    let hash = args.hash(0, "hash")?;
    let verbose = args.bool_or(1, true)?;
    let entry = find_block(context, &hash)?;
    if !verbose {
        return Ok(serialize_hex(&entry.header).into());
    }
    let chain = &context.node.chain;
    Ok(Value::Object(header_to_value(chain, &chain.tip(), &entry)))
}

fn getblock(context: &Context, args: &Args<'_>) -> RpcResult {
    let hash = args.hash(0, "blockhash")?;
    let verbosity = args.verbosity(1, 1)?;
    let chain = &context.node.chain;
    let tip = chain.tip();
    let entry = find_block(context, &hash)?;
    let Some(block) = chain.block(&hash).map_err(|error| internal(&error))? else {
        let text = match entry.tx_count {
            0 => "Block not available (not fully downloaded)",
            _ => "Block not available (pruned data)",
        };
        return fail(code::MISC_ERROR, text);
    };
    let detail = match verbosity {
        ..=0 => return Ok(serialize_hex(&*block).into()),
        1 => Detail::Txid,
        2 => Detail::Transaction,
        _ => Detail::Prevouts,
    };
    let undo = match detail {
        Detail::Txid => None,
        _ => chain.undo(&hash).map_err(|error| internal(&error))?,
    };
    let header = header_to_value(chain, &tip, &entry);
    Ok(block_to_value(header, &block, undo.as_ref().map(|undo| undo.0.as_slice()), detail, context.network))
}

fn getchaintips(context: &Context, _: &Args<'_>) -> RpcResult {
    let mut tips = context.node.chain.tips();
    // Core's CompareBlocksByHeight: highest first.
    tips.sort_by_key(|(entry, _, _)| std::cmp::Reverse(entry.height));
    let tips = tips.into_iter().map(|(entry, status, branch_length)| {
        let status = match status {
            TipStatus::Active => "active",
            TipStatus::ValidFork => "valid-fork",
            TipStatus::ValidHeaders => "valid-headers",
            TipStatus::HeadersOnly => "headers-only",
            TipStatus::Invalid => "invalid",
        };
        json!({"height": entry.height, "hash": entry.hash.to_string(), "branchlen": branch_length, "status": status})
    });
    Ok(tips.collect())
}

fn gettxout(context: &Context, args: &Args<'_>) -> RpcResult {
    let txid: Txid = args.hash(0, "txid")?;
    let outpoint = OutPoint::new(txid, args.u32(1)?);
    let with_mempool = args.bool_or(2, true)?;
    let node = &context.node;
    let tip = node.chain.tip();
    let coin = if with_mempool && node.mempool.spender(&outpoint).is_some() {
        None
    } else if with_mempool {
        node.mempool.coin(&outpoint).map_err(|error| internal(&error))?
    } else {
        node.chain.coin(&outpoint).map_err(|error| internal(&error))?
    };
    let Some(coin) = coin else { return Ok(Value::Null) };
    let confirmations = match coin.height {
        MEMPOOL_HEIGHT => 0,
        height => i64::from(tip.height) - i64::from(height) + 1,
    };
    Ok(object([
        ("bestblock", tip.hash.to_string().into()),
        ("confirmations", confirmations.into()),
        ("value", render::amount(coin.output.value)),
        ("scriptPubKey", script_to_value(&coin.output.script_pubkey, context.network, true, None).into()),
        ("coinbase", coin.coinbase.into()),
    ])
    .into())
}

fn override_block(
    context: &Context,
    args: &Args<'_>,
    change: impl FnOnce(&BlockHash) -> Result<(), ChainError>,
) -> RpcResult {
    let hash = args.hash(0, "blockhash")?;
    find_block(context, &hash)?;
    match change(&hash) {
        // Core leaves the genesis block as it is, and says nothing.
        Ok(()) | Err(ChainError::Genesis) => Ok(Value::Null),
        Err(error) => fail(code::DATABASE_ERROR, error.to_string()),
    }
}
