//! Methods of Core's category `mining`, and the hidden ones that generate blocks.

use super::args::{Arg, Args, Kind, as_str, parse_hash, parse_hex};
use super::blockchain::{chain_name, signet_challenge};
use super::descriptor::{DescriptorError, script_of};
use super::error::{RpcError, RpcResult, code, fail};
use super::rawtransaction::decode_transaction;
use super::render::{bits_hex, difficulty, float, object, satoshi, target_hex};
use super::validateaddress::decode_address;
use super::{Context, Method, template};
use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_partial, serialize_hex};
use bitcoin::{Block, ScriptBuf, Transaction, Txid};
use cairn_chain::{BlockAccepted, ChainError};
use cairn_mempool::BLOCK_MIN_FEE_RATE;
use cairn_mining::MiningError;
use cairn_mining::pace::Share;
use serde_json::{Value, json};
use std::sync::Arc;

const MAX_TRIES: Arg = Arg::optional("maxtries", Kind::Num, "1000000", "How many iterations to try.");
const MAX_TRIES_DIFFERENCE: &str = "`maxtries` is ignored: the search ends when the blocks are found or the node stops";

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "mining",
        name: "getmininginfo",
        args: &[],
        about: "Returns a json object containing mining-related information.",
        result: "{ \"blocks\", \"currentblockweight\", \"currentblocktx\", \"bits\", \"difficulty\", \"target\", \"networkhashps\", \
                 \"pooledtx\", \"blockmintxfee\", \"chain\", \"signet_challenge\" (signet only), \"next\", \"warnings\" }",
        differences: "",
        run: getmininginfo,
    },
    Method {
        category: "mining",
        name: "getnetworkhashps",
        args: &[
            Arg::optional(
                "nblocks",
                Kind::Num,
                "120",
                "The number of previous blocks to calculate estimate from, or -1 for blocks since last difficulty change.",
            ),
            Arg::optional("height", Kind::Num, "-1", "To estimate at the time of the given height."),
        ],
        about: "Returns the estimated network hashes per second based on the last n blocks.",
        result: "n    (numeric) Hashes per second estimated",
        differences: "",
        run: |context, args| network_hash_rate(context, args.int_or(0, 120)?, args.int_or(1, -1)?),
    },
    Method {
        category: "mining",
        name: "getblocktemplate",
        args: &[Arg::required(
            "template_request",
            Kind::Obj(
                "\"mode\":\"str\",\"capabilities\":[\"str\",...],\"rules\":[\"segwit\",\"str\",...],\"longpollid\":\"str\",\"data\":\"hex\"",
            ),
            "Format of the template",
        )],
        about: "If the request parameters include a 'mode' key, that is used to explicitly select between the default \
                'template' request or a 'proposal'.\nIt returns data needed to construct a block to work on.\n\
                For full specification, see BIPs 22, 23, 9, and 145.",
        result: "{ \"capabilities\", \"version\", \"rules\", \"vbavailable\", \"vbrequired\", \"previousblockhash\", \"transactions\", \
                 \"coinbaseaux\", \"coinbasevalue\", \"longpollid\", \"target\", \"mintime\", \"mutable\", \"noncerange\", \
                 \"sigoplimit\", \"sizelimit\", \"weightlimit\", \"curtime\", \"bits\", \"height\", \"signet_challenge\" (signet only), \
                 \"default_witness_commitment\" }, or for a proposal null or BIP 22's reject reason",
        differences: "",
        run: template::getblocktemplate,
    },
    Method {
        category: "mining",
        name: "submitblock",
        args: &[
            Arg::required("hexdata", Kind::Str, "the hex-encoded block data to submit"),
            Arg::optional(
                "dummy",
                Kind::Str,
                "ignored",
                "dummy value, for compatibility with BIP22. This value is ignored.",
            ),
        ],
        about: "Attempts to submit new block to network.\nSee BIP 22 for full specification.",
        result: "null if the block was accepted, otherwise a \"str\" according to BIP 22",
        differences: "",
        run: submitblock,
    },
    Method {
        category: "mining",
        name: "submitheader",
        args: &[Arg::required("hexdata", Kind::Str, "the hex-encoded block header data")],
        about: "Decode the given hexdata as a header and submit it as a candidate chain tip if valid.\n\
                Throws when the header is invalid.",
        result: "null",
        differences: "",
        run: submitheader,
    },
    Method {
        category: "hidden",
        name: "setminingshare",
        args: &[Arg::required("share", Kind::Num, "Above 0, at most 1. Shares of a network's miners should sum to 1.")],
        about: "Make this share of the network's blocks from now on, as --share does from the start.",
        result: "null",
        differences: "not in Bitcoin Core",
        run: setminingshare,
    },
    Method {
        category: "hidden",
        name: "generatetoaddress",
        args: &[
            Arg::required("nblocks", Kind::Num, "How many blocks are generated."),
            Arg::required("address", Kind::Str, "The address to send the newly generated bitcoin to."),
            MAX_TRIES,
        ],
        about: "Mine to a specified address and return the block hashes.",
        result: "[ \"hex\" ]    (json array) hashes of blocks generated",
        differences: MAX_TRIES_DIFFERENCE,
        run: generatetoaddress,
    },
    Method {
        category: "hidden",
        name: "generatetodescriptor",
        args: &[
            Arg::required("num_blocks", Kind::Num, "How many blocks are generated."),
            Arg::required("descriptor", Kind::Str, "The descriptor to send the newly generated bitcoin to."),
            MAX_TRIES,
        ],
        about: "Mine to a specified descriptor and return the block hashes.",
        result: "[ \"hex\" ]    (json array) hashes of blocks generated",
        differences: MAX_TRIES_DIFFERENCE,
        run: generatetodescriptor,
    },
    Method {
        category: "hidden",
        name: "generateblock",
        args: &[
            Arg::required("output", Kind::Str, "The address or descriptor to send the newly generated bitcoin to."),
            Arg::required(
                "transactions",
                Kind::Arr("\"rawtx/txid\""),
                "An array of hex strings which are either txids or raw transactions. Txids must reference transactions \
                 currently in the mempool. All transactions must be valid and in valid order, otherwise the block will be \
                 rejected.",
            ),
            Arg::optional(
                "submit",
                Kind::Bool,
                "true",
                "Whether to submit the block before the RPC call returns or to return it as hex.",
            ),
        ],
        about: "Mine a set of ordered transactions to a specified address or descriptor and return the block hash.\n\
                Transaction fees are not collected in the block reward.",
        result: "{ \"hash\", \"hex\" (only when submit=false) }",
        differences: "",
        run: generateblock,
    },
];

/// Core's `DecodeHexBlk`: bytes after the block are ignored.
pub(super) fn decode_block(hex: &str) -> Result<Block, RpcError> {
    parse_hex(hex)
        .and_then(|bytes| deserialize_partial::<Block>(&bytes).ok())
        .map(|(block, _)| block)
        .ok_or_else(|| RpcError::new(code::DESERIALIZATION_ERROR, "Block decode failed"))
}

/// Core's `BIP22ValidationResult`: null, the reject reason, or an error when it could not be found out.
pub(super) fn bip22_result(result: Result<(), ChainError>) -> RpcResult {
    match result {
        Ok(()) => Ok(Value::Null),
        Err(ChainError::Rejected(reject)) if reject.reason.is_empty() => Ok("rejected".into()),
        Err(ChainError::Rejected(reject)) => Ok(reject.reason.into()),
        Err(error) => fail(code::VERIFY_ERROR, error.to_string()),
    }
}

fn getmininginfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let node = &context.node;
    let tip = node.chain.tip();
    let mut out = object([("blocks", tip.height.into())]);
    if let Some(last) = context.template.last() {
        out.insert("currentblockweight".into(), last.template.block.weight().to_wu().into());
        out.insert("currentblocktx".into(), last.template.entries.len().into());
    }
    out.extend(object([
        ("bits", bits_hex(tip.header.bits)),
        ("difficulty", float(difficulty(tip.header.bits))),
        ("target", target_hex(tip.header.bits)),
        ("networkhashps", network_hash_rate(context, 120, -1)?),
        ("pooledtx", node.mempool.info().size.into()),
        ("blockmintxfee", satoshi(BLOCK_MIN_FEE_RATE)),
        ("chain", chain_name(context.network).into()),
        ("next", next_block(context)?),
    ]));
    if let Some(challenge) = signet_challenge(context) {
        out.insert("signet_challenge".into(), challenge.to_hex_string().into());
    }
    out.insert("warnings".into(), json!([]));
    Ok(Value::Object(out))
}

/// Core's `GetNetworkHashPS`.
fn network_hash_rate(context: &Context, blocks: i32, height: i32) -> RpcResult {
    let chain = &context.node.chain;
    if blocks < -1 || blocks == 0 {
        return fail(code::INVALID_PARAMETER, "Invalid nblocks. Must be a positive number or -1.");
    }
    let last = match u32::try_from(height) {
        Ok(height) => chain.entry_at(height),
        Err(_) if height == -1 => Some(chain.tip()),
        Err(_) => None,
    };
    let Some(last) = last else {
        return fail(code::INVALID_PARAMETER, "Block does not exist at specified height");
    };
    let span = match u32::try_from(blocks) {
        Ok(blocks) => blocks.min(last.height),
        Err(_) => (last.height % chain.params().difficulty_adjustment_interval() + 1).min(last.height),
    };
    let times = (last.height - span..=last.height).filter_map(|height| chain.entry_at(height));
    let first = chain.entry_at(last.height - span);
    let (least, most) =
        times.fold((u32::MAX, 0), |(least, most), entry| (least.min(entry.header.time), most.max(entry.header.time)));
    match first {
        Some(first) if span > 0 && most > least => {
            let work = work_as_float(last.chain_work) - work_as_float(first.chain_work);
            Ok(float(work / f64::from(most - least)))
        }
        _ => Ok(0.into()),
    }
}

/// A 256-bit number of hashes, to the precision of a double.
fn work_as_float(work: bitcoin::Work) -> f64 {
    work.to_be_bytes().iter().fold(0.0, |sum, &byte| sum * 256.0 + f64::from(byte))
}

fn submitblock(context: &Context, args: &Args<'_>) -> RpcResult {
    let mut block = decode_block(args.str(0)?)?;
    let node = &context.node;
    if let Some(previous) = node.chain.entry(&block.header.prev_blockhash) {
        cairn_consensus::block::add_witness_reserved_value(&mut block, previous.height + 1, node.chain.params());
    }
    let hash = block.block_hash();
    let submitted = node.submit_block(Arc::new(block));
    let known = node.chain.entry(&hash).map(|entry| entry.status);
    match submitted {
        Ok(BlockAccepted::Duplicate) => Ok("duplicate".into()),
        // Stored but not on the best chain: nothing is known of its scripts.
        Ok(BlockAccepted::New) if !known.is_some_and(|status| status.valid_scripts) => Ok("inconclusive".into()),
        Ok(BlockAccepted::New) => Ok(Value::Null),
        // Stored, and only then a block below it turned out to be invalid: Core has checked that one, not this.
        Err(ChainError::Rejected(reject)) if reject.reason == "bad-prevblk" && known.is_some() => {
            Ok("inconclusive".into())
        }
        Err(error) => bip22_result(Err(error)),
    }
}

fn submitheader(context: &Context, args: &Args<'_>) -> RpcResult {
    let decoded = parse_hex(args.str(0)?).and_then(|bytes| deserialize_partial::<Header>(&bytes).ok());
    let Some((header, _)) = decoded else {
        return fail(code::DESERIALIZATION_ERROR, "Block header decode failed");
    };
    let node = &context.node;
    if node.chain.entry(&header.prev_blockhash).is_none() {
        return fail(code::VERIFY_ERROR, format!("Must submit previous header ({}) first", header.prev_blockhash));
    }
    match node.chain.process_headers(&[header], node.now()) {
        Ok(_) => Ok(Value::Null),
        Err(ChainError::Rejected(reject)) => fail(code::VERIFY_ERROR, reject.reason),
        Err(error) => fail(code::VERIFY_ERROR, error.to_string()),
    }
}

fn generate(context: &Context, count: i32, script: &ScriptBuf) -> RpcResult {
    // Core's loop does nothing for a count below one.
    let Ok(count) = u32::try_from(count) else { return Ok(json!([])) };
    match context.node.generate(count, script, &mut |_| {}) {
        Ok(hashes) => Ok(hashes.iter().map(ToString::to_string).collect()),
        Err(error) => Err(mining_error(&error)),
    }
}

fn mining_error(error: &MiningError) -> RpcError {
    match error {
        MiningError::Stopped => RpcError::new(code::MISC_ERROR, "Failed to make block."),
        MiningError::Chain(ChainError::Rejected(reject)) => {
            RpcError::new(code::VERIFY_ERROR, format!("TestBlockValidity failed: {reject}"))
        }
        other => RpcError::new(code::INTERNAL_ERROR, other.to_string()),
    }
}

fn setminingshare(context: &Context, args: &Args<'_>) -> RpcResult {
    let fraction = args.get(0).as_f64().unwrap_or(f64::NAN);
    let share = Share::new(fraction).map_err(|error| RpcError::new(code::INVALID_PARAMETER, error.to_string()))?;
    context.node.set_mining_share(share);
    Ok(Value::Null)
}

fn generatetoaddress(context: &Context, args: &Args<'_>) -> RpcResult {
    let count = args.int(0)?;
    match decode_address(args.str(1)?, context.network) {
        Ok(address) => generate(context, count, &address.script_pubkey()),
        Err(_) => fail(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address"),
    }
}

/// A descriptor's script, or `None` with why it cannot be parsed.
fn descriptor_script(context: &Context, text: &str) -> Result<Result<ScriptBuf, String>, RpcError> {
    match script_of(text, context.network) {
        Ok(script) => Ok(Ok(script)),
        Err(DescriptorError::Malformed(why)) => Ok(Err(why)),
        Err(DescriptorError::Multipath) => fail(code::INVALID_PARAMETER, "Multipath descriptor not accepted"),
        Err(DescriptorError::Ranged) => {
            fail(code::INVALID_PARAMETER, "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?")
        }
    }
}

fn generatetodescriptor(context: &Context, args: &Args<'_>) -> RpcResult {
    let count = args.int(0)?;
    match descriptor_script(context, args.str(1)?)? {
        Ok(script) => generate(context, count, &script),
        Err(why) => fail(code::INVALID_ADDRESS_OR_KEY, why),
    }
}

fn generateblock(context: &Context, args: &Args<'_>) -> RpcResult {
    let output = args.str(0)?;
    let script = match descriptor_script(context, output)? {
        Ok(script) => script,
        Err(_) => match decode_address(output, context.network) {
            Ok(address) => address.script_pubkey(),
            Err(_) => return fail(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address or descriptor"),
        },
    };
    let mut transactions = Vec::new();
    for item in args.array(1)? {
        transactions.push(transaction_argument(context, as_str(item)?)?);
    }
    let submit = args.bool_or(2, true)?;
    let block = context.node.generate_block(transactions, &script, submit).map_err(|error| mining_error(&error))?;
    let mut out = object([("hash", block.block_hash().to_string().into())]);
    if !submit {
        out.insert("hex".into(), serialize_hex(&block).into());
    }
    Ok(Value::Object(out))
}

/// A transaction by its id in the mempool, or as hex.
fn transaction_argument(context: &Context, text: &str) -> Result<Transaction, RpcError> {
    if let Ok(txid) = parse_hash::<Txid>(text, "txid") {
        return match context.node.mempool.get(&txid) {
            Some(entry) => Ok((*entry.tx).clone()),
            None => fail(code::INVALID_ADDRESS_OR_KEY, format!("Transaction {text} not in mempool.")),
        };
    }
    decode_transaction(text, true, true).ok_or_else(|| {
        RpcError::new(
            code::DESERIALIZATION_ERROR,
            format!("Transaction decode failed for {text}. Make sure the tx has at least one input."),
        )
    })
}

/// Height and target of the block after the tip.
fn next_block(context: &Context) -> RpcResult {
    let template = context.template.current(context)?.template;
    let bits = template.block.header.bits;
    Ok(object([
        ("height", template.height.into()),
        ("bits", bits_hex(bits)),
        ("difficulty", float(difficulty(bits))),
        ("target", target_hex(bits)),
    ])
    .into())
}
