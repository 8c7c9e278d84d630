//! Little backends that do what a test says, and a client that sees every byte.

use cairn_gateway::{Config, Database, Gateway, Keys};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long anything may take before it counts as hung. Never decides between right and wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ADMIN: &str = "the admin's key";
pub(crate) const WALLET: &str = "the wallet's key";

/// What a backend does with a request that is no health check.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Answers 200 with its name, and the request's head in `X-Seen`-less body form: see `echo`.
    Echo,
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, with the connection open.
    Never,
    /// The end of the connection at once.
    Close,
    /// Answers after this long.
    Slow(Duration),
    /// Answers, and closes the connection a moment later without having said so.
    CloseAfter,
    /// A stream of three events; the next one comes when the test permits.
    Events(Arc<tokio::sync::Semaphore>),
    /// Accepts any upgrade and echoes bytes.
    WebSocket,
}

/// What a backend saw and what it does.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) ready: AtomicBool,
    /// Why it is not ready.
    pub(crate) reason: Mutex<String>,
    /// Heads and bodies of requests that were no health checks.
    pub(crate) seen: Mutex<Vec<(String, Vec<u8>)>>,
    pub(crate) connections: AtomicUsize,
}

/// A backend that lives as long as this.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start(name: &str) -> Backend {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(name: &str, address: SocketAddr) -> Backend {
        let listener = eventually("the address is free", async || TcpListener::bind(address).await.ok()).await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.into(),
            behaviour: Mutex::new(Behaviour::Echo),
            ready: AtomicBool::new(true),
            reason: Mutex::new("the database does not answer".into()),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let state = shared.clone();
        let task = tokio::spawn(async move {
            // Dropped with the task: a killed backend takes its connections with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                connections.spawn(connection(stream, state.clone()));
            }
        });
        Backend { address, shared, task }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::SeqCst);
    }

    /// Heads of the requests that it saw.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// As SIGKILL: listener and connections are gone at once.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut checks_only = true;
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_message(&mut stream, &mut buffer).await {
        if head.starts_with("GET /api/health/ready ") {
            let (status, body) = match shared.ready.load(Ordering::SeqCst) {
                true => ("200 OK", r#"{"status":"ready"}"#.to_owned()),
                false => ("503 Service Unavailable", format!(r#"{{"detail":"{}"}}"#, shared.reason.lock().unwrap())),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            if head.contains("onnection: close") {
                return;
            }
            continue;
        }
        if checks_only {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            checks_only = false;
        }
        let behaviour = shared.behaviour.lock().unwrap().clone();
        shared.seen.lock().unwrap().push((head.clone(), body.clone()));
        match behaviour {
            Behaviour::Echo => echo(&mut stream, &shared, &body).await,
            Behaviour::CloseAfter => {
                echo(&mut stream, &shared, &body).await;
                return;
            }
            Behaviour::Slow(time) => {
                tokio::time::sleep(time).await;
                echo(&mut stream, &shared, &body).await;
            }
            Behaviour::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Behaviour::Never => return std::future::pending().await,
            Behaviour::Close => return,
            Behaviour::Events(permits) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                for number in 0..3 {
                    permits.acquire().await.expect("open").forget();
                    let event = format!("data: {number}\n\n");
                    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                    let _ = stream.write_all(chunk.as_bytes()).await;
                }
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
            Behaviour::WebSocket => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let _ = stream.write_all(&bytes[..count]).await;
                }
                return;
            }
        }
    }
}

async fn echo(stream: &mut TcpStream, shared: &Shared, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nX-Backend: {}\r\nContent-Length: {}\r\n\r\n", shared.name, body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
}

/// A message's head and body. `None` at the end of the connection.
async fn read_message(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let lower = head.to_ascii_lowercase();
    let field =
        |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let mut body = Vec::new();
    if field("transfer-encoding:").is_some() {
        loop {
            let line = loop {
                match find(buffer, b"\r\n") {
                    Some(at) => break at,
                    None if stream.read_buf(buffer).await.ok()? == 0 => return None,
                    None => {}
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&buffer[..line]).ok()?.trim(), 16).ok()?;
            while buffer.len() < line + 2 + size + 2 {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
            buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                return Some((head, body));
            }
        }
    }
    let length: usize = field("content-length:").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    body.extend(buffer.drain(..length));
    Some((head, body))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `detail` of a problem document with this status.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type").as_deref(), Some("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], status, "{document}");
        assert!(document["title"].is_string() && document["type"].is_string(), "{document}");
        document["detail"].as_str().expect("a detail").to_owned()
    }
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer; `None` where the connection ended before one began.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let read = read_message(&mut self.stream, &mut self.buffer);
        let (head, body) = tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some(Answer { status, head, body })
    }

    /// What is left until the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        // A reset ends it as well.
        let _ = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        rest
    }
}

/// One request on a connection of its own, byte by byte.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Answer> {
    let mut client = Client::connect(address).await;
    client.send(bytes).await;
    client.answer().await
}

/// GET with more fields, each ended by CR LF.
pub(crate) async fn get_with(gateway: &Gateway, path: &str, fields: &str) -> Answer {
    raw(gateway.http(), format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await.expect("an answer")
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> Answer {
    get_with(gateway, path, "").await
}

pub(crate) async fn post(gateway: &Gateway, path: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{fields}\r\n{body}");
    raw(gateway.http(), request).await.expect("an answer")
}

/// Settings of a gateway on any port before these backends. Nothing is ejected and no share grows slowly, unless a test
/// says so.
pub(crate) fn config(backends: &[&Backend]) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        backends: backends.iter().map(|backend| backend.address.into()).collect(),
        health_interval: Duration::from_millis(20),
        health_timeout: Duration::from_secs(5),
        slow_start: Duration::ZERO,
        eject_failures: 0,
        workers: 2,
        drain: Duration::from_secs(20),
        ..Config::default()
    }
}

pub(crate) async fn start(config: Config) -> Gateway {
    start_shared(config, None).await
}

pub(crate) async fn start_shared(config: Config, database: Option<Database>) -> Gateway {
    let keys = Keys { admin: Some(ADMIN.into()), wallet: Some(WALLET.into()) };
    Gateway::start(config, &keys, database, None).await.expect("the gateway starts")
}

/// `/lb/stats`.
pub(crate) async fn stats(gateway: &Gateway) -> Value {
    get(gateway, "/lb/stats").await.json()
}

/// A backend's part of `/lb/stats`.
pub(crate) async fn backend_stats(gateway: &Gateway, address: SocketAddr) -> Value {
    let stats = stats(gateway).await;
    let backends = stats["backends"].as_array().unwrap();
    backends.iter().find(|backend| backend["address"] == address.to_string()).cloned().unwrap_or(Value::Null)
}

/// Repeats `attempt` until it gives a value.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a backend is in this state.
pub(crate) async fn until_state(gateway: &Gateway, address: SocketAddr, state: &str) {
    eventually(state, async || (backend_stats(gateway, address).await["state"] == state).then_some(())).await;
}
