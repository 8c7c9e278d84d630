//! Who the client is, and what backends are told about it.
//!
//! `X-Forwarded-For` is believed only as far as it was written by proxies that the operator trusts: from the right, the first
//! address that is not a trusted proxy's is the client's. What an untrusted client sends of these fields is dropped.

use crate::connection::Client;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use pingora_http::RequestHeader;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Fields that speak of the client besides those above: only a trusted proxy may send them.
const HEARSAY: [&str; 6] =
    ["x-real-ip", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server", "x-client-ip", "true-client-ip"];
/// Longest `X-Forwarded-For` and `Forwarded` that is passed on, bytes.
const MAX_FORWARDED: usize = 2048;

pub(crate) fn is_trusted(ip: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&ip))
}

/// The address in an element of `X-Forwarded-For`; some proxies add a port.
fn address(element: &str) -> Option<IpAddr> {
    let element = element.trim();
    let ip = element.parse().ok().or_else(|| element.parse().ok().map(|address: SocketAddr| address.ip()));
    ip.or_else(|| element.strip_prefix('[')?.strip_suffix(']')?.parse().ok()).map(|ip: IpAddr| ip.to_canonical())
}

/// The client's address.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if proxies.is_empty() || !is_trusted(peer, proxies) {
        return peer;
    }
    let mut client = peer;
    let fields: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    for field in fields.iter().rev() {
        let Ok(text) = field.to_str() else { return client };
        for element in text.rsplit(',') {
            // What is no address tells nothing, and neither does what stands before it.
            let Some(ip) = address(element) else { return client };
            client = ip;
            if !is_trusted(ip, proxies) {
                return client;
            }
        }
    }
    client
}

/// Writes what a backend is to know of the client into its request.
pub(crate) fn rewrite(request: &mut RequestHeader, client: &Client, proxies: &[IpNet]) -> pingora_core::Result<()> {
    let peer = client.ip();
    let trusted = !proxies.is_empty() && is_trusted(peer, proxies);
    if trusted {
        let list = joined(&request.headers, &X_FORWARDED_FOR).unwrap_or_default();
        let separator = if list.is_empty() { "" } else { ", " };
        request.insert_header(X_FORWARDED_FOR, format!("{list}{separator}{peer}"))?;
        if let Some(mut list) = joined(&request.headers, &header::FORWARDED) {
            // RFC 7239: an IPv6 address is in brackets and quotes.
            let _ = match peer {
                IpAddr::V4(ip) => write!(list, ", for={ip}"),
                IpAddr::V6(ip) => write!(list, ", for=\"[{ip}]\""),
            };
            request.insert_header(header::FORWARDED, list)?;
        }
    } else {
        request.insert_header(X_FORWARDED_FOR, peer.to_string())?;
        request.remove_header(&header::FORWARDED);
        for name in HEARSAY {
            request.remove_header(name);
        }
    }
    if !trusted || !request.headers.contains_key(X_FORWARDED_PROTO) {
        request
            .insert_header(X_FORWARDED_PROTO, HeaderValue::from_static(if client.tls { "https" } else { "http" }))?;
    }
    if !trusted || !request.headers.contains_key(X_FORWARDED_HOST) {
        match request.headers.get(header::HOST).cloned() {
            Some(host) => request.insert_header(X_FORWARDED_HOST, host)?,
            None => drop(request.remove_header(&X_FORWARDED_HOST)),
        }
    }
    Ok(())
}

/// All fields of a name as one list; none where there is none or it is too long to be meant well.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let fields: Option<Vec<_>> = headers.get_all(name).iter().map(|field| field.to_str().ok()).collect();
    fields
        .filter(|fields| !fields.is_empty())
        .map(|fields| fields.join(", "))
        .filter(|list| list.len() <= MAX_FORWARDED)
}

/// The request's own id, where it is one that may stand in a log; a fresh one otherwise.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sound = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=128).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    headers.get(X_REQUEST_ID).filter(sound).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", rand::random::<u128>());
        HeaderValue::from_str(&id).expect("hexadecimal digits are a field's value")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().expect("a network")).collect()
    }

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).expect("a request");
        for (name, value) in fields {
            request.append_header(*name, *value).expect("a field");
        }
        request
    }

    fn client(peer: &str, fields: &[&str], proxies: &[&str]) -> String {
        let fields: Vec<_> = fields.iter().map(|value| ("x-forwarded-for", *value)).collect();
        client_ip(peer.parse().expect("an address"), &request(&fields).headers, &networks(proxies)).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_from_the_right() {
        let proxies = ["10.0.0.0/8", "::1/128"];
        assert_eq!(client("192.0.2.1", &["203.0.113.7"], &proxies), "192.0.2.1", "not a proxy");
        assert_eq!(client("10.0.0.1", &["203.0.113.7"], &[]), "10.0.0.1", "none is trusted");
        assert_eq!(client("10.0.0.1", &["203.0.113.7"], &proxies), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 203.0.113.7, 10.0.0.2"], &proxies), "203.0.113.7");
        assert_eq!(
            client("10.0.0.1", &["1.2.3.4", "203.0.113.7"], &proxies),
            "203.0.113.7",
            "the last field is the nearest"
        );
        assert_eq!(client("10.0.0.1", &["203.0.113.7:4711"], &proxies), "203.0.113.7");
        assert_eq!(client("::1", &["[2001:db8::1]:4711"], &proxies), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["203.0.113.7, unknown"], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &proxies), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
    }

    #[test]
    fn a_client_cannot_speak_for_a_proxy() {
        let lies = [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "elsewhere"),
            ("x-real-ip", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7"),
            ("host", "here"),
        ];
        let peer = Client::new("192.0.2.1:1".parse().expect("an address"), false);
        let mut untrusted = request(&lies);
        rewrite(&mut untrusted, &peer, &networks(&["10.0.0.0/8"])).expect("rewritten");
        let field = |request: &RequestHeader, name: &str| {
            request.headers.get(name).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(field(&untrusted, "x-forwarded-for").as_deref(), Some("192.0.2.1"));
        assert_eq!(field(&untrusted, "x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(field(&untrusted, "x-forwarded-host").as_deref(), Some("here"));
        assert_eq!((field(&untrusted, "x-real-ip"), field(&untrusted, "forwarded")), (None, None));
        let mut trusted = request(&lies);
        rewrite(&mut trusted, &peer, &networks(&["192.0.2.0/24"])).expect("rewritten");
        assert_eq!(field(&trusted, "x-forwarded-for").as_deref(), Some("203.0.113.7, 192.0.2.1"));
        assert_eq!(field(&trusted, "x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(field(&trusted, "x-forwarded-host").as_deref(), Some("elsewhere"));
        assert_eq!(field(&trusted, "forwarded").as_deref(), Some("for=203.0.113.7, for=192.0.2.1"));
    }

    #[test]
    fn a_sound_request_id_is_kept_and_another_replaced() {
        let id =
            |value: &str| request_id(&request(&[("x-request-id", value)]).headers).to_str().expect("text").to_owned();
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id("a b").len(), 32);
        assert_eq!(id(&"x".repeat(129)).len(), 32);
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
