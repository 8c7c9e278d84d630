//! Bitcoin Core's JSON-RPC (the version whose source `libbitcoinkernel-sys` vendors): its methods, fields, error codes
//! and texts.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | HTTP, authentication, the three dialects of JSON-RPC, the bounded work queue |
//! | [`auth`] | the cookie file and Basic authentication |
//! | [`args`], [`error`] | arguments, and errors with Core's codes |
//! | [`help`] | `help` and `docs/rpc.md`, both made from the table |
//! | `blockchain`, `maintenance`, `mempool`, `rawtransaction`, `mining`, `template`, `network`, `addresses`, `control`, `txoutset`, `indexes`, `submit`, `upkeep` | the methods |
//! | `render`, `peerinfo`, `asm`, `script`, `descriptor` | blocks, transactions, peers, scripts and descriptors as Core shows them |
//!
//! One table, [`methods`], drives dispatch, `help` and the document.

mod addresses;
pub mod args;
mod asm;
pub mod auth;
mod blockchain;
mod control;
mod descriptor;
pub mod error;
pub mod help;
mod indexes;
mod maintenance;
mod mempool;
mod mining;
mod network;
mod peerinfo;
mod rawtransaction;
mod render;
mod script;
pub mod server;
mod submit;
mod template;
mod txoutset;
mod upkeep;
mod validateaddress;

use args::{Arg, Args};
use cairn_node::Node;
use error::{RpcError, RpcResult, code};
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(crate) use blockchain::chain_name;
pub(crate) use peerinfo::services_names;
pub(crate) use render::{bits_hex, difficulty};
pub(crate) use validateaddress::decode_address;

/// What the methods work on.
pub struct Context {
    /// The node.
    pub node: Arc<Node>,
    /// Its network, for addresses.
    pub network: bitcoin::Network,
    /// Cancelled by `stop`: asks the whole process to stop.
    pub stop: CancellationToken,
    /// Cancelled when this server closes, so that nobody waits on.
    pub closing: CancellationToken,
    /// Where a long poll waits.
    pub runtime: tokio::runtime::Handle,
    /// The last block template, reused while it is fresh.
    pub(crate) template: template::TemplateCache,
    /// The calls that are being served.
    pub(crate) active: control::ActiveCalls,
}

impl Context {
    /// A context on a node. Must be called within a Tokio runtime.
    pub fn new(node: Arc<Node>, stop: CancellationToken, closing: CancellationToken) -> Context {
        let network = node.chain.params().network;
        Context {
            node,
            network,
            stop,
            closing,
            runtime: tokio::runtime::Handle::current(),
            template: template::TemplateCache::default(),
            active: control::ActiveCalls::default(),
        }
    }
}

/// One method.
pub struct Method {
    /// Core's category.
    pub category: &'static str,
    /// Name.
    pub name: &'static str,
    /// Arguments by position.
    pub args: &'static [Arg],
    /// What it does.
    pub about: &'static str,
    /// What it returns.
    pub result: &'static str,
    /// How it differs from Core 31; empty when it does not.
    pub differences: &'static str,
    /// Does it. May block.
    pub run: fn(&Context, &Args<'_>) -> RpcResult,
}

/// Every method, by category as Core registers them.
pub fn methods() -> impl Iterator<Item = &'static Method> {
    [
        addresses::METHODS,
        blockchain::METHODS,
        control::METHODS,
        indexes::METHODS,
        maintenance::METHODS,
        mempool::METHODS,
        mining::METHODS,
        network::METHODS,
        rawtransaction::METHODS,
        submit::METHODS,
        txoutset::METHODS,
        upkeep::METHODS,
        validateaddress::METHODS,
    ]
    .into_iter()
    .flatten()
}

/// Runs one call: finds the method, brings the arguments into order, checks their number and types.
pub fn execute(context: &Context, name: &str, params: Value) -> RpcResult {
    let Some(method) = methods().find(|method| method.name == name) else {
        return error::fail(code::METHOD_NOT_FOUND, "Method not found");
    };
    let params = match params {
        Value::Array(params) => params,
        Value::Object(named) => args::positional(method.args, named)?,
        _ => Vec::new(),
    };
    if !args::count_is_valid(method.args, params.len()) {
        return Err(RpcError::new(code::MISC_ERROR, help::method_text(method)));
    }
    args::check_types(method.args, &params)?;
    let _active = context.active.enter(method.name);
    (method.run)(context, &Args(&params))
}
