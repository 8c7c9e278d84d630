//! A Bitcoin Core node on a chain of its own, for tests that speak with one.
//!
//! Included by `#[path]`. `BITCOIND` names the program; its `bitcoin-cli` lies beside it. Without it, tests say that they
//! are skipped.

use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Seconds that it may take to start before it counts as hung.
const PATIENCE_SECONDS: u32 = 120;

/// A running bitcoind, killed when it goes out of scope.
pub(crate) struct Bitcoind {
    child: Child,
    cli: PathBuf,
    /// `regtest` or `signet`.
    chain: &'static str,
    pub(crate) data: TempDir,
    p2p: u16,
    /// Where it listens for JSON-RPC, on loopback.
    pub(crate) rpc: u16,
}

/// The program that `BITCOIND` names. Says so if there is none: what needs it is then skipped.
pub(crate) fn program() -> Option<PathBuf> {
    let program = std::env::var_os("BITCOIND").map(PathBuf::from);
    if program.is_none() {
        eprintln!("SKIPPED: BITCOIND is not set");
    }
    program
}

impl Bitcoind {
    /// Starts it on regtest with more arguments.
    pub(crate) fn start(program: &Path, more: &[&str]) -> Self {
        Self::start_on(program, "regtest", more)
    }

    /// Starts it with more arguments. It listens on loopback, looks for nobody, and has no wallet.
    pub(crate) fn start_on(program: &Path, chain: &'static str, more: &[&str]) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let (p2p, rpc) = free_ports();
        let child = Command::new(program)
            .arg(format!("-chain={chain}"))
            .args(["-server", "-listen=1", "-listenonion=0", "-discover=0", "-dnsseed=0", "-fixedseeds=0"])
            .args(["-disablewallet", "-natpmp=0", "-printtoconsole=0", "-debug=net", "-par=1", "-dbcache=4"])
            .arg(format!("-datadir={}", data.path().display()))
            .arg(format!("-bind=127.0.0.1:{p2p}"))
            .arg(format!("-port={p2p}"))
            .arg(format!("-rpcport={rpc}"))
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let node = Self { child, cli: program.with_file_name("bitcoin-cli"), chain, data, p2p, rpc };
        let timeout = format!("-rpcwaittimeout={PATIENCE_SECONDS}");
        let output = node.cli(&["-rpcwait", &timeout, "getblockcount"]);
        assert!(output.status.success(), "bitcoind did not start: {output:?}\n{}", node.log());
        node
    }

    /// Where it listens for peers.
    pub(crate) fn p2p_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.p2p).into()
    }

    /// What a method answers. Panics if it answers with an error.
    pub(crate) fn rpc(&self, method: &str, params: &[&str]) -> Value {
        let output = self.cli(&[&[method], params].concat());
        assert!(output.status.success(), "{method} {params:?}: {}", String::from_utf8_lossy(&output.stderr));
        // A string is printed without quotes, and nothing for null.
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| String::from_utf8_lossy(&output.stdout).trim().to_owned().into())
    }

    /// Its debug log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join(self.chain).join("debug.log")).unwrap_or_default()
    }

    fn cli(&self, args: &[&str]) -> Output {
        Command::new(&self.cli)
            .arg(format!("-chain={}", self.chain))
            .arg(format!("-datadir={}", self.data.path().display()))
            .arg(format!("-rpcport={}", self.rpc))
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.cli.display()))
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports that nobody listens on now.
fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let (a, b) = (bind(), bind());
    (a.local_addr().expect("bound").port(), b.local_addr().expect("bound").port())
}
