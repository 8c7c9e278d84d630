//! Starts `cairn up` or `cairn node` in a directory of its own, asks it things, stops it.

use serde_json::{Value, json};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hung. Never decides between right and wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Repeats `attempt` until it gives a value.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `cairn` command with the test's data directory and server, and no configuration from outside.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CAIRN_", "BITCOIN_API", "NODE_"].iter().any(|prefix| text.starts_with(prefix));
        if ours || text == "DATABASE_URL" {
            command.env_remove(&name);
        }
    }
    command
}

/// A running server, killed when it goes out of scope.
pub(crate) struct Cairn {
    child: Child,
}

/// A data directory with its ports; outlives the processes that use it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    pub(crate) http: u16,
    pub(crate) rpc: u16,
    /// Where HTTP and JSON-RPC listen.
    pub(crate) host: IpAddr,
    /// Where peers find it.
    pub(crate) p2p: SocketAddr,
}

/// A port that nobody listens on now. It is below those that outgoing connections get, lest one of them takes it before
/// the program that it is for, or while that is started again.
pub(crate) fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that run side by side begin far from each other.
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(509));
        let port = u16::try_from(PORTS.start + next % (PORTS.end - PORTS.start)).expect("all of them are ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Ports for a data directory that need not exist yet.
    pub(crate) fn new(data: &Path) -> Server {
        let [http, rpc, p2p] = std::array::from_fn(|_| free_port());
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Server { data: data.to_owned(), http, rpc, host, p2p: (host, p2p).into() }
    }

    fn address(&self, port: u16) -> String {
        SocketAddr::from((self.host, port)).to_string()
    }

    /// `cairn ARGS…` as a client of this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.args(args).env("CAIRN_SERVER", self.url("")).env("CAIRN_DATA_DIR", &self.data);
        command
    }

    /// Runs `cairn ARGS…` to its end.
    pub(crate) fn cairn(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// `cairn up` with more arguments, not waited for.
    pub(crate) fn spawn(&self, block_time: &str, more: &[&str]) -> Child {
        let mut command = self.command(&["up", "--block-time", block_time]);
        command.args(["--http", &self.address(self.http), "--rpc", &self.address(self.rpc)]);
        command.args(["--p2p", &self.p2p.to_string()]).args(more);
        spawn(command)
    }

    /// `cairn node` with more arguments. Without `--web` its HTTP is health and metrics.
    pub(crate) fn node_command(&self, more: &[&str]) -> Command {
        let (http, rpc, p2p) = (self.address(self.http), self.address(self.rpc), self.p2p.to_string());
        let mut command = self.command(&["node", "--http", &http, "--metrics", &http, "--rpc", &rpc, "--p2p", &p2p]);
        command.args(more);
        command
    }

    /// `cairn up`, ready.
    pub(crate) fn up(&self, block_time: &str) -> Cairn {
        self.up_with(block_time, &[])
    }

    /// `cairn up` with more arguments, ready.
    pub(crate) fn up_with(&self, block_time: &str, more: &[&str]) -> Cairn {
        self.ready(self.spawn(block_time, more))
    }

    /// `cairn node` with more arguments, ready.
    pub(crate) fn node(&self, more: &[&str]) -> Cairn {
        self.ready(spawn(self.node_command(more)))
    }

    /// A server of these ports, ready.
    pub(crate) fn ready(&self, child: Child) -> Cairn {
        self.answering(child, "/api/health/ready")
    }

    /// A server of these ports that answers at a path.
    pub(crate) fn answering(&self, mut child: Child, path: &str) -> Cairn {
        drain(&mut child);
        let mut running = Cairn { child };
        eventually(path, || {
            let ended = running.child.try_wait().expect("our child");
            assert!(ended.is_none(), "it ended: {ended:?}");
            (get(&self.url(path)).0 == 200).then_some(())
        });
        running
    }

    /// URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address(self.http))
    }

    /// JSON-RPC with the cookie; the answer's whole object.
    pub(crate) fn rpc_object(&self, method: &str, params: Value) -> Value {
        let (_, text) = self.rpc_bytes(method, params);
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{} {method}: {error}", self.address(self.rpc)))
    }

    /// Status and body of the answer.
    fn rpc_bytes(&self, method: &str, params: Value) -> (u16, Vec<u8>) {
        // Of whichever network runs.
        let cookie = ["regtest", "signet"]
            .iter()
            .find_map(|network| std::fs::read_to_string(self.data.join(network).join(".cookie")).ok());
        let cookie = cookie.expect("a cookie while it runs");
        rpc_bytes(&self.address(self.rpc), cookie.trim(), method, params)
    }

    /// JSON-RPC that must succeed.
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        let mut answer = self.rpc_object(method, params);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }
}

impl Cairn {
    /// SIGKILL, at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        signal(self.child.id(), "TERM");
        eventually("a clean stop", || self.child.try_wait().expect("our child")).code()
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Cairn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process that a test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Starts a server without waiting for it.
pub(crate) fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Waits for a program that must refuse to start; returns its exit code and what it said.
pub(crate) fn refused(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

/// Reads what a child prints, so that it never blocks on a full pipe.
fn drain(child: &mut Child) {
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::stderr()));
}

/// JSON-RPC to any node: status and body of the answer.
pub(crate) fn rpc_bytes(address: &str, credentials: &str, method: &str, params: Value) -> (u16, Vec<u8>) {
    let body = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": params });
    let request = agent().post(format!("http://{address}/")).header("Authorization", &basic(credentials));
    send(request.content_type("application/json").send(body.to_string().as_bytes()))
}

/// An HTTP client that reports statuses instead of failing on them.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .new_agent()
}

/// Status and body; status 0 when nobody answered.
pub(crate) fn send(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Vec<u8>) {
    let Ok(mut response) = result else { return (0, Vec::new()) };
    let status = response.status().as_u16();
    match response.body_mut().with_config().limit(64 << 20).read_to_vec() {
        Ok(body) => (status, body),
        Err(_) => (0, Vec::new()),
    }
}

/// GET.
pub(crate) fn get(url: &str) -> (u16, Vec<u8>) {
    send(agent().get(url).call())
}

/// GET of JSON that must succeed.
pub(crate) fn get_json(url: &str) -> Value {
    let (status, body) = get(url);
    assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).expect("JSON")
}

/// POST with a content type.
pub(crate) fn post(url: &str, content_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
    send(agent().post(url).content_type(content_type).send(body))
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", base64(credentials.as_bytes()))
}

/// RFC 4648 base64, for the one header that needs it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..4).map(
                move |i| {
                    if i > chunk.len() { '=' } else { char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]) }
                },
            )
        })
        .collect()
}

/// What a finished program printed, for messages.
pub(crate) fn printed(output: &Output) -> String {
    format!(
        "exit {:?}\nstdout: {}\nstderr: {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asserts a program's exit code.
#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", printed(output));
}
