//! Calendars, and which of them may be asked.

use super::http::{self, HttpError, Request};
use bitcoin::hex::DisplayHex;
use cairn_stamp::ots::{Attestation, DecodeError, OtsError, Timestamp};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How much of a calendar's answer is read, as by every other client.
const MAX_ANSWER: usize = 10_000;

/// What the public calendars write into proofs.
const PUBLIC: [&str; 3] = [
    "https://*.calendar.opentimestamps.org",
    "https://*.calendar.eternitywall.com",
    "https://*.calendar.catallaxy.com",
];

/// Why a calendar gave no timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CalendarError {
    /// It has none yet, and this is what it says about it.
    NotYet(String),
    /// It refused, with this status and text.
    Refused(u16, String),
    /// It gave no answer.
    Http(HttpError),
    /// Its answer is no timestamp.
    Malformed(DecodeError),
}

impl fmt::Display for CalendarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet(text) => f.write_str(text),
            Self::Refused(status, text) => write!(f, "it refused with status {status}: {text}"),
            Self::Http(error) => write!(f, "{error}"),
            Self::Malformed(error) => write!(f, "its answer is no timestamp: {error}"),
        }
    }
}

fn ask(url: &str, body: Option<&[u8]>, message: &[u8], timeout: Duration) -> Result<Timestamp, CalendarError> {
    let headers: &[(&str, &str)] = match body {
        None => &[("Accept", "application/vnd.opentimestamps.v1")],
        // What other clients send, and what calendars behind strict proxies are used to.
        Some(_) => {
            &[("Accept", "application/vnd.opentimestamps.v1"), ("Content-Type", "application/x-www-form-urlencoded")]
        }
    };
    let answer =
        http::request(&Request { url, body, headers, timeout, limit: MAX_ANSWER }).map_err(CalendarError::Http)?;
    match answer.status {
        200 => Timestamp::from_bytes(message, &answer.body).map_err(CalendarError::Malformed),
        404 if body.is_none() => Err(CalendarError::NotYet(answer.text())),
        status => Err(CalendarError::Refused(status, answer.text())),
    }
}

/// Gives a digest to a calendar: `POST /digest`.
pub(crate) fn submit(calendar: &str, digest: &[u8], timeout: Duration) -> Result<Timestamp, CalendarError> {
    ask(&format!("{}/digest", calendar.trim_end_matches('/')), Some(digest), digest, timeout)
}

/// Asks a calendar for more on a commitment: `GET /timestamp/{commitment}`.
pub(crate) fn timestamp(calendar: &str, commitment: &[u8], timeout: Duration) -> Result<Timestamp, CalendarError> {
    let url = format!("{}/timestamp/{}", calendar.trim_end_matches('/'), commitment.as_hex());
    ask(&url, None, commitment, timeout)
}

/// The calendars that may be asked. A proof comes from anywhere: what it names is not asked unless it is here.
#[derive(Debug, Clone)]
pub(crate) struct Allowed(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    scheme: String,
    /// May hold `*` for any characters.
    authority: String,
    path: String,
}

impl Allowed {
    /// The public calendars, the server, and those given besides.
    pub(crate) fn new(server: &str, given: &[String]) -> Self {
        let mut allowed = Self(Vec::new());
        PUBLIC.iter().copied().chain([server]).chain(given.iter().map(String::as_str)).for_each(|url| allowed.add(url));
        allowed
    }

    /// Allows an address; without a scheme, by either.
    fn add(&mut self, url: &str) {
        match split(url) {
            Some((scheme, authority, path)) => self.0.push(Pattern { scheme, authority, path }),
            None => ["http", "https"].iter().for_each(|scheme| {
                if let Some((scheme, authority, path)) = split(&format!("{scheme}://{url}")) {
                    self.0.push(Pattern { scheme, authority, path });
                }
            }),
        }
    }

    /// Whether the calendar at an address may be asked.
    pub(crate) fn contains(&self, url: &str) -> bool {
        let Some((scheme, authority, path)) = split(url) else { return false };
        self.0
            .iter()
            .any(|pattern| pattern.scheme == scheme && pattern.path == path && matches(&pattern.authority, &authority))
    }
}

/// Scheme, authority in lower case, and path without the slash at its end.
fn split(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let usable = (scheme == "http" || scheme == "https") && !authority.is_empty() && !url.contains(['?', '#', '@']);
    usable.then(|| (scheme, authority.to_ascii_lowercase(), path.trim_end_matches('/').to_owned()))
}

/// `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(i, _)| i).chain([rest.len()]).any(|i| matches(after, &rest[i..]))
        }),
    }
}

/// How calendars are asked for what a proof still lacks.
#[derive(Debug)]
pub(crate) struct Upgrader<'a> {
    pub(crate) allowed: &'a Allowed,
    /// Asked where a proof names a calendar that is not allowed: those that it was just given to.
    pub(crate) instead: &'a [String],
    pub(crate) timeout: Duration,
}

/// What came of asking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The proof has more than before.
    pub(crate) changed: bool,
    /// What calendars said that had nothing: address and text.
    pub(crate) said: Vec<(String, String)>,
    /// Calendars that the proof names and that may not be asked.
    pub(crate) refused: BTreeSet<String>,
}

/// Calendars asked for one proof at most: a proof may name as many as it likes.
const MAX_REQUESTS: usize = 32;

impl Upgrader<'_> {
    /// Asks for everything pending and merges what comes with `merge`.
    pub(crate) fn upgrade(
        &self,
        timestamp: &Timestamp,
        mut merge: impl FnMut(&Timestamp) -> Result<bool, OtsError>,
    ) -> Upgrade {
        let mut upgrade = Upgrade::default();
        let mut wanted: BTreeSet<(String, Vec<u8>)> = BTreeSet::new();
        for (message, attestation, _) in timestamp.attestations() {
            let Attestation::Pending { uri } = attestation else { continue };
            if self.allowed.contains(uri) {
                wanted.insert((uri.clone(), message.to_vec()));
            } else if self.instead.is_empty() {
                upgrade.refused.insert(uri.clone());
            } else {
                wanted.extend(self.instead.iter().map(|url| (url.clone(), message.to_vec())));
            }
            if wanted.len() >= MAX_REQUESTS {
                break;
            }
        }
        for (uri, commitment) in wanted {
            let merged = self::timestamp(&uri, &commitment, self.timeout)
                .map_err(|error| error.to_string())
                .and_then(|more| merge(&more).map_err(|error| error.to_string()));
            match merged {
                Ok(changed) => upgrade.changed |= changed,
                Err(text) => upgrade.said.push((uri, text)),
            }
        }
        upgrade
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
