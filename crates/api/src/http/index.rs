//! `GET /`: what this calendar is doing, for people and, asked for `application/json` exactly, for programs; as the
//! reference calendar server does.

use super::problem::Problem;
use crate::rpc::chain_name;
use crate::state::AppState;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The page may be kept for five seconds, and depends on what was asked for.
const HEADERS: [(HeaderName, &str); 2] = [(header::CACHE_CONTROL, "public, max-age=5"), (header::VARY, "Accept")];

/// The page or the numbers.
pub(crate) async fn index(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let stats = state.services.calendar.stats().await?;
    let chain = &state.node.chain;
    let tip = chain.tip();
    let network = chain_name(chain.params().network);
    let version = env!("CARGO_PKG_VERSION");
    if headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json") {
        let numbers = json!({
            "version": version,
            "network": network,
            "best_block": tip.hash.to_string(),
            "block_height": tip.height,
            "pending_digests": stats.pending,
            "oldest_pending_seconds": stats.oldest_pending_seconds,
        });
        return Ok((HEADERS, axum::Json(numbers)).into_response());
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Cairn</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}\
         td{{padding:.1em 1em .1em 0;vertical-align:top}}td:first-child{{white-space:nowrap}}code{{word-break:break-all}}</style>\n</head>\n<body>\n<h1>Cairn</h1>\n\
         <p>A chain of blocks, and an OpenTimestamps calendar on it.</p>\n<table>\n\
         <tr><td>Version</td><td>{version}</td></tr>\n<tr><td>Network</td><td>{network}</td></tr>\n\
         <tr><td>Blocks</td><td>{height}</td></tr>\n<tr><td>Best block</td><td><code>{hash}</code></td></tr>\n\
         <tr><td>Pending digests</td><td>{pending}</td></tr>\n</table>\n\
         <p><a href=\"/api/docs\">API</a> · <a href=\"/api/health\">Health</a> · <a href=\"/metrics\">Metrics</a></p>\n\
         </body>\n</html>\n",
        height = tip.height,
        hash = tip.hash,
        pending = stats.pending,
    );
    Ok((HEADERS, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
