//! Methods of Core's category `blockchain` that look at all coins at once.

use super::args::{Arg, Args, Kind, as_int, as_str, parse_hash};
use super::blockchain::internal;
use super::error::{RpcError, RpcResult, code, fail};
use super::render::{self, bits_hex, difficulty, float, object, target_hex};
use super::{Context, Method};
use bitcoin::hashes::{Hash, sha256d};
use cairn_chain::{BlockEntry, ChainError, CoinHash};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "gettxoutsetinfo",
        args: &[
            Arg::optional(
                "hash_type",
                Kind::Str,
                "hash_serialized_3",
                "Which UTXO set hash should be calculated. Options: 'hash_serialized_3', 'muhash', 'none'.",
            ),
            Arg::optional(
                "hash_or_height",
                Kind::NumUnchecked,
                "the current best block",
                "The block hash or height of the target height.",
            ),
            Arg::optional("use_index", Kind::Bool, "true", "Accepted and without effect: there is no coinstatsindex."),
        ],
        about: "Returns statistics about the unspent transaction output set.\n\
                For an earlier block, the blocks after it are undone in memory first.",
        result: "{ \"height\", \"bestblock\", \"txouts\", \"bogosize\", \"hash_serialized_3\" or \"muhash\", \"total_amount\", \
                 \"transactions\", \"disk_size\" }",
        differences: "`hash_or_height` works without `coinstatsindex`, with every hash type; `disk_size` is the bytes of \
                      keys and values",
        run: gettxoutsetinfo,
    },
    Method {
        category: "blockchain",
        name: "dumptxoutset",
        args: &[
            Arg::required("path", Kind::Str, "Path to the output file. If relative, will be prefixed by datadir."),
            Arg::optional(
                "type",
                Kind::Str,
                "",
                "\"latest\" for the coins at the tip, \"rollback\" for those at an earlier block.",
            ),
            Arg::optional(
                "options",
                Kind::Options(&["rollback", "in_memory"]),
                "",
                "rollback: height or hash of the block; without it, the latest block that loadtxoutset would take",
            ),
        ],
        about: "Write the serialized UTXO set to a file. This can be used in loadtxoutset afterwards if this snapshot \
                height is supported in the chainparams as well.",
        result: "{ \"coins_written\", \"base_hash\", \"base_height\", \"path\", \"txoutset_hash\", \"nchaintx\" }",
        differences: "a rollback undoes blocks in memory, whatever `in_memory` says; named pipes are not written to",
        run: dumptxoutset,
    },
    Method {
        category: "blockchain",
        name: "loadtxoutset",
        args: &[Arg::required(
            "path",
            Kind::Str,
            "path to the snapshot file. If relative, will be prefixed by datadir.",
        )],
        about: "Load the serialized UTXO set from a file.\n\
                Its coins become those of the active chain, which goes on from its block; meanwhile the blocks below are \
                validated as they come, up to that block.\n\
                Only a snapshot is taken whose height, block hash and coins hash the network's parameters or the \
                configuration (`chain.assume_utxo`) name, wherever it comes from.",
        result: "{ \"coins_loaded\", \"tip_hash\", \"base_height\", \"path\" }",
        differences: "the texts of refusals are our own; other snapshots can be named in the configuration",
        run: loadtxoutset,
    },
    Method {
        category: "blockchain",
        name: "getchainstates",
        args: &[],
        about: "Return information about chainstates.",
        result: "{ \"headers\", \"chainstates\": [ { \"blocks\", \"bestblockhash\", \"bits\", \"target\", \"difficulty\", \
                 \"verificationprogress\", \"coins_db_cache_bytes\", \"coins_tip_cache_bytes\", \"snapshot_blockhash\" \
                 (from a snapshot only), \"validated\" } ] }, the active one last",
        differences: "`verificationprogress` is blocks over headers; the cache is one for all, and `coins_db_cache_bytes` is 0",
        run: getchainstates,
    },
];

/// Core's `ParseHashOrHeight`: a block of the active chain.
fn block_of_active_chain(context: &Context, value: &Value) -> Result<BlockEntry, RpcError> {
    let chain = &context.node.chain;
    if value.is_number() {
        let height: i32 = as_int(value)?;
        let tip = chain.tip().height;
        let Ok(wanted) = u32::try_from(height) else {
            return fail(code::INVALID_PARAMETER, format!("Target block height {height} is negative"));
        };
        return chain.entry_at(wanted).ok_or_else(|| {
            RpcError::new(code::INVALID_PARAMETER, format!("Target block height {height} after current tip {tip}"))
        });
    }
    let hash = parse_hash(as_str(value)?, "hash_or_height")?;
    super::blockchain::find_block(context, &hash)
}

/// Goes on until the server closes.
fn go_on(context: &Context) -> impl Fn() -> bool + '_ {
    || !context.closing.is_cancelled() && !context.stop.is_cancelled()
}

fn failed(error: ChainError) -> RpcError {
    match error {
        ChainError::UnknownBlock(hash) => {
            RpcError::new(code::INVALID_PARAMETER, format!("Block is not in chain {hash}"))
        }
        ChainError::Exists { .. } => RpcError::new(code::INVALID_PARAMETER, error.to_string()),
        error => internal(&error),
    }
}

/// A hash as Core prints a `uint256`: last byte first.
fn hash_hex(hash: [u8; 32]) -> Value {
    sha256d::Hash::from_byte_array(hash).to_string().into()
}

fn gettxoutsetinfo(context: &Context, args: &Args<'_>) -> RpcResult {
    let name = if args.get(0).is_null() { "hash_serialized_3" } else { args.str(0)? };
    let kind = match name {
        "hash_serialized_3" => CoinHash::HashSerialized3,
        "muhash" => CoinHash::MuHash,
        "none" => CoinHash::None,
        other => return fail(code::INVALID_PARAMETER, format!("'{other}' is not a valid hash_type")),
    };
    args.bool_or(2, true)?;
    let at = match args.get(1) {
        Value::Null => None,
        value => Some(block_of_active_chain(context, value)?.hash),
    };
    let go_on = go_on(context);
    let coins = context.node.chain.coin_set(at.as_ref(), &go_on).map_err(failed)?;
    let stats = coins.stats(kind, &go_on).map_err(failed)?;
    let mut out = object([
        ("height", stats.block.height.into()),
        ("bestblock", stats.block.hash.to_string().into()),
        ("txouts", stats.coins.into()),
        ("bogosize", stats.bogo_size.into()),
    ]);
    if let Some(hash) = stats.hash {
        out.insert(name.to_owned(), hash_hex(hash));
    }
    out.insert("total_amount".into(), render::amount(stats.total_amount));
    out.insert("transactions".into(), stats.transactions.into());
    out.insert("disk_size".into(), stats.disk_size.into());
    Ok(out.into())
}

/// A path as Core's `AbsPathForConfigVal`: a relative one begins at the network's data directory.
fn absolute(context: &Context, path: &str) -> PathBuf {
    context.node.chain.dir().join(Path::new(path))
}

fn dumptxoutset(context: &Context, args: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    let kind = if args.get(1).is_null() { "" } else { args.str(1)? };
    let rollback = args.get(2).get("rollback").filter(|value| !value.is_null());
    let at = match (kind, rollback) {
        ("" | "rollback", Some(block)) => Some(block_of_active_chain(context, block)?),
        (_, Some(_)) => {
            let text = format!("Invalid snapshot type \"{kind}\" specified with rollback option");
            return fail(code::INVALID_PARAMETER, text);
        }
        ("rollback", None) => {
            let highest = chain.params().assume_utxo.iter().map(|known| known.height).max();
            let Some(height) = highest else {
                return fail(code::INVALID_PARAMETER, "No snapshot of this network is known: give the option rollback");
            };
            Some(block_of_active_chain(context, &height.into())?)
        }
        ("latest", None) => None,
        (other, None) => {
            let text =
                format!("Invalid snapshot type \"{other}\" specified. Please specify \"rollback\" or \"latest\"");
            return fail(code::INVALID_PARAMETER, text);
        }
    };
    let path = absolute(context, args.str(0)?);
    let go_on = go_on(context);
    let coins = chain.coin_set(at.map(|block| block.hash).as_ref(), &go_on).map_err(failed)?;
    let stats = coins.write_snapshot(&path, chain.params().magic, &go_on).map_err(failed)?;
    Ok(object([
        ("coins_written", stats.coins.into()),
        ("base_hash", stats.block.hash.to_string().into()),
        ("base_height", stats.block.height.into()),
        ("path", path.to_string_lossy().into()),
        ("txoutset_hash", stats.hash.map_or(Value::Null, hash_hex)),
        ("nchaintx", stats.block.chain_tx_count.into()),
    ])
    .into())
}

fn loadtxoutset(context: &Context, args: &Args<'_>) -> RpcResult {
    let path = absolute(context, args.str(0)?);
    let Ok(file) = File::open(&path) else {
        let text = format!("Couldn't open file {} for reading.", path.display());
        return fail(code::INVALID_PARAMETER, text);
    };
    if context.node.mempool.info().size > 0 {
        let text = "Unable to load UTXO snapshot: Can't activate a snapshot when mempool not empty.";
        return fail(code::INTERNAL_ERROR, format!("{text} ({})", path.display()));
    }
    let (base, coins) = context.node.chain.load_snapshot(file, &go_on(context)).map_err(|error| {
        RpcError::new(code::INTERNAL_ERROR, format!("Unable to load UTXO {error}. ({})", path.display()))
    })?;
    Ok(object([
        ("coins_loaded", coins.into()),
        ("tip_hash", base.hash.to_string().into()),
        ("base_height", base.height.into()),
        ("path", path.to_string_lossy().into()),
    ])
    .into())
}

fn getchainstates(context: &Context, _: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    let headers = chain.best_header().height;
    let state = |tip: &BlockEntry, snapshot: Option<&BlockEntry>, validated: bool| {
        let progress = if headers == 0 { 1.0 } else { f64::from(tip.height) / f64::from(headers) };
        let mut out = object([
            ("blocks", tip.height.into()),
            ("bestblockhash", tip.hash.to_string().into()),
            ("bits", bits_hex(tip.header.bits)),
            ("target", target_hex(tip.header.bits)),
            ("difficulty", float(difficulty(tip.header.bits))),
            ("verificationprogress", float(progress)),
            ("coins_db_cache_bytes", 0.into()),
            ("coins_tip_cache_bytes", chain.coin_cache_bytes().into()),
        ]);
        if let Some(base) = snapshot {
            out.insert("snapshot_blockhash".into(), base.hash.to_string().into());
        }
        out.insert("validated".into(), validated.into());
        Value::Object(out)
    };
    let snapshot = chain.snapshot_state();
    let mut states = Vec::new();
    if let Some(snapshot) = &snapshot {
        states.push(state(&snapshot.validated, None, true));
    }
    states.push(state(&chain.tip(), snapshot.as_ref().map(|snapshot| &snapshot.base), snapshot.is_none()));
    Ok(object([("headers", headers.into()), ("chainstates", states.into())]).into())
}
