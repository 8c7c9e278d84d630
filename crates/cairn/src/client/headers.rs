//! Block headers from a Bitcoin node or a Cairn server.

use super::http::{self, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hex::FromHex;
use cairn_stamp::verify::{BlockHeaders, HeaderAnswer};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The longest answer that is read, in bytes. A Cairn server lists a block's transactions beside its header.
const MAX_ANSWER: usize = 16 << 20;

/// Who is asked for headers.
#[derive(Debug)]
pub(crate) enum Source {
    /// A node that speaks Bitcoin Core's JSON-RPC.
    Node {
        /// Without user and password.
        url: String,
        /// `Basic …`, if there are a user and a password.
        authorization: Option<String>,
        timeout: Duration,
    },
    /// A Cairn server's REST interface.
    Server { url: String, timeout: Duration },
}

impl Source {
    /// The node at `http://USER:PASSWORD@HOST:PORT`, or with the cookie that it keeps in a file.
    ///
    /// # Errors
    /// One sentence that says what cannot be used.
    pub(crate) fn node(url: &str, cookie: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url} is no address of a node"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(format!("a node is asked over http or https, not {scheme}"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(percent_decoded(user)), host),
            None => (None, authority),
        };
        let user = match cookie {
            None => user,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the cookie file {} cannot be read: {error}", path.display()))?;
                Some(text.trim().as_bytes().to_vec())
            }
        };
        Ok(Self::Node {
            url: format!("{scheme}://{host}/{path}"),
            authorization: user.map(|user| format!("Basic {}", STANDARD.encode(user))),
            timeout,
        })
    }

    /// The Cairn server at `url`.
    pub(crate) fn server(url: &str, timeout: Duration) -> Self {
        Self::Server { url: url.trim_end_matches('/').to_owned(), timeout }
    }

    /// Its address, without secrets.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Node { url, .. } | Self::Server { url, .. } => url,
        }
    }

    /// The network that it says it is on: `main`, `test4`, `signet`, `regtest`.
    pub(crate) fn network(&self) -> Option<String> {
        let (answer, field) = match self {
            Self::Node { .. } => (self.call("getblockchaininfo", json!([])), "chain"),
            Self::Server { .. } => (self.get("/api/v1/blockchain"), "network"),
        };
        match answer {
            Ok(Some(value)) => {
                let name = value.get(field)?.as_str()?;
                let plain = name.len() <= 20 && name.bytes().all(|b| b.is_ascii_alphanumeric());
                plain.then(|| name.to_owned())
            }
            _ => None,
        }
    }

    /// A result, nothing where there is no such block, or why neither.
    fn call(&self, method: &str, params: Value) -> Result<Option<Value>, String> {
        let Self::Node { url, authorization, timeout } = self else { return Err("it is no node".into()) };
        let body = json!({"jsonrpc": "1.0", "id": "cairn", "method": method, "params": params}).to_string();
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        let answer = http::request(&Request {
            url,
            body: Some(body.as_bytes()),
            headers: &headers,
            timeout: *timeout,
            limit: MAX_ANSWER,
        })
        .map_err(|error| error.to_string())?;
        if matches!(answer.status, 401 | 403) {
            return Err(format!("it refuses the user or the password (status {})", answer.status));
        }
        let value: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| format!("its answer is no JSON-RPC (status {})", answer.status))?;
        match value.get("error") {
            // Core: "Block height out of range".
            Some(error) if error.get("code").and_then(Value::as_i64) == Some(-8) => Ok(None),
            Some(error) if !error.is_null() => {
                let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
                Err(format!(
                    "it answered: {}",
                    message.chars().filter(|c| !c.is_control()).take(160).collect::<String>()
                ))
            }
            _ => value.get("result").cloned().map(Some).ok_or_else(|| "its answer has no result".into()),
        }
    }

    /// As [`Source::call`], of a Cairn server.
    fn get(&self, path: &str) -> Result<Option<Value>, String> {
        let Self::Server { url, timeout } = self else { return Err("it is no Cairn server".into()) };
        let url = format!("{url}{path}");
        let headers = [("Accept", "application/json")];
        let answer =
            http::request(&Request { url: &url, body: None, headers: &headers, timeout: *timeout, limit: MAX_ANSWER })
                .map_err(|error| error.to_string())?;
        let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match (answer.status, value) {
            (200, Some(value)) => Ok(Some(value)),
            // RFC 9457: a problem document tells our 404 from that of any other server.
            (404, Some(problem)) if problem.get("status").and_then(Value::as_u64) == Some(404) => Ok(None),
            (200 | 404, _) => Err("it is no Cairn server".into()),
            (status, _) => Err(format!("it answered with status {status}")),
        }
    }

    fn find(&self, height: u64) -> Result<Option<Header>, String> {
        let (hash, hex) = match self {
            Self::Node { .. } => {
                let Some(hash) = self.call("getblockhash", json!([height]))? else { return Ok(None) };
                let header = self.call("getblockheader", json!([hash, false]))?;
                (hash, header.ok_or("it does not know the block that it named")?)
            }
            Self::Server { .. } => {
                let Some(block) = self.get(&format!("/api/v1/blocks/{height}"))? else { return Ok(None) };
                let field = |name: &str| block.get(name).cloned().unwrap_or_default();
                if field("height").as_u64() != Some(height) {
                    return Err("it answered with a block of another height".into());
                }
                (field("hash"), field("header"))
            }
        };
        let hash: BlockHash =
            hash.as_str().and_then(|hash| hash.parse().ok()).ok_or("its answer has no hash of the block")?;
        let bytes: [u8; Header::SIZE] =
            hex.as_str().and_then(|hex| FromHex::from_hex(hex).ok()).ok_or("its answer has no header of the block")?;
        let header: Header = bitcoin::consensus::deserialize(&bytes).map_err(|_| "its answer has no header")?;
        if header.block_hash() != hash {
            return Err("the header that it gave is not that of the block".into());
        }
        Ok(Some(header))
    }
}

impl BlockHeaders for Source {
    fn header(&mut self, height: u64) -> HeaderAnswer {
        // Heights beyond 31 bits are none to Core, which would answer that they are no numbers.
        if i32::try_from(height).is_err() {
            return HeaderAnswer::NoSuchBlock;
        }
        match self.find(height) {
            Ok(Some(header)) => HeaderAnswer::Found(header),
            Ok(None) => HeaderAnswer::NoSuchBlock,
            Err(reason) => HeaderAnswer::NoNode(reason),
        }
    }
}

/// RFC 3986: `%40` in a password is `@`.
fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
