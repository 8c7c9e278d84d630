//! What passes through: requests, answers, streams, and what backends are told.

use crate::harness::{Backend, Behaviour, Client, config, eventually, get, get_with, post, raw, start};
use cairn_gateway::Config;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn requests_go_to_each_backend_in_its_turn_over_connections_that_are_kept() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let gateway = start(Config { workers: 1, ..config(&[&a, &b]) }).await;
    let mut client = Client::connect(gateway.http()).await;
    let mut names = Vec::new();
    for _ in 0..6 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        names.push(client.answer().await.expect("an answer").field("x-backend").unwrap());
    }
    assert!(names.chunks(2).all(|pair| pair == ["a", "b"] || pair == ["b", "a"]), "{names:?}");
    for backend in [&a, &b] {
        assert_eq!(backend.count(), 3);
        assert_eq!(backend.shared.connections.load(Ordering::SeqCst), 1, "one connection serves all");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_pass_whole_both_ways() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    let long: String = (0..300_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    for body in ["", "x", &long] {
        assert_eq!(post(&gateway, "/digest", "", body).await.body, body.as_bytes());
    }
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(raw(gateway.http(), chunked).await.expect("an answer").body, b"abcde");
    gateway.stop().await;
}

#[tokio::test]
async fn backends_are_told_of_the_client_and_of_nothing_that_it_made_up() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    let lies = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\n\
                Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nX-Request-Id: abc-1\r\n";
    let answer = get_with(&gateway, "/a?b=c", lies).await;
    assert_eq!(answer.field("x-request-id").as_deref(), Some("abc-1"));
    let head = backend.heads().remove(0).to_ascii_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    for told in [
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: test\r\n",
        "x-request-id: abc-1\r\n",
        "host: test\r\n",
    ] {
        assert!(head.contains(told), "{told:?} in {head}");
    }
    for dropped in ["203.0.113.7", "x-secret", "keep-alive: ", "forwarded: ", "\r\nte:"] {
        let dropped = if dropped == "forwarded: " { "\r\nforwarded: " } else { dropped };
        assert!(!head.contains(dropped), "{dropped:?} in {head}");
    }
    let made = get(&gateway, "/").await.field("x-request-id").unwrap();
    assert_eq!(made.len(), 32, "{made}");
    assert!(backend.heads()[1].contains(&made));
    gateway.stop().await;
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let backend = Backend::start("a").await;
    let permits = Arc::new(tokio::sync::Semaphore::new(0));
    backend.behave(Behaviour::Events(permits.clone()));
    let gateway = start(config(&[&backend])).await;
    let mut client = Client::connect(gateway.http()).await;
    client.send("GET /api/v1/events HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n").await;
    let mut seen = Vec::new();
    for number in 0..3 {
        permits.add_permits(1);
        let event = format!("data: {number}\n\n");
        // The next one is not even made before this one is here.
        while !String::from_utf8_lossy(&seen).contains(&event) {
            use tokio::io::AsyncReadExt as _;
            let read = tokio::time::timeout(crate::harness::PATIENCE, client.stream.read_buf(&mut seen)).await;
            assert_ne!(read.expect("an event in time").unwrap(), 0);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_passes_bytes_both_ways_until_it_is_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let backend = Backend::start("a").await;
    backend.behave(Behaviour::WebSocket);
    let gateway = start(config(&[&backend])).await;
    let mut client = Client::connect(gateway.http()).await;
    client.send("GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").status, 101);
    for round in 0..100_u32 {
        let message = round.to_be_bytes().repeat(50);
        client.send(&message).await;
        let mut back = vec![0; message.len()];
        tokio::time::timeout(crate::harness::PATIENCE, client.stream.read_exact(&mut back))
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(back, message);
    }
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"");
    eventually("its request ends", async || {
        (crate::harness::backend_stats(&gateway, backend.address).await["active"] == 0).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_the_connection_goes_on() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    let mut client = Client::connect(gateway.http()).await;
    client.send("HEAD /lb/health HTTP/1.1\r\nHost: test\r\n\r\nGET /x HTTP/1.1\r\nHost: test\r\n").await;
    let mut head = Vec::new();
    use tokio::io::AsyncReadExt as _;
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(client.stream.read_buf(&mut head).await.unwrap(), 0);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    gateway.stop().await;
}
