//! Hashes over HTTP: asked for, waited for, listed, and what is refused.
#![allow(missing_docs, reason = "a test binary has no interface")]

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use cairn_jobs::{RunningWorker, Worker};
use common::{Api, api};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt as _;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// An API with a worker beside it.
async fn working() -> (Api, RunningWorker) {
    let api = api().await;
    let hashes = &api.state.services.hashes;
    let worker = hashes.worker(Worker::new(hashes.jobs().clone()), 2).start();
    (api, worker)
}

async fn ask(api: &Api, request: Request<Body>) -> (StatusCode, Option<String>, Value) {
    let response: Response = api.router.clone().oneshot(request).await.expect("the router answers");
    let status = response.status();
    let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, location, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(api: &Api, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = ask(api, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, body)
}

fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", content_type).body(body.into()).unwrap()
}

async fn hash(api: &Api, algorithm: &str, body: Value) -> (StatusCode, Option<String>, Value) {
    ask(api, post(&format!("/hash/{algorithm}"), "application/json", body.to_string())).await
}

async fn result(api: &Api, task: &Value) -> Value {
    let id = task["task_id"].as_str().expect("a task");
    get(api, &format!("/task/{id}?wait=30")).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_computed_once_however_it_is_asked_for() {
    let (api, worker) = working().await;
    let (status, location, task) = hash(&api, "sha256", json!({"string": "hello"})).await;
    assert_eq!((status, task["type"].as_str()), (StatusCode::ACCEPTED, Some("sha256")));
    assert_eq!(location.as_deref(), Some(&*format!("/task/{}", task["task_id"].as_str().unwrap())));
    let done = result(&api, &task).await;
    assert_eq!((&done["status"], &done["result"]["hash"]), (&json!("completed"), &json!(HELLO)));
    assert!(done["result"]["execution_time_seconds"].as_f64().unwrap() < 10.0);
    assert_eq!((&done["input_sha256"], &done["input_bytes"], &done["input"]), (&json!(HELLO), &json!(5), &Value::Null));

    // The same as bytes, as a body and as a file of a form.
    let form = "--x\r\ncontent-disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhello\r\n--x--\r\n";
    let again = [
        post("/hash/sha256", "application/json", json!({"data": "aGVsbG8="}).to_string()),
        post("/hash/sha256", "application/octet-stream", "hello"),
        post("/hash/sha256", "multipart/form-data; boundary=x", form),
    ];
    for request in again {
        let (status, _, body) = ask(&api, request).await;
        assert_eq!((status, &body["source"]), (StatusCode::OK, &json!("cache")), "{body}");
        assert_eq!((&body["task_id"], &body["result"]["hash"]), (&task["task_id"], &json!(HELLO)));
    }
    worker.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_answers_and_an_empty_input_has_a_hash() {
    let (api, worker) = working().await;
    let empty = [
        ("md5", "d41d8cd98f00b204e9800998ecf8427e"),
        ("sha1", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("blake3", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ];
    for (algorithm, expected) in empty {
        let (_, _, task) = hash(&api, algorithm, json!({"string": ""})).await;
        assert_eq!(result(&api, &task).await["result"]["hash"], expected, "{algorithm}");
    }
    let (_, _, task) = hash(&api, "sha512", json!({"data": ""})).await;
    assert_eq!(result(&api, &task).await["result"]["hash"].as_str().unwrap().len(), 128);

    let parameters = json!({"memory_kib": 64, "iterations": 2, "parallelism": 1, "salt": "c29tZXNhbHQ="});
    let (_, _, task) = hash(&api, "argon2id", json!({"string": "password", "parameters": parameters})).await;
    let text = result(&api, &task).await["result"]["hash"].clone();
    assert!(text.as_str().unwrap().starts_with("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$"), "{text}");
    let (status, _, again) = hash(&api, "argon2id", json!({"string": "password", "parameters": parameters})).await;
    assert_eq!((status, &again["result"]["hash"]), (StatusCode::OK, &text));
    let unsalted = || hash(&api, "argon2id", json!({"string": "password"}));
    assert_ne!(unsalted().await.2["task_id"], unsalted().await.2["task_id"], "each has a salt of its own");
    worker.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_stamped_on_request_also_when_it_was_known() {
    let (api, worker) = working().await;
    let (_, _, task) = hash(&api, "sha256", json!({"string": "hello", "keep_input": true})).await;
    let done = result(&api, &task).await;
    assert_eq!((&done["input"], &done["stamp"]), (&json!("aGVsbG8="), &Value::Null));
    let stamp = format!("/api/v1/stamps/{HELLO}");
    assert_eq!(get(&api, &stamp).await.0, StatusCode::NOT_FOUND);
    let (status, _, _) = hash(&api, "sha256", json!({"string": "hello", "stamp": true})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&api, &stamp).await.1["state"], "journaled");
    let path = format!("/task/{}?stamp=true", task["task_id"].as_str().unwrap());
    assert_eq!(get(&api, &path).await.1["stamp"]["digest"], HELLO);

    let (_, location, task) = hash(&api, "sha1", json!({"string": "new", "stamp": true})).await;
    let done = result(&api, &task).await;
    let digest = done["result"]["hash"].as_str().unwrap().to_owned();
    for attempt in 0.. {
        let known = get(&api, &location.clone().unwrap()).await.1;
        if known["stamp"]["digest"] == *digest {
            break;
        }
        assert!(attempt < 3000, "it is never stamped: {known}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_page_by_page() {
    // Nobody works: what is asked for stays queued.
    let api = api().await;
    for number in 0..5 {
        hash(&api, if number < 3 { "md5" } else { "sha1" }, json!({"string": number.to_string()})).await;
    }
    let (_, first) = get(&api, "/hashes?limit=2").await;
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let (_, second) = get(&api, &format!("/hashes?limit=100&cursor={cursor}")).await;
    assert_eq!(second["next_cursor"], Value::Null);
    let types = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|task| task["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((types(&first), types(&second)), (vec!["sha1".into(); 2], vec!["md5".to_owned(); 3]));
    assert_eq!(types(&get(&api, "/hashes?type=md5&status=queued").await.1).len(), 3);
    assert_eq!(types(&get(&api, "/hashes?status=completed").await.1).len(), 0);
    let id = first["items"][0]["task_id"].as_str().unwrap();
    assert_eq!(get(&api, &format!("/task/{id}?wait=0")).await.1["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_the_reason() {
    let api = api().await;
    let limit = api.state.services.config.max_hash_input_bytes;
    let json_body = |body: &str| post("/hash/sha256", "application/json", body.to_owned());
    let gigabyte = json!({"string": "", "parameters": {"memory_kib": 1 << 20}}).to_string();
    let cases = [
        (post("/hash/sha257", "application/json", r#"{"string":""}"#), 404, "unknown algorithm \"sha257\""),
        (json_body("{}"), 422, "either string or data"),
        (json_body(r#"{"string":"a","data":"YQ=="}"#), 422, "either string or data"),
        (json_body(r#"{"string":5}"#), 422, "invalid type"),
        (json_body(r#"{"string":"a","sting":1}"#), 422, "unknown field `sting`"),
        (json_body("{"), 422, "the body: EOF"),
        (json_body(r#"{"data":"YQ==="}"#), 422, "data is not base64"),
        (json_body(r#"{"string":"a","parameters":{}}"#), 422, "sha256 takes no parameters"),
        (post("/hash/argon2id", "application/json", gigabyte), 422, "memory_kib is 1048576: 8 to 65536 are allowed"),
        (post("/hash/argon2id", "application/json", r#"{"string":"","parameters":{"salt":"YQ"}}"#), 422, "the salt"),
        (post("/hash/md5", "text/plain", "a"), 415, "not \"text/plain\""),
        (post("/hash/md5", "application/octet-stream", vec![0; limit + 1]), 413, "longer than"),
        (post("/hash/md5?stamp=perhaps", "application/octet-stream", "a"), 400, "stamp"),
        (post("/hash/md5", "multipart/form-data; boundary=x", "--x--\r\n"), 422, "the form has no file"),
    ];
    for (request, expected, reason) in cases {
        let shown = format!("{} {:?}", request.uri(), request.headers());
        let (status, _, problem) = ask(&api, request).await;
        assert_eq!(status.as_u16(), expected, "{shown}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{shown}: {problem}");
    }
    let long = vec![b'a'; limit + 1];
    let long = json!({"string": String::from_utf8(long).unwrap()}).to_string();
    assert_eq!(ask(&api, json_body(&long)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(api.state.services.hashes.jobs().counts().await.unwrap().is_empty(), "nothing was queued");

    for (path, expected, reason) in [
        ("/task/01a212dd-35d8-756a-a7a8-766e26fc5205", 404, "no task has this id"),
        ("/task/x", 404, "no task has this id"),
        ("/task/x?wait=61", 422, "wait is 61: 0 to 60"),
        ("/task/x?wait=-1", 400, "wait"),
        ("/hashes?limit=0", 422, "limit is 0"),
        ("/hashes?limit=101", 422, "limit is 101"),
        ("/hashes?cursor=forged", 400, "the cursor is none of ours"),
        ("/hashes?status=done", 422, "status is none of"),
        ("/hashes?type=crc32", 422, "unknown algorithm"),
        ("/hashes?page=2", 400, "unknown field"),
    ] {
        let (status, problem) = get(&api, path).await;
        assert_eq!(status.as_u16(), expected, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{path}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_and_the_pools_tell_their_numbers() {
    let (api, worker) = working().await;
    let (_, _, task) = hash(&api, "sha256", json!({"string": "hello"})).await;
    result(&api, &task).await;
    let (status, numbers) = get(&api, "/cache/stats").await;
    assert_eq!((status, &numbers["hits"]), (StatusCode::OK, &json!(0)), "{numbers}");
    for _ in 0..3 {
        let (status, _, body) = hash(&api, "sha256", json!({"string": "hello"})).await;
        assert_eq!((status, &body["task_id"], &body["source"]), (StatusCode::OK, &task["task_id"], &json!("cache")));
    }
    let (_, numbers) = get(&api, "/cache/stats").await;
    let memory = &numbers["layers"][0];
    assert_eq!((&memory["layer"], &memory["hits"], &memory["entries"]), (&json!("memory"), &json!(2), &json!(1)));

    let clear = |key: Option<&str>| {
        let request = Request::post("/cache/clear");
        let request = key.into_iter().fold(request, |request, key| request.header("x-api-key", key));
        ask(&api, request.body(Body::empty()).unwrap())
    };
    assert_eq!(clear(None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(clear(Some(common::ADMIN_KEY)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(get(&api, "/cache/stats").await.1["layers"][0]["entries"], 0);

    let (status, pools) = get(&api, "/db/pool/stats").await;
    assert_eq!(status, StatusCode::OK);
    let roles: Vec<_> = pools["pools"].as_array().unwrap().iter().map(|pool| pool["role"].clone()).collect();
    assert_eq!(roles, ["writer", "reader"]);
    let of = |pool: &Value, name: &str| pool[name].as_u64().unwrap();
    assert_eq!(of(&pools, "size"), of(&pools, "idle") + of(&pools, "in_use"), "{pools}");
    assert!(of(&pools["pools"][0], "acquired") > 0, "{pools}");
    worker.stop(Duration::from_secs(30)).await;
}
