//! `getblocktemplate` (BIP 22, 23, 145): templates, long polling and proposals.

use super::args::{Args, as_str};
use super::blockchain::signet_challenge;
use super::error::{RpcError, RpcResult, code, fail};
use super::mining::{bip22_result, decode_block};
use super::render::{bits_hex, object, target_hex};
use super::{Context, args};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Network, Script, Txid};
use cairn_consensus::tx::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT};
use cairn_consensus::versionbits::{Deployment, ThresholdState};
use cairn_mining::BlockTemplate;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Most bytes of a block: one of nothing but witness data.
const MAX_BLOCK_SERIALIZED_SIZE: usize = MAX_BLOCK_WEIGHT;
/// Seconds for which a template is reused though the mempool changed, as Core does.
const TEMPLATE_SECONDS: u32 = 5;
/// How long a long poll waits before it first looks at the mempool, and then between looks, as Core does.
const FIRST_MEMPOOL_CHECK: Duration = Duration::from_secs(60);
const NEXT_MEMPOOL_CHECKS: Duration = Duration::from_secs(10);

/// The last template.
#[derive(Default)]
pub(crate) struct TemplateCache(Mutex<Option<Cached>>);

#[derive(Clone)]
pub(crate) struct Cached {
    tip: BlockHash,
    sequence: u64,
    made_at: u32,
    /// The template itself.
    pub(crate) template: Arc<BlockTemplate>,
}

impl TemplateCache {
    /// The last template, however old.
    pub(crate) fn last(&self) -> Option<Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A template on the tip, at most a few seconds behind the mempool.
    pub(crate) fn current(&self, context: &Context) -> Result<Cached, RpcError> {
        let node = &context.node;
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The order matters: a change after this look makes the next call build again.
        let (tip, sequence, now) = (node.chain.tip().hash, node.mempool.transactions_updated(), node.now());
        // On testnet4 the target depends on the time, so that no template is reused.
        let reusable = |cached: &&Cached| {
            context.network != Network::Testnet4
                && cached.tip == tip
                && (cached.sequence == sequence || now.saturating_sub(cached.made_at) <= TEMPLATE_SECONDS)
        };
        if let Some(cached) = slot.as_ref().filter(reusable) {
            return Ok(cached.clone());
        }
        *slot = None;
        let template = node.template(Script::new()).map_err(|error| {
            RpcError::new(code::INTERNAL_ERROR, format!("no block template could be made: {error}"))
        })?;
        let tip = template.block.header.prev_blockhash;
        let cached = Cached { tip, sequence, made_at: now, template: Arc::new(template) };
        *slot = Some(cached.clone());
        Ok(cached)
    }
}

/// The method.
pub(super) fn getblocktemplate(context: &Context, args: &Args<'_>) -> RpcResult {
    const INVALID_MODE: &str = "Invalid mode";
    let empty = Map::new();
    let request = args.get(0).as_object().unwrap_or(&empty);
    let mode = match request.get("mode") {
        None | Some(Value::Null) => "template",
        Some(Value::String(mode)) => mode,
        Some(_) => return fail(code::INVALID_PARAMETER, INVALID_MODE),
    };
    match mode {
        "proposal" => return proposal(context, request),
        "template" => {}
        _ => return fail(code::INVALID_PARAMETER, INVALID_MODE),
    }
    let mut rules = HashSet::new();
    if let Some(Value::Array(given)) = request.get("rules") {
        for rule in given {
            rules.insert(as_str(rule)?);
        }
    }
    if context.network == Network::Bitcoin {
        // Nothing mined alone on the main network would be kept.
        return fail(code::CLIENT_NOT_CONNECTED, "Cairn is not connected!");
    }
    if let Some(id) = request.get("longpollid").filter(|id| !id.is_null()) {
        wait_for_change(context, id)?;
    }
    let signet = context.network == Network::Signet;
    if signet && !rules.contains("signet") {
        return fail(
            code::INVALID_PARAMETER,
            "getblocktemplate must be called with the signet rule set (call with {\"rules\": [\"segwit\", \"signet\"]})",
        );
    }
    if !rules.contains("segwit") {
        return fail(
            code::INVALID_PARAMETER,
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})",
        );
    }
    let cached = context.template.current(context)?;
    render(context, &cached, &rules)
}

/// BIP 23: would this block be accepted, its proof of work apart?
fn proposal(context: &Context, request: &Map<String, Value>) -> RpcResult {
    let Some(Value::String(data)) = request.get("data") else {
        return fail(code::TYPE_ERROR, "Missing data String key for proposal");
    };
    let block = decode_block(data)?;
    let chain = &context.node.chain;
    if let Some(known) = chain.entry(&block.block_hash()) {
        return Ok(match known.status {
            status if status.failed => "duplicate-invalid",
            status if status.valid_scripts => "duplicate",
            _ => "duplicate-inconclusive",
        }
        .into());
    }
    if block.header.prev_blockhash != chain.tip().hash {
        return Ok("inconclusive-not-best-prevblk".into());
    }
    bip22_result(chain.test_block(&block, context.node.now(), false, true))
}

/// BIP 22 long polling: returns once the tip is another one, or the mempool changed and a minute has passed.
fn wait_for_change(context: &Context, id: &Value) -> Result<(), RpcError> {
    let node = &context.node;
    let (watched, sequence) = match id.as_str() {
        Some(id) => {
            let (hash, sequence) = id.split_at_checked(64).unwrap_or((id, ""));
            (args::parse_hash::<BlockHash>(hash, "longpollid")?, sequence.parse().unwrap_or(0))
        }
        // BIP 22 says nothing of an id that is no string; Core takes it as "from now on".
        None => (node.chain.tip().hash, node.mempool.transactions_updated()),
    };
    let mut events = node.subscribe();
    context.runtime.block_on(async {
        let mut next_check = tokio::time::Instant::now() + FIRST_MEMPOOL_CHECK;
        while node.chain.tip().hash == watched {
            tokio::select! {
                () = context.closing.cancelled() => {
                    return fail(code::CLIENT_NOT_CONNECTED, "Shutting down");
                }
                event = events.recv() => match event {
                    // Whatever it was, the tip is looked at again.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return fail(code::CLIENT_NOT_CONNECTED, "Shutting down"),
                },
                () = tokio::time::sleep_until(next_check) => {
                    if node.mempool.transactions_updated() != sequence {
                        break;
                    }
                    next_check = tokio::time::Instant::now() + NEXT_MEMPOOL_CHECKS;
                }
            }
        }
        Ok(())
    })
}

/// A deployment's name as a rule; `!` marks those that clients may not ignore (BIP 9).
fn rule_name(deployment: &Deployment) -> String {
    format!("{}{}", if deployment.gbt_optional_rule { "" } else { "!" }, deployment.name)
}

fn render(context: &Context, cached: &Cached, understood: &HashSet<&str>) -> RpcResult {
    let template = &cached.template;
    let header = &template.block.header;
    // The coinbase is number 0 in the block.
    let index: HashMap<Txid, usize> =
        template.entries.iter().enumerate().map(|(i, entry)| (entry.tx.compute_txid(), i + 1)).collect();
    let transactions = template.entries.iter().map(|entry| {
        let depends: Vec<usize> =
            entry.tx.input.iter().filter_map(|input| index.get(&input.previous_output.txid).copied()).collect();
        json!({
            "data": serialize_hex(&*entry.tx),
            "txid": entry.tx.compute_txid().to_string(),
            "hash": entry.tx.compute_wtxid().to_string(),
            "depends": depends,
            "fee": entry.fee.to_sat(),
            "sigops": entry.sigop_cost,
            "weight": entry.weight,
        })
    });
    let mut rules: Vec<String> = ["csv", "!segwit", "taproot"].map(Into::into).into();
    let challenge = signet_challenge(context);
    if challenge.is_some() {
        rules.push("!signet".into());
    }
    let mut version = header.version.to_consensus();
    let mut available = Map::new();
    for (deployment, state) in &template.deployments {
        let optional = deployment.gbt_optional_rule || understood.contains(deployment.name);
        match state {
            ThresholdState::Defined | ThresholdState::Failed => {}
            ThresholdState::Started | ThresholdState::LockedIn => {
                available.insert(rule_name(deployment), deployment.bit.into());
                if !optional {
                    // A client that does not know the rule does not signal for it.
                    version &= !deployment.mask().cast_signed();
                }
            }
            ThresholdState::Active if optional => rules.push(rule_name(deployment)),
            ThresholdState::Active => {
                let message = format!("Support for '{}' rule requires explicit client support", deployment.name);
                return fail(code::INVALID_PARAMETER, message);
            }
        }
    }
    let mut out = object([
        ("capabilities", json!(["proposal"])),
        ("version", version.into()),
        ("rules", rules.into()),
        ("vbavailable", available.into()),
        ("vbrequired", 0.into()),
        ("previousblockhash", header.prev_blockhash.to_string().into()),
        ("transactions", transactions.collect()),
        ("coinbaseaux", json!({})),
        ("coinbasevalue", template.coinbase_value.to_sat().into()),
        ("longpollid", format!("{}{}", header.prev_blockhash, cached.sequence).into()),
        ("target", target_hex(header.bits)),
        ("mintime", template.min_time.into()),
        ("mutable", json!(["time", "transactions", "prevblock"])),
        ("noncerange", "00000000ffffffff".into()),
        ("sigoplimit", MAX_BLOCK_SIGOPS_COST.into()),
        ("sizelimit", MAX_BLOCK_SERIALIZED_SIZE.into()),
        ("weightlimit", MAX_BLOCK_WEIGHT.into()),
        ("curtime", template.min_time.max(context.node.now()).into()),
        ("bits", bits_hex(header.bits)),
        ("height", template.height.into()),
    ]);
    if let Some(challenge) = challenge {
        out.insert("signet_challenge".into(), challenge.to_hex_string().into());
    }
    out.insert("default_witness_commitment".into(), template.witness_commitment.to_hex_string().into());
    Ok(Value::Object(out))
}
