//! Methods of Core's categories `network` and `util` that speak of addresses.

use super::args::{Arg, Args, Kind};
use super::error::RpcResult;
use super::render::{object, satoshi};
use super::script::{OutputType, solve};
use super::{Context, Method};
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, address::NetworkUnchecked};
use serde_json::{Value, json};

/// The protocol version that Core 31 speaks.
const PROTOCOL_VERSION: u32 = 70016;

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "network",
        name: "getconnectioncount",
        args: &[],
        about: "Returns the number of connections to other nodes.",
        result: "n    (numeric) The connection count",
        differences: "",
        run: |_, _| Ok(0.into()),
    },
    Method {
        category: "network",
        name: "getpeerinfo",
        args: &[],
        about: "Returns data about each connected network peer as a json array of objects.",
        result: "[]    (json array) One object a peer",
        differences: "",
        run: |_, _| Ok(json!([])),
    },
    Method {
        category: "network",
        name: "getnetworkinfo",
        args: &[],
        about: "Returns an object containing various state info regarding P2P networking.",
        result: "{ \"version\", \"subversion\", \"protocolversion\", \"localservices\", \"localservicesnames\", \"localrelay\", \
                 \"timeoffset\", \"networkactive\", \"connections\", \"connections_in\", \"connections_out\", \"networks\", \
                 \"relayfee\", \"incrementalfee\", \"localaddresses\", \"warnings\" }",
        differences: "`version` and `subversion` are Cairn's; `networks` is empty and `networkactive` false while a node \
                      has no peer-to-peer listener",
        run: getnetworkinfo,
    },
    Method {
        category: "util",
        name: "validateaddress",
        args: &[Arg::required("address", Kind::Str, "The bitcoin address to validate")],
        about: "Return information about the given bitcoin address.",
        result: "{ \"isvalid\", \"address\", \"scriptPubKey\", \"isscript\", \"iswitness\", \"witness_version\", \
                 \"witness_program\", \"error\", \"error_locations\" }",
        differences: "`error_locations` is always empty, and `error` says less",
        run: validateaddress,
    },
];

/// `CARGO_PKG_VERSION` as Core writes versions: 10000 × major + 100 × minor + patch.
fn client_version() -> u32 {
    let mut parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    10_000 * next() + 100 * next() + next()
}

fn getnetworkinfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let limits = context.node.mempool.config();
    Ok(object([
        ("version", client_version().into()),
        ("subversion", concat!("/Cairn:", env!("CARGO_PKG_VERSION"), "/").into()),
        ("protocolversion", PROTOCOL_VERSION.into()),
        ("localservices", "0000000000000000".into()),
        ("localservicesnames", json!([])),
        ("localrelay", true.into()),
        ("timeoffset", 0.into()),
        ("networkactive", false.into()),
        ("connections", 0.into()),
        ("connections_in", 0.into()),
        ("connections_out", 0.into()),
        ("networks", json!([])),
        ("relayfee", satoshi(limits.min_relay_fee_rate)),
        ("incrementalfee", satoshi(limits.incremental_fee_rate)),
        ("localaddresses", json!([])),
        ("warnings", json!([])),
    ])
    .into())
}

/// An address of this network, or why it is none.
pub(crate) fn decode_address(text: &str, network: bitcoin::Network) -> Result<Address, String> {
    let address: Address<NetworkUnchecked> =
        text.parse().map_err(|error| format!("Invalid or unsupported Segwit (Bech32) or Base58 encoding: {error}"))?;
    address
        .require_network(network)
        .map_err(|_| "Invalid or unsupported prefix: the address is of another network".to_owned())
}

fn validateaddress(context: &Context, args: &Args<'_>) -> RpcResult {
    let address = match decode_address(args.str(0)?, context.network) {
        Ok(address) => address,
        Err(error) => return Ok(json!({"isvalid": false, "error_locations": [], "error": error})),
    };
    let script = address.script_pubkey();
    let kind = solve(&script);
    let mut out = object([
        ("isvalid", true.into()),
        ("address", address.to_string().into()),
        ("scriptPubKey", script.to_hex_string().into()),
    ]);
    // Core's DescribeAddress: which fields a type has.
    let is_script = match kind {
        OutputType::PubKeyHash | OutputType::WitnessV0KeyHash => Some(false),
        OutputType::WitnessUnknown => None,
        _ => Some(true),
    };
    if let Some(is_script) = is_script {
        out.insert("isscript".into(), is_script.into());
    }
    let program = address.witness_program();
    out.insert("iswitness".into(), program.is_some().into());
    if let Some(program) = program.filter(|_| kind != OutputType::Anchor) {
        out.insert("witness_version".into(), program.version().to_num().into());
        out.insert("witness_program".into(), program.program().as_bytes().to_lower_hex_string().into());
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
#[path = "key_io_tests.rs"]
mod key_io_tests;
