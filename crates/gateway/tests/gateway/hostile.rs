//! Clients that mean harm, or do it: what they get, and that no backend hears of it.

use crate::harness::{Backend, Client, PATIENCE, config, eventually, get, post, raw, start, stats};
use cairn_gateway::Config;
use std::time::Duration;

#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_reach_no_backend() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    for (what, head, body) in [
        (
            "both lengths",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
        ),
        ("both, turned round", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("one length twice", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("a list of lengths", "Content-Length: 5, 5\r\n", "hello"),
        ("a signed length", "Content-Length: +5\r\n", "hello"),
        ("a negative length", "Content-Length: -5\r\n", "hello"),
        ("a length in hex", "Content-Length: 0x5\r\n", "hello"),
        ("an endless length", "Content-Length: 99999999999999999999999\r\n", "hello"),
        ("an unknown encoding", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("chunked is not last", "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ("a tab in the encoding", "Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        ("a space before the colon", "Content-Length : 5\r\n", "hello"),
        ("a folded line", "X-Folded: a\r\n b\r\n", ""),
        ("a folded encoding", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        ("a bare line feed", "X-A: b\nX-B: c\r\n", ""),
        ("a bare carriage return", "X-A: b\rX-B: c\r\n", ""),
        ("a zero byte", "X-A: b\0c\r\n", ""),
        ("a second host", "Host: elsewhere\r\n", ""),
        ("a field without a name", ": x\r\n", ""),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: test\r\n{head}\r\n{body}");
        let answer = raw(gateway.http(), request).await.unwrap_or_else(|| panic!("{what}: no answer"));
        answer.problem(400);
        assert_eq!(answer.field("connection").as_deref(), Some("close"), "{what}: {answer:?}");
    }
    assert_eq!(backend.heads(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_400() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: test\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: test\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = raw(gateway.http(), request).await.unwrap_or_else(|| panic!("{request:?}: no answer"));
        answer.problem(400);
    }
    let connect = raw(gateway.http(), "CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n").await;
    connect.expect("an answer").problem(405);
    assert_eq!(backend.count(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn chunks_that_are_none_end_in_400_and_the_connection_with_them() {
    let backend = Backend::start("a").await;
    let gateway = start(config(&[&backend])).await;
    for chunks in
        ["xyz\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "ffffffffffffffffff\r\nabc\r\n"]
    {
        let mut client = Client::connect(gateway.http()).await;
        let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{chunks}GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        client.answer().await.unwrap_or_else(|| panic!("{chunks:?}: no answer")).problem(400);
        assert_eq!(client.rest().await, b"", "{chunks:?}");
    }
    assert!(backend.heads().iter().all(|head| !head.contains("hidden")), "{:?}", backend.heads());
    gateway.stop().await;
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let backend = Backend::start("a").await;
    let settings = Config { max_header_bytes: 4096, max_body_bytes: 1000, ..config(&[&backend]) };
    let gateway = start(settings).await;
    for length in [5_000, 100_000, 2_000_000] {
        let long = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
        let mut client = Client::connect(gateway.http()).await;
        // It may be cut off before it has said everything.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, long.as_bytes()).await;
        client.answer().await.unwrap_or_else(|| panic!("{length}: no answer")).problem(431);
    }
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: b\r\n".repeat(300));
    raw(gateway.http(), many).await.expect("an answer").problem(400);
    assert_eq!(post(&gateway, "/", "", &"x".repeat(1000)).await.status, 200);
    post(&gateway, "/", "", &"x".repeat(1001)).await.problem(413);
    post(&gateway, "/", "", &"x".repeat(900_000)).await.problem(413);
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    let request = format!("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    raw(gateway.http(), request).await.expect("an answer").problem(413);
    assert_eq!(backend.count(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_408() {
    let backend = Backend::start("a").await;
    let settings = Config {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        body_min_rate: 1_000_000,
        ..config(&[&backend])
    };
    let gateway = start(settings).await;

    // A byte now and then: each read makes progress, the head never ends.
    let mut client = Client::connect(gateway.http()).await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let dripping = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if tokio::io::AsyncWriteExt::write_all(&mut writing, &[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut seen = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut seen);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("an end in time");
    dripping.abort();
    assert!(seen.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&seen));

    // Half a body, and then nothing.
    client = Client::connect(gateway.http()).await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf").await;
    client.answer().await.expect("an answer").problem(408);

    // A body that drips: never silent, far below the rate.
    client = Client::connect(gateway.http()).await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let dripping = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut writing, head).await;
        while tokio::io::AsyncWriteExt::write_all(&mut writing, b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut seen = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut seen);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("an end in time");
    dripping.abort();
    assert!(seen.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&seen));
    assert_eq!(backend.count(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let backend = Backend::start("a").await;
    let gateway = start(Config { max_connections: 100, ..config(&[&backend]) }).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Client::connect(gateway.http()).await);
    }
    assert_eq!(get(&gateway, "/").await.status, 200, "whoever asks is served");
    let stats = stats(&gateway).await;
    assert!(stats["connections"]["open"].as_u64() <= Some(100), "{stats}");
    assert!(stats["connections"]["shed"].as_u64() >= Some(400), "{stats}");
    assert_eq!(idle.swap_remove(0).rest().await, b"", "the first has gone");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time() {
    let backend = Backend::start("a").await;
    let gateway = start(Config { idle_timeout: Duration::from_secs(1), ..config(&[&backend]) }).await;
    let mut client = Client::connect(gateway.http()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    assert_eq!(client.rest().await, b"");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing_behind() {
    let backend = Backend::start("a").await;
    backend.behave(crate::harness::Behaviour::Never);
    let gateway = start(config(&[&backend])).await;
    let mut client = Client::connect(gateway.http()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the backend has it", async || (backend.count() == 1).then_some(())).await;
    drop(client);
    let active = async || crate::harness::backend_stats(&gateway, backend.address).await;
    let stats = eventually("it is given up", async || Some(active().await).filter(|stats| stats["active"] == 0)).await;
    assert_eq!(stats["errors"], 0, "the backend is not to blame: {stats}");
    gateway.stop().await;
}
