//! Mining, for holders of the admin key.

use super::auth::Admin;
use super::blocking;
use super::problem::{ApiJson, Problem};
use crate::rpc::decode_address;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bitcoin::{Address, ScriptBuf};
use cairn_mining::MiningError;
use cairn_mining::pace::Share;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// Blocks that one request may mine.
const MAX_BLOCKS: u32 = 10_000;
/// Longest time between blocks, seconds: a day.
const MAX_BLOCK_TIME: u64 = 86_400;

/// State of the block producer.
#[derive(Debug, Serialize, ToSchema)]
pub struct MiningView {
    /// Whether blocks are made on a schedule now.
    running: bool,
    /// Seconds between the network's blocks; 0 is only on demand.
    block_time_seconds: f64,
    /// This node's share of the network's blocks, above 0, at most 1.
    share: f64,
    /// How the times between them are spread: `poisson`, as in life, or `fixed`.
    pacing: String,
    /// Blocks found since start.
    blocks_found: u64,
    /// Hashes computed since start.
    hashes: u64,
    /// Where rewards go.
    reward_address: Option<String>,
    /// Why the last attempt failed, if it did.
    last_error: Option<String>,
}

fn view(state: &AppState) -> MiningView {
    let status = state.node.mining();
    let network = state.node.chain.params().network;
    MiningView {
        running: status.running,
        block_time_seconds: status.pace.block_time.as_secs_f64(),
        share: status.pace.share.get(),
        pacing: status.pace.pacing.to_string(),
        blocks_found: status.blocks_found,
        hashes: status.hashes,
        reward_address: status
            .reward_script
            .and_then(|script| Address::from_script(&script, network).ok())
            .map(|address| address.to_string()),
        last_error: status.last_error,
    }
}

/// State of the block producer.
#[utoipa::path(
    get, path = "/api/v1/mining", tag = "mining", security(("api_key" = [])),
    responses((status = 200, body = MiningView), (status = 401, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn mining(_: Admin, State(state): State<AppState>) -> Json<MiningView> {
    Json(view(&state))
}

/// How to make blocks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartMining {
    /// Seconds between the network's blocks, up to a day; 0 is only on demand. As it was when left out.
    block_time_seconds: Option<f64>,
    /// Where rewards go. As it was, or the wallet, when left out.
    address: Option<String>,
}

/// Make blocks on a schedule.
#[utoipa::path(
    post, path = "/api/v1/mining/start", tag = "mining", security(("api_key" = [])), request_body = StartMining,
    responses(
        (status = 200, body = MiningView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn start(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<StartMining>,
) -> Result<Json<MiningView>, Problem> {
    let block_time = match request.block_time_seconds {
        None => state.node.mining().pace.block_time,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| time.as_secs() <= MAX_BLOCK_TIME)
            .ok_or_else(|| Problem::unprocessable(format!("block_time_seconds must be from 0 to {MAX_BLOCK_TIME}")))?,
    };
    let script = reward_script(&state, request.address.as_deref()).await?;
    blocking(&state, move |state| {
        state.node.start_mining(block_time, script);
        Json(view(state))
    })
    .await
}

/// A share of the network's blocks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetShare {
    /// Above 0, at most 1. Shares of a network's miners should sum to 1.
    share: f64,
}

/// Make this share of the network's blocks from now on.
///
/// A schedule that runs goes on with it.
#[utoipa::path(
    post, path = "/api/v1/mining/share", tag = "mining", security(("api_key" = [])), request_body = SetShare,
    responses(
        (status = 200, body = MiningView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_share(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<SetShare>,
) -> Result<Json<MiningView>, Problem> {
    let share = Share::new(request.share).map_err(|error| Problem::unprocessable(error.to_string()))?;
    state.node.set_mining_share(share);
    Ok(Json(view(&state)))
}

/// Make no more blocks on a schedule.
#[utoipa::path(
    post, path = "/api/v1/mining/stop", tag = "mining", security(("api_key" = [])),
    responses((status = 200, body = MiningView), (status = 401, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn stop(_: Admin, State(state): State<AppState>) -> Result<Json<MiningView>, Problem> {
    blocking(&state, |state| {
        state.node.stop_mining();
        Json(view(state))
    })
    .await
}

/// How many blocks to mine now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// How many, 1 to 10,000.
    blocks: u32,
    /// Where rewards go. As configured when left out.
    address: Option<String>,
}

/// The blocks that were mined.
#[derive(Debug, Serialize, ToSchema)]
pub struct Generated {
    /// Their hashes, in order.
    block_hashes: Vec<String>,
    /// Height of the tip now.
    height: u32,
}

/// Mine blocks now. The answer comes when all are in the chain.
#[utoipa::path(
    post, path = "/api/v1/mining/generate", tag = "mining", security(("api_key" = [])), request_body = Generate,
    responses(
        (status = 200, body = Generated),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn generate(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<Generate>,
) -> Result<Json<Generated>, Problem> {
    if !(1..=MAX_BLOCKS).contains(&request.blocks) {
        return Err(Problem::unprocessable(format!("blocks must be from 1 to {MAX_BLOCKS}")));
    }
    let script = reward_script(&state, request.address.as_deref()).await?;
    let mined = blocking(&state, move |state| {
        let hashes = state.node.generate(request.blocks, &script, &mut |_| {})?;
        Ok((hashes, state.node.chain.tip().height))
    })
    .await?;
    let (hashes, height) = mined.map_err(|error: MiningError| match error {
        MiningError::Stopped => Problem::unavailable("mining was stopped before all blocks were found"),
        MiningError::NoSignetKey => Problem::unprocessable(error.to_string()),
        other => Problem::internal(&other),
    })?;
    Ok(Json(Generated { block_hashes: hashes.iter().map(ToString::to_string).collect(), height }))
}

/// Where rewards go: to the address given, else where they went, else to the wallet.
async fn reward_script(state: &AppState, address: Option<&str>) -> Result<ScriptBuf, Problem> {
    if let Some(address) = address {
        let decoded = decode_address(address, state.node.chain.params().network);
        return decoded
            .map(|address| address.script_pubkey())
            .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("address {address}: {why}")));
    }
    match state.node.mining().reward_script {
        Some(script) => Ok(script),
        None => super::wallet::reward_script(state).await,
    }
}
