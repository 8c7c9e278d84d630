//! Backends that fail: what clients see of it, and what becomes of the backend.

use crate::harness::{Backend, Behaviour, backend_stats, config, get, get_with, post, start, stats, until_state};
use cairn_gateway::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Answers that are none.
fn nonsense() -> Vec<(&'static str, Behaviour)> {
    let bytes = |bytes: &[u8]| Behaviour::Bytes(bytes.to_vec());
    vec![
        ("no HTTP", bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        ("zeros", bytes(&[0; 512])),
        ("half a head", bytes(b"HTTP/1.1 200 OK\r\nContent-Le")),
        ("no status", bytes(b"HTTP/1.1 abc OK\r\n\r\n")),
        ("two lengths", bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("the end", Behaviour::Close),
    ]
}

#[tokio::test]
async fn a_backend_that_answers_nonsense_is_a_502_where_nobody_else_is_there() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    for (count, (what, behaviour)) in nonsense().into_iter().enumerate() {
        backend.behave(behaviour);
        let answer = post(&gateway, "/digest", "", "x").await;
        assert!(answer.problem(502).starts_with("the backend failed: "), "{what}: {answer:?}");
        assert_eq!(answer.json()["backend"], backend.address.to_string(), "{what}");
        assert_eq!(backend.count(), count + 1, "{what}: what may not be repeated is not");
    }
    let stats = backend_stats(&gateway, backend.address).await;
    assert_eq!(stats["errors"], nonsense().len(), "{stats}");
    assert_eq!(stats["state"], "up", "the last one is never ejected");
    gateway.stop().await;
}

#[tokio::test]
async fn what_may_be_repeated_goes_to_another_backend() {
    let (bad, good) = (Backend::start("bad").await, Backend::start("good").await);
    let gateway = start(config(&[&bad, &good])).await;
    for (what, behaviour) in nonsense() {
        bad.behave(behaviour);
        for _ in 0..4 {
            let answer = get(&gateway, "/").await;
            assert_eq!(answer.field("x-backend").as_deref(), Some("good"), "{what}: {answer:?}");
            let answer = post(&gateway, "/digest", "Idempotency-Key: 1\r\n", "x").await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"x"[..]), "{what}");
            let answer = post(&gateway, "/hash/sha256", "", r#"{"string": "x"}"#).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"string": "x"}"#[..]), "{what}");
        }
    }
    assert!(bad.count() >= nonsense().len() * 6, "it had its turns");
    let stats = stats(&gateway).await;
    assert_eq!(stats["responses"]["5xx"], 0, "{stats}");
    assert_eq!(stats["retries"], bad.count(), "{stats}");
    gateway.stop().await;
}

#[tokio::test]
async fn half_a_body_is_never_passed_off_as_a_whole_one() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    for half in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        backend.behave(Behaviour::Bytes(half.to_vec()));
        let mut client = crate::harness::Client::connect(gateway.http()).await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let seen = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
        let whole = seen.starts_with("HTTP/1.1 200") && seen.contains("Content-Length: 4\r\n");
        assert!(!whole, "{seen}");
    }
    assert_eq!(backend_stats(&gateway, backend.address).await["errors"], 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_that_never_answers_is_a_504() {
    let backend = Backend::start("a").await;
    backend.behave(Behaviour::Never);
    let gateway = start(Config { response_timeout: Duration::from_millis(200), ..config(&[&backend]) }).await;
    let answer = get(&gateway, "/").await;
    assert_eq!(answer.problem(504), "the backend failed: it did not answer in time");
    assert_eq!(backend.count(), 1, "what took all its time is not repeated");
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_meanwhile_is_no_failure_of_the_backend() {
    let backend = Backend::start("a").await;
    backend.behave(Behaviour::CloseAfter);
    let gateway = start(config(&[&backend])).await;
    for _ in 0..50 {
        assert_eq!(get(&gateway, "/").await.status, 200);
    }
    assert_eq!(backend_stats(&gateway, backend.address).await["errors"], 0);
    gateway.stop().await;
}

#[tokio::test]
async fn failures_in_a_row_eject_a_backend_but_never_the_last_one() {
    let (bad, good) = (Backend::start("bad").await, Backend::start("good").await);
    let settings = Config { eject_failures: 3, ..config(&[&bad, &good]) };
    let gateway = start(settings).await;
    bad.behave(Behaviour::Close);
    for _ in 0..20 {
        assert_eq!(get(&gateway, "/").await.status, 200);
    }
    assert_eq!(bad.count(), 3, "then it was left alone");
    let stats = backend_stats(&gateway, bad.address).await;
    assert_eq!((&stats["state"], &stats["ejections"]), (&"ejected".into(), &1.into()), "{stats}");
    let reason = stats["reason"].as_str().unwrap();
    assert!(reason.contains("closed the connection") && reason.contains("ejected for"), "{reason}");
    good.behave(Behaviour::Close);
    for _ in 0..20 {
        get(&gateway, "/").await.problem(502);
    }
    assert_eq!(backend_stats(&gateway, good.address).await["state"], "up");
    gateway.stop().await;
}

#[tokio::test]
async fn where_nobody_is_healthy_the_answer_says_why() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let gateway = start(config(&[&a, &b])).await;
    a.ready(false);
    until_state(&gateway, a.address, "down").await;
    for _ in 0..6 {
        assert_eq!(get(&gateway, "/").await.field("x-backend").as_deref(), Some("b"));
    }
    let health = get(&gateway, "/lb/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &"degraded".into()));
    let gone = b.kill().await;
    until_state(&gateway, gone, "down").await;
    let answer = get(&gateway, "/").await;
    let detail = answer.problem(503);
    for reason in
        ["503: the database does not answer", "the connection was refused", &a.address.to_string(), &gone.to_string()]
    {
        assert!(detail.contains(reason), "{reason:?} in {detail}");
    }
    assert_eq!(answer.field("retry-after").as_deref(), Some("1"));
    assert!(get(&gateway, "/lb/health").await.problem(503).contains("the database does not answer"));
    assert_eq!(get(&gateway, "/lb/health/live").await.status, 200);
    a.ready(true);
    until_state(&gateway, a.address, "up").await;
    assert_eq!(get(&gateway, "/").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn without_backends_it_says_so() {
    let gateway = start(config(&[])).await;
    assert_eq!(get(&gateway, "/").await.problem(503), "there are no backends");
    gateway.stop().await;
}

#[tokio::test]
async fn backends_killed_one_by_one_and_all_at_once_cost_no_request_that_may_be_repeated() {
    let mut backends = Vec::new();
    for name in ["a", "b", "c"] {
        backends.push(Backend::start(name).await);
    }
    let all: Vec<_> = backends.iter().collect();
    let gateway =
        Arc::new(start(Config { eject_failures: 3, eject_time: Duration::from_millis(100), ..config(&all) }).await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (gateway, stop, done) = (gateway.clone(), stop.clone(), done.clone());
        clients.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = get_with(&gateway, "/", "").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let answer = post(&gateway, "/hash/sha256", "", "{}").await;
                assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{answer:?}");
                done.fetch_add(2, Ordering::SeqCst);
            }
        });
    }
    let progress = async |more: usize| {
        let before = done.load(Ordering::SeqCst);
        crate::harness::eventually("requests go on", async || {
            (done.load(Ordering::SeqCst) >= before + more).then_some(())
        })
        .await;
    };
    for round in 0..3 {
        progress(200).await;
        let address = backends.remove(0).kill().await;
        progress(200).await;
        backends.push(Backend::start_at(&round.to_string(), address).await);
        until_state(&gateway, address, "up").await;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.expect("no request failed");
    }

    // All at once: every answer until they are back says 502 or 503, and none hangs.
    let addresses = [backends.remove(0).kill().await, backends.remove(0).kill().await, backends.remove(0).kill().await];
    for _ in 0..20 {
        let answer = get(&gateway, "/").await;
        answer.problem(if answer.status == 502 { 502 } else { 503 });
    }
    let back = [Backend::start_at("a", addresses[0]).await, Backend::start_at("b", addresses[1]).await];
    until_state(&gateway, back[0].address, "up").await;
    until_state(&gateway, back[1].address, "up").await;
    assert_eq!(get(&gateway, "/").await.status, 200);
}
