//! Peers: shown to everybody, added and let go by holders of the admin key.

use super::auth::Admin;
use super::problem::{ApiJson, ApiPath, Problem};
use super::{Page, blocking};
use crate::rpc::services_names;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cairn_node::Networking;
use cairn_p2p::address::NetAddress;
use cairn_p2p::net::{AddNodeError, Handle, PeerInfo, Stopped, check_name};
use cairn_p2p::types::{PeerId, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A peer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeerView {
    /// Its number, of this process.
    id: u64,
    /// Host and port.
    address: String,
    /// As it was named when it was asked for; none for others.
    name: Option<String>,
    /// `inbound` or `outbound`.
    direction: &'static str,
    /// Why there is a connection: `inbound`, `manual`, `outbound-full-relay`, `block-relay-only`, `feeler` or `addr-fetch`.
    connection_type: &'static str,
    /// `v1`, or `v2` where it is encrypted (BIP 324).
    transport: &'static str,
    /// The version of the protocol that it speaks; 0 until it said.
    protocol_version: u32,
    /// What it says that it is.
    user_agent: String,
    /// What it offers.
    services: Vec<String>,
    /// When the connection was made, seconds since 1970.
    connected_at: u64,
    /// Bytes received from it.
    bytes_received: u64,
    /// Bytes sent to it.
    bytes_sent: u64,
    /// Time of its last answer to a ping, seconds.
    ping_seconds: Option<f64>,
    /// Its clock less ours, seconds.
    time_offset_seconds: i64,
    /// Height of the last header that it has in common with us.
    synced_headers: Option<u32>,
    /// Height of the last block that it has in common with us.
    synced_blocks: Option<u32>,
    /// Heights of the blocks that are being fetched from it.
    blocks_in_flight: Vec<u32>,
}

impl From<&PeerInfo> for PeerView {
    fn from(peer: &PeerInfo) -> Self {
        PeerView {
            id: peer.id.0,
            address: NetAddress::from(peer.address).to_string(),
            name: peer.name.clone(),
            direction: if peer.kind.is_inbound() { "inbound" } else { "outbound" },
            connection_type: peer.kind.name(),
            transport: peer.transport.version.name(),
            protocol_version: peer.version,
            user_agent: peer.user_agent.clone(),
            services: services_names(peer.services),
            connected_at: peer.connected.as_secs(),
            bytes_received: peer.bytes_received,
            bytes_sent: peer.bytes_sent,
            ping_seconds: peer.ping.as_ref().map(Time::as_secs_f64),
            time_offset_seconds: peer.time_offset,
            synced_headers: peer.synced_headers,
            synced_blocks: peer.synced_blocks,
            blocks_in_flight: peer.in_flight.clone(),
        }
    }
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Problem::unavailable("this node takes no part in the network now")
    }
}

/// Asks the network on a thread that may block.
async fn ask<T: Send + 'static>(
    state: &AppState,
    question: impl FnOnce(&Networking) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    blocking(state, move |state| question(state.node.networking().ok_or(Stopped)?)).await?
}

/// The nodes that this one is connected to, in the order of their connections.
#[utoipa::path(
    get, path = "/api/v1/peers", tag = "network",
    responses(
        (status = 200, body = Page<PeerView>),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn peers(State(state): State<AppState>) -> Result<Json<Page<PeerView>>, Problem> {
    if state.node.networking().is_none() {
        return Ok(Json(Page { items: Vec::new(), next_cursor: None }));
    }
    let peers = ask(&state, |network| Ok(network.handle.peers()?)).await?;
    Ok(Json(Page { items: peers.iter().map(PeerView::from).collect(), next_cursor: None }))
}

/// A peer to be connected with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPeer {
    /// `host` or `host:port`; an IPv6 address with a port in brackets.
    address: String,
}

/// A peer that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddedPeer {
    /// As it was named.
    address: String,
}

/// Connect with a node, again and again until it is let go, as JSON-RPC's `addnode … add`.
#[utoipa::path(
    post, path = "/api/v1/peers", tag = "network", security(("api_key" = [])), request_body = AddPeer,
    responses(
        (status = 202, body = AddedPeer, description = "It is being connected to"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn add(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(AddPeer { address }): ApiJson<AddPeer>,
) -> Result<(StatusCode, Json<AddedPeer>), Problem> {
    check_name(&address).map_err(|why| Problem::unprocessable(format!("address {address:?}: {why}")))?;
    let name = address.clone();
    let added = ask(&state, move |network| Ok(network.handle.add_node(name, network.v2())?)).await?;
    match added {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(AddedPeer { address }))),
        Err(AddNodeError::Already) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("{address} was asked for before")))
        }
        Err(AddNodeError::Full) => Err(Problem::unavailable("no more peers can be added: let some go first")),
    }
}

/// Let a peer go, and connect with it no more.
#[utoipa::path(
    delete, path = "/api/v1/peers/{id}", tag = "network", security(("api_key" = [])),
    params(("id" = String, Path, description = "Its number, its address, or the name that it was asked for by")),
    responses(
        (status = 204, description = "It is let go"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    _: Admin,
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, Problem> {
    let which = id.clone();
    match ask(&state, move |network| Ok(let_go(&network.handle, &which)?)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("no peer {id} is connected or asked for"))),
    }
}

/// Whether there was one such.
fn let_go(network: &Handle, which: &str) -> Result<bool, Stopped> {
    let number = which.parse().ok().map(PeerId);
    let is_it = |peer: &&PeerInfo| {
        Some(peer.id) == number
            || peer.name.as_deref() == Some(which)
            || NetAddress::from(peer.address).to_string() == which
    };
    let peers = network.peers()?;
    // First from the list: it would be connected to again.
    let mut found = network.remove_node(which.to_owned())?;
    for peer in peers.iter().filter(is_it) {
        if let Some(name) = &peer.name {
            network.remove_node(name.clone())?;
        }
        found |= network.disconnect(peer.id)?;
    }
    Ok(found)
}
