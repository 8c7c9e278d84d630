//! What an operator may set of the API. Unknown keys are errors.

use crate::keys::{KeyError, check_exposure};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of the HTTP and JSON-RPC servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Key of the admin routes, in `X-API-Key`. The binary fills in a generated one when it is not set.
    pub admin_key: Option<String>,
    /// Key of the wallet routes. The binary fills in a generated one when it is not set.
    pub wallet_key: Option<String>,
    /// User of JSON-RPC besides the cookie's; needs a password.
    pub rpc_user: Option<String>,
    /// Password of JSON-RPC.
    pub rpc_password: Option<String>,
    /// JSON-RPC calls that run at once (Core's `-rpcthreads`).
    pub rpc_threads: usize,
    /// JSON-RPC calls that may wait (Core's `-rpcworkqueue`).
    pub rpc_work_queue: usize,
    /// Longest body of a JSON request, bytes.
    pub max_body_bytes: usize,
    /// Digests in one bulk request.
    pub max_bulk_digests: usize,
    /// Longest input of a hash, bytes. It lies in the database until it is computed.
    pub max_hash_input_bytes: usize,
    /// Seconds until a request that is neither a stream nor an upload is given up.
    pub request_timeout_seconds: u64,
    /// Seconds without a byte until an upload is given up.
    pub upload_idle_seconds: u64,
    /// Seconds that open requests have left once the server stops.
    pub drain_seconds: u64,
    /// Clients of the event stream at once.
    pub max_event_clients: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        ApiConfig {
            admin_key: None,
            wallet_key: None,
            rpc_user: None,
            rpc_password: None,
            rpc_threads: 16,
            rpc_work_queue: 64,
            // 65,536 digests of 64 hex digits with quotes and comma are 4.4 MB.
            max_body_bytes: 8 * 1024 * 1024,
            max_bulk_digests: 65_536,
            max_hash_input_bytes: 16 * 1024 * 1024,
            request_timeout_seconds: 30,
            upload_idle_seconds: 60,
            drain_seconds: 10,
            max_event_clients: 1024,
        }
    }
}

impl ApiConfig {
    /// Refuses keys that a document prints where others than this machine can reach `address`.
    ///
    /// # Errors
    /// Which key it is.
    pub fn check_exposure(&self, address: SocketAddr) -> Result<(), KeyError> {
        for (name, key) in [("the admin key", &self.admin_key), ("the wallet key", &self.wallet_key)] {
            if let Some(key) = key {
                check_exposure(address, name, key)?;
            }
        }
        Ok(())
    }

    /// How long open requests have once the server stops.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// How long an ordinary request may take.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }

    /// How long an upload may be silent.
    pub fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_seconds)
    }
}
