//! Blocks.

use super::problem::{ApiPath, ApiQuery, Problem};
use super::{Page, blocking};
use crate::rpc::{bits_hex, chain_name, difficulty};
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use cairn_chain::{BlockEntry, Chain, ChainError};
use cairn_node::Synchronisation;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Items on a page unless the client says otherwise, and at most.
const PAGE: u32 = 20;
const MAX_PAGE: u32 = 100;

/// Where the chain is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Blockchain {
    /// `main`, `test4`, `signet` or `regtest`.
    network: &'static str,
    /// Height of the tip.
    height: u32,
    /// Hash of the tip.
    best_block_hash: String,
    /// Height of the best header known.
    headers: u32,
    /// Peers that there is a connection with.
    peers: usize,
    /// How far it is while it catches up with its peers; none once it has.
    synchronisation: Option<SynchronisationView>,
    /// Time of the tip, seconds since 1970.
    time: u32,
    /// Median time past of the tip, seconds since 1970.
    median_time: u32,
    /// Compact target of the tip, hex.
    bits: String,
    /// How much harder than difficulty 1.
    difficulty: f64,
    /// Total work, hex.
    chain_work: String,
    /// Transactions in the active chain.
    transactions: u64,
    /// Bytes of the block and undo files.
    size_on_disk_bytes: u64,
    /// The genesis block's hash.
    genesis_hash: String,
}

/// How far a node is that catches up with its peers.
#[derive(Debug, Serialize, ToSchema)]
pub struct SynchronisationView {
    /// From 0 to 1.
    progress: f64,
    /// Blocks connected a second, of late.
    blocks_per_second: f64,
    /// At that rate; none while no blocks come.
    seconds_left: Option<u64>,
}

impl From<Synchronisation> for SynchronisationView {
    fn from(far: Synchronisation) -> Self {
        SynchronisationView {
            progress: far.progress,
            blocks_per_second: far.blocks_per_second,
            seconds_left: far.left.map(|left| left.as_secs()),
        }
    }
}

/// State of the chain.
#[utoipa::path(get, path = "/api/v1/blockchain", tag = "chain", responses((status = 200, body = Blockchain)))]
pub(crate) async fn blockchain(State(state): State<AppState>) -> Json<Blockchain> {
    let chain = &state.node.chain;
    let network = state.node.network_summary().await;
    let synchronisation = state.node.synchronisation(network.as_ref()).map(SynchronisationView::from);
    let tip = chain.tip();
    Json(Blockchain {
        network: chain_name(chain.params().network),
        height: tip.height,
        best_block_hash: tip.hash.to_string(),
        headers: chain.best_header().height.max(tip.height),
        peers: network.map_or(0, |network| network.inbound + network.outbound),
        synchronisation,
        time: tip.header.time,
        median_time: tip.median_time_past,
        bits: text(bits_hex(tip.header.bits)),
        difficulty: difficulty(tip.header.bits),
        chain_work: tip.chain_work.to_be_bytes().to_lower_hex_string(),
        transactions: tip.chain_tx_count,
        size_on_disk_bytes: chain.size_on_disk(),
        genesis_hash: chain.params().genesis.block_hash().to_string(),
    })
}

fn text(value: serde_json::Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// A block on a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct BlockSummary {
    /// Hash.
    hash: String,
    /// Height.
    height: u32,
    /// Seconds since 1970.
    time: u32,
    /// Transactions in it, 0 while its data is not here.
    tx_count: u32,
    /// The block before it; none for the genesis block.
    previous_hash: Option<String>,
}

impl From<&BlockEntry> for BlockSummary {
    fn from(entry: &BlockEntry) -> Self {
        BlockSummary {
            hash: entry.hash.to_string(),
            height: entry.height,
            time: entry.header.time,
            tx_count: entry.tx_count,
            previous_hash: (entry.height > 0).then(|| entry.header.prev_blockhash.to_string()),
        }
    }
}

/// Which page of the blocks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BlocksQuery {
    /// `next_cursor` of the page before; from the tip when left out.
    cursor: Option<u32>,
    /// How many, 1 to 100; 20 when left out.
    limit: Option<u32>,
}

/// The active chain's blocks, newest first.
#[utoipa::path(
    get, path = "/api/v1/blocks", tag = "chain", params(BlocksQuery),
    responses((status = 200, body = Page<BlockSummary>), (status = 400, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn blocks(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<BlocksQuery>,
) -> Result<Json<Page<BlockSummary>>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}: it must be from 1 to {MAX_PAGE}")));
    }
    let chain = &state.node.chain;
    let from = query.cursor.unwrap_or(u32::MAX).min(chain.tip().height);
    let heights = (0..=from).rev().take(usize::try_from(limit).unwrap_or(usize::MAX));
    let items: Vec<BlockSummary> =
        heights.filter_map(|height| chain.entry_at(height)).map(|entry| BlockSummary::from(&entry)).collect();
    let next_cursor = from.checked_sub(limit).map(|cursor| cursor.to_string());
    Ok(Json(Page { items, next_cursor }))
}

/// A block.
#[derive(Debug, Serialize, ToSchema)]
pub struct BlockView {
    /// Hash.
    hash: String,
    /// Height.
    height: u32,
    /// Blocks from it to the tip, itself included; 0 when it is not in the active chain.
    confirmations: u32,
    /// The 80 bytes of the header, hex.
    header: String,
    /// Header version.
    version: i32,
    /// Merkle root.
    merkle_root: String,
    /// Seconds since 1970.
    time: u32,
    /// Median time past, seconds since 1970.
    median_time: u32,
    /// Compact target, hex.
    bits: String,
    /// Nonce.
    nonce: u32,
    /// How much harder than difficulty 1.
    difficulty: f64,
    /// Total work up to it, hex.
    chain_work: String,
    /// The block before it; none for the genesis block.
    previous_hash: Option<String>,
    /// The block after it in the active chain.
    next_hash: Option<String>,
    /// Bytes; none while its data is not here.
    size: Option<usize>,
    /// Weight; none while its data is not here.
    weight: Option<u64>,
    /// Transactions in it.
    tx_count: u32,
    /// Their ids, in order.
    transactions: Vec<String>,
}

pub(super) fn confirmations(chain: &Chain, entry: &BlockEntry) -> u32 {
    if chain.is_active(&entry.hash) { chain.tip().height.saturating_sub(entry.height) + 1 } else { 0 }
}

fn block_view(chain: &Chain, entry: &BlockEntry) -> Result<BlockView, ChainError> {
    let block = chain.block(&entry.hash)?;
    let confirmations = confirmations(chain, entry);
    let next = if confirmations > 1 { chain.entry_at(entry.height + 1) } else { None };
    let summary = BlockSummary::from(entry);
    Ok(BlockView {
        hash: summary.hash,
        height: entry.height,
        confirmations,
        header: serialize_hex(&entry.header),
        version: entry.header.version.to_consensus(),
        merkle_root: entry.header.merkle_root.to_string(),
        time: entry.header.time,
        median_time: entry.median_time_past,
        bits: text(bits_hex(entry.header.bits)),
        nonce: entry.header.nonce,
        difficulty: difficulty(entry.header.bits),
        chain_work: entry.chain_work.to_be_bytes().to_lower_hex_string(),
        previous_hash: summary.previous_hash,
        next_hash: next.map(|next| next.hash.to_string()),
        size: block.as_ref().map(|block| block.total_size()),
        weight: block.as_ref().map(|block| block.weight().to_wu()),
        tx_count: entry.tx_count,
        transactions: block.iter().flat_map(|block| &block.txdata).map(|tx| tx.compute_txid().to_string()).collect(),
    })
}

/// The block that a height or a hash names.
fn find_entry(chain: &Chain, id: &str) -> Result<BlockEntry, Problem> {
    if id.len() == 64 {
        let hash: BlockHash =
            id.parse().map_err(|_| Problem::bad_request(format!("{id} is no block hash: it must be 64 hex digits")))?;
        return chain.entry(&hash).ok_or_else(|| Problem::not_found(format!("no block {hash} is known here")));
    }
    let height: u32 = id
        .parse()
        .map_err(|_| Problem::bad_request(format!("{id} is neither a height nor a block hash of 64 hex digits")))?;
    chain.entry_at(height).ok_or_else(|| {
        Problem::not_found(format!("the chain has no block at height {height}: its tip is at {}", chain.tip().height))
    })
}

/// One block, by hash or by height in the active chain.
#[utoipa::path(
    get, path = "/api/v1/blocks/{id}", tag = "chain", params(("id" = String, Path, description = "Hash or height")),
    responses(
        (status = 200, body = BlockView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn block(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<BlockView>, Problem> {
    let entry = find_entry(&state.node.chain, &id)?;
    blocking(&state, move |state| block_view(&state.node.chain, &entry))
        .await?
        .map(Json)
        .map_err(|e| Problem::internal(&e))
}
