//! `GET /api/v1/search`: whatever a height, a hash, an id or a digest names.

use super::blocking;
use super::problem::{ApiQuery, Problem};
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, Txid};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Longest query: a digest of 64 bytes in hex.
const MAX_QUERY: usize = 128;

/// What to search.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// A height, a block hash, a transaction id or a stamped digest.
    q: String,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResults {
    /// The query.
    query: String,
    /// What it names; nothing or more than one thing.
    results: Vec<SearchResult>,
}

/// One thing that was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResult {
    /// `block`, `transaction` or `stamp`.
    kind: &'static str,
    /// Its hash, id or digest.
    id: String,
    /// Where it is.
    href: String,
}

/// Find a block, a transaction or a stamp.
#[utoipa::path(
    get, path = "/api/v1/search", tag = "chain", params(SearchQuery),
    responses((status = 200, body = SearchResults), (status = 400, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn search(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<SearchQuery>,
) -> Result<Json<SearchResults>, Problem> {
    let query = query.q.trim().to_ascii_lowercase();
    if query.is_empty() || query.len() > MAX_QUERY {
        return Err(Problem::bad_request(format!("q must have from 1 to {MAX_QUERY} characters")));
    }
    let mut results = Vec::new();
    let text = query.clone();
    let found = blocking(&state, move |state| in_chain(state, &text)).await?.map_err(|e| Problem::internal(&e))?;
    results.extend(found);
    if let Ok(digest) = Vec::<u8>::from_hex(&query)
        && super::stamps::is_known(&state.services, &digest).await?
    {
        results.push(SearchResult { kind: "stamp", href: format!("/api/v1/stamps/{query}"), id: query.clone() });
    }
    Ok(Json(SearchResults { query, results }))
}

fn in_chain(state: &AppState, query: &str) -> Result<Vec<SearchResult>, cairn_chain::ChainError> {
    let chain = &state.node.chain;
    let mut results = Vec::new();
    let by_height = query.parse().ok().and_then(|height| chain.entry_at(height));
    let by_hash = query.parse::<BlockHash>().ok().and_then(|hash| chain.entry(&hash));
    if let Some(entry) = by_hash.or(by_height) {
        let id = entry.hash.to_string();
        results.push(SearchResult { kind: "block", href: format!("/api/v1/blocks/{id}"), id });
    }
    if let Ok(txid) = query.parse::<Txid>()
        && (state.node.mempool.get(&txid).is_some() || chain.transaction(&txid)?.is_some())
    {
        let id = txid.to_string();
        results.push(SearchResult { kind: "transaction", href: format!("/api/v1/transactions/{id}"), id });
    }
    Ok(results)
}
