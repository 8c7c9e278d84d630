//! The calendar protocol to the letter of the reference's `otsserver/rpc.py`, and stamping over JSON, forms and bulk.

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use cairn_stamp::ots::{Attestation, DetachedTimestampFile, FileHash, MAX_PROOF_SIZE, Timestamp};
use common::{Api, CALENDAR, api};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

async fn send(api: &Api, request: Request<Body>) -> Answer {
    let response = api.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Answer { status, headers, body }
}

async fn get(api: &Api, path: &str) -> Answer {
    send(api, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn digest(api: &Api, length: Option<usize>, content_type: Option<&str>) -> Answer {
    let mut request = Request::post("/digest");
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    send(api, request.body(Body::from(vec![7; length.unwrap_or(32)])).unwrap()).await
}

async fn stamp(api: &Api, content_type: &str, body: impl Into<Body>) -> Answer {
    send(api, Request::post("/api/v1/stamps").header("content-type", content_type).body(body.into()).unwrap()).await
}

#[tokio::test]
async fn digests_of_0_to_64_bytes_are_stamped() {
    let api = api().await;
    for length in [0, 1, 20, 32, 64] {
        for content_type in [None, Some("application/x-www-form-urlencoded"), Some("text/plain")] {
            let answer = digest(&api, Some(length), content_type).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
            let timestamp = Timestamp::from_bytes(vec![7; length], &answer.body).unwrap();
            let (message, attestation, _) = timestamp.attestations().next().unwrap();
            assert_eq!((message.len(), attestation), (44, &Attestation::pending(CALENDAR).unwrap()));
        }
    }
    for (length, text) in
        [(Some(65), "digest too long"), (Some(10_000), "digest too long"), (None, "invalid Content-Length")]
    {
        let answer = digest(&api, length, None).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::BAD_REQUEST, text.as_bytes()));
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), (Some("text/plain"), None));
    }
    assert_eq!(api.pending().await, 15);
}

#[tokio::test]
async fn a_digest_that_cannot_be_kept_is_not_acknowledged() {
    let api = api().await;
    api.state.services.calendar.stop().await;
    let bulk = stamp(&api, "application/json", json!({"text": "hello"}).to_string()).await;
    assert_eq!(bulk.header("content-type"), Some("application/problem+json"));
    for answer in [digest(&api, Some(32), None).await, bulk] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(api.pending().await, 0);
}

#[tokio::test]
async fn commitments_are_looked_up() {
    let api = api().await;
    const A_YEAR: Option<&str> = Some("public, max-age=31536000");
    const A_MINUTE: Option<&str> = Some("public, max-age=60");
    let check = async |path: &str, status: u16, content_type: &str, cache: Option<&str>, body: &[u8]| {
        let answer = get(&api, path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (status, body), "{path}");
        assert_eq!(
            (answer.header("content-type"), answer.header("cache-control")),
            (Some(content_type), cache),
            "{path}"
        );
    };
    let not_hex = b"commitment must be hex-encoded bytes";
    for path in ["/timestamp/xyz", "/timestamp/abc", "/timestamp/ab/cd", "/timestamp/%20"] {
        check(path, 400, "text/plain", A_YEAR, not_hex).await;
    }
    check("/timestamp/abcd", 404, "text/plain", A_MINUTE, b"Not found").await;
    check("/timestamp/ABCD", 404, "text/plain", A_MINUTE, b"Not found").await;
    check("/timestamp/", 404, "text/plain", A_MINUTE, b"Not found").await;
    let tip = get(&api, "/tip").await;
    assert_eq!((tip.status, tip.body.as_slice()), (StatusCode::NOT_FOUND, b"".as_slice()));
    assert_eq!((tip.header("content-type"), tip.header("cache-control")), (Some("text/plain"), None));

    let pending = Timestamp::from_bytes(vec![7; 32], &digest(&api, Some(32), None).await.body).unwrap();
    let (commitment, ..) = pending.attestations().next().unwrap();
    let path = format!("/timestamp/{}", commitment.to_lower_hex_string());
    check(&path, 404, "text/plain", A_MINUTE, b"Pending confirmation in Bitcoin blockchain").await;
    let digest_itself = get(&api, &format!("/timestamp/{}", "07".repeat(32))).await;
    assert!(String::from_utf8(digest_itself.body).unwrap().ends_with(&path), "names the commitment");

    api.mine(101).await;
    let mut stamper = api.stamper();
    assert!(stamper.step().await.unwrap());
    let tip = get(&api, "/tip").await;
    assert_eq!((tip.status, tip.body.len()), (StatusCode::OK, 32));
    assert_eq!(tip.header("content-type"), Some("application/octet-stream"));
    assert_eq!(tip.header("cache-control"), Some("public, max-age=10"));

    api.mine(1).await;
    assert!(stamper.step().await.unwrap());
    let complete = get(&api, &path).await;
    assert_eq!(complete.status, StatusCode::OK);
    assert_eq!(complete.header("content-type"), Some("application/octet-stream"));
    assert_eq!(complete.header("cache-control"), A_YEAR);
    let timestamp = Timestamp::from_bytes(commitment.to_vec(), &complete.body).unwrap();
    let (_, attestation, _) = timestamp.attestations().next().unwrap();
    assert_eq!(attestation, &Attestation::Bitcoin { height: 102 });
    assert_eq!(get(&api, "/tip").await.status, StatusCode::NOT_FOUND, "it is in a block");
}

#[tokio::test]
async fn the_page_is_html_but_for_exactly_json() {
    let api = api().await;
    let ask =
        async |accept: &str| send(&api, Request::get("/").header("accept", accept).body(Body::empty()).unwrap()).await;
    let json = ask("application/json").await;
    assert_eq!(json.json()["pending_digests"], 0);
    assert_eq!((json.header("cache-control"), json.header("vary")), (Some("public, max-age=5"), Some("Accept")));
    for accept in ["text/html", "application/json, text/html", "*/*"] {
        assert!(ask(accept).await.header("content-type").unwrap().starts_with("text/html"));
    }
}

#[tokio::test]
async fn texts_files_and_forms_are_hashed() {
    let api = api().await;
    let hex = |bytes: &[u8]| Sha256::digest(bytes).to_lower_hex_string();
    let text = stamp(&api, "application/json", json!({"text": "hello"}).to_string()).await;
    assert_eq!(text.status, StatusCode::CREATED);
    assert_eq!(text.json()["stamps"][0]["digest"], hex(b"hello"));
    let file = stamp(&api, "application/octet-stream", "abc").await;
    assert_eq!(file.json()["stamps"][0]["digest"], hex(b"abc"));
    let large = vec![5_u8; 20 << 20];
    let large = stamp(&api, "application/octet-stream", large).await;
    assert_eq!(large.json()["stamps"][0]["size"], 20 << 20, "longer than any other body may be");
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n\
                --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\n\r\n--x--\r\n";
    let form = stamp(&api, "multipart/form-data; boundary=x", form).await.json();
    assert_eq!((&form["accepted"], &form["stamps"][0]["name"]), (&json!(2), &json!("a.txt")));
    assert_eq!(form["stamps"][1]["digest"], hex(b""));
    assert_eq!(api.pending().await, 5);

    let item = &file.json()["stamps"][0];
    let state = get(&api, item["href"].as_str().unwrap()).await.json();
    assert_eq!((&state["state"], &state["proof"]), (&json!("journaled"), &item["proof"]));
    assert_eq!(file.json()["commitments"][0], state["commitment"]);
    assert_eq!(get(&api, "/api/v1/stamps/00").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&api, "/api/v1/stamps/zz").await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn proofs_are_ots_files() {
    let api = api().await;
    let hello = Sha256::digest(b"hello");
    let answer = stamp(&api, "application/json", json!({"text": "hello"}).to_string()).await.json();
    let path = answer["stamps"][0]["proof"].as_str().unwrap().to_owned();
    let proof = get(&api, &path).await;
    assert_eq!(proof.header("content-type"), Some("application/octet-stream"));
    let name = format!("attachment; filename=\"{}.ots\"", hello.to_lower_hex_string());
    assert_eq!(proof.header("content-disposition"), Some(name.as_str()));
    let file = DetachedTimestampFile::from_bytes(&proof.body).unwrap();
    assert_eq!((file.file_hash(), file.file_digest()), (FileHash::Sha256, hello.as_slice()));
    assert_eq!(file.to_bytes().unwrap(), proof.body, "canonical");

    // Of what may be a SHA-1 or a RIPEMD-160 or anything there is the bare timestamp alone.
    let bare = async |digest: &str| {
        let path = format!("/api/v1/stamps/{digest}/proof");
        let accept = ("accept", "application/vnd.opentimestamps.v1");
        send(&api, Request::get(path).header(accept.0, accept.1).body(Body::empty()).unwrap()).await
    };
    for digest in [vec![7; 20], vec![7; 64], vec![7]] {
        let hex = digest.to_lower_hex_string();
        stamp(&api, "application/json", json!({"digests": [hex]}).to_string()).await;
        let problem = get(&api, &format!("/api/v1/stamps/{hex}/proof")).await;
        assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.json()["detail"].as_str().unwrap().contains("Accept: application/vnd.opentimestamps.v1"));
        let timestamp = bare(&hex).await;
        assert_eq!(timestamp.header("content-type"), Some("application/vnd.opentimestamps.v1"));
        assert!(Timestamp::from_bytes(digest, &timestamp.body).unwrap().attestations().next().is_some());
    }
    let timestamp = bare(&hello.to_lower_hex_string()).await.body;
    assert_eq!(&Timestamp::from_bytes(hello.as_slice(), &timestamp).unwrap(), file.timestamp());
    assert_eq!(bare("00").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&api, &format!("/api/v1/stamps/{}/proof", "00".repeat(32))).await.status, StatusCode::NOT_FOUND);
}

async fn verify(api: &Api, query: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(format!("/api/v1/verify{query}")).header("content-type", content_type);
    send(api, request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn proofs_are_verified() {
    const OTS: &str = "application/octet-stream";
    let api = api().await;
    api.mine(101).await;
    let answer = stamp(&api, "application/json", json!({"text": "hello"}).to_string()).await.json();
    let path = answer["stamps"][0]["proof"].as_str().unwrap().to_owned();
    let hello = answer["stamps"][0]["digest"].as_str().unwrap().to_owned();

    let pending = verify(&api, "", OTS, get(&api, &path).await.body).await;
    assert_eq!(pending.status, StatusCode::OK);
    assert_eq!((&pending.json()["verdict"], &pending.json()["calendars"]), (&json!("pending"), &json!([CALENDAR])));

    let mut stamper = api.stamper();
    stamper.step().await.unwrap();
    api.mine(1).await;
    stamper.step().await.unwrap();
    let proof = get(&api, &path).await.body;
    let tip = api.state.node.chain.tip();
    let yes = verify(&api, &format!("?digest={hello}"), OTS, proof.clone()).await.json();
    assert_eq!((&yes["verdict"], &yes["height"], &yes["digest"]), (&json!("verified"), &json!(102), &json!(hello)));
    assert_eq!((&yes["block_hash"], &yes["time"]), (&json!(tip.hash.to_string()), &json!(tip.header.time)));
    let body = json!({"proof": STANDARD.encode(&proof), "digest": hello}).to_string();
    assert_eq!(verify(&api, "", "application/json", body).await.json(), yes, "both forms");

    // No: for other data; for a block of this chain that does not have it; for a block that is not there.
    let other = verify(&api, &format!("?digest={}", "00".repeat(32)), OTS, proof.clone()).await.json();
    assert_eq!((&other["verdict"], &other["height"]), (&json!("wrong_digest"), &Value::Null));
    for (height, verdict) in [(5, "mismatch"), (5000, "no_such_block")] {
        let digest = Vec::from_hex(&hello).unwrap();
        let timestamp = Timestamp::chain(digest, [], Attestation::Bitcoin { height }).unwrap();
        let forged = DetachedTimestampFile::new(FileHash::Sha256, timestamp).unwrap().to_bytes().unwrap();
        assert_eq!(verify(&api, "", OTS, forged).await.json()["verdict"], verdict);
    }

    // Malformed, whatever is cut off or added; too long; of no kind that is known.
    for length in (0..proof.len()).step_by(7) {
        let answer = verify(&api, "", OTS, proof[..length].to_vec()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["title"]), (422, &json!("Malformed proof")), "{length}");
    }
    assert_eq!(verify(&api, "", OTS, [&proof[..], &[0]].concat()).await.status.as_u16(), 422);
    for (content_type, query, body, status) in [
        (OTS, "", vec![0; MAX_PROOF_SIZE + 1], 413),
        ("application/json", "", vec![b' '; MAX_PROOF_SIZE * 2], 413),
        ("application/json", "", b"{".to_vec(), 400),
        ("application/json", "", json!({"proof": "?"}).to_string().into_bytes(), 422),
        ("text/csv", "", proof.clone(), 415),
        (OTS, "?digest=zz", proof.clone(), 422),
        (OTS, "?nope=1", proof.clone(), 400),
    ] {
        let answer = verify(&api, query, content_type, body).await;
        assert_eq!(answer.status.as_u16(), status, "{content_type} {query}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{content_type} {query}");
    }
}

#[tokio::test]
async fn bulk_is_all_or_nothing() {
    let api = api().await;
    let good = "ab".repeat(32);
    let all = stamp(&api, "application/json", json!({"digests": [good, "", "cd"]}).to_string()).await;
    assert_eq!((all.status, &all.json()["accepted"]), (StatusCode::CREATED, &json!(3)));
    let listed = &all.json()["stamps"];
    assert_eq!(listed[0]["proof"], format!("/api/v1/stamps/{good}/proof"));
    assert_eq!((&listed[2]["href"], &listed[2]["proof"]), (&json!("/api/v1/stamps/cd"), &Value::Null));
    let raw = stamp(&api, "application/vnd.cairn.digests", vec![3; 96]).await;
    assert_eq!((raw.status, &raw.json()["accepted"]), (StatusCode::CREATED, &json!(3)));
    assert_eq!(api.pending().await, 6);

    for bad in ["xyz", "abc", &"ab".repeat(65)] {
        let answer = stamp(&api, "application/json", json!({"digests": [good, good, bad, good]}).to_string()).await;
        let problem = answer.json();
        assert_eq!((answer.status.as_u16(), &problem["index"]), (422, &json!(2)), "{problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let torn = stamp(&api, "application/vnd.cairn.digests", vec![3; 65]).await;
    assert_eq!((torn.status.as_u16(), &torn.json()["index"]), (422, &json!(2)));
    let many: Vec<_> = std::iter::repeat_n(&good, 101).collect();
    for (content_type, body, status) in [
        ("application/json", json!({"digests": many}).to_string().into_bytes(), 413),
        ("application/vnd.cairn.digests", vec![3; 101 * 32], 413),
        ("application/json", json!({"digests": []}).to_string().into_bytes(), 422),
        ("application/vnd.cairn.digests", vec![], 422),
        ("application/json", json!({"text": "a", "digests": [good]}).to_string().into_bytes(), 422),
        ("application/json", b"{}".to_vec(), 422),
        ("application/json", b"{".to_vec(), 400),
        ("application/json", json!({"nope": 1}).to_string().into_bytes(), 400),
        ("text/csv", b"a".to_vec(), 415),
        ("multipart/form-data", b"a".to_vec(), 400),
    ] {
        let shown = String::from_utf8_lossy(&body).chars().take(40).collect::<String>();
        let answer = stamp(&api, content_type, body).await;
        assert_eq!(answer.status.as_u16(), status, "{content_type} {shown}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{content_type} {shown}");
    }
    assert_eq!(api.pending().await, 6, "nothing of what was refused was journaled");
}
