//! `validateaddress`, and addresses as text.

use super::args::{Arg, Args, Kind};
use super::error::RpcResult;
use super::render::object;
use super::script::{OutputType, solve};
use super::{Context, Method};
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, address::NetworkUnchecked};
use serde_json::{Value, json};

pub(super) const METHODS: &[Method] = &[Method {
    category: "util",
    name: "validateaddress",
    args: &[Arg::required("address", Kind::Str, "The bitcoin address to validate")],
    about: "Return information about the given bitcoin address.",
    result: "{ \"isvalid\", \"address\", \"scriptPubKey\", \"isscript\", \"iswitness\", \"witness_version\", \
                 \"witness_program\", \"error\", \"error_locations\" }",
    differences: "`error_locations` is always empty, and `error` says less",
    run: validateaddress,
}];

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
