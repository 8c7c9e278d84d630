//! Methods of Core's category `blockchain` that look after what is on the disk.

use super::args::{Arg, Args, Kind};
use super::blockchain::internal;
use super::error::{RpcResult, code, fail};
use super::{Context, Method};
use cairn_chain::{DEFAULT_CHECK_BLOCKS, DEFAULT_CHECK_LEVEL, Prune};
use serde_json::{Map, Value};

/// Core's `TIMESTAMP_WINDOW`: how far a block's time may lie before those of the blocks below it, seconds.
const TIMESTAMP_WINDOW: u32 = 2 * 60 * 60;
/// An argument above this is a time, not a height.
const HIGHEST_HEIGHT: i32 = 1_000_000_000;

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "blockchain",
        name: "pruneblockchain",
        args: &[Arg::required(
            "height",
            Kind::Num,
            "The block height to prune up to. May be set to a discrete height, or to a UNIX epoch time to prune blocks \
             whose block time is at least 2 hours older than the provided timestamp.",
        )],
        about: "Attempts to delete block and undo data up to a specified height or timestamp, if eligible for pruning.\n\
                Requires `-prune` to be enabled at startup. Local deletion is irreversible.",
        result: "n    (numeric) Height of the last block pruned",
        differences: "",
        run: pruneblockchain,
    },
    Method {
        category: "blockchain",
        name: "verifychain",
        args: &[
            Arg::optional(
                "checklevel",
                Kind::Num,
                "3, range=0-4",
                "How thorough the block verification is:\n- level 0 reads the blocks from disk\n- level 1 verifies block validity\n\
                 - level 2 verifies undo data\n- level 3 checks disconnection of tip blocks\n\
                 - level 4 tries to reconnect the blocks\n- each level includes the checks of the previous levels",
            ),
            Arg::optional("nblocks", Kind::Num, "6, 0=all", "The number of blocks to check."),
        ],
        about: "Verifies blockchain database.",
        result: "true|false    (boolean) Verification finished successfully. If false, the log has the reason.",
        differences: "",
        run: verifychain,
    },
];

fn verifychain(context: &Context, args: &Args<'_>) -> RpcResult {
    let level = args.int_or(0, i32::from(DEFAULT_CHECK_LEVEL))?.clamp(0, 4);
    let blocks = match args.get(1) {
        Value::Null => DEFAULT_CHECK_BLOCKS,
        // As Core: nothing to speak of is everything.
        _ => u32::try_from(args.int(1)?).unwrap_or(0),
    };
    match context.node.chain.verify(u8::try_from(level).unwrap_or(4), blocks) {
        Ok(whole) => Ok(whole.into()),
        Err(error) => {
            tracing::error!(%error, "the chain is not what it was");
            Ok(false.into())
        }
    }
}

fn pruneblockchain(context: &Context, args: &Args<'_>) -> RpcResult {
    let chain = &context.node.chain;
    if chain.prune() == Prune::Off {
        return fail(code::MISC_ERROR, "Cannot prune blocks because node is not in prune mode.");
    }
    let asked = args.int(0)?;
    let Ok(mut height) = u32::try_from(asked) else {
        return fail(code::INVALID_PARAMETER, "Negative block height.");
    };
    let tip = chain.tip().height;
    if asked > HIGHEST_HEIGHT {
        let time = height - TIMESTAMP_WINDOW;
        let reached = |height: &u32| chain.entry_at(*height).is_some_and(|entry| entry.header.time >= time);
        let Some(found) = (0..=tip).find(reached) else {
            return fail(code::INVALID_PARAMETER, "Could not find block with at least the specified timestamp.");
        };
        height = found;
    }
    if tip < chain.prune_after_height() {
        return fail(code::MISC_ERROR, "Blockchain is too short for pruning.");
    }
    if height > tip {
        return fail(code::INVALID_PARAMETER, "Blockchain is shorter than the attempted prune height.");
    }
    chain.prune_to(height).map_err(|error| internal(&error))?;
    Ok(chain.pruned_height().map_or((-1).into(), Value::from))
}

/// What `getblockchaininfo` says of pruning.
pub(super) fn add_prune_fields(context: &Context, out: &mut Map<String, Value>) {
    let chain = &context.node.chain;
    let prune = chain.prune();
    out.insert("pruned".into(), (prune != Prune::Off).into());
    if prune == Prune::Off {
        return;
    }
    out.insert("pruneheight".into(), chain.pruned_height().map_or(0, |height| height + 1).into());
    out.insert("automatic_pruning".into(), matches!(prune, Prune::Target(_)).into());
    if let Prune::Target(bytes) = prune {
        out.insert("prune_target_size".into(), bytes.into());
    }
}
