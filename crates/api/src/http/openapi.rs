//! The OpenAPI document and its page; both are part of the binary and need no network.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::get;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the document is.
const DOCUMENT: &str = "/api/openapi.json";

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cairn",
        description = "A proof-of-work chain and timestamping on it. Errors are RFC 9457 problem documents; amounts are in \
                       satoshi; times are seconds since 1970. The calendar's routes speak the OpenTimestamps calendar \
                       protocol, JSON-RPC has a port of its own."
    ),
    modifiers(&Keys),
    tags(
        (name = "health", description = "Does it live, and may traffic come?"),
        (name = "chain", description = "Blocks, transactions, the mempool, events"),
        (name = "network", description = "Peers; adding and letting go needs the admin key"),
        (name = "calendar", description = "The OpenTimestamps calendar protocol"),
        (name = "stamps", description = "Stamping files, texts and digests, and verifying proofs"),
        (name = "hash", description = "Hashes as tasks: asked for, waited for, listed"),
        (name = "wallet", description = "Balances, addresses and payments; needs the wallet key"),
        (name = "mining", description = "Making blocks; needs the admin key"),
    )
)]
pub(crate) struct Frame;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut Document) {
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        document.components.get_or_insert_default().add_security_scheme("api_key", key);
    }
}

/// The document's and the page's routes.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(document: Document) -> Router<S> {
    let page = SwaggerUi::new("/api/docs").config(Config::from(DOCUMENT));
    let json = Bytes::from(document.to_json().expect("the document holds nothing that JSON cannot"));
    let serve = move || async move { ([(header::CONTENT_TYPE, "application/json")], json) };
    Router::new().route(DOCUMENT, get(serve)).merge(Router::from(page))
}
