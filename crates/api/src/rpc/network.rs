//! Methods of Core's category `network` that speak of connections.

use super::args::{Arg, Args, Kind, as_int};
use super::error::{RpcError, RpcResult, code, fail};
use super::peerinfo::{peer_to_value, services_hex, services_names};
use super::render::{object, satoshi};
use super::{Context, Method, help};
use bitcoin::p2p::ServiceFlags;
use cairn_node::Networking;
use cairn_p2p::address::{Net, NetAddress};
use cairn_p2p::engine::PROTOCOL_VERSION;
use cairn_p2p::net::{AddNodeError, PeerInfo, Stopped};
use cairn_p2p::types::PeerId;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks of peers that a median is made of at least, as with Core.
const MIN_TIME_OFFSETS: usize = 5;
/// Core's `MAX_UPLOAD_TIMEFRAME`, seconds.
const UPLOAD_TIMEFRAME: u32 = 24 * 60 * 60;

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "network",
        name: "getconnectioncount",
        args: &[],
        about: "Returns the number of connections to other nodes.",
        result: "n    (numeric) The connection count",
        differences: "",
        run: |context, _| {
            let summary = networking(context)?.handle.summary_blocking()?;
            Ok((summary.inbound + summary.outbound).into())
        },
    },
    Method {
        category: "network",
        name: "ping",
        args: &[],
        about: "Requests that a ping be sent to all other nodes, to measure ping time.\n\
                Results are provided in getpeerinfo.\n\
                Ping command is handled in queue with all other commands, so it measures processing backlog, not just network ping.",
        result: "null",
        differences: "",
        run: |context, _| {
            networking(context)?.handle.ping()?;
            Ok(Value::Null)
        },
    },
    Method {
        category: "network",
        name: "getpeerinfo",
        args: &[],
        about: "Returns data about each connected network peer as a json array of objects.",
        result: "[ { \"id\", \"addr\", \"addrbind\", \"addrlocal\", \"network\", \"services\", \"servicesnames\", \"relaytxes\", \
                 \"last_inv_sequence\", \"inv_to_send\", \"lastsend\", \"lastrecv\", \"last_transaction\", \"last_block\", \
                 \"bytessent\", \"bytesrecv\", \"conntime\", \"timeoffset\", \"pingtime\", \"minping\", \"pingwait\", \"version\", \
                 \"subver\", \"inbound\", \"bip152_hb_to\", \"bip152_hb_from\", \"presynced_headers\", \"synced_headers\", \
                 \"synced_blocks\", \"inflight\", \"addr_relay_enabled\", \"addr_processed\", \"addr_rate_limited\", \
                 \"permissions\", \"minfeefilter\", \"bytessent_per_msg\", \"bytesrecv_per_msg\", \"connection_type\", \
                 \"transport_protocol_type\", \"session_id\" } ]",
        differences: "there are no `permissions`; a peer is listed once its \
                      transport is settled, so that none is `detecting`",
        run: |context, _| {
            let peers = networking(context)?.handle.peers()?;
            Ok(Value::Array(peers.iter().map(peer_to_value).collect()))
        },
    },
    Method {
        category: "network",
        name: "addnode",
        args: &[
            Arg::required(
                "node",
                Kind::Str,
                "The IP address/hostname optionally followed by :port of the peer to connect to",
            ),
            Arg::required(
                "command",
                Kind::Str,
                "'add' to add a node to the list, 'remove' to remove a node from the list, 'onetry' to try a connection to the \
                 node once",
            ),
            Arg::optional(
                "v2transport",
                Kind::Bool,
                "set by p2p.no_v2",
                "Attempt to connect using BIP324 v2 transport protocol",
            ),
        ],
        about: "Attempts to add or remove a node from the addnode list.\nOr try a connection to a node once.",
        result: "null",
        differences: "1,000 nodes may be added, and connections to them are not limited further; peers given by `--connect` \
                      are on the list too",
        run: addnode,
    },
    Method {
        category: "network",
        name: "disconnectnode",
        args: &[
            Arg::optional("address", Kind::Str, "", "The IP address/port of the node"),
            Arg::optional("nodeid", Kind::Num, "", "The node ID (see getpeerinfo for node IDs)"),
        ],
        about: "Immediately disconnects from the specified peer node.\n\n\
                Strictly one out of 'address' and 'nodeid' can be provided to identify the node.\n\n\
                To disconnect by nodeid, either set 'address' to the empty string, or call using the named 'nodeid' argument only.",
        result: "null",
        differences: "",
        run: disconnectnode,
    },
    Method {
        category: "network",
        name: "getaddednodeinfo",
        args: &[Arg::optional(
            "node",
            Kind::Str,
            "",
            "If provided, return information about this specific node, otherwise all",
        )],
        about: "Returns information about the given added node, or all added nodes\n(note that onetry addnodes are not listed here)",
        result: "[ { \"addednode\", \"connected\", \"addresses\": [ { \"address\", \"connected\" } ] } ]",
        differences: "peers given by `--connect` are listed too; a node that only came to us is not shown as connected",
        run: getaddednodeinfo,
    },
    Method {
        category: "network",
        name: "getnettotals",
        args: &[],
        about: "Returns information about network traffic, including bytes in, bytes out,\nand current system time.",
        result: "{ \"totalbytesrecv\", \"totalbytessent\", \"timemillis\", \"uploadtarget\": { \"timeframe\", \"target\", \
                 \"target_reached\", \"serve_historical_blocks\", \"bytes_left_in_cycle\", \"time_left_in_cycle\" } }",
        differences: "there is no upload target",
        run: getnettotals,
    },
    Method {
        category: "network",
        name: "getnetworkinfo",
        args: &[],
        about: "Returns an object containing various state info regarding P2P networking.",
        result: "{ \"version\", \"subversion\", \"protocolversion\", \"localservices\", \"localservicesnames\", \"localrelay\", \
                 \"timeoffset\", \"networkactive\", \"connections\", \"connections_in\", \"connections_out\", \"networks\", \
                 \"relayfee\", \"incrementalfee\", \"localaddresses\", \"warnings\" }",
        differences: "`version` and `subversion` are Cairn's; there are no proxies, and `localaddresses` is empty",
        run: getnetworkinfo,
    },
    Method {
        category: "network",
        name: "setnetworkactive",
        args: &[Arg::required("state", Kind::Bool, "true to enable networking, false to disable")],
        about: "Disable/enable all p2p network activity.",
        result: "true|false    (boolean) The value that was passed in",
        differences: "",
        run: |context, args| {
            let network = networking(context)?;
            network.handle.set_active(args.bool_or(0, true)?)?;
            Ok(network.handle.is_active()?.into())
        },
    },
];

/// `CARGO_PKG_VERSION` as Core writes versions: 10000 × major + 100 × minor + patch.
fn client_version() -> u32 {
    let mut parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    10_000 * next() + 100 * next() + next()
}

impl From<Stopped> for RpcError {
    fn from(_: Stopped) -> Self {
        RpcError::new(code::CLIENT_P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled")
    }
}

/// The network, if the node takes part in it (Core's `EnsureConnman`).
pub(super) fn networking(context: &Context) -> Result<&Networking, RpcError> {
    context.node.networking().ok_or_else(|| Stopped.into())
}

fn addnode(context: &Context, args: &Args<'_>) -> RpcResult {
    let (node, command) = (args.str(0)?.to_owned(), args.str(1)?);
    if !["add", "remove", "onetry"].contains(&command) {
        return fail(code::MISC_ERROR, help::command_text("addnode"));
    }
    let network = networking(context)?;
    let v2 = args.bool_or(2, network.v2())?;
    if v2 && !network.v2() {
        return fail(code::INVALID_PARAMETER, "Error: v2transport requested but not enabled (see -v2transport)");
    }
    match command {
        "add" => network.handle.add_node(node, v2)?.map_err(|error| match error {
            AddNodeError::Already => RpcError::new(code::CLIENT_NODE_ALREADY_ADDED, "Error: Node already added"),
            AddNodeError::Full => RpcError::new(
                code::CLIENT_NODE_CAPACITY_REACHED,
                "Error: Already at capacity for specified connection type.",
            ),
        })?,
        "onetry" => network.handle.try_node(node, v2)?,
        _ => {
            if !network.handle.remove_node(node)? {
                let text = "Error: Node could not be removed. It has not been added previously.";
                return fail(code::CLIENT_NODE_NOT_ADDED, text);
            }
        }
    }
    Ok(Value::Null)
}

fn disconnectnode(context: &Context, args: &Args<'_>) -> RpcResult {
    let network = networking(context)?;
    let address = if args.get(0).is_null() { None } else { Some(args.str(0)?) };
    let id = if args.get(1).is_null() { None } else { Some(as_int::<i64>(args.get(1))?) };
    let found = match (address, id) {
        (Some(address), None) => network.handle.disconnect_named(address.to_owned())?,
        (None | Some(""), Some(id)) => match u64::try_from(id) {
            Ok(id) => network.handle.disconnect(PeerId(id))?,
            Err(_) => false,
        },
        _ => return fail(code::INVALID_PARAMS, "Only one of address and nodeid should be provided."),
    };
    match found {
        true => Ok(Value::Null),
        false => fail(code::CLIENT_NODE_NOT_CONNECTED, "Node not found in connected nodes"),
    }
}

fn getaddednodeinfo(context: &Context, args: &Args<'_>) -> RpcResult {
    let mut added = networking(context)?.handle.added_nodes()?;
    if !args.get(0).is_null() {
        let wanted = args.str(0)?;
        added.retain(|node| node.name == wanted);
        if added.is_empty() {
            return fail(code::CLIENT_NODE_NOT_ADDED, "Error: Node has not been added.");
        }
    }
    let shown = added.into_iter().map(|node| {
        let addresses: Vec<Value> = node
            .connected
            .iter()
            .map(|address| json!({"address": NetAddress::from(*address).to_string(), "connected": "outbound"}))
            .collect();
        let connected = node.connected.is_some();
        object([("addednode", node.name.into()), ("connected", connected.into()), ("addresses", addresses.into())])
            .into()
    });
    Ok(Value::Array(shown.collect()))
}

fn getnettotals(context: &Context, _: &Args<'_>) -> RpcResult {
    let totals = networking(context)?.handle.totals()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let target = object([
        ("timeframe", UPLOAD_TIMEFRAME.into()),
        ("target", 0.into()),
        ("target_reached", false.into()),
        ("serve_historical_blocks", true.into()),
        ("bytes_left_in_cycle", 0.into()),
        ("time_left_in_cycle", 0.into()),
    ]);
    Ok(object([
        ("totalbytesrecv", totals.received.into()),
        ("totalbytessent", totals.sent.into()),
        ("timemillis", u64::try_from(now.as_millis()).unwrap_or(u64::MAX).into()),
        ("uploadtarget", target.into()),
    ])
    .into())
}

/// Core's `TimeOffsets::Median`: of so few clocks nothing follows.
fn median_time_offset(peers: &[PeerInfo]) -> i64 {
    let outbound = peers.iter().filter(|peer| !peer.kind.is_inbound() && peer.version > 0);
    let mut offsets: Vec<i64> = outbound.map(|peer| peer.time_offset).collect();
    if offsets.len() < MIN_TIME_OFFSETS {
        return 0;
    }
    offsets.sort_unstable();
    offsets[offsets.len() / 2]
}

/// Core's `GetNetworksInfo`: others than IPv4 and IPv6 take a proxy.
fn networks() -> Value {
    let shown = Net::REACHABLE.iter().map(|net| {
        let reachable = matches!(net, Net::Ipv4 | Net::Ipv6);
        object([
            ("name", net.name().into()),
            ("limited", (!reachable).into()),
            ("reachable", reachable.into()),
            ("proxy", "".into()),
            ("proxy_randomize_credentials", false.into()),
        ])
        .into()
    });
    Value::Array(shown.collect())
}

fn getnetworkinfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let limits = context.node.mempool.config();
    let network = context.node.networking();
    let (summary, peers) = match network {
        Some(network) => (network.handle.summary_blocking()?, network.handle.peers()?),
        None => Default::default(),
    };
    let services = network.map_or(ServiceFlags::NONE, |network| network.services);
    let agent = network.map_or(concat!("/Cairn:", env!("CARGO_PKG_VERSION"), "/"), |network| &network.user_agent);
    Ok(object([
        ("version", client_version().into()),
        ("subversion", agent.into()),
        ("protocolversion", PROTOCOL_VERSION.into()),
        ("localservices", services_hex(services)),
        ("localservicesnames", services_names(services).into()),
        ("localrelay", true.into()),
        ("timeoffset", median_time_offset(&peers).into()),
        ("networkactive", summary.active.into()),
        ("connections", (summary.inbound + summary.outbound).into()),
        ("connections_in", summary.inbound.into()),
        ("connections_out", summary.outbound.into()),
        ("networks", networks()),
        ("relayfee", satoshi(limits.min_relay_fee_rate)),
        ("incrementalfee", satoshi(limits.incremental_fee_rate)),
        ("localaddresses", json!([])),
        ("warnings", json!([])),
    ])
    .into())
}
