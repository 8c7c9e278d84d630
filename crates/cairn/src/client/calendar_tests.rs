use super::*;
use crate::client::test_server::{TestServer, http};
use cairn_stamp::ots::Op;

const SECOND: Duration = Duration::from_secs(5);

fn reply(message: &[u8]) -> Vec<u8> {
    Timestamp::chain(message, [Op::Sha256], Attestation::Bitcoin { height: 9 }).unwrap().to_bytes().unwrap()
}

#[test]
fn a_calendar_is_asked_as_other_clients_ask() {
    let server = TestServer::start(|_| http("200 OK", &reply(b"abc")));
    assert!(submit(&server.url, b"abc", SECOND).unwrap().is_complete());
    assert!(timestamp(&format!("{}/", server.url), b"abc", SECOND).unwrap().is_complete());
    let requests = server.requests();
    assert!(requests[0].starts_with("POST /digest HTTP/1.1\r\n") && requests[0].ends_with("\r\n\r\nabc"));
    assert!(requests[1].starts_with("GET /timestamp/616263 HTTP/1.1\r\n"));
    assert!(requests.iter().all(|r| r.to_ascii_lowercase().contains("accept: application/vnd.opentimestamps.v1")));
}

#[test]
fn each_bad_answer_is_an_error_of_its_own() {
    let ask = |bytes: Option<Vec<u8>>| {
        let server = TestServer::start(move |_| bytes.clone());
        timestamp(&server.url, b"abc", Duration::from_secs(1)).unwrap_err()
    };
    assert_eq!(ask(http("404 Not Found", b"Pending \x1b[2J\n")), CalendarError::NotYet("Pending _[2J_".into()));
    assert_eq!(ask(http("500 Oops", b"sorry")), CalendarError::Refused(500, "sorry".into()));
    assert_eq!(ask(http("302 Found", b"")), CalendarError::Refused(302, "status 302".into()));
    assert_eq!(ask(http("200 OK", &[0; 10_001])), CalendarError::Http(HttpError::TooLong(10_000)));
    assert!(matches!(ask(http("200 OK", b"<html>")), CalendarError::Malformed(_)));
    assert!(matches!(ask(http("200 OK", &[reply(b"abc"), b"x".to_vec()].concat())), CalendarError::Malformed(_)));
    let cut = http("200 OK", &reply(b"abc")).map(|mut bytes| {
        bytes.truncate(bytes.len() - 3);
        bytes
    });
    assert!(matches!(ask(cut), CalendarError::Http(HttpError::Broken(_) | HttpError::Unreachable(_))));
    assert_eq!(ask(None), CalendarError::Http(HttpError::TimedOut));
    assert!(matches!(
        timestamp("http://127.0.0.1:1", b"abc", SECOND),
        Err(CalendarError::Http(HttpError::Unreachable(_)))
    ));
}

#[test]
fn only_allowed_calendars_are_asked() {
    let allowed = Allowed::new("http://127.0.0.1:8080", &["my.example:99/base/".into()]);
    for url in [
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/",
        "https://alice.btc.calendar.opentimestamps.org",
        "HTTPS://Alice.btc.calendar.opentimestamps.org",
        "https://my.example:99/base",
        "http://my.example:99/base/",
    ] {
        assert!(allowed.contains(url), "{url}");
    }
    for url in [
        "http://127.0.0.1:22",
        "http://169.254.169.254",
        "http://alice.btc.calendar.opentimestamps.org",
        "https://alice.btc.calendar.opentimestamps.org/other",
        "https://calendar.opentimestamps.org.evil.example",
        "https://evil.example/x.calendar.opentimestamps.org",
        "https://evil@a.calendar.opentimestamps.org",
        "file:///etc/passwd",
        "",
    ] {
        assert!(!allowed.contains(url), "{url}");
    }
}

#[test]
fn an_upgrade_asks_what_is_allowed_and_names_the_rest() {
    let server = TestServer::start(|_| http("200 OK", &reply(b"abc")));
    let mut proof = Timestamp::new(b"abc").unwrap();
    proof.attest(proof.root(), Attestation::pending(server.url.clone()).unwrap()).unwrap();
    proof.attest(proof.root(), Attestation::pending("http://169.254.169.254").unwrap()).unwrap();
    let allowed = Allowed::new(&server.url, &[]);
    let upgrader = Upgrader { allowed: &allowed, instead: &[], timeout: SECOND };
    let asked = proof.clone();
    let upgrade = upgrader.upgrade(&asked, |more| proof.merge_anywhere(more));
    assert!(upgrade.changed && proof.is_complete());
    assert_eq!(upgrade.refused.into_iter().collect::<Vec<_>>(), ["http://169.254.169.254"]);
    assert_eq!(server.requests().len(), 1);
}
