//! Transactions and the mempool.

use super::blocking;
use super::chain::confirmations;
use super::problem::{ApiPath, Problem};
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Network, OutPoint, Transaction, Txid};
use cairn_chain::{BlockEntry, ChainError};
use cairn_consensus::coins::{Coin, TxUndo};
use serde::Serialize;
use utoipa::ToSchema;

/// Mempool transactions that one answer lists at most.
const MEMPOOL_TXIDS: usize = 1000;

/// A transaction.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionView {
    /// Id.
    txid: String,
    /// Id with witness data.
    wtxid: String,
    /// Version.
    version: i32,
    /// Lock time.
    lock_time: u32,
    /// Bytes.
    size: usize,
    /// Virtual bytes.
    vsize: usize,
    /// Weight.
    weight: u64,
    /// Fee in satoshi; none for a coinbase transaction.
    fee_sat: Option<u64>,
    /// Blocks from its block to the tip; 0 while it is unconfirmed.
    confirmations: u32,
    /// Its block; none while it is unconfirmed.
    block_hash: Option<String>,
    /// Its block's height.
    block_height: Option<u32>,
    /// Its block's time, seconds since 1970.
    block_time: Option<u32>,
    /// What it spends.
    inputs: Vec<InputView>,
    /// What it creates.
    outputs: Vec<OutputView>,
    /// The whole transaction, hex.
    hex: String,
}

/// An input.
#[derive(Debug, Serialize, ToSchema)]
pub struct InputView {
    /// The transaction that it spends from; none in a coinbase transaction.
    txid: Option<String>,
    /// Which output of it.
    vout: Option<u32>,
    /// Sequence.
    sequence: u32,
    /// Value in satoshi, where known.
    value_sat: Option<u64>,
    /// Address, where there is one.
    address: Option<String>,
}

/// An output.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputView {
    /// Which one.
    n: usize,
    /// Value in satoshi.
    value_sat: u64,
    /// Locking script, hex.
    script_pubkey: String,
    /// Address, where there is one.
    address: Option<String>,
    /// Whether it is unspent, as the mempool sees it.
    unspent: bool,
}

fn address_of(script: &bitcoin::Script, network: Network) -> Option<String> {
    Address::from_script(script, network).ok().map(|address| address.to_string())
}

/// What the inputs of a transaction spend, from undo data or from the mempool's view.
fn spent_outputs(state: &AppState, tx: &Transaction, block: Option<&BlockEntry>) -> Result<TxUndo, ChainError> {
    let chain = &state.node.chain;
    if tx.is_coinbase() {
        return Ok(TxUndo::default());
    }
    let Some(block) = block else {
        let coins = tx.input.iter().map_while(|input| parent_coin(state, &input.previous_output).transpose());
        return Ok(TxUndo(coins.collect::<Result<_, _>>()?));
    };
    let txid = tx.compute_txid();
    let (Some(data), Some(mut undo)) = (chain.block(&block.hash)?, chain.undo(&block.hash)?) else {
        return Ok(TxUndo::default());
    };
    let place = data.txdata.iter().position(|tx| tx.compute_txid() == txid).and_then(|i| i.checked_sub(1));
    Ok(place.filter(|&i| i < undo.0.len()).map(|i| undo.0.swap_remove(i)).unwrap_or_default())
}

/// The coin that an unconfirmed transaction spends: of another one in the mempool, or of the chain.
fn parent_coin(state: &AppState, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
    match state.node.mempool.get(&outpoint.txid) {
        Some(parent) => Ok(usize::try_from(outpoint.vout)
            .ok()
            .and_then(|n| parent.tx.output.get(n))
            .map(|output| Coin { output: output.clone(), height: cairn_mempool::MEMPOOL_HEIGHT, coinbase: false })),
        None => state.node.chain.coin(outpoint),
    }
}

fn transaction_view(state: &AppState, txid: &Txid) -> Result<Option<TransactionView>, ChainError> {
    let (chain, mempool) = (&state.node.chain, &state.node.mempool);
    let network = chain.params().network;
    let (tx, entry) = match mempool.get(txid) {
        Some(found) => ((*found.tx).clone(), None),
        None => match chain.transaction(txid)? {
            Some((tx, entry)) => (tx, Some(entry)),
            None => return Ok(None),
        },
    };
    let spent = spent_outputs(state, &tx, entry.as_ref())?;
    let known = spent.0.len() == tx.input.len() && !tx.is_coinbase();
    let paid: u64 = spent.0.iter().map(|coin| coin.output.value.to_sat()).fold(0, u64::saturating_add);
    let created: u64 = tx.output.iter().map(|output| output.value.to_sat()).fold(0, u64::saturating_add);
    let inputs = tx.input.iter().enumerate().map(|(i, input)| {
        let coin = spent.0.get(i);
        let previous = (!input.previous_output.is_null()).then_some(input.previous_output);
        InputView {
            txid: previous.map(|outpoint| outpoint.txid.to_string()),
            vout: previous.map(|outpoint| outpoint.vout),
            sequence: input.sequence.0,
            value_sat: coin.map(|coin| coin.output.value.to_sat()),
            address: coin.and_then(|coin| address_of(&coin.output.script_pubkey, network)),
        }
    });
    let mut outputs = Vec::with_capacity(tx.output.len());
    for (n, output) in tx.output.iter().enumerate() {
        let outpoint = OutPoint::new(*txid, u32::try_from(n).unwrap_or(u32::MAX));
        let unspent = mempool.spender(&outpoint).is_none() && mempool.coin(&outpoint)?.is_some();
        outputs.push(OutputView {
            n,
            value_sat: output.value.to_sat(),
            script_pubkey: output.script_pubkey.to_hex_string(),
            address: address_of(&output.script_pubkey, network),
            unspent,
        });
    }
    Ok(Some(TransactionView {
        txid: txid.to_string(),
        wtxid: tx.compute_wtxid().to_string(),
        version: tx.version.0,
        lock_time: tx.lock_time.to_consensus_u32(),
        size: tx.total_size(),
        vsize: tx.vsize(),
        weight: tx.weight().to_wu(),
        fee_sat: if known { paid.checked_sub(created) } else { None },
        confirmations: entry.as_ref().map_or(0, |entry| confirmations(chain, entry)),
        block_hash: entry.as_ref().map(|entry| entry.hash.to_string()),
        block_height: entry.as_ref().map(|entry| entry.height),
        block_time: entry.as_ref().map(|entry| entry.header.time),
        inputs: inputs.collect(),
        outputs,
        hex: serialize_hex(&tx),
    }))
}

/// One transaction of the mempool or the active chain.
#[utoipa::path(
    get, path = "/api/v1/transactions/{txid}", tag = "chain", params(("txid" = String, Path, description = "Id")),
    responses(
        (status = 200, body = TransactionView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn transaction(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<TransactionView>, Problem> {
    let txid: Txid =
        id.parse().map_err(|_| Problem::bad_request(format!("{id} is no transaction id: it must be 64 hex digits")))?;
    match blocking(&state, move |state| transaction_view(state, &txid)).await? {
        Ok(Some(view)) => Ok(Json(view)),
        Ok(None) => Err(Problem::not_found(format!("neither the mempool nor the active chain has transaction {txid}"))),
        Err(error) => Err(Problem::internal(&error)),
    }
}

/// The mempool.
#[derive(Debug, Serialize, ToSchema)]
pub struct MempoolView {
    /// Transactions in it.
    transactions: usize,
    /// Sum of their virtual sizes.
    vbytes: u64,
    /// Estimated memory, bytes.
    memory_bytes: usize,
    /// Sum of their fees in satoshi.
    total_fee_sat: u64,
    /// Lowest fee rate that gets in now, satoshi for 1,000 vbytes.
    min_fee_rate_sat_per_kvb: u64,
    /// Ids, highest fee rate first, at most 1,000.
    txids: Vec<String>,
}

/// State of the mempool.
#[utoipa::path(get, path = "/api/v1/mempool", tag = "chain", responses((status = 200, body = MempoolView)))]
pub(crate) async fn mempool(State(state): State<AppState>) -> Json<MempoolView> {
    let info = state.node.mempool.info();
    Json(MempoolView {
        transactions: info.size,
        vbytes: info.bytes,
        memory_bytes: info.usage,
        total_fee_sat: info.total_fee,
        min_fee_rate_sat_per_kvb: info.min_fee_rate,
        txids: state.node.mempool.txids().iter().take(MEMPOOL_TXIDS).map(ToString::to_string).collect(),
    })
}
