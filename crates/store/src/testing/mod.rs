//! Private servers for tests of this and other rooms: PostgreSQL, its streaming replica, PgBouncer, Redis. Nothing of the
//! product uses them.

mod pgbouncer;
mod process;
mod redis;
mod replica;

pub use pgbouncer::PgBouncer;
pub use redis::{RedisCluster, RedisSentinel, RedisServer};
pub use replica::PostgresReplica;
use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Makes functions that take a database's URL into tests: each on a SQLite file of its own, and all of them on databases of one
/// PostgreSQL server, because starting one takes a second; after `through PgBouncer:` also behind a pooler in transaction mode.
#[macro_export]
macro_rules! on_both_databases {
    (through PgBouncer: $($case:ident),* $(,)?) => {
        $crate::on_both_databases! { @server [
            let Some(bouncer) = $crate::testing::PgBouncer::start(&server) else { return };
            $(
                eprintln!("through PgBouncer: {}", stringify!($case));
                $case(bouncer.url(&server.database())).await;
            )*
        ] server $($case),* }
    };
    (@server [$($more:tt)*] $server:ident $($case:ident),*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let directory = tempfile::tempdir().unwrap();
                    super::$case($crate::testing::sqlite_url(directory.path())).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres() {
            let Some($server) = $crate::testing::PostgresServer::start() else { return };
            $(
                eprintln!(stringify!($case));
                $case($server.database()).await;
            )*
            $($more)*
        }
    };
    ($($case:ident),* $(,)?) => {
        $crate::on_both_databases! { @server [] server $($case),* }
    };
}

/// Where Debian puts the server's binaries.
const BINARIES: &[&str] = &["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin"];

/// A server in a directory of its own, on a Unix socket only; stopped and deleted when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    server: Child,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts a server; `None`, said loudly, where the machine has no PostgreSQL.
    ///
    /// # Panics
    /// If there is a PostgreSQL that does not start: that is a defect of the test's surroundings, not a reason to skip.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(binaries) = BINARIES.iter().map(PathBuf::from).find(|path| path.join("postgres").exists()) else {
            eprintln!("SKIPPED: no PostgreSQL server in {BINARIES:?}: nothing was tested on PostgreSQL");
            return None;
        };
        Some(Self::start_with(binaries).expect("a private PostgreSQL server starts"))
    }

    fn start_with(binaries: PathBuf) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("cairn-pg").tempdir()?;
        let data = directory.path().join("data");
        let socket = directory.path().join("socket");
        std::fs::create_dir(&data)?;
        std::fs::create_dir(&socket)?;
        give_to_postgres(directory.path())?;
        let initdb = as_postgres(&binaries.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data)
            .output()?;
        if !initdb.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&initdb.stderr).into_owned()));
        }
        let server = serve(&binaries, &data, &socket, &directory.path().join("log"))?;
        let server = Self { directory, binaries, server, databases: AtomicU32::new(0) };
        server.wait()?;
        Ok(server)
    }

    /// Until it answers.
    fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.psql("SELECT 1")? {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("the server does not answer: {log}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends the server as a crash would, every connection with it, and starts it again.
    ///
    /// # Panics
    /// If it does not start again.
    pub fn crash(&mut self) {
        quit(&mut self.server);
        let directory = self.directory.path();
        let server = serve(&self.binaries, &directory.join("data"), &self.socket(), &directory.join("log"));
        self.server = server.expect("the server's program runs");
        self.wait().expect("the server recovers");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn psql(&self, sql: &str) -> io::Result<bool> {
        psql(&self.binaries, &self.socket(), "postgres", sql).map(|output| output.status.success())
    }

    /// What `psql` prints for a statement in a database that has [`Self::database`]'s URL: rows unaligned, or the error.
    ///
    /// # Panics
    /// If `psql` does not run.
    #[must_use]
    pub fn query(&self, url: &str, sql: &str) -> String {
        let output = psql(&self.binaries, &self.socket(), database_name(url), sql).expect("psql runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The URL of a fresh, empty database.
    ///
    /// # Panics
    /// If the server does not create it.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let created = self.psql(&format!("CREATE DATABASE {name}")).expect("psql runs");
        assert!(created, "the server creates a database");
        format!("postgres://postgres@localhost/{name}?host={}", self.socket().display())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        quit(&mut self.server);
    }
}

/// Immediate shutdown (SIGQUIT): the server takes its children with it, which SIGKILL would not.
fn quit(server: &mut Child) {
    let quit = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
    if !quit.is_ok_and(|status| status.success()) {
        drop(server.kill());
    }
    drop(server.wait());
}

/// A server on a Unix socket. The machine does not crash in a test, so that nothing need wait for the disk: what the server wrote outlives it.
fn serve(binaries: &Path, data: &Path, socket: &Path, log: &Path) -> io::Result<Child> {
    as_postgres(&binaries.join("postgres"))
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c"])
        .arg(format!("unix_socket_directories={}", socket.display()))
        .arg("-D")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::options().append(true).create(true).open(log)?)
        .spawn()
}

fn psql(binaries: &Path, socket: &Path, database: &str, sql: &str) -> io::Result<Output> {
    Command::new(binaries.join("psql"))
        .args(["-X", "-U", "postgres", "-d", database, "-qAt", "-c", sql, "-h"])
        .arg(socket)
        .stdin(Stdio::null())
        .output()
}

/// The database's name in a URL that [`PostgresServer::database`] gave.
fn database_name(url: &str) -> &str {
    let end = url.find('?').unwrap_or(url.len());
    &url[url[..end].rfind('/').map_or(0, |at| at + 1)..end]
}

/// The URL of a SQLite database in a directory.
#[must_use]
pub fn sqlite_url(directory: &Path) -> String {
    format!("sqlite://{}", directory.join("cairn.db").display())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"))
}

/// PostgreSQL does not run as root, and its user must own the files.
fn give_to_postgres(directory: &Path) -> io::Result<()> {
    if is_root() && !Command::new("chown").args(["-R", "postgres"]).arg(directory).status()?.success() {
        return Err(io::Error::other("chown to the user postgres failed"));
    }
    Ok(())
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
