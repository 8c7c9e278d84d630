//! The calendar protocol to the letter of the reference's `otsserver/rpc.py`, and stamping over JSON, forms and bulk.

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use cairn_api::stamping::{Lookup, StampingError};
use common::{Api, api};
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
            assert_eq!(answer.body, [b"stamped ".as_slice(), &vec![7; length]].concat());
        }
    }
    for (length, text) in
        [(Some(65), "digest too long"), (Some(10_000), "digest too long"), (None, "invalid Content-Length")]
    {
        let answer = digest(&api, length, None).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::BAD_REQUEST, text.as_bytes()));
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), (Some("text/plain"), None));
    }
    assert_eq!(api.stamps.count(), 15);
}

#[tokio::test]
async fn a_digest_that_cannot_be_kept_is_not_acknowledged() {
    let api = api().await;
    *api.stamps.error.lock().unwrap() = Some(StampingError::Unavailable("the disk is full".into()));
    let answer = digest(&api, Some(32), None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("1"));
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
    *api.stamps.lookup.lock().unwrap() = Lookup::Pending("Pending confirmation in Bitcoin blockchain".into());
    check("/timestamp/abcd", 404, "text/plain", A_MINUTE, b"Pending confirmation in Bitcoin blockchain").await;
    *api.stamps.lookup.lock().unwrap() = Lookup::Complete(vec![1, 2, 3]);
    check("/timestamp/abcd", 200, "application/octet-stream", A_YEAR, &[1, 2, 3]).await;

    let none = get(&api, "/tip").await;
    assert_eq!((none.status, none.body.as_slice()), (StatusCode::NOT_FOUND, b"".as_slice()));
    assert_eq!((none.header("content-type"), none.header("cache-control")), (Some("text/plain"), None));
    *api.stamps.tip.lock().unwrap() = Some([9; 32]);
    check("/tip", 200, "application/octet-stream", Some("public, max-age=10"), &[9; 32]).await;
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
    let hex = |bytes: &[u8]| bitcoin::hex::DisplayHex::to_lower_hex_string(Sha256::digest(bytes).as_slice());
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
    assert_eq!(api.stamps.count(), 5);

    let href = file.json()["stamps"][0]["href"].as_str().unwrap().to_owned();
    assert_eq!(get(&api, &href).await.json()["state"], "journaled");
    let proof = get(&api, &format!("{href}/proof")).await;
    assert_eq!(proof.body, b"proof");
    assert!(proof.header("content-disposition").unwrap().ends_with(".ots\""));
    assert_eq!(get(&api, "/api/v1/stamps/00").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&api, "/api/v1/stamps/zz").await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn bulk_is_all_or_nothing() {
    let api = api().await;
    let good = "ab".repeat(32);
    let all = stamp(&api, "application/json", json!({"digests": [good, "", "cd"]}).to_string()).await;
    assert_eq!((all.status, &all.json()["accepted"]), (StatusCode::CREATED, &json!(3)));
    let raw = stamp(&api, "application/vnd.cairn.digests", vec![3; 96]).await;
    assert_eq!((raw.status, &raw.json()["accepted"]), (StatusCode::CREATED, &json!(3)));
    assert_eq!(api.stamps.count(), 6);

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
    assert_eq!(api.stamps.count(), 6, "nothing of what was refused was journaled");
}
