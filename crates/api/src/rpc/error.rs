//! JSON-RPC errors: Core's codes (`rpc/protocol.h`) and the error object.

use serde_json::{Value, json};

/// Core's `RPCErrorCode`, those that this server uses.
pub mod code {
    #![allow(missing_docs, reason = "the names are Core's own and say what they are")]
    pub const INVALID_REQUEST: i32 = -32600;
    pub const METHOD_NOT_FOUND: i32 = -32601;
    pub const INVALID_PARAMS: i32 = -32602;
    pub const INTERNAL_ERROR: i32 = -32603;
    pub const PARSE_ERROR: i32 = -32700;
    pub const MISC_ERROR: i32 = -1;
    pub const TYPE_ERROR: i32 = -3;
    pub const INVALID_ADDRESS_OR_KEY: i32 = -5;
    pub const INVALID_PARAMETER: i32 = -8;
    pub const CLIENT_NOT_CONNECTED: i32 = -9;
    pub const CLIENT_IN_INITIAL_DOWNLOAD: i32 = -10;
    pub const DATABASE_ERROR: i32 = -20;
    pub const DESERIALIZATION_ERROR: i32 = -22;
    pub const VERIFY_ERROR: i32 = -25;
    pub const VERIFY_REJECTED: i32 = -26;
    pub const VERIFY_ALREADY_IN_UTXO_SET: i32 = -27;
    pub const CLIENT_NODE_ALREADY_ADDED: i32 = -23;
    pub const CLIENT_NODE_NOT_ADDED: i32 = -24;
    pub const CLIENT_NODE_NOT_CONNECTED: i32 = -29;
    pub const CLIENT_INVALID_IP_OR_SUBNET: i32 = -30;
    pub const CLIENT_P2P_DISABLED: i32 = -31;
    pub const CLIENT_NODE_CAPACITY_REACHED: i32 = -34;
}

/// One JSON-RPC error: Core's code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// One of [`code`].
    pub code: i32,
    /// Core's text where Core has one.
    pub message: String,
}

impl RpcError {
    /// An error with a code and a text.
    pub fn new(code: i32, message: impl Into<String>) -> RpcError {
        RpcError { code, message: message.into() }
    }

    /// The error object of a reply.
    pub fn to_value(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

/// What a method returns.
pub type RpcResult = Result<Value, RpcError>;

/// Shorthand for `Err(RpcError::new(..))`.
pub(crate) fn fail<T>(code: i32, message: impl Into<String>) -> Result<T, RpcError> {
    Err(RpcError::new(code, message))
}
