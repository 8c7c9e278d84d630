//! What operators do with it: look, switch, limit, reload, stop.

use crate::harness::{
    ADMIN, Backend, Behaviour, Client, PATIENCE, WALLET, backend_stats, config, eventually, get, get_with, post, start,
    start_shared, stats, until_state,
};
use cairn_gateway::{Config, Database, LogFormat, Strategy};
use cairn_store::StoreOptions;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[tokio::test]
async fn stats_tell_what_each_backend_did() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let gateway = start(config(&[&a, &b])).await;
    for _ in 0..10 {
        get(&gateway, "/").await;
    }
    let stats = stats(&gateway).await;
    assert_eq!(
        (&stats["strategy"], &stats["healthy_backends"], &stats["total_backends"]),
        (&json!("round_robin"), &json!(2), &json!(2))
    );
    for backend in stats["backends"].as_array().unwrap() {
        assert_eq!(backend["requests"], 5, "{backend}");
        assert_eq!(backend["responses"]["2xx"], 5, "{backend}");
        assert_eq!((&backend["active"], &backend["errors"], &backend["weight"]), (&json!(0), &json!(0), &json!(1)));
        assert_eq!(
            (&backend["state"], &backend["healthy"], &backend["reason"]),
            (&json!("up"), &json!(true), &Value::Null)
        );
        let latency = &backend["latency_seconds"];
        assert_eq!(latency["count"], 5, "{latency}");
        let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| latency["recent"][name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{latency}");
        assert_eq!(latency["buckets"].as_array().unwrap().last().unwrap()["count"], 5, "{latency}");
    }
    let metrics = String::from_utf8(get(&gateway, "/metrics").await.body).unwrap();
    let line = format!("cairn_gateway_backend_requests_total{{backend=\"{}\"}} 5\n", a.address);
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("cairn_gateway_strategy{strategy=\"round_robin\"} 1\n"), "{metrics}");
    get(&gateway, "/lb/nothing").await.problem(404);
    post(&gateway, "/lb/stats", "", "").await.problem(405);
    assert_eq!(a.count() + b.count(), 10, "what is asked of the gateway is not passed on");
    assert_eq!(get(&gateway, "/api/health/ready").await.status, 200, "what is asked of the service is");
    gateway.stop().await;
}

#[tokio::test]
async fn an_admin_switches_the_strategy_of_all_gateways_of_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let database = |name: &str| Database {
        url: format!("sqlite://{}", dir.path().join(name).display()),
        options: StoreOptions::default(),
    };
    let backend = Backend::start("a").await;
    let one = start_shared(config(&[&backend]), Some(database("shared.sqlite"))).await;
    let other = start_shared(config(&[&backend]), Some(database("shared.sqlite"))).await;
    let wish = r#"{"strategy": "least_connections"}"#;
    post(&one, "/lb/strategy", "", wish).await.problem(401);
    post(&one, "/lb/strategy", &format!("X-API-Key: {WALLET}\r\n"), wish).await.problem(401);
    let admin = format!("X-API-Key: {ADMIN}\r\n");
    for nonsense in ["", "{}", r#"{"strategy": "random"}"#, r#"{"strategy": "round_robin", "more": 1}"#] {
        post(&one, "/lb/strategy", &admin, nonsense).await.problem(400);
    }
    eventually("they share", async || (stats(&one).await["strategy_shared"] == true).then_some(())).await;
    let answer = post(&one, "/lb/strategy", &admin, wish).await;
    assert_eq!(answer.json(), json!({"strategy": "least_connections", "shared": true, "reason": null}));
    assert_eq!(one.strategy(), Strategy::LeastConnections);
    eventually("the other follows", async || (other.strategy() == Strategy::LeastConnections).then_some(())).await;
    let late = start_shared(config(&[&backend]), Some(database("shared.sqlite"))).await;
    eventually("so does a later one", async || (late.strategy() == Strategy::LeastConnections).then_some(())).await;
    for gateway in [one, other, late] {
        gateway.stop().await;
    }

    // Without a database that answers, each goes on with its own and says so.
    let unreachable = Database { url: "postgres://127.0.0.1:1/none".into(), options: StoreOptions::default() };
    let alone = start_shared(config(&[&backend]), Some(unreachable)).await;
    eventually("it says so", async || {
        let stats = stats(&alone).await;
        let said = stats["strategy_reason"].as_str().is_some_and(|reason| reason.contains("out of reach"));
        (stats["strategy_shared"] == false && said).then_some(())
    })
    .await;
    let answer = post(&alone, "/lb/strategy", &admin, r#"{"strategy": "power_of_two"}"#).await.json();
    assert_eq!((&answer["strategy"], &answer["shared"]), (&json!("power_of_two"), &json!(false)));
    assert_eq!(get(&alone, "/").await.status, 200);
    alone.stop().await;
}

#[tokio::test]
async fn clients_are_limited_one_by_one() {
    let backend = Backend::start("a").await;
    let settings = Config {
        rate_limit_requests: 3,
        rate_limit_window: Duration::from_secs(3600),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..config(&[&backend])
    };
    let gateway = start(settings).await;
    let from =
        async |client: &str, more: &str| get_with(&gateway, "/", &format!("X-Forwarded-For: {client}\r\n{more}")).await;
    for left in [2, 1, 0] {
        let answer = from("203.0.113.7", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("ratelimit-policy").as_deref(), Some("\"default\";q=3;w=3600"));
        assert!(answer.field("ratelimit").unwrap().starts_with(&format!("\"default\";r={left};t=")), "{answer:?}");
    }
    let refused = from("203.0.113.7", "").await;
    assert_eq!(refused.problem(429), "this client may make 3 requests in 3600 s");
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&after), "{after}");
    assert_eq!(from("203.0.113.8", "").await.status, 200, "another client");
    for _ in 0..3 {
        assert_eq!(from("2001:db8::1", "").await.status, 200);
    }
    assert_eq!(from("2001:db8::2", "").await.status, 429, "the same /64");
    for _ in 0..10 {
        assert_eq!(get(&gateway, "/").await.status, 200, "loopback has no limit");
        for key in [ADMIN, WALLET] {
            assert_eq!(
                from("203.0.113.7", &format!("X-API-Key: {key}\r\n")).await.status,
                200,
                "nor have callers with a key"
            );
        }
    }
    assert_eq!(from("203.0.113.7", "X-API-Key: guessed\r\n").await.status, 429);
    let limits = get(&gateway, "/lb/rate-limits").await.json();
    assert_eq!((&limits["requests"], &limits["window_seconds"]), (&json!(3), &json!(3600.0)), "{limits}");
    assert_eq!((&limits["allowed"], &limits["limited"], &limits["exempt"]), (&json!(7), &json!(3), &json!(30)));
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_changes_backends_and_drops_nothing() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let gateway = start(config(&[&a])).await;
    a.behave(Behaviour::Slow(Duration::from_millis(500)));
    let mut client = Client::connect(gateway.http()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is on its way", async || (a.count() == 1).then_some(())).await;
    gateway.reload(config(&[&b])).await.expect("taken");
    let draining = backend_stats(&gateway, a.address).await;
    assert_eq!((&draining["state"], &draining["active"]), (&json!("draining"), &json!(1)), "{draining}");
    until_state(&gateway, b.address, "up").await;
    for _ in 0..5 {
        assert_eq!(get(&gateway, "/").await.field("x-backend").as_deref(), Some("b"));
    }
    assert_eq!(
        client.answer().await.expect("an answer").field("x-backend").as_deref(),
        Some("a"),
        "what was open ended well"
    );
    eventually("it is forgotten", async || backend_stats(&gateway, a.address).await.is_null().then_some(())).await;
    let refused = gateway.reload(Config { attempts: 0, ..config(&[&a]) }).await;
    assert!(refused.is_err());
    assert_eq!(get(&gateway, "/").await.field("x-backend").as_deref(), Some("b"), "the former one stays in force");
    gateway.stop().await;
}

#[tokio::test]
async fn a_name_stands_for_all_of_its_addresses() {
    let backend = Backend::start("a").await;
    let settings = Config {
        backends: vec![format!("localhost:{} weight=3", backend.address.port()).parse().unwrap()],
        resolve_interval: Duration::from_millis(50),
        ..config(&[])
    };
    let gateway = start(settings).await;
    assert_eq!(get(&gateway, "/").await.field("x-backend").as_deref(), Some("a"));
    let stats = backend_stats(&gateway, backend.address).await;
    assert_eq!(
        (&stats["name"], &stats["weight"]),
        (&json!(format!("localhost:{}", backend.address.port())), &json!(3))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_stop_lets_open_requests_end_and_takes_no_new_ones() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    let address = gateway.http();
    backend.behave(Behaviour::Slow(Duration::from_millis(500)));
    let (mut busy, mut idle) = (Client::connect(address).await, Client::connect(address).await);
    busy.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is on its way", async || (backend.count() == 1).then_some(())).await;
    let stopping = tokio::spawn(gateway.stop());
    let answer = busy.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.field("x-backend").as_deref()), (200, Some("a")));
    assert_eq!((busy.rest().await, idle.rest().await), (vec![], vec![]));
    tokio::time::timeout(PATIENCE, stopping).await.expect("it ends").expect("well");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn every_request_is_in_the_access_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let backend = Backend::start("a").await;
    let settings = Config { access_log: Some(path.clone()), access_log_format: LogFormat::Json, ..config(&[&backend]) };
    let gateway = start(settings.clone()).await;
    post(&gateway, "/a?b", "User-Agent: \"quoted\"\r\nX-Request-Id: id-1\r\n", "hello").await;
    get(&gateway, "/lb/health").await;
    let lines = |path: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let entries = eventually("two lines", async || Some(lines(&path)).filter(|lines| lines.len() == 2)).await;
    let [entry, own] = &entries[..] else { unreachable!("there are two") };
    for (name, value) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("path", json!("/a?b")),
        ("status", json!(200)),
        ("bytes", json!(5)),
        ("backend", json!(backend.address)),
        ("attempts", json!(1)),
        ("request_id", json!("id-1")),
        ("user_agent", json!("\"quoted\"")),
        ("error", Value::Null),
    ] {
        assert_eq!(entry[name], value, "{name} in {entry}");
    }
    assert_eq!((&own["path"], &own["backend"]), (&json!("/lb/health"), &Value::Null));
    std::fs::rename(&path, &old).unwrap();
    gateway.reload(settings).await.expect("taken");
    get(&gateway, "/new").await;
    gateway.stop().await;
    assert_eq!((lines(&old).len(), lines(&path).len()), (2, 1), "after its rotation it goes on in a new file");
}

/// A certificate for localhost and its key, made by the openssl program.
fn certificate(dir: &Path, name: &str) {
    let at = |suffix: &str| dir.join(format!("{name}.{suffix}")).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", &at("key"), "-out", &at("crt")])
        .output()
        .expect("the openssl program is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The subject of the certificate that is shown, and the answer to a request.
fn asked(address: std::net::SocketAddr) -> String {
    use std::io::Write as _;
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_quiet", "-connect", &address.to_string(), "-servername", "localhost"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the openssl program is there");
    let mut stdin = client.stdin.take().expect("piped");
    stdin.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
    let output = client.wait_with_output().expect("it ends");
    drop(stdin);
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| Some(dir.path().join(name));
    certificate(dir.path(), "first");
    certificate(dir.path(), "second");
    let backend = Backend::start("a").await;
    let settings = Config {
        tls_listen: Some("127.0.0.1:0".parse().unwrap()),
        tls_certificate: file("first.crt"),
        tls_key: file("first.key"),
        ..config(&[&backend])
    };
    let gateway = start(settings.clone()).await;
    let https = gateway.https().expect("it listens");
    let answer = tokio::task::spawn_blocking(move || asked(https)).await.unwrap();
    assert!(answer.contains("CN = first") && answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert!(backend.heads()[0].to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"));

    let broken = Config { tls_key: file("second.key"), ..settings.clone() };
    assert!(gateway.reload(broken).await.is_err(), "the key is another certificate's");
    let second = Config { tls_certificate: file("second.crt"), tls_key: file("second.key"), ..settings };
    gateway.reload(second).await.expect("taken");
    let answer = tokio::task::spawn_blocking(move || asked(https)).await.unwrap();
    assert!(answer.contains("CN = second") && answer.contains("HTTP/1.1 200 OK"), "{answer}");
    gateway.stop().await;
}
