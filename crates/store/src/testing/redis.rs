//! Private Redis servers: plain, with a password, with TLS, with sentinels, as a cluster.

use super::process::{Process, free_ports, wait_until};
use std::{path::Path, process::Command};

/// A server on a port of its own; stopped and deleted when dropped.
#[derive(Debug)]
pub struct RedisServer {
    directory: tempfile::TempDir,
    port: u16,
    login: Login,
    process: Option<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    None,
    Password,
    Tls,
}

/// What the servers with a password ask for: it has characters that a URL must escape.
const PASSWORD: &str = "p@ss/word?";
const PASSWORD_IN_URL: &str = "p%40ss%2Fword%3F";

impl RedisServer {
    /// Starts a server; `None`, said loudly, where the machine has no Redis.
    ///
    /// # Panics
    /// If there is a Redis that does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(Login::None)
    }

    /// [`start`](Self::start) with a password.
    #[must_use]
    pub fn with_password() -> Option<Self> {
        Self::start_with(Login::Password)
    }

    /// [`start`](Self::start) with a password and TLS only, its certificate signed by an authority of its own.
    #[must_use]
    pub fn with_tls() -> Option<Self> {
        Self::start_with(Login::Tls)
    }

    fn start_with(login: Login) -> Option<Self> {
        is_there().then(|| {
            let directory = tempfile::Builder::new().prefix("cairn-redis").tempdir().expect("a directory");
            if login == Login::Tls {
                certificates(directory.path());
            }
            let mut server = Self { directory, port: free_ports(1)[0], login, process: None };
            server.restart();
            server
        })
    }

    /// Its URL, with the login.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.port;
        match self.login {
            Login::None => format!("redis://127.0.0.1:{port}"),
            Login::Password => format!("redis://:{PASSWORD_IN_URL}@127.0.0.1:{port}/1"),
            Login::Tls => {
                let authority = self.directory.path().join("ca.pem");
                format!("rediss://default:{PASSWORD_IN_URL}@localhost:{port}?sslrootcert={}", authority.display())
            }
        }
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it anew, empty, where it was.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = server(self.directory.path());
        match self.login {
            Login::None => command.args(["--port", &self.port.to_string()]),
            Login::Password => command.args(["--port", &self.port.to_string(), "--requirepass", PASSWORD]),
            Login::Tls => command
                .args(["--port", "0", "--tls-port", &self.port.to_string(), "--requirepass", PASSWORD])
                .args(["--tls-auth-clients", "no", "--tls-cert-file", "server.pem", "--tls-key-file", "server.key"])
                .args(["--tls-ca-cert-file", "ca.pem"]),
        };
        self.process = Some(Process::start(&mut command, self.directory.path()));
        wait_until("Redis answers", || self.cli(&["PING"]).contains("PONG"));
    }

    /// Stops it from answering, without closing anything.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// What `redis-cli` says to a command.
    #[must_use]
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = cli(self.port);
        if self.login != Login::None {
            cli.args(["--no-auth-warning", "-a", PASSWORD]);
        }
        if self.login == Login::Tls {
            cli.args(["--tls", "--cacert"]).arg(self.directory.path().join("ca.pem"));
        }
        output(cli.args(command))
    }
}

/// A master with a replica, watched by a sentinel, which makes the replica the master when the master is gone.
#[derive(Debug)]
pub struct RedisSentinel {
    _directories: Vec<tempfile::TempDir>,
    ports: Vec<u16>,
    /// The master, the replica, the sentinel.
    processes: Vec<Option<Process>>,
}

impl RedisSentinel {
    /// Starts all three; `None`, said loudly, where the machine has no Redis.
    ///
    /// # Panics
    /// If they do not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        is_there().then(|| {
            let ports = free_ports(3);
            let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
            let path = |at: usize| directories[at].path();
            let mut processes = Vec::new();
            for at in 0..2 {
                let mut command = server(path(at));
                command.args(["--port", &ports[at].to_string(), "--repl-diskless-sync-delay", "0"]);
                if at == 1 {
                    command.args(["--replicaof", "127.0.0.1", &ports[0].to_string()]);
                }
                processes.push(Some(Process::start(&mut command, path(at))));
            }
            wait_until("the replica follows", || {
                output(cli(ports[1]).args(["INFO", "replication"])).contains("master_link_status:up")
            });
            let configuration = path(2).join("sentinel.conf");
            let text = format!(
                "port {}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
                 sentinel failover-timeout main 2000\n",
                ports[2], ports[0]
            );
            std::fs::write(&configuration, text).expect("written");
            let mut command = Command::new("redis-server");
            command.arg(&configuration).arg("--sentinel").args(["--dir", "."]);
            processes.push(Some(Process::start(&mut command, path(2))));
            wait_until("the sentinel knows the replica", || {
                output(cli(ports[2]).args(["SENTINEL", "replicas", "main"])).contains(&ports[1].to_string())
            });
            Self { _directories: directories, ports, processes }
        })
    }

    /// The URL of the service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/main", self.ports[2])
    }

    /// Kills the master.
    pub fn kill_master(&mut self) {
        self.processes[0] = None;
    }
}

/// A cluster of three masters.
#[derive(Debug)]
pub struct RedisCluster {
    ports: Vec<u16>,
    _nodes: Vec<(Process, tempfile::TempDir)>,
}

impl RedisCluster {
    /// Starts it; `None`, said loudly, where the machine has no Redis.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        is_there().then(|| {
            let ports = free_ports(6);
            let (ports, buses) = ports.split_at(3);
            let nodes = ports.iter().zip(buses).map(|(port, bus)| {
                let directory = tempfile::tempdir().expect("a directory");
                let mut command = server(directory.path());
                command.args([
                    "--port",
                    &port.to_string(),
                    "--cluster-port",
                    &bus.to_string(),
                    "--cluster-enabled",
                    "yes",
                ]);
                (Process::start(&mut command, directory.path()), directory)
            });
            let cluster = Self { ports: ports.to_vec(), _nodes: nodes.collect() };
            wait_until("all nodes answer", || ports.iter().all(|port| output(cli(*port).arg("PING")).contains("PONG")));
            let nodes: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            let mut create = Command::new("redis-cli");
            create.args(["--cluster", "create"]).args(&nodes).arg("--cluster-yes");
            let said = output(&mut create);
            wait_until("the cluster is whole", || {
                let whole = |port: &u16| output(cli(*port).args(["CLUSTER", "INFO"])).contains("cluster_state:ok");
                assert!(said.contains("16384 slots"), "{said}");
                ports.iter().all(whole)
            });
            cluster
        })
    }

    /// The URL, which names one of the nodes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.ports[0])
    }
}

fn is_there() -> bool {
    let there = Command::new("redis-server").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: no redis-server: nothing was tested on Redis");
    }
    there
}

fn server(directory: &Path) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir"]).arg(directory);
    command
}

fn cli(port: u16) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]);
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("redis-cli runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `ca.pem`, and `server.pem` for `localhost` with `server.key`.
fn certificates(directory: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(directory).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test"];
    openssl(&[&authority[..], &key].concat());
    let request = ["req", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"];
    openssl(&[&request[..], &key].concat());
    let extensions = directory.join("extensions");
    std::fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("written");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-out",
        "server.pem",
        "-extfile",
        "extensions",
    ]);
}
